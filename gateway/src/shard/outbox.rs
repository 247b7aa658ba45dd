//! What a blocked socket still has to get.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use super::drawing::Drawing;
use super::hub::ChannelKey;
use super::run::{Piece, Run};

/// Most frames handed to one `writev`.
const SLICES_MAX: usize = 64;

/// A part of the budget that nothing new is queued in: what a socket took a part of is finished there, and whoever is
/// closed is told why, whatever waits for others.
const RESERVE: usize = 16;

/// The bytes that all outboxes of a node hold together, and how many they may.
#[derive(Debug)]
pub struct Budget {
    used_bytes: AtomicUsize,
    /// Without the reserve.
    bytes_max: usize,
}

impl Budget {
    /// A budget of `bytes_max` bytes, a sixteenth of which is kept for what cannot be refused: the rest of a frame or
    /// of a record of TLS that is half written, once for each connection that falls behind, and close frames.
    pub fn new(bytes_max: usize) -> Self {
        Self { used_bytes: AtomicUsize::new(0), bytes_max: bytes_max - bytes_max / RESERVE }
    }

    /// What is held now, in bytes.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// By how much it would be exceeded with `bytes` more.
    fn excess(&self, bytes: usize) -> usize {
        (self.used_bytes() + bytes).saturating_sub(self.bytes_max)
    }

    /// Takes `bytes`, in one step: the shards share it, and what each of them finds free must not be taken twice.
    fn take(&self, bytes: usize) -> Result<(), Full> {
        let taken = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.bytes_max);
        self.used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .map_or(Err(Full), |_| Ok(()))
    }

    /// Takes `bytes`, whether they are free or not.
    fn take_always(&self, bytes: usize) {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Memory that is charged to a [`Budget`] for as long as this lives.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    pub(super) fn new(budget: Arc<Budget>, bytes: usize) -> Result<Self, Full> {
        budget.take(bytes)?;
        Ok(Self { budget, bytes })
    }

    /// Charges `bytes` whatever the budget says: they were charged before in another way, or are encrypted and have to
    /// leave as they are.
    pub(super) fn beyond(budget: Arc<Budget>, bytes: usize) -> Self {
        budget.take_always(bytes);
        Self { budget, bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// How much may be queued for a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits<'a> {
    pub(super) bytes_max: usize,
    pub(super) budget: &'a Budget,
}

/// Frames of one connection, in order. What is queued is charged to the [`Budget`] by the caller's hand.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// A part of the first frame is written: it has to be finished, or nothing after it can be read.
    started: bool,
    /// Something was dropped since it was empty.
    lags: bool,
    /// Messages that are drawn and not at their end.
    drawings: u32,
}

/// What waits in one piece.
#[derive(Debug)]
struct Frame {
    bytes: Bytes,
    /// `None` for what is never dropped.
    label: Option<Label>,
    /// What comes after it: the rest of a message that is drawn as the client takes it.
    rest: Option<Box<Drawing>>,
}

/// One publication that may be dropped.
#[derive(Clone, Copy, Debug)]
struct Label {
    channel: ChannelKey,
    slot: u64,
    is_shared: bool,
}

impl Frame {
    fn is_of(&self, channel: ChannelKey) -> bool {
        self.label.is_some_and(|label| label.channel == channel)
    }
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
        self.take(frame.len(), Limits { bytes_max, budget })?;
        self.push_back(Frame { bytes: frame, label: None, rest: None });
        Ok(())
    }

    /// Queues `frame` whatever the limits say: a close frame, or the rest of a frame that is half written.
    pub(super) fn push_always(&mut self, frame: Bytes, budget: &Budget) {
        budget.take_always(frame.len());
        self.push_back(Frame { bytes: frame, label: None, rest: None });
    }

    /// Takes so much of the budget, unless this outbox would then hold more than it may.
    fn take(&self, bytes: usize, limits: Limits<'_>) -> Result<(), Full> {
        if self.bytes + bytes > limits.bytes_max {
            return Err(Full);
        }
        limits.budget.take(bytes)
    }

    /// Queues what is already taken of the budget.
    fn push_back(&mut self, frame: Frame) {
        self.bytes += frame.bytes.len();
        self.frames.push_back(frame);
    }

    /// By how much the limits would be exceeded with `bytes` more.
    fn excess(&self, bytes: usize, limits: Limits<'_>) -> usize {
        let excess = (self.bytes + bytes).saturating_sub(limits.bytes_max);
        excess.max(limits.budget.excess(bytes))
    }

    /// Queues what a short write to the socket left of a frame. Only into an empty outbox.
    pub(super) fn push_rest(&mut self, rest: Bytes, budget: &Budget) {
        self.push_always(rest, budget);
        self.started = true;
    }

    /// Calls `each` for every frame that waits, in order.
    #[cfg(test)]
    pub(super) fn for_each(&self, each: impl FnMut(&Bytes)) {
        self.frames.iter().map(|frame| &frame.bytes).for_each(each);
    }

    /// Queues the message of `drawing`, of which only one piece at a time is made and counts.
    pub(super) fn push_drawn(&mut self, mut drawing: Box<Drawing>, budget: &Budget) {
        if let Some(bytes) = drawing.next_frame() {
            budget.take_always(bytes.len());
            self.push_back(Frame { bytes, label: None, rest: Some(drawing) });
            self.drawings += 1;
        }
    }

    /// Whether a message that is drawn waits.
    pub(super) fn is_drawing(&self) -> bool {
        self.drawings > 0
    }

    /// The front of the queue, for one vectored write.
    pub(super) fn slices(&self) -> Vec<IoSlice<'_>> {
        // What waits behind a message that is drawn waits for its end.
        let is_drawn = |frame: &Frame| frame.rest.is_some();
        let drawn = if self.is_drawing() { self.frames.iter().position(is_drawn) } else { None };
        let count = drawn.map_or(SLICES_MAX, |drawn| SLICES_MAX.min(drawn + 1));
        self.frames.iter().take(count).map(|frame| IoSlice::new(&frame.bytes)).collect()
    }

    /// The first `bytes` bytes are written.
    pub(super) fn advance(&mut self, mut bytes: usize, budget: &Budget) {
        self.take_off(bytes, budget);
        while let Some(front) = self.frames.front_mut() {
            if bytes < front.bytes.len() {
                front.bytes.advance(bytes);
                self.started |= bytes > 0;
                return;
            }
            bytes -= front.bytes.len();
            self.started = false;
            if let Some(next) = front.rest.as_mut().and_then(|rest| rest.next_frame()) {
                self.bytes += next.len();
                budget.take_always(next.len());
                front.bytes = next;
                // Nothing else was written: the rest of the queue waits for the end of this message.
                return;
            }
            self.drawings -= u32::from(front.rest.is_some());
            self.frames.pop_front();
        }
        // An empty outbox owns no memory.
        self.frames = VecDeque::new();
        self.lags = false;
    }

    /// Drops every frame of which nothing is written yet; the rest keeps the stream readable.
    pub(super) fn keep_started(&mut self, budget: &Budget) {
        let keep = usize::from(self.started);
        // Between the fragments of a message there may be a close frame, and none of them need follow it.
        self.frames.iter_mut().for_each(|frame| frame.rest = None);
        self.drawings = 0;
        let dropped: usize = self.frames.drain(keep..).map(|frame| frame.bytes.len()).sum();
        self.take_off(dropped, budget);
    }

    fn take_off(&mut self, bytes: usize, budget: &Budget) {
        self.bytes -= bytes;
        budget.give_back(bytes);
    }

    /// Drops everything: the connection is gone.
    pub(super) fn clear(&mut self, budget: &Budget) {
        self.started = false;
        self.keep_started(budget);
        self.frames = VecDeque::new();
    }
}

/// Publications that may be dropped: each is a frame of its own here, labelled with its channel.
impl Outbox {
    /// How many frames wait.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Queues `run` of `channel`, all of it or nothing.
    pub(super) fn push_run(
        &mut self,
        channel: ChannelKey,
        run: &Run,
        limits: Limits<'_>,
    ) -> Result<(), Full> {
        self.take(run.pieces_bytes(0), limits)?;
        self.lags &= !self.is_empty();
        run.pieces(0).for_each(|piece| self.push_piece(channel, piece));
        Ok(())
    }

    /// Queues what a write of `written` bytes left of `run`. Only into an empty outbox.
    pub(super) fn push_rest_of_run(
        &mut self,
        channel: ChannelKey,
        run: &Run,
        written: usize,
        budget: &Budget,
    ) {
        budget.take_always(run.pieces_bytes(written));
        run.pieces(written).for_each(|piece| self.push_piece(channel, piece));
        self.started = !run.is_between_frames(written);
    }

    /// Queues `pieces`, unless the budget has no room for them.
    pub(super) fn push_pieces(
        &mut self,
        channel: ChannelKey,
        pieces: Vec<Piece>,
        budget: &Budget,
    ) -> Result<(), Full> {
        budget.take(pieces.iter().map(|piece| piece.bytes.len()).sum())?;
        pieces.into_iter().for_each(|piece| self.push_piece(channel, piece));
        Ok(())
    }

    /// Queues what is already taken of the budget.
    fn push_piece(&mut self, channel: ChannelKey, piece: Piece) {
        let Piece { bytes, slot, is_shared } = piece;
        let label = Some(Label { channel, slot, is_shared });
        self.push_back(Frame { bytes, label, rest: None });
    }

    /// Publications are dropped now; `true` if that begins, `false` if it goes on since the outbox was empty.
    pub(super) fn begins_to_lag(&mut self) -> bool {
        !std::mem::replace(&mut self.lags, true)
    }

    /// What waits of `channel` is not dropped any more: the subscription that it came for has ended.
    pub(super) fn keep_all(&mut self, channel: ChannelKey) {
        for frame in self.frames.iter_mut().filter(|frame| frame.is_of(channel)) {
            frame.label = None;
        }
    }

    /// Drops all that may be dropped of `channel`; answers how many publications it was.
    pub(super) fn drop_all(&mut self, channel: ChannelKey, budget: &Budget) -> usize {
        self.drop_if(budget, |_, frame| frame.is_of(channel))
    }

    /// Drops what is older than another of `channel` in the same slot, here and among the `fresh`. Answers how many
    /// publications it was here.
    pub(super) fn keep_newest(
        &mut self,
        channel: ChannelKey,
        fresh: &mut Vec<Piece>,
        budget: &Budget,
    ) -> usize {
        let own = self.frames.iter().map(|frame| frame.label.filter(|label| label.channel == channel));
        let slots =
            own.map(|label| label.map(|label| label.slot)).chain(fresh.iter().map(|piece| Some(piece.slot)));
        let places = slots.enumerate().filter_map(|(place, slot)| Some((slot?, place)));
        let newest: HashMap<u64, usize> = places.collect();
        let is_older = |label: Label, place| label.channel == channel && newest[&label.slot] != place;
        let waiting = self.frames.len();
        let dropped =
            self.drop_if(budget, |place, frame| frame.label.is_some_and(|label| is_older(label, place)));
        let mut place = waiting;
        fresh.retain(|piece| {
            place += 1;
            newest[&piece.slot] == place - 1
        });
        if dropped > 0 {
            self.own(channel);
        }
        dropped
    }

    /// Gives what is left of `channel` memory of its own: a few publications must not keep all those in memory that
    /// they came with.
    fn own(&mut self, channel: ChannelKey) {
        for Frame { bytes, label, .. } in &mut self.frames {
            if let Some(label) = label.as_mut().filter(|label| label.channel == channel && label.is_shared) {
                *bytes = Bytes::copy_from_slice(bytes);
                label.is_shared = false;
            }
        }
    }

    /// How many bytes would fit if nothing of `channel` waited that may be dropped.
    pub(super) fn spare_bytes(&self, channel: ChannelKey, limits: Limits<'_>) -> usize {
        let own = self.frames.iter().skip(self.started.into()).filter(|frame| frame.is_of(channel));
        let own: usize = own.map(|frame| frame.bytes.len()).sum();
        let spare = |bytes_max: usize, used: usize| bytes_max.saturating_add(own).saturating_sub(used);
        spare(limits.bytes_max, self.bytes).min(spare(limits.budget.bytes_max, limits.budget.used_bytes()))
    }

    /// Drops the oldest of `channel` until `bytes` fit, or nothing is left of it; answers how many publications it
    /// was.
    pub(super) fn make_room(&mut self, channel: ChannelKey, bytes: usize, limits: Limits<'_>) -> usize {
        let excess = self.excess(bytes, limits);
        let (mut freed, mut end) = (0, 0);
        for (place, frame) in self.frames.iter().enumerate().skip(self.started.into()) {
            if freed >= excess {
                break;
            }
            if frame.is_of(channel) {
                freed += frame.bytes.len();
                end = place + 1;
            }
        }
        let started = usize::from(self.started);
        // What is dropped is near the front as a rule: only that part is moved.
        let front = self.frames.drain(..end).enumerate();
        let stays = |(place, frame): &(usize, Frame)| *place < started || !frame.is_of(channel);
        let kept: SmallVec<[Frame; 4]> = front.filter(stays).map(|(_, frame)| frame).collect();
        let dropped = end - kept.len();
        kept.into_iter().rev().for_each(|frame| self.frames.push_front(frame));
        self.take_off(freed, limits.budget);
        dropped
    }

    /// Drops what `is_dropped` says, but never what is half written; answers how many frames it was.
    fn drop_if(&mut self, budget: &Budget, is_dropped: impl Fn(usize, &Frame) -> bool) -> usize {
        let (mut place, mut bytes) = (0, 0);
        let before = self.frames.len();
        let first = usize::from(self.started);
        self.frames.retain(|frame| {
            let goes = place >= first && is_dropped(place, frame);
            place += 1;
            bytes += if goes { frame.bytes.len() } else { 0 };
            !goes
        });
        self.take_off(bytes, budget);
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        }
        before - self.frames.len()
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;
    use std::sync::Barrier;
    use std::thread;
    use std::time::Instant;

    use super::super::run::Selection;
    use super::*;
    use crate::metrics::Metrics;
    use crate::model::{Channel, Publication, RawJson};
    use crate::node::{Cargo, Delivery};
    use crate::protocol::Encoding;
    use crate::protocol::{Drawn, FrameKind};

    fn frame(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn text(outbox: &Outbox) -> String {
        let bytes: Vec<u8> = outbox.slices().iter().flat_map(|slice| slice.to_vec()).collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn shards_that_fill_the_budget_together_do_not_exceed_it() {
        const SHARDS: usize = 4;
        for _ in 0..200 {
            let (budget, start) = (Budget::new(1_000), Barrier::new(SHARDS));
            let fill = || {
                start.wait();
                (0..1_000).filter(|_| budget.take(7).is_ok()).count()
            };
            let taken = thread::scope(|scope| {
                let shards: Vec<_> = (0..SHARDS).map(|_| scope.spawn(fill)).collect();
                shards.into_iter().map(|shard| shard.join().unwrap()).sum::<usize>()
            });
            assert_eq!((taken, budget.used_bytes()), (134, 938), "and the reserve is left");
            assert_eq!(budget.take(usize::MAX), Err(Full));
        }
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

    /// A run of numbers of one digit, each a frame of three bytes whose slot is its own.
    fn run(numbers: std::ops::Range<u64>) -> Run {
        let publication = |number: u64| {
            let data = RawJson::parse(number.to_string().as_bytes()).unwrap();
            Arc::new(Publication {
                tags: [("key".to_owned(), number.to_string())].into(),
                ..Publication::of(data)
            })
        };
        let delivery = Delivery {
            channel: Channel::parse("a", 255).unwrap(),
            cargo: Cargo::Publications { publications: numbers.map(publication).collect(), epoch: None },
            accepted_at: Instant::now(),
            cost_bytes: 0,
            processing: None,
        };
        let selection = Selection { after: 0, client: None };
        Run::encode(Encoding::BareData, &[delivery], selection, Some(&RandomState::new())).unwrap()
    }

    fn digits(outbox: &Outbox) -> String {
        let mut digits = String::new();
        outbox.for_each(|frame| {
            digits.extend(frame.iter().map(|byte| *byte as char).filter(char::is_ascii_digit));
        });
        digits
    }

    #[test]
    fn of_a_run_that_was_written_in_part_the_begun_frame_stays() {
        let budget = Budget::new(100);
        let [a, b] = [ChannelKey::of_test(0), ChannelKey::of_test(1)];
        // The socket took so many bytes of four frames; so many digits stay in any case.
        for (written, stays) in [(1, "0"), (3, ""), (5, "1"), (9, ""), (11, "3")] {
            let mut outbox = Outbox::default();
            outbox.push_rest_of_run(a, &run(0..4), written, &budget);
            assert_eq!(outbox.bytes(), 12 - written);
            outbox.push_always(frame("9"), &budget);
            assert_eq!(outbox.drop_all(b, &budget), 0);
            outbox.drop_all(a, &budget);
            assert_eq!(digits(&outbox), format!("{stays}9"), "{written}");
            assert_eq!(budget.used_bytes(), outbox.bytes());
            outbox.clear(&budget);
        }
    }

    #[test]
    fn room_is_made_from_the_oldest_of_the_channel_alone() {
        let budget = Budget::new(100);
        let limits = Limits { bytes_max: 15, budget: &budget };
        let [a, b] = [ChannelKey::of_test(0), ChannelKey::of_test(1)];
        let mut outbox = Outbox::default();
        outbox.push_run(a, &run(0..2), limits).unwrap();
        outbox.push_run(b, &run(2..3), limits).unwrap();
        outbox.push_run(a, &run(3..5), limits).unwrap();
        assert_eq!(outbox.push_run(a, &run(5..6), limits), Err(Full));
        assert_eq!(outbox.spare_bytes(a, limits), 12);
        assert_eq!(outbox.make_room(a, 0, limits), 0);
        assert_eq!(outbox.make_room(a, 1, limits), 1);
        assert_eq!(digits(&outbox), "1234");
        outbox.advance(1, &budget);
        assert_eq!((outbox.spare_bytes(a, limits), outbox.make_room(a, 7, limits)), (10, 1));
        assert_eq!(digits(&outbox), "124", "what is begun stays");
        outbox.keep_all(a);
        assert_eq!((outbox.make_room(a, 15, limits), outbox.bytes(), budget.used_bytes()), (0, 8, 8));
        // No limit is one too.
        let loose = Limits { bytes_max: usize::MAX, budget: &Budget::new(usize::MAX) };
        let mut unlimited = Outbox::default();
        unlimited.push_run(a, &run(0..2), loose).unwrap();
        assert!(unlimited.spare_bytes(a, loose) > usize::MAX / 2);
        // The budget of all is a limit as well.
        let tight = Limits { bytes_max: 100, budget: &Budget::new(6) };
        let mut outbox = Outbox::default();
        outbox.push_run(a, &run(0..2), tight).unwrap();
        assert_eq!((outbox.spare_bytes(a, tight), outbox.make_room(a, 3, tight)), (6, 1));
    }

    #[test]
    fn what_is_left_of_a_piece_does_not_keep_all_of_it_in_memory() {
        let budget = Budget::new(100);
        let limits = Limits { bytes_max: 100, budget: &budget };
        let a = ChannelKey::of_test(0);
        let mut outbox = Outbox::default();
        let first = run(0..3);
        outbox.push_run(a, &first, limits).unwrap();
        let mut fresh: Vec<Piece> = first.pieces(0).take(2).collect();
        assert_eq!(outbox.keep_newest(a, &mut fresh, &budget), 2);
        assert_eq!((digits(&outbox).as_str(), fresh.len()), ("2", 2));
        outbox.for_each(|left| assert!(!first.bytes.as_ptr_range().contains(&left.as_ptr())));
    }

    /// A message of these pieces.
    fn drawing(pieces: &[&'static str], budget: &Arc<Budget>) -> Box<Drawing> {
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
        let drawn = Drawn { kind: FrameKind::Text, pieces: Box::new(pieces.into_iter()), held_bytes: 100 };
        Box::new(Drawing::new(drawn, Arc::new(Metrics::new()), budget).unwrap())
    }

    /// Writes `step` bytes at a time until all is written.
    fn written(outbox: &mut Outbox, step: usize, budget: &Budget) -> Vec<u8> {
        let mut written = Vec::new();
        while !outbox.is_empty() {
            let waiting: Vec<u8> = outbox.slices().iter().flat_map(|slice| slice.to_vec()).collect();
            let taken = &waiting[..waiting.len().min(step)];
            written.extend_from_slice(taken);
            outbox.advance(taken.len(), budget);
        }
        written
    }

    #[test]
    fn a_drawn_message_goes_out_in_fragments_and_what_comes_after_waits_for_its_end() {
        for step in [1, 2, 3, 4, 5, 7, 100] {
            let (mut outbox, budget) = (Outbox::default(), Arc::new(Budget::new(1_000)));
            outbox.push_always(Bytes::from_static(b"<"), &budget);
            outbox.push_drawn(drawing(&["ab", "cde", ""], &budget), &budget);
            outbox.push_always(Bytes::from_static(b">"), &budget);
            outbox.push_drawn(drawing(&["f"], &budget), &budget);
            assert_eq!(
                (outbox.bytes(), budget.used_bytes()),
                (9, 209),
                "a piece at a time, and what they hold"
            );
            let written = written(&mut outbox, step, &budget);
            assert_eq!(written, b"<\x01\x02ab\x00\x03cde\x80\x00>\x81\x01f", "{step}");
            assert_eq!((outbox.bytes(), budget.used_bytes(), outbox.is_drawing()), (0, 0, false));
        }
    }

    #[test]
    fn a_close_needs_not_wait_for_the_end_of_a_drawn_message() {
        let (mut outbox, budget) = (Outbox::default(), Arc::new(Budget::new(1_000)));
        outbox.push_drawn(drawing(&["ab", "cde"], &budget), &budget);
        outbox.push_always(Bytes::from_static(b"late"), &budget);
        outbox.advance(1, &budget);
        outbox.keep_started(&budget);
        outbox.push_always(Bytes::from_static(b"close"), &budget);
        assert_eq!(written(&mut outbox, 100, &budget), b"\x02abclose", "the fragment that has begun ends");
        assert_eq!((budget.used_bytes(), outbox.is_drawing()), (0, false));
    }
}
