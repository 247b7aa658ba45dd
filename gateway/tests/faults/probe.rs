//! A client that behaves as an SDK does: it stays connected, recovers from where it was, and does what the gateway
//! says. What it sees goes into its journal.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::{token, wait};
use crate::fleet::Fleet;
use crate::journal::{End, Entry, Journal};
use crate::oracle::{Position, Verdict};

/// How long opening a connection may take, and any reply.
const REPLY: Duration = Duration::from_secs(5);
/// Without a ping for so much longer than it was promised the connection is given up.
const PING_DELAY_MAX: Duration = Duration::from_secs(3);
/// Before the first attempt to come back; then it doubles. The real delay is random, from half of it on.
const DELAY: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(1);

/// What a client should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Stay,
    /// To the node of this number, and nowhere else.
    StayAt(usize),
    /// Away without a word; it may be told to come back.
    Away,
}

/// A client in a task of its own; it is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Probe {
    journal: Arc<Mutex<Journal>>,
    wish: watch::Sender<Wish>,
    task: AbortHandle,
}

impl Probe {
    /// Connects `user` to any node, or to the one of the number `home` as long as nothing else is wished.
    pub(crate) fn start(fleet: &Arc<Fleet>, user: &str, channels: &[Arc<str>], home: Option<usize>) -> Self {
        let journal = Arc::new(Mutex::new(Journal::new(user.to_owned(), channels)));
        let wish = watch::Sender::new(home.map_or(Wish::Stay, Wish::StayAt));
        let client = Client {
            fleet: Arc::clone(fleet),
            user: user.to_owned(),
            channels: channels.to_vec(),
            journal: Arc::clone(&journal),
        };
        let task = tokio::spawn(client.run(wish.subscribe())).abort_handle();
        Self { journal, wish, task }
    }

    pub(crate) fn journal(&self) -> parking_lot::MutexGuard<'_, Journal> {
        self.journal.lock()
    }

    /// Breaks its connection off and stays away.
    pub(crate) fn leave(&self) {
        self.wish.send_replace(Wish::Away);
    }

    /// Comes back to any node; who is connected stays, and may go anywhere from now on.
    pub(crate) fn roam(&self) {
        self.wish.send_replace(Wish::Stay);
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Client {
    fleet: Arc<Fleet>,
    user: String,
    channels: Vec<Arc<str>>,
    journal: Arc<Mutex<Journal>>,
}

impl Client {
    async fn run(self, mut wish: watch::Receiver<Wish>) {
        let mut failures = 0;
        // The sender goes with the probe, and the task with it.
        while let Ok(current) = wish.wait_for(|wish| *wish != Wish::Away).await.map(|wish| *wish) {
            let mut greeted = false;
            let end = tokio::select! {
                end = self.connection(current, &mut greeted) => end,
                _ = wish.wait_for(|wish| *wish == Wish::Away) => End::Left,
            };
            self.journal.lock().note(Entry::Ended(end));
            if is_final(end) {
                return;
            }
            failures = if greeted { 0 } else { failures + 1 };
            if end != End::Left {
                sleep(delay(failures)).await;
            }
        }
    }

    /// One connection, from its start to its end; `greeted` becomes true when the gateway takes it.
    async fn connection(&self, wish: Wish, greeted: &mut bool) -> End {
        let (node, address) = match wish {
            Wish::StayAt(node) => self.fleet.at(node),
            Wish::Stay | Wish::Away => self.fleet.any(),
        };
        let opening = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            // Clients are many, and what they get is small.
            let config = WebSocketConfig::default().read_buffer_size(8 << 10);
            let url = "ws://test/connection/websocket";
            Ok(client_async_with_config(url, stream, Some(config)).await?.0)
        };
        let Ok(socket) = wait::within("the upgrade", REPLY, opening).await else { return End::Unreachable };
        let mut conversation = Conversation::new(self, socket);
        match conversation.greet().await {
            Ok(client) => {
                let mut journal = self.journal.lock();
                journal.note(Entry::Connected(node));
                journal.client = client;
                *greeted = true;
            }
            Err(end) => return end,
        }
        conversation.run().await
    }
}

/// Whether an SDK gives up for good.
fn is_final(end: End) -> bool {
    matches!(end, End::Closed(3500..=3999 | 4500..=4999))
}

/// Before the next attempt.
fn delay(failures: u32) -> Duration {
    let longest = DELAY.saturating_mul(1 << failures.min(8)).min(DELAY_MAX);
    longest.mul_f64(rand::random_range(0.5..1.0))
}

/// Where a subscription is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// To be asked for at this moment, for the nth time.
    Due(Instant, u32),
    /// Asked for at this moment, for the nth time.
    Asked(Instant, u32),
    Live,
    /// The gateway refused it, or ended it for good.
    Over,
}

/// A connection that the gateway has taken.
struct Conversation<'a> {
    client: &'a Client,
    socket: WebSocketStream<TcpStream>,
    last_id: u32,
    asked: HashMap<u32, Arc<str>>,
    states: HashMap<Arc<str>, State>,
    heard_at: Instant,
    /// Between two pings, as the gateway has said.
    ping_interval: Duration,
}

impl<'a> Conversation<'a> {
    fn new(client: &'a Client, socket: WebSocketStream<TcpStream>) -> Self {
        let now = Instant::now();
        let states =
            client.channels.iter().map(|channel| (Arc::clone(channel), State::Due(now, 0))).collect();
        Self {
            client,
            socket,
            last_id: 0,
            asked: HashMap::new(),
            states,
            heard_at: now,
            ping_interval: Duration::ZERO,
        }
    }

    /// Says `connect`; answers the id that the gateway gives.
    async fn greet(&mut self) -> Result<String, End> {
        self.last_id += 1;
        let request = json!({"id": 1, "connect": {"token": token::sign(&self.client.user)}});
        self.send(request.to_string()).await?;
        let text = tokio::time::timeout(REPLY, self.text()).await.map_err(|_| End::Silent)??;
        let reply: Value = serde_json::from_str(&text).map_err(|_| End::Broken)?;
        self.ping_interval = Duration::from_secs(reply["connect"]["ping"].as_u64().unwrap_or(0));
        reply["connect"]["client"].as_str().map(str::to_owned).ok_or(End::Unreachable)
    }

    async fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.ask_for_subscriptions().await {
                return end;
            }
            let wakes_at = self.wakes_at();
            let text = tokio::select! {
                text = self.text() => text,
                () = sleep_until(wakes_at) => {
                    if self.has_waited_too_long() {
                        return End::Silent;
                    }
                    continue;
                }
            };
            let handled = match text {
                Ok(text) => self.handle(&text).await,
                Err(end) => Err(end),
            };
            if let Err(end) = handled {
                return end;
            }
        }
    }

    /// When there is something to do that nobody announces.
    fn wakes_at(&self) -> Instant {
        let state = |state: &State| match *state {
            State::Due(at, _) => Some(at),
            State::Asked(at, _) => Some(at + REPLY),
            State::Live | State::Over => None,
        };
        let first = self.states.values().filter_map(state).min();
        let silence = self.heard_at + self.silence_max();
        first.map_or(silence, |first| first.min(silence))
    }

    fn silence_max(&self) -> Duration {
        self.ping_interval + PING_DELAY_MAX
    }

    fn has_waited_too_long(&self) -> bool {
        let unanswered = |state: &State| matches!(state, State::Asked(at, _) if at.elapsed() >= REPLY);
        self.heard_at.elapsed() >= self.silence_max() || self.states.values().any(unanswered)
    }

    async fn ask_for_subscriptions(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let mut commands = Vec::new();
        for (channel, state) in &mut self.states {
            let State::Due(at, attempt) = *state else { continue };
            if at > now {
                continue;
            }
            self.last_id += 1;
            let mut request = json!({"channel": &**channel});
            let position = self.client.journal.lock().standings[channel].position.clone();
            if let Some(Position { epoch, offset }) = position {
                request["recover"] = json!(true);
                request["epoch"] = json!(&*epoch);
                request["offset"] = json!(offset);
            }
            commands.push(json!({"id": self.last_id, "subscribe": request}).to_string());
            self.asked.insert(self.last_id, Arc::clone(channel));
            *state = State::Asked(now, attempt);
        }
        if commands.is_empty() { Ok(()) } else { self.send(commands.join("\n")).await }
    }

    async fn handle(&mut self, text: &str) -> Result<(), End> {
        for line in text.lines() {
            if line == "{}" {
                self.heard_at = Instant::now();
                self.send("{}".into()).await?;
                continue;
            }
            let message: Incoming = serde_json::from_str(line).map_err(|_| End::Broken)?;
            if let Some(push) = message.push {
                self.push(push);
            } else if let Some(channel) = self.asked.remove(&message.id) {
                self.reply(&channel, message.subscribe, message.error);
            }
        }
        Ok(())
    }

    fn reply(&mut self, channel: &Arc<str>, reply: Option<Subscribed>, error: Option<Refusal>) {
        let attempt = match self.states[channel] {
            State::Asked(_, attempt) => attempt,
            _ => 0,
        };
        if let Some(reply) = reply {
            self.states.insert(Arc::clone(channel), State::Live);
            return self.subscribed(channel, reply);
        }
        let Refusal { code, temporary } = error.unwrap_or(Refusal { code: 0, temporary: false });
        let again = temporary || code < 100 || code == 109;
        let state =
            if again { State::Due(Instant::now() + delay(attempt + 1), attempt + 1) } else { State::Over };
        self.states.insert(Arc::clone(channel), state);
        let entry = Entry::Refused { code, is_temporary: again };
        self.client.journal.lock().note_in(channel, None, entry);
    }

    fn subscribed(&mut self, channel: &Arc<str>, reply: Subscribed) {
        let mut journal = self.client.journal.lock();
        let had_position = journal.standings[channel].position.is_some();
        let verdict = match (reply.recovered, had_position) {
            (true, _) => Verdict::Recovered,
            (false, true) => Verdict::NotRecovered,
            (false, false) => Verdict::Fresh,
        };
        let position = (!reply.epoch.is_empty()).then(|| Position::new(&reply.epoch, reply.offset));
        journal.note_in(channel, position, Entry::Subscribed(verdict));
        drop(journal);
        for publication in reply.publications {
            self.publication(channel, &publication);
        }
    }

    fn push(&mut self, push: Push) {
        let Some((channel, _)) = self.states.get_key_value(push.channel.as_str()) else { return };
        let channel = Arc::clone(channel);
        if let Some(publication) = push.publication {
            return self.publication(&channel, &publication);
        }
        let entry = match (push.join, push.leave, push.unsubscribe) {
            (Some(join), ..) => Entry::Joined(join.info.client),
            (_, Some(leave), _) => Entry::Left(leave.info.client),
            (.., Some(unsubscribe)) => return self.unsubscribed(&channel, unsubscribe.code),
            _ => return,
        };
        self.client.journal.lock().note_in(&channel, None, entry);
    }

    /// An SDK takes no notice while it is subscribing, and subscribes again at once otherwise.
    fn unsubscribed(&mut self, channel: &Arc<str>, code: u32) {
        self.client.journal.lock().note_in(channel, None, Entry::Unsubscribed(code));
        if self.states[channel] == State::Live {
            let state = if code < 2500 { State::Over } else { State::Due(Instant::now(), 0) };
            self.states.insert(Arc::clone(channel), state);
        }
    }

    fn publication(&self, channel: &Arc<str>, publication: &Publication) {
        let mut journal = self.client.journal.lock();
        let known = journal.standings[channel].position.as_ref().map(|position| Arc::clone(&position.epoch));
        let epoch = publication.epoch.as_deref().map(Arc::from).or(known);
        let position = epoch.filter(|_| publication.offset > 0);
        let position = position.map(|epoch| Position { epoch, offset: publication.offset });
        journal.note_in(channel, position, Entry::Publication(publication.data.number));
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        let sending = async { self.socket.send(Message::text(text)).await.context("sending") };
        wait::within("a message to be taken", REPLY, sending).await.map_err(|_| End::Broken)
    }

    /// The next text, or how the connection ended.
    async fn text(&mut self) -> Result<String, End> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(Some(frame)))) => return Err(End::Closed(frame.code.into())),
                Some(Ok(Message::Close(None)) | Err(_)) | None => return Err(End::Broken),
                Some(Ok(_)) => {}
            }
        }
    }
}

/// A reply or a push.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Incoming {
    id: u32,
    error: Option<Refusal>,
    push: Option<Push>,
    subscribe: Option<Subscribed>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    code: u32,
    #[serde(default)]
    temporary: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Subscribed {
    epoch: String,
    offset: u64,
    recovered: bool,
    publications: Vec<Publication>,
}

#[derive(Debug, Deserialize)]
struct Push {
    #[serde(default)]
    channel: String,
    #[serde(rename = "pub")]
    publication: Option<Publication>,
    join: Option<Presence>,
    leave: Option<Presence>,
    unsubscribe: Option<Unsubscribe>,
}

#[derive(Debug, Deserialize)]
struct Publication {
    data: Data,
    #[serde(default)]
    offset: u64,
    epoch: Option<String>,
}

/// What publishers of the tests publish; see `publisher`.
#[derive(Debug, Deserialize)]
struct Data {
    number: u64,
}

#[derive(Debug, Deserialize)]
struct Presence {
    info: Info,
}

#[derive(Debug, Deserialize)]
struct Info {
    client: String,
}

#[derive(Debug, Deserialize)]
struct Unsubscribe {
    code: u32,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    crate::own::tests!(
        messages_of_the_gateway_are_read,
        delays_grow_and_stay_below_their_maximum,
        codes_that_end_for_good_are_known
    );

    fn messages_of_the_gateway_are_read() {
        let line = r#"{"push":{"channel":"kept:a","pub":{"data":{"number":7},"offset":3,"epoch":"e"}}}"#;
        let push = serde_json::from_str::<Incoming>(line).unwrap().push.unwrap();
        let publication = push.publication.unwrap();
        assert_eq!((publication.data.number, publication.offset), (7, 3));
        let line = r#"{"id":4,"subscribe":{"recoverable":true,"epoch":"e","offset":2,"publications":[]}}"#;
        let reply = serde_json::from_str::<Incoming>(line).unwrap().subscribe.unwrap();
        assert_eq!((reply.epoch.as_str(), reply.offset, reply.recovered), ("e", 2, false));
        let line =
            r#"{"push":{"channel":"kept:a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
        let push = serde_json::from_str::<Incoming>(line).unwrap().push.unwrap();
        assert_eq!(push.unsubscribe.unwrap().code, 2500);
    }

    fn delays_grow_and_stay_below_their_maximum() {
        for failures in 0..20 {
            let delay = delay(failures);
            assert!((DELAY / 2..DELAY_MAX).contains(&delay), "{delay:?}");
        }
        assert!(delay(9) >= DELAY_MAX / 2);
    }

    fn codes_that_end_for_good_are_known() {
        assert!(is_final(End::Closed(3500)) && is_final(End::Closed(4500)));
        assert!(!is_final(End::Closed(3012)) && !is_final(End::Broken) && !is_final(End::Closed(4000)));
    }
}
