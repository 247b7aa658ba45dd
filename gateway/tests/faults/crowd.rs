//! Many clients at once, each little more than a socket: they note what they are told, and come again when they are
//! told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::fleet::Fleet;
use crate::token;

/// An answer takes no longer, a turn that is waited for included.
const ANSWER: Duration = Duration::from_secs(8);
/// Whoever was not answered tries again after this, and up to as much more.
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// What became of somebody who wants in.
#[derive(Debug)]
pub(crate) enum Told {
    Welcome(Box<Socket>),
    /// A status, and when to come again in seconds.
    Later(u16, Option<u64>),
    /// Nothing: the connection was reset, or nobody answered.
    Nothing,
}

/// Asks for a WebSocket.
pub(crate) async fn knock(address: SocketAddr) -> Told {
    let opening = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let config = WebSocketConfig::default().read_buffer_size(4 << 10);
        client_async_with_config("ws://test/connection/websocket", stream, Some(config)).await
    };
    match tokio::time::timeout(ANSWER, opening).await {
        Ok(Ok((socket, _))) => Told::Welcome(Box::new(socket)),
        Ok(Err(Error::Http(response))) => {
            let advice =
                response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            Told::Later(response.status().as_u16(), advice)
        }
        Ok(Err(_)) | Err(_) => Told::Nothing,
    }
}

/// All of them at the same time.
pub(crate) async fn knock_together(address: SocketAddr, count: usize) -> Vec<Told> {
    let mut knocking: JoinSet<Told> = (0..count).map(|_| knock(address)).collect();
    let mut told = Vec::with_capacity(count);
    while let Some(one) = knocking.join_next().await {
        told.push(one.unwrap_or(Told::Nothing));
    }
    told
}

/// A crowd needs a file for each client.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Without it the crowd is told nothing, and the fault says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// What guests were told since they were last asked.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How many are subscribed now.
    pub(crate) live: usize,
    /// When each was subscribed.
    pub(crate) subscribed_at: Vec<Instant>,
    /// Those among them that had a position and got everything since.
    pub(crate) recovered: usize,
    /// What they were advised, in seconds.
    pub(crate) advice: Vec<u64>,
    /// Refused without a word on when to come again.
    pub(crate) unadvised: usize,
    /// Not answered, or reset.
    pub(crate) unanswered: usize,
}

/// Clients of one channel each. They live until this is dropped.
#[derive(Debug)]
pub(crate) struct Guests {
    pub(crate) tally: Arc<Mutex<Tally>>,
    _tasks: JoinSet<()>,
}

impl Guests {
    /// So many, spread over `channels`, to the nodes of `fleet` that are open.
    pub(crate) fn invite(fleet: &Arc<Fleet>, count: usize, channels: &[Arc<str>]) -> Self {
        let tally: Arc<Mutex<Tally>> = Arc::default();
        let mut tasks = JoinSet::new();
        for index in 0..count {
            let guest = Guest {
                fleet: Arc::clone(fleet),
                tally: Arc::clone(&tally),
                user: format!("guest-{index}"),
                channel: Arc::clone(&channels[index % channels.len()]),
                position: None,
            };
            tasks.spawn(guest.run());
        }
        Self { tally, _tasks: tasks }
    }

    /// Forgets what was told so far; who is live stays so.
    pub(crate) fn forget(&self) {
        let mut tally = self.tally.lock();
        *tally = Tally { live: tally.live, ..Tally::default() };
    }
}

struct Guest {
    fleet: Arc<Fleet>,
    tally: Arc<Mutex<Tally>>,
    user: String,
    channel: Arc<str>,
    /// Epoch and offset of what it has seen last.
    position: Option<(String, u64)>,
}

impl Guest {
    async fn run(mut self) {
        loop {
            match knock(self.fleet.any().1).await {
                Told::Welcome(mut socket) => {
                    if self.subscribe(&mut socket).await.is_some() {
                        self.stay(&mut socket).await;
                        self.tally.lock().live -= 1;
                    }
                }
                Told::Later(_, Some(seconds)) => {
                    self.tally.lock().advice.push(seconds);
                    sleep(Duration::from_secs(seconds)).await;
                }
                Told::Later(_, None) => self.is_left_alone(|tally| &mut tally.unadvised).await,
                Told::Nothing => self.is_left_alone(|tally| &mut tally.unanswered).await,
            }
        }
    }

    async fn is_left_alone(&self, count: fn(&mut Tally) -> &mut usize) {
        *count(&mut self.tally.lock()) += 1;
        sleep(AGAIN.mul_f64(rand::random_range(1.0..2.0))).await;
    }

    /// Connects and subscribes, from where it was.
    async fn subscribe(&mut self, socket: &mut Socket) -> Option<()> {
        let mut request = json!({"channel": &*self.channel});
        if let Some((epoch, offset)) = &self.position {
            request["recover"] = json!(true);
            request["epoch"] = json!(epoch);
            request["offset"] = json!(offset);
        }
        let connect = json!({"id": 1, "connect": {"token": token::sign(&self.user)}});
        let commands = format!("{connect}\n{}", json!({"id": 2, "subscribe": request}));
        socket.send(Message::text(commands)).await.ok()?;
        loop {
            let text = tokio::time::timeout(ANSWER, next(socket)).await.ok()??;
            let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let Some(reply) = lines.find(|line| line["id"] == 2) else { continue };
            let reply = reply.get("subscribe")?;
            self.position =
                Some((reply["epoch"].as_str()?.to_owned(), reply["offset"].as_u64().unwrap_or(0)));
            let mut tally = self.tally.lock();
            tally.live += 1;
            tally.recovered += usize::from(reply["recovered"] == true);
            tally.subscribed_at.push(Instant::now());
            return Some(());
        }
    }

    /// Notes where the channel is until the connection ends.
    async fn stay(&mut self, socket: &mut Socket) {
        while let Some(text) = next(socket).await {
            for line in text.lines() {
                if line == "{}" {
                    // The end of the connection is seen by whoever reads it.
                    drop(socket.send(Message::text("{}")).await);
                } else if let Some(offset) = offset_in(line)
                    && let Some((_, last)) = &mut self.position
                {
                    *last = offset;
                }
            }
        }
    }
}

/// The next text; `None` when the connection has ended.
async fn next(socket: &mut Socket) -> Option<String> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return Some(text.as_str().to_owned()),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

fn offset_in(line: &str) -> Option<u64> {
    let push: Value = serde_json::from_str(line).ok()?;
    push["push"]["pub"]["offset"].as_u64()
}
