//! How a distribution changes over time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::distribution::{add, empty, micros, read, record, write};

/// Of one slice: 1 % of any value, which no eye sees in a plot.
const DIGITS: u8 = 2;
/// How wide slices are at first.
const NARROWEST_MS: u64 = 125;
/// So many slices are enough for a plot, and their memory is bounded: about 4 MB for values up to ten seconds.
const SLICES_MAX: usize = 240;

/// Times in slices of time, all equally wide, each with a histogram of its own.
///
/// Slices lie on the wall clock, so that those of several processes cover each other. They become twice as wide whenever
/// there are more than 240 of them: a run of any length takes the same memory, and the same times make the same
/// timeline in whichever order they come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timeline {
    /// How wide each slice is: 125 ms times a power of two.
    width_ms: u64,
    /// Those that hold anything, in the order of time.
    slices: Vec<Slice>,
    /// Where a recorded time of 0 is, in milliseconds of the Unix epoch. Not needed to read or to merge.
    #[serde(skip)]
    origin_ms: u64,
}

impl PartialEq for Timeline {
    fn eq(&self, other: &Self) -> bool {
        (self.width_ms, &self.slices) == (other.width_ms, &other.slices)
    }
}

/// A slice of a timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Slice {
    /// When it begins, in milliseconds of the Unix epoch; a multiple of the width.
    unix_ms: u64,
    #[serde(flatten, serialize_with = "write", deserialize_with = "read")]
    micros: Histogram<u64>,
}

/// A slice as it is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// The middle of the slice, in seconds since some start; below 0 if it was before.
    pub second: f64,
    /// How many times there are in it.
    pub count: u64,
    /// In microseconds.
    pub p50: u64,
    /// In microseconds.
    pub p99: u64,
    /// In microseconds.
    pub max: u64,
}

impl Timeline {
    /// Of nothing yet, in a run that started then.
    pub fn new(started: SystemTime) -> Self {
        let origin_ms = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self {
            width_ms: NARROWEST_MS,
            slices: Vec::new(),
            origin_ms: u64::try_from(origin_ms).unwrap_or(u64::MAX),
        }
    }

    /// Something took `time`, and belongs to the moment `at` since the start: of a publication, when it was meant to be
    /// published.
    pub fn record(&mut self, at: Duration, time: Duration) {
        let unix_ms = self.origin_ms + u64::try_from(at.as_millis()).unwrap_or(u64::MAX / 2);
        record(self.slice(unix_ms), micros(time));
        self.widen();
    }

    /// Everything that another one has.
    pub fn add(&mut self, other: &Self) {
        while self.width_ms < other.width_ms {
            self.double();
        }
        for Slice { unix_ms, micros } in &other.slices {
            add(self.slice(*unix_ms), micros);
        }
        self.widen();
    }

    /// The slices, as seen from a start in milliseconds of the Unix epoch.
    pub fn shown(&self, started_unix_ms: u64) -> impl Iterator<Item = Shown> {
        let middle = self.width_ms as f64 / 2.0 - started_unix_ms as f64;
        self.slices.iter().map(move |Slice { unix_ms, micros }| Shown {
            second: (*unix_ms as f64 + middle) / 1000.0,
            count: micros.len(),
            p50: micros.value_at_quantile(0.5),
            p99: micros.value_at_quantile(0.99),
            max: micros.max(),
        })
    }

    /// How wide a slice is.
    pub fn width(&self) -> Duration {
        Duration::from_millis(self.width_ms)
    }

    /// How many times there are in all.
    pub fn len(&self) -> u64 {
        self.slices.iter().map(|slice| slice.micros.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// What is wrong with it, if a file said something that cannot be.
    pub(super) fn flaw(&self) -> Option<&'static str> {
        let width = self.width_ms / NARROWEST_MS;
        if !self.width_ms.is_multiple_of(NARROWEST_MS) || !width.is_power_of_two() {
            return Some("width_ms is not 125 times a power of two");
        }
        if self.slices.iter().any(|slice| !slice.unix_ms.is_multiple_of(self.width_ms)) {
            return Some("a slice does not begin at a multiple of width_ms");
        }
        let is_sorted = self.slices.is_sorted_by(|left, right| left.unix_ms < right.unix_ms);
        (!is_sorted).then_some("slices are not in the order of time")
    }

    /// The histogram of a moment. Mostly that is the last one, which is looked at first.
    fn slice(&mut self, unix_ms: u64) -> &mut Histogram<u64> {
        let begin = unix_ms - unix_ms % self.width_ms;
        let found = match self.slices.last() {
            Some(last) if last.unix_ms == begin => Ok(self.slices.len() - 1),
            _ => self.slices.binary_search_by_key(&begin, |slice| slice.unix_ms),
        };
        let index = found.unwrap_or_else(|index| {
            self.slices.insert(index, Slice { unix_ms: begin, micros: empty(DIGITS) });
            index
        });
        &mut self.slices[index].micros
    }

    fn widen(&mut self) {
        while self.slices.len() > SLICES_MAX {
            self.double();
        }
    }

    fn double(&mut self) {
        self.width_ms *= 2;
        for Slice { unix_ms, micros } in std::mem::take(&mut self.slices) {
            // The first of two is moved, not copied: most of the time there is nothing to add.
            let begin = unix_ms - unix_ms % self.width_ms;
            match self.slices.last_mut() {
                Some(last) if last.unix_ms == begin => add(&mut last.micros, &micros),
                _ => self.slices.push(Slice { unix_ms: begin, micros }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_millis(1_700_000_000_077);

    fn timeline(times: impl IntoIterator<Item = (u64, u64)>) -> Timeline {
        let mut timeline = Timeline::new(UNIX_EPOCH + START);
        for (at_ms, micros) in times {
            timeline.record(Duration::from_millis(at_ms), Duration::from_micros(micros));
        }
        timeline
    }

    fn shown(timeline: &Timeline) -> Vec<Shown> {
        timeline.shown(u64::try_from(START.as_millis()).unwrap()).collect()
    }

    #[test]
    fn a_time_is_in_the_slice_of_its_moment() {
        let shown = shown(&timeline([(0, 5), (10, 7), (1000, 9_000_000)]));
        assert_eq!(shown.len(), 2);
        assert_eq!((shown[0].count, shown[0].max), (2, 7));
        assert_eq!((shown[1].count, shown[1].max / 1_000_000), (1, 9));
        assert!((shown[1].second - 1.0).abs() <= 0.125, "{shown:?}");
    }

    #[test]
    fn slices_stay_few_and_lose_nothing_however_long_a_run_is() {
        let hour = timeline((0..36_000).map(|tenth| (tenth * 100, tenth)));
        assert!(hour.slices.len() <= SLICES_MAX && hour.slices.len() > SLICES_MAX / 2 - 2);
        assert_eq!(hour.len(), 36_000);
        assert_eq!(hour.width(), Duration::from_secs(16));
    }

    #[test]
    fn the_order_in_which_times_come_makes_no_difference() {
        let times: Vec<(u64, u64)> = (0..1000).map(|index| (index * 97, index)).collect();
        assert_eq!(timeline(times.iter().copied()), timeline(times.iter().rev().copied()));
    }

    #[test]
    fn a_short_and_a_long_one_are_together_what_one_alone_would_be() {
        let (long, short) = ((0..400).map(|index| (index * 1000, index)), [(70_130, 7), (70_260, 8)]);
        let together = timeline(long.clone().chain(short));
        for (mut first, second) in
            [(timeline(long.clone()), timeline(short)), (timeline(short), timeline(long))]
        {
            assert_ne!(first.width(), second.width());
            first.add(&second);
            assert_eq!(first, together);
        }
    }

    #[test]
    fn it_is_the_same_after_json_but_for_its_origin() {
        let before = timeline([(0, 5), (3000, 70_000)]);
        let json = serde_json::to_string(&before).unwrap();
        let after: Timeline = serde_json::from_str(&json).unwrap();
        assert_eq!(shown(&after), shown(&before));
    }
}
