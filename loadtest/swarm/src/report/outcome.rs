//! What came of a play, in words and rows: what its table and its page have in common.

pub mod page;
mod plots;
pub mod table;

use super::number::{amount, grouped};
use crate::outcome::Outcome;
use crate::outcome::distribution::Distribution;
use crate::outcome::figure::{Figure, Reach};
use crate::outcome::ramp::Step;

/// The verdict in one sentence.
pub fn headline(outcome: &Outcome) -> String {
    let broken: Vec<String> = outcome
        .verdict
        .rows()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {}", grouped(count)))
        .collect();
    let missed = missed(outcome);
    match (broken.is_empty(), missed) {
        (true, 0) => "Everything arrived: nothing was lost, repeated or out of order.".into(),
        (true, 1) => "Everything arrived; 1 figure is missed.".into(),
        (true, missed) => format!("Everything arrived; {missed} figures are missed."),
        (false, _) => format!("Not everything is as it must be: {}.", broken.join(", ")),
    }
}

/// How many figures are not as they should be.
fn missed(outcome: &Outcome) -> usize {
    outcome.figures.iter().filter(|figure| figure.is_met() == Some(false)).count()
}

/// The size of the run, in one line.
fn size(outcome: &Outcome) -> String {
    let played = match outcome.processes {
        1 => outcome.about.clone(),
        processes => format!("each of {} processes: {}", grouped(processes.into()), outcome.about),
    };
    format!("{played}; {:.1} s", outcome.seconds)
}

/// Name, value, reach and verdict of a figure.
fn figure(figure: &Figure) -> [String; 4] {
    let value = figure.value.map_or_else(|| "not measured".into(), |value| amount(value, &figure.unit));
    let reach = match figure.reach {
        Some(Reach::AtMost(most)) => format!("≤ {}", amount(most, &figure.unit)),
        Some(Reach::AtLeast(least)) => format!("≥ {}", amount(least, &figure.unit)),
        None => String::new(),
    };
    let verdict = match figure.is_met() {
        Some(true) => "met",
        Some(false) => "missed",
        None => "",
    };
    [figure.name.clone(), value, reach, verdict.into()]
}

/// The columns of [`distribution`].
const QUANTILES: [&str; 6] = ["count", "p50", "p90", "p99", "p99.9", "max"];

/// The name of a distribution, and its [`QUANTILES`].
fn distribution((name, distribution): (&String, &Distribution)) -> [String; 7] {
    let value = |value: u64| amount(value as f64, &distribution.unit);
    let quantile = |quantile| value(distribution.quantile(quantile));
    [
        name.clone(),
        grouped(distribution.len()),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(0.999),
        value(distribution.max()),
    ]
}

/// Everything that was counted, in groups: what was done, what had to be 0, how connections ended, what failed.
fn counts(outcome: &Outcome) -> Vec<[String; 2]> {
    let row = |name: &str, count: u64| [name.to_owned(), grouped(count)];
    let done = outcome.counts.iter().map(|(name, count)| row(name, *count));
    let verdict = outcome.verdict.rows().map(|(name, count)| row(name, count));
    let closings = outcome.closings.iter().map(|(kind, count)| row(&format!("closed: {kind}"), *count));
    let errors = outcome.errors.iter().map(|(kind, count)| row(&format!("failed: {kind}"), *count));
    done.chain(verdict).chain(closings).chain(errors).collect()
}

/// How many columns [`steps`] have; the last one is in words.
const STEP_COLUMNS: usize = 10;

/// What is said of the steps of a ramp: load, deliveries, p50, p99, max, CPU of the server, also for each delivery, its
/// memory for each connection, own CPU, verdict.
fn steps(outcome: &Outcome) -> Vec<[String; STEP_COLUMNS]> {
    let Some(ramp) = &outcome.ramp else { return Vec::new() };
    let heading = [
        ramp.unit.as_str(),
        "deliveries/s",
        "p50",
        "p99",
        "max",
        "server",
        "per delivery",
        "per connection",
        "swarm itself",
        "verdict",
    ];
    let rows = ramp.steps.iter().map(|step| {
        let delay = |value: u64| amount(value as f64, &step.delay.unit);
        let some = |value: Option<f64>, unit| value.map_or_else(String::new, |value| amount(value, unit));
        [
            amount(step.load, ""),
            amount((step.deliveries as f64 / step.seconds.max(1e-3)).round(), ""),
            delay(step.delay.quantile(0.5)),
            delay(step.delay.quantile(0.99)),
            delay(step.delay.max()),
            some(step.server_cores, "cores"),
            some(step.server_micros_per_delivery(), "µs"),
            some(ramp.server_bytes_per_connection(step), "bytes"),
            amount(step.own_cores, "cores"),
            step.verdict(),
        ]
    });
    std::iter::once(heading.map(str::to_owned)).chain(rows).collect()
}

/// What a ramp found, in a sentence.
fn knee(outcome: &Outcome) -> Option<String> {
    let ramp = outcome.ramp.as_ref()?;
    let asked = &ramp.asked;
    let load = |step: &Step| amount(step.load, &ramp.unit);
    let why = |step: &Step| step.broken.clone().unwrap_or_default();
    let limit =
        ramp.at_limit.as_ref().map_or_else(String::new, |limit| format!(" At its limit was {limit}."));
    Some(match (ramp.knee_step(), ramp.first_broken(), ramp.steps.last()?) {
        (Some(knee), Some(broken), _) => format!(
            "The knee is at {}: {asked} held there, and not at {} ({}).{limit}",
            load(knee),
            load(broken),
            why(broken)
        ),
        (None, Some(broken), _) => {
            format!("No step held, the first was {}: {asked} ({}).{limit}", load(broken), why(broken))
        }
        (_, None, last) if last.own_limit.is_some() => {
            format!(
                "No knee was found: swarm itself was at its limit at {}, and the server was not.",
                load(last)
            )
        }
        (_, None, last) => {
            format!("No knee was found: {asked} held up to {}, the last step.", load(last))
        }
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::mark::{Mark, MarkKind};
    use crate::outcome::figure::{Quantity, Rule, Source};
    use crate::outcome::ramp::tests::{ramp, step};
    use crate::outcome::series::{Series, unit};
    use crate::outcome::timeline::Timeline;
    use crate::report::environment::Environment;

    /// An outcome with something of everything.
    pub(crate) fn outcome() -> Outcome {
        let mut outcome = Outcome::new("fan", "1,000 clients on 1 channel", "swarm fan --clients 1000");
        outcome.seconds = 12.5;
        outcome.environments =
            vec![Environment { started: "2030-01-02T03:04:05Z".into(), ..Environment::default() }];
        outcome.counts.insert("deliveries".into(), 1_000_000);
        let cpu = Source::Quotient { numerator: Quantity::shared(1.9e6), denominator: Quantity::own(1e6) };
        outcome
            .figures
            .push(Figure::new("CPU of the server per delivery", "µs", cpu).reaching(Reach::AtMost(2.0)));
        let p99 = Source::Quantile { of: "delay".into(), quantile: 0.99, divisor: 1.0 };
        outcome.figures.push(Figure::new("p99 delay", "µs", p99).reaching(Reach::AtMost(100.0)));
        let mut delay = Distribution::of_times();
        let mut timeline = Timeline::new(outcome.started());
        let mut connections = Series::new("connections", unit::CONNECTIONS, Rule::Sum);
        for second in 0..12_u64 {
            connections.record(Duration::from_secs(second), (second * 100) as f64);
            for micros in [100, 200, 400 + second * 10] {
                delay.record(micros);
                timeline.record(Duration::from_secs(second), Duration::from_micros(micros));
            }
        }
        outcome.distributions.insert("delay".into(), delay);
        outcome.timelines.insert("delay".into(), timeline);
        outcome.series.push(connections);
        outcome.marks.push(Mark {
            at: Duration::from_secs(3),
            kind: MarkKind::Step,
            text: "all connected".into(),
        });
        outcome.compute();
        outcome
    }

    #[test]
    fn the_headline_is_about_loss_first() {
        let mut outcome = outcome();
        assert_eq!(headline(&outcome), "Everything arrived; 1 figure is missed.");
        outcome.figures.clear();
        assert_eq!(headline(&outcome), "Everything arrived: nothing was lost, repeated or out of order.");
        outcome.verdict.lost = 3000;
        outcome.verdict.others.insert("clients not back".into(), 2);
        let expected = "Not everything is as it must be: publications lost 3,000, clients not back 2.";
        assert_eq!(headline(&outcome), expected);
        assert!(!outcome.passed());
    }

    #[test]
    fn the_knee_is_said_whether_there_is_one_or_not() {
        let of = |steps| knee(&Outcome { ramp: Some(ramp(steps)), ..outcome() }).unwrap();
        let (low, high) = (step(1000.0, &[3], None), step(2000.0, &[90], Some("p99 was 90 ms")));
        let said = of(vec![low.clone(), high.clone()]);
        assert_eq!(
            said,
            "The knee is at 1,000 clients: p99 at most 50 ms held there, and not at 2,000 clients (p99 was 90 ms)."
        );
        assert!(of(vec![low]).contains("held up to 1,000 clients, the last step"));
        assert!(of(vec![high]).contains("No step held, the first was 2,000 clients"));
        assert_eq!(knee(&outcome()), None);
    }
}
