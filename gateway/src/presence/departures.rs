//! Members on their way out whose leaves nobody has announced yet.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Member;
use crate::model::{Channel, ClientInfo};

/// Most that are taken at once.
const TAKEN_MAX: usize = 256;
/// From this many on, who can wait waits until there are fewer.
const WAITING_MAX: usize = 4096;

/// A member that was taken out, and whose leave is to be announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departed {
    /// Where it was a member.
    pub channel: Channel,
    /// Who it was.
    pub info: Arc<ClientInfo>,
}

impl Departed {
    /// What is to be announced of `member`, if anything.
    pub(super) fn of(channel: &Channel, member: &Member) -> Option<Self> {
        let announced = member.is_announced.then(|| Arc::clone(&member.info));
        announced.map(|info| Self { channel: channel.clone(), info })
    }
}

/// A queue of them.
#[derive(Debug, Default)]
pub(super) struct Departures {
    waiting: Mutex<VecDeque<Departed>>,
    more: Notify,
    fewer: Notify,
}

impl Departures {
    /// Waits until there is room. Whoever takes out whole crowds calls it before each page of them.
    pub(super) async fn room(&self) {
        loop {
            let fewer = self.fewer.notified();
            if self.waiting.lock().len() < WAITING_MAX {
                return;
            }
            fewer.await;
        }
    }

    /// Adds to the queue, whatever its length.
    pub(super) fn push(&self, departed: impl IntoIterator<Item = Departed>) {
        let mut waiting = self.waiting.lock();
        waiting.extend(departed);
        if !waiting.is_empty() {
            self.more.notify_one();
        }
    }

    /// Waits for the next ones.
    pub(super) async fn next(&self) -> Vec<Departed> {
        loop {
            let taken = self.take();
            if !taken.is_empty() {
                return taken;
            }
            self.more.notified().await;
        }
    }

    fn take(&self) -> Vec<Departed> {
        let mut waiting = self.waiting.lock();
        let count = waiting.len().min(TAKEN_MAX);
        let taken = waiting.drain(..count).collect();
        if waiting.is_empty() {
            // A crowd leaves no memory behind.
            *waiting = VecDeque::new();
        }
        self.fewer.notify_waiters();
        taken
    }
}
