//! A plot as SVG that stands for itself.
//!
//! Written by hand rather than by a library of plots: a few plots of one kind need no engine, and a page that is opened
//! years later needs nothing but a browser. Colours are those of the page, which knows whether it is dark.

mod axis;
mod flag;

use std::fmt::Write as _;

use self::axis::{Axis, number};
use self::flag::{Label, place};
use super::html::escaped;

pub(super) use self::axis::{Across, Scale};
pub(super) use self::flag::{Flag, flags};

/// Width of the picture, in its own units; a browser scales it.
const WIDTH: f64 = 960.0;
/// Height of the part with the data.
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const BOTTOM: f64 = 40.0;
/// Of a line of labels above the data.
const LABEL_HEIGHT: f64 = 15.0;

/// Colours of series, in their order; distinguishable for the colour-blind (Okabe and Ito), and again from the first one
/// when there are more.
pub(super) const COLORS: [&str; 7] =
    ["var(--c0)", "var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)", "var(--c6)"];

/// What is drawn.
#[derive(Debug)]
pub(super) struct Plot<'a> {
    /// What it is of, for who cannot see it.
    pub(super) title: &'a str,
    pub(super) across: Across<'a>,
    /// Of the values: written along the axis.
    pub(super) unit: &'a str,
    pub(super) scale: Scale,
    pub(super) series: &'a [Series],
    /// Places from left to right with something to say.
    pub(super) flags: &'a [Flag],
    /// A value that should not be exceeded, and what it is called.
    pub(super) limit: Option<(f64, &'a str)>,
}

/// Values of one thing.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    /// As CSS writes it.
    pub(super) color: &'static str,
    pub(super) shape: Shape,
    /// Place from left to right and value, in this order.
    pub(super) points: Vec<(f64, f64)>,
}

/// How values are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    Line,
    /// A line, and a dot for each value.
    Dots,
    /// What stays as it is until the next value.
    Steps,
    /// As a column of this width to the right.
    Column(f64),
}

impl Plot<'_> {
    /// The whole element `svg`.
    pub(super) fn svg(&self) -> String {
        let labels = place(&self.labels());
        let rows = labels.iter().map(|label| label.row + 1).max().unwrap_or(0);
        let top = rows as f64 * LABEL_HEIGHT + 8.0;
        let frame = Frame { top, across: self.across, values: self.values() };
        let height = top + HEIGHT + BOTTOM;
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" \
             aria-label=\"{}\">\n",
            escaped(self.title)
        );
        frame.grid(&mut svg, self.unit);
        for series in self.series {
            frame.series(&mut svg, series);
        }
        if let Some((value, name)) = self.limit {
            frame.limit(&mut svg, value, name);
        }
        for label in &labels {
            frame.label(&mut svg, label);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn values(&self) -> Axis {
        let values = self.series.iter().flat_map(|series| series.points.iter().map(|(_, value)| *value));
        Axis::around(self.scale, values.chain(self.limit.map(|(value, _)| value)))
    }

    fn labels(&self) -> Vec<Label> {
        let label = |flag: &Flag| Label {
            x: x(self.across, flag.at),
            row: 0,
            text: flag.text.clone(),
            color: flag.color,
        };
        self.flags.iter().map(label).collect()
    }
}

fn x(across: Across<'_>, value: f64) -> f64 {
    LEFT + across.share(value) * (WIDTH - LEFT - RIGHT)
}

/// Where places and values are in the picture.
#[derive(Debug)]
struct Frame<'a> {
    top: f64,
    across: Across<'a>,
    values: Axis,
}

impl Frame<'_> {
    fn x(&self, value: f64) -> f64 {
        x(self.across, value)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + HEIGHT * (1.0 - self.values.share(value))
    }

    fn bottom(&self) -> f64 {
        self.top + HEIGHT
    }

    fn grid(&self, svg: &mut String, unit: &str) {
        let (right, bottom) = (WIDTH - RIGHT, self.bottom());
        for tick in &self.values.ticks {
            let (y, left) = (self.y(*tick), LEFT - 8.0);
            write(svg, &format!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>"));
            let text = number(*tick);
            write(svg, &format!("<text class=\"value\" x=\"{left}\" y=\"{:.1}\">{text}</text>", y + 4.0));
        }
        for (tick, text) in self.across.ticks() {
            let (x, y) = (self.x(tick), bottom + 18.0);
            write(svg, &format!("<path class=\"grid\" d=\"M{x:.1} {bottom}v4\"/>"));
            write(svg, &format!("<text class=\"second\" x=\"{x:.1}\" y=\"{y}\">{text}</text>"));
        }
        let (middle, below) = ((LEFT + right) / 2.0, bottom + 35.0);
        let title = escaped(&self.across.title());
        write(svg, &format!("<text class=\"second\" x=\"{middle}\" y=\"{below}\">{title}</text>"));
        let turn = format!("translate(14 {}) rotate(-90)", self.top + HEIGHT / 2.0);
        write(svg, &format!("<text class=\"second\" transform=\"{turn}\">{}</text>", escaped(unit)));
    }

    fn series(&self, svg: &mut String, series: &Series) {
        let shown: Vec<(f64, f64)> =
            series.points.iter().filter(|(_, value)| self.values.shows(*value)).copied().collect();
        let (stroke, fill) = (format!("stroke:{}", series.color), format!("fill:{}", series.color));
        let line = |path: &str| format!("<path class=\"line\" style=\"{stroke}\" d=\"{path}\"/>");
        match series.shape {
            Shape::Line => write(svg, &line(&self.line(&shown))),
            Shape::Steps => write(svg, &line(&self.steps(&shown))),
            Shape::Dots => {
                write(svg, &line(&self.line(&shown)));
                for (place, value) in &shown {
                    let (x, y) = (self.x(*place), self.y(*value));
                    write(svg, &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" style=\"{fill}\"/>"));
                }
            }
            Shape::Column(width) => {
                let path = self.columns(&shown, width);
                write(svg, &format!("<path style=\"{fill}\" d=\"{path}\"/>"));
            }
        }
    }

    fn line(&self, points: &[(f64, f64)]) -> String {
        let point = |(place, value): &(f64, f64)| format!("{:.1} {:.1}", self.x(*place), self.y(*value));
        let points: Vec<String> = points.iter().map(point).collect();
        if points.is_empty() { String::new() } else { format!("M{}", points.join("L")) }
    }

    fn steps(&self, points: &[(f64, f64)]) -> String {
        let Some(((place, value), rest)) = points.split_first() else { return String::new() };
        let mut path = format!("M{:.1} {:.1}", self.x(*place), self.y(*value));
        for (place, value) in rest {
            write!(path, "H{:.1}V{:.1}", self.x(*place), self.y(*value)).expect("a string takes any text");
        }
        path
    }

    fn columns(&self, points: &[(f64, f64)], width: f64) -> String {
        let bottom = self.bottom();
        let column = |(place, value): &(f64, f64)| {
            let (from, until) = (self.x(*place), self.x(place + width));
            format!("M{from:.1} {bottom}V{:.1}H{until:.1}V{bottom}Z", self.y(*value))
        };
        points.iter().filter(|(_, value)| *value > 0.0).map(column).collect()
    }

    fn limit(&self, svg: &mut String, value: f64, name: &str) {
        let (y, right) = (self.y(value), WIDTH - RIGHT);
        write(svg, &format!("<path class=\"limit\" d=\"M{LEFT} {y:.1}H{right}\"/>"));
        let (x, y) = (LEFT + 6.0, y - 5.0);
        write(svg, &format!("<text class=\"limit\" x=\"{x}\" y=\"{y:.1}\">{}</text>", escaped(name)));
    }

    fn label(&self, svg: &mut String, label: &Label) {
        let Label { x, row, text, color } = label;
        let y = self.top - 8.0 - *row as f64 * LABEL_HEIGHT;
        let (begin, bottom, text) = (label.begin() + 4.0, self.bottom(), escaped(text));
        let line = format!("M{x:.1} {bottom}V{:.1}", y - 8.0);
        write(svg, &format!("<path class=\"mark\" style=\"stroke:{color}\" d=\"{line}\"/>"));
        write(svg, &format!("<text x=\"{begin:.1}\" y=\"{y:.1}\" style=\"fill:{color}\">{text}</text>"));
    }
}

fn write(svg: &mut String, element: &str) {
    writeln!(svg, "{element}").expect("a string takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(shape: Shape, limit: Option<(f64, &str)>) -> String {
        let points = vec![(0.0, 1.0), (5.0, 2.0)];
        let series = [Series { name: "a".into(), color: "var(--c3)", shape, points }];
        let flags = [Flag { at: 3.0, text: "SIGTERM <1>".into(), color: "var(--red)" }];
        let across = Across::Seconds(10.0);
        let (title, unit, scale) = ("of \"a\"", "clients & co", Scale::Linear);
        Plot { title, across, unit, scale, series: &series, flags: &flags, limit }.svg()
    }

    #[test]
    fn a_plot_has_its_series_its_flags_and_its_unit() {
        let svg = plot(Shape::Line, None);
        for part in ["var(--c3)", "SIGTERM &lt;1&gt;", "clients &amp; co", "of &quot;a&quot;"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }

    #[test]
    fn every_shape_ends_where_its_values_end() {
        // The values 1 and 2 of an axis to 2, below one row of labels: in the middle and at the top.
        let (middle, top) = ("123.0", "23.0");
        for (shape, path) in [
            (Shape::Line, format!("M64.0 {middle}L504.0 {top}")),
            (Shape::Steps, format!("M64.0 {middle}H504.0V{top}")),
            (Shape::Column(1.0), format!("M504.0 223V{top}H592.0V223Z")),
            (Shape::Dots, format!("cx=\"504.0\" cy=\"{top}\"")),
        ] {
            let svg = plot(shape, None);
            assert!(svg.contains(&path), "{path}: {svg}");
        }
    }

    #[test]
    fn a_limit_beyond_all_values_is_in_the_picture() {
        let svg = plot(Shape::Line, Some((50.0, "at most <50>")));
        assert!(svg.contains("class=\"limit\" d=\"M64 23.0H944\""), "{svg}");
        assert!(svg.contains("at most &lt;50&gt;"));
    }
}
