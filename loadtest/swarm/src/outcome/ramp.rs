//! The steps of a play that ramps until something asked for does not hold any more.

use serde::{Deserialize, Serialize};

use super::distribution::Distribution;

/// Steps of growing load, and what is asked of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ramp {
    /// What grows: `clients`, `publications/s`.
    pub unit: String,
    /// What is asked, in words: `p99 delay at most 50 ms, nothing lost`.
    pub asked: String,
    /// The delay that must not be exceeded, in milliseconds, and at which quantile, if that is asked: drawn as a line.
    pub delay_limit: Option<DelayLimit>,
    /// In the order in which they were played; at most the last one does not hold.
    pub steps: Vec<Step>,
}

/// A limit of a quantile of the delay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DelayLimit {
    /// From 0 to 1.
    pub quantile: f64,
    /// At most so much.
    pub milliseconds: f64,
}

/// One load, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// How much, in the unit of the ramp.
    pub load: f64,
    /// How long it was held, in seconds.
    pub seconds: f64,
    /// How many deliveries there were.
    pub deliveries: u64,
    /// How long they took.
    pub delay: Distribution,
    /// Cores that the server used; `None` if nobody looked.
    pub server_cores: Option<f64>,
    /// Memory of the server at the end; `None` if nobody looked.
    pub server_bytes: Option<f64>,
    /// Cores that the load generator used.
    pub own_cores: f64,
    /// Why what is asked does not hold; `None` if it does.
    pub broken: Option<String>,
}

impl Ramp {
    /// The largest load at which everything held, if a larger one was seen to break: what the ramp was for. `None` if the
    /// first step broke, or none.
    pub fn knee(&self) -> Option<f64> {
        let broken = self.steps.iter().position(|step| step.broken.is_some())?;
        self.steps[..broken].last().map(|step| step.load)
    }

    /// What several processes did to the server together: loads add up, step by step, and a step holds if it holds for
    /// all. Steps that not all of them played are left out, since less than the whole load was there.
    pub(super) fn add(&mut self, other: &Self) {
        self.steps.truncate(other.steps.len());
        for (step, other) in self.steps.iter_mut().zip(&other.steps) {
            step.add(other);
        }
    }
}

impl Step {
    fn add(&mut self, other: &Self) {
        self.load += other.load;
        self.seconds = self.seconds.max(other.seconds);
        self.deliveries += other.deliveries;
        self.delay.add(&other.delay);
        self.server_cores = larger(self.server_cores, other.server_cores);
        self.server_bytes = larger(self.server_bytes, other.server_bytes);
        self.own_cores += other.own_cores;
        // Any of the reasons will do, but always the same one, in whichever order processes are merged.
        self.broken = match (self.broken.take(), other.broken.clone()) {
            (Some(left), Some(right)) => Some(left.min(right)),
            (one, other) => one.or(other),
        };
    }
}

fn larger(left: Option<f64>, right: Option<f64>) -> Option<f64> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.max(right)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn step(load: f64, millis: &[u64], broken: Option<&str>) -> Step {
        let mut delay = Distribution::of_times();
        millis.iter().for_each(|millis| delay.record(millis * 1000));
        Step {
            load,
            seconds: 5.0,
            deliveries: delay.len(),
            delay,
            server_cores: Some(load / 1e4),
            server_bytes: None,
            own_cores: 0.1,
            broken: broken.map(Into::into),
        }
    }

    pub(crate) fn ramp(steps: Vec<Step>) -> Ramp {
        Ramp { unit: "clients".into(), asked: "p99 at most 50 ms".into(), delay_limit: None, steps }
    }

    #[test]
    fn the_knee_is_before_what_breaks() {
        let holds = |load| step(load, &[1], None);
        assert_eq!(ramp(vec![holds(1.0), holds(2.0), step(3.0, &[9], Some("slow"))]).knee(), Some(2.0));
        assert_eq!(ramp(vec![holds(1.0), holds(2.0)]).knee(), None, "it may hold more");
        assert_eq!(ramp(vec![step(1.0, &[9], Some("slow"))]).knee(), None);
        assert_eq!(ramp(vec![]).knee(), None);
    }

    #[test]
    fn steps_of_several_processes_add_up_while_all_play() {
        let mut left = ramp(vec![step(1.0, &[1], None), step(2.0, &[3], Some("slow"))]);
        left.add(&ramp(vec![step(1.0, &[2], None), step(2.0, &[4], None), step(3.0, &[5], Some("late"))]));
        assert_eq!(left.steps.len(), 2);
        assert_eq!((left.steps[1].load, left.steps[1].deliveries), (4.0, 2));
        assert_eq!(left.knee(), Some(2.0));
        assert_eq!(left.steps[1].broken.as_deref(), Some("slow"));
    }
}
