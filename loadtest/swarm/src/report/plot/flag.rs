//! Words above the data, each with a line down through it.

use crate::mark::{Mark, MarkKind};

use super::WIDTH;

/// Of a letter, more rather than less.
const LETTER: f64 = 6.2;

/// A place from left to right that something is to be said of.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::report) struct Flag {
    /// The value, along the axis from left to right.
    pub(in crate::report) at: f64,
    pub(in crate::report) text: String,
    /// As CSS writes it.
    pub(in crate::report) color: &'static str,
}

/// What happened in a run, but for preparations.
pub(in crate::report) fn flags(marks: &[Mark]) -> Vec<Flag> {
    let shown = marks.iter().filter(|mark| mark.kind != MarkKind::Phase);
    let flag =
        |mark: &Mark| Flag { at: mark.at.as_secs_f64(), text: mark.text.clone(), color: color(mark.kind) };
    shown.map(flag).collect()
}

fn color(kind: MarkKind) -> &'static str {
    match kind {
        MarkKind::Phase | MarkKind::Step => "var(--faint)",
        MarkKind::Terminate => "var(--amber)",
        MarkKind::Exit => "var(--dim)",
        MarkKind::Fault => "var(--red)",
        MarkKind::Healed => "var(--green)",
    }
}

/// A flag in its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Label {
    pub(super) x: f64,
    /// From the bottom.
    pub(super) row: usize,
    pub(super) text: String,
    pub(super) color: &'static str,
}

impl Label {
    /// Where its text begins: right of its line, or left of it where the picture ends.
    pub(super) fn begin(&self) -> f64 {
        if self.x + self.width() > WIDTH { self.x - self.width() } else { self.x }
    }

    fn width(&self) -> f64 {
        self.text.chars().count() as f64 * LETTER + 12.0
    }
}

/// Gives each label the lowest row in which it covers no other.
pub(super) fn place(labels: &[Label]) -> Vec<Label> {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn labels_cover_no_other_and_stay_in_the_picture() {
        let label = |x: f64| Label { x, row: 0, text: "SIGTERM node-1".into(), color: "" };
        let rows = |labels: &[Label]| place(labels).iter().map(|label| label.row).collect::<Vec<_>>();
        assert_eq!(rows(&[label(100.0), label(110.0), label(120.0), label(300.0)]), [0, 1, 2, 0]);
        assert!(label(WIDTH - 20.0).begin() + label(0.0).width() <= WIDTH);
    }

    #[test]
    fn preparations_have_no_flag() {
        let mark = |kind, text: &str| Mark { at: Duration::from_secs(3), kind, text: text.into() };
        let flags = flags(&[mark(MarkKind::Terminate, "SIGTERM"), mark(MarkKind::Phase, "calm")]);
        assert_eq!(flags.iter().map(|flag| flag.text.as_str()).collect::<Vec<_>>(), ["SIGTERM"]);
    }
}
