//! How values are distributed, exactly enough for any percentile, and small in a file.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as HdrReader, Serializer as _, V2DeflateSerializer};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Of whole distributions: 0.1 % of any value.
const DIGITS: u8 = 3;

/// Values of one kind and how often each occurred. The same values give the same distribution, in whichever order and by
/// whichever processes they were recorded.
///
/// In JSON it is its percentiles, for who reads, and an HDR histogram (V2, deflated, base64), which alone is read again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Of the values. `µs` for times, by convention.
    pub unit: String,
    #[serde(flatten, serialize_with = "write", deserialize_with = "read")]
    histogram: Histogram<u64>,
}

impl Distribution {
    /// Of no values yet.
    pub fn new(unit: impl Into<String>) -> Self {
        Self { unit: unit.into(), histogram: empty(DIGITS) }
    }

    /// Of times, in microseconds.
    pub fn of_times() -> Self {
        Self::new("µs")
    }

    /// One more value.
    pub fn record(&mut self, value: u64) {
        record(&mut self.histogram, value);
    }

    /// One more time, in a distribution of times.
    pub fn record_time(&mut self, time: Duration) {
        self.record(micros(time));
    }

    /// All values of another one of the same unit.
    pub fn add(&mut self, other: &Self) {
        add(&mut self.histogram, &other.histogram);
    }

    /// What was recorded after `earlier`, which was this distribution once.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut later = self.clone();
        later.histogram.subtract(&earlier.histogram).expect("what was recorded once is still there");
        later
    }

    /// The value that this share of values (0 to 1) does not exceed; 0 if there are none.
    pub fn quantile(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile)
    }

    /// The largest value.
    pub fn max(&self) -> u64 {
        self.histogram.max()
    }

    /// How many values there are.
    pub fn len(&self) -> u64 {
        self.histogram.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }
}

/// Whole microseconds of a time.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A histogram that takes any value.
pub(super) fn empty(digits: u8) -> Histogram<u64> {
    Histogram::new(digits).expect("1 to 5 digits are a possible precision")
}

/// One more value. (`saturating_record` would not resize it, and make everything large a little number.)
pub(super) fn record(histogram: &mut Histogram<u64>, value: u64) {
    histogram.record(value).expect("a histogram that resizes itself takes every value");
}

pub(super) fn add(to: &mut Histogram<u64>, from: &Histogram<u64>) {
    to.add(from).expect("a histogram that resizes itself takes every value");
}

/// What is written of a histogram. Only `hdr` is read.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(skip_deserializing)]
    count: u64,
    #[serde(skip_deserializing)]
    min: u64,
    #[serde(skip_deserializing)]
    p50: u64,
    #[serde(skip_deserializing)]
    p90: u64,
    #[serde(skip_deserializing)]
    p99: u64,
    #[serde(skip_deserializing)]
    p999: u64,
    #[serde(skip_deserializing)]
    max: u64,
    hdr: String,
}

pub(super) fn write<S: Serializer>(histogram: &Histogram<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).map_err(S::Error::custom)?;
    let written = Written {
        count: histogram.len(),
        min: histogram.min(),
        p50: histogram.value_at_quantile(0.5),
        p90: histogram.value_at_quantile(0.9),
        p99: histogram.value_at_quantile(0.99),
        p999: histogram.value_at_quantile(0.999),
        max: histogram.max(),
        hdr: BASE64_STANDARD.encode(bytes),
    };
    written.serialize(serializer)
}

pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Histogram<u64>, D::Error> {
    let Written { hdr, .. } = Written::deserialize(deserializer)?;
    let bytes = BASE64_STANDARD.decode(hdr).map_err(|error| D::Error::custom(format!("hdr: {error}")))?;
    let mut histogram: Histogram<u64> = HdrReader::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| D::Error::custom(format!("hdr is no histogram: {error}")))?;
    histogram.auto(true);
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_after_json_and_still_takes_larger_values() {
        let mut distribution = Distribution::of_times();
        for value in [0, 1, 999, 1000, 123_456, 9_876_543_210] {
            distribution.record(value);
        }
        let json = serde_json::to_string(&distribution).unwrap();
        let mut again: Distribution = serde_json::from_str(&json).unwrap();
        assert_eq!(again, distribution);
        again.record(u64::MAX / 4);
        assert_eq!((again.len(), distribution.len()), (7, 6));
    }

    #[test]
    fn values_of_any_size_are_kept_to_a_thousandth() {
        for value in [0, 3, 3000, 90_000, 9_876_543_210, u64::MAX] {
            let mut distribution = Distribution::of_times();
            distribution.record(value);
            let off = distribution.max().abs_diff(value);
            assert!(off <= value / 1000, "{value}: {}", distribution.max());
        }
    }

    #[test]
    fn what_came_later_is_told_apart() {
        let mut distribution = Distribution::of_times();
        (1..=1000).for_each(|value| distribution.record(value));
        let earlier = distribution.clone();
        [5_000, 6_000].into_iter().for_each(|value| distribution.record(value));
        let later = distribution.since(&earlier);
        assert_eq!((later.len(), later.quantile(0.0) / 100, later.max() / 100), (2, 50, 60));
        assert!(distribution.since(&distribution).is_empty());
    }

    #[test]
    fn json_has_percentiles_for_who_reads() {
        let mut distribution = Distribution::of_times();
        (1..=1000).for_each(|value| distribution.record(value));
        let json = serde_json::to_value(&distribution).unwrap();
        assert_eq!((json["unit"].as_str(), json["count"].as_u64()), (Some("µs"), Some(1000)));
        assert_eq!((json["p50"].as_u64(), json["p999"].as_u64()), (Some(500), Some(999)));
    }

    #[test]
    fn a_million_values_are_a_few_thousand_bytes() {
        let mut distribution = Distribution::of_times();
        (0..1_000_000_u64).for_each(|value| distribution.record(value.pow(2) % 5_000_003));
        let bytes = serde_json::to_string(&distribution).unwrap().len();
        assert!(bytes < 16_000, "{bytes}");
    }

    #[test]
    fn what_is_no_histogram_is_said() {
        for (hdr, word) in [("***", "hdr"), ("AAAA", "no histogram"), ("", "no histogram")] {
            let json = format!(r#"{{"unit":"µs","hdr":"{hdr}"}}"#);
            let error = serde_json::from_str::<Distribution>(&json).unwrap_err().to_string();
            assert!(error.contains(word), "{hdr}: {error}");
        }
    }
}
