//! A tiny server of the protocol, that does what a test tells it to.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use swarm::oracle::Position;
use swarm::published::Published;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, watch};
use tokio::time;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// The one channel.
pub(crate) const CHANNEL: &str = "noon:0";

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a test can have done to every connection that is open.
#[derive(Clone, Debug)]
enum Act {
    Say(String),
    Close(u16),
    Drop,
}

/// How a server answers.
#[derive(Debug)]
struct State {
    epoch: String,
    top: u64,
    published: u64,
    /// Answers of HTTP to the next handshakes: status and `Retry-After`. Then every handshake succeeds.
    refusals: VecDeque<(u16, Option<u64>)>,
    /// Errors that answer the next subscriptions.
    errors: VecDeque<Value>,
    /// Whether the next message of a client is not answered.
    is_silent: bool,
    /// Every line that a client has sent.
    heard: Vec<Value>,
    /// The target of each handshake.
    targets: Vec<String>,
    /// Where each connection came from.
    sources: Vec<IpAddr>,
    /// The code of each close frame of a client.
    goodbyes: Vec<u16>,
    /// Ids of clients that were given.
    clients: u32,
}

/// A server on a port of its own. It ends with the runtime of its test.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) published: Arc<Published>,
    state: Arc<Mutex<State>>,
    acts: broadcast::Sender<Act>,
    /// How many lines were heard.
    heard: watch::Sender<usize>,
    /// How many connections have ended.
    gone: watch::Sender<usize>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State {
            epoch: "first".to_owned(),
            top: 0,
            published: 0,
            refusals: VecDeque::new(),
            errors: VecDeque::new(),
            is_silent: false,
            heard: Vec::new(),
            targets: Vec::new(),
            sources: Vec::new(),
            goodbyes: Vec::new(),
            clients: 0,
        };
        let server = Self {
            address: listener.local_addr().unwrap(),
            published: Arc::new(Published::new(&[CHANNEL.to_owned()])),
            state: Arc::new(Mutex::new(state)),
            acts: broadcast::Sender::new(1_024),
            heard: watch::Sender::new(0),
            gone: watch::Sender::new(0),
        };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, source)) = listener.accept().await {
                let server = accepting.clone();
                server.change(|state| state.sources.push(source.ip()));
                tokio::spawn(async move {
                    server.serve(stream).await;
                    server.gone.send_modify(|gone| *gone += 1);
                });
            }
        });
        server
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// The next handshake is answered like this.
    pub(crate) fn refuse(&self, status: u16, retry_after: Option<u64>) {
        self.change(|state| state.refusals.push_back((status, retry_after)));
    }

    /// The next subscription is answered like this.
    pub(crate) fn refuse_subscription(&self, error: Value) {
        self.change(|state| state.errors.push_back(error));
    }

    /// The next message of a client is not answered.
    pub(crate) fn be_silent(&self) {
        self.change(|state| state.is_silent = true);
    }

    /// Publishes; the publication is acknowledged, and every client that is connected gets it.
    pub(crate) fn publish(&self) {
        self.say(&self.publication(true));
    }

    /// Publishes, and nobody is told.
    pub(crate) fn publish_in_secret(&self) {
        self.publication(true);
    }

    /// The push of a new publication.
    pub(crate) fn publication(&self, is_acknowledged: bool) -> Value {
        let (epoch, offset, seq) = self.change(|state| {
            state.top += 1;
            state.published += 1;
            (state.epoch.clone(), state.top, state.published)
        });
        if is_acknowledged {
            let mut log = self.published.log(0);
            let at = Position { epoch: log.epoch(&epoch), offset };
            log.acknowledge(at, seq, Duration::ZERO);
        }
        json!({"push": {"channel": CHANNEL, "pub": publication(offset, seq)}})
    }

    /// The history is empty, and numbered anew.
    pub(crate) fn begin_anew(&self, epoch: &str) {
        self.change(|state| (state.epoch, state.top) = (epoch.to_owned(), 0));
    }

    pub(crate) fn say(&self, message: &Value) {
        self.act(Act::Say(message.to_string()));
    }

    /// Sends a text as it is.
    pub(crate) fn say_text(&self, text: &str) {
        self.act(Act::Say(text.to_owned()));
    }

    pub(crate) fn close(&self, code: u16) {
        self.act(Act::Close(code));
    }

    /// Drops every connection without a close frame.
    pub(crate) fn drop_all(&self) {
        self.act(Act::Drop);
    }

    fn act(&self, act: Act) {
        self.acts.send(act).expect("somebody is connected");
    }

    /// The target of each handshake so far.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.change(|state| state.targets.clone())
    }

    /// Where each connection so far came from.
    pub(crate) fn sources(&self) -> Vec<IpAddr> {
        self.change(|state| state.sources.clone())
    }

    /// The code of each close frame of a client so far.
    pub(crate) fn goodbyes(&self) -> Vec<u16> {
        self.change(|state| state.goodbyes.clone())
    }

    /// Waits for `count` lines of clients that have this field, and answers what all those lines have in it.
    pub(crate) async fn heard(&self, field: &str, count: usize) -> Vec<Value> {
        let found = || self.change(|state| fields(&state.heard, field));
        let mut heard = self.heard.subscribe();
        let waiting = heard.wait_for(|_| found().len() >= count);
        let in_time = time::timeout(PATIENCE, waiting).await.is_ok();
        assert!(in_time, "{count} times {field} were expected, but there are {:?}", found());
        found()
    }

    /// How many pongs were heard.
    pub(crate) async fn pongs(&self, count: usize) {
        let found = || self.change(|state| state.heard.iter().filter(|line| **line == json!({})).count());
        let mut heard = self.heard.subscribe();
        let waiting = heard.wait_for(|_| found() >= count);
        assert!(time::timeout(PATIENCE, waiting).await.is_ok(), "{count} pongs were expected");
    }

    /// Waits until so many connections have ended.
    pub(crate) async fn gone(&self, count: usize) {
        let mut gone = self.gone.subscribe();
        let waiting = gone.wait_for(|&gone| gone >= count);
        assert!(time::timeout(PATIENCE, waiting).await.is_ok(), "{count} connections should have ended");
    }

    async fn serve(&self, stream: TcpStream) {
        #[expect(clippy::result_large_err, reason = "the library has it so")]
        let answer = |request: &Request, response: Response| {
            let refusal = self.change(|state| {
                state.targets.push(request.uri().to_string());
                state.refusals.pop_front()
            });
            match refusal {
                None => Ok(response),
                Some((status, retry_after)) => Err(refused(status, retry_after)),
            }
        };
        // Subscribed before the handshake ends, so that a client that is there misses nothing.
        let mut acts = self.acts.subscribe();
        let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, answer).await else { return };
        loop {
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.answer(&mut socket, text.as_str()).await,
                    Some(Ok(Message::Close(Some(frame)))) => {
                        self.change(|state| state.goodbyes.push(frame.code.into()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                },
                act = acts.recv() => match act.expect("the server outlives its connections") {
                    Act::Say(text) => send(&mut socket, text).await,
                    Act::Close(code) => {
                        let frame = CloseFrame { code: code.into(), reason: "told to".into() };
                        let _ = socket.close(Some(frame)).await;
                    }
                    Act::Drop => return,
                },
            }
        }
    }

    async fn answer(&self, socket: &mut WebSocketStream<TcpStream>, text: &str) {
        if self.change(|state| std::mem::take(&mut state.is_silent)) {
            return;
        }
        let mut replies = Vec::new();
        for line in text.split('\n') {
            let command: Value = serde_json::from_str(line).unwrap();
            replies.extend(self.change(|state| state.answer(&command)));
        }
        if !replies.is_empty() {
            send(socket, replies.join("\n")).await;
        }
        self.heard.send_modify(|heard| *heard += 1);
    }
}

impl State {
    fn answer(&mut self, command: &Value) -> Option<String> {
        self.heard.push(command.clone());
        let reply = if command.get("connect").is_some() {
            self.clients += 1;
            json!({"id": command["id"], "connect": {"client": format!("c{}", self.clients), "ping": 25, "pong": true}})
        } else if let Some(subscribe) = command.get("subscribe") {
            match self.errors.pop_front() {
                Some(error) => json!({"id": command["id"], "error": error}),
                None => json!({"id": command["id"], "subscribe": self.subscribed(subscribe)}),
            }
        } else {
            return None;
        };
        Some(reply.to_string())
    }

    /// All of an epoch is kept. The numbers of publications go on from one epoch to the next.
    fn subscribed(&self, subscribe: &Value) -> Value {
        let is_known = subscribe["recover"] == true && subscribe["epoch"] == json!(self.epoch);
        if !is_known {
            return json!({"recoverable": true, "epoch": self.epoch, "offset": self.top});
        }
        let from = subscribe["offset"].as_u64().unwrap();
        let before = self.published - self.top;
        let missed: Vec<_> =
            (from + 1..=self.top).map(|offset| publication(offset, before + offset)).collect();
        json!({"recoverable": true, "recovered": true, "epoch": self.epoch, "offset": from, "publications": missed})
    }
}

fn publication(offset: u64, seq: u64) -> Value {
    json!({"offset": offset, "data": {"seq": seq, "at": u64::MAX / 2, "pad": "xxx"}})
}

fn fields(lines: &[Value], field: &str) -> Vec<Value> {
    lines.iter().filter_map(|line| line.get(field).cloned()).collect()
}

fn refused(status: u16, retry_after: Option<u64>) -> ErrorResponse {
    let mut response = Response::builder().status(status);
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
    }
    response.body(None).unwrap()
}

/// Whether the client is still there makes no difference.
async fn send(socket: &mut WebSocketStream<TcpStream>, text: String) {
    let _ = socket.send(Message::text(text)).await;
}
