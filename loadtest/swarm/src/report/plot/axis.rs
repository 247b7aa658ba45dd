//! Where values are along an axis, and which of them are written beside it.

use crate::report::number::grouped;

/// How values are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::report) enum Scale {
    Linear,
    /// Of ten. What is not above 0 is not shown.
    Log,
}

/// What goes from left to right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::report) enum Across<'a> {
    /// The time of a run, from its start to its end.
    Seconds(f64),
    /// Shares of all values, from none up to all but one in so many: each further nine is as wide as the one before.
    Shares(f64),
    /// Amounts in this unit, from 0 to the largest.
    Amount { unit: &'a str, until: f64 },
}

impl Across<'_> {
    /// 0 at the left, 1 at the right. The middle of a slice of time may be a little outside of the run, and is drawn at its
    /// edge.
    pub(super) fn share(self, value: f64) -> f64 {
        let share = match self {
            Self::Seconds(seconds) => value / seconds.max(1.0),
            Self::Shares(one_in) => nines(value) / one_in.max(10.0).log10(),
            Self::Amount { until, .. } => value / positive(until),
        };
        share.clamp(0.0, 1.0)
    }

    /// What is written below the axis.
    pub(super) fn title(self) -> String {
        match self {
            Self::Seconds(_) => "seconds since the start".into(),
            Self::Shares(_) => "share of all that is not above the line".into(),
            Self::Amount { unit, .. } => unit.into(),
        }
    }

    /// Values at which something is written, and what.
    pub(super) fn ticks(self) -> Vec<(f64, String)> {
        let written = |value: f64| (value, number(value));
        match self {
            Self::Seconds(seconds) => ticks(seconds.max(1.0), 12.0).into_iter().map(written).collect(),
            Self::Amount { until, .. } => ticks(positive(until), 10.0).into_iter().map(written).collect(),
            Self::Shares(one_in) => {
                let last = one_in.max(10.0).log10().floor() as usize;
                let half = (0.5, "50 %".to_owned());
                let nines = (1..=last).map(|count| (1.0 - 10_f64.powi(-(count as i32)), percent(count)));
                [(0.0, "0 %".to_owned()), half].into_iter().chain(nines).collect()
            }
        }
    }
}

fn positive(until: f64) -> f64 {
    if until > 0.0 { until } else { 1.0 }
}

/// How many nines a share has: 1 for 0.9, 2 for 0.99.
fn nines(share: f64) -> f64 {
    -(1.0 - share).max(1e-12).log10()
}

/// A share with so many nines: `90 %`, `99 %`, `99.9 %`.
fn percent(nines: usize) -> String {
    match nines {
        1 => "90 %".into(),
        2 => "99 %".into(),
        more => format!("99.{} %", "9".repeat(more - 2)),
    }
}

/// From where to where values go, from the bottom to the top.
#[derive(Debug)]
pub(super) struct Axis {
    scale: Scale,
    from: f64,
    until: f64,
    pub(super) ticks: Vec<f64>,
}

impl Axis {
    /// Around all of `values`.
    pub(super) fn around(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        match scale {
            Scale::Linear => Self::linear(values.fold(0.0, f64::max)),
            Scale::Log => Self::log(values.filter(|&value| value > 0.0)),
        }
    }

    fn linear(highest: f64) -> Self {
        // Nothing but 0 is shown on an axis to 1.
        let highest = positive(highest);
        let ticks = ticks(highest, 5.0);
        let step = ticks[1] - ticks[0];
        let until = (highest / step).ceil() * step;
        let ticks = (0..=(until / step).round() as u32).map(|index| f64::from(index) * step).collect();
        Self { scale: Scale::Linear, from: 0.0, until, ticks }
    }

    /// Whole decades around all values, at least one.
    fn log(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) =
            values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low > high { (1.0, 10.0) } else { (low, high) };
        let from = low.log10().floor() as i32;
        let until = (high.log10().ceil() as i32).max(from + 1);
        let ticks = (from..=until).map(|power| 10_f64.powi(power)).collect();
        Self { scale: Scale::Log, from: 10_f64.powi(from), until: 10_f64.powi(until), ticks }
    }

    pub(super) fn shows(&self, value: f64) -> bool {
        self.scale == Scale::Linear || value > 0.0
    }

    /// 0 at the bottom, 1 at the top.
    pub(super) fn share(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value / self.until,
            Scale::Log => (value / self.from).log10() / (self.until / self.from).log10(),
        }
    }
}

/// From 0 up to `until`, in steps of 1, 2 or 5 times a power of ten, about `count` of them but not more; at least two.
fn ticks(until: f64, count: f64) -> Vec<f64> {
    let least = until / count;
    let power = 10_f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&step| step >= least);
    let step = step.unwrap_or(power * 10.0);
    let last = ((until / step).floor() as u32).max(1);
    (0..=last).map(|index| f64::from(index) * step).collect()
}

/// A number as short as it can be.
pub(super) fn number(value: f64) -> String {
    if value >= 1000.0 {
        grouped(value.round() as u64)
    } else {
        format!("{}", (value * 1000.0).round() / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        assert_eq!(ticks(100.0, 5.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(93.0, 12.0), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0]);
        assert_eq!(ticks(1.0, 5.0).len(), 6);
    }

    #[test]
    fn the_highest_value_is_inside() {
        for highest in [0.0, 0.02, 1.0, 7.0, 667.0, 2000.0] {
            let axis = Axis::linear(highest);
            assert!(axis.share(highest) <= 1.0, "{axis:?}");
            assert_eq!(axis.ticks.last(), Some(&axis.until));
        }
    }

    #[test]
    fn decades_enclose_all_values_and_are_there_without_any() {
        let axis = Axis::log([0.4, 37.0].into_iter());
        assert_eq!(axis.ticks, [0.1, 1.0, 10.0, 100.0]);
        assert!((axis.share(1.0) - 1.0 / 3.0).abs() < 1e-9);
        assert!(!axis.shows(0.0));
        assert_eq!(Axis::log(std::iter::empty()).ticks, [1.0, 10.0]);
        assert_eq!(Axis::log(std::iter::once(10.0)).ticks, [10.0, 100.0]);
    }

    #[test]
    fn each_nine_is_as_wide_as_the_one_before() {
        let across = Across::Shares(1000.0);
        let places = [0.0, 0.9, 0.99, 0.999].map(|share| (across.share(share) * 3.0).round());
        assert_eq!(places, [0.0, 1.0, 2.0, 3.0]);
        let texts: Vec<String> = across.ticks().into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["0 %", "50 %", "90 %", "99 %", "99.9 %"]);
    }

    #[test]
    fn what_is_outside_is_at_the_edge() {
        assert_eq!([-0.1, 5.0, 10.5].map(|second| Across::Seconds(10.0).share(second)), [0.0, 0.5, 1.0]);
    }

    #[test]
    fn numbers_are_written_as_they_are() {
        let texts = [0.0, 0.5, 1.5, 20.0, 2500.0].map(number);
        assert_eq!(texts, ["0", "0.5", "1.5", "20", "2,500"]);
    }
}
