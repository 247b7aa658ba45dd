//! What happens to a subscriber that does not keep up, where its connection is not closed for it.
//!
//! Only publications of the channel whose policy it is are dropped: what else waits for the connection stays.
//! Who follows the history of the channel loses nothing unheard: it gets nothing more and is told.

use super::hub::{ChannelKey, Tracking};
use super::outbox::{Limits, Outbox};
use super::run::{Piece, Run};
use super::table::{Entry, Key};
use super::{Offer, Shard};
use crate::config::SlowConsumer;
use crate::metrics::DropReason;

/// A part of the outbox that what can be dropped does not fill, so that pings, replies and pushes have room.
const RESERVE: usize = 8;
/// Looking at that many frames of an outbox takes as long as a send.
const FRAMES_PER_SEND: usize = 64;

/// What happens to subscribers of a channel that do not keep up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub(super) channel: ChannelKey,
    pub(super) kind: SlowConsumer,
}

impl Policy {
    /// Whether publications are dropped, and not the connection.
    pub(super) fn drops(self) -> bool {
        self.kind != SlowConsumer::Disconnect
    }

    /// Why a publication is dropped.
    pub(super) fn reason(self) -> DropReason {
        match self.kind {
            SlowConsumer::Disconnect => DropReason::SlowConsumer,
            SlowConsumer::DropOldest => DropReason::DropOldest,
            SlowConsumer::Latest => DropReason::Latest,
        }
    }
}

/// What a policy took out to make room for a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    /// Publications that waited.
    pub(super) old: usize,
    /// Publications of the run itself.
    pub(super) new: usize,
    pub(super) new_bytes: usize,
    /// What it took, in sends.
    pub(super) sends: usize,
}

impl Shard {
    /// [`offer_to`](Self::offer_to) for publications that may be dropped: never closes the connection.
    ///
    /// A subscriber that tracks its position and would get a gap gets nothing more and is marked as lost.
    pub(super) fn offer_run(
        &self,
        (key, entry): (Key, &Entry),
        run: &Run,
        policy: Policy,
        tracking: &mut Tracking,
    ) -> (Offer, Cut) {
        let link = &entry.link;
        let Some(written) = self.write(entry, key, &run.bytes) else {
            return (Offer::Closed, Cut::default());
        };
        if written == run.bytes.len() {
            return (Offer::Sent, Cut::default());
        }
        // What the socket took a part of is finished all the same, or the close frame would be read as the rest of it.
        if written == 0 && link.is_closing() {
            return (Offer::Closed, Cut::default());
        }
        let mut outbox = link.outbox.borrow_mut();
        let bytes_max = self.settings.outbox_bytes_max;
        let limits = Limits { bytes_max: bytes_max - bytes_max / RESERVE, budget: &self.budget };
        let mut cut = Cut::default();
        if written > 0 {
            outbox.push_rest_of_run(policy.channel, run, written, &self.budget);
        } else if outbox.push_run(policy.channel, run, limits).is_err() {
            cut = outbox.squeeze_in(policy, run, *tracking, limits);
            if matches!(tracking, Tracking::At(_)) {
                *tracking = Tracking::Lost;
                link.lose(policy.channel);
            }
            if outbox.begins_to_lag() {
                self.metrics.slow_consumer(policy.kind);
            }
        }
        let has_more = !outbox.is_empty();
        drop(outbox);
        if has_more {
            self.watch_writes(entry, key);
        }
        (Offer::Queued, cut)
    }
}

impl Outbox {
    /// Queues of `run`, which does not fit, what `policy` leaves of it.
    fn squeeze_in(&mut self, policy: Policy, run: &Run, tracking: Tracking, limits: Limits<'_>) -> Cut {
        let sends = self.len() / FRAMES_PER_SEND;
        if matches!(tracking, Tracking::At(_)) {
            let old = self.drop_all(policy.channel, limits.budget);
            return Cut { old, new: run.count, new_bytes: run.bytes.len(), sends };
        }
        let (mut old, mut fresh) = (0, run.pieces(0).collect::<Vec<Piece>>());
        if policy.kind == SlowConsumer::Latest {
            old = self.keep_newest(policy.channel, &mut fresh, limits.budget);
        }
        fit_newest(&mut fresh, self.spare_bytes(policy.channel, limits));
        let bytes = fresh.iter().map(|piece| piece.bytes.len()).sum();
        let cut = Cut { old, new: run.count - fresh.len(), new_bytes: run.bytes.len() - bytes, sends };
        if fresh.is_empty() {
            return cut;
        }
        let gone = self.make_room(policy.channel, bytes, limits);
        if self.push_pieces(policy.channel, fresh, limits.budget).is_err() {
            // Another shard has taken the room that was made.
            return Cut { old: old + gone, new: run.count, new_bytes: run.bytes.len(), sends };
        }
        Cut { old: old + gone, ..cut }
    }
}

/// Leaves the newest of `pieces` that are within `bytes_max` together. One that is larger alone goes alone.
fn fit_newest(pieces: &mut Vec<Piece>, bytes_max: usize) {
    pieces.retain(|piece| piece.bytes.len() <= bytes_max);
    let mut bytes = 0;
    let overflows = |piece: &Piece| {
        bytes += piece.bytes.len();
        bytes > bytes_max
    };
    let surplus = pieces.iter().rposition(overflows).map_or(0, |last| last + 1);
    pieces.drain(..surplus);
}

#[cfg(test)]
mod tests;
