//! A tiny server of the protocol with a tiny server API, which does wrong what a test tells it to.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};

/// The key of its API.
pub(crate) const API_KEY: &str = "the-key-of-the-api";

/// What it does wrong with the publication of this number, counted over all channels from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    /// Nobody gets it.
    Lose(u64),
    /// Nobody gets any that is a multiple of this.
    LoseEvery(u64),
    /// Who comes after so many upgrades gets nothing.
    Deaf(u64),
    /// Everybody gets it twice.
    Repeat(u64),
    /// Everybody gets it after the next one.
    Swap(u64),
    /// It takes two places of the history.
    Skip(u64),
    /// Every connection is closed instead, with a code.
    Close(u64, u16),
    /// Every connection is dropped instead, without a close frame.
    Drop(u64),
    /// Nothing goes on for so long.
    Stall(u64, Duration),
    /// The API answers with an error, but everybody gets it.
    Deny(u64),
    /// The API answers every publication with an error, and nobody gets any.
    DenyAll,
    /// Upgrades are answered with this status.
    Refuse(u16),
    /// Upgrades are refused once there were so many.
    Full(usize),
    /// Subscriptions are answered with this error.
    Forbid(u32),
    /// It is not in the history: who was away does not get it, and is told that it has everything.
    Forget(u64),
    /// Nobody who was away gets anything, and is told so.
    Unrecoverable,
    /// Channels have no history.
    Unpositioned,
    /// After so many upgrades so many are answered with 503, with these seconds of `Retry-After` if there are any.
    Busy(u64, u64, Option<u64>),
    /// Every second connection gets the next one in its place, and it in the place of the next.
    Fork(u64),
}

#[derive(Clone, Debug)]
enum Act {
    /// One line for each of two kinds of connections.
    Say {
        channel: String,
        offset: u64,
        lines: [String; 2],
    },
    Notice {
        channel: String,
        line: String,
    },
    Ping,
    Close(u16),
    Drop,
}

/// A server on ports of its own. It ends with the runtime of its test.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) clients: SocketAddr,
    pub(crate) api: SocketAddr,
    fault: Fault,
    acts: broadcast::Sender<Act>,
    state: Arc<Mutex<State>>,
    /// Calls of the API wait for each other.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    published: u64,
    offsets: BTreeMap<String, u64>,
    /// Offset and JSON of everything that was published, by channel.
    history: BTreeMap<String, Vec<(u64, String)>>,
    upgrades: u64,
    held: Option<Act>,
    /// Targets of handshakes, as they came.
    targets: Vec<String>,
    /// Where connections came from.
    sources: Vec<IpAddr>,
    /// Tokens of connect commands.
    tokens: Vec<String>,
    /// Pongs of clients.
    pongs: u64,
}

impl Server {
    pub(crate) async fn start(fault: Fault) -> Self {
        let clients = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            clients: clients.local_addr().unwrap(),
            api: api.local_addr().unwrap(),
            fault,
            acts: broadcast::Sender::new(4_096),
            state: Arc::default(),
            turn: Arc::default(),
        };
        let (for_clients, for_api) = (server.clone(), server.clone());
        tokio::spawn(async move {
            while let Ok((stream, source)) = clients.accept().await {
                for_clients.change(|state| state.sources.push(source.ip()));
                tokio::spawn(for_clients.clone().serve(stream));
            }
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = api.accept().await {
                tokio::spawn(for_api.clone().serve_api(stream));
            }
        });
        server
    }

    pub(crate) fn targets(&self) -> Vec<String> {
        self.change(|state| state.targets.clone())
    }

    pub(crate) fn sources(&self) -> Vec<IpAddr> {
        self.change(|state| state.sources.clone())
    }

    pub(crate) fn tokens(&self) -> Vec<String> {
        self.change(|state| state.tokens.clone())
    }

    pub(crate) fn pongs(&self) -> u64 {
        self.change(|state| state.pongs)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    fn act(&self, act: Act) {
        // Nobody may be connected.
        let _ = self.acts.send(act);
    }

    /// One connection of a back end.
    async fn serve_api(self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        loop {
            let Some(request) = read_request(&mut stream, &mut bytes).await else { return };
            let (status, answer) = match request.key.as_deref() {
                Some(API_KEY) => ("200 OK", self.call(&request).await),
                _ => ("401 Unauthorized", Value::Null),
            };
            let answer = answer.to_string();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", answer.len());
            if stream.write_all(format!("{head}{answer}").as_bytes()).await.is_err() {
                return;
            }
        }
    }

    async fn call(&self, request: &ApiRequest) -> Value {
        let _turn = self.turn.lock().await;
        match request.method.as_str() {
            "publish" => match self.publish(&request.body).await {
                Ok(result) => json!({"result": result}),
                Err(error) => json!({"error": error}),
            },
            "batch" => {
                let mut replies = Vec::new();
                for command in request.body["commands"].as_array().unwrap() {
                    replies.push(match self.publish(&command["publish"]).await {
                        Ok(result) => json!({"publish": result}),
                        Err(error) => json!({"error": error}),
                    });
                }
                json!({"replies": replies})
            }
            _ => json!({"result": {}}),
        }
    }

    async fn publish(&self, request: &Value) -> Result<Value, Value> {
        let channel = request["channel"].as_str().unwrap().to_owned();
        if self.fault == Fault::DenyAll {
            return Err(json!({"code": 100, "message": "internal server error"}));
        }
        // In the order of the protocol, in which the library does not keep it.
        let data = in_order(&request["data"]);
        let (number, offset) = self.change(|state| {
            state.published += 1;
            let offset = state.offsets.entry(channel.clone()).or_default();
            *offset += if self.fault == Fault::Skip(state.published) { 2 } else { 1 };
            if self.fault != Fault::Forget(state.published) {
                let publication = format!(r#"{{"data":{data},"offset":{offset}}}"#);
                state.history.entry(channel.clone()).or_default().push((*offset, publication));
            }
            (state.published, *offset)
        });
        let line = |data: &str| {
            let channel = Value::from(channel.as_str());
            format!(r#"{{"push":{{"channel":{channel},"pub":{{"data":{data},"offset":{offset}}}}}}}"#)
        };
        let say = Act::Say { channel: channel.clone(), offset, lines: [line(&data), line(&data)] };
        match self.fault {
            Fault::Lose(which) if which == number => {}
            Fault::LoseEvery(which) if number.is_multiple_of(which) => {}
            Fault::Swap(which) if which == number => self.change(|state| state.held = Some(say)),
            Fault::Close(which, code) if which == number => self.act(Act::Close(code)),
            Fault::Drop(which) if which == number => self.act(Act::Drop),
            Fault::Repeat(which) if which == number => {
                self.act(say.clone());
                self.act(say);
            }
            Fault::Stall(which, time) if which == number => {
                tokio::time::sleep(time).await;
                self.act(say);
            }
            Fault::Fork(which) if which == number => self.change(|state| state.held = Some(say)),
            Fault::Fork(which) if which + 1 == number => self.fork(say),
            _ => self.act(say),
        }
        if !matches!(self.fault, Fault::Swap(which) | Fault::Fork(which) if which == number)
            && let Some(held) = self.change(|state| state.held.take())
        {
            self.act(held);
        }
        if number == 1 {
            self.act(Act::Ping);
        }
        match self.fault {
            Fault::Deny(which) if which == number => {
                Err(json!({"code": 100, "message": "internal server error"}))
            }
            _ => Ok(json!({"offset": offset, "epoch": "e"})),
        }
    }

    /// Says what is held and then this, to every second connection with what they say in each other's place.
    fn fork(&self, next: Act) {
        let held = self.change(|state| state.held.take());
        let (
            Some(Act::Say { channel, offset: one, lines: [held, _] }),
            Act::Say { offset: two, lines: [next, _], .. },
        ) = (held, next)
        else {
            panic!("what is published is said")
        };
        let at = |line: &str, from: u64, to: u64| {
            line.replace(&format!(r#""offset":{from}"#), &format!(r#""offset":{to}"#))
        };
        let lines = [held.clone(), at(&next, two, one)];
        self.act(Act::Say { channel: channel.clone(), offset: one, lines });
        let lines = [next, at(&held, one, two)];
        self.act(Act::Say { channel, offset: two, lines });
    }

    async fn serve(self, stream: TcpStream) {
        #[expect(clippy::result_large_err, reason = "the library has it so")]
        let answer = |request: &Request, response: Response| {
            let number = self.change(|state| {
                state.targets.push(request.uri().to_string());
                state.upgrades += 1;
                state.upgrades
            });
            match self.fault {
                Fault::Full(most) if number > most as u64 => Err(refused(503, None)),
                Fault::Refuse(status) => Err(refused(status, None)),
                Fault::Busy(after, count, seconds) if (after + 1..=after + count).contains(&number) => {
                    Err(refused(503, seconds))
                }
                _ => Ok(response),
            }
        };
        // Subscribed before the handshake ends, so that a client that is there misses nothing.
        let mut acts = self.acts.subscribe();
        let config = WebSocketConfig::default().read_buffer_size(1_024).write_buffer_size(0);
        let accepting = tokio_tungstenite::accept_hdr_async_with_config(stream, answer, Some(config));
        let Ok(mut socket) = accepting.await else { return };
        let mut channels = BTreeMap::new();
        let (kind, upgrades) = self.change(|state| (state.upgrades % 2, state.upgrades));
        let is_deaf = matches!(self.fault, Fault::Deaf(after) if upgrades > after);
        loop {
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.answer(&mut socket, &mut channels, text.as_str()).await,
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                },
                act = acts.recv() => match act.expect("no test says so much at once") {
                    // What was in the history when the client subscribed it has already.
                    Act::Say { .. } if is_deaf => {}
                    Act::Say { channel, offset, lines } => match channels.get(&channel) {
                        Some(top) if *top < offset => send(&mut socket, lines[kind as usize].clone()).await,
                        _ => {}
                    },
                    Act::Notice { channel, line } if channels.contains_key(&channel) => send(&mut socket, line).await,
                    Act::Notice { .. } => {}
                    Act::Ping => send(&mut socket, "{}".to_owned()).await,
                    Act::Close(code) => {
                        let frame = CloseFrame { code: code.into(), reason: "told to".into() };
                        let _ = socket.close(Some(frame)).await;
                    }
                    Act::Drop => return,
                },
            }
        }
    }

    async fn answer(
        &self,
        socket: &mut WebSocketStream<TcpStream>,
        channels: &mut BTreeMap<String, u64>,
        text: &str,
    ) {
        let mut replies = Vec::new();
        for line in text.split('\n') {
            let command: Value = serde_json::from_str(line).unwrap();
            let id = &command["id"];
            if let Some(connect) = command.get("connect") {
                let token = connect["token"].as_str().unwrap_or_default().to_owned();
                self.change(|state| state.tokens.push(token));
                let connected = json!({"id": id, "connect": {"client": "c", "ping": 25, "pong": true}});
                replies.push(connected.to_string());
            } else if let Some(subscribe) = command.get("subscribe") {
                let channel = subscribe["channel"].as_str().unwrap().to_owned();
                let (top, reply) = self.subscribe(&channel, subscribe);
                replies.push(match self.fault {
                    Fault::Forbid(code) => {
                        json!({"id": id, "error": {"code": code, "message": "permission denied"}}).to_string()
                    }
                    _ => format!(r#"{{"id":{id},"subscribe":{reply}}}"#),
                });
                if subscribe["join_leave"] == true {
                    let push =
                        json!({"push": {"channel": channel, "join": {"info": {"client": "c", "user": ""}}}});
                    self.act(Act::Notice { channel: channel.clone(), line: push.to_string() });
                }
                channels.insert(channel, top);
            } else if let Some(unsubscribe) = command.get("unsubscribe") {
                channels.remove(unsubscribe["channel"].as_str().unwrap());
                replies.push(json!({"id": id, "unsubscribe": {}}).to_string());
            } else if let Some(publish) = command.get("publish") {
                let _turn = self.turn.lock().await;
                replies.push(match self.publish(publish).await {
                    Ok(_) => json!({"id": id, "publish": {}}).to_string(),
                    Err(error) => json!({"id": id, "error": error}).to_string(),
                });
            } else if command == json!({}) {
                self.change(|state| state.pongs += 1);
            }
        }
        if !replies.is_empty() {
            send(socket, replies.join("\n")).await;
        }
    }

    /// The top of the history, and the answer to a subscription.
    fn subscribe(&self, channel: &str, subscribe: &Value) -> (u64, String) {
        self.change(|state| {
            let top = state.offsets.get(channel).copied().unwrap_or(0);
            let answer = match subscribe["offset"].as_u64().filter(|_| subscribe["recover"] == true) {
                _ if self.fault == Fault::Unpositioned => "{}".to_owned(),
                Some(_) if self.fault == Fault::Unrecoverable => {
                    format!(r#"{{"epoch":"e","offset":{top},"recovered":false}}"#)
                }
                Some(since) => {
                    let history = state.history.get(channel).map(Vec::as_slice).unwrap_or_default();
                    let missed = history.iter().filter(|(offset, _)| *offset > since);
                    let missed: Vec<&str> = missed.map(|(_, publication)| publication.as_str()).collect();
                    let missed = missed.join(",");
                    format!(r#"{{"epoch":"e","offset":{since},"recovered":true,"publications":[{missed}]}}"#)
                }
                None => format!(r#"{{"epoch":"e","offset":{top}}}"#),
            };
            (top, answer)
        })
    }
}

/// The data of a publication as it was sent: the library sorts the fields of what it has read.
fn in_order(data: &Value) -> String {
    let field = |name: &str| data[name].as_str().unwrap();
    format!(
        r#"{{"run":"{}","seq":"{}","at":"{}","pad":"{}"}}"#,
        field("run"),
        field("seq"),
        field("at"),
        field("pad")
    )
}

fn refused(status: u16, retry_after: Option<u64>) -> ErrorResponse {
    let mut response = Response::builder().status(status);
    if let Some(seconds) = retry_after {
        response = response.header("Retry-After", seconds);
    }
    response.body(None).unwrap()
}

/// Whether the client is still there makes no difference.
async fn send(socket: &mut WebSocketStream<TcpStream>, text: String) {
    let _ = socket.send(Message::text(text)).await;
}

#[derive(Debug)]
struct ApiRequest {
    method: String,
    key: Option<String>,
    body: Value,
}

/// The next request; `bytes` is what has come of later ones.
async fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<ApiRequest> {
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        if let Some(end) = end {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let header = |name: &str| {
                let mut headers = head.lines().filter_map(|line| line.split_once(": "));
                headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
            };
            let length: usize = header("content-length").unwrap().parse().unwrap();
            if bytes.len() >= end + length {
                let body = serde_json::from_slice(&bytes[end..end + length]).unwrap();
                let method = head.split_whitespace().nth(1).unwrap().rsplit('/').next().unwrap().to_owned();
                let key = header("x-api-key");
                bytes.drain(..end + length);
                return Some(ApiRequest { method, key, body });
            }
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}
