//! Does what happened to the seats of some channels, and keeps those who sit in the presence.
//!
//! Events are done in rounds: what different clients do need not wait for one another, so calls of a kind are
//! under way at once. Who enters after somebody left may be the same client: that is for the next round.

mod leaving;
mod upkeep;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use self::upkeep::Upkeep;
use super::graces::Graces;
use super::owed::Owed;
use super::seats::{Join, Seats, Sitting};
use super::{Desk, Entering, Event, PresenceSettings, SeatId};
use crate::broker::Broker;
use crate::model::{Channel, ClientInfo, NodeEpoch, Notice, Tenure};
use crate::node::Backends;
use crate::presence::{Added, Lease, Presence, PresenceError};

/// Most events that are done at once, before the refresh has its turn.
const EVENTS_PER_ROUND: usize = 128;
/// How soon what failed is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Owns the seats of the channels that fall to it.
pub(super) struct Worker {
    desk: Arc<Desk>,
    broker: Arc<dyn Broker>,
    presence: Arc<dyn Presence>,
    tenure: watch::Receiver<Tenure>,
    graces: Arc<Graces>,
    settings: PresenceSettings,
    seats: Seats,
    owed: Owed,
    upkeep: Upkeep,
    /// Nobody of those who wanted to enter last could.
    is_away: bool,
    /// Who had asked for a seat up to this one when that was found out is turned away.
    hopeless: SeatId,
}

/// What came of somebody's wish to enter: under whose epoch it is a member, and how it came in, if the presence has to
/// know of it. `None` if nothing was tried.
type Entry = Option<Result<Option<(NodeEpoch, Added)>, PresenceError>>;

/// Events that are done together: first who entered, then who is announced, then who is renamed, then who left.
#[derive(Default)]
struct Round {
    entered: Vec<Entering>,
    announced: Vec<SeatId>,
    renamed: Vec<(SeatId, Arc<ClientInfo>)>,
    left: Vec<(SeatId, Option<oneshot::Sender<()>>)>,
    forgotten: bool,
    asked: Vec<oneshot::Sender<()>>,
    size: usize,
}

impl Round {
    fn has_room_for(&self, event: &Event) -> bool {
        self.size < EVENTS_PER_ROUND && (self.left.is_empty() || !matches!(event, Event::Entered(_)))
    }

    fn add(&mut self, event: Event) {
        self.size += 1;
        match event {
            Event::Entered(entering) => self.entered.push(entering),
            Event::Announced(id) => self.announced.push(id),
            Event::Renamed(id, info) => self.renamed.extend(info.lock().take().map(|info| (id, info))),
            Event::Left(id) => self.left.push((id, None)),
            Event::Lost(id, left) => self.left.push((id, Some(left))),
            Event::Forgotten => self.forgotten = true,
            Event::Asked(asked) => self.asked.push(asked),
        }
    }
}

impl Worker {
    /// For the events of `desk`; refreshes for the first time after `first_after`.
    pub(super) fn new(
        desk: Arc<Desk>,
        backends: &Backends,
        graces: &Arc<Graces>,
        first_after: Duration,
    ) -> Self {
        let tenure = backends.cluster.tenure.subscribe();
        let epoch = tenure.borrow().epoch;
        Self {
            desk,
            broker: Arc::clone(&backends.broker),
            presence: Arc::clone(&backends.presence),
            tenure,
            graces: Arc::clone(graces),
            settings: backends.presence_settings,
            seats: Seats::default(),
            owed: Owed::default(),
            upkeep: Upkeep::new(epoch, Instant::now() + first_after),
            is_away: false,
            hopeless: SeatId(0),
        }
    }

    /// Works until the node is gone.
    pub(super) async fn run(mut self) {
        loop {
            let (round, is_closed) = self.take();
            if round.size == 0 {
                if is_closed {
                    return;
                }
                let next_call = self.next_call();
                tokio::select! {
                    () = self.desk.wake.notified() => {}
                    () = tokio::time::sleep_until(next_call) => {}
                    Ok(()) = self.tenure.changed() => {}
                }
            } else {
                self.serve(round).await;
                // Backends in memory never wait, and a crowd is many rounds: others have their turn.
                tokio::task::yield_now().await;
            }
            self.look_at_tenure();
            // In this order: what is due at once is due at the time of the question.
            let is_due = self.next_call() <= Instant::now();
            // While the presence is away each call takes its whole time: whoever waits for an answer comes first.
            if is_due && !(self.is_away && self.is_awaited()) {
                self.keep_up().await;
            }
        }
    }

    fn is_awaited(&self) -> bool {
        !self.desk.queue.lock().events.is_empty()
    }

    /// Takes the next events; says too whether the node is gone.
    fn take(&self) -> (Round, bool) {
        let mut round = Round::default();
        let mut queue = self.desk.queue.lock();
        while let Some(event) = queue.events.pop_front_if(|event| round.has_room_for(event)) {
            round.add(event);
        }
        if queue.events.is_empty() {
            // A crowd that came and went leaves no memory behind.
            queue.events = VecDeque::new();
        }
        (round, queue.is_closed)
    }

    async fn serve(&mut self, round: Round) {
        self.enter(round.entered).await;
        self.announce(&round.announced).await;
        self.rename(round.renamed).await;
        self.leave(round.left).await;
        if round.forgotten {
            self.begin_round();
        }
        if !round.asked.is_empty() {
            self.leave_all_owed().await;
        }
        for asked in round.asked {
            // Who asked may have gone away; then nobody needs the answer.
            let _gone = asked.send(());
        }
    }

    /// On what terms the presence keeps somebody now.
    ///
    /// # Errors
    /// While no tenure is held: the others may have taken this node for dead, and would see what it says too late.
    fn lease(&self) -> Result<Lease, PresenceError> {
        let owner = self.tenure.borrow().held().ok_or(PresenceError::Unavailable)?;
        Ok(Lease { owner, ttl: self.settings.ttl })
    }

    async fn enter(&mut self, mut entering: Vec<Entering>) {
        // Who gave up has left already, which comes later.
        entering.retain(|entering| !entering.answer.is_closed());
        if entering.iter().any(|entering| self.is_owed(entering)) {
            self.leave_all_owed().await;
        }
        let lease = self.lease().ok();
        let (hopeless, mut entering): (Vec<_>, Vec<_>) =
            entering.into_iter().partition(|entering| entering.id <= self.hopeless);
        self.enter_together(hopeless, None).await;
        if self.is_away
            && let Some(scout) = entering.pop()
        {
            // One finds out whether it is worth the time of all who wait by then.
            self.enter_together(vec![scout], lease).await;
            if self.is_away {
                self.hopeless = SeatId(self.desk.queue.lock().given);
            }
        }
        let lease = lease.filter(|_| !self.is_away);
        self.enter_together(entering, lease).await;
    }

    fn is_owed(&self, Entering { channel, entrant, .. }: &Entering) -> bool {
        self.owed.has(channel, entrant.info.client)
    }

    /// Without a lease only those enter of whom the presence need not know.
    async fn enter_together(&mut self, entering: Vec<Entering>, lease: Option<Lease>) {
        let entries = join_all(entering.iter().map(|entering| self.try_to_enter(entering, lease))).await;
        let is_failure = |entry: &Entry| matches!(entry, Some(Err(PresenceError::Unavailable)));
        let is_success = |entry: &Entry| matches!(entry, Some(Ok(Some(_))));
        self.is_away = (self.is_away || entries.iter().any(is_failure)) && !entries.iter().any(is_success);
        for (entering, entry) in entering.into_iter().zip(entries) {
            self.seat(entering, entry);
        }
    }

    async fn try_to_enter(&self, entering: &Entering, lease: Option<Lease>) -> Entry {
        let Entering { channel, entrant, .. } = entering;
        if !entrant.attendance.is_kept() {
            return Some(Ok(None));
        }
        // Whose leave is owed must be seen to leave before it comes again.
        let lease = lease.filter(|_| !self.is_owed(entering))?;
        let added = match entrant.grace() {
            Some(_) => self.presence.enter(channel, entrant.member(), lease).await,
            None => self.presence.add(channel, entrant.member(), lease).await.map(|_| Added::New),
        };
        Some(added.map(|added| Some((lease.owner, added))))
    }

    fn seat(&mut self, entering: Entering, entry: Entry) {
        let Entering { id, channel, entrant, answer, .. } = entering;
        if let Some(tried) = entry {
            // One that failed may be a member all the same: it has a seat, which it leaves next.
            let entered = tried.ok().flatten();
            let has_returned = entered.is_some_and(|(_, added)| added == Added::Returned);
            let join =
                if has_returned && entrant.attendance.is_announced { Join::Inherited } else { Join::Untold };
            let owner = entered.map(|(owner, _)| owner);
            let sitting = Sitting { channel, entrant, owner, is_outdated: false, join };
            self.seats.insert(id, sitting);
        }
        let entered = entry.unwrap_or(Err(PresenceError::Unavailable)).map(|_| ());
        // Whoever has gone meanwhile does not need it.
        let _gone = answer.send(entered);
    }

    async fn announce(&mut self, announced: &[SeatId]) {
        let held = self.tenure.borrow().held();
        let mut joins = Vec::with_capacity(announced.len());
        for id in announced {
            let Some(sitting) = self.seats.get_mut(*id) else { continue };
            let is_present = held.is_some() && sitting.owner == held;
            let has_returned = sitting.join == Join::Inherited;
            if is_present && !has_returned {
                joins.push((sitting.channel.clone(), Notice::Join(Arc::clone(&sitting.entrant.info))));
            }
            // Somebody may have announced that it left: it joins when it is a member again.
            sitting.join = if is_present || has_returned { Join::Told } else { Join::Due };
            self.upkeep.behind.extend((!is_present).then_some(*id));
        }
        join_all(joins.into_iter().map(|(channel, join)| self.tell(channel, join))).await;
    }

    async fn rename(&mut self, renamed: Vec<(SeatId, Arc<ClientInfo>)>) {
        for (id, info) in renamed {
            if let Some(sitting) = self.seats.get_mut(id) {
                sitting.entrant.info = info;
                sitting.is_outdated = sitting.is_kept();
                self.upkeep.behind.extend(sitting.is_outdated.then_some(id));
            }
        }
        if !self.upkeep.behind.is_empty()
            && let Ok(lease) = self.lease_to_keep_up()
        {
            // Whoever fails stays behind.
            let _later = self.catch_up(lease).await;
        }
    }

    async fn tell(&self, channel: Channel, notice: Notice) {
        if let Err(error) = self.broker.announce(&channel, notice).await {
            tracing::warn!(%error, "could not announce who joined or left");
        }
    }
}

impl Drop for Worker {
    /// Also the end of one that panicked: nobody may wait for it.
    fn drop(&mut self) {
        self.desk.places.close();
        let mut queue = self.desk.queue.lock();
        queue.is_deserted = true;
        queue.events = VecDeque::new();
    }
}
