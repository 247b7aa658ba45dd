//! A run as text, for a terminal.

use std::fmt::Write as _;

use super::{Report, verdict};
use crate::noon::judgement::{Kind, Row};

/// The headings of the columns.
const HEADINGS: [&str; 5] = ["", "measured", "reach", "", "verdict"];

/// The table of what was asked, what was run, and the verdict; ends with a line end.
pub fn text(report: &Report) -> String {
    let mut text = String::from("\n");
    let title = report.settings.play.title();
    line(&mut text, &format!("{title}: {}", scale(report)));
    line(&mut text, &report.environment.machine());
    text.push('\n');
    let rows = std::iter::once(HEADINGS).chain(report.rows.iter().map(cells));
    let rows: Vec<[String; 5]> = rows.map(|cells| cells.map(str::to_owned)).collect();
    text.push_str(&aligned(&rows, [Side::Left; 5]));
    text.push('\n');
    for explanation in report.explanations() {
        line(&mut text, &format!("  {explanation}"));
    }
    line(&mut text, &report.headline());
    text
}

/// How large the run was.
pub(super) fn scale(report: &Report) -> String {
    let settings = &report.settings;
    format!(
        "{} nodes, {} clients, {} channels, {} publications/s",
        settings.nodes, settings.clients, settings.channels, settings.rate
    )
}

/// On which side of its column a cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Rows of cells, each column as wide as its widest cell, two blanks between columns, each line with its end.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]], sides: [Side; N]) -> String {
    let width = |column: usize| rows.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for cells in rows {
        let padded = cells.iter().zip(widths).zip(sides).map(|((cell, width), side)| match side {
            Side::Left => format!("{cell:width$}"),
            Side::Right => format!("{cell:>width$}"),
        });
        line(&mut text, padded.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

fn cells(row: &Row) -> [&str; 5] {
    let kind = match row.kind {
        Kind::Promise => "promise",
        Kind::Figure => "figure",
    };
    [row.what, &row.measured, &row.reach, kind, verdict(row)]
}

/// One line more.
pub(super) fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_also_when_they_hold_more_than_ascii() {
        let row = |what, measured: &str, kind, holds| Row {
            what,
            measured: measured.into(),
            reach: "≤ 10 ×".into(),
            kind,
            holds,
        };
        let rows = [
            row("lost", "0", Kind::Promise, true),
            row("lost twice", "2 ×", Kind::Promise, false),
            row("slow", "10", Kind::Figure, false),
        ];
        let expected = "\
            \x20           measured  reach            verdict\n\
            lost        0         ≤ 10 ×  promise  holds\n\
            lost twice  2 ×       ≤ 10 ×  promise  BROKEN\n\
            slow        10        ≤ 10 ×  figure   missed\n";
        let rows = std::iter::once(HEADINGS).chain(rows.iter().map(cells));
        let rows: Vec<[String; 5]> = rows.map(|cells| cells.map(str::to_owned)).collect();
        assert_eq!(aligned(&rows, [Side::Left; 5]), expected);
    }

    #[test]
    fn numbers_end_where_their_column_ends() {
        let rows = [["p99", "1.5 µs"], ["max", "12 ms"]].map(|cells| cells.map(str::to_owned));
        assert_eq!(aligned(&rows, [Side::Left, Side::Right]), "p99  1.5 µs\nmax   12 ms\n");
    }
}
