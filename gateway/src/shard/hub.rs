//! Channel → local subscribers. Never heard of Redis or of a protocol.
//!
//! A channel's subscribers are a dense list. While a walk over it is suspended, who leaves becomes a
//! tombstone, so that nobody is moved across the walk's place, and who joins comes after its end.
//!
//! A subscriber that tracks its position is given each publication of the history once and in order, or is
//! marked as having lost something, once; see [`Tracking`].

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::table::Key;
use crate::config::{NamespaceId, SlowConsumer};
use crate::model::{Channel, Epoch, Position};
use crate::node::{Delivery, Interest, Seat};
use crate::protocol::Encoding;

/// A channel's place in the hub, for as long as it has subscribers or a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChannelKey(u32);

#[cfg(test)]
impl ChannelKey {
    pub(super) fn of_test(index: u32) -> Self {
        Self(index)
    }
}

/// One subscriber, as delivery needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscriber {
    /// `None` for a tombstone.
    pub(super) connection: Option<Key>,
    pub(super) encoding: Encoding,
    pub(super) tracking: Tracking,
    pub(super) hears_notices: bool,
}

/// How a subscriber is to be served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) encoding: Encoding,
    pub(super) tracking: Tracking,
    /// Whether it is told who joins and leaves, once it is live.
    pub(super) hears_notices: bool,
}

/// What a subscriber has of the channel's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracking {
    /// It does not care.
    Free,
    /// The history is being read for it: what comes meanwhile is set aside.
    Buffering,
    /// It has everything up to this offset, of the room's epoch.
    At(u64),
    /// It missed something and will be told; nothing more is for it.
    Lost,
}

/// What a run of publications means to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// All of it.
    All,
    /// What comes after this offset.
    After(u64),
    /// Nothing: it has it already, or is lost.
    Nothing,
    /// It is to be set aside.
    Later,
    /// Something before it is missing.
    Gap,
}

impl Tracking {
    /// What a subscriber gets of the offsets `first..=last`, of the room's epoch, which it has from now on.
    pub(super) fn advance(&mut self, first: u64, last: u64) -> Share {
        match *self {
            Self::Free => Share::All,
            Self::Buffering => Share::Later,
            Self::Lost => Share::Nothing,
            Self::At(offset) if last <= offset => Share::Nothing,
            Self::At(offset) if first <= offset + 1 => {
                *self = Self::At(last);
                if first == offset + 1 { Share::All } else { Share::After(offset) }
            }
            Self::At(_) => {
                *self = Self::Lost;
                Share::Gap
            }
        }
    }
}

impl Tracking {
    /// What becomes of a subscriber when what it misses up to the offset `top` of the room's epoch will not come;
    /// `None`: the room has another epoch by now, whose coming has told it.
    pub(super) fn survive(&mut self, top: Option<u64>) -> Share {
        match (*self, top) {
            (Self::Buffering, _) => Share::Later,
            (Self::At(offset), Some(top)) if offset < top => {
                *self = Self::Lost;
                Share::Gap
            }
            _ => Share::Nothing,
        }
    }
}

/// A connection's side of a subscription: where its entry is, the node's claim on the channel, and its presence.
pub(super) struct Held {
    pub(super) channel: ChannelKey,
    index: u32,
    _interest: Interest,
    /// `None` if nobody is to know that it is there. Boxed: most subscriptions have none.
    pub(super) seat: Option<Box<Seat>>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Held({:?}, {})", self.channel, self.index)
    }
}

/// The subscriber `connection` is now at `index` of `channel`: its [`Held`] must follow.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) connection: Key,
    pub(super) channel: ChannelKey,
    pub(super) index: u32,
}

impl Moved {
    /// Corrects the subscription among those of the connection that was moved.
    pub(super) fn apply(&self, subscriptions: &mut [Held]) {
        if let Some(held) = subscriptions.iter_mut().find(|held| held.channel == self.channel) {
            held.index = self.index;
        }
    }
}

/// The channels of a shard.
#[derive(Debug, Default)]
pub(super) struct Hub {
    by_name: HashMap<Channel, ChannelKey>,
    rooms: Vec<Room>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Room {
    /// `None` while the place is free.
    channel: Option<Channel>,
    subscribers: Vec<Subscriber>,
    /// How many of them hear notices.
    hearers: usize,
    tombstones: usize,
    is_walked: bool,
    /// Of the offsets that subscribers are at; `None` while nobody tracks any.
    epoch: Option<Epoch>,
    /// What was the top of the history at the last look.
    top: Option<Position>,
    /// How long the epoch is kept.
    meta_ttl: Duration,
    slow_consumer: SlowConsumer,
    namespace: NamespaceId,
    /// What came while a walk was under way, or is about to be walked.
    backlog: VecDeque<Delivery>,
}

impl Hub {
    pub(super) fn find(&self, channel: &Channel) -> Option<ChannelKey> {
        self.by_name.get(channel).copied()
    }

    /// Adds a subscriber; from now on it is part of every walk that begins.
    pub(super) fn add(
        &mut self,
        channel: &Channel,
        connection: Key,
        Form { encoding, tracking, hears_notices }: Form,
        interest: Interest,
    ) -> Held {
        let key = self.find(channel).unwrap_or_else(|| self.open(channel, interest.namespace()));
        let room = self.room_mut(key);
        room.hearers += usize::from(hears_notices);
        let index = u32::try_from(room.subscribers.len()).expect("a shard has fewer connections than that");
        room.subscribers.push(Subscriber { connection: Some(connection), encoding, tracking, hears_notices });
        Held { channel: key, index, _interest: interest, seat: None }
    }

    fn open(&mut self, channel: &Channel, namespace: NamespaceId) -> ChannelKey {
        let room = Room { channel: Some(channel.clone()), namespace, ..Room::default() };
        let key = match self.free.pop() {
            Some(index) => {
                self.rooms[index as usize] = room;
                ChannelKey(index)
            }
            None => {
                self.rooms.push(room);
                ChannelKey(u32::try_from(self.rooms.len() - 1).expect("fewer channels than that"))
            }
        };
        self.by_name.insert(channel.clone(), key);
        key
    }

    /// Removes a subscriber. Says who was moved into its place, if anybody.
    pub(super) fn remove(&mut self, held: &Held) -> Option<Moved> {
        let room = self.room_mut(held.channel);
        room.hearers -= usize::from(room.subscribers[held.index as usize].hears_notices);
        if room.is_walked {
            room.subscribers[held.index as usize].connection = None;
            room.tombstones += 1;
            return None;
        }
        room.subscribers.swap_remove(held.index as usize);
        let moved = room.moved_to(held.channel, held.index);
        self.close_if_empty(held.channel);
        moved
    }

    fn close_if_empty(&mut self, key: ChannelKey) {
        let room = self.room_mut(key);
        if !room.subscribers.is_empty() || room.is_walked || !room.backlog.is_empty() {
            return;
        }
        let channel = std::mem::take(room).channel.expect("an open room has a channel");
        self.by_name.remove(&channel);
        self.free.push(key.0);
    }

    /// Whether anybody in the channel is told who joins and leaves.
    pub(super) fn has_hearers(&self, key: ChannelKey) -> bool {
        self.rooms[key.0 as usize].hearers > 0
    }

    /// Queues `delivery` for its channel; `true` if a walk has to be begun for it.
    pub(super) fn queue(&mut self, key: ChannelKey, delivery: Delivery) -> bool {
        let room = self.room_mut(key);
        room.backlog.push_back(delivery);
        !room.is_walked && room.backlog.len() == 1
    }

    /// Begins a walk over the subscribers of now: answers the oldest of what is queued, up to `bytes_max`
    /// and at least one, with the end mark. `None` if nothing is queued.
    ///
    /// It is publications whose offsets follow one another, in one epoch, or notices.
    pub(super) fn begin_walk(&mut self, key: ChannelKey, bytes_max: usize) -> Option<(Vec<Delivery>, usize)> {
        let room = self.room_mut(key);
        let mut bytes = 0;
        let mut count = 0;
        for (index, delivery) in room.backlog.iter().enumerate() {
            bytes += delivery.cost_bytes;
            let goes_on = index == 0 || follows(delivery, &room.backlog[index - 1]);
            if !goes_on || (index > 0 && bytes > bytes_max) {
                break;
            }
            count += 1;
        }
        if room.backlog.is_empty() {
            return None;
        }
        let batch = room.backlog.drain(..count).collect();
        if room.backlog.is_empty() {
            // A burst that passed leaves no memory behind.
            room.backlog = VecDeque::new();
        }
        room.is_walked = true;
        Some((batch, room.subscribers.len()))
    }

    /// Offsets of `epoch` are about to be delivered: whoever is at one of another epoch has lost its place.
    /// Calls `lost` for each of them.
    pub(super) fn observe(&mut self, key: ChannelKey, epoch: &Epoch, mut lost: impl FnMut(Key)) {
        let room = self.room_mut(key);
        if room.epoch.as_ref() == Some(epoch) {
            return;
        }
        room.epoch = Some(epoch.clone());
        for subscriber in &mut room.subscribers {
            if matches!(subscriber.tracking, Tracking::At(_)) {
                subscriber.tracking = Tracking::Lost;
                subscriber.connection.into_iter().for_each(&mut lost);
            }
        }
    }

    /// The subscriber has everything up to `position`, and is live from there. Calls `lost` as
    /// [`observe`](Self::observe) does.
    ///
    /// `meta_ttl` is how long the epoch is kept.
    pub(super) fn settle(
        &mut self,
        held: &Held,
        position: &Position,
        meta_ttl: Duration,
        lost: impl FnMut(Key),
    ) {
        self.observe(held.channel, &position.epoch, lost);
        self.room_mut(held.channel).meta_ttl = meta_ttl;
        self.room_mut(held.channel).subscribers[held.index as usize].tracking = Tracking::At(position.offset);
    }

    /// What happens to subscribers of `channel` that do not keep up, from the next walk on.
    pub(super) fn set_slow_consumer(&mut self, channel: &Channel, policy: SlowConsumer) {
        if let Some(key) = self.find(channel) {
            self.room_mut(key).slow_consumer = policy;
        }
    }

    pub(super) fn slow_consumer(&self, key: ChannelKey) -> SlowConsumer {
        self.rooms[key.0 as usize].slow_consumer
    }

    pub(super) fn namespace(&self, key: ChannelKey) -> NamespaceId {
        self.rooms[key.0 as usize].namespace
    }

    /// Whether the subscriber follows the history of its channel.
    pub(super) fn is_tracked(&self, held: &Held) -> bool {
        let subscriber = &self.rooms[held.channel.0 as usize].subscribers[held.index as usize];
        subscriber.tracking != Tracking::Free
    }

    /// The channels with subscribers that track their position.
    pub(super) fn tracked(&self) -> Vec<(ChannelKey, Channel, Duration)> {
        let tracks = |room: &Room| room.subscribers.iter().any(|one| matches!(one.tracking, Tracking::At(_)));
        let rooms = self.rooms.iter().enumerate().filter(|(_, room)| tracks(room));
        let key = |index| ChannelKey(u32::try_from(index).expect("fewer channels than that"));
        rooms.filter_map(|(index, room)| Some((key(index), room.channel.clone()?, room.meta_ttl))).collect()
    }

    /// Whoever is behind what was the top a while ago, or at a place of another epoch, has missed something.
    /// Calls `lost` for each of them. `top` is what the next look compares with.
    pub(super) fn check(
        &mut self,
        key: ChannelKey,
        channel: &Channel,
        top: Position,
        mut lost: impl FnMut(Key),
    ) {
        let room = self.room_mut(key);
        // The room may have been closed and opened for another channel while the top was read.
        if room.channel.as_ref() != Some(channel) {
            return;
        }
        if room.is_walked || !room.backlog.is_empty() {
            // What is on its way is not missed.
            return;
        }
        let epoch = top.epoch.clone();
        let Some(before) = room.top.replace(top) else { return };
        if before.epoch != epoch {
            // Whoever is at the old epoch is told by the next publication, or by the next look.
            return;
        }
        let is_other = room.epoch.as_ref() != Some(&before.epoch);
        for subscriber in &mut room.subscribers {
            if matches!(subscriber.tracking, Tracking::At(offset) if is_other || offset < before.offset) {
                subscriber.tracking = Tracking::Lost;
                subscriber.connection.into_iter().for_each(&mut lost);
            }
        }
    }

    /// Nothing more is for the subscriber, and it is not told that it misses something.
    pub(super) fn mute(&mut self, held: &Held) {
        self.room_mut(held.channel).subscribers[held.index as usize].tracking = Tracking::Lost;
    }

    /// The channel of a subscription that has lost something; `None` if it has not.
    pub(super) fn lost(&self, held: &Held) -> Option<Channel> {
        let room = &self.rooms[held.channel.0 as usize];
        let is_lost = room.subscribers[held.index as usize].tracking == Tracking::Lost;
        room.channel.clone().filter(|_| is_lost)
    }

    /// Ends a walk: the tombstones go. Calls `moved` for everybody who got another place.
    pub(super) fn end_walk(&mut self, key: ChannelKey, mut moved: impl FnMut(Moved)) {
        let room = self.room_mut(key);
        room.is_walked = false;
        let mut index = 0;
        while room.tombstones > 0 && index < room.subscribers.len() {
            if room.subscribers[index].connection.is_some() {
                index += 1;
                continue;
            }
            room.subscribers.swap_remove(index);
            room.tombstones -= 1;
            let place = u32::try_from(index).expect("it was an index before");
            if let Some(change) = room.moved_to(key, place) {
                moved(change);
            }
        }
        self.close_if_empty(key);
    }

    /// Whether subscribers that track their position are at offsets of `epoch`.
    pub(super) fn is_at(&self, key: ChannelKey, epoch: Option<&Epoch>) -> bool {
        epoch.is_none() || self.rooms[key.0 as usize].epoch.as_ref() == epoch
    }

    pub(super) fn subscribers_mut(&mut self, key: ChannelKey) -> &mut [Subscriber] {
        &mut self.room_mut(key).subscribers
    }

    /// Where the subscription to `channel` is among those of a connection.
    pub(super) fn position(&self, channel: &Channel, subscriptions: &[Held]) -> Option<usize> {
        let key = self.find(channel)?;
        subscriptions.iter().position(|held| held.channel == key)
    }

    fn room_mut(&mut self, key: ChannelKey) -> &mut Room {
        &mut self.rooms[key.0 as usize]
    }

    /// How many channels are open.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }
}

/// Whether `delivery` goes on where `before` ends, with more of the same.
fn follows(delivery: &Delivery, before: &Delivery) -> bool {
    delivery.is_notice() == before.is_notice()
        && delivery.loss().is_none()
        && before.loss().is_none()
        && delivery.epoch() == before.epoch()
        && match (delivery.offsets(), before.offsets()) {
            (Some((first, _)), Some((_, last))) => first == last + 1,
            _ => true,
        }
}

impl Room {
    fn moved_to(&self, channel: ChannelKey, index: u32) -> Option<Moved> {
        let connection = self.subscribers.get(index as usize)?.connection?;
        Some(Moved { connection, channel, index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_what_will_not_come_is_lost_once() {
        let mut behind = Tracking::At(3);
        assert_eq!(behind.survive(Some(4)), Share::Gap);
        assert_eq!((behind, behind.survive(Some(5))), (Tracking::Lost, Share::Nothing));
        for (mut tracking, top, share) in [
            (Tracking::At(4), Some(4), Share::Nothing),
            (Tracking::At(3), None, Share::Nothing),
            (Tracking::Free, Some(4), Share::Nothing),
            (Tracking::Buffering, Some(4), Share::Later),
        ] {
            let before = tracking;
            assert_eq!((tracking.survive(top), tracking), (share, before));
        }
    }

    #[test]
    fn a_subscription_is_small() {
        // A gateway has millions of them.
        assert!(size_of::<Held>() <= 48);
        assert!(size_of::<Subscriber>() <= 32);
    }

    #[test]
    fn a_channel_is_small() {
        assert!(size_of::<Room>() <= 152, "{}", size_of::<Room>());
    }
}
