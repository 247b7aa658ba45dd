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
    /// Upgrades are answered with this status.
    Refuse(u16),
    /// Upgrades are refused once there were so many.
    Full(usize),
    /// Subscriptions are answered with this error.
    Forbid(u32),
}

#[derive(Clone, Debug)]
enum Act {
    Say { channel: String, line: String },
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
        let (number, offset) = self.change(|state| {
            state.published += 1;
            let offset = state.offsets.entry(channel.clone()).or_default();
            *offset += if self.fault == Fault::Skip(state.published) { 2 } else { 1 };
            (state.published, *offset)
        });
        // In the order of the protocol, in which the library does not keep it.
        let data = &request["data"];
        let line = format!(
            r#"{{"push":{{"channel":{},"pub":{{"data":{},"offset":{offset}}}}}}}"#,
            Value::from(channel.as_str()),
            in_order(data)
        );
        let say = Act::Say { channel, line };
        match self.fault {
            Fault::Lose(which) if which == number => {}
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
            _ => self.act(say),
        }
        if self.fault != Fault::Swap(number)
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

    async fn serve(self, stream: TcpStream) {
        #[expect(clippy::result_large_err, reason = "the library has it so")]
        let answer = |request: &Request, response: Response| {
            let targets = self.change(|state| {
                state.targets.push(request.uri().to_string());
                state.targets.len()
            });
            match self.fault {
                Fault::Full(most) if targets > most => Err(refused(503)),
                Fault::Refuse(status) => Err(refused(status)),
                _ => Ok(response),
            }
        };
        // Subscribed before the handshake ends, so that a client that is there misses nothing.
        let mut acts = self.acts.subscribe();
        let config = WebSocketConfig::default().read_buffer_size(1_024).write_buffer_size(0);
        let accepting = tokio_tungstenite::accept_hdr_async_with_config(stream, answer, Some(config));
        let Ok(mut socket) = accepting.await else { return };
        let mut channels = Vec::new();
        loop {
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.answer(&mut socket, &mut channels, text.as_str()).await,
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                },
                act = acts.recv() => match act.expect("no test says so much at once") {
                    Act::Say { channel, line } if channels.contains(&channel) => send(&mut socket, line).await,
                    Act::Say { .. } => {}
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

    async fn answer(&self, socket: &mut WebSocketStream<TcpStream>, channels: &mut Vec<String>, text: &str) {
        let mut replies = Vec::new();
        for line in text.split('\n') {
            let command: Value = serde_json::from_str(line).unwrap();
            let id = &command["id"];
            if let Some(connect) = command.get("connect") {
                let token = connect["token"].as_str().unwrap_or_default().to_owned();
                self.change(|state| state.tokens.push(token));
                replies.push(json!({"id": id, "connect": {"client": "c", "ping": 25, "pong": true}}));
            } else if let Some(subscribe) = command.get("subscribe") {
                let channel = subscribe["channel"].as_str().unwrap();
                replies.push(match self.fault {
                    Fault::Forbid(code) => {
                        json!({"id": id, "error": {"code": code, "message": "permission denied"}})
                    }
                    _ => json!({"id": id, "subscribe": {"epoch": "e", "offset": self.offset(channel)}}),
                });
                channels.push(channel.to_owned());
            } else if let Some(unsubscribe) = command.get("unsubscribe") {
                channels.retain(|channel| *channel != unsubscribe["channel"]);
                replies.push(json!({"id": id, "unsubscribe": {}}));
            } else if command == json!({}) {
                self.change(|state| state.pongs += 1);
            }
        }
        if !replies.is_empty() {
            let lines: Vec<String> = replies.iter().map(ToString::to_string).collect();
            send(socket, lines.join("\n")).await;
        }
    }

    fn offset(&self, channel: &str) -> u64 {
        self.change(|state| state.offsets.get(channel).copied().unwrap_or(0))
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

fn refused(status: u16) -> ErrorResponse {
    Response::builder().status(status).body(None).unwrap()
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
