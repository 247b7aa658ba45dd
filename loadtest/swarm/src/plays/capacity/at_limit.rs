//! What was at its limit while a load was held: the server, this process, or the machine of both.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::load::process::{Cpu, Meter};
use crate::plays::Run;

/// A thread that is on a CPU, or waits for one, for more than this share of the time is at its limit.
pub const SATURATED: f64 = 0.9;

/// What was used until a load began.
pub(super) struct Usage {
    at: Duration,
    server: Option<Cpu>,
    own: Cpu,
}

/// What was used while it was held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    /// How long that was.
    pub(super) time: Duration,
    /// CPU time of the server, and how long its busiest thread had work to do; `None` if nobody looks.
    server: Option<[Duration; 2]>,
    /// The same of this process.
    own: [Duration; 2],
}

impl Usage {
    pub(super) fn begin(run: &Run) -> Result<Self> {
        let server = (!run.server.is_empty()).then(|| run.server.cpu()).transpose()?;
        Ok(Self { at: run.load.clock().now(), server, own: Meter::own().cpu()? })
    }

    pub(super) fn end(self, run: &Run) -> Result<Used> {
        let now = Self::begin(run)?;
        let used = |after: &Cpu, before: &Cpu| [after.since(before), after.busy(before)];
        let server = now.server.as_ref().zip(self.server.as_ref()).map(|(after, before)| used(after, before));
        Ok(Used { time: now.at - self.at, server, own: used(&now.own, &self.own) })
    }
}

impl Used {
    /// How many cores the server used; `None` if nobody looks.
    pub(super) fn server_cores(&self) -> Option<f64> {
        self.server.map(|[all, _]| self.share(all))
    }

    /// How many cores this process used.
    pub(super) fn own_cores(&self) -> f64 {
        self.share(self.own[0])
    }

    /// Why nothing that was measured can be held against the server, if a thread of this process had work to do for more
    /// than `most` of the time.
    pub(super) fn own_limit(&self, most: f64) -> Option<String> {
        let busiest = self.share(self.own[1]);
        (busiest > most).then(|| {
            format!(
                "a thread of swarm was on a CPU, or waited for one, for {:.0} % of the time",
                busiest * 100.0
            )
        })
    }

    /// What had nothing left, in words; `None` if nobody knows.
    pub(super) fn at_limit(&self) -> Option<String> {
        self.at_limit_of(thread::available_parallelism().map_or(1, usize::from))
    }

    fn at_limit_of(&self, cpus: usize) -> Option<String> {
        let [all, busiest] = self.server.map(|used| used.map(|time| self.share(time)))?;
        let own = self.own_cores();
        Some(if all + own > 0.95 * cpus as f64 {
            format!("the machine: of its {cpus} CPUs the server used {all:.2} and swarm {own:.2}")
        } else if busiest > SATURATED {
            format!(
                "a thread of the server, on a CPU or waiting for one for {:.0} % of the time",
                busiest * 100.0
            )
        } else {
            format!(
                "nothing that is seen from here: the server used {all:.2} cores of {cpus}, and its busiest thread had work for {:.0} % of the time",
                busiest * 100.0
            )
        })
    }

    fn share(&self, time: Duration) -> f64 {
        time.as_secs_f64() / self.time.as_secs_f64().max(1e-3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(server: Option<[u64; 2]>, own: [u64; 2]) -> Used {
        let millis = |used: [u64; 2]| used.map(Duration::from_millis);
        Used { time: Duration::from_secs(1), server: server.map(millis), own: millis(own) }
    }

    #[test]
    fn a_busy_swarm_is_never_the_servers_limit() {
        assert!(used(Some([100, 100]), [950, 920]).own_limit(SATURATED).unwrap().contains("92 %"));
        assert_eq!(used(Some([950, 950]), [950, 500]).own_limit(SATURATED), None);
    }

    #[test]
    fn what_is_at_its_limit_is_named() {
        let words = |server, own| used(server, own).at_limit_of(2).unwrap();
        assert!(words(Some([1500, 800]), [450, 400]).contains("machine"));
        assert!(words(Some([1000, 950]), [100, 100]).contains("a thread of the server"));
        assert!(words(Some([10, 10]), [100, 100]).contains("nothing that is seen"));
        assert_eq!(used(None, [100, 100]).at_limit_of(2), None);
    }
}
