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
    text.push_str(&aligned(&report.rows));
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

fn aligned(rows: &[Row]) -> String {
    let cells: Vec<[&str; 5]> = std::iter::once(HEADINGS).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| cells.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for cells in &cells {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
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

fn line(text: &mut String, line: &str) {
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
        assert_eq!(aligned(&rows), expected);
    }
}
