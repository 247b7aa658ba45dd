use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::redis::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::call::Call;
use super::connect::Connector;
use super::line::Line;
use super::patience::Patience;
use super::pool::Connections;
use super::subscriptions::{Queue, Subscriptions};
use super::{Failure, Names, Refusal, Reply};
use crate::metrics::Metrics;
use crate::model::NodeId;

/// Shared connections: one keeps a thread of the client library busy, more keep Redis busy.
const LINES: usize = 2;
/// Behind them is one more, for [patient](Call::patient) calls. Redis takes some of each connection in turn, so that
/// thousands of them do not hold up a publication.
const PATIENT_LINE: usize = LINES;

/// Whether this node hears what is published at a Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// It has not heard anything since it started.
    NotYet,
    /// A probe came back, and every channel that is held is confirmed.
    Heard,
    /// No probe comes back.
    Deaf,
    /// Redis is there and refuses us.
    Refused(Refusal),
}

impl Hearing {
    /// Whether it hears.
    pub fn is_heard(self) -> bool {
        self == Self::Heard
    }
}

/// One Redis server, and how this node is connected to it.
pub struct Instance {
    lines: Arc<Lines>,
    connections: Connections,
    subscriptions: Arc<Subscriptions>,
}

/// The shared connections to a server.
pub(super) struct Lines {
    lines: Vec<Line>,
    next: AtomicUsize,
    patience: Patience,
    /// How long a patient call may wait for its turn.
    deadline: Duration,
    metrics: Arc<Metrics>,
}

impl Lines {
    fn start(connector: &Arc<Connector>, metrics: Arc<Metrics>) -> Arc<Self> {
        Failure::LABELS.iter().for_each(|reason| metrics.expect_broker_failure(reason));
        let lines = (0..=PATIENT_LINE).map(|_| Line::start(Arc::clone(connector))).collect();
        let deadline = connector.settings().command_timeout;
        Arc::new(Self { lines, next: AtomicUsize::new(0), patience: Patience::new(), deadline, metrics })
    }

    fn next(&self) -> &Line {
        &self.lines[self.next.fetch_add(1, Ordering::Relaxed) % LINES]
    }

    pub(super) async fn call<T: Reply>(&self, call: &Call) -> Result<T, Failure> {
        let began = Instant::now();
        let answer = if call.is_patient {
            self.patiently(async |line| line.call(call).await).await
        } else {
            self.next().call(call).await
        };
        self.metrics.broker_command(call.name, began.elapsed());
        self.count(read(answer))
    }

    async fn pipeline(&self, calls: &[Call]) -> Result<Vec<Result<Value, Failure>>, Failure> {
        let began = Instant::now();
        let is_patient = calls.first().is_some_and(|call| call.is_patient);
        let answers = if is_patient {
            self.patiently(async |line| line.pipeline(calls).await).await
        } else {
            self.next().pipeline(calls).await
        };
        if let Some(first) = calls.first() {
            self.metrics.broker_command(first.name, began.elapsed());
        }
        self.count(answers)
    }

    /// Waits for a turn, and does it on the line for that.
    async fn patiently<T>(&self, act: impl AsyncFnOnce(&Line) -> Result<T, Failure>) -> Result<T, Failure> {
        let place = self.patience.place(self.deadline).await.ok_or(Failure::Unavailable)?;
        let began = Instant::now();
        let answer = act(&self.lines[PATIENT_LINE]).await;
        if answer.is_ok() {
            self.patience.answered(began.elapsed());
        }
        drop(place);
        answer
    }

    fn count<T>(&self, answer: Result<T, Failure>) -> Result<T, Failure> {
        answer.inspect_err(|failure| self.metrics.broker_failed(failure.label()))
    }
}

/// An answer of another shape than expected says nothing of what was done.
fn read<T: Reply>(answer: Result<Value, Failure>) -> Result<T, Failure> {
    ::redis::from_redis_value(answer?).map_err(|_| {
        tracing::warn!("Redis answered in a way that was not expected");
        Failure::Refused(Refusal::Other)
    })
}

impl Instance {
    pub(super) fn start(
        connector: Arc<Connector>,
        names: &Names,
        node: NodeId,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let lines = Lines::start(&connector, Arc::clone(&metrics));
        let subscriptions =
            Subscriptions::start(Arc::clone(&connector), Arc::clone(&lines), names.probe(node), metrics);
        Arc::new(Self { lines, connections: Connections::new(connector), subscriptions })
    }

    /// Runs `call` on a connection that is shared; ends within `command_timeout`, a [patient](Call::patient) one within twice
    /// that. Calls that are made one after another take effect in their order.
    ///
    /// Dropping the future does not undo it.
    ///
    /// # Errors
    /// [`Failure`] says whether it may have been done.
    pub async fn call<T: Reply>(&self, call: Call) -> Result<T, Failure> {
        self.lines.call(&call).await
    }

    /// Runs `calls` in their order on a shared connection, in one round trip, each by itself: one may fail and the
    /// next succeed.
    ///
    /// # Errors
    /// [`Failure`] of all of them; each has its own as well.
    pub async fn pipeline<T: Reply>(&self, calls: Vec<Call>) -> Result<Vec<Result<T, Failure>>, Failure> {
        let answers = self.lines.pipeline(&calls).await?;
        Ok(answers.into_iter().map(|answer| self.lines.count(read(answer))).collect())
    }

    /// Runs `call` on a connection that it has for itself: for large answers, which would hold up what shares one.
    ///
    /// # Errors
    /// [`Failure`] says whether it may have been done.
    pub async fn call_apart<T: Reply>(&self, call: Call) -> Result<T, Failure> {
        let began = Instant::now();
        let answer = self.connections.call(&call).await;
        self.lines.metrics.broker_command(call.name, began.elapsed());
        self.lines.count(read(answer))
    }

    /// Starts to hear the Redis channel `name`. Returns when it is confirmed: what is published from then on is put
    /// into the queues. It is subscribed again after every loss of the connection, until
    /// [`unsubscribe`](Self::unsubscribe).
    ///
    /// # Errors
    /// [`Failure`] when it is not confirmed in time; it stays wanted.
    pub async fn subscribe(&self, name: &str) -> Result<(), Failure> {
        self.subscriptions.subscribe(name).await
    }

    /// Ends what [`subscribe`](Self::subscribe) started.
    ///
    /// # Errors
    /// [`Failure`] when it is not confirmed in time; something may still come.
    pub async fn unsubscribe(&self, name: &str) -> Result<(), Failure> {
        self.subscriptions.unsubscribe(name).await
    }

    /// How long an answer may take.
    pub fn deadline(&self) -> Duration {
        self.subscriptions.deadline()
    }

    /// For how long it has been heard without a break; zero if it is not.
    pub fn heard_for(&self) -> Duration {
        self.subscriptions.heard_for()
    }

    /// Names the data that the server holds, as far as we know: it changes when another server takes its place.
    /// Empty before it was reached, or if it may not be asked.
    pub fn lineage(&self) -> Arc<str> {
        self.subscriptions.lineage()
    }

    /// What is heard, by worker: a Redis channel always falls to the same one, in its order.
    pub fn queues(&self) -> &[Arc<Queue>] {
        self.subscriptions.queues()
    }

    /// Whether this node hears what is published there, as it changes.
    pub fn hearing(&self) -> watch::Receiver<Hearing> {
        self.subscriptions.hearing()
    }
}

#[cfg(test)]
mod tests;
