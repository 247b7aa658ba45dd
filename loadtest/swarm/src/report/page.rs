//! A run as one HTML file that needs nothing else: no network, no script.

use std::fmt::Write as _;
use std::time::Duration;

use super::plot::{Plot, Scale, Series, Shape};
use super::{Report, table, verdict};
use crate::findings::Delays;
use crate::mark::Mark;
use crate::noon::facts::{Facts, Sample};
use crate::noon::judgement::{Kind, Row};

const STYLE: &str = include_str!("page.css");

/// Colours of nodes, in the order of their start; distinguishable for the colour-blind (Okabe and Ito), and again from
/// the first one when there are more nodes.
const COLORS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444"];

/// The page.
pub fn html(report: &Report) -> String {
    let title = report.settings.play.title();
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n<main>\n<h1>{title}</h1>\n"
    );
    add(&mut html, &format!("<p>{}</p>", escaped(&table::scale(report))));
    add(&mut html, &format!("<p class=\"headline {}\">{}</p>", mood(report), report.headline()));
    rows(&mut html, &report.rows);
    explanations(&mut html, report);
    plots(&mut html, &report.facts);
    what_was_run(&mut html, report);
    timeline(&mut html, &report.facts.marks);
    html.push_str("</main>\n</html>\n");
    html
}

/// Text as HTML writes it.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The class of the headline.
fn mood(report: &Report) -> &'static str {
    match (report.missed(Kind::Promise), report.missed(Kind::Figure)) {
        (0, 0) => "holds",
        (0, _) => "missed",
        _ => "broken",
    }
}

fn rows(html: &mut String, rows: &[Row]) {
    html.push_str("<table>\n<tr><th>What is asked<th>Measured<th>Reach<th><th>Verdict\n");
    for row in rows {
        let (class, kind) = match row.kind {
            Kind::Promise => ("broken", "promise"),
            Kind::Figure => ("missed", "figure"),
        };
        let class = if row.holds { "holds" } else { class };
        let (measured, reach) = (escaped(&row.measured), escaped(&row.reach));
        let cells = format!("<td>{measured}<td>{reach}<td class=\"kind\">{kind}<td>{}", verdict(row));
        add(html, &format!("<tr class=\"{class}\"><td>{}{cells}", row.what));
    }
    html.push_str(
        "</table>\n<p class=\"note\">A promise is a matter of counts and decides always. A figure is a matter of time, \
         which depends on the machine: it decides with <code>--strict</code>.</p>\n",
    );
}

fn explanations(html: &mut String, report: &Report) {
    let explanations = report.explanations();
    if explanations.is_empty() {
        return;
    }
    html.push_str("<h2>What went wrong</h2>\n<ul>\n");
    for explanation in explanations {
        add(html, &format!("<li>{}", escaped(explanation)));
    }
    html.push_str("</ul>\n");
}

fn plots(html: &mut String, facts: &Facts) {
    let nodes = nodes(&facts.samples);
    let returns = [returns(facts)];
    let delays = delays(&facts.crowd.delays);
    let plot =
        |unit, scale, series| Plot { unit, scale, series, marks: &facts.marks, seconds: seconds(facts) };
    section(html, "Connections of each node", "", &plot("connections", Scale::Linear, &nodes));
    let note = "Clients that were live before and are live again, in each tenth of a second.";
    section(html, "Reconnects", note, &plot("reconnects per 100 ms", Scale::Linear, &returns));
    let note =
        "From publishing to the client, of clients that were not being moved, by the second of publishing.";
    section(html, "Delivery delay", note, &plot("milliseconds", Scale::Log, &delays));
}

fn section(html: &mut String, heading: &str, note: &str, plot: &Plot<'_>) {
    add(html, &format!("<h2>{heading}</h2>"));
    if !note.is_empty() {
        add(html, &format!("<p class=\"note\">{note}</p>"));
    }
    if plot.series.len() > 1 {
        html.push_str("<p class=\"legend\">");
        for Series { name, color, .. } in plot.series {
            add(html, &format!("<span><i style=\"background:{color}\"></i>{}</span>", escaped(name)));
        }
        html.push_str("</p>\n");
    }
    html.push_str(&plot.svg());
}

/// How long the run took.
fn seconds(facts: &Facts) -> f64 {
    let marks = facts.marks.iter().map(|mark| mark.at);
    let samples = facts.samples.iter().map(|sample| sample.at);
    marks.chain(samples).max().unwrap_or_default().as_secs_f64()
}

/// A line for each node, in the order in which they are first heard of.
fn nodes(samples: &[Sample]) -> Vec<Series> {
    let mut nodes: Vec<Series> = Vec::new();
    for sample in samples {
        let point = (sample.at.as_secs_f64(), sample.connections as f64);
        match nodes.iter_mut().find(|node| node.name == sample.node) {
            Some(node) => node.points.push(point),
            None => {
                let color = COLORS[nodes.len() % COLORS.len()];
                nodes.push(Series {
                    name: sample.node.clone(),
                    color,
                    shape: Shape::Line,
                    points: vec![point],
                });
            }
        }
    }
    nodes
}

fn returns(facts: &Facts) -> Series {
    let tenths = facts.crowd.returns_per_tenth();
    let points =
        tenths.iter().enumerate().map(|(tenth, count)| (tenth as f64 / 10.0, f64::from(*count))).collect();
    Series { name: "reconnects".into(), color: COLORS[0], shape: Shape::Column(0.1), points }
}

fn delays(delays: &Delays) -> Vec<Series> {
    [("p99", 0.99, COLORS[1]), ("p50", 0.5, COLORS[0])]
        .into_iter()
        .map(|(name, share, color)| {
            let seconds = delays.seconds.iter().enumerate().filter(|(_, second)| !second.micros.is_empty());
            let points = seconds
                .map(|(at, second)| (at as f64 + 0.5, second.micros.value_at_quantile(share) as f64 / 1000.0))
                .collect();
            Series { name: name.into(), color, shape: Shape::Line, points }
        })
        .collect()
}

fn what_was_run(html: &mut String, report: &Report) {
    let environment = &report.environment;
    let settings = &report.settings;
    let drain = format!(
        "{} of delay, then closes over {}",
        humantime::format_duration(settings.delay),
        humantime::format_duration(settings.window)
    );
    html.push_str("<h2>What was run</h2>\n<dl>\n");
    term(html, "Command", &format!("<code>{}</code>", escaped(&report.command)));
    term(html, "Started", &escaped(&environment.started));
    term(html, "Machine", &escaped(&environment.machine()));
    term(html, "Draining", &drain);
    term(html, "Versions", &escaped(&environment.versions.join("\n")).replace('\n', "<br>"));
    if let Some(commit) = &environment.commit {
        term(html, "Commit", &format!("<code>{}</code>", escaped(commit)));
    }
    html.push_str("</dl>\n");
}

fn term(html: &mut String, name: &str, text: &str) {
    add(html, &format!("<dt>{name}<dd>{text}"));
}

fn timeline(html: &mut String, marks: &[Mark]) {
    html.push_str("<h2>What happened when</h2>\n<table class=\"timeline\">\n");
    for mark in marks {
        add(html, &format!("<tr><td>{}<td>{}", second(mark.at), escaped(&mark.text)));
    }
    html.push_str("</table>\n");
}

fn second(at: Duration) -> String {
    format!("{:.1} s", at.as_secs_f64())
}

fn add(html: &mut String, line: &str) {
    writeln!(html, "{line}").expect("a string takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noon::settings::{Play, Settings};
    use crate::report::environment::Environment;

    fn report(facts: Facts) -> Report {
        let settings = Settings {
            play: Play::Roll,
            clients: 300,
            rate: 60,
            channels: 10,
            nodes: 3,
            window: Duration::from_secs(20),
            delay: Duration::from_secs(5),
            calm: Duration::from_secs(10),
            plant: None,
        };
        Report::new(settings, false, "swarm noon --x '<y>'".into(), Environment::default(), facts)
    }

    #[test]
    fn a_page_of_nothing_is_a_page_and_says_that_promises_are_broken() {
        let html = html(&report(Facts::default()));
        assert!(html.contains("class=\"headline broken\""));
        assert_eq!(html.matches("<svg").count(), 3);
        assert!(html.contains("--x '&lt;y&gt;'"));
    }

    #[test]
    fn a_page_needs_no_network() {
        let html = html(&report(Facts::default())).replace("http://www.w3.org/2000/svg", "");
        for outside in ["http:", "https:", "<script", "<link", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn what_went_wrong_is_told_as_it_is_written() {
        let mut facts = Facts::default();
        facts.crowd.verdict.examples.push("client 3 lost <7> & <8>".into());
        assert!(html(&report(facts)).contains("client 3 lost &lt;7&gt; &amp; &lt;8&gt;"));
    }

    #[test]
    fn each_node_has_a_line_of_its_own() {
        let sample = |node: &str, connections| Sample {
            at: Duration::from_secs(1),
            node: node.into(),
            connections,
            draining: false,
        };
        let lines = nodes(&[sample("a", 1), sample("b", 2), sample("a", 3)]);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].points, [(1.0, 1.0), (1.0, 3.0)]);
        assert_ne!(lines[0].color, lines[1].color);
    }
}
