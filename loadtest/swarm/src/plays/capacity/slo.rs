//! What is asked of a server at each load: objectives, and whether they hold.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, bail};

use crate::outcome::distribution::{Distribution, micros};

/// One objective: `p99=50ms`, `connect_p99=1s`, `loss=0`, `errors=0`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slo {
    /// Of all deliveries, this share takes at most so long. What did not come at all took longer.
    Delay(Share, Duration),
    /// Of all connects, likewise.
    Connect(Share, Duration),
    /// At most so many publications are lost, repeated or out of order.
    Loss(u64),
    /// At most so many connects and API calls fail, and connections end.
    Errors(u64),
}

/// What was measured at a load.
#[derive(Clone, Debug)]
pub struct Measured {
    /// How long deliveries took.
    pub delay: Distribution,
    /// How long connecting took.
    pub connect: Distribution,
    /// Deliveries that did not come.
    pub missing: u64,
    /// Publications that came again or in disorder.
    pub faults: u64,
    /// What failed.
    pub errors: u64,
}

/// A share of all, as `p99` names it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(&'static str, f64);

const SHARES: [Share; 6] = [
    Share("p50", 0.5),
    Share("p90", 0.9),
    Share("p95", 0.95),
    Share("p99", 0.99),
    Share("p999", 0.999),
    Share("max", 1.0),
];

impl Share {
    /// From 0 to 1.
    pub fn quantile(self) -> f64 {
        self.1
    }
}

impl Slo {
    /// Why it does not hold; `None` if it does. Where nothing was to take time, nothing took too long.
    pub fn broken(&self, measured: &Measured) -> Option<String> {
        match *self {
            Self::Delay(share, most) => too_long("delay", share, most, &measured.delay, measured.missing),
            Self::Connect(share, most) => too_long("connect time", share, most, &measured.connect, 0),
            Self::Loss(most) => {
                too_many("deliveries lost or in disorder", measured.missing + measured.faults, most)
            }
            Self::Errors(most) => too_many("errors", measured.errors, most),
        }
    }
}

fn too_long(
    what: &str,
    Share(name, quantile): Share,
    most: Duration,
    times: &Distribution,
    missing: u64,
) -> Option<String> {
    if times.is_empty() && missing == 0 {
        return None;
    }
    // What did not come is at the far end.
    let of_those_there = quantile * (times.len() + missing) as f64 / times.len() as f64;
    if of_those_there > 1.0 {
        return Some(format!("{what} {name} is beyond measure: {missing} did not come"));
    }
    let value = times.quantile(of_those_there);
    (value > micros(most)).then(|| {
        let value = value as f64 / 1e3;
        format!("{what} {name} was {value:.1} ms, above {}", humantime::format_duration(most))
    })
}

fn too_many(what: &str, count: u64, most: u64) -> Option<String> {
    (count > most).then(|| format!("{count} {what}"))
}

impl FromStr for Slo {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, value) =
            text.split_once('=').context("an objective is written name=value, such as p99=50ms")?;
        let count = || value.parse().with_context(|| format!("{name}={value}: it is no count"));
        let time = || {
            let time = humantime::parse_duration(value);
            time.with_context(|| format!("{name}={value}: it is no time, such as 50ms"))
        };
        let share = |name: &str| SHARES.into_iter().find(|share| share.0 == name);
        match (name, name.strip_prefix("connect_")) {
            ("loss", _) => Ok(Self::Loss(count()?)),
            ("errors", _) => Ok(Self::Errors(count()?)),
            (_, Some(of)) if share(of).is_some() => {
                Ok(Self::Connect(share(of).expect("it was just found"), time()?))
            }
            (of, None) if share(of).is_some() => {
                Ok(Self::Delay(share(of).expect("it was just found"), time()?))
            }
            _ => bail!(
                "{name} is no objective: take p50, p90, p95, p99, p999 or max, with connect_ before it or not, loss, or errors"
            ),
        }
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delay(Share(name, _), most) => {
                write!(formatter, "delay {name} at most {}", humantime::format_duration(*most))
            }
            Self::Connect(Share(name, _), most) => {
                write!(formatter, "connect time {name} at most {}", humantime::format_duration(*most))
            }
            Self::Loss(0) => write!(formatter, "nothing lost"),
            Self::Loss(most) => write!(formatter, "at most {most} lost"),
            Self::Errors(0) => write!(formatter, "no errors"),
            Self::Errors(most) => write!(formatter, "at most {most} errors"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(millis: impl IntoIterator<Item = u64>) -> Distribution {
        let mut times = Distribution::of_times();
        millis.into_iter().for_each(|millis| times.record(millis * 1000));
        times
    }

    fn measured() -> Measured {
        Measured { delay: times(1..=100), connect: times([]), missing: 0, faults: 0, errors: 0 }
    }

    fn slo(text: &str) -> Slo {
        text.parse().unwrap()
    }

    #[test]
    fn objectives_are_read_and_written() {
        for (text, words) in [
            ("p99=50ms", "delay p99 at most 50ms"),
            ("max=1s", "delay max at most 1s"),
            ("connect_p50=2s", "connect time p50 at most 2s"),
            ("loss=0", "nothing lost"),
            ("errors=3", "at most 3 errors"),
        ] {
            assert_eq!(slo(text).to_string(), words);
        }
        for (text, word) in [
            ("p99", "name=value"),
            ("p98=1s", "p98"),
            ("connect_p98=1s", "connect_p98"),
            ("connect_loss=0", "connect_loss"),
            ("p99=fast", "p99=fast"),
            ("loss=-1", "loss=-1"),
            ("=", "no objective"),
        ] {
            let error = format!("{:#}", text.parse::<Slo>().unwrap_err());
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn what_holds_is_told_from_what_does_not() {
        assert_eq!(slo("p99=100ms").broken(&measured()), None);
        let why = slo("p99=50ms").broken(&measured()).unwrap();
        assert!(why.contains("p99 was 99.0 ms") && why.contains("above 50ms"), "{why}");
        assert_eq!(slo("connect_p99=1ms").broken(&measured()), None, "nobody connected");
        let faulty = Measured { missing: 1, faults: 2, errors: 4, ..measured() };
        assert_eq!(slo("loss=3").broken(&faulty), None);
        assert_eq!(slo("loss=2").broken(&faulty).unwrap(), "3 deliveries lost or in disorder");
        assert_eq!(slo("errors=0").broken(&faulty).unwrap(), "4 errors");
    }

    #[test]
    fn what_did_not_come_took_longer_than_anything() {
        // Half of 125 are 63.
        let some = Measured { missing: 25, ..measured() };
        assert_eq!(slo("p50=64ms").broken(&some), None);
        assert!(slo("p50=60ms").broken(&some).is_some());
        assert!(slo("p99=1h").broken(&some).unwrap().contains("25 did not come"));
        let none = Measured { delay: times([]), missing: 1, ..measured() };
        assert!(slo("p50=1h").broken(&none).is_some());
    }
}
