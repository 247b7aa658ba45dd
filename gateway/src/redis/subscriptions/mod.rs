//! Hearing what is published at one Redis server, and knowing whether we do.
//!
//! A supervisor keeps a connection of its own for this, for ever. What comes is put into bounded queues, by worker;
//! which Redis channels are live is known from the server's confirmations alone. A probe that is published every
//! second and must come back says whether we hear at all: a connection may be open and deaf.

mod ledger;
mod queue;
mod supervisor;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::ledger::Ledger;
use self::queue::Room;
pub use self::queue::{Item, Queue};
use self::supervisor::Supervisor;
use super::connect::Connector;
use super::instance::{Hearing, Lines};
use super::{Failure, vital};
use crate::metrics::Metrics;

/// How many queues there are: what is heard is worked on by so many at once.
pub const WORKERS: usize = 4;

/// See the module's doc. Ends with the value.
pub(super) struct Subscriptions {
    state: Arc<State>,
    hearing: watch::Receiver<Hearing>,
    deadline: Duration,
    supervisor: AbortHandle,
}

/// What the supervisor and the others share.
struct State {
    ledger: Mutex<Ledger>,
    /// Something in the ledger is to be told to the server.
    changed: Notify,
    queues: Vec<Arc<Queue>>,
    /// Shared by the queues.
    room: Arc<Room>,
    /// Since when everything has been heard; `None` while it is not.
    heard_since: Mutex<Option<Instant>>,
    /// See [`Instance::lineage`](crate::redis::Instance::lineage).
    lineage: Mutex<Arc<str>>,
}

impl Subscriptions {
    /// Starts to connect, on the current runtime. Probes are sent on `lines` and come back on the Redis channel
    /// `probe`.
    pub(super) fn start(
        connector: Arc<Connector>,
        lines: Arc<Lines>,
        probe: String,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let deadline = connector.settings().command_timeout;
        let state = State::new(connector.settings().inbox_bytes_max);
        tell_at_scrape(&state, &metrics);
        let (sender, hearing) = watch::channel(Hearing::NotYet);
        let supervisor = Supervisor::new(connector, lines, Arc::clone(&state), probe, sender, metrics);
        let supervisor = vital(tokio::spawn(supervisor.run()));
        Arc::new(Self { state, hearing, deadline, supervisor })
    }

    pub(super) fn queues(&self) -> &[Arc<Queue>] {
        &self.state.queues
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) fn heard_for(&self) -> Duration {
        self.state.heard_since.lock().map(|since| since.elapsed()).unwrap_or_default()
    }

    pub(super) fn lineage(&self) -> Arc<str> {
        Arc::clone(&self.state.lineage.lock())
    }

    pub(super) fn hearing(&self) -> watch::Receiver<Hearing> {
        self.hearing.clone()
    }

    pub(super) async fn subscribe(&self, name: &str) -> Result<(), Failure> {
        let live = self.state.ledger.lock().want(name);
        self.wait(live).await
    }

    pub(super) async fn unsubscribe(&self, name: &str) -> Result<(), Failure> {
        let ended = self.state.ledger.lock().drop_interest(name);
        self.wait(ended).await
    }

    async fn wait(&self, done: Option<oneshot::Receiver<()>>) -> Result<(), Failure> {
        let Some(done) = done else { return Ok(()) };
        self.state.changed.notify_one();
        match tokio::time::timeout(self.deadline, done).await {
            Ok(Ok(())) => Ok(()),
            // In time, but somebody wants the contrary by now.
            Ok(Err(_)) | Err(_) => Err(Failure::Unavailable),
        }
    }
}

/// Has the metrics say what is held whenever they are asked for.
fn tell_at_scrape(state: &Arc<State>, metrics: &Metrics) {
    metrics.broker_is_probed();
    let state = Arc::downgrade(state);
    metrics.at_scrape(move |metrics| {
        if let Some(state) = state.upgrade() {
            metrics.broker_holds(state.ledger.lock().len(), state.room.held_bytes());
        }
    });
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl State {
    fn new(inbox_bytes_max: usize) -> Arc<Self> {
        let room = Room::new(inbox_bytes_max);
        Arc::new(Self {
            ledger: Mutex::default(),
            changed: Notify::new(),
            queues: (0..WORKERS).map(|_| Queue::new(Arc::clone(&room))).collect(),
            room,
            heard_since: Mutex::default(),
            lineage: Mutex::new("".into()),
        })
    }

    /// Puts what came on a Redis channel into the queue of its worker; `false` if it was dropped.
    fn hear(&self, name: Vec<u8>, payload: Vec<u8>) -> bool {
        self.queues[worker_of(&name)].push(Item::Message { name, payload })
    }

    /// Everything is heard again.
    fn restore(&self) {
        for queue in &self.queues {
            queue.push(Item::Restored);
        }
    }
}

/// The worker to which the Redis channel `name` falls; the same whatever the process (FNV-1a).
pub fn worker_of(name: &[u8]) -> usize {
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 32) as usize % WORKERS
}
