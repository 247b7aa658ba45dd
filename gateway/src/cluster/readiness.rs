//! Whether new clients should come to this node, as far as the broker is concerned.
//!
//! A node that hears nothing cannot tell whether the broker is gone or it is cut off. If the broker is gone, turning
//! clients away helps nobody; so it asks other nodes, and goes out of rotation only if one of them hears.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Cluster, peers};
use crate::redis::Hearing;

/// How long a node may hear nothing before it asks others.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two questions, as long as nobody else hears either.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// How long it must hear again before clients come back to it.
const PROOF: Duration = Duration::from_secs(2);

/// The state; what it is told decides, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    /// It has heard nothing since it started.
    NotYet,
    /// Ready, and hears.
    Hearing,
    /// Ready, and has not heard anything since the first time; at the second it asks.
    Deaf { since: Instant, ask_at: Instant },
    /// Not ready; `None`: and hears nothing.
    Out { heard_since: Option<Instant> },
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing, until what it hears changes, or this time.
    Wait(Option<Instant>),
    /// Ask the others whether they hear.
    Ask,
}

impl Readiness {
    fn is_ready(self) -> bool {
        matches!(self, Self::Hearing | Self::Deaf { .. })
    }

    /// It is `now`, and this is what it hears.
    fn look(&mut self, hearing: Hearing, now: Instant) -> Step {
        *self = match (*self, hearing) {
            (state, Hearing::NotYet) => state,
            (Self::NotYet | Self::Hearing | Self::Deaf { .. }, Hearing::Heard) => Self::Hearing,
            (Self::Out { heard_since }, Hearing::Heard) => match heard_since {
                Some(since) if now >= since + PROOF => Self::Hearing,
                since => Self::Out { heard_since: Some(since.unwrap_or(now)) },
            },
            (Self::NotYet, _) => Self::NotYet,
            // Somebody has to act, here: others do not matter.
            (_, Hearing::Refused(_)) | (Self::Out { .. }, Hearing::Deaf) => Self::Out { heard_since: None },
            (Self::Hearing, Hearing::Deaf) => Self::Deaf { since: now, ask_at: now + PATIENCE },
            (Self::Deaf { since, ask_at }, Hearing::Deaf) => Self::Deaf { since, ask_at },
        };
        match *self {
            Self::Deaf { ask_at, .. } if now >= ask_at => Step::Ask,
            Self::Deaf { ask_at, .. } => Step::Wait(Some(ask_at)),
            Self::Out { heard_since: Some(since) } => Step::Wait(Some(since + PROOF)),
            Self::NotYet | Self::Hearing | Self::Out { .. } => Step::Wait(None),
        }
    }

    /// It asked, and this is whether one of the others hears.
    fn hear_others(&mut self, one_hears: bool, now: Instant) {
        if let Self::Deaf { since, .. } = *self {
            *self = if one_hears {
                Self::Out { heard_since: None }
            } else {
                Self::Deaf { since, ask_at: now + ASK_AGAIN }
            };
        }
    }
}

impl Cluster {
    /// Whether new clients should come to this node, as far as the broker is concerned.
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// Whether this node hears its broker now.
    pub fn hears_broker(&self) -> bool {
        self.options.hearing.as_ref().is_none_or(|hearing| hearing.borrow().is_heard())
    }

    /// Watches what this node hears, as long as it lives.
    pub(super) fn spawn_readiness(self: &Arc<Self>) {
        if let Some(hearing) = self.options.hearing.clone() {
            self.backbone.spawn(watch_over(Arc::downgrade(self), hearing));
        }
    }

    /// Where other nodes can be asked. What is at the address of this one is this one, whoever was there before.
    pub(super) fn addresses_of_others(&self) -> Vec<String> {
        let others = self.others().into_iter().map(|report| report.address);
        others.filter(|address| !address.is_empty() && self.address.get() != Some(address)).collect()
    }

    /// What was revoked may have been said while nothing was heard, and kept nowhere.
    fn hears_again(&self) {
        self.is_behind.store(true, Ordering::Release);
        self.hurry.notify_one();
    }

    fn set_ready(&self, is_ready: bool) {
        match (self.is_ready.swap(is_ready, Ordering::AcqRel), is_ready) {
            (true, false) => tracing::warn!("not ready: other nodes hear the broker, or it refuses this one"),
            (false, true) => tracing::info!("ready: the broker is heard"),
            _ => {}
        }
    }
}

async fn watch_over(cluster: Weak<Cluster>, mut hearing: watch::Receiver<Hearing>) {
    let mut readiness = Readiness::NotYet;
    let mut was_deaf = false;
    loop {
        let heard = *hearing.borrow_and_update();
        let step = readiness.look(heard, Instant::now());
        let Some(cluster) = cluster.upgrade() else { return };
        cluster.set_ready(readiness.is_ready());
        if std::mem::replace(&mut was_deaf, !heard.is_heard()) && heard.is_heard() {
            cluster.hears_again();
        }
        match step {
            Step::Ask => {
                let others = cluster.addresses_of_others();
                let one_hears = peers::one_hears(others, cluster.options.tls.as_ref()).await;
                readiness.hear_others(one_hears, Instant::now());
                cluster.set_ready(readiness.is_ready());
            }
            Step::Wait(until) => {
                drop(cluster);
                let time = async {
                    match until {
                        Some(until) => tokio::time::sleep_until(until).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    changed = hearing.changed() => if changed.is_err() { return },
                    () = time => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::Refusal;

    const SECOND: Duration = Duration::from_secs(1);
    const REFUSED: Hearing = Hearing::Refused(Refusal::Credentials);

    /// A state that hears, at a time to count from.
    fn hearing() -> (Readiness, Instant) {
        let now = Instant::now();
        let mut readiness = Readiness::NotYet;
        assert_eq!(readiness.look(Hearing::Heard, now), Step::Wait(None));
        (readiness, now)
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_not_ready_before_it_has_heard_its_broker_and_then_at_once() {
        let now = Instant::now();
        let mut readiness = Readiness::NotYet;
        for heard in [Hearing::NotYet, Hearing::Deaf, REFUSED, Hearing::NotYet] {
            assert_eq!(readiness.look(heard, now + 60 * SECOND), Step::Wait(None));
            assert!(!readiness.is_ready(), "{heard:?}");
        }
        readiness.look(Hearing::Heard, now + 60 * SECOND);
        assert!(readiness.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_alone_hears_nothing_goes_out_after_a_while() {
        let (mut readiness, now) = hearing();
        assert_eq!(readiness.look(Hearing::Deaf, now), Step::Wait(Some(now + PATIENCE)));
        assert_eq!(readiness.look(Hearing::Deaf, now + PATIENCE - SECOND), Step::Wait(Some(now + PATIENCE)));
        assert!(readiness.is_ready());
        assert_eq!(readiness.look(Hearing::Deaf, now + PATIENCE), Step::Ask);
        readiness.hear_others(true, now + PATIENCE + SECOND);
        assert!(!readiness.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn when_nobody_hears_everybody_stays() {
        let (mut readiness, start) = hearing();
        readiness.look(Hearing::Deaf, start);
        let mut now = start + PATIENCE;
        for _ in 0..100 {
            assert_eq!(readiness.look(Hearing::Deaf, now), Step::Ask);
            readiness.hear_others(false, now);
            assert_eq!(readiness.look(Hearing::Deaf, now), Step::Wait(Some(now + ASK_AGAIN)));
            assert!(readiness.is_ready());
            now += ASK_AGAIN;
        }
        readiness.look(Hearing::Heard, now);
        assert_eq!(readiness, Readiness::Hearing);
    }

    #[tokio::test(start_paused = true)]
    async fn who_went_out_comes_back_when_it_has_heard_for_a_while() {
        let (mut readiness, now) = hearing();
        readiness.look(REFUSED, now);
        assert!(!readiness.is_ready(), "a refusal needs nobody else's word");
        assert_eq!(readiness.look(Hearing::Heard, now), Step::Wait(Some(now + PROOF)));
        assert_eq!(readiness.look(Hearing::Deaf, now + SECOND), Step::Wait(None));
        readiness.look(Hearing::Heard, now + 2 * SECOND);
        readiness.look(Hearing::Heard, now + 3 * SECOND);
        assert!(!readiness.is_ready(), "it counts from when it hears again");
        readiness.look(Hearing::Heard, now + 2 * SECOND + PROOF);
        assert!(readiness.is_ready());
    }
}
