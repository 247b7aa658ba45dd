//! What was answered to publications with an idempotency key.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::model::{Channel, Position};

/// A key within its channel.
pub(super) type Key = (Channel, Arc<str>);

/// The first answers, by key.
#[derive(Default)]
pub(super) struct Answers(HashMap<Key, Answer>);

struct Answer {
    position: Option<Position>,
    expires_at: Instant,
}

impl Answers {
    /// Where the publication is that came first with `key`; `None` if none is remembered.
    pub(super) fn find(&self, key: &Key, now: Instant) -> Option<Option<Position>> {
        let answer = self.0.get(key).filter(|answer| now < answer.expires_at)?;
        Some(answer.position.clone())
    }

    /// Remembers until `expires_at` what was answered.
    pub(super) fn remember(&mut self, key: Key, position: Option<Position>, expires_at: Instant) {
        self.0.insert(key, Answer { position, expires_at });
    }

    /// Forgets `key` if it is time. Answers when it will be; `None` if there is nothing left to forget.
    pub(super) fn expire(&mut self, key: &Key, now: Instant) -> Option<Instant> {
        let expires_at = self.0.get(key)?.expires_at;
        if now < expires_at {
            return Some(expires_at);
        }
        self.0.remove(key);
        None
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
