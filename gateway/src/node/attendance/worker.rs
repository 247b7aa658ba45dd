//! Does what happened to the seats of some channels, and keeps those who sit listed.
//!
//! Events are done in rounds: what different clients do need not wait for one another, so calls of a kind are
//! under way at once. Who enters after somebody left may be the same client: that is for the next round.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Desk, Entering, Entrant, Event, PresenceSettings, SeatId};
use crate::broker::Broker;
use crate::model::{Channel, ClientInfo, Notice};
use crate::node::Backends;
use crate::presence::{Presence, PresenceError};

/// Most events that are done at once, before the refresh has its turn.
const EVENTS_PER_ROUND: usize = 128;
/// Most leases that are renewed by one call; events have their turn between two.
const LEASES_PER_CALL: usize = 512;
/// How soon a refresh that failed is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Owns the seats of the channels that fall to it.
pub(super) struct Worker {
    desk: Arc<Desk>,
    broker: Arc<dyn Broker>,
    presence: Arc<dyn Presence>,
    settings: PresenceSettings,
    seats: HashMap<SeatId, Sitting>,
    refresh: Refresh,
}

/// Somebody who has a seat.
struct Sitting {
    channel: Channel,
    entrant: Entrant,
    /// Whether others may have heard its join, and so must hear its leave.
    has_joined: bool,
}

/// A round over all listed seats.
struct Refresh {
    /// Who is still to be refreshed in this round; some may have left since it began.
    rest: Vec<SeatId>,
    /// When the next one begins.
    next_round: Instant,
    /// When there is something to do.
    next_call: Instant,
}

/// Events that are done together: first who entered, then who is announced, then who is renamed, then who left.
#[derive(Default)]
struct Round {
    entered: Vec<Entering>,
    announced: Vec<SeatId>,
    renamed: Vec<(SeatId, Arc<ClientInfo>)>,
    left: Vec<SeatId>,
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
            Event::Left(id) => self.left.push(id),
            Event::Asked(asked) => self.asked.push(asked),
        }
    }
}

impl Worker {
    /// For the events of `desk`; refreshes for the first time after `first_after`.
    pub(super) fn new(desk: Arc<Desk>, backends: &Backends, first_after: Duration) -> Self {
        let first = Instant::now() + first_after;
        Self {
            desk,
            broker: Arc::clone(&backends.broker),
            presence: Arc::clone(&backends.presence),
            settings: backends.presence_settings,
            seats: HashMap::new(),
            refresh: Refresh { rest: Vec::new(), next_round: first, next_call: first },
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
                tokio::select! {
                    () = self.desk.wake.notified() => {}
                    () = tokio::time::sleep_until(self.refresh.next_call) => {}
                }
            } else {
                self.serve(round).await;
                // Backends in memory never wait, and a crowd is many rounds: others have their turn.
                tokio::task::yield_now().await;
            }
            if Instant::now() >= self.refresh.next_call {
                self.refresh_some().await;
            }
        }
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
        self.leave(&round.left).await;
        for asked in round.asked {
            // Who asked may have gone away; then nobody needs the answer.
            let _gone = asked.send(());
        }
    }

    async fn enter(&mut self, mut entering: Vec<Entering>) {
        // Who gave up has left already, which comes later.
        entering.retain(|entering| !entering.answer.is_closed());
        let added = join_all(entering.iter().map(|entering| self.add(entering))).await;
        for (entering, added) in entering.into_iter().zip(added) {
            let Entering { id, channel, entrant, answer, .. } = entering;
            // One that failed may be listed all the same: it has a seat, which it leaves next.
            self.seats.insert(id, Sitting { channel, entrant, has_joined: false });
            // Whoever has gone meanwhile does not need it.
            let _gone = answer.send(added);
        }
    }

    async fn add(&self, Entering { channel, entrant, .. }: &Entering) -> Result<(), PresenceError> {
        if !entrant.attendance.is_listed {
            return Ok(());
        }
        self.presence.add(channel, Arc::clone(&entrant.info), self.settings.ttl).await
    }

    async fn announce(&mut self, announced: &[SeatId]) {
        let mut joins = Vec::with_capacity(announced.len());
        for id in announced {
            if let Some(sitting) = self.seats.get_mut(id) {
                sitting.has_joined = true;
                joins.push((sitting.channel.clone(), Notice::Join(Arc::clone(&sitting.entrant.info))));
            }
        }
        join_all(joins.into_iter().map(|(channel, join)| self.tell(channel, join))).await;
    }

    async fn rename(&mut self, renamed: Vec<(SeatId, Arc<ClientInfo>)>) {
        let mut changed = Vec::with_capacity(renamed.len());
        for (id, info) in renamed {
            if let Some(sitting) = self.seats.get_mut(&id) {
                sitting.entrant.info = info;
                changed.push(id);
            }
        }
        join_all(changed.iter().map(|id| self.add_again(&self.seats[id]))).await;
    }

    async fn add_again(&self, Sitting { channel, entrant, .. }: &Sitting) {
        if entrant.attendance.is_listed
            && let Err(error) = self.presence.add(channel, Arc::clone(&entrant.info), self.settings.ttl).await
        {
            tracing::warn!(%error, "could not change how others see a client; the next refresh will");
        }
    }

    async fn leave(&mut self, left: &[SeatId]) {
        let left: Vec<_> = left.iter().filter_map(|id| self.seats.remove(id)).collect();
        join_all(left.into_iter().map(|sitting| self.take_out(sitting))).await;
        self.shrink();
    }

    async fn take_out(&self, Sitting { channel, entrant, has_joined }: Sitting) {
        if entrant.attendance.is_listed
            && let Err(error) = self.presence.remove(&channel, entrant.info.client).await
        {
            tracing::warn!(%error, "could not remove from the presence who left; the lease will end");
        }
        if has_joined {
            self.tell(channel, Notice::Leave(entrant.info)).await;
        }
    }

    async fn tell(&self, channel: Channel, notice: Notice) {
        if let Err(error) = self.broker.announce(&channel, notice).await {
            tracing::warn!(%error, "could not announce who joined or left");
        }
    }

    /// A crowd that left leaves no memory behind.
    fn shrink(&mut self) {
        if self.seats.capacity() > 64 && self.seats.len() < self.seats.capacity() / 8 {
            self.seats.shrink_to(self.seats.len() * 2);
        }
    }

    /// Renews some leases of the round that is under way, or begins the next one.
    async fn refresh_some(&mut self) {
        if self.refresh.rest.is_empty() {
            self.begin_round();
        }
        let batch = self.refresh.rest.len().saturating_sub(LEASES_PER_CALL);
        let batch = self.refresh.rest.split_off(batch);
        // Who left meanwhile is not brought back: that was this worker's doing too.
        let leases = batch.iter().filter_map(|id| self.seats.get(id));
        let lease = |sitting: &Sitting| (sitting.channel.clone(), Arc::clone(&sitting.entrant.info));
        let leases: Vec<_> = leases.map(lease).collect();
        if !leases.is_empty()
            && let Err(error) = self.presence.refresh(&leases, self.settings.ttl).await
        {
            tracing::warn!(%error, count = leases.len(), "could not refresh the presence");
            self.refresh.rest.extend(batch);
            self.refresh.next_call = Instant::now() + RETRY_DELAY;
            return;
        }
        if self.refresh.rest.is_empty() {
            self.refresh.rest = Vec::new();
            self.refresh.next_call = self.refresh.next_round;
        }
    }

    fn begin_round(&mut self) {
        let listed = self.seats.iter().filter(|(_, sitting)| sitting.entrant.attendance.is_listed);
        self.refresh.rest = listed.map(|(id, _)| *id).collect();
        self.refresh.next_round = Instant::now() + self.settings.update_interval;
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
