//! A run of `noon` as a page.

use super::html::{self, Page, code, escaped};
use super::plot::{Across, COLORS, Plot, Scale, Series, Shape, flags};
use super::{Report, table, verdict};
use crate::findings::Delays;
use crate::noon::facts::{Facts, Sample};
use crate::noon::judgement::{Kind, Row};

/// The page.
pub fn html(report: &Report) -> String {
    let mut page = Page::new(report.settings.play.title());
    page.add(&format!("<p>{}</p>", escaped(&table::scale(report))));
    page.add(&format!("<p class=\"headline {}\">{}</p>", mood(report), report.headline()));
    rows(&mut page, &report.rows);
    page.list("What went wrong", report.explanations());
    plots(&mut page, &report.facts);
    page.terms("What was run", &what_was_run(report));
    page.timeline(report.facts.marks.iter().map(|mark| (mark.at.as_secs_f64(), mark.text.clone())));
    page.end()
}

/// The class of the headline.
fn mood(report: &Report) -> &'static str {
    match (report.missed(Kind::Promise), report.missed(Kind::Figure)) {
        (0, 0) => "holds",
        (0, _) => "missed",
        _ => "broken",
    }
}

fn rows(page: &mut Page, rows: &[Row]) {
    page.add("<table>\n<tr><th>What is asked<th>Measured<th>Reach<th><th>Verdict");
    for row in rows {
        let (class, kind) = match row.kind {
            Kind::Promise => ("broken", "promise"),
            Kind::Figure => ("missed", "figure"),
        };
        let class = if row.holds { "holds" } else { class };
        let (measured, reach) = (escaped(&row.measured), escaped(&row.reach));
        let cells = format!("<td>{measured}<td>{reach}<td class=\"kind\">{kind}<td>{}", verdict(row));
        page.add(&format!("<tr class=\"{class}\"><td>{}{cells}", row.what));
    }
    page.add(
        "</table>\n<p class=\"note\">A promise is a matter of counts and decides always. A figure is a matter of time, \
         which depends on the machine: it decides with <code>--strict</code>.</p>",
    );
}

fn plots(page: &mut Page, facts: &Facts) {
    let nodes = nodes(&facts.samples);
    let returns = [returns(facts)];
    let delays = delays(&facts.crowd.delays);
    let flags = flags(&facts.marks);
    let across = Across::Seconds(seconds(facts));
    let plot =
        |title, unit, scale, series| Plot { title, across, unit, scale, series, flags: &flags, limit: None };
    page.plot("", &plot("Connections of each node", "connections", Scale::Linear, &nodes));
    let note = "Clients that were live before and are live again, in each tenth of a second.";
    page.plot(note, &plot("Reconnects", "reconnects per 100 ms", Scale::Linear, &returns));
    let note =
        "From publishing to the client, of clients that were not being moved, by the second of publishing.";
    page.plot(note, &plot("Delivery delay", "milliseconds", Scale::Log, &delays));
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

fn what_was_run(report: &Report) -> Vec<(&'static str, String)> {
    let settings = &report.settings;
    let drain = format!(
        "{} of delay, then closes over {}",
        humantime::format_duration(settings.delay),
        humantime::format_duration(settings.window)
    );
    let run = [
        ("Command", code(&report.command)),
        ("Started", escaped(&report.environment.started)),
        ("Draining", drain),
    ];
    run.into_iter().chain(html::machine(&report.environment)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
