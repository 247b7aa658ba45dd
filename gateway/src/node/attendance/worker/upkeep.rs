//! What a worker does without being asked: leaves that are owed, seats that are behind, leases in their turn.

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{EVENTS_PER_ROUND, RETRY_DELAY, Worker};
use crate::model::{Channel, NodeEpoch};
use crate::node::attendance::SeatId;
use crate::node::attendance::seats::Join;
use crate::presence::{Holding, Lease, PresenceError};

/// How many leases are renewed by one call, if not one channel alone has more; events have their turn between two.
const LEASES_PER_CALL: usize = 512;

/// What is due, and when.
pub(super) struct Upkeep {
    /// The tenure under which everybody sits who is not behind.
    epoch: NodeEpoch,
    /// Seats that the presence may not know as they are; some may have been left since.
    pub(super) behind: Vec<SeatId>,
    /// Channels whose leases are still to be renewed in this round; some may be empty by now.
    rest: Vec<Channel>,
    /// When the next round begins.
    next_round: Instant,
    /// Nothing is tried before.
    retry_at: Option<Instant>,
    /// Nobody who is behind is brought up to date before, whatever happens.
    not_before: Option<Instant>,
}

impl Upkeep {
    pub(super) fn new(epoch: NodeEpoch, next_round: Instant) -> Self {
        Self { epoch, behind: Vec::new(), rest: Vec::new(), next_round, retry_at: None, not_before: None }
    }
}

impl Worker {
    /// When there is something to do.
    pub(super) fn next_call(&self) -> Instant {
        let Upkeep { behind, rest, next_round, retry_at, not_before, .. } = &self.upkeep;
        let is_busy = !behind.is_empty() || !rest.is_empty() || !self.owed.is_empty();
        let next = retry_at.unwrap_or_else(|| if is_busy { Instant::now() } else { *next_round });
        not_before.map_or(next, |not_before| next.max(not_before))
    }

    /// Under another epoch everybody is behind.
    pub(super) fn look_at_tenure(&mut self) {
        let Some(epoch) = self.tenure.borrow_and_update().held() else { return };
        if std::mem::replace(&mut self.upkeep.epoch, epoch) != epoch {
            self.upkeep.behind = self.seats.behind(epoch);
            // Who took this node for dead may be announcing leaves still: no join may come before its leave.
            self.upkeep.not_before = Some(Instant::now() + RETRY_DELAY);
        }
    }

    /// On what terms the presence is brought up to date now.
    pub(super) fn lease_to_keep_up(&mut self) -> Result<Lease, PresenceError> {
        self.look_at_tenure();
        let lease = self.lease()?;
        let is_early = self.upkeep.not_before.is_some_and(|not_before| Instant::now() < not_before);
        let is_known = lease.owner == self.upkeep.epoch;
        if is_known && !is_early { Ok(lease) } else { Err(PresenceError::Unavailable) }
    }

    /// Renews all leases from now on.
    pub(super) fn begin_round(&mut self) {
        self.upkeep.rest = self.seats.channels();
        self.upkeep.next_round = Instant::now() + self.settings.update_interval;
        self.upkeep.retry_at = None;
    }

    /// Does a part of what is due; after a failure it is put off.
    pub(super) async fn keep_up(&mut self) {
        let failed = match self.lease_to_keep_up() {
            Ok(lease) => self.do_some(lease).await.err(),
            Err(error) => Some(error),
        };
        if let Some(error) = failed {
            tracing::debug!(%error, "could not bring the presence up to date; it is tried again");
        }
        self.upkeep.retry_at = failed.map(|_| Instant::now() + RETRY_DELAY);
    }

    /// A refresh takes out whom it is not told of, so it comes after those who are owed a leave of their own; and it
    /// brings back without a join whom it does not find, so it comes after those who are owed one.
    async fn do_some(&mut self, lease: Lease) -> Result<(), PresenceError> {
        if !self.owed.is_empty() {
            self.leave_owed().await
        } else if !self.upkeep.behind.is_empty() {
            self.catch_up(lease).await
        } else if !self.upkeep.rest.is_empty() || self.upkeep.next_round <= Instant::now() {
            self.refresh_some(lease).await
        } else {
            Ok(())
        }
    }

    /// Tries to carry out all leaves that are owed.
    pub(super) async fn leave_all_owed(&mut self) {
        while !self.owed.is_empty() && self.leave_owed().await.is_ok() {}
    }

    async fn leave_owed(&mut self) -> Result<(), PresenceError> {
        let leaving = self.owed.take(EVENTS_PER_ROUND);
        self.take_out(leaving).await
    }

    /// Has some of those who are behind entered again.
    pub(super) async fn catch_up(&mut self, lease: Lease) -> Result<(), PresenceError> {
        let rest = self.upkeep.behind.len().saturating_sub(EVENTS_PER_ROUND);
        let mut ids = self.upkeep.behind.split_off(rest);
        if self.upkeep.behind.is_empty() {
            self.upkeep.behind = Vec::new();
        }
        // One that is named twice is done by the first.
        ids.sort_unstable();
        ids.dedup();
        let add = async |id: &SeatId| {
            let sitting = self.seats.get(*id).filter(|sitting| sitting.is_behind(lease.owner))?;
            Some(self.presence.add(&sitting.channel, sitting.entrant.member(), lease).await)
        };
        let added = join_all(ids.iter().map(add)).await;
        let mut outcome = Ok(());
        let mut joined = Vec::new();
        for (id, added) in ids.into_iter().zip(added) {
            match added {
                None => {}
                Some(Ok(is_new)) => joined.extend(self.caught_up(id, lease.owner, is_new).then_some(id)),
                Some(Err(error)) => outcome = outcome.and(self.not_caught_up(id, lease.owner, error)),
            }
        }
        self.announce(&joined).await;
        outcome
    }

    /// Answers whether a join is to be announced.
    fn caught_up(&mut self, id: SeatId, owner: NodeEpoch, is_new: bool) -> bool {
        let Some(sitting) = self.seats.get_mut(id) else { return false };
        // Under an earlier epoch others may have taken it out, and announced that. Under this one nobody has: if it is
        // new, Redis lost it, and nobody heard of that.
        let was_lost = sitting.owner != Some(owner) && (is_new || sitting.owner.is_none());
        (sitting.owner, sitting.is_outdated) = (Some(owner), false);
        match sitting.join {
            Join::Untold => false,
            Join::Due => true,
            Join::Told => was_lost,
            Join::Inherited => {
                // Whoever took it out announced a leave: it joins as everybody does.
                if was_lost {
                    sitting.join = Join::Untold;
                }
                false
            }
        }
    }

    fn not_caught_up(
        &mut self,
        id: SeatId,
        owner: NodeEpoch,
        error: PresenceError,
    ) -> Result<(), PresenceError> {
        if error == PresenceError::Refused {
            tracing::warn!(%error, "could not bring a member of the presence up to date");
            return Ok(());
        }
        if let Some(sitting) = self.seats.get_mut(id)
            && sitting.owner != Some(owner)
        {
            sitting.owner = None;
        }
        self.upkeep.behind.push(id);
        Err(error)
    }

    /// Renews some leases of the round that is under way, or begins the next one.
    async fn refresh_some(&mut self, lease: Lease) -> Result<(), PresenceError> {
        if self.upkeep.rest.is_empty() {
            self.begin_round();
        }
        let holdings = self.next_holdings();
        if holdings.is_empty() {
            return Ok(());
        }
        let refreshed = self.presence.refresh(&holdings, lease).await;
        match refreshed {
            Err(PresenceError::Unavailable) => {
                self.upkeep.rest.extend(holdings.into_iter().map(|holding| holding.channel));
            }
            Err(error @ PresenceError::Refused) => {
                // The next round tries again.
                tracing::warn!(%error, "some of the presence could not be refreshed");
                return Ok(());
            }
            Ok(()) => {}
        }
        refreshed
    }

    fn next_holdings(&mut self) -> Vec<Holding> {
        let mut holdings = Vec::new();
        let mut leases = 0;
        while leases < LEASES_PER_CALL
            && let Some(channel) = self.upkeep.rest.pop()
        {
            // Who left meanwhile is not brought back: that was this worker's doing too.
            let Some(holding) = self.seats.holding(&channel) else { continue };
            leases += holding.members.len();
            holdings.push(holding);
        }
        if self.upkeep.rest.is_empty() {
            self.upkeep.rest = Vec::new();
        }
        holdings
    }
}
