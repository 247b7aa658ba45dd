//! What came of a play as a page: for somebody who was not there, and needs nothing but a browser.

use super::{
    QUANTILES, STEP_COLUMNS, counts, distribution, figure, headline, knee, missed, plots, size, steps,
};
use crate::outcome::Outcome;
use crate::report::html::{self, Page, code, escaped};
use crate::report::number::grouped;

/// Tables with more columns than this are set smaller.
const DENSE: usize = 8;

/// The page.
pub fn html(outcome: &Outcome) -> String {
    let mut page = Page::new(&format!("swarm {}", outcome.play));
    page.add(&format!("<p>{}</p>", escaped(&size(outcome))));
    page.add(&format!("<p class=\"headline {}\">{}</p>", mood(outcome), escaped(&headline(outcome))));
    notices(&mut page, outcome);
    figures(&mut page, outcome);
    page.list("What went wrong", &outcome.wrong.first);
    ramp(&mut page, outcome);
    plots::plots(&mut page, outcome);
    distributions(&mut page, outcome);
    counted(&mut page, outcome);
    page.terms("What was run", &what_was_run(outcome));
    if !outcome.marks.is_empty() {
        page.timeline(outcome.marks.iter().map(|mark| (mark.at.as_secs_f64(), mark.text.clone())));
    }
    page.end()
}

/// The class of the headline.
fn mood(outcome: &Outcome) -> &'static str {
    match (outcome.passed(), missed(outcome)) {
        (false, _) => "broken",
        (true, 0) => "holds",
        (true, _) => "missed",
    }
}

/// What should be known before any figure is read.
fn notices(page: &mut Page, outcome: &Outcome) {
    for warning in &outcome.warnings.first {
        page.add(&format!("<p class=\"headline missed\">Read with care: {}</p>", escaped(warning)));
    }
    if let Some(knee) = knee(outcome) {
        page.add(&format!("<p><strong>{}</strong></p>", escaped(&knee)));
    }
}

fn figures(page: &mut Page, outcome: &Outcome) {
    if outcome.figures.is_empty() {
        return;
    }
    let reach = if outcome.figures.iter().any(|figure| figure.reach.is_some()) { "Reach" } else { "" };
    page.add(&format!(
        "<table>\n<tr><th>Figure<th class=\"number\">Measured<th class=\"number\">{reach}<th>"
    ));
    for row in &outcome.figures {
        let class = if row.is_met() == Some(false) { "missed" } else { "holds" };
        let [name, value, reach, verdict] = figure(row).map(|cell| escaped(&cell));
        let cells =
            format!("<td>{name}<td class=\"number\">{value}<td class=\"number\">{reach}<td>{verdict}");
        page.add(&format!("<tr class=\"{class}\">{cells}"));
    }
    page.add(
        "</table>\n<p class=\"note\">Figures depend on the machine, and do not decide whether a run is a success. That \
         nothing was lost, repeated or out of order does: every client checked every publication.</p>",
    );
}

fn ramp(page: &mut Page, outcome: &Outcome) {
    let steps = steps(outcome);
    let Some((heading, steps)) = steps.split_first() else { return };
    page.heading("Steps", "Each load was held for a while; a ramp ends with the first that is too much.");
    table(page, heading, steps, STEP_COLUMNS - 1);
}

fn distributions(page: &mut Page, outcome: &Outcome) {
    let shown = outcome.distributions.iter().filter(|(_, distribution)| !distribution.is_empty());
    let rows: Vec<[String; 7]> = shown.map(distribution).collect();
    if rows.is_empty() {
        return;
    }
    page.heading("Percentiles", "p99 is the value that one in a hundred exceeds.");
    let mut heading = [const { String::new() }; 7];
    heading[1..].clone_from_slice(&QUANTILES.map(str::to_owned));
    table(page, &heading, &rows, 0);
}

fn counted(page: &mut Page, outcome: &Outcome) {
    page.heading("What was counted", "");
    page.add("<table class=\"small\">");
    for [name, count] in counts(outcome) {
        page.add(&format!("<tr><td>{}<td class=\"number\">{count}", escaped(&name)));
    }
    page.add("</table>");
}

/// A table of numbers, but for one column of words.
fn table<const N: usize>(page: &mut Page, heading: &[String; N], rows: &[[String; N]], words: usize) {
    let row = |cell: &str, cells: &[String; N]| {
        let class = |column| if column == words { " class=\"words\"" } else { " class=\"number\"" };
        let cells = cells.iter().enumerate();
        let cells = cells.map(|(column, text)| format!("<{cell}{}>{}", class(column), escaped(text)));
        format!("<tr>{}", cells.collect::<String>())
    };
    page.add(if N > DENSE { "<table class=\"dense\">" } else { "<table>" });
    page.add(&row("th", heading));
    for cells in rows {
        page.add(&row("td", cells));
    }
    page.add("</table>");
}

fn what_was_run(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let started = humantime::format_rfc3339_seconds(outcome.started()).to_string();
    let took = format!("{:.1} s", outcome.seconds);
    let mut terms = vec![("Command", code(&outcome.command)), ("Started", started), ("Took", took)];
    if outcome.processes > 1 {
        terms.push(("Processes", grouped(outcome.processes.into())));
    }
    terms.extend(outcome.environments.iter().flat_map(html::machine));
    terms
}

#[cfg(test)]
mod tests {
    use super::super::tests::outcome;
    use super::*;
    use crate::outcome::ramp::tests::{ramp, step};
    use crate::outcome::series::Series;

    #[test]
    fn a_page_needs_no_network_and_has_a_plot_of_everything() {
        let html = html(&outcome());
        for outside in ["http:", "https:", "<script", "<link", "@import", "url("] {
            let html = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!html.contains(outside), "{outside}");
        }
        for part in [
            "Delay over time",
            "Delay by share",
            "Connections",
            "all connected",
            "CPU of the server per delivery",
        ] {
            assert!(html.contains(part), "{part}");
        }
        assert_eq!(html.matches("<svg").count(), 3);
        assert_eq!(html.matches("class=\"headline missed\"").count(), 1);
    }

    #[test]
    fn a_page_of_nothing_is_a_page() {
        let html = html(&Outcome::new("idle", "nobody", "swarm idle"));
        assert!(html.contains("class=\"headline holds\"") && html.ends_with("</html>\n"));
        assert_eq!(html.matches("<svg").count(), 0);
    }

    #[test]
    fn a_ramp_has_its_steps_its_plots_and_its_knee() {
        let steps = vec![step(1000.0, &[3], None), step(2000.0, &[90], Some("p99 was 90 ms"))];
        let html = html(&Outcome { ramp: Some(ramp(steps)), ..outcome() });
        assert_eq!(html.matches("<svg").count(), 5);
        assert_eq!(html.matches("knee: 1,000 clients").count(), 2, "in both plots");
        assert!(html.contains("The knee is at 1,000 clients") && html.contains("<h2>Steps</h2>"));
    }

    #[test]
    fn whatever_an_outcome_says_is_text() {
        let hostile = "<script>\"&";
        let mut outcome = outcome();
        outcome.play = hostile.into();
        outcome.about = hostile.into();
        outcome.command = hostile.into();
        outcome.verdict.others.insert(hostile.into(), 1);
        outcome.counts.insert(hostile.into(), 1);
        outcome.errors.insert(hostile.into(), 1);
        outcome.closings.insert(hostile.into(), 1);
        outcome.wrong.say(hostile);
        outcome.warnings.say(hostile);
        outcome.series.push(Series::new(hostile, hostile, crate::outcome::figure::Rule::Sum));
        outcome.marks[0].text = hostile.into();
        let (figure, delay) = (&mut outcome.figures[0], outcome.distributions["delay"].clone());
        (figure.name, figure.unit) = (hostile.into(), hostile.into());
        let mut distribution = delay;
        distribution.unit = hostile.into();
        outcome.distributions.insert(hostile.into(), distribution);
        let timeline = outcome.timelines["delay"].clone();
        outcome.timelines.insert(hostile.into(), timeline);
        let mut broken = step(1.0, &[1], Some(hostile));
        broken.delay.unit = hostile.into();
        let mut ramp = ramp(vec![broken]);
        (ramp.unit, ramp.asked) = (hostile.into(), hostile.into());
        outcome.ramp = Some(ramp);
        let html = html(&outcome);
        assert!(!html.contains("<script"), "{html}");
        assert!(html.matches("&lt;script&gt;&quot;&amp;").count() > 25);
    }
}
