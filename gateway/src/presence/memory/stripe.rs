//! A share of the channels, behind one lock: their members, and whose lease ends next.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use crate::model::{Channel, ClientId, ClientInfo, NodeEpoch, UserId};
use crate::presence::{Added, Member, PresenceStats};

/// Most members that are removed at once by sweeping: the lock is held meanwhile.
const EXPIRED_MAX: usize = 64;

/// The end of a lease. The number tells those apart that end at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Instant,
    number: u64,
}

/// The state of some channels.
#[derive(Debug, Default)]
pub(super) struct Stripe {
    rooms: HashMap<Channel, Room>,
    /// Every member once, at the end of its lease.
    queue: BTreeMap<Due, (Channel, ClientId)>,
    /// Leases given so far.
    given: u64,
}

/// A channel with members.
#[derive(Debug, Default)]
struct Room {
    entries: HashMap<ClientId, Entry>,
    /// How many listed members each user has; never 0.
    users: HashMap<UserId, usize>,
    /// How many members are listed.
    listed: usize,
    /// Who lingers in each place, the first to begin first; never empty.
    lingering: HashMap<Place, Vec<ClientId>>,
}

/// Where somebody lingers: a user, and how it is seen (listed, announced).
type Place = (UserId, bool, bool);

fn place_of(Member { info, is_listed, is_announced }: &Member) -> Place {
    (info.user.clone(), *is_listed, *is_announced)
}

#[derive(Debug)]
struct Entry {
    member: Member,
    owner: NodeEpoch,
    due: Due,
    /// It took the place of one that lingered.
    has_returned: bool,
}

impl Entry {
    fn lingers(&self) -> bool {
        self.owner == NodeEpoch::NOBODY
    }
}

/// What came of the wish that somebody lingers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remains {
    /// It is not there.
    Gone,
    /// It was there, and may not stay.
    TakenOut,
    Lingers,
    LingersAlready,
}

impl Stripe {
    /// Makes somebody a member, or renews the lease and replaces what is known. Answers whether it was none.
    pub(super) fn put(
        &mut self,
        channel: &Channel,
        member: Member,
        owner: NodeEpoch,
        now: Instant,
        expires_at: Instant,
    ) -> bool {
        self.expire_some(now);
        let due = self.due(expires_at);
        self.insert(channel, Entry { member, owner, due, has_returned: false }).is_none()
    }

    /// As before; one that is new takes the place of its user, if that lingers.
    pub(super) fn enter(
        &mut self,
        channel: &Channel,
        member: Member,
        owner: NodeEpoch,
        now: Instant,
        expires_at: Instant,
    ) -> Added {
        self.expire_some(now);
        let room = self.rooms.get(channel);
        let known = room.and_then(|room| room.entries.get(&member.info.client));
        let (is_new, returned) =
            (known.is_none(), known.is_some_and(|known| known.has_returned || known.lingers()));
        let left = room.and_then(|room| room.lingering.get(&place_of(&member))?.first().copied());
        let left = left.filter(|_| is_new).and_then(|left| self.remove(channel, left));
        let has_returned = returned || left.is_some();
        let due = self.due(expires_at);
        self.insert(channel, Entry { member, owner, due, has_returned });
        match (has_returned, is_new) {
            (true, _) => Added::Returned,
            (false, true) => Added::New,
            (false, false) => Added::Again,
        }
    }

    /// Has a member linger, whose entry is kept until `kept_until`. One that others do not know of may only do so in a
    /// place that it took.
    pub(super) fn linger(
        &mut self,
        channel: &Channel,
        client: ClientId,
        is_known: bool,
        now: Instant,
        kept_until: Instant,
    ) -> Remains {
        self.expire_some(now);
        let Some(known) = self.rooms.get(channel).and_then(|room| room.entries.get(&client)) else {
            return Remains::Gone;
        };
        if known.lingers() {
            return Remains::LingersAlready;
        }
        let (member, has_returned) = (known.member.clone(), known.has_returned);
        self.remove(channel, client);
        if !is_known && !has_returned {
            return Remains::TakenOut;
        }
        let place = place_of(&member);
        let due = self.due(kept_until);
        self.insert(channel, Entry { member, owner: NodeEpoch::NOBODY, due, has_returned });
        let room = self.rooms.get_mut(channel).expect("somebody was just put there");
        room.lingering.entry(place).or_default().push(client);
        Remains::Lingers
    }

    /// Removes a member, if it is one that lingers.
    pub(super) fn take_lingering(&mut self, channel: &Channel, client: ClientId) -> Option<Member> {
        self.rooms.get(channel)?.entries.get(&client).filter(|entry| entry.lingers())?;
        self.remove(channel, client)
    }

    /// The end of one more lease.
    fn due(&mut self, at: Instant) -> Due {
        self.given += 1;
        Due { at, number: self.given }
    }

    /// Puts `entry` in the place of the one of that client, which it answers.
    fn insert(&mut self, channel: &Channel, entry: Entry) -> Option<Entry> {
        self.queue.insert(entry.due, (channel.clone(), entry.member.info.client));
        // Not `entry`, which would copy the name each time that a lease is renewed.
        if !self.rooms.contains_key(channel) {
            self.rooms.insert(channel.clone(), Room::default());
        }
        let room = self.rooms.get_mut(channel).expect("it is there or was just put there");
        let before = room.put(entry);
        if let Some(before) = &before {
            self.queue.remove(&before.due);
        }
        before
    }

    /// Removes a member, if it is one.
    pub(super) fn remove(&mut self, channel: &Channel, client: ClientId) -> Option<Member> {
        let room = self.rooms.get_mut(channel)?;
        let Entry { member, due, .. } = room.remove(client)?;
        self.queue.remove(&due);
        if room.entries.is_empty() {
            self.rooms.remove(channel);
        }
        Some(member)
    }

    /// Removes the members of `owner` in `channel` that are not among `kept`.
    pub(super) fn take_others(
        &mut self,
        channel: &Channel,
        owner: NodeEpoch,
        kept: &[Member],
    ) -> Vec<Member> {
        let Some(room) = self.rooms.get(channel) else { return Vec::new() };
        let kept: HashSet<_> = kept.iter().map(|member| member.info.client).collect();
        let others = room.owned_by(owner).filter(|client| !kept.contains(client));
        let others: Vec<_> = others.collect();
        others.into_iter().filter_map(|client| self.remove(channel, client)).collect()
    }

    /// Removes all members of `owner`. Looks at everybody: a node without others has no dead ones to reap.
    pub(super) fn take_all(&mut self, owner: NodeEpoch) -> Vec<(Channel, Member)> {
        let channels: Vec<_> = self.rooms.keys().cloned().collect();
        let take = |channel: Channel| {
            let taken = self.take_others(&channel, owner, &[]);
            taken.into_iter().map(move |member| (channel.clone(), member))
        };
        channels.into_iter().flat_map(take).collect()
    }

    pub(super) fn members(&mut self, channel: &Channel, now: Instant) -> Vec<Arc<ClientInfo>> {
        while self.expire_some(now) {}
        let entries = self.rooms.get(channel).into_iter().flat_map(|room| room.entries.values());
        let listed = entries.filter(|entry| entry.member.is_listed);
        listed.map(|entry| Arc::clone(&entry.member.info)).collect()
    }

    pub(super) fn stats(&mut self, channel: &Channel, now: Instant) -> PresenceStats {
        while self.expire_some(now) {}
        let room = self.rooms.get(channel);
        room.map(|room| PresenceStats { clients: room.listed, users: room.users.len() }).unwrap_or_default()
    }

    /// Removes some of those whose lease has ended. Answers `true` if there may be more.
    pub(super) fn expire_some(&mut self, now: Instant) -> bool {
        for _ in 0..EXPIRED_MAX {
            match self.queue.first_entry() {
                Some(first) if first.key().at <= now => {
                    let (channel, client) = first.remove();
                    self.remove(&channel, client);
                }
                _ => return false,
            }
        }
        true
    }

    /// Channels, members, users and leases that take memory.
    #[cfg(test)]
    pub(super) fn weight(&self) -> [usize; 4] {
        let members = self.rooms.values().map(|room| room.entries.len()).sum();
        let users = self.rooms.values().map(|room| room.users.len()).sum();
        [self.rooms.len(), members, users, self.queue.len()]
    }
}

impl Room {
    /// Puts `entry` in the place of the one before.
    fn put(&mut self, mut entry: Entry) -> Option<Entry> {
        // What it took before stays taken, however often it is put there.
        let before = self.remove(entry.member.info.client);
        entry.has_returned |= before.as_ref().is_some_and(|before| before.has_returned || before.lingers());
        let Member { info, is_listed, .. } = &entry.member;
        if *is_listed {
            self.listed += 1;
            *self.users.entry(info.user.clone()).or_default() += 1;
        }
        self.entries.insert(info.client, entry);
        before
    }

    fn remove(&mut self, client: ClientId) -> Option<Entry> {
        let entry = self.entries.remove(&client)?;
        self.uncount(&entry.member);
        if entry.lingers() {
            self.strike(&entry.member);
        }
        Some(entry)
    }

    /// Takes somebody who lingered off its place.
    fn strike(&mut self, member: &Member) {
        let place = place_of(member);
        let Some(clients) = self.lingering.get_mut(&place) else { return };
        clients.retain(|client| *client != member.info.client);
        if clients.is_empty() {
            self.lingering.remove(&place);
        }
    }

    fn uncount(&mut self, Member { info, is_listed, .. }: &Member) {
        if !is_listed {
            return;
        }
        self.listed -= 1;
        let Some(count) = self.users.get_mut(&info.user) else { return };
        *count -= 1;
        if *count == 0 {
            self.users.remove(&info.user);
        }
    }

    fn owned_by(&self, owner: NodeEpoch) -> impl Iterator<Item = ClientId> {
        let owned = self.entries.iter().filter(move |(_, entry)| entry.owner == owner);
        owned.map(|(client, _)| *client)
    }
}
