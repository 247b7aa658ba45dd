//! What there is to say in numbers, and of what each number is made.

use serde::{Deserialize, Serialize};

/// A number that a run is summed up by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is, in words that stand alone: `CPU of the server per delivery`.
    pub name: String,
    /// Of its value; empty for plain numbers.
    pub unit: String,
    /// Its value, as [`super::Outcome::compute`] left it; `None` if there is nothing to compute it of.
    pub value: Option<f64>,
    /// What it should be, if that is known.
    pub reach: Option<Reach>,
    /// What it is made of.
    pub from: Source,
}

impl Figure {
    /// A figure without a reach, which [`super::Outcome::compute`] gives its value.
    pub fn new(name: impl Into<String>, unit: impl Into<String>, from: Source) -> Self {
        Self { name: name.into(), unit: unit.into(), value: None, reach: None, from }
    }

    /// The same with a reach.
    #[must_use]
    pub fn reaching(self, reach: Reach) -> Self {
        Self { reach: Some(reach), ..self }
    }

    /// Whether it is as it should be; `None` if nothing is asked. What was not measured does not reach anything.
    pub fn is_met(&self) -> Option<bool> {
        let reach = self.reach?;
        Some(self.value.is_some_and(|value| reach.is_met(value)))
    }
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Reach {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

/// What a figure is made of, so that the figure of several processes is computed and not averaged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A count of the outcome.
    Count {
        /// Its name.
        of: String,
    },
    /// A quantile of a distribution of the outcome.
    Quantile {
        /// Its name.
        of: String,
        /// From 0 to 1.
        quantile: f64,
        /// How many units of the distribution make one of the figure: 1000 for milliseconds of microseconds.
        divisor: f64,
    },
    /// One quantity by another, in the unit of the figure. No value if the denominator is 0.
    Quotient {
        /// Above the line.
        numerator: Quantity,
        /// Below it.
        denominator: Quantity,
    },
    /// A quantity as it is.
    Quantity(Quantity),
    /// The knee of the ramp.
    Knee,
}

/// Something measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantity {
    /// How much.
    pub value: f64,
    /// What it is for several processes.
    pub merged: Rule,
}

impl Quantity {
    /// Something that each process has for itself, such as its deliveries.
    pub fn own(value: f64) -> Self {
        Self { value, merged: Rule::Sum }
    }

    /// Something that all processes see, such as the CPU that the server used for all of them.
    pub fn shared(value: f64) -> Self {
        Self { value, merged: Rule::Max }
    }
}

/// What becomes of the values of several processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// They add up.
    Sum,
    /// They are views of the same thing, or the worst of them counts.
    Max,
}

impl Rule {
    /// The value of both together.
    pub fn merge(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Sum => left + right,
            Self::Max => left.max(right),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_reaches_nothing() {
        let figure = |value, reach| Figure { value, reach, ..Figure::new("a", "", Source::Knee) };
        assert_eq!(figure(Some(2.0), Some(Reach::AtMost(2.0))).is_met(), Some(true));
        assert_eq!(figure(Some(2.1), Some(Reach::AtMost(2.0))).is_met(), Some(false));
        assert_eq!(figure(Some(2.1), Some(Reach::AtLeast(2.0))).is_met(), Some(true));
        assert_eq!(figure(None, Some(Reach::AtMost(2.0))).is_met(), Some(false));
        assert_eq!(figure(None, None).is_met(), None);
    }
}
