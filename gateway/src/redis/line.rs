//! A connection that many calls share, kept open for ever by a task of its own.
//!
//! Calls of any number of tasks are sent one behind the other and answered in their order, so a line carries some ten
//! times as much as connections that are checked out one by one. Nothing that blocks may be sent on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::{Cmd, PushInfo, PushKind, RedisError, Value};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::call::{Call, is_unknown_script};
use super::connect::Connector;
use super::{Failure, vital};

/// The connection of now, and which one it is.
#[derive(Clone)]
struct Open {
    generation: u64,
    connection: MultiplexedConnection,
}

/// See the module's doc. Ends with the value.
pub(super) struct Line {
    open: watch::Receiver<Option<Open>>,
    health: Arc<Health>,
    deadline: Duration,
    keeper: AbortHandle,
}

/// What calls find out about the connection.
struct Health {
    born: Instant,
    /// When something was answered, in milliseconds since `born`.
    answered_at: AtomicU64,
    /// The connection that is to be given up; 0 for none.
    broken: AtomicU64,
    complaint: Notify,
}

impl Health {
    fn new() -> Arc<Self> {
        let (answered_at, broken) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { born: Instant::now(), answered_at, broken, complaint: Notify::new() })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn answered(&self) {
        self.answered_at.store(self.now(), Ordering::Relaxed);
    }

    fn silent_for(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.answered_at.load(Ordering::Relaxed)))
    }

    fn complain(&self, generation: u64) {
        self.broken.fetch_max(generation, Ordering::Relaxed);
        self.complaint.notify_one();
    }

    /// Waits until somebody complains of this connection, or a later one.
    async fn complained(&self, generation: u64) {
        while self.broken.load(Ordering::Relaxed) < generation {
            self.complaint.notified().await;
        }
    }
}

impl Line {
    /// Opens it in the background, on the current runtime.
    pub(super) fn start(connector: Arc<Connector>) -> Self {
        let deadline = connector.settings().command_timeout;
        let (sender, open) = watch::channel(None);
        let health = Health::new();
        let keeper = vital(tokio::spawn(keep(connector, sender, Arc::clone(&health))));
        Self { open, health, deadline, keeper }
    }

    /// Runs `call`. A script that Redis does not know is told to it.
    pub(super) async fn call(&self, call: &Call) -> Result<Value, Failure> {
        let answered = self.in_time(async |mut open: Open| {
            let mut answer = ask(&mut open, &call.command).await;
            if let (Err(error), Some(script)) = (&answer, call.script)
                && is_unknown_script(error)
            {
                answer = ask(&mut open, &call.with_code(script)).await;
            }
            self.note(open.generation, answer)
        });
        answered.await
    }

    /// Runs `calls` one behind the other, in one write; answers each.
    pub(super) async fn pipeline(&self, calls: &[Call]) -> Result<Vec<Result<Value, Failure>>, Failure> {
        let answered = self.in_time(async |mut open: Open| {
            let mut answers = {
                let answers = ask_all(&mut open, calls).await;
                self.note(open.generation, answers)?
            };
            for (answer, call) in answers.iter_mut().zip(calls) {
                // Unlike a single call, the library does not see to this in a pipeline.
                if let (Err(error), Some(script)) = (&*answer, call.script)
                    && is_unknown_script(error)
                {
                    *answer = ask(&mut open, &call.with_code(script)).await;
                }
            }
            let failure = |answer: Result<Value, RedisError>| answer.map_err(|error| Failure::from(&error));
            Ok(answers.into_iter().map(failure).collect())
        });
        answered.await
    }

    /// Waits for the connection, uses it, and ends within the deadline.
    async fn in_time<T>(&self, work: impl AsyncFnOnce(Open) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut open = self.open.clone();
        let mut used = 0;
        let worked = tokio::time::timeout(self.deadline, async {
            let open = open.wait_for(Option::is_some).await.map_err(|_| Failure::Unavailable)?.clone();
            let open = open.ok_or(Failure::Unavailable)?;
            used = open.generation;
            work(open).await
        });
        let worked = worked.await;
        if worked.is_err() && used > 0 && self.health.silent_for() > self.deadline.mul_f64(1.5) {
            // One late answer is a hiccup; no answer at all to several calls is a connection that is dead and does
            // not know it.
            self.health.complain(used);
        }
        worked.unwrap_or(Err(Failure::Unavailable))
    }

    /// What an answer says of the connection.
    fn note<T>(&self, generation: u64, answer: Result<T, RedisError>) -> Result<T, Failure> {
        match answer {
            Ok(answer) => {
                self.health.answered();
                Ok(answer)
            }
            Err(error) => {
                let failure = Failure::from(&error);
                match failure {
                    Failure::Unavailable => self.health.complain(generation),
                    // The password was changed while we were connected: the next connection brings the new one.
                    Failure::Refused(super::Refusal::Credentials | super::Refusal::ReadOnly) => {
                        self.health.complain(generation);
                    }
                    _ => self.health.answered(),
                }
                Err(failure)
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn ask(open: &mut Open, command: &Cmd) -> Result<Value, RedisError> {
    open.connection.req_packed_command(command).await?.extract_error()
}

async fn ask_all(open: &mut Open, calls: &[Call]) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
    let mut pipeline = ::redis::Pipeline::with_capacity(calls.len());
    pipeline.ignore_errors();
    for call in calls {
        pipeline.add_command(call.command.clone());
    }
    let answers = open.connection.req_packed_commands(&pipeline, 0, calls.len()).await?;
    Ok(answers.into_iter().map(Value::extract_error).collect())
}

/// Keeps a connection open for ever.
async fn keep(connector: Arc<Connector>, open: watch::Sender<Option<Open>>, health: Arc<Health>) {
    let mut backoff = Backoff::default();
    for generation in 1.. {
        let complaints = Arc::clone(&health);
        let on_push = move |push: PushInfo| -> Result<(), ()> {
            if push.kind == PushKind::Disconnection {
                complaints.complain(generation);
            }
            Ok(())
        };
        let mut is_refused = false;
        match connector.open(Some(Arc::new(on_push))).await {
            Ok(connection) => {
                backoff.connected();
                health.answered();
                open.send_replace(Some(Open { generation, connection }));
                health.complained(generation).await;
                open.send_replace(None);
            }
            // The supervisor of the subscriptions says why: it fails in the same way.
            Err(error) => is_refused = super::connect::is_for_an_operator(&error),
        }
        tokio::time::sleep(backoff.next(is_refused)).await;
    }
}
