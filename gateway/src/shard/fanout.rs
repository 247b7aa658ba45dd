//! Encode once, send to all, wait for nobody.
//!
//! A walk takes what is queued for a channel, encodes it once per form, and offers the same bytes to every
//! subscriber. After some sends it is suspended, so that reads, accepts and other channels have their turn.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::hub::ChannelKey;
use super::{Offer, Shard};
use crate::metrics::DropReason;
use crate::model::CloseReason;
use crate::node::Delivery;
use crate::protocol::Encoding;
use crate::wire::{self, Opcode};

/// Most deliveries taken from the inbox at once.
const DRAIN_MAX: usize = 64;
/// Sends between two looks at everything else.
const SENDS_PER_TURN: usize = 512;
/// Most bytes of publications that go out in one piece. Bounded, because a piece that a healthy socket cannot
/// take at once must still fit into its outbox.
const BATCH_BYTES_MAX: usize = 64 << 10;

/// One pass over the subscribers of a channel with one batch.
struct Walk {
    channel: ChannelKey,
    batch: Vec<Delivery>,
    frames: SmallVec<[(Encoding, Bytes); 2]>,
    next: usize,
    /// Who is at or after this joined later: the batch is not for them.
    end: usize,
}

/// What a turn of a walk did.
#[derive(Default)]
struct Tally {
    publications: usize,
    bytes: usize,
    dropped: usize,
}

/// Delivers what comes into the shard's inbox, for ever.
pub(super) async fn run(shard: Rc<Shard>) {
    let mut walks = VecDeque::new();
    let mut drained = Vec::with_capacity(DRAIN_MAX);
    let mut may_have_more = false;
    loop {
        if walks.is_empty() && !may_have_more {
            shard.inbox().queued().await;
        } else {
            tokio::task::yield_now().await;
        }
        while let Some(control) = shard.inbox().next_control() {
            shard.on_control(control);
        }
        shard.inbox().drain(DRAIN_MAX, &mut drained);
        may_have_more = drained.len() == DRAIN_MAX;
        queue(&shard, &mut drained, &mut walks);
        turn(&shard, &mut walks);
    }
}

/// Sorts deliveries by channel; a channel without a walk gets one.
fn queue(shard: &Shard, drained: &mut Vec<Delivery>, walks: &mut VecDeque<Walk>) {
    let mut begun = SmallVec::<[ChannelKey; 8]>::new();
    for delivery in drained.drain(..) {
        let mut hub = shard.hub.borrow_mut();
        let Some(key) = hub.find(&delivery.channel) else {
            // The last subscriber left while the delivery waited.
            shard.inbox().release(delivery.cost_bytes);
            continue;
        };
        if hub.queue(key, delivery) {
            begun.push(key);
        }
    }
    walks.extend(begun.into_iter().filter_map(|key| Walk::begin(shard, key)));
}

/// Spends a turn's sends on the walks, in rotation.
fn turn(shard: &Shard, walks: &mut VecDeque<Walk>) {
    let mut sends = SENDS_PER_TURN;
    while sends > 0
        && let Some(mut walk) = walks.pop_front()
    {
        if walk.step(shard, &mut sends) {
            let channel = walk.channel;
            walk.finish(shard);
            walks.extend(Walk::begin(shard, channel));
        } else {
            walks.push_back(walk);
        }
    }
}

impl Walk {
    fn begin(shard: &Shard, channel: ChannelKey) -> Option<Self> {
        let (batch, end) = shard.hub.borrow_mut().begin_walk(channel, BATCH_BYTES_MAX)?;
        Some(Self { channel, batch, frames: SmallVec::new(), next: 0, end })
    }

    /// Goes on with the walk; `true` when it is at its end.
    fn step(&mut self, shard: &Shard, sends: &mut usize) -> bool {
        let (table, hub) = (shard.table.borrow(), shard.hub.borrow());
        let subscribers = hub.subscribers(self.channel);
        let publications = self.batch.iter().map(|delivery| delivery.publications.len()).sum::<usize>();
        let mut tally = Tally::default();
        while self.next < self.end && *sends > 0 {
            let subscriber = subscribers[self.next];
            self.next += 1;
            let Some(key) = subscriber.connection else { continue };
            let Some(entry) = table.get(key) else { continue };
            *sends -= 1;
            let frame = self.frame(subscriber.encoding);
            match shard.offer_to(entry, key, frame) {
                Offer::Sent | Offer::Queued => {
                    tally.publications += publications;
                    tally.bytes += frame.len();
                }
                Offer::SlowConsumer => tally.dropped += publications,
                Offer::Closed if entry.link.closing() == Some(CloseReason::SlowConsumer) => {
                    tally.dropped += publications;
                }
                Offer::Closed => {}
            }
        }
        shard.count(&tally);
        self.next >= self.end
    }

    /// The batch in this form: the frames of all its publications, one after another.
    fn frame(&mut self, encoding: Encoding) -> &Bytes {
        let known = self.frames.iter().position(|(known, _)| *known == encoding);
        let index = known.unwrap_or_else(|| {
            self.frames.push((encoding, encode(encoding, &self.batch)));
            self.frames.len() - 1
        });
        &self.frames[index].1
    }

    fn finish(self, shard: &Shard) {
        for delivery in &self.batch {
            shard.metrics.delivery_completed(delivery.accepted_at.elapsed());
            shard.inbox().release(delivery.cost_bytes);
        }
        let mut moved = Vec::new();
        shard.hub.borrow_mut().end_walk(self.channel, |change| moved.push(change));
        for change in &moved {
            shard.apply(change);
        }
    }
}

impl Shard {
    fn count(&self, tally: &Tally) {
        self.metrics.publications_delivered(tally.publications, tally.bytes);
        if tally.dropped > 0 {
            self.metrics.publications_dropped(DropReason::SlowConsumer, tally.dropped);
        }
    }
}

fn encode(encoding: Encoding, batch: &[Delivery]) -> Bytes {
    let mut payload = Vec::new();
    let mut out = Vec::new();
    for delivery in batch {
        for publication in &delivery.publications {
            payload.clear();
            encoding.encode(&delivery.channel, publication, &mut payload);
            wire::encode_frame(Opcode::Text, &payload, &mut out);
        }
    }
    out.into()
}
