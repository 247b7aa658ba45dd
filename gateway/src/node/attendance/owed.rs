//! Leaves that could not be carried out yet, because the presence was away.

use std::collections::HashMap;

use super::seats::{Join, Sitting};
use crate::model::{Channel, ClientId, NodeEpoch};
use crate::presence::Member;

/// Most that a worker keeps. What is dropped beyond ends with its lease.
const OWED_MAX: usize = 16_384;

/// Somebody who left its seat and may still be a member.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    pub(super) channel: Channel,
    pub(super) member: Member,
    /// Under which epoch it was a member.
    pub(super) owner: Option<NodeEpoch>,
    /// Its leave is to be announced.
    pub(super) has_joined: bool,
}

impl Leaving {
    pub(super) fn of(sitting: Sitting) -> Self {
        let member = sitting.entrant.member();
        let Sitting { channel, owner, join, .. } = sitting;
        Self { channel, member, owner, has_joined: join == Join::Told }
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
