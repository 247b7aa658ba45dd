//! A value that changes over time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::figure::Rule;

/// So many points are enough for a plot; then every second one goes.
const POINTS_MAX: usize = 1200;

/// Units of series, by which a page tells what a plot is about.
pub mod unit {
    /// How many connections are open.
    pub const CONNECTIONS: &str = "connections";
    /// CPU, in cores that are busy all the time.
    pub const CORES: &str = "cores";
    /// Memory.
    pub const BYTES: &str = "bytes";
    /// How often something happens.
    pub const RATE: &str = "per second";
    /// What failed so far.
    pub const ERRORS: &str = "errors";
    /// Open files of a process.
    pub const FILES: &str = "files";
}

/// A value over time, which stays what it was until the next point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Of what: `connections`, `CPU of the server`.
    pub name: String,
    /// Of the values: `connections`, `cores`, `bytes`. Series of the same unit share a plot.
    pub unit: String,
    /// What the values of several processes are together.
    pub merged: Rule,
    /// In the order of time.
    points: Vec<Point>,
}

/// A moment and the value from then on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Milliseconds since the start of the outcome.
    pub ms: u64,
    /// The value.
    pub value: f64,
}

impl Series {
    /// Without any point.
    pub fn new(name: impl Into<String>, unit: impl Into<String>, merged: Rule) -> Self {
        Self { name: name.into(), unit: unit.into(), merged, points: Vec::new() }
    }

    /// From `at` on, since the start, the value is this. Later points come later: one that is before the last is ignored,
    /// and so is what is no number.
    pub fn record(&mut self, at: Duration, value: f64) {
        let ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let is_later = self.points.last().is_none_or(|last| last.ms <= ms);
        if is_later && value.is_finite() {
            self.points.push(Point { ms, value });
            self.thin();
        }
    }

    /// All points, in the order of time.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The largest value, if there is any.
    pub fn max(&self) -> Option<f64> {
        self.points.iter().map(|point| point.value).reduce(f64::max)
    }

    /// Whether another one is of the same thing.
    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        (&self.name, &self.unit) == (&other.name, &other.unit)
    }

    /// As seen from a start that was so much earlier.
    pub(super) fn shift(&mut self, earlier_ms: u64) {
        for point in &mut self.points {
            point.ms = point.ms.saturating_add(earlier_ms);
        }
    }

    /// With what another process saw, from the same start. Before its first point a series adds nothing.
    pub(super) fn add(&mut self, other: &Self) {
        let mut moments: Vec<u64> = self.points.iter().chain(&other.points).map(|point| point.ms).collect();
        moments.sort_unstable();
        moments.dedup();
        let (mut left, mut right) = (Steps::of(&self.points), Steps::of(&other.points));
        let value = |ms| match (left.at(ms), right.at(ms)) {
            (Some(left), Some(right)) => self.merged.merge(left, right),
            (one, other) => one.or(other).unwrap_or_default(),
        };
        let values: Vec<f64> = moments.iter().copied().map(value).collect();
        self.points = moments.into_iter().zip(values).map(|(ms, value)| Point { ms, value }).collect();
        self.thin();
    }

    /// What is wrong with it, if a file said something that cannot be.
    pub(super) fn flaw(&self) -> Option<&'static str> {
        let is_sorted = self.points.is_sorted_by_key(|point| point.ms);
        (!is_sorted).then_some("points are not in the order of time")
    }

    fn thin(&mut self) {
        while self.points.len() > POINTS_MAX {
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }
}

/// Reads a series from its start to its end.
struct Steps<'a> {
    rest: &'a [Point],
    value: Option<f64>,
}

impl<'a> Steps<'a> {
    fn of(points: &'a [Point]) -> Self {
        Self { rest: points, value: None }
    }

    /// The value of a moment, which is not before the one that was asked for last.
    fn at(&mut self, ms: u64) -> Option<f64> {
        while let [first, rest @ ..] = self.rest
            && first.ms <= ms
        {
            self.value = Some(first.value);
            self.rest = rest;
        }
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(rule: Rule, points: &[(u64, f64)]) -> Series {
        let mut series = Series::new("connections", "", rule);
        for &(ms, value) in points {
            series.record(Duration::from_millis(ms), value);
        }
        series
    }

    fn points(series: &Series) -> Vec<(u64, f64)> {
        series.points.iter().map(|point| (point.ms, point.value)).collect()
    }

    #[test]
    fn sums_hold_the_last_value_of_each() {
        let mut left = series(Rule::Sum, &[(0, 10.0), (1000, 20.0)]);
        left.add(&series(Rule::Sum, &[(500, 1.0), (1000, 2.0), (2000, 3.0)]));
        assert_eq!(points(&left), [(0, 10.0), (500, 11.0), (1000, 22.0), (2000, 23.0)]);
    }

    #[test]
    fn what_all_see_is_not_added_up() {
        let mut left = series(Rule::Max, &[(0, 10.0), (1000, 20.0)]);
        left.add(&series(Rule::Max, &[(0, 12.0), (1000, 19.0)]));
        assert_eq!(points(&left), [(0, 12.0), (1000, 20.0)]);
    }

    #[test]
    fn points_stay_few_and_keep_the_first() {
        let many: Vec<(u64, f64)> = (0..100_000_u32).map(|ms| (u64::from(ms), f64::from(ms))).collect();
        let series = series(Rule::Sum, &many);
        assert!(series.points.len() <= POINTS_MAX);
        assert_eq!(points(&series)[0], (0, 0.0));
        assert!(series.max().unwrap() > 95_000.0);
    }

    #[test]
    fn what_is_out_of_order_or_no_number_is_ignored() {
        assert_eq!(
            points(&series(Rule::Sum, &[(5, 1.0), (4, 2.0), (6, f64::NAN), (7, 3.0)])),
            [(5, 1.0), (7, 3.0)]
        );
    }
}
