//! A back end that publishes through the server API and tries again with the same idempotency key until it is told
//! where its publication is. It keeps the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::fleet::Fleet;
use crate::http::Http;
use crate::node::call_api;
use crate::oracle::{Ack, Position};
use crate::wait;

/// A request that is not answered within this hangs.
const HANGS: Duration = Duration::from_secs(5);
/// Before a request is made again. The gateway advises a second; tests have less time.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a publication is tried after the publisher was told to stop.
const LAST_TRIES: Duration = Duration::from_secs(15);

/// What to publish.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// In turn.
    pub(crate) channels: Vec<Arc<str>>,
    /// Publications, as long as they are accepted at once.
    pub(crate) per_second: u32,
    /// Publications under way at the same time, at most.
    pub(crate) workers: u32,
    /// More bytes in each publication.
    pub(crate) padding_bytes: usize,
}

/// How the gateway answered a request to publish.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answered {
    /// It is done; with its place, if the channel has a history.
    Done(Option<Position>),
    /// 503: not done, or nobody knows. Whether there was a `Retry-After`.
    Unavailable { has_advice: bool },
    /// 507: there is no room, nothing was done.
    Full,
    /// Any other status or error.
    Otherwise(String),
    /// The node hung up, or was not there.
    Nothing,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    pub(crate) answered: Answered,
}

/// What publishers were answered.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) acks: Vec<Ack>,
    pub(crate) attempts: Vec<Attempt>,
    /// Publications that were never acknowledged.
    pub(crate) given_up: usize,
}

/// Numbers publications and collects answers; all publishers of a test share one.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    next_number: AtomicU64,
    book: Mutex<Book>,
}

impl Desk {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { next_number: AtomicU64::new(1), book: Mutex::default() })
    }

    /// What the next publication gets; all that are sent later get higher ones.
    pub(crate) fn next_number(&self) -> u64 {
        self.next_number.load(Ordering::Relaxed)
    }

    /// A number for a new publication.
    pub(crate) fn draw(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn book(&self) -> parking_lot::MutexGuard<'_, Book> {
        self.book.lock()
    }

    /// Requests that were made since `start`.
    pub(crate) fn attempts_since(&self, start: Instant) -> Vec<Attempt> {
        let book = self.book.lock();
        book.attempts.iter().filter(|attempt| attempt.at >= start).cloned().collect()
    }

    /// Sends the publication `number` once, and enters the answer.
    pub(crate) async fn send(
        &self,
        http: &mut Http,
        channel: &Arc<str>,
        number: u64,
        padding_bytes: usize,
        sent_at: Instant,
    ) -> Answered {
        let mut data = json!({"number": number});
        if padding_bytes > 0 {
            data["padding"] = json!("x".repeat(padding_bytes));
        }
        let mut request = json!({"channel": &**channel, "data": data});
        // Remembering a key is writing something down, which a channel that keeps nothing can do without.
        if !channel.starts_with("plain:") {
            request["idempotency_key"] = json!(format!("publication-{number}"));
        }
        let at = Instant::now();
        let answer = call_api(http, "publish", &request, HANGS).await;
        let answered = answer.map_or(Answered::Nothing, |answer| understand(&answer));
        let mut book = self.book.lock();
        if let Answered::Done(Some(position)) = &answered {
            let (channel, position) = (Arc::clone(channel), position.clone());
            book.acks.push(Ack { channel, position, number, sent_at, acked_at: Instant::now() });
        }
        book.attempts.push(Attempt { at, took: at.elapsed(), answered: answered.clone() });
        answered
    }
}

fn understand(answer: &crate::http::Answer) -> Answered {
    match answer.status {
        200 => position_in(&answer.body).unwrap_or_else(|_| Answered::Otherwise(answer.body.clone())),
        503 => Answered::Unavailable { has_advice: answer.header("retry-after").is_some() },
        507 => Answered::Full,
        status => Answered::Otherwise(format!("{status}: {}", answer.body)),
    }
}

fn position_in(body: &str) -> Result<Answered> {
    let body: Value = serde_json::from_str(body)?;
    let result = body.get("result").context("there is no result")?;
    let place = result["epoch"].as_str().zip(result["offset"].as_u64());
    Ok(Answered::Done(place.map(|(epoch, offset)| Position::new(epoch, offset))))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Go,
    Pause,
    Stop,
}

/// Publishes as its plan says, in tasks of its own; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Publisher {
    wish: watch::Sender<Wish>,
    workers: JoinSet<()>,
}

impl Publisher {
    pub(crate) fn start(fleet: &Arc<Fleet>, desk: &Arc<Desk>, plan: &Plan) -> Self {
        let wish = watch::Sender::new(Wish::Go);
        let mut workers = JoinSet::new();
        for index in 0..plan.workers {
            let (fleet, desk, plan) = (Arc::clone(fleet), Arc::clone(desk), plan.clone());
            let worker = Worker { fleet, desk, plan, index, wish: wish.subscribe() };
            workers.spawn(worker.run());
        }
        Self { wish, workers }
    }

    /// Begins nothing new.
    pub(crate) fn pause(&self) {
        self.wish.send_replace(Wish::Pause);
    }

    pub(crate) fn resume(&self) {
        self.wish.send_replace(Wish::Go);
    }

    /// Finishes what it began.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.wish.send_replace(Wish::Stop);
        let ending = async {
            while let Some(worker) = self.workers.join_next().await {
                worker.context("a publisher fails")?;
            }
            Ok(())
        };
        wait::within("the publishers to finish", LAST_TRIES + HANGS + AGAIN, ending).await
    }
}

struct Worker {
    fleet: Arc<Fleet>,
    desk: Arc<Desk>,
    plan: Plan,
    index: u32,
    wish: watch::Receiver<Wish>,
}

impl Worker {
    async fn run(mut self) {
        let pause = Duration::from_secs(1) * self.plan.workers / self.plan.per_second.max(1);
        let mut clients = Clients::default();
        let mut next = tokio::time::Instant::now() + pause * self.index / self.plan.workers;
        loop {
            tokio::time::sleep_until(next).await;
            // Who was held up does not make up for it.
            next = tokio::time::Instant::now().max(next + pause);
            match self.wish.wait_for(|wish| *wish != Wish::Pause).await.map(|wish| *wish) {
                Ok(Wish::Go) => self.publish(&mut clients).await,
                _ => return,
            }
        }
    }

    /// One publication, until it is acknowledged.
    async fn publish(&mut self, clients: &mut Clients) {
        let number = self.desk.draw();
        let count = self.plan.channels.len();
        let channel = &self.plan.channels[usize::try_from(number).unwrap_or(0) % count];
        let sent_at = Instant::now();
        let mut stopped_at = None;
        for attempt in 0.. {
            let (node, address) = self.fleet.api_from(self.index as usize + attempt);
            let http = clients.to(node, address);
            let answered = self.desk.send(http, channel, number, self.plan.padding_bytes, sent_at).await;
            if matches!(answered, Answered::Done(_)) {
                return;
            }
            if *self.wish.borrow() == Wish::Stop {
                let since = *stopped_at.get_or_insert_with(Instant::now);
                if since.elapsed() > LAST_TRIES {
                    self.desk.book().given_up += 1;
                    return;
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// A connection to each node that was needed.
#[derive(Debug, Default)]
struct Clients(std::collections::HashMap<usize, Http>);

impl Clients {
    fn to(&mut self, node: usize, address: std::net::SocketAddr) -> &mut Http {
        self.0.entry(node).or_insert_with(|| Http::to(address))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    crate::own::tests!(answers_are_understood);

    fn answers_are_understood() {
        let done = position_in(r#"{"result":{"offset":3,"epoch":"e"}}"#).unwrap();
        assert_eq!(done, Answered::Done(Some(Position::new("e", 3))));
        assert_eq!(position_in(r#"{"result":{}}"#).unwrap(), Answered::Done(None));
        assert!(position_in(r#"{"error":{"code":100}}"#).is_err());
    }
}
