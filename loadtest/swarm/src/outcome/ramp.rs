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
    /// Memory of the server in bytes before the first client; `None` if nobody looked.
    #[serde(default)]
    pub base_bytes: Option<f64>,
    /// What had nothing left when the first step broke, in words, if that is known.
    #[serde(default)]
    pub at_limit: Option<String>,
    /// In the order of their loads. Those that hold come before those that do not.
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
    /// How many connections there were at the end.
    #[serde(default)]
    pub connections: u64,
    /// How many deliveries there were.
    pub deliveries: u64,
    /// How long they took.
    pub delay: Distribution,
    /// How long connecting took, if anybody connected.
    #[serde(default = "Distribution::of_times")]
    pub connect: Distribution,
    /// Deliveries that did not come, came again, or came in disorder.
    #[serde(default)]
    pub lost: u64,
    /// Connects and API calls that failed, and connections that ended.
    #[serde(default)]
    pub errors: u64,
    /// Cores that the server used; `None` if nobody looked.
    pub server_cores: Option<f64>,
    /// Memory of the server at the end; `None` if nobody looked.
    pub server_bytes: Option<f64>,
    /// Cores that the load generator used.
    pub own_cores: f64,
    /// Why what is asked does not hold; `None` if it does.
    pub broken: Option<String>,
    /// Why nothing of this step can be held against the server; `None` if it can. The load generator was at its own limit.
    #[serde(default)]
    pub own_limit: Option<String>,
}

impl Ramp {
    /// The largest load at which everything held, if a larger one was seen to break: what the ramp was for. `None` if the
    /// first step broke, or none.
    pub fn knee(&self) -> Option<f64> {
        self.knee_step().map(|step| step.load)
    }

    /// The step of the [`knee`](Self::knee).
    pub fn knee_step(&self) -> Option<&Step> {
        let broken = self.first_broken()?;
        self.steps.iter().rfind(|step| step.load < broken.load && step.holds())
    }

    /// The least load at which the server did not do what is asked.
    pub fn first_broken(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.broken.is_some() && step.own_limit.is_none())
    }

    /// What the server's memory has grown by for each connection of a step, in bytes; `None` if nobody looked.
    pub fn server_bytes_per_connection(&self, step: &Step) -> Option<f64> {
        let grown = step.server_bytes? - self.base_bytes?;
        (step.connections > 0).then(|| grown.max(0.0) / step.connections as f64)
    }

    /// What several processes did to the server together: loads add up, step by step, and a step holds if it holds for
    /// all. Steps that not all of them played are left out, since less than the whole load was there.
    ///
    /// Steps are the same if each process had the same load. `processes` are how many are in this ramp and in the other.
    pub(super) fn add(&mut self, other: &Self, processes: (u32, u32)) {
        let (own, others) = (f64::from(processes.0), f64::from(processes.1));
        let mut both = Vec::new();
        for mut step in std::mem::take(&mut self.steps) {
            let is_same = |other: &&Step| other.load / others == step.load / own;
            if let Some(other) = other.steps.iter().find(is_same) {
                step.add(other);
                both.push(step);
            }
        }
        self.steps = both;
        self.base_bytes = larger(self.base_bytes, other.base_bytes);
        self.at_limit = smaller(self.at_limit.take(), other.at_limit.clone());
    }
}

impl Step {
    /// Whether the server did what is asked, and could be seen to.
    pub fn holds(&self) -> bool {
        self.broken.is_none() && self.own_limit.is_none()
    }

    /// What came of it, in words.
    pub fn verdict(&self) -> String {
        match (&self.own_limit, &self.broken) {
            (Some(_), _) => "swarm was at its own limit".to_owned(),
            (None, Some(why)) => why.clone(),
            (None, None) => "holds".to_owned(),
        }
    }

    /// CPU time of the server for each delivery, in microseconds; `None` if nobody looked, or nothing was delivered.
    pub fn server_micros_per_delivery(&self) -> Option<f64> {
        let used = self.server_cores? * self.seconds * 1e6;
        (self.deliveries > 0).then(|| used / self.deliveries as f64)
    }

    fn add(&mut self, other: &Self) {
        self.load += other.load;
        self.seconds = self.seconds.max(other.seconds);
        self.connections = self.connections.saturating_add(other.connections);
        self.deliveries = self.deliveries.saturating_add(other.deliveries);
        self.delay.add(&other.delay);
        self.connect.add(&other.connect);
        self.lost = self.lost.saturating_add(other.lost);
        self.errors = self.errors.saturating_add(other.errors);
        self.server_cores = larger(self.server_cores, other.server_cores);
        self.server_bytes = larger(self.server_bytes, other.server_bytes);
        self.own_cores += other.own_cores;
        // Any of the reasons will do, but always the same one, in whichever order processes are merged.
        self.broken = smaller(self.broken.take(), other.broken.clone());
        self.own_limit = smaller(self.own_limit.take(), other.own_limit.clone());
    }
}

fn smaller(left: Option<String>, right: Option<String>) -> Option<String> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (one, other) => one.or(other),
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
            connections: 100,
            deliveries: delay.len(),
            delay,
            connect: Distribution::of_times(),
            lost: 0,
            errors: 0,
            server_cores: Some(load / 1e4),
            server_bytes: None,
            own_cores: 0.1,
            broken: broken.map(Into::into),
            own_limit: None,
        }
    }

    pub(crate) fn ramp(steps: Vec<Step>) -> Ramp {
        Ramp {
            unit: "clients".into(),
            asked: "p99 at most 50 ms".into(),
            delay_limit: None,
            base_bytes: None,
            at_limit: None,
            steps,
        }
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
    fn a_step_at_the_limit_of_swarm_is_no_knee_and_breaks_nothing() {
        let own_limit = Some("busy".to_owned());
        let busy = Step { own_limit, ..step(3.0, &[9], Some("slow")) };
        let ramp = ramp(vec![step(1.0, &[1], None), busy.clone()]);
        assert_eq!((ramp.knee(), ramp.first_broken()), (None, None));
        assert!(!busy.holds() && busy.verdict().contains("swarm"));
    }

    #[test]
    fn steps_of_several_processes_add_up_while_all_play() {
        let mut left =
            ramp(vec![step(1.0, &[1], None), step(1.5, &[1], None), step(2.0, &[3], Some("slow"))]);
        let right = ramp(vec![step(1.0, &[2], None), step(2.0, &[4], None), step(3.0, &[5], Some("late"))]);
        left.add(&right, (1, 1));
        assert_eq!(left.steps.iter().map(|step| step.load).collect::<Vec<_>>(), [2.0, 4.0]);
        assert_eq!(left.steps[1].deliveries, 2);
        assert_eq!(left.knee(), Some(2.0));
        assert_eq!(left.steps[1].broken.as_deref(), Some("slow"));
        left.add(&right, (2, 1));
        assert_eq!(left.steps.iter().map(|step| step.load).collect::<Vec<_>>(), [3.0, 6.0]);
    }
}
