use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{PushInfo, PushKind, RedisError, Value};
use futures_util::future::{Fuse, FusedFuture as _, FutureExt as _, try_join_all};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::super::backoff::Backoff;
use super::super::call::Call;
use super::super::check::{self, Verdict};
use super::super::connect::Connector;
use super::super::instance::{Hearing, Lines};
use super::super::{Failure, Refusal};
use super::State;
use super::ledger::{Batch, Name};
use crate::metrics::{Metrics, ReconnectReason};

/// Most channels in one command.
const BATCH: usize = 512;
/// Most commands that are under way at once.
const BATCHES_AT_ONCE: usize = 8;
/// While Redis is away, it is said again after this.
const COMPLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Keeps one server's subscription connection, for ever.
pub(super) struct Supervisor {
    connector: Arc<Connector>,
    lines: Arc<Lines>,
    state: Arc<State>,
    probe: Arc<str>,
    hearing: watch::Sender<Hearing>,
    metrics: Arc<Metrics>,
    complaint: Complaint,
    /// There was a connection before this one.
    had_connection: bool,
}

/// What a connection tells while it is open.
struct Ears {
    state: Arc<State>,
    probe: Arc<str>,
    metrics: Arc<Metrics>,
    /// When the last probe came back, in milliseconds since `opened_at`; the highest when none has.
    heard_at: AtomicU64,
    opened_at: Instant,
    changed: Notify,
    is_closed: AtomicBool,
    /// It was given up: what still comes on it comes on the next one as well.
    is_given_up: AtomicBool,
}

/// Why a connection is given up.
enum End {
    /// It was closed, or a command on it failed.
    Lost(ReconnectReason),
    Unusable(String),
}

impl Ears {
    fn new(state: &Arc<State>, probe: &Arc<str>, metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            state: Arc::clone(state),
            probe: Arc::clone(probe),
            metrics: Arc::clone(metrics),
            heard_at: AtomicU64::new(u64::MAX),
            opened_at: Instant::now(),
            changed: Notify::new(),
            is_closed: AtomicBool::new(false),
            is_given_up: AtomicBool::new(false),
        })
    }

    fn hear(&self, push: PushInfo) {
        if self.is_given_up.load(Ordering::Acquire) {
            return;
        }
        let mut data = push.data.into_iter();
        match push.kind {
            PushKind::Message => {
                let (Some(Value::BulkString(name)), Some(Value::BulkString(payload))) =
                    (data.next(), data.next())
                else {
                    return self.metrics.broker_message_was_bad();
                };
                if name == self.probe.as_bytes() {
                    self.hear_probe(&payload);
                } else if !self.state.hear(name, payload) {
                    self.metrics.broker_message_dropped();
                }
            }
            PushKind::Subscribe => {
                if let Some(Value::BulkString(name)) = data.next() {
                    self.state.ledger.lock().subscribed(&name);
                    self.changed.notify_one();
                }
            }
            PushKind::Unsubscribe => {
                if let Some(Value::BulkString(name)) = data.next() {
                    self.state.ledger.lock().unsubscribed(&name);
                }
            }
            PushKind::Disconnection => {
                self.is_closed.store(true, Ordering::Release);
                self.changed.notify_one();
            }
            _ => {}
        }
    }

    fn hear_probe(&self, payload: &[u8]) {
        let sent_at = str::from_utf8(payload).ok().and_then(|text| text.parse::<u64>().ok());
        let now = self.now();
        // One of an earlier connection counts as well: it came on this one.
        if let Some(sent_at) = sent_at {
            self.metrics.broker_probe(Duration::from_millis(now.saturating_sub(sent_at)));
        }
        self.heard_at.store(now, Ordering::Release);
        self.changed.notify_one();
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether a probe came back.
    fn has_heard(&self) -> bool {
        self.heard_at.load(Ordering::Acquire) != u64::MAX
    }

    /// For how long no probe came back.
    fn silent_for(&self) -> Duration {
        let heard_at = self.heard_at.load(Ordering::Acquire);
        let since = if heard_at == u64::MAX { 0 } else { heard_at };
        Duration::from_millis(self.now().saturating_sub(since))
    }
}

impl Supervisor {
    pub(super) fn new(
        connector: Arc<Connector>,
        lines: Arc<Lines>,
        state: Arc<State>,
        probe: String,
        hearing: watch::Sender<Hearing>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let complaint = Complaint::default();
        Self {
            connector,
            lines,
            state,
            probe: probe.into(),
            hearing,
            metrics,
            complaint,
            had_connection: false,
        }
    }

    pub(super) async fn run(mut self) {
        // Its own probes are what a node wants first.
        drop(self.state.ledger.lock().want(&self.probe));
        let mut backoff = Backoff::default();
        loop {
            let mut is_refused = false;
            match self.open().await {
                Ok((ears, connection)) => {
                    let end = self.serve(&ears, connection, &mut backoff).await;
                    // A ping may hold it open for a while.
                    ears.is_given_up.store(true, Ordering::Release);
                    self.had_connection = true;
                    let reason = match &end {
                        End::Lost(reason) => *reason,
                        End::Unusable(_) => ReconnectReason::Refused,
                    };
                    self.metrics.broker_reconnects(reason);
                    self.lose(&end);
                }
                Err(verdict) => {
                    is_refused = matches!(verdict, Verdict::Unsuitable(_));
                    self.fail(verdict);
                }
            }
            tokio::time::sleep(backoff.next(is_refused)).await;
        }
    }

    async fn open(&self) -> Result<(Arc<Ears>, MultiplexedConnection), Verdict> {
        let ears = Ears::new(&self.state, &self.probe, &self.metrics);
        // Called by the reader itself: the library's own way from it to a stream has no limit.
        let hearing = Arc::clone(&ears);
        let on_push = move |push: PushInfo| -> Result<(), ()> {
            hearing.hear(push);
            Ok(())
        };
        let opened = self.connector.open(Some(Arc::new(on_push))).await;
        let mut connection = opened.map_err(|error| check::verdict(&error))?;
        let lineage = check::check(&mut connection).await?;
        *self.state.lineage.lock() = lineage.into();
        Ok((ears, connection))
    }

    /// Uses the connection until it is no good any more.
    async fn serve(
        &mut self,
        ears: &Arc<Ears>,
        connection: MultiplexedConnection,
        backoff: &mut Backoff,
    ) -> End {
        self.state.ledger.lock().start_anew();
        let interval = self.connector.settings().probe_interval;
        let limit = interval + self.connector.settings().command_timeout;
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_restored = false;
        let mut telling = pin!(Fuse::terminated());
        loop {
            if telling.is_terminated()
                && let Some(batches) = self.next_batches()
            {
                telling.set(tell(connection.clone(), batches).fuse());
            }
            if !is_restored && self.state.ledger.lock().is_settled() && ears.has_heard() {
                is_restored = true;
                backoff.connected();
                // On the first connection nothing can have been missed.
                if self.had_connection {
                    self.state.restore();
                }
                self.hear_again();
            }
            if ears.is_closed.load(Ordering::Acquire) {
                return End::Lost(ReconnectReason::Closed);
            }
            tokio::select! {
                // A distant server takes long to confirm much: it is probed meanwhile.
                told = &mut telling => {
                    if let Err(error) = told {
                        return end_of(&error);
                    }
                }
                () = ears.changed.notified() => {}
                () = self.state.changed.notified() => {}
                _ = ticks.tick() => {
                    if ears.silent_for() > limit {
                        return End::Lost(ReconnectReason::Deaf);
                    }
                    self.send_probe(ears, &connection);
                }
            }
        }
    }

    /// What the server does not know yet: some batches, so that a distant one is not waited for after each. No channel
    /// is in two of them. `None` if there is nothing.
    fn next_batches(&self) -> Option<Vec<Batch>> {
        let mut ledger = self.state.ledger.lock();
        let next = || Some(ledger.next_batch(BATCH)).filter(|batch| !batch.is_empty());
        let batches: Vec<_> = std::iter::from_fn(next).take(BATCHES_AT_ONCE).collect();
        (!batches.is_empty()).then_some(batches)
    }

    /// Sends a probe through Redis, and a ping on the connection itself, so that the network finds out whether
    /// anybody is there. Waits for neither: that a probe is missing shows.
    fn send_probe(&self, ears: &Arc<Ears>, connection: &MultiplexedConnection) {
        let (lines, mut connection) = (Arc::clone(&self.lines), connection.clone());
        let probe = Call::command("PUBLISH").arg(&*self.probe).arg(ears.now().to_string());
        tokio::spawn(async move {
            let ping = async { ::redis::cmd("PING").query_async::<Value>(&mut connection).await.is_ok() };
            let (sent, pinged) = tokio::join!(lines.call::<Value>(&probe), ping);
            if sent.is_err() || !pinged {
                tracing::debug!(sent = sent.is_ok(), pinged, "a probe of Redis was not answered");
            }
        });
    }

    fn hear_again(&mut self) {
        self.metrics.broker_up(true);
        *self.state.heard_since.lock() = Some(Instant::now());
        self.hearing.send_replace(Hearing::Heard);
        if let Some(away_for) = self.complaint.end() {
            let address = self.connector.address();
            tracing::info!(redis.address = address, away_for = ?away_for, "hearing from Redis");
        }
    }

    /// The connection is gone.
    fn lose(&mut self, end: &End) {
        self.metrics.broker_up(false);
        *self.state.heard_since.lock() = None;
        // Nothing is live any more: who subscribes now has to wait.
        self.state.ledger.lock().start_anew();
        let was_heard = self.hearing.borrow().is_heard();
        if was_heard || !matches!(*self.hearing.borrow(), Hearing::NotYet) {
            self.hearing.send_replace(Hearing::Deaf);
        }
        let reason = match end {
            End::Lost(reason) => reason.label(),
            End::Unusable(reason) => reason,
        };
        self.complaint.say(|| {
            tracing::warn!(
                redis.address = self.connector.address(),
                reason,
                "not hearing from Redis; connecting again"
            );
        });
    }

    /// No connection could be opened.
    fn fail(&mut self, verdict: Verdict) {
        let reason = match verdict {
            Verdict::Away(reason) => reason,
            Verdict::Unsuitable(reason) => {
                self.hearing.send_replace(Hearing::Refused(Refusal::Other));
                reason
            }
        };
        self.complaint.say(|| {
            tracing::warn!(redis.address = self.connector.address(), reason, "Redis is away; trying again");
        });
    }
}

async fn tell(connection: MultiplexedConnection, batches: Vec<Batch>) -> Result<(), RedisError> {
    let told = batches.into_iter().map(|batch| tell_batch(connection.clone(), batch));
    try_join_all(told).await.map(drop)
}

async fn tell_batch(mut connection: MultiplexedConnection, batch: Batch) -> Result<(), RedisError> {
    let names = |names: &[Name]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    if !batch.unsubscribe.is_empty() {
        connection.unsubscribe(names(&batch.unsubscribe)).await?;
    }
    if !batch.subscribe.is_empty() {
        connection.subscribe(names(&batch.subscribe)).await?;
    }
    Ok(())
}

fn end_of(error: &RedisError) -> End {
    match Failure::from(error) {
        Failure::Unavailable => End::Lost(ReconnectReason::Closed),
        failure @ (Failure::Refused(_) | Failure::Full) => End::Unusable(failure.to_string()),
    }
}

/// Says once that something is wrong, and then at most every some seconds, until it is over.
#[derive(Debug, Default)]
struct Complaint {
    since: Option<Instant>,
    said_at: Option<Instant>,
}

impl Complaint {
    fn say(&mut self, say: impl FnOnce()) {
        let now = Instant::now();
        self.since.get_or_insert(now);
        if self.said_at.is_none_or(|said_at| now - said_at >= COMPLAIN_INTERVAL) {
            self.said_at = Some(now);
            say();
        }
    }

    /// How long it lasted; `None` if nothing was wrong.
    fn end(&mut self) -> Option<Duration> {
        self.said_at = None;
        self.since.take().map(|since| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::super::super::subscriptions::Item;
    use super::*;

    #[tokio::test]
    async fn nothing_is_heard_of_a_connection_that_was_given_up() {
        let state = State::new(1 << 20);
        let (probe, metrics) = (Arc::from("probe"), Arc::new(Metrics::new()));
        let (old, new) = (Ears::new(&state, &probe, &metrics), Ears::new(&state, &probe, &metrics));
        let message = |payload: &str| PushInfo {
            kind: PushKind::Message,
            data: ["a", payload].map(|text| Value::BulkString(text.into())).into(),
        };
        old.is_given_up.store(true, Ordering::Release);
        for ears in [&old, &new] {
            ears.hear(message("x"));
        }
        let confirmed = PushInfo { kind: PushKind::Subscribe, data: vec![Value::BulkString(b"a".into())] };
        let mut live = state.ledger.lock().want("a");
        state.ledger.lock().next_batch(1);
        old.hear(confirmed.clone());
        assert!(live.as_mut().is_some_and(|live| live.try_recv().is_err()));
        new.hear(confirmed);
        assert!(live.is_some_and(|mut live| live.try_recv().is_ok()));
        let (mut items, mut dropped) = (VecDeque::new(), Vec::new());
        state.queues[super::super::worker_of(b"a")].take(&mut items, &mut dropped).await;
        assert_eq!(items, [Item::Message { name: b"a".into(), payload: b"x".into() }]);
    }
}
