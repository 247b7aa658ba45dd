//! Who of this node's subscribers is present: entered, announced, kept alive, and taken out again.
//!
//! A subscriber's presence is a value, the [`Seat`]. What happens to seats is done by a few workers on the
//! backbone, each with the channels that fall to it by hash and a queue of its own. What one client does in a
//! channel takes effect in the order in which it happened: an entry is there before its join is announced, it is
//! gone before its leave is, and a removal cannot overtake the next entry of the same client.
//!
//! Announcing and leaving never wait, because a shard's thread does both. The queues are bounded all the same: who
//! enters waits for one of a limited number of places in the queue, and only who has entered can be announced
//! and leave, once each.
//!
//! A subscriber whose connection was lost does not leave at once: its entry lingers, and belongs to nobody. Whoever enters
//! as its user meanwhile, on whichever node, takes its place without a word. If nobody does, this node takes it out when
//! its grace is over, and announces the leave; a survivor does if this node is gone.
//!
//! Everybody sits under the epoch of the node's tenure. A node that lost its tenure was taken for dead, and its
//! subscribers were said to have left: under the next epoch who still sits enters again, and joins again where a leave
//! was announced. While no tenure is held nothing is said, and nobody enters.

mod departures;
mod graces;
mod owed;
mod seats;
mod worker;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::AbortHandle;

use self::graces::Graces;
use self::worker::Worker;
use super::Backends;
use crate::model::{Channel, ClientInfo};
use crate::presence::{Member, PresenceError};

/// How many workers the channels are spread over: a presence that is slow for one channel is not for all.
const WORKERS: usize = 16;
/// Most entrants in the queue of a worker; more wait where they are.
const ENTRANTS_MAX: usize = 1024;

/// How a node keeps its subscribers in the presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceSettings {
    /// How long an entry lives that is not refreshed: how long those of a node that died are still seen.
    pub ttl: Duration,
    /// Between two refreshes of an entry; above zero and below `ttl`.
    pub update_interval: Duration,
}

impl Default for PresenceSettings {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(30), update_interval: Duration::from_secs(27) }
    }
}

/// What others see of a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attendance {
    /// It is a member of the channel's presence.
    pub is_listed: bool,
    /// Its join and its leave are announced.
    pub is_announced: bool,
}

impl Attendance {
    /// Whether the presence has to know of it.
    fn is_kept(self) -> bool {
        self.is_listed || self.is_announced
    }
}

/// A subscriber that others may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrant {
    /// As what they see it.
    pub info: Arc<ClientInfo>,
    /// How they see it.
    pub attendance: Attendance,
    /// How long they still see it when its connection was lost; zero: not at all.
    pub leave_grace: Duration,
}

impl Entrant {
    fn member(&self) -> Member {
        let Attendance { is_listed, is_announced } = self.attendance;
        Member { info: Arc::clone(&self.info), is_listed, is_announced }
    }

    /// How long it lingers; `None` if it does not. Of who has no user nobody can tell that it is back.
    fn grace(&self) -> Option<Duration> {
        let can_return = self.attendance.is_kept() && !self.info.user.is_anonymous();
        Some(self.leave_grace).filter(|grace| can_return && !grace.is_zero())
    }
}

/// A subscriber's presence in a channel. Dropping it ends that: the entry is removed, and the leave is announced
/// if the join was.
#[derive(Debug)]
pub struct Seat {
    desk: Arc<Desk>,
    id: SeatId,
    is_announced: bool,
    /// It lingers if its connection is lost.
    can_return: bool,
    /// As what it is to be seen, and the worker does not know yet.
    renamed: Option<Arc<Mutex<Option<Arc<ClientInfo>>>>>,
}

impl Seat {
    /// Announces the join, if joins are announced, once however often it is called. Never waits.
    ///
    /// The subscriber itself hears it if it is live by now.
    pub fn announce(&mut self) {
        if !std::mem::replace(&mut self.is_announced, true) {
            self.desk.push(Event::Announced(self.id));
        }
    }
}

impl Seat {
    /// Others see the subscriber as `info` from now on: in the presence, and when it leaves. Never waits.
    pub fn rename(&mut self, info: Arc<ClientInfo>) {
        let renamed = self.renamed.get_or_insert_default();
        // One event at a time waits for the worker, which takes the newest name: however often a client is renamed.
        if renamed.lock().replace(info).is_none() {
            self.desk.push(Event::Renamed(self.id, Arc::clone(renamed)));
        }
    }
}

impl Seat {
    /// Leaves the seat to whoever comes back as its user within the grace; without a grace as dropping it does.
    ///
    /// Never waits; what it answers waits until the seat can be taken, or nobody knows when. Dropping that is no matter.
    pub fn lose(self) -> Option<impl Future<Output = ()>> {
        if !self.can_return {
            return None;
        }
        let (left, is_left) = oneshot::channel();
        // What dropping it says next finds no seat.
        self.desk.push(Event::Lost(self.id, left));
        Some(is_left.map(drop))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.desk.push(Event::Left(self.id));
    }
}

/// Names a seat among those of its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct SeatId(u64);

/// What happened to a seat.
#[derive(Debug)]
enum Event {
    /// Somebody wants it.
    Entered(Entering),
    /// Its subscriber is live.
    Announced(SeatId),
    /// Its subscriber is to be seen as this.
    Renamed(SeatId, Arc<Mutex<Option<Arc<ClientInfo>>>>),
    /// It was dropped.
    Left(SeatId),
    /// The connection of its subscriber was lost. Dropped when that is done, or put off.
    Lost(SeatId, oneshot::Sender<()>),
    /// The entries may be gone.
    Forgotten,
    /// Somebody wants to know when everything before is done.
    Asked(oneshot::Sender<()>),
}

/// Somebody who wants a seat.
#[derive(Debug)]
struct Entering {
    id: SeatId,
    channel: Channel,
    entrant: Entrant,
    /// Closed once it gave up.
    answer: oneshot::Sender<Result<(), PresenceError>>,
    _place: OwnedSemaphorePermit,
}

/// Where a worker takes its events from. Any thread pushes, and never waits.
#[derive(Debug)]
struct Desk {
    queue: Mutex<Queue>,
    wake: Notify,
    /// The places for those who enter.
    places: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    /// Seats given so far.
    given: u64,
    /// The node is gone: nobody enters any more.
    is_closed: bool,
    /// The worker is gone: nothing is done any more.
    is_deserted: bool,
}

impl Desk {
    fn new() -> Arc<Self> {
        let places = Arc::new(Semaphore::new(ENTRANTS_MAX));
        Arc::new(Self { queue: Mutex::default(), wake: Notify::new(), places })
    }

    fn push(&self, event: Event) {
        let mut queue = self.queue.lock();
        if !queue.is_deserted {
            queue.events.push_back(event);
            self.wake.notify_one();
        }
    }

    async fn enter(self: &Arc<Self>, channel: Channel, entrant: Entrant) -> Result<Seat, PresenceError> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| PresenceError::Unavailable)?;
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut queue = self.queue.lock();
            queue.given += 1;
            SeatId(queue.given)
        };
        // From here on giving up leaves the seat, whatever the worker has made of it.
        let seat = Seat {
            desk: Arc::clone(self),
            id,
            is_announced: !entrant.attendance.is_announced,
            can_return: entrant.grace().is_some(),
            renamed: None,
        };
        self.push(Event::Entered(Entering { id, channel, entrant, answer, _place: place }));
        // A worker that is gone answers nobody.
        answered.await.unwrap_or(Err(PresenceError::Unavailable))?;
        Ok(seat)
    }
}

/// The desks of a node.
#[derive(Debug)]
pub(super) struct Roll {
    hasher: RandomState,
    desks: Vec<Arc<Desk>>,
    /// Announce who departed without their seat's doing, and end the graces of those who do not come back.
    tasks: [AbortHandle; 2],
}

impl Roll {
    /// Starts the workers on `backbone`. They end with the roll.
    pub(super) fn open(backends: &Backends, backbone: &Handle) -> Self {
        let graces = Arc::new(Graces::default());
        let desks: Vec<_> = (0..WORKERS).map(|_| Desk::new()).collect();
        for (index, desk) in desks.iter().enumerate() {
            // They do not all refresh at the same time.
            let share = f64::from(u32::try_from(index + 1).expect("there are few")) / WORKERS as f64;
            let first_after = backends.presence_settings.update_interval.mul_f64(share);
            let worker = Worker::new(Arc::clone(desk), backends, &graces, first_after);
            backbone.spawn(worker.run());
        }
        let (broker, presence) = (Arc::clone(&backends.broker), Arc::clone(&backends.presence));
        let ending = graces.end(Arc::clone(&presence), backends.cluster.tenure.subscribe());
        let announcing = departures::announce(broker, presence);
        let tasks = [backbone.spawn(announcing).abort_handle(), backbone.spawn(ending).abort_handle()];
        Self { hasher: RandomState::new(), desks, tasks }
    }

    pub(super) async fn enter(&self, channel: Channel, entrant: Entrant) -> Result<Seat, PresenceError> {
        let hash = self.hasher.hash_one(&channel);
        self.desks[hash as usize % WORKERS].enter(channel, entrant).await
    }

    /// Has all entries renewed now rather than in their turn.
    pub(super) fn refresh(&self) {
        self.desks.iter().for_each(|desk| desk.push(Event::Forgotten));
    }

    /// Waits until what was asked before is done, or known to wait for the presence.
    pub(super) async fn settled(&self) {
        for desk in &self.desks {
            let (answer, answered) = oneshot::channel();
            desk.push(Event::Asked(answer));
            // A worker that is gone will do nothing more.
            let _gone = answered.await;
        }
    }
}

impl Drop for Roll {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        for desk in &self.desks {
            desk.queue.lock().is_closed = true;
            desk.places.close();
            desk.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod deaths;
#[cfg(test)]
mod races;
#[cfg(test)]
mod returns;
#[cfg(test)]
mod tests;
