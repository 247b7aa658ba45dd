//! The plots of a play's page, each with a sentence that says what it shows and what to look for.

use std::collections::BTreeMap;

use crate::outcome::Outcome;
use crate::outcome::distribution::Distribution;
use crate::outcome::ramp::{Ramp, Step};
use crate::outcome::series::{Series as Recorded, unit};
use crate::outcome::timeline::{Shown, Timeline};
use crate::report::html::Page;
use crate::report::number::{amount, suited};
use crate::report::plot::{Across, COLORS, Flag, Plot, Scale, Series, Shape, flags};

/// Points for each nine of a distribution: enough that a curve is one.
const POINTS_PER_NINE: f64 = 40.0;

/// What has fewer slices than this was over at once: there is no line to draw, and its percentiles are drawn anyway.
const SLICES_MIN: usize = 3;

/// All of them.
pub(super) fn plots(page: &mut Page, outcome: &Outcome) {
    if let Some(ramp) = &outcome.ramp {
        ramp_delay(page, ramp);
        ramp_cpu(page, ramp);
    }
    let flags = flags(&outcome.marks);
    let timelines = delay_first(&outcome.timelines, Timeline::is_empty);
    for (index, (name, timeline)) in timelines.into_iter().enumerate() {
        over_time(page, outcome, name, timeline, &flags, index == 0);
    }
    let distributions = delay_first(&outcome.distributions, Distribution::is_empty);
    for unit in units(distributions.iter().map(|(_, distribution)| distribution.unit.as_str())) {
        by_share(
            page,
            unit,
            distributions.iter().copied().filter(|(_, distribution)| distribution.unit == unit),
        );
    }
    for unit in series_units(outcome) {
        series(page, outcome, unit, &flags);
    }
}

/// What holds anything, by name; the delay comes first, which most plays are about.
fn delay_first<T>(all: &BTreeMap<String, T>, is_empty: fn(&T) -> bool) -> Vec<(&str, &T)> {
    let shown = all.iter().filter(|(_, one)| !is_empty(one));
    let mut shown: Vec<(&str, &T)> = shown.map(|(name, one)| (name.as_str(), one)).collect();
    shown.sort_by_key(|(name, _)| *name != "delay");
    shown
}

/// Each unit once, in the order in which they come first.
fn units<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut units: Vec<&str> = Vec::new();
    for unit in all {
        if !units.contains(&unit) {
            units.push(unit);
        }
    }
    units
}

fn line(name: &str, color: usize, shape: Shape, points: Vec<(f64, f64)>) -> Series {
    Series { name: name.into(), color: COLORS[color % COLORS.len()], shape, points }
}

fn ramp_delay(page: &mut Page, ramp: &Ramp) {
    let milliseconds = |quantile| {
        let of = |step: &Step| (step.load, step.delay.quantile(quantile) as f64 / 1000.0);
        ramp.steps.iter().filter(|step| !step.delay.is_empty()).map(of).collect()
    };
    let series =
        [line("p99", 1, Shape::Dots, milliseconds(0.99)), line("p50", 0, Shape::Dots, milliseconds(0.5))];
    let limit = ramp.delay_limit.map(|limit| {
        let share = amount(limit.quantile * 100.0, "%");
        (limit.milliseconds, format!("asked: {share} within {} ms", amount(limit.milliseconds, "")))
    });
    let note = format!(
        "Each pair of dots is one step of the ramp: how long deliveries took with so many {}. Flat is good; where the upper \
         line turns up, the server has no time left. The knee is the last step at which everything that was asked held.",
        ramp.unit
    );
    let title = "Delay against load";
    let plot = Plot {
        title,
        across: across(ramp),
        unit: "milliseconds",
        scale: Scale::Log,
        series: &series,
        flags: &knee(ramp),
        limit: limit.as_ref().map(|(value, name)| (*value, name.as_str())),
    };
    page.plot(&note, &plot);
}

fn ramp_cpu(page: &mut Page, ramp: &Ramp) {
    let server = ramp.steps.iter().filter_map(|step| Some((step.load, step.server_cores?))).collect();
    let own = ramp.steps.iter().map(|step| (step.load, step.own_cores)).collect();
    let series = [line("server", 0, Shape::Dots, server), line("swarm itself", 4, Shape::Dots, own)];
    let note = "Cores that were busy during each step. A straight line through the origin means that each of them costs the \
                same however many there are. If the load generator is as busy as the server, the knee may be its own.";
    let plot = Plot {
        title: "CPU against load",
        across: across(ramp),
        unit: "cores",
        scale: Scale::Linear,
        series: &series,
        flags: &knee(ramp),
        limit: None,
    };
    page.plot(note, &plot);
}

fn across(ramp: &Ramp) -> Across<'_> {
    let until = ramp.steps.iter().map(|step| step.load).fold(0.0, f64::max);
    Across::Amount { unit: &ramp.unit, until }
}

fn knee(ramp: &Ramp) -> Vec<Flag> {
    let flag = |at: f64, text: String, color| Flag { at, text, color };
    let knee =
        ramp.knee().map(|knee| flag(knee, format!("knee: {}", amount(knee, &ramp.unit)), "var(--green)"));
    let broken = ramp.steps.iter().find(|step| step.broken.is_some());
    let broken =
        broken.map(|step| flag(step.load, format!("breaks at {}", amount(step.load, "")), "var(--red)"));
    knee.into_iter().chain(broken).collect()
}

fn over_time(
    page: &mut Page,
    outcome: &Outcome,
    name: &str,
    timeline: &Timeline,
    flags: &[Flag],
    is_first: bool,
) {
    let shown: Vec<Shown> = timeline.shown(outcome.started_unix_ms).collect();
    if shown.len() < SLICES_MIN {
        return;
    }
    let points = |micros: fn(&Shown) -> u64| {
        shown.iter().map(|slice| (slice.second, micros(slice) as f64 / 1000.0)).collect()
    };
    let series = [
        line("max", 6, Shape::Line, points(|slice| slice.max)),
        line("p99", 1, Shape::Line, points(|slice| slice.p99)),
        line("p50", 0, Shape::Line, points(|slice| slice.p50)),
    ];
    let width = humantime::format_duration(timeline.width());
    let what = format!("The median, the 99th percentile and the largest value in every {width}");
    let how = if is_first {
        ", on a scale on which each line of the grid is ten times the one below. Look for a line that rises as the run goes \
         on, and for peaks: those of the largest value alone are a few that waited, those of all three are a pause of \
         everything. Where only a few values fall into a slice, the upper two lines are one."
    } else {
        ". To be read as the plot above."
    };
    let plot = Plot {
        title: &titled(name, "over time"),
        across: Across::Seconds(outcome.seconds),
        unit: "milliseconds",
        scale: Scale::Log,
        series: &series,
        flags,
        limit: None,
    };
    page.plot(&format!("{what}{how}"), &plot);
}

fn by_share<'a>(
    page: &mut Page,
    unit: &str,
    distributions: impl Iterator<Item = (&'a str, &'a Distribution)> + Clone,
) {
    let p99 = distributions.clone().map(|(_, distribution)| distribution.quantile(0.99)).max();
    let (divisor, shown_unit) = suited(p99.unwrap_or_default() as f64, unit);
    let one_in = |distribution: &Distribution| (distribution.len() as f64).max(10.0);
    let curve = |(index, (name, distribution)): (usize, (&str, &Distribution))| {
        let value = |share| (share, distribution.quantile(share) as f64 / divisor);
        line(name, index, Shape::Line, shares(one_in(distribution)).map(value).collect())
    };
    let series: Vec<Series> = distributions.clone().enumerate().map(curve).collect();
    let note = "How much is within which limit: at 99 % a line is at the value that one in a hundred exceeds, at 99.9 % \
                one in a thousand. A line that stays low and turns up late is good; a cliff is something that hits a few \
                hard, and shows how many. The right end of a line is the largest value of all.";
    let only = match series.as_slice() {
        [line] => titled(&line.name, "by share"),
        _ => titled("percentiles", "of everything that was timed"),
    };
    let plot = Plot {
        title: &only,
        across: Across::Shares(
            distributions.map(|(_, distribution)| one_in(distribution)).fold(0.0, f64::max),
        ),
        unit: shown_unit,
        scale: Scale::Log,
        series: &series,
        flags: &[],
        limit: None,
    };
    page.plot(note, &plot);
}

/// Shares from none up to all but one in so many, evenly as they are drawn.
fn shares(one_in: f64) -> impl Iterator<Item = f64> {
    let last = (one_in.log10() * POINTS_PER_NINE).floor() as u32;
    let inner = (0..=last).map(|step| 1.0 - 10_f64.powf(-f64::from(step) / POINTS_PER_NINE));
    inner.chain([1.0 - 1.0 / one_in])
}

/// Units of series, in the order of the page.
fn series_units(outcome: &Outcome) -> Vec<&str> {
    let first =
        [unit::CONNECTIONS, unit::RATE, unit::CORES, unit::BYTES, unit::FILES, unit::ERRORS].into_iter();
    let known = first.filter(|unit| outcome.series.iter().any(|series| series.unit == *unit));
    units(known.chain(outcome.series.iter().map(|series| series.unit.as_str())))
}

fn series(page: &mut Page, outcome: &Outcome, unit: &str, flags: &[Flag]) {
    let of_unit = || outcome.series.iter().filter(|series| series.unit == unit);
    let largest = of_unit().filter_map(Recorded::max).fold(0.0, f64::max);
    let (divisor, shown_unit) = suited(largest, unit);
    let own = |series: &Recorded| {
        let points = series.points().iter();
        points.map(|point| (point.ms as f64 / 1000.0, point.value / divisor)).collect()
    };
    let (mut others, mut swarms) = ((0..4).cycle(), [4, 6, 5].into_iter().cycle());
    let mut color = |name: &str| if is_of_swarm(name) { swarms.next() } else { others.next() };
    let lines: Vec<Series> = of_unit()
        .map(|series| line(&series.name, color(&series.name).unwrap_or(0), Shape::Steps, own(series)))
        .collect();
    let (title, note) = about(unit);
    let alone = match lines.as_slice() {
        [line] => titled(&line.name, "over time"),
        _ => titled(unit, "over time"),
    };
    let plot = Plot {
        title: if title.is_empty() { &alone } else { title },
        across: Across::Seconds(outcome.seconds),
        unit: shown_unit,
        scale: Scale::Linear,
        series: &lines,
        flags,
        limit: None,
    };
    page.plot(note, &plot);
}

/// The load generator has colours of its own in every plot, which no server has.
fn is_of_swarm(name: &str) -> bool {
    name.contains("swarm")
}

/// A heading and a sentence for series of this unit.
fn about(of: &str) -> (&'static str, &'static str) {
    match of {
        unit::CONNECTIONS => (
            "Connections",
            "How many connections were open. Look for a fall that the play does not explain: those are connections that \
             were lost.",
        ),
        unit::RATE => (
            "Rates",
            "How often it happened in a second; deliveries are publications that reached a client. A dip is a pause of the \
             server, of the load generator, or of the play.",
        ),
        unit::CORES => (
            "CPU",
            "Cores that were busy. If the load generator itself was as busy as its threads allow, delays are its own and say \
             little about the server.",
        ),
        unit::BYTES => (
            "Memory",
            "Memory in use (RSS). It should grow with connections and come back after a storm; a line that rises while \
             nothing else does is a leak.",
        ),
        unit::FILES => (
            "Open files",
            "One for each connection and a few more; what stays after clients have left is a leak.",
        ),
        unit::ERRORS => ("Errors", "What failed so far, all kinds together. Flat is good."),
        _ => ("", ""),
    }
}

/// A heading of a name and how it is shown, with a capital at its begin.
fn titled(name: &str, how: &str) -> String {
    let mut letters = name.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{} {how}", letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::figure::Rule;

    #[test]
    fn shares_end_with_all_but_one() {
        let shares: Vec<f64> = shares(1000.0).collect();
        assert_eq!((shares[0], shares[shares.len() - 1]), (0.0, 0.999));
        assert!(shares.is_sorted());
    }

    #[test]
    fn a_title_has_a_capital_also_if_it_is_not_ascii() {
        assert_eq!(titled("delay", "over time"), "Delay over time");
        assert_eq!(titled("änderung", "by share"), "Änderung by share");
    }

    #[test]
    fn known_units_come_first_and_each_once() {
        let mut outcome = super::super::tests::outcome();
        outcome.series.insert(0, Recorded::new("rooms", "rooms", Rule::Sum));
        for name in ["CPU of the server", "CPU of swarm"] {
            outcome.series.push(Recorded::new(name, unit::CORES, Rule::Max));
        }
        assert_eq!(series_units(&outcome), ["connections", "cores", "rooms"]);
    }
}
