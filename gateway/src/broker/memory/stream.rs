//! The history of one channel: what is kept of it, and since when.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::expiry::{self, Tick};
use crate::broker::{Draft, Published, Range, Retention};
use crate::model::{Epoch, Position, Publication};

/// The kept publications of a channel with its epoch and top offset.
///
/// Offsets of what is kept follow one another and end at the top: entries go from the front or all at once.
pub(super) struct Stream {
    epoch: Epoch,
    top: u64,
    kept: VecDeque<Arc<Publication>>,
    /// Of the last publication that had a version. Boxed: few channels use them.
    version: Option<Box<Version>>,
    /// When the kept publications go, if no other comes before.
    expires_at: Instant,
    /// When all of it goes, if it is not needed before.
    forgotten_at: Instant,
    /// Where the stripe's wheel has it.
    pub(super) filed: Option<Tick>,
}

struct Version {
    number: u64,
    epoch: String,
}

impl Stream {
    /// An empty history of a new epoch.
    pub(super) fn new(now: Instant, meta_ttl: Duration) -> Self {
        Self {
            epoch: Epoch::random(),
            top: 0,
            kept: VecDeque::new(),
            version: None,
            expires_at: now,
            forgotten_at: expiry::after(now, meta_ttl),
            filed: None,
        }
    }

    pub(super) fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Its top.
    pub(super) fn top(&self) -> Position {
        Position { epoch: self.epoch.clone(), offset: self.top }
    }

    /// Drops what has been kept for long enough. Answers `false` if that is all of it.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        if self.expires_at <= now {
            self.clear();
        }
        now < self.forgotten_at
    }

    /// When there is something to [expire](Self::expire), as far as is known now.
    pub(super) fn deadline(&self) -> Instant {
        if self.kept.is_empty() { self.forgotten_at } else { self.expires_at.min(self.forgotten_at) }
    }

    /// Keeps epoch and top for `meta_ttl` from `now` on, at least.
    pub(super) fn touch(&mut self, now: Instant, meta_ttl: Duration) {
        self.forgotten_at = self.forgotten_at.max(expiry::after(now, meta_ttl));
    }

    /// Takes `draft` as the next publication, unless its version is not above the last.
    ///
    /// Answers what became of it, and the publication if it was taken.
    pub(super) fn append(
        &mut self,
        draft: Draft,
        retention: &Retention,
        now: Instant,
    ) -> (Published, Option<Arc<Publication>>) {
        if self.is_outdated(&draft) {
            return (Published { position: Some(self.top()), is_suppressed: true }, None);
        }
        if draft.version > 0 {
            self.version = Some(Box::new(Version { number: draft.version, epoch: draft.version_epoch }));
        }
        self.top += 1;
        let publication = Arc::new(Publication { offset: self.top, ..draft.publication });
        // Room is made first, so that the buffer never grows for one more than may be kept.
        let surplus = (self.kept.len() + 1).saturating_sub(retention.size.max(1));
        self.kept.drain(..surplus);
        self.kept.push_back(Arc::clone(&publication));
        self.expires_at = expiry::after(now, retention.ttl);
        (Published { position: Some(self.top()), is_suppressed: false }, Some(publication))
    }

    fn is_outdated(&self, draft: &Draft) -> bool {
        let Some(last) = &self.version else { return false };
        let is_comparable = draft.version_epoch.is_empty() || draft.version_epoch == last.epoch;
        draft.version > 0 && is_comparable && draft.version <= last.number
    }

    /// What `range` asks for of what is kept.
    pub(super) fn read(&self, range: &Range) -> Vec<Arc<Publication>> {
        let count = self.kept.len();
        let before_first = self.top - count as u64;
        // How many of the kept ones have an offset of at most `offset`.
        let up_to = |offset: u64| {
            usize::try_from(offset.saturating_sub(before_first)).map_or(count, |n| n.min(count))
        };
        if range.reverse {
            let end = range.since.map_or(count, |since| up_to(since.saturating_sub(1)));
            range.limited(self.kept.range(..end).rev())
        } else {
            let start = range.since.map_or(0, up_to);
            range.limited(self.kept.range(start..))
        }
    }

    /// Drops what is kept. Epoch, top and version stay.
    pub(super) fn clear(&mut self) {
        self.kept = VecDeque::new();
    }

    /// How many publications it keeps.
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }
}
