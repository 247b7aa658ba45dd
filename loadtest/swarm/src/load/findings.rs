//! What the clients of a load found.

use std::collections::BTreeMap;

use super::clock::LoadClock;
use crate::outcome::Sentences;
use crate::outcome::distribution::Distribution;
use crate::outcome::timeline::Timeline;

/// The delay of deliveries, from when their publication was due.
pub const DELAY: &str = "delay";
/// How long clients take to connect and to subscribe, from when they were due to begin.
pub const CONNECT_TIME: &str = "connect time";

/// What the clients of a thread found, or those of all.
#[derive(Debug, Default)]
pub struct Findings {
    /// How long things took, by name: [`DELAY`], [`CONNECT_TIME`], and what a play adds.
    pub times: BTreeMap<&'static str, Times>,
    /// How many connections ended that nobody here ended, by kind.
    pub closings: BTreeMap<String, u64>,
    /// What else failed, by kind.
    pub errors: BTreeMap<String, u64>,
    /// The first of what went wrong, in words.
    pub wrong: Sentences,
    /// Publications that clients were not given, at the end.
    pub lost: u64,
}

impl Findings {
    /// Those of another thread as well.
    pub(super) fn add(&mut self, other: Self) {
        for (what, times) in other.times {
            self.times.entry(what).and_modify(|own| own.add(&times)).or_insert(times);
        }
        for (to, from) in [(&mut self.closings, other.closings), (&mut self.errors, other.errors)] {
            for (kind, count) in from {
                *to.entry(kind).or_default() += count;
            }
        }
        let unsaid = other.wrong.total - other.wrong.first.len() as u64;
        other.wrong.first.into_iter().for_each(|sentence| self.wrong.say(sentence));
        self.wrong.total += unsaid;
        self.lost += other.lost;
    }
}

/// How long something took: altogether, and over time.
#[derive(Debug)]
pub struct Times {
    /// Of the whole run.
    pub distribution: Distribution,
    /// Over the run.
    pub timeline: Timeline,
}

impl Times {
    /// Of nothing yet, in a run with this clock.
    pub fn new(clock: LoadClock) -> Self {
        Self { distribution: Distribution::of_times(), timeline: Timeline::new(clock.started()) }
    }

    fn add(&mut self, other: &Self) {
        self.distribution.add(&other.distribution);
        self.timeline.add(&other.timeline);
    }
}
