"""The panels of the dashboard as one page, to look at."""

import html

WIDTH, HEIGHT = 380, 120
COLORS = ["#3274d9", "#e0752d", "#299c46", "#ba43a9", "#e5ac0e", "#58a6c4", "#c4162a", "#6d5fb4"]
STYLE = """
body { font: 13px system-ui, sans-serif; margin: 16px; color: #222; background: #f7f8fa }
h2 { margin: 18px 0 6px } section { display: flex; flex-wrap: wrap; gap: 10px }
figure { margin: 0; padding: 8px; background: #fff; border: 1px solid #ddd; border-radius: 4px; width: 380px }
figcaption { font-weight: 600; margin-bottom: 4px } svg { background: #fcfcfd } small { color: #666; display: block;
max-height: 48px; overflow: hidden } i { font-style: normal } .empty { color: #c4162a }
"""


def figure(title, unit, series, start, end):
    """One panel: `series` are pairs of a name and points."""
    caption = f"<figcaption>{html.escape(title)} <i>({html.escape(unit)})</i></figcaption>"
    if not series:
        return f'<figure>{caption}<p class="empty">nothing</p></figure>'
    top = max(value for _, points in series for _, value in points) or 1
    lines, names = [], []
    for index, (name, points) in enumerate(series):
        color = COLORS[index % len(COLORS)]
        place = [f"{(at - start) / (end - start) * WIDTH:.1f},{HEIGHT - value / top * (HEIGHT - 6):.1f}"
                 for at, value in points]
        lines.append(f'<polyline fill="none" stroke="{color}" stroke-width="1.3" points="{" ".join(place)}"/>')
        names.append(f'<span style="color:{color}">■</span> {html.escape(name)}')
    drawing = f'<svg width="{WIDTH}" height="{HEIGHT}">{"".join(lines)}</svg>'
    return f'<figure>{caption}{drawing}<small>top {top:.4g} · {" ".join(names)}</small></figure>'


def page(rows, start, end):
    """All of them: `rows` are names with panels, as `figure` takes them."""
    parts = [f"<!doctype html><meta charset=utf-8><title>Clarion</title><style>{STYLE}</style>"]
    for row, panels in rows.items():
        parts.append(f"<h2>{html.escape(row)}</h2><section>")
        parts += [figure(*panel, start, end) for panel in panels]
        parts.append("</section>")
    return "\n".join(parts)
