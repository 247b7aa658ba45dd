//! The newest publications of one channel, kept in memory for those who come back at once.
//!
//! When a node dies or the network fails, thousands of subscribers catch up with one channel within seconds, and miss
//! nearly the same. What they miss has just been delivered here, or was just read for one of them: it is remembered by
//! reference, for a short time, and answers the others.
//!
//! # Why nothing is lost
//!
//! A window is asked only for a subscriber that was registered before it asked, and its answer ends at the position of
//! the [flow](super::flow) at that moment, under the lock under which the flow delivers. So each publication of the
//! epoch is on one side. What is at or below the position is in the answer, or its absence shows: publications are
//! remembered as they are delivered, one after another, so a window has no hole, and it says nothing unless it begins
//! right after what is asked for and ends at the position. What is above the position is delivered after the answer was
//! made, to a subscriber that is registered; it sets that aside and joins both by offset. What was delivered before the
//! subscriber was registered and still waits in its inbox is at or below the position: it is told by its offset.
//!
//! The position may be behind the history, by what is on its way or was missed and not yet noticed. The subscriber is
//! then where all others of this node are, and gets the rest as they do: flows are healed from their position on. A
//! window is nevertheless [founded](Window::learn) by a read that began after the subscription was confirmed: whether
//! something was missed before that, only the history knows, and a flow that is behind it is suspected.
//!
//! # What it costs
//!
//! An answer may have what the history has given up within the last [`AGE_MAX`]. What was cut off from a run that came
//! in one piece stays in memory with the rest of the run, until that is as old.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::Range;
use crate::model::Publication;

/// How long something is remembered after it was delivered or read: clients that lost their connection try again within
/// this time, the slowest of them 20 s after they tried before.
pub(super) const AGE_MAX: Duration = Duration::from_secs(20);
/// Most publications of a channel; more than a client may catch up with, unless it is configured otherwise.
const PUBLICATIONS_MAX: usize = 512;
/// Most bytes of them together.
const BYTES_MAX: usize = 256 << 10;

/// See the module's doc. Its publications are of one epoch: whoever owns it empties it with the epoch.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Their offsets follow one another; the oldest comes first, and is remembered for the longest time.
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Somebody has read the history since the subscription was confirmed.
    is_founded: bool,
    /// When something last came or was read.
    fresh_at: Option<Instant>,
    /// What is not above this offset was removed from the history, and may still come.
    removed_to: u64,
}

#[derive(Debug)]
struct Entry {
    publication: Arc<Publication>,
    since: Instant,
}

impl Window {
    /// Bytes of what is remembered, as [`Publication::cost_bytes`] counts them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The history was removed up to `offset`: nothing of that is remembered, although it may still come.
    pub(super) fn remove(&mut self, offset: u64) {
        self.forget();
        self.removed_to = offset;
    }

    /// Remembers no publication any more.
    pub(super) fn forget(&mut self) {
        self.entries = VecDeque::new();
        self.bytes = 0;
    }

    /// Forgets what is too old.
    pub(super) fn forget_old(&mut self, now: Instant) {
        while self.entries.front().is_some_and(|oldest| now.duration_since(oldest.since) > AGE_MAX) {
            self.drop_oldest();
        }
    }

    /// These were delivered, in ascending order and without a hole among them.
    pub(super) fn push(&mut self, publications: &[Arc<Publication>], now: Instant) {
        self.fresh_at = Some(now);
        self.forget_old(now);
        if publications.iter().map(|one| one.cost_bytes()).sum::<usize>() > BYTES_MAX {
            // They share a buffer, of which a part would keep all.
            return self.forget();
        }
        publications.iter().for_each(|publication| self.append(Arc::clone(publication), now));
        self.fit();
    }

    /// Somebody read the history up to `top`, and found `publications` in ascending order, perhaps not all. The flow is
    /// at `position`. Remembers what goes on to where the window begins.
    pub(super) fn learn(&mut self, publications: &[Arc<Publication>], top: u64, position: u64, now: Instant) {
        (self.is_founded, self.fresh_at) = (true, Some(now));
        let Some(first) = publications.first().map(|first| first.offset) else { return };
        let is_whole = publications.iter().map(|one| one.offset).eq(first..=top);
        let next = self.entries.iter().map(|entry| entry.publication.offset).find(|offset| *offset > top);
        if !is_whole || next.map_or(top < position, |next| next != top + 1) {
            return;
        }
        self.bytes = 0;
        let known = std::mem::take(&mut self.entries);
        let (older, newer): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|entry| entry.publication.offset < first);
        let delivered = publications.iter().filter(|one| one.offset <= position);
        older.into_iter().for_each(|entry| self.append(entry.publication, entry.since));
        delivered.for_each(|publication| self.append(Arc::clone(publication), now));
        // Those of them that were read are there.
        newer.into_iter().for_each(|entry| self.append(entry.publication, entry.since));
        self.fit();
    }

    /// `range` of the history up to `position`, which is that of the flow; `None` if that is not known here, or nothing
    /// came and was read for `age_max`.
    ///
    /// Knows what subscribers ask for: all after an offset, the newest, or nothing but the position.
    pub(super) fn read(
        &mut self,
        range: &Range,
        position: u64,
        age_max: Duration,
        now: Instant,
    ) -> Option<Vec<Arc<Publication>>> {
        self.forget_old(now);
        let age = now.duration_since(self.fresh_at?);
        if !self.is_founded || age > age_max.min(AGE_MAX) {
            return None;
        }
        if range.limit == Some(0) {
            return Some(Vec::new());
        }
        let since = match (range.reverse, range.since, range.limit) {
            (false, Some(since), _) => since,
            (true, None, Some(1)) => position.checked_sub(1)?,
            _ => return None,
        };
        let rest = self.after(since, position)?;
        Some(range.limited(rest))
    }

    /// Everything after `since`, up to `position`; `None` if not all of it is here.
    fn after(&self, since: u64, position: u64) -> Option<impl Iterator<Item = &Arc<Publication>>> {
        let count = usize::try_from(position.checked_sub(since)?).ok()?;
        let skipped = self.entries.len().checked_sub(count)?;
        let ends_there = self.last() == Some(position);
        (count == 0 || ends_there).then(|| self.entries.iter().skip(skipped).map(|entry| &entry.publication))
    }

    fn last(&self) -> Option<u64> {
        self.entries.back().map(|entry| entry.publication.offset)
    }

    /// What is there already is not added again; what does not go on begins anew.
    fn append(&mut self, publication: Arc<Publication>, since: Instant) {
        match self.last() {
            _ if publication.offset <= self.removed_to => return,
            Some(last) if publication.offset <= last => return,
            Some(last) if publication.offset > last + 1 => self.forget(),
            _ => {}
        }
        self.bytes += publication.cost_bytes();
        self.entries.push_back(Entry { publication, since });
    }

    fn fit(&mut self) {
        while self.entries.len() > PUBLICATIONS_MAX || self.bytes > BYTES_MAX {
            self.drop_oldest();
        }
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.bytes -= oldest.publication.cost_bytes();
        }
    }
}

#[cfg(test)]
mod tests;
