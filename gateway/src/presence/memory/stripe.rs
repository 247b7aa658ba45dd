//! A share of the channels, behind one lock: their members, and whose lease ends next.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use crate::model::{Channel, ClientId, ClientInfo, UserId};
use crate::presence::PresenceStats;

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
    members: HashMap<ClientId, Member>,
    /// How many members each user has; never 0.
    users: HashMap<UserId, usize>,
}

#[derive(Debug)]
struct Member {
    info: Arc<ClientInfo>,
    due: Due,
}

impl Stripe {
    /// Makes somebody a member, or renews the lease and replaces what is known.
    pub(super) fn put(
        &mut self,
        channel: &Channel,
        info: Arc<ClientInfo>,
        now: Instant,
        expires_at: Instant,
    ) {
        self.expire_some(now);
        self.given += 1;
        let (client, due) = (info.client, Due { at: expires_at, number: self.given });
        self.queue.insert(due, (channel.clone(), client));
        // Not `entry`, which would copy the name each time that a lease is renewed.
        if !self.rooms.contains_key(channel) {
            self.rooms.insert(channel.clone(), Room::default());
        }
        let room = self.rooms.get_mut(channel).expect("it is there or was just put there");
        if let Some(before) = room.put(Member { info, due }) {
            self.queue.remove(&before);
        }
    }

    /// Removes a member, if it is one.
    pub(super) fn remove(&mut self, channel: &Channel, client: ClientId) {
        let Some(room) = self.rooms.get_mut(channel) else { return };
        if let Some(due) = room.remove(client) {
            self.queue.remove(&due);
        }
        if room.members.is_empty() {
            self.rooms.remove(channel);
        }
    }

    pub(super) fn members(&mut self, channel: &Channel, now: Instant) -> Vec<Arc<ClientInfo>> {
        while self.expire_some(now) {}
        let members = self.rooms.get(channel).into_iter().flat_map(|room| room.members.values());
        members.map(|member| Arc::clone(&member.info)).collect()
    }

    pub(super) fn stats(&mut self, channel: &Channel, now: Instant) -> PresenceStats {
        while self.expire_some(now) {}
        let room = self.rooms.get(channel);
        room.map(|room| PresenceStats { clients: room.members.len(), users: room.users.len() })
            .unwrap_or_default()
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
        let members = self.rooms.values().map(|room| room.members.len()).sum();
        let users = self.rooms.values().map(|room| room.users.len()).sum();
        [self.rooms.len(), members, users, self.queue.len()]
    }
}

impl Room {
    /// Puts `member` in the place of who it was before. Answers the end of its lease before, if it had one.
    fn put(&mut self, member: Member) -> Option<Due> {
        *self.users.entry(member.info.user.clone()).or_default() += 1;
        let before = self.members.insert(member.info.client, member)?;
        self.uncount(&before.info.user);
        Some(before.due)
    }

    /// Answers the end of its lease, if it was a member.
    fn remove(&mut self, client: ClientId) -> Option<Due> {
        let member = self.members.remove(&client)?;
        self.uncount(&member.info.user);
        Some(member.due)
    }

    fn uncount(&mut self, user: &UserId) {
        let Some(count) = self.users.get_mut(user) else { return };
        *count -= 1;
        if *count == 0 {
            self.users.remove(user);
        }
    }
}
