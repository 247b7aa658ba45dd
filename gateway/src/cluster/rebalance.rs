//! Whether this node has far more clients than the others, and should let go of some.
//!
//! New nodes stay empty after a fleet has grown: connections live long, and nothing moves them. A node that is well above
//! the mean asks some of its clients to come again, slowly; whoever spreads connections sends them where there are few.

use std::time::Duration;

use super::{Cluster, Report};

/// How far above the mean of the fleet a node begins to let go, and how far it goes on.
const BEGIN_ABOVE: f64 = 1.2;
const END_ABOVE: f64 = 1.05;
/// Fewer than that above the mean are not worth moving.
const EXCESS_MIN: usize = 10;
/// Over how long what is too much is let go; what is left of it is looked at again with each heartbeat, so it ends slowly.
const SETTLING: Duration = Duration::from_secs(30);
/// Of the handshakes that the other nodes take, the share that moving may cause.
const SHARE: f64 = 0.1;

/// Whether a node is letting go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Balance {
    is_above: bool,
}

impl Balance {
    /// How many of its `clients` a node has too many beside `others`. None while any node drains, whose clients are on
    /// their way, or while one does not say how many it takes.
    fn excess(&mut self, clients: usize, others: &[Report]) -> usize {
        let is_settled = others.iter().all(|report| !report.is_draining && report.handshakes_per_second > 0);
        if others.is_empty() || !is_settled {
            *self = Self::default();
            return 0;
        }
        let all = clients + others.iter().map(|report| report.load.clients).sum::<usize>();
        let mean = all as f64 / (others.len() + 1) as f64;
        let (above, least) = if self.is_above { (END_ABOVE, 1) } else { (BEGIN_ABOVE, EXCESS_MIN) };
        let excess = (clients as f64 - mean).floor().max(0.0) as usize;
        self.is_above = clients as f64 > mean * above && excess >= least;
        if self.is_above { excess } else { 0 }
    }
}

/// How many of the `excess` are let go until the next look, after `interval`.
fn part(excess: usize, others: &[Report], interval: Duration) -> usize {
    let admitted: usize = others.iter().map(|report| report.handshakes_per_second).sum();
    let slowly = excess as f64 * interval.as_secs_f64() / SETTLING.as_secs_f64();
    let taken = SHARE * admitted as f64 * interval.as_secs_f64();
    (slowly.min(taken).ceil() as usize).min(excess)
}

impl Cluster {
    /// Lets go of some clients if this node has far more than the others, and nodes are to do so.
    pub(super) fn even_out(&self, balance: &mut Balance) {
        let Some(local) = self.local.upgrade().filter(|_| self.options.is_rebalancing) else { return };
        let others = self.others.read();
        let excess = if self.is_draining() { 0 } else { balance.excess(local.load().clients, &others) };
        self.metrics.rebalance_excess(excess);
        if excess > 0 {
            local.shed(part(excess, &others, self.options.heartbeat_interval));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::drain::tests::node;

    const INTERVAL: Duration = Duration::from_secs(3);

    #[test]
    fn a_node_lets_go_of_what_it_has_above_the_mean_until_it_is_near() {
        let mut balance = Balance::default();
        let others = [node(100, 1_000, false), node(0, 1_000, false)];
        assert_eq!(balance.excess(500, &others), 300);
        let others = [node(190, 1_000, false), node(180, 1_000, false)];
        assert_eq!(balance.excess(230, &others), 30, "it goes on once it has begun");
        assert_eq!(balance.excess(198, &others), 0);
        assert_eq!(balance.excess(230, &others), 0, "and begins only if it is well above");
    }

    #[test]
    fn little_is_not_worth_moving_and_who_has_less_lets_go_of_none() {
        let others = [node(2, 1_000, false), node(2, 1_000, false)];
        assert_eq!(Balance::default().excess(12, &others), 0);
        assert_eq!(Balance::default().excess(0, &others), 0);
        assert_eq!(Balance::default().excess(1_000, &[]), 0, "it is alone");
    }

    #[test]
    fn nothing_is_moved_while_a_node_drains() {
        let mut balance = Balance::default();
        assert_eq!(balance.excess(1_000, &[node(0, 1_000, false), node(10, 1_000, true)]), 0);
        assert_eq!(balance.excess(1_000, &[node(0, 0, false)]), 0, "one does not say what it takes");
        assert_eq!(balance.excess(1_000, &[node(0, 1_000, false)]), 500);
    }

    #[test]
    fn it_is_done_slowly_and_never_faster_than_others_take() {
        let others = [node(0, 1_000, false)];
        assert_eq!(part(300, &others, INTERVAL), 30);
        assert_eq!(part(5, &others, INTERVAL), 1);
        assert_eq!(part(100_000, &others, INTERVAL), 300);
    }
}
