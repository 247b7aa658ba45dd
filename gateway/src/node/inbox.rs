//! What waits for a shard: the only way from any thread into a shard's world.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::Control;
use crate::model::{Channel, Epoch, Notice, Position, Publication};
use crate::telemetry::traces::Processing;

/// Most bytes of publications and notices that may wait for one shard.
pub const INBOX_BYTES_MAX: usize = 32 << 20;

/// What a channel has for the subscribers of a shard, on its way to them.
#[derive(Debug)]
pub struct Delivery {
    /// Where it was published or announced.
    pub channel: Channel,
    /// What is delivered.
    pub cargo: Cargo,
    /// When the node took it from the broker.
    pub accepted_at: Instant,
    /// What it counts for in the inbox, until [`Inbox::release`].
    pub cost_bytes: usize,
    /// The spans of what is traced of it; `None` if nothing is.
    pub processing: Option<Arc<Processing>>,
}

/// What a [`Delivery`] brings.
#[derive(Debug)]
pub enum Cargo {
    /// A run of publications.
    Publications {
        /// In the order of the channel; not empty.
        publications: SmallVec<[Arc<Publication>; 1]>,
        /// Of their offsets; `None` if they are in no history.
        epoch: Option<Epoch>,
    },
    /// The word that somebody joined or left.
    Notice(Notice),
    /// The word that what is missing up to this top of the history will not come.
    Loss(Position),
}

impl Delivery {
    /// The publications; none if it is a notice.
    pub fn publications(&self) -> &[Arc<Publication>] {
        match &self.cargo {
            Cargo::Publications { publications, .. } => publications,
            Cargo::Notice(_) | Cargo::Loss(_) => &[],
        }
    }

    /// The epoch of the offsets; `None` for what is in no history.
    pub fn epoch(&self) -> Option<&Epoch> {
        match &self.cargo {
            Cargo::Publications { epoch, .. } => epoch.as_ref(),
            Cargo::Notice(_) => None,
            Cargo::Loss(top) => Some(&top.epoch),
        }
    }

    /// Up to where what is missing will not come; `None` if it brings something.
    pub fn loss(&self) -> Option<&Position> {
        match &self.cargo {
            Cargo::Loss(top) => Some(top),
            Cargo::Publications { .. } | Cargo::Notice(_) => None,
        }
    }

    /// Whether it is for those alone who hear notices.
    pub fn is_notice(&self) -> bool {
        matches!(self.cargo, Cargo::Notice(_))
    }

    /// The first and the last offset; `None` without a history. Those between follow one another.
    pub fn offsets(&self) -> Option<(u64, u64)> {
        let mut kept =
            self.publications().iter().map(|publication| publication.offset).filter(|offset| *offset > 0);
        let first = kept.next()?;
        Some((first, kept.next_back().unwrap_or(first)))
    }
}

/// The queue of one shard: what channels deliver bounded in bytes, control on a lane of its own and never dropped.
///
/// Any thread pushes; one shard drains. Pushing never waits. First in, first out.
#[derive(Debug)]
pub struct Inbox {
    lanes: Mutex<Lanes>,
    wake: Notify,
    held_bytes: AtomicUsize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Lanes {
    deliveries: VecDeque<Delivery>,
    controls: VecDeque<Control>,
}

/// The inbox holds as many bytes as it may; the delivery was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxFull;

impl Inbox {
    /// An empty inbox for at most `bytes_max` bytes of deliveries.
    pub fn new(bytes_max: usize) -> Self {
        Self { lanes: Mutex::default(), wake: Notify::new(), held_bytes: AtomicUsize::new(0), bytes_max }
    }

    /// Queues `delivery` and wakes the shard.
    ///
    /// # Errors
    /// [`InboxFull`] when the bytes not yet delivered would exceed the limit.
    pub fn deliver(&self, delivery: Delivery) -> Result<(), InboxFull> {
        let mut lanes = self.lanes.lock();
        if self.held_bytes.load(Ordering::Relaxed) + delivery.cost_bytes > self.bytes_max {
            return Err(InboxFull);
        }
        self.held_bytes.fetch_add(delivery.cost_bytes, Ordering::Relaxed);
        lanes.deliveries.push_back(delivery);
        drop(lanes);
        self.wake.notify_one();
        Ok(())
    }

    /// Queues `control` and wakes the shard.
    pub fn control(&self, control: Control) {
        self.lanes.lock().controls.push_back(control);
        self.wake.notify_one();
    }

    /// Waits until something may have been queued. Cancel safe.
    pub async fn queued(&self) {
        self.wake.notified().await;
    }

    /// The next control, if any.
    pub fn next_control(&self) -> Option<Control> {
        self.lanes.lock().controls.pop_front()
    }

    /// Moves up to `count` deliveries into `out`, oldest first.
    ///
    /// Their bytes count until they are [released](Self::release): what a shard has taken and not yet
    /// delivered is still in memory.
    pub fn drain(&self, count: usize, out: &mut Vec<Delivery>) {
        let mut lanes = self.lanes.lock();
        let count = count.min(lanes.deliveries.len());
        out.extend(lanes.deliveries.drain(..count));
    }

    /// Gives back the bytes of a delivery that left the shard.
    pub fn release(&self, cost_bytes: usize) {
        self.held_bytes.fetch_sub(cost_bytes, Ordering::Relaxed);
    }

    /// Whether something waits or is being delivered.
    pub fn has_undelivered(&self) -> bool {
        self.held_bytes.load(Ordering::Relaxed) > 0
    }

    /// Bytes that are not delivered yet.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Whether more than half of the bytes are taken: publishers should be told to come back later.
    pub fn is_above_watermark(&self) -> bool {
        self.held_bytes.load(Ordering::Relaxed) > self.bytes_max / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RawJson;

    fn delivery(cost_bytes: usize) -> Delivery {
        let publication = Arc::new(Publication::of(RawJson::string("x")));
        let channel = Channel::parse("a", 255).unwrap();
        Delivery {
            channel,
            cargo: Cargo::Publications { publications: SmallVec::from_iter([publication]), epoch: None },
            accepted_at: Instant::now(),
            cost_bytes,
            processing: None,
        }
    }

    #[test]
    fn an_inbox_is_bounded_in_bytes_until_they_are_delivered() {
        let inbox = Inbox::new(100);
        assert_eq!(inbox.deliver(delivery(50)), Ok(()));
        assert!(!inbox.is_above_watermark());
        assert_eq!(inbox.deliver(delivery(50)), Ok(()));
        assert!(inbox.is_above_watermark());
        assert_eq!(inbox.deliver(delivery(1)), Err(InboxFull));
        let mut drained = Vec::new();
        inbox.drain(64, &mut drained);
        assert_eq!(drained.len(), 2);
        assert_eq!(inbox.deliver(delivery(1)), Err(InboxFull), "taken is not delivered");
        inbox.release(50);
        assert_eq!(inbox.deliver(delivery(1)), Ok(()));
    }

    #[test]
    fn control_is_taken_when_the_inbox_is_full() {
        let inbox = Inbox::new(0);
        assert_eq!(inbox.deliver(delivery(1)), Err(InboxFull));
        inbox.control(Control::Revoke(None));
        assert!(matches!(inbox.next_control(), Some(Control::Revoke(None))));
        assert!(inbox.next_control().is_none());
    }
}
