//! Does what happened to the seats of some channels, one event after another, and keeps those who sit listed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Desk, Entrant, Event, PresenceSettings, SeatId};
use crate::broker::Broker;
use crate::model::{Channel, Notice};
use crate::node::Backends;
use crate::presence::{Presence, PresenceError};

/// Events that are done before the refresh has its turn.
const EVENTS_PER_TURN: usize = 256;
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
        let mut events = VecDeque::new();
        loop {
            let is_closed = self.take(&mut events);
            if events.is_empty() {
                if is_closed {
                    return;
                }
                tokio::select! {
                    () = self.desk.wake.notified() => {}
                    () = tokio::time::sleep_until(self.refresh.next_call) => {}
                }
            }
            for event in events.drain(..) {
                self.handle(event).await;
            }
            if Instant::now() >= self.refresh.next_call {
                self.refresh_some().await;
            }
        }
    }

    /// Takes the next events; answers whether no more can come.
    fn take(&self, events: &mut VecDeque<Event>) -> bool {
        let mut queue = self.desk.queue.lock();
        let count = queue.events.len().min(EVENTS_PER_TURN);
        events.extend(queue.events.drain(..count));
        if queue.events.is_empty() {
            // A crowd that came and went leaves no memory behind.
            queue.events = VecDeque::new();
        }
        queue.is_closed
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Entered { id, channel, entrant, answer, place } => {
                // Who gave up has left already, which is the next event of this seat.
                if !answer.is_closed() {
                    let result = self.enter(id, channel, entrant).await;
                    // Whoever has gone meanwhile does not need it.
                    let _gone = answer.send(result);
                }
                drop(place);
            }
            Event::Announced(id) => self.announce(id).await,
            Event::Left(id) => self.leave(id).await,
            Event::Asked(answer) => drop(answer.send(())),
        }
    }

    async fn enter(&mut self, id: SeatId, channel: Channel, entrant: Entrant) -> Result<(), PresenceError> {
        let added = match entrant.attendance.is_listed {
            true => self.presence.add(&channel, Arc::clone(&entrant.info), self.settings.ttl).await,
            false => Ok(()),
        };
        // One that failed may be listed all the same: it has a seat, which it leaves next.
        self.seats.insert(id, Sitting { channel, entrant, has_joined: false });
        added
    }

    async fn announce(&mut self, id: SeatId) {
        let Some(sitting) = self.seats.get_mut(&id) else { return };
        sitting.has_joined = true;
        let notice = Notice::Join(Arc::clone(&sitting.entrant.info));
        if let Err(error) = self.broker.announce(&sitting.channel, notice).await {
            tracing::warn!(%error, "could not announce a join");
        }
    }

    async fn leave(&mut self, id: SeatId) {
        let Some(Sitting { channel, entrant, has_joined }) = self.seats.remove(&id) else { return };
        if entrant.attendance.is_listed
            && let Err(error) = self.presence.remove(&channel, entrant.info.client).await
        {
            tracing::warn!(%error, "could not remove from the presence who left; the lease will end");
        }
        if has_joined && let Err(error) = self.broker.announce(&channel, Notice::Leave(entrant.info)).await {
            tracing::warn!(%error, "could not announce a leave");
        }
        self.shrink();
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
