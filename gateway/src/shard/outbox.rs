//! What a blocked socket still has to get.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, Bytes};

/// Most frames handed to one `writev`.
const SLICES_MAX: usize = 64;

/// The bytes that all outboxes of a node hold together, and how many they may.
#[derive(Debug)]
pub struct Budget {
    used_bytes: AtomicUsize,
    bytes_max: usize,
}

impl Budget {
    /// A budget of `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { used_bytes: AtomicUsize::new(0), bytes_max }
    }

    /// What is held now, in bytes.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.used_bytes() + bytes <= self.bytes_max
    }
}

/// Frames of one connection, in order. What is queued is charged to the [`Budget`] by the caller's hand.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// A part of the first frame is written: it has to be finished, or nothing after it can be read.
    started: bool,
}

/// The outbox holds as much as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// What waits, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Queues `frame`, unless the outbox would then hold more than `bytes_max` or all of them too much.
    pub(super) fn push(&mut self, frame: Bytes, bytes_max: usize, budget: &Budget) -> Result<(), Full> {
        if self.bytes + frame.len() > bytes_max || !budget.has_room_for(frame.len()) {
            return Err(Full);
        }
        self.push_always(frame, budget);
        Ok(())
    }

    /// Queues `frame` whatever the limits say: a close frame, or the rest of a frame that is half written.
    pub(super) fn push_always(&mut self, frame: Bytes, budget: &Budget) {
        budget.used_bytes.fetch_add(frame.len(), Ordering::Relaxed);
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Queues what a short write to the socket left of a frame. Only into an empty outbox.
    pub(super) fn push_rest(&mut self, rest: Bytes, budget: &Budget) {
        self.push_always(rest, budget);
        self.started = true;
    }

    /// Calls `each` for every frame that waits, in order.
    #[cfg(test)]
    pub(super) fn for_each(&self, each: impl FnMut(&Bytes)) {
        self.frames.iter().for_each(each);
    }

    /// The front of the queue, for one vectored write.
    pub(super) fn slices(&self) -> Vec<IoSlice<'_>> {
        self.frames.iter().take(SLICES_MAX).map(|frame| IoSlice::new(frame)).collect()
    }

    /// The first `bytes` bytes are written.
    pub(super) fn advance(&mut self, mut bytes: usize, budget: &Budget) {
        budget.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes -= bytes;
        while let Some(front) = self.frames.front_mut() {
            if bytes < front.len() {
                front.advance(bytes);
                self.started |= bytes > 0;
                return;
            }
            bytes -= front.len();
            self.frames.pop_front();
            self.started = false;
        }
        // An empty outbox owns no memory.
        self.frames = VecDeque::new();
    }

    /// Drops every frame of which nothing is written yet; the rest keeps the stream readable.
    pub(super) fn keep_started(&mut self, budget: &Budget) {
        let keep = usize::from(self.started);
        let dropped: usize = self.frames.drain(keep..).map(|frame| frame.len()).sum();
        self.bytes -= dropped;
        budget.used_bytes.fetch_sub(dropped, Ordering::Relaxed);
    }

    /// Drops everything: the connection is gone.
    pub(super) fn clear(&mut self, budget: &Budget) {
        self.started = false;
        self.keep_started(budget);
        self.frames = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn text(outbox: &Outbox) -> String {
        let bytes: Vec<u8> = outbox.slices().iter().flat_map(|slice| slice.to_vec()).collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn bytes_leave_in_order_and_the_budget_follows() {
        let budget = Budget::new(100);
        let mut outbox = Outbox::default();
        outbox.push(frame("abc"), 10, &budget).unwrap();
        outbox.push(frame("def"), 10, &budget).unwrap();
        outbox.advance(4, &budget);
        assert_eq!((text(&outbox).as_str(), budget.used_bytes()), ("ef", 2));
        outbox.advance(2, &budget);
        assert!(outbox.is_empty());
        assert_eq!((outbox.frames.capacity(), budget.used_bytes()), (0, 0));
    }

    #[test]
    fn an_outbox_is_bounded_by_itself_and_by_the_budget_of_all() {
        let budget = Budget::new(5);
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(frame("abcd"), 3, &budget), Err(Full));
        assert_eq!(outbox.push(frame("abc"), 3, &budget), Ok(()));
        assert_eq!(Outbox::default().push(frame("abc"), 3, &budget), Err(Full));
        outbox.clear(&budget);
        assert_eq!(Outbox::default().push(frame("abc"), 3, &budget), Ok(()));
    }

    #[test]
    fn a_frame_that_is_half_written_is_finished() {
        let budget = Budget::new(100);
        let mut outbox = Outbox::default();
        outbox.push_rest(frame("bc"), &budget);
        outbox.push(frame("def"), 10, &budget).unwrap();
        outbox.keep_started(&budget);
        assert_eq!((text(&outbox).as_str(), budget.used_bytes()), ("bc", 2));
        outbox.advance(2, &budget);
        outbox.push(frame("def"), 10, &budget).unwrap();
        outbox.keep_started(&budget);
        assert!(outbox.is_empty());
        assert_eq!(budget.used_bytes(), 0);
    }
}
