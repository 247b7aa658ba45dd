//! Clients that lost their line and come back, and what they meet.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::backoff::Backoff;
use crate::load::{CONNECT_TIME, Client, Thread, Trouble};
use crate::outcome::Outcome;

/// From when a client lost its line until it is connected and subscribed again.
pub(super) const RETURN_TIME: &str = "time until back";

/// What all clients that come back met, in all threads.
#[derive(Debug, Default)]
pub(super) struct Returns {
    /// How many are waited for; as long as that is not known, more than there can be.
    wanted: AtomicU64,
    back: AtomicU64,
    attempts: AtomicU64,
    refused: Mutex<Refused>,
    all_back: Notify,
}

/// Attempts that failed.
#[derive(Debug, Default)]
struct Refused {
    with_retry_after: u64,
    without_retry_after: u64,
    /// For another reason than a status of HTTP, by kind.
    others: BTreeMap<String, u64>,
}

impl Returns {
    /// A round begins: none is back yet.
    pub(super) fn begin(&self) {
        self.wanted.store(u64::MAX, Ordering::SeqCst);
        self.back.store(0, Ordering::SeqCst);
    }

    /// How many are back, of this round.
    pub(super) fn back(&self) -> u64 {
        self.back.load(Ordering::SeqCst)
    }

    /// How many handshakes there were, of all rounds.
    pub(super) fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// Waits until so many are back. Cancel safe.
    pub(super) async fn all_back(&self, clients: u64) {
        self.wanted.store(clients, Ordering::SeqCst);
        while self.back() < clients {
            self.all_back.notified().await;
        }
    }

    /// What was counted.
    pub(super) fn tell(&self, outcome: &mut Outcome) {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = [
            ("returns tried", self.attempts()),
            ("returns refused with Retry-After", refused.with_retry_after),
            ("returns refused without Retry-After", refused.without_retry_after),
            ("returns failed otherwise", refused.others.values().sum()),
        ];
        outcome.counts.extend(counts.map(|(name, count)| (name.to_owned(), count)));
        outcome
            .errors
            .extend(refused.others.iter().map(|(kind, count)| (format!("coming back: {kind}"), *count)));
    }

    fn is_back(&self) {
        if self.back.fetch_add(1, Ordering::SeqCst) + 1 >= self.wanted.load(Ordering::SeqCst) {
            self.all_back.notify_one();
        }
    }

    fn failed(&self, trouble: &Trouble) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Trouble::Refused { retry_after: Some(_), .. } => refused.with_retry_after += 1,
            Trouble::Refused { retry_after: None, .. } => refused.without_retry_after += 1,
            other => *refused.others.entry(other.kind()).or_default() += 1,
        }
    }
}

/// Cuts the lines of all clients of a thread that have one, each of which comes back in a task of its own. Says how many
/// that were.
pub(super) fn drop_all(thread: &Rc<Thread>, backoff: Backoff, returns: &Arc<Returns>) -> u64 {
    let mut dropped = 0;
    for client in thread.clients().into_iter().filter(|client| client.is_connected()) {
        client.leave();
        dropped += 1;
        let (of_client, returns) = (Rc::clone(thread), Arc::clone(returns));
        thread.spawn(async move { come_back(&of_client, &client, backoff, &returns).await });
    }
    dropped
}

/// Comes back, and listens from then on; if the server ends that, comes back again, as long as it lets it.
async fn come_back(thread: &Thread, client: &Client, backoff: Backoff, returns: &Returns) {
    let mut is_first = true;
    loop {
        let lost = Instant::now();
        if !enter(thread, client, backoff, returns).await {
            return;
        }
        if std::mem::take(&mut is_first) {
            thread.took(RETURN_TIME, lost.elapsed());
            returns.is_back();
        }
        let trouble = client.listen().await;
        thread.ended(client, &trouble);
        if trouble == Trouble::Left || is_final(&trouble) {
            return;
        }
    }
}

/// Tries until it is in; `false` if it is told to leave.
async fn enter(thread: &Thread, client: &Client, backoff: Backoff, returns: &Returns) -> bool {
    let mut failures = 0;
    let mut wait = backoff.first();
    loop {
        sleep(wait).await;
        let begun = Instant::now();
        returns.attempts.fetch_add(1, Ordering::Relaxed);
        match client.connect().await {
            Ok(()) => {
                thread.took(CONNECT_TIME, begun.elapsed());
                return true;
            }
            Err(Trouble::Left) => return false,
            Err(trouble) => {
                returns.failed(&trouble);
                failures += 1;
                wait = backoff.after(failures, &trouble);
            }
        }
    }
}

/// Whether a client is not to come back, by the code that it was closed with.
fn is_final(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Closed { code: 3500..=3999 | 4500..=4999, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_is_waited_for() {
        let returns = Returns::default();
        returns.begin();
        returns.is_back();
        let waiting = returns.all_back(3);
        assert!(tokio::time::timeout(std::time::Duration::ZERO, waiting).await.is_err());
        (0..2).for_each(|_| returns.is_back());
        returns.all_back(3).await;
        returns.begin();
        assert_eq!(returns.back(), 0);
    }

    #[test]
    fn refusals_are_told_apart() {
        let returns = Returns::default();
        let retry_after = Some(std::time::Duration::from_secs(1));
        returns.failed(&Trouble::Refused { status: 503, retry_after });
        returns.failed(&Trouble::Refused { status: 503, retry_after: None });
        returns.failed(&Trouble::HungUp);
        let mut outcome = Outcome::new("storm", "", "");
        returns.tell(&mut outcome);
        assert_eq!(outcome.counts["returns refused with Retry-After"], 1);
        assert_eq!(outcome.counts["returns refused without Retry-After"], 1);
        assert_eq!(outcome.counts["returns failed otherwise"], 1);
        assert_eq!(outcome.errors.values().sum::<u64>(), 1);
    }

    #[test]
    fn codes_after_which_nobody_comes_back_are_known() {
        let closed = |code| is_final(&Trouble::Closed { code, reason: String::new() });
        assert!(closed(3500) && closed(3999) && closed(4500));
        assert!(!closed(3000) && !closed(4000) && !closed(1005) && !is_final(&Trouble::HungUp));
    }
}
