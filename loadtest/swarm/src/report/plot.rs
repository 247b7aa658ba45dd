//! A plot over the time of a run, as SVG that stands for itself.
//!
//! Written by hand rather than by a library of plots: three plots of one kind need no engine, and a page that is opened
//! years later needs nothing but a browser.

use std::fmt::Write as _;

use crate::mark::{Mark, MarkKind};

/// Width of the picture, in its own units; a browser scales it.
const WIDTH: f64 = 960.0;
/// Height of the part with the data.
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const BOTTOM: f64 = 40.0;
/// Of a line of labels above the data.
const LABEL_HEIGHT: f64 = 15.0;
/// Of a letter of a label, more rather than less.
const LABEL_LETTER: f64 = 6.2;

/// What is drawn.
#[derive(Debug)]
pub(super) struct Plot<'a> {
    /// Of the values: written along the axis.
    pub(super) unit: &'a str,
    pub(super) scale: Scale,
    pub(super) series: &'a [Series],
    /// Events; preparations are not shown.
    pub(super) marks: &'a [Mark],
    /// How long the run took, in seconds.
    pub(super) seconds: f64,
}

/// How values are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// Of ten. What is not above 0 is not shown.
    Log,
}

/// Values of one thing.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    /// As CSS writes it.
    pub(super) color: &'static str,
    pub(super) shape: Shape,
    /// Seconds and value, in the order of time.
    pub(super) points: Vec<(f64, f64)>,
}

/// How values are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    Line,
    /// As a column of this many seconds to the right.
    Column(f64),
}

impl Plot<'_> {
    /// The whole element `svg`.
    pub(super) fn svg(&self) -> String {
        let labels = place(&self.labels());
        let rows = labels.iter().map(|label| label.row + 1).max().unwrap_or(0);
        let top = rows as f64 * LABEL_HEIGHT + 8.0;
        let frame = Frame { top, seconds: self.seconds.max(1.0), values: self.values() };
        let height = top + HEIGHT + BOTTOM;
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\">\n"
        );
        frame.grid(&mut svg, self.unit);
        for series in self.series {
            frame.series(&mut svg, series);
        }
        for label in &labels {
            frame.label(&mut svg, label);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn values(&self) -> Axis {
        let values = || self.series.iter().flat_map(|series| series.points.iter().map(|(_, value)| *value));
        match self.scale {
            Scale::Linear => Axis::linear(values().fold(0.0, f64::max)),
            Scale::Log => Axis::log(values().filter(|&value| value > 0.0)),
        }
    }

    fn labels(&self) -> Vec<Label> {
        let shown = self.marks.iter().filter(|mark| mark.kind != MarkKind::Phase);
        shown
            .map(|mark| {
                let x = x(mark.at.as_secs_f64(), self.seconds.max(1.0));
                Label { x, row: 0, text: mark.text.clone(), color: color(mark.kind) }
            })
            .collect()
    }
}

fn color(kind: MarkKind) -> &'static str {
    match kind {
        MarkKind::Phase | MarkKind::Step => "#8a8f98",
        MarkKind::Terminate => "#b45309",
        MarkKind::Exit => "#4b5563",
        MarkKind::Fault => "#b91c1c",
        MarkKind::Healed => "#15803d",
    }
}

fn x(second: f64, seconds: f64) -> f64 {
    LEFT + second / seconds * (WIDTH - LEFT - RIGHT)
}

/// An event, written above the data; its line goes down through it.
#[derive(Clone, Debug, PartialEq)]
struct Label {
    x: f64,
    /// From the bottom.
    row: usize,
    text: String,
    color: &'static str,
}

impl Label {
    /// Where its text begins: right of its line, or left of it where the picture ends.
    fn begin(&self) -> f64 {
        if self.x + self.width() > WIDTH { self.x - self.width() } else { self.x }
    }

    fn width(&self) -> f64 {
        self.text.chars().count() as f64 * LABEL_LETTER + 12.0
    }
}

/// Gives each label the lowest row in which it covers no other.
fn place(labels: &[Label]) -> Vec<Label> {
    let mut placed: Vec<Label> = Vec::new();
    for label in labels {
        let covers = |row: usize| {
            let others = placed.iter().filter(|other| other.row == row);
            others.into_iter().any(|other| {
                label.begin() < other.begin() + other.width() && other.begin() < label.begin() + label.width()
            })
        };
        let row = (0..).find(|&row| !covers(row)).expect("there is no end of rows");
        placed.push(Label { row, ..label.clone() });
    }
    placed
}

/// Where seconds and values are in the picture.
#[derive(Debug)]
struct Frame {
    top: f64,
    seconds: f64,
    values: Axis,
}

impl Frame {
    fn y(&self, value: f64) -> f64 {
        self.top + HEIGHT * (1.0 - self.values.share(value))
    }

    fn bottom(&self) -> f64 {
        self.top + HEIGHT
    }

    fn grid(&self, svg: &mut String, unit: &str) {
        let (right, bottom) = (WIDTH - RIGHT, self.bottom());
        for tick in &self.values.ticks {
            let y = self.y(*tick);
            write(svg, &format!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>"));
            let text = number(*tick);
            write(
                svg,
                &format!("<text class=\"value\" x=\"{}\" y=\"{:.1}\">{text}</text>", LEFT - 8.0, y + 4.0),
            );
        }
        for tick in ticks(self.seconds, 12.0) {
            let x = x(tick, self.seconds);
            write(svg, &format!("<path class=\"grid\" d=\"M{x:.1} {bottom}v4\"/>"));
            let text = number(tick);
            write(svg, &format!("<text class=\"second\" x=\"{x:.1}\" y=\"{}\">{text}</text>", bottom + 18.0));
        }
        let (middle, below) = ((LEFT + right) / 2.0, bottom + 35.0);
        write(
            svg,
            &format!("<text class=\"second\" x=\"{middle}\" y=\"{below}\">seconds since the start</text>"),
        );
        let y = self.top + HEIGHT / 2.0;
        let turned =
            format!("<text class=\"second\" transform=\"translate(14 {y}) rotate(-90)\">{unit}</text>");
        write(svg, &turned);
    }

    fn series(&self, svg: &mut String, series: &Series) {
        let shown: Vec<(f64, f64)> =
            series.points.iter().filter(|(_, value)| self.values.shows(*value)).copied().collect();
        let color = series.color;
        match series.shape {
            Shape::Line => {
                let path = self.line(&shown);
                write(svg, &format!("<path class=\"line\" stroke=\"{color}\" d=\"{path}\"/>"));
            }
            Shape::Column(seconds) => {
                let path = self.columns(&shown, seconds);
                write(svg, &format!("<path fill=\"{color}\" d=\"{path}\"/>"));
            }
        }
    }

    fn line(&self, points: &[(f64, f64)]) -> String {
        let point =
            |(second, value): &(f64, f64)| format!("{:.1} {:.1}", x(*second, self.seconds), self.y(*value));
        let points: Vec<String> = points.iter().map(point).collect();
        if points.is_empty() { String::new() } else { format!("M{}", points.join("L")) }
    }

    fn columns(&self, points: &[(f64, f64)], width: f64) -> String {
        let bottom = self.bottom();
        let column = |(second, value): &(f64, f64)| {
            let (from, until) = (x(*second, self.seconds), x(second + width, self.seconds));
            format!("M{from:.1} {bottom}V{:.1}H{until:.1}V{bottom}Z", self.y(*value))
        };
        points.iter().filter(|(_, value)| *value > 0.0).map(column).collect()
    }

    fn label(&self, svg: &mut String, label: &Label) {
        let Label { x, row, text, color } = label;
        let y = self.top - 8.0 - *row as f64 * LABEL_HEIGHT;
        let (begin, bottom) = (label.begin() + 4.0, self.bottom());
        write(
            svg,
            &format!("<path class=\"mark\" stroke=\"{color}\" d=\"M{x:.1} {bottom}V{:.1}\"/>", y - 8.0),
        );
        let text = super::page::escaped(text);
        write(svg, &format!("<text x=\"{begin:.1}\" y=\"{y:.1}\" fill=\"{color}\">{text}</text>"));
    }
}

/// From where to where values go.
#[derive(Debug)]
struct Axis {
    scale: Scale,
    from: f64,
    until: f64,
    ticks: Vec<f64>,
}

impl Axis {
    fn linear(highest: f64) -> Self {
        let ticks = ticks(highest.max(1.0), 5.0);
        let step = ticks[1] - ticks[0];
        let until = (highest.max(1.0) / step).ceil() * step;
        let ticks = (0..=(until / step).round() as u32).map(|index| f64::from(index) * step).collect();
        Self { scale: Scale::Linear, from: 0.0, until, ticks }
    }

    /// Whole decades around all values, at least one.
    fn log(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) =
            values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low > high { (1.0, 10.0) } else { (low, high) };
        let from = low.log10().floor() as i32;
        let until = (high.log10().ceil() as i32).max(from + 1);
        let ticks = (from..=until).map(|power| 10_f64.powi(power)).collect();
        Self { scale: Scale::Log, from: 10_f64.powi(from), until: 10_f64.powi(until), ticks }
    }

    fn shows(&self, value: f64) -> bool {
        self.scale == Scale::Linear || value > 0.0
    }

    /// 0 at the bottom, 1 at the top.
    fn share(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value / self.until,
            Scale::Log => (value / self.from).log10() / (self.until / self.from).log10(),
        }
    }
}

/// From 0 up to `until`, in steps of 1, 2 or 5 times a power of ten, about `count` of them but not more; at least two.
fn ticks(until: f64, count: f64) -> Vec<f64> {
    let least = until / count;
    let power = 10_f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&step| step >= least);
    let step = step.unwrap_or(power * 10.0);
    let last = ((until / step).floor() as u32).max(1);
    (0..=last).map(|index| f64::from(index) * step).collect()
}

/// A number as short as it can be.
fn number(value: f64) -> String {
    if value >= 1.0 { format!("{value:.0}") } else { format!("{}", (value * 1000.0).round() / 1000.0) }
}

fn write(svg: &mut String, element: &str) {
    writeln!(svg, "{element}").expect("a string takes any text");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        assert_eq!(ticks(100.0, 5.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(93.0, 12.0), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0]);
        assert_eq!(ticks(1.0, 5.0).len(), 6);
    }

    #[test]
    fn the_highest_value_is_inside() {
        for highest in [0.0, 1.0, 7.0, 667.0, 2000.0] {
            let axis = Axis::linear(highest);
            assert!(axis.share(highest) <= 1.0, "{axis:?}");
            assert_eq!(axis.ticks.last(), Some(&axis.until));
        }
    }

    #[test]
    fn decades_enclose_all_values_and_are_there_without_any() {
        let axis = Axis::log([0.4, 37.0].into_iter());
        assert_eq!(axis.ticks, [0.1, 1.0, 10.0, 100.0]);
        assert!((axis.share(1.0) - 1.0 / 3.0).abs() < 1e-9);
        assert!(!axis.shows(0.0));
        assert_eq!(Axis::log(std::iter::empty()).ticks, [1.0, 10.0]);
        assert_eq!(Axis::log(std::iter::once(10.0)).ticks, [10.0, 100.0]);
    }

    #[test]
    fn labels_cover_no_other_and_stay_in_the_picture() {
        let label = |x: f64| Label { x, row: 0, text: "SIGTERM node-1".into(), color: "" };
        let rows = |labels: &[Label]| place(labels).iter().map(|label| label.row).collect::<Vec<_>>();
        assert_eq!(rows(&[label(100.0), label(110.0), label(120.0), label(300.0)]), [0, 1, 2, 0]);
        assert!(label(WIDTH - 20.0).begin() + label(0.0).width() <= WIDTH);
    }

    #[test]
    fn a_plot_has_its_series_and_its_events_but_no_preparations() {
        let mark = |kind, text: &str| Mark { at: Duration::from_secs(3), kind, text: text.into() };
        let series = [Series {
            name: "a".into(),
            color: "#123456",
            shape: Shape::Line,
            points: vec![(0.0, 1.0), (5.0, 2.0)],
        }];
        let marks = [mark(MarkKind::Terminate, "SIGTERM <1>"), mark(MarkKind::Phase, "calm")];
        let plot =
            Plot { unit: "clients", scale: Scale::Linear, series: &series, marks: &marks, seconds: 10.0 };
        let svg = plot.svg();
        assert!(svg.contains("#123456") && svg.contains("SIGTERM &lt;1&gt;") && svg.contains("clients"));
        assert!(!svg.contains("calm"));
    }
}
