use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a message takes besides its bytes, roughly.
const MESSAGE_OVERHEAD_BYTES: usize = 64;

/// What a worker is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// This came on a Redis channel.
    Message {
        /// The Redis channel.
        name: Vec<u8>,
        /// What was published.
        payload: Vec<u8>,
    },
    /// Everything is heard again after a time in which something may have been missed; what comes from here on is
    /// complete.
    Restored,
}

impl Item {
    fn cost_bytes(&self) -> usize {
        match self {
            Self::Message { name, payload } => MESSAGE_OVERHEAD_BYTES + name.len() + payload.len(),
            Self::Restored => 0,
        }
    }
}

/// What was received and not yet taken, of all workers of a connection.
#[derive(Debug)]
pub(super) struct Room {
    held_bytes: AtomicUsize,
    bytes_max: usize,
}

impl Room {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { held_bytes: AtomicUsize::new(0), bytes_max })
    }

    /// How many bytes are held now.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let held = self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = held + bytes <= self.bytes_max;
        if !fits {
            self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

/// The way from a connection to one worker. Bounded in bytes: what does not fit is dropped, and its Redis channel is
/// remembered as one that lost something.
///
/// The reader pushes and never waits, or Redis would close a connection that does not read.
#[derive(Debug)]
pub struct Queue {
    room: Arc<Room>,
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<Item>,
    /// Redis channels of which something was dropped since they were asked for.
    dropped: HashSet<Vec<u8>>,
}

impl Queue {
    pub(super) fn new(room: Arc<Room>) -> Arc<Self> {
        Arc::new(Self { room, waiting: Mutex::default(), wake: Notify::new() })
    }

    /// `false` if it was dropped.
    pub(super) fn push(&self, item: Item) -> bool {
        let fits = self.room.take(item.cost_bytes());
        let mut waiting = self.waiting.lock();
        match item {
            Item::Message { name, .. } if !fits => drop(waiting.dropped.insert(name)),
            item => waiting.items.push_back(item),
        }
        drop(waiting);
        self.wake.notify_one();
        fits
    }

    /// Waits until there is something, then moves all of it into `items`, oldest first, and the Redis channels of
    /// which something was dropped after that into `dropped`. Cancel safe.
    pub async fn take(&self, items: &mut VecDeque<Item>, dropped: &mut Vec<Vec<u8>>) {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if !waiting.items.is_empty() || !waiting.dropped.is_empty() {
                    let bytes: usize = waiting.items.iter().map(Item::cost_bytes).sum();
                    self.room.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
                    items.append(&mut waiting.items);
                    dropped.extend(waiting.dropped.drain());
                    return;
                }
            }
            self.wake.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, bytes: usize) -> Item {
        Item::Message { name: name.into(), payload: vec![0; bytes] }
    }

    #[tokio::test]
    async fn what_does_not_fit_is_dropped_and_its_channel_remembered_until_it_is_asked_for() {
        let room = Room::new(1_000);
        let (one, other) = (Queue::new(Arc::clone(&room)), Queue::new(room));
        assert!(one.push(message("a", 500)));
        assert!(!other.push(message("b", 500)), "they share the room");
        assert!(!other.push(message("b", 500)));
        assert!(other.push(message("c", 100)));
        assert!(other.push(Item::Restored));
        let (mut items, mut dropped) = (VecDeque::new(), Vec::new());
        other.take(&mut items, &mut dropped).await;
        assert_eq!(items, [message("c", 100), Item::Restored]);
        assert_eq!(dropped, [b"b".to_vec()]);
        one.take(&mut items, &mut dropped).await;
        assert!(other.push(message("b", 900)), "what was taken makes room");
    }
}
