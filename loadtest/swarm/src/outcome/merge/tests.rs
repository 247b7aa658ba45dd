//! Merging is adding: neither the order of outcomes nor how they are put together makes a difference.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::mark::{Mark, MarkKind};
use crate::outcome::distribution::Distribution;
use crate::outcome::figure::Rule;
use crate::outcome::file;
use crate::outcome::ramp::tests::{ramp, step};
use crate::outcome::series::Series;
use crate::outcome::timeline::Timeline;

const START_UNIX_MS: u64 = 1_900_000_000_000;

/// What one process is to have found.
#[derive(Clone, Debug)]
struct Found {
    later_seconds: u64,
    /// When, in milliseconds, and how long it took, in microseconds.
    delays: Vec<(u64, u64)>,
    connections: Vec<u32>,
    lost: u64,
    closings: u64,
    loads: Vec<u32>,
    words: Vec<u8>,
    machine: u8,
}

prop_compose! {
    fn found()(
        later_seconds in 0..100_u64,
        delays in vec((0..90_000_u64, 0..50_000_000_u64), 0..30),
        connections in vec(0..1000_u32, 0..20),
        lost in 0..3_u64,
        closings in 0..3_u64,
        loads in subsequence(vec![1000, 2000, 3000, 4000], 1..=4),
        words in vec(0..40_u8, 0..25),
        machine in 0..3_u8,
    ) -> Found {
        Found { later_seconds, delays, connections, lost, closings, loads, words, machine }
    }
}

impl Found {
    fn outcome(&self) -> Outcome {
        let mut outcome = Outcome::new("fan", "a few clients", "swarm fan --clients 9");
        outcome.started_unix_ms = START_UNIX_MS + self.later_seconds * 1000;
        outcome.seconds = 90.0;
        outcome.environments[0] = Environment {
            started: humantime::format_rfc3339_seconds(outcome.started()).to_string(),
            kernel: self.machine.to_string(),
            ..Environment::default()
        };
        self.count(&mut outcome);
        self.time(&mut outcome);
        self.words.iter().for_each(|word| outcome.wrong.say(word.to_string()));
        let at = Duration::from_secs(self.later_seconds);
        outcome.marks.push(Mark { at, kind: MarkKind::Step, text: "all connected".into() });
        let steps = self.loads.iter().map(|load| step(f64::from(*load), &[self.lost], None));
        outcome.ramp = Some(ramp(steps.collect()));
        outcome.compute();
        outcome
    }

    fn count(&self, outcome: &mut Outcome) {
        outcome.verdict.lost = self.lost;
        outcome.verdict.others.insert("clients not back".into(), self.closings);
        outcome.counts.insert("deliveries".into(), self.delays.len() as u64);
        // What did not happen has no name.
        if self.closings > 0 {
            outcome.closings.insert("3000 (gone)".into(), self.closings);
            outcome.errors.insert("connect refused".into(), self.closings);
        }
        let numerator = Quantity::shared(self.delays.len() as f64);
        let denominator = Quantity::own(self.lost as f64);
        outcome.figures = vec![
            Figure::new("CPU", "µs", Source::Quotient { numerator, denominator }),
            Figure::new(
                "p99",
                "ms",
                Source::Quantile { of: "delay".into(), quantile: 0.99, divisor: 1000.0 },
            ),
            Figure::new("deliveries", "", Source::Count { of: "deliveries".into() }),
            Figure::new("own CPU", "s", Source::Quantity(Quantity::own(self.lost as f64))),
        ];
    }

    fn time(&self, outcome: &mut Outcome) {
        let mut distribution = Distribution::of_times();
        let mut timeline = Timeline::new(outcome.started());
        for (at, micros) in &self.delays {
            distribution.record(*micros);
            timeline.record(Duration::from_millis(*at), Duration::from_micros(*micros));
        }
        outcome.distributions.insert("delay".into(), distribution);
        outcome.timelines.insert("delay".into(), timeline);
        for (name, rule) in [("connections", Rule::Sum), ("CPU", Rule::Max)] {
            let mut series = Series::new(name, "", rule);
            for (second, value) in self.connections.iter().enumerate() {
                series.record(Duration::from_secs(second as u64 * 3), f64::from(*value));
            }
            outcome.series.push(series);
        }
    }
}

fn merged(outcomes: &[&Outcome]) -> Outcome {
    let mut merged = outcomes[0].clone();
    for outcome in &outcomes[1..] {
        merged.merge((*outcome).clone()).unwrap();
    }
    merged
}

proptest! {
    // Each case makes some hundred histograms, which takes its time without optimisation.
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_order_of_outcomes_makes_no_difference(found in vec(found(), 2..5)) {
        let outcomes: Vec<Outcome> = found.iter().map(Found::outcome).collect();
        let forwards: Vec<&Outcome> = outcomes.iter().collect();
        let backwards: Vec<&Outcome> = outcomes.iter().rev().collect();
        prop_assert_eq!(merged(&forwards), merged(&backwards));
    }

    #[test]
    fn merging_what_is_merged_makes_no_difference(a in found(), b in found(), c in found()) {
        let (a, b, c) = (a.outcome(), b.outcome(), c.outcome());
        let left = merged(&[&merged(&[&a, &b]), &c]);
        let right = merged(&[&a, &merged(&[&b, &c])]);
        prop_assert_eq!(left, right);
    }

    #[test]
    fn percentiles_are_those_of_all_values_together(found in vec(found(), 2..5)) {
        let outcomes: Vec<Outcome> = found.iter().map(Found::outcome).collect();
        let merged = merged(&outcomes.iter().collect::<Vec<_>>());
        let mut together = Distribution::of_times();
        found.iter().flat_map(|found| &found.delays).for_each(|(_, micros)| together.record(*micros));
        prop_assert_eq!(&merged.distributions["delay"], &together);
        for quantile in [0.0, 0.5, 0.9, 0.99, 0.999, 1.0] {
            prop_assert_eq!(merged.distributions["delay"].quantile(quantile), together.quantile(quantile));
        }
        prop_assert_eq!(merged.timelines["delay"].len(), together.len());
    }

    #[test]
    fn an_outcome_is_the_same_after_json(found in found()) {
        let outcome = found.outcome();
        let json = serde_json::to_string(&outcome).unwrap();
        prop_assert_eq!(file::parse(&json).unwrap(), vec![outcome]);
    }
}

#[test]
fn figures_are_computed_again_and_not_averaged() {
    let outcome = |connects: f64, cpu: f64| {
        let mut outcome = Outcome::new("connect", "", "swarm connect");
        let from =
            Source::Quotient { numerator: Quantity::shared(cpu), denominator: Quantity::own(connects) };
        outcome.figures.push(Figure::new("CPU of the server per connect", "µs", from));
        outcome.compute();
        outcome
    };
    // Both saw the CPU that the server used for the clients of both.
    let merged = merged(&[&outcome(100.0, 8000.0), &outcome(300.0, 8100.0)]);
    assert_eq!(merged.figures[0].value, Some(8100.0 / 400.0));
}

#[test]
fn an_outcome_begins_when_the_first_process_began() {
    let at = |later_ms: u64, value: f64| {
        let mut outcome = Outcome::new("idle", "", "swarm idle");
        outcome.started_unix_ms = START_UNIX_MS + later_ms;
        outcome.seconds = 10.0;
        let mut series = Series::new("connections", "", Rule::Sum);
        series.record(Duration::from_secs(1), value);
        outcome.series.push(series);
        outcome.marks.push(Mark {
            at: Duration::from_secs(2),
            kind: MarkKind::Step,
            text: value.to_string(),
        });
        outcome
    };
    let merged = merged(&[&at(1500, 5.0), &at(0, 7.0)]);
    assert_eq!((merged.started_unix_ms, merged.seconds, merged.processes), (START_UNIX_MS, 11.5, 2));
    let points: Vec<(u64, f64)> =
        merged.series[0].points().iter().map(|point| (point.ms, point.value)).collect();
    assert_eq!(points, [(1000, 7.0), (2500, 12.0)]);
    assert_eq!(merged.marks.iter().map(|mark| mark.at.as_millis()).collect::<Vec<_>>(), [2000, 3500]);
}

#[test]
fn what_is_not_of_one_run_is_named() {
    let outcome = |play: &str, command: &str| Outcome::new(play, "", command);
    let error = |mut left: Outcome, right: Outcome| {
        let before = left.clone();
        let error = left.merge(right).unwrap_err();
        assert_eq!(left, before, "nothing is changed");
        (error.field.clone(), error.to_string())
    };
    let (field, said) = error(outcome("fan", "swarm fan"), outcome("idle", "swarm fan"));
    assert_eq!((field.as_str(), said.as_str()), ("play", "`play` is idle, and of the others fan"));
    let (field, said) =
        error(outcome("fan", "swarm fan --clients 9"), outcome("fan", "swarm fan --clients 8"));
    assert!(field == "command" && said.contains("--clients 8") && said.contains("--clients 9"), "{said}");
    let other = Outcome { format: FORMAT + 1, ..outcome("fan", "swarm fan") };
    assert_eq!(error(outcome("fan", "swarm fan"), other).0, "format");
    let other = Outcome { ramp: Some(ramp(vec![])), ..outcome("fan", "swarm fan") };
    assert_eq!(error(outcome("fan", "swarm fan"), other).0, "ramp");
}

#[test]
fn where_a_process_is_and_what_it_writes_is_its_own_matter() {
    let command = |own: &str| Outcome::new("fan", "", format!("swarm fan --url 'a b' {own} --clients 9"));
    let merged = merged(&[
        &command("--source 127.0.0.2 --pid 7 8"),
        &command("--source=127.0.0.3 --report 'a b.html'"),
        &command("--output json"),
    ]);
    assert_eq!(merged.command, "swarm fan --url 'a b' --clients 9");
    let mut same = command("--output json");
    same.merge(command("--output json")).unwrap();
    assert_eq!(same.command, "swarm fan --url 'a b' --output json --clients 9");
}

#[test]
fn what_a_file_exaggerates_does_not_break_the_sum() {
    let mut outcome = Outcome::new("fan", "", "swarm fan");
    outcome.counts.insert("deliveries".into(), u64::MAX);
    outcome.verdict.lost = u64::MAX;
    outcome.processes = u32::MAX;
    let merged = merged(&[&outcome, &outcome]);
    assert_eq!((merged.counts["deliveries"], merged.verdict.lost), (u64::MAX, u64::MAX));
}

#[test]
fn units_of_different_distributions_are_not_mixed() {
    let outcome = |unit: &str| {
        let mut outcome = Outcome::new("fan", "", "swarm fan");
        outcome.distributions.insert("delay".into(), Distribution::new(unit));
        outcome
    };
    let error = outcome("µs").merge(outcome("ms")).unwrap_err();
    assert_eq!(error.field, "distributions.delay.unit");
}
