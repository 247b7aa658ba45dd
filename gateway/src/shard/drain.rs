//! How connections are let go: asked to come again elsewhere, evenly, and after what they asked for is done.
//!
//! Whoever is closed comes back to another node at once, and so does everybody else who is closed with it. So a node that
//! stops spreads that over a window, and takes longer if the nodes that stay could not take as many
//! ([`Cluster::closes_per_second`](crate::cluster::Cluster::closes_per_second)).

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::Shard;
use super::heartbeat::Alarm;
use super::link::{Link, Recall};
use super::table::Key;

/// How often some are asked.
const TURN: Duration = Duration::from_millis(20);
/// A turn that comes later than that makes up for no more: the rest is spread over what is left.
const TURN_MAX: Duration = Duration::from_millis(200);
/// How long what a connection has asked for may take, before it is closed all the same.
const RECALL_PATIENCE: Duration = Duration::from_secs(1);

impl Shard {
    /// Asks every connection to come again elsewhere, evenly over `window`, those last that would miss something; returns
    /// when all have been asked. With nodes that could not take so many it takes longer.
    ///
    /// From now on whoever still comes in is asked at once.
    pub async fn drain(&self, window: Duration) {
        self.stopping.set(true);
        self.emptied.notify_waiters();
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pace = Pace::new(Instant::now(), window);
        let mut waiting = self.by_loss();
        while !waiting.is_empty() && self.connections.get() > 0 {
            turns.tick().await;
            // Who went by itself needs no place in the window.
            waiting.retain(|key| self.table.borrow().get(*key).is_some());
            let due = pace.due(Instant::now(), waiting.len(), self.closes_per_second(waiting.len()));
            for key in waiting.drain(..due) {
                self.recall(key, Recall::Shutdown);
            }
        }
        // Who came in the moment before.
        for key in self.by_loss() {
            self.recall(key, Recall::Shutdown);
        }
    }

    /// Every connection: first those that can make up for what they miss.
    fn by_loss(&self) -> Vec<Key> {
        let table = self.table.borrow();
        let (safe, others): (Vec<_>, Vec<_>) = table.iter().partition(|(_, entry)| self.is_safe(&entry.link));
        safe.into_iter().chain(others).map(|(key, _)| key).collect()
    }

    /// Whether the connection follows the history of every channel that it is subscribed to, so that it can catch up.
    pub(super) fn is_safe(&self, link: &Link) -> bool {
        let hub = self.hub.borrow();
        link.subscriptions.borrow().iter().all(|held| hub.is_tracked(held))
    }

    /// The part of what this node may close in a second that falls to `count` connections of this shard.
    fn closes_per_second(&self, count: usize) -> Option<f64> {
        let clients = self.node.client_count().max(count);
        let of_node = self.node.cluster().closes_per_second(clients)?;
        Some(of_node * count as f64 / clients as f64)
    }

    /// Asks a connection to come again, once what it has asked for is done.
    pub(super) fn recall(&self, key: Key, recall: Recall) {
        let link = match self.table.borrow().get(key) {
            Some(entry) => Rc::clone(&entry.link),
            None => return,
        };
        link.recall(recall);
        self.set_alarm(RECALL_PATIENCE, key, Alarm::Recall);
    }
}

/// How many are due, turn by turn.
#[derive(Debug)]
struct Pace {
    window: Duration,
    ends_at: Instant,
    /// Whether there was a limit at the last turn.
    is_limited: bool,
    turned_at: Instant,
    /// The part of one that is due.
    credit: f64,
}

impl Pace {
    fn new(now: Instant, window: Duration) -> Self {
        Self { window, ends_at: now + window, is_limited: false, turned_at: now, credit: 0.0 }
    }

    /// How many of the `rest` are due `now`, so that they end with the window, but no more than `per_second`.
    fn due(&mut self, now: Instant, rest: usize, per_second: Option<f64>) -> usize {
        let was_limited = std::mem::replace(&mut self.is_limited, per_second.is_some());
        if was_limited && !self.is_limited {
            // Nobody says any more what they take: what is left is spread anew, not let go at once.
            self.ends_at = self.ends_at.max(now + self.window);
        }
        let turn = now.saturating_duration_since(self.turned_at).min(TURN_MAX).as_secs_f64();
        self.turned_at = now;
        let left = self.ends_at.saturating_duration_since(now).as_secs_f64() + turn;
        let even = if now >= self.ends_at { rest as f64 } else { rest as f64 * turn / left };
        let allowed = per_second.map_or(f64::INFINITY, |per_second| per_second * turn);
        self.credit += even.min(allowed);
        let due = (self.credit.floor() as usize).min(rest);
        self.credit -= due as f64;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many are due in each second until none are left, with turns of `turn`.
    fn run(count: usize, window: Duration, turn: Duration, per_second: Option<f64>) -> Vec<usize> {
        let start = Instant::now();
        let mut pace = Pace::new(start, window);
        let (mut rest, mut now, mut seconds) = (count, start, Vec::new());
        while rest > 0 {
            now += turn;
            let due = pace.due(now, rest, per_second);
            rest -= due;
            let second = usize::try_from((now - start).as_secs()).unwrap();
            seconds.resize(second + 1, 0);
            seconds[second] += due;
        }
        seconds
    }

    #[tokio::test(start_paused = true)]
    async fn closes_are_even_over_the_window() {
        for (count, turn) in [(10_000, TURN), (10_000, Duration::from_millis(90)), (333, TURN), (20, TURN)] {
            let seconds = run(count, Duration::from_secs(20), turn, None);
            let (mean, most) = (count / 20, *seconds.iter().max().unwrap());
            assert!(seconds.len() <= 21 && most <= mean + mean / 10 + 1, "{count}: {seconds:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_limit_it_takes_longer_and_no_second_has_more() {
        let seconds = run(1_000, Duration::from_secs(2), TURN, Some(100.0));
        assert!((10..=11).contains(&seconds.len()), "{seconds:?}");
        assert!(seconds.iter().all(|count| *count <= 101), "{seconds:?}");
        let seconds = run(100, Duration::from_secs(10), TURN, Some(1_000.0));
        assert!((10..=11).contains(&seconds.len()), "a limit hurries nobody: {seconds:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_window_all_are_due_at_once() {
        let now = Instant::now();
        assert_eq!(Pace::new(now, Duration::ZERO).due(now, 5_000, None), 5_000);
        assert_eq!(Pace::new(now, Duration::ZERO).due(now + TURN, 5_000, Some(100.0)), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_goes_away_lets_nobody_go_at_once() {
        let start = Instant::now();
        let mut pace = Pace::new(start, Duration::from_secs(2));
        assert!(pace.due(start + TURN, 1_000, Some(10.0)) <= 1);
        let late = start + Duration::from_secs(10);
        assert!(pace.due(late, 1_000, None) <= 100, "a tenth of a window's worth at the most");
        assert_eq!(pace.due(late + Duration::from_secs(2), 900, None), 900);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_thread_is_not_made_up_for_at_once() {
        let start = Instant::now();
        let mut pace = Pace::new(start, Duration::from_secs(20));
        let due = pace.due(start + Duration::from_secs(10), 1_000, None);
        assert!((15..=20).contains(&due), "{due}: a fifth of a second's worth of what is left");
    }
}
