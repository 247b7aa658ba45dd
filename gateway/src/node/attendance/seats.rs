//! Who sits where.

use std::collections::{HashMap, HashSet};

use super::{Entrant, SeatId};
use crate::model::{Channel, NodeEpoch};
use crate::presence::{Holding, Member};

/// Somebody who has a seat.
pub(super) struct Sitting {
    pub(super) channel: Channel,
    pub(super) entrant: Entrant,
    /// Under which epoch the presence has it; `None` if that is not known.
    pub(super) owner: Option<NodeEpoch>,
    /// The presence may know it by another info.
    pub(super) is_outdated: bool,
    pub(super) join: Join,
}

/// What others have heard of somebody's coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Join {
    /// Nothing, and nothing is due.
    Untold,
    /// Nothing, since no tenure was held when it was due.
    Due,
    /// Nothing of it, but of the one whose place it took: others know that its user is there.
    Inherited,
    /// Others may have heard of it, and so must hear its leave.
    Told,
}

impl Sitting {
    pub(super) fn is_kept(&self) -> bool {
        self.entrant.attendance.is_kept()
    }

    /// Whether something is to be made up for under `epoch`.
    pub(super) fn is_behind(&self, epoch: NodeEpoch) -> bool {
        self.is_kept() && (self.owner != Some(epoch) || self.is_outdated || self.join == Join::Due)
    }
}

/// The seats of a worker, by their id and by channel.
#[derive(Default)]
pub(super) struct Seats {
    sittings: HashMap<SeatId, Sitting>,
    /// Those that the presence keeps.
    rooms: HashMap<Channel, HashSet<SeatId>>,
}

impl Seats {
    pub(super) fn insert(&mut self, id: SeatId, sitting: Sitting) {
        if sitting.is_kept() {
            self.rooms.entry(sitting.channel.clone()).or_default().insert(id);
        }
        self.sittings.insert(id, sitting);
    }

    pub(super) fn get(&self, id: SeatId) -> Option<&Sitting> {
        self.sittings.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: SeatId) -> Option<&mut Sitting> {
        self.sittings.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: SeatId) -> Option<Sitting> {
        let sitting = self.sittings.remove(&id)?;
        if let Some(room) = self.rooms.get_mut(&sitting.channel) {
            room.remove(&id);
            if room.is_empty() {
                self.rooms.remove(&sitting.channel);
            }
        }
        Some(sitting)
    }

    /// Who has something to make up for under `epoch`.
    pub(super) fn behind(&self, epoch: NodeEpoch) -> Vec<SeatId> {
        let behind = self.sittings.iter().filter(|(_, sitting)| sitting.is_behind(epoch));
        behind.map(|(id, _)| *id).collect()
    }

    /// The channels in which the presence keeps somebody.
    pub(super) fn channels(&self) -> Vec<Channel> {
        self.rooms.keys().cloned().collect()
    }

    /// All that the presence should have of this node in `channel`; `None` if nothing.
    pub(super) fn holding(&self, channel: &Channel) -> Option<Holding> {
        let room = self.rooms.get(channel)?;
        let member = |id: &SeatId| -> Option<Member> { Some(self.sittings.get(id)?.entrant.member()) };
        Some(Holding { channel: channel.clone(), members: room.iter().filter_map(member).collect() })
    }

    /// A crowd that left leaves no memory behind.
    pub(super) fn shrink(&mut self) {
        if self.sittings.capacity() > 64 && self.sittings.len() < self.sittings.capacity() / 8 {
            self.sittings.shrink_to(self.sittings.len() * 2);
            self.rooms.shrink_to(self.rooms.len() * 2);
        }
    }
}
