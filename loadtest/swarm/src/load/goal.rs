//! Waiting until so many things have happened in several threads.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts, and wakes who waits for a count. One can wait at a time.
#[derive(Debug)]
pub(super) struct Goal {
    reached: AtomicU64,
    wanted: AtomicU64,
    changed: Notify,
}

impl Default for Goal {
    fn default() -> Self {
        Self { reached: AtomicU64::new(0), wanted: AtomicU64::new(u64::MAX), changed: Notify::new() }
    }
}

impl Goal {
    /// So many more have happened.
    pub(super) fn add(&self, count: u64) {
        // Of this and `wanted` one is always seen by the other side: both are in one order with those of `reached`.
        let before = self.reached.fetch_add(count, Ordering::SeqCst);
        let wanted = self.wanted.load(Ordering::SeqCst);
        if before < wanted && wanted <= before + count {
            self.changed.notify_one();
        }
    }

    /// Something happened for which it may never be reached: wakes who waits, to look again.
    pub(super) fn disturb(&self) {
        self.changed.notify_one();
    }

    /// How many have happened.
    pub(super) fn count(&self) -> u64 {
        self.reached.load(Ordering::SeqCst)
    }

    /// Waits until `wanted` have happened, or `is_in_vain`. Cancel safe.
    pub(super) async fn reach(&self, wanted: u64, is_in_vain: impl Fn() -> bool) {
        self.wanted.store(wanted, Ordering::SeqCst);
        while self.count() < wanted && !is_in_vain() {
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn a_goal_is_reached_by_all_threads_together() {
        let goal = Arc::new(Goal::default());
        for round in 1..=200_u64 {
            let adders: Vec<_> =
                (0..2).map(|_| Arc::clone(&goal)).map(|goal| thread::spawn(move || goal.add(3))).collect();
            goal.reach(round * 6, || false).await;
            assert!(adders.into_iter().all(|adder| adder.join().is_ok()));
        }
        assert_eq!(goal.count(), 1200);
    }

    #[tokio::test]
    async fn a_goal_that_is_in_vain_is_given_up() {
        let goal = Goal::default();
        goal.disturb();
        goal.reach(1, || true).await;
        assert_eq!(goal.count(), 0);
    }
}
