//! Leaves that could not be carried out yet, because the presence was away.

use std::collections::HashMap;

use tokio::time::Instant;

use super::graces::Doubt;
use super::seats::{Join, Sitting};
use crate::model::{Channel, ClientId, NodeEpoch};
use crate::presence::{Grace, Member};

/// Most that a worker keeps. What is dropped beyond ends with its lease.
const OWED_MAX: usize = 16_384;

/// Somebody who left its seat and may still be a member.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) channel: Channel,
    pub(super) member: Member,
    /// Under which epoch it was a member.
    pub(super) owner: Option<NodeEpoch>,
    /// Its leave is to be announced.
    pub(super) has_joined: bool,
    /// How it stays for a while; `None` if it does not.
    pub(super) stay: Option<Stay>,
}

/// How somebody lingers who left its seat.
#[derive(Debug)]
pub(super) struct Stay {
    pub(super) until: Instant,
    /// Others know that it is there.
    pub(super) is_known: bool,
    /// It may linger already.
    pub(super) doubt: Option<Doubt>,
}

impl Leaving {
    /// Of somebody whose connection was lost, or who left on purpose.
    pub(super) fn of(sitting: Sitting, is_lost: bool) -> Self {
        let (member, stay) = (sitting.entrant.member(), Stay::of(&sitting, is_lost));
        let Sitting { channel, owner, join, .. } = sitting;
        Self { channel, member, owner, has_joined: matches!(join, Join::Told | Join::Inherited), stay }
    }
}

impl Stay {
    fn of(sitting: &Sitting, is_lost: bool) -> Option<Self> {
        let grace = sitting.entrant.grace()?;
        let is_announced = sitting.entrant.attendance.is_announced;
        let (stays, is_known) = match sitting.join {
            Join::Told => (is_lost, true),
            // It did not get as far as to be there itself: it gives the place back.
            Join::Inherited => (true, true),
            // It may have taken a place, and nobody said so.
            Join::Untold if sitting.owner.is_none() => (true, false),
            // Without announcements there is no word of it to wait for.
            Join::Untold => (is_lost && !is_announced, true),
            Join::Due => (false, false),
        };
        stays.then(|| Self { until: Instant::now() + grace, is_known, doubt: None })
    }

    /// On what terms it lingers from now on.
    pub(super) fn grace(&self) -> Grace {
        Grace { lasts: self.until.saturating_duration_since(Instant::now()), is_known: self.is_known }
    }
}

/// Those of a worker.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// By channel, none of which is empty.
    rooms: HashMap<Channel, HashMap<ClientId, Leaving>>,
    count: usize,
}

impl Owed {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether `client` has to leave `channel` before it may enter again.
    pub(super) fn has(&self, channel: &Channel, client: ClientId) -> bool {
        self.rooms.get(channel).is_some_and(|room| room.contains_key(&client))
    }

    /// Adds somebody of whom it holds nothing in that channel yet.
    pub(super) fn add(&mut self, leaving: Leaving) {
        if self.count == OWED_MAX {
            tracing::debug!("too many leave while the presence is away: a lease will end");
            return;
        }
        self.count += 1;
        let room = self.rooms.entry(leaving.channel.clone()).or_default();
        room.insert(leaving.member.info.client, leaving);
    }

    /// Takes some of them, `count` or more.
    pub(super) fn take(&mut self, count: usize) -> Vec<Leaving> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some(channel) = self.rooms.keys().next().cloned()
        {
            taken.extend(self.rooms.remove(&channel).into_iter().flat_map(HashMap::into_values));
        }
        self.count -= taken.len();
        if self.rooms.is_empty() {
            // A crowd that left leaves no memory behind.
            self.rooms = HashMap::new();
        }
        taken
    }
}
