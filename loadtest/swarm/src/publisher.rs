//! A back end that publishes at a steady rate, whatever the answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{self, MissedTickBehavior};

use crate::clock::Clock;
use crate::findings::{EXAMPLES_MAX, Outage, PublishFindings, count_tenth};
use crate::oracle::Position;
use crate::published::Published;

/// How long a back end waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// More publications do not wait for an answer at a time.
const WAITING_MAX: usize = 8_192;

/// The first pause after the one retry that comes at once; each further one is twice as long, up to the last.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// More outages than these tell nothing new.
const OUTAGES_MAX: usize = 10_000;

/// What is published, how fast, and where.
#[derive(Clone, Debug)]
pub struct PublisherSettings {
    /// Internal addresses of the nodes. Whoever replaces a node changes them; they are read for each request.
    pub nodes: Arc<RwLock<Vec<SocketAddr>>>,
    /// Sent as `X-API-Key`.
    pub api_key: String,
    /// Published to in turn. [`Published`] knows the same ones, in the same order.
    pub channels: Vec<String>,
    /// Publications per second, over all channels; at least 1.
    pub rate: u32,
    /// Padding of each publication.
    pub payload_bytes: usize,
    /// How long a publication is tried again, with its key, until it is acknowledged. Zero: once, as a plain back end.
    pub patience: Duration,
}

/// Publishes until it is stopped. Dropping it stops it at once.
#[derive(Debug)]
pub struct Publisher {
    back_end: Arc<BackEnd>,
    stop: watch::Sender<bool>,
    ticking: AbortOnDrop,
}

/// A task that ends with this value.
#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Publisher {
    /// Starts to publish, from a task of its own.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and without channels.
    pub fn start(settings: PublisherSettings, clock: Clock, published: Arc<Published>) -> Self {
        assert!(!settings.channels.is_empty(), "there is a channel to publish to");
        let http = reqwest::Client::builder()
            .timeout(ANSWER_TIMEOUT)
            .no_proxy()
            .build()
            .expect("a client without TLS needs nothing that can be missing");
        let findings = Mutex::default();
        let run = rand::random();
        let back_end = Arc::new(BackEnd { settings, clock, published, http, run, findings });
        let (stop, stopped) = watch::channel(false);
        let ticking = AbortOnDrop(tokio::spawn(tick(Arc::clone(&back_end), stopped)));
        Self { back_end, stop, ticking }
    }

    /// Publishes nothing more, and waits until everything is answered or given up: as long as the patience of the settings
    /// and two answers take at most.
    pub async fn stop(mut self) -> PublishFindings {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.ticking.0).await {
            self.back_end
                .note(|findings| findings.failures.push(format!("the publisher broke down: {error}")));
        }
        self.back_end.note(|findings| {
            findings.unacknowledged = findings.sent - findings.acknowledged;
            std::mem::take(findings)
        })
    }
}

/// Publishes in an open loop: what waits for an answer holds up nothing. Ends after `stopped`, once all is answered.
async fn tick(back_end: Arc<BackEnd>, mut stopped: watch::Receiver<bool>) {
    let mut interval = time::interval(Duration::from_secs(1) / back_end.settings.rate.max(1));
    // What is late is still published: the rate is a promise.
    interval.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut waiting = JoinSet::new();
    for count in 0_u64.. {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|&stopped| stopped) => break,
            _ = interval.tick() => {}
        }
        while waiting.try_join_next().is_some() {}
        if waiting.len() < WAITING_MAX {
            waiting.spawn(Arc::clone(&back_end).publish(count));
        } else {
            back_end.note(|findings| findings.skipped += 1);
        }
    }
    while waiting.join_next().await.is_some() {}
}

/// What all requests have in common.
#[derive(Debug)]
struct BackEnd {
    settings: PublisherSettings,
    clock: Clock,
    published: Arc<Published>,
    http: reqwest::Client,
    /// Tells the keys of this run from those of an earlier one.
    run: u64,
    findings: Mutex<PublishFindings>,
}

/// One publication, as it is sent each time.
#[derive(Clone, Debug, Serialize)]
struct Request<'a> {
    channel: &'a str,
    idempotency_key: String,
    data: Data,
}

/// What clients read of it is `Payload` in `client/protocol.rs`.
#[derive(Clone, Debug, Serialize)]
struct Data {
    seq: u64,
    at: u64,
    pad: String,
}

#[derive(Debug, Deserialize)]
struct Answer {
    result: Option<Place>,
    error: Option<serde_json::Value>,
}

/// Where a publication is; without a history it is nowhere.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Place {
    offset: u64,
    epoch: String,
}

impl BackEnd {
    /// Publishes the publication `count` of the run, trying again as the settings say.
    async fn publish(self: Arc<Self>, count: u64) {
        let sent_at = self.clock.now();
        let channels = u64::try_from(self.settings.channels.len()).expect("a list is no longer than memory");
        let channel = usize::try_from(count % channels).expect("there are no more channels than that");
        let request = self.request(channel, count / channels, sent_at);
        self.note(|findings| findings.sent += 1);
        let mut last = None;
        for attempt in 0_u32.. {
            let node = self.node(count + u64::from(attempt), last);
            last = node;
            match self.send(&request, node).await {
                Ok(place) => return self.acknowledged(channel, &request, &place, sent_at),
                Err(words) => self.failed(attempt, &words),
            }
            let is_over = self.clock.now() - sent_at >= self.settings.patience;
            if attempt > 0 && is_over {
                return;
            }
            time::sleep(pause(attempt)).await;
            self.note(|findings| findings.retries += 1);
        }
    }

    fn request(&self, channel: usize, seq: u64, sent_at: Duration) -> Request<'_> {
        let at = u64::try_from(sent_at.as_micros()).expect("a run is shorter than half a million years");
        Request {
            channel: &self.settings.channels[channel],
            idempotency_key: format!("{:016x}-{seq}", self.run),
            data: Data { seq, at, pad: "x".repeat(self.settings.payload_bytes) },
        }
    }

    async fn send(&self, request: &Request<'_>, node: Option<SocketAddr>) -> Result<Place, String> {
        let node = node.ok_or("there is no node")?;
        let sending = self.http.post(format!("http://{node}/api/publish"));
        let sending = sending.header("X-API-Key", &self.settings.api_key).json(request).send();
        let response = sending.await.map_err(|error| format!("{node}: {}", chain(&error)))?;
        if response.status() != StatusCode::OK {
            return Err(format!("{node}: status {}", response.status().as_u16()));
        }
        let answer: Answer = response.json().await.map_err(|error| format!("{node}: {}", chain(&error)))?;
        match answer {
            Answer { error: Some(error), .. } => Err(format!("{node}: error {error}")),
            Answer { result: Some(place), .. } => Ok(place),
            Answer { .. } => Err(format!("{node}: neither a result nor an error")),
        }
    }

    /// The node whose turn it is, or the next one if that was the `last` to be asked; `None` if there is none.
    fn node(&self, turn: u64, last: Option<SocketAddr>) -> Option<SocketAddr> {
        // A panic while somebody changes the list cannot leave it half changed.
        let nodes = self.settings.nodes.read().unwrap_or_else(PoisonError::into_inner);
        let turn = usize::try_from(turn).unwrap_or_default().checked_rem(nodes.len())?;
        let is_again = last == Some(nodes[turn]);
        Some(nodes[(turn + usize::from(is_again)) % nodes.len()])
    }

    fn acknowledged(&self, channel: usize, request: &Request<'_>, place: &Place, sent_at: Duration) {
        let now = self.clock.now();
        if place.offset > 0 {
            let mut log = self.published.log(channel);
            let at = Position { epoch: log.epoch(&place.epoch), offset: place.offset };
            log.acknowledge(at, request.data.seq, sent_at);
        }
        self.note(|findings| {
            findings.acknowledged += 1;
            count_tenth(&mut findings.acknowledged_per_tenth, now);
            match findings.outages.last_mut() {
                Some(outage) if outage.until.is_none() => outage.until = Some(now),
                _ => {}
            }
        });
    }

    /// The second failure is the one that a plain back end would see.
    fn failed(&self, attempt: u32, words: &str) {
        let from = self.clock.now();
        self.note(|findings| {
            if findings.failures.len() < EXAMPLES_MAX {
                findings.failures.push(format!("at {:.3} s: {words}", from.as_secs_f64()));
            }
            if attempt != 1 {
                return;
            }
            findings.failed_after_one_retry += 1;
            let is_first = findings.outages.last().is_none_or(|outage| outage.until.is_some());
            if is_first && findings.outages.len() < OUTAGES_MAX {
                findings.outages.push(Outage { from, until: None });
            }
        });
    }

    fn note<T>(&self, change: impl FnOnce(&mut PublishFindings) -> T) -> T {
        // Nothing panics while it holds the lock, and what it holds is consistent at any time.
        change(&mut self.findings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How long to wait after the attempt `attempt` failed. The first retry comes at once.
fn pause(attempt: u32) -> Duration {
    match attempt {
        0 => Duration::ZERO,
        _ => PAUSE_MIN.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX)).min(PAUSE_MAX),
    }
}

/// An error and its causes, in words.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}
