//! What a node that drains owes the others: it must not send them more clients than they take.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Cluster, Report};

/// Of the handshakes that the other nodes take, the share that drains may cause. The rest is for who comes anyway, and
/// for who has to come twice.
const SHARE: f64 = 0.8;
/// How long a look at the others may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

impl Cluster {
    /// Tells the others that this node stops: they send it nobody, and those that drain as well leave it its share.
    pub fn begin_draining(&self) {
        self.is_draining.store(true, Ordering::Release);
        self.pulse.notify_one();
    }

    /// Whether this node was told to stop.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Hears how the others are now rather than with the next heartbeat. Without an answer within a second what they
    /// said last counts.
    pub async fn look(&self) {
        let beaten = self.beaten.notified();
        tokio::pin!(beaten);
        // Before the beat begins, so that its end is not missed.
        beaten.as_mut().enable();
        self.pulse.notify_one();
        let _in_time = tokio::time::timeout(LOOK_TIMEOUT, beaten).await;
    }

    /// How many connections this node may close in a second while it has so many `clients`: its share of what the nodes
    /// take that stay, as far as it knows. `None`: as many as it likes, since nobody stays or they do not say.
    pub fn closes_per_second(&self, clients: usize) -> Option<f64> {
        share(clients, &self.others.read())
    }
}

/// The part of what the nodes admit that stay which falls to one that drains with `clients`, beside those of `others`
/// that drain too: in proportion to what each has left, so that all end together.
fn share(clients: usize, others: &[Report]) -> Option<f64> {
    let (draining, staying): (Vec<_>, Vec<_>) = others.iter().partition(|report| report.is_draining);
    if staying.is_empty() || staying.iter().any(|report| report.handshakes_per_second == 0) {
        return None;
    }
    let admitted: usize = staying.iter().map(|report| report.handshakes_per_second).sum();
    let leaving: usize = draining.iter().map(|report| report.load.clients).sum();
    let clients = clients.max(1) as f64;
    Some(SHARE * admitted as f64 * clients / (clients + leaving as f64))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cluster::Load;
    use crate::model::{NodeEpoch, NodeId};

    pub(in crate::cluster) fn node(
        clients: usize,
        handshakes_per_second: usize,
        is_draining: bool,
    ) -> Report {
        Report {
            id: NodeId::random(),
            epoch: NodeEpoch::random(),
            name: "node".into(),
            release: "1".into(),
            address: String::new(),
            uptime: Duration::ZERO,
            load: Load { clients, ..Load::default() },
            process: None,
            is_draining,
            handshakes_per_second,
        }
    }

    #[test]
    fn who_drains_alone_may_cause_most_of_what_the_others_take() {
        assert_eq!(share(500, &[node(9, 100, false), node(9, 150, false)]), Some(200.0));
    }

    #[test]
    fn who_drain_together_share_what_those_take_that_stay() {
        let stays = node(9, 100, false);
        let shares = [(300, 100), (100, 300)].map(|(mine, theirs)| {
            share(mine, &[stays.clone(), node(theirs, 100, true)]).expect("somebody stays")
        });
        assert_eq!(shares, [60.0, 20.0]);
        assert!(share(0, &[stays, node(0, 100, true)]).is_some_and(f64::is_normal));
    }

    #[test]
    fn without_anybody_who_stays_and_says_what_it_takes_there_is_no_limit() {
        assert_eq!(share(500, &[]), None);
        assert_eq!(share(500, &[node(9, 100, true)]), None);
        assert_eq!(share(500, &[node(9, 100, false), node(9, 0, false)]), None);
    }
}
