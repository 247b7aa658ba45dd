//! The process that holds the clients' sockets: one thread, one task per client, one read buffer for all.
//!
//! Every client checks that publications come in order and without a gap, so their sum tells whether all have all.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use jsonwebtoken::{EncodingKey, Header};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::timeout;

use super::clients::{Answer, Order, Status};
use super::frame::{self, Line};
use super::helper::say;
use super::options::SwarmArguments;

/// Handshakes under way at a time: below the listener's backlog, above what two cores need to be busy.
const HANDSHAKES_MAX: u32 = 32;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long all clients together may take to get a publication before it counts as lost.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
const RESPONSE_BYTES_MAX: usize = 8 * 1024;
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// How long this process stays away before it waits for sockets. Who sends on loopback pays for waking the receiver,
/// between once per publication and once per delivery, as it happens to come; clients elsewhere cost a server
/// nothing of the kind. A receiver that does not wait when the bytes come is not woken by them.
const NAP: Duration = Duration::from_millis(1);

/// The process itself: connects, then obeys [`Order`]s until its input ends.
pub(crate) fn run(arguments: &SwarmArguments) -> Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .on_thread_park(|| thread::sleep(NAP))
        .build_local(LocalOptions::default())?;
    let outcome = runtime.block_on(obey(arguments));
    if let Err(error) = outcome {
        // Sent as an answer, so that the bench reports it once and in context.
        answer(&Answer::Failed(format!("{error:#}")))?;
    }
    Ok(())
}

async fn obey(arguments: &SwarmArguments) -> Result<()> {
    let mut orders = read_orders();
    let mut key = None;
    if !arguments.bare {
        let Some(Order::Secret(secret)) = orders.recv().await else { bail!("the first order is no secret") };
        key = Some(EncodingKey::from_secret(secret.as_bytes()));
    }
    let swarm = Rc::new(Swarm::new(arguments));
    swarm.connect_all(key.map(Rc::new)).await?;
    answer(&Answer::Connected)?;
    while let Some(order) = orders.recv().await {
        match order {
            Order::Await(sequence) => {
                swarm.received(sequence).await?;
                answer(&Answer::Received)?;
            }
            Order::Status => answer(&Answer::Status(swarm.status()?))?,
            Order::Secret(_) => bail!("a second secret"),
        }
    }
    Ok(())
}

/// Orders from standard input, which only a thread of its own can wait for.
fn read_orders() -> mpsc::Receiver<Order> {
    let (tx, rx) = mpsc::channel(1);
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else { return };
            if tx.blocking_send(order).is_err() {
                return;
            }
        }
    });
    rx
}

fn answer(answer: &Answer) -> Result<()> {
    say(&serde_json::to_string(answer)?)
}

/// What all clients share.
#[derive(Debug)]
struct Swarm {
    address: SocketAddr,
    connections: u32,
    started: Cell<u32>,
    /// Publications received, by all clients together.
    deliveries: Cell<u64>,
    /// The number of deliveries somebody waits for.
    awaited: Cell<u64>,
    pings: Cell<u64>,
    sample: RefCell<Vec<u8>>,
    failure: RefCell<Option<String>>,
    /// `awaited` is reached, or there is a `failure`.
    changed: Notify,
    buffer: RefCell<Box<[u8]>>,
}

impl Swarm {
    fn new(arguments: &SwarmArguments) -> Self {
        Self {
            address: arguments.address,
            connections: arguments.connections,
            started: Cell::new(0),
            deliveries: Cell::new(0),
            awaited: Cell::new(u64::MAX),
            pings: Cell::new(0),
            sample: RefCell::default(),
            failure: RefCell::default(),
            changed: Notify::new(),
            buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into()),
        }
    }

    /// Connects every client; each is subscribed if there is a `key` to sign its token with.
    async fn connect_all(self: &Rc<Self>, key: Option<Rc<EncodingKey>>) -> Result<()> {
        let mut handshakes = JoinSet::new();
        for _ in 0..HANDSHAKES_MAX {
            handshakes.spawn_local(Rc::clone(self).connect_some(key.clone()));
        }
        while let Some(outcome) = handshakes.join_next().await {
            outcome??;
        }
        Ok(())
    }

    /// Connects one client after another until all are started.
    async fn connect_some(self: Rc<Self>, key: Option<Rc<EncodingKey>>) -> Result<()> {
        while self.started.get() < self.connections {
            let index = self.started.replace(self.started.get() + 1);
            let token = key.as_ref().map(|key| sign(key, index)).transpose()?;
            let client = timeout(HANDSHAKE_TIMEOUT, Client::connect(&self, token));
            let client =
                client.await.with_context(|| format!("the handshake of client {index} takes too long"))?;
            let client = client.with_context(|| format!("connecting client {index}"))?;
            spawn_local(client.listen(Rc::clone(&self)));
        }
        Ok(())
    }

    /// Waits until every client has every publication up to `sequence`.
    async fn received(&self, sequence: u64) -> Result<()> {
        let awaited = sequence * u64::from(self.connections);
        self.awaited.set(awaited);
        let reached = async {
            while self.deliveries.get() < awaited && self.failure.borrow().is_none() {
                self.changed.notified().await;
            }
        };
        let outcome = timeout(DELIVERY_TIMEOUT, reached).await;
        self.check()?;
        let missing = awaited.saturating_sub(self.deliveries.get());
        outcome.with_context(|| format!("{missing} deliveries up to publication {sequence} are lost"))
    }

    fn status(&self) -> Result<Status> {
        self.check()?;
        Ok(Status { pings: self.pings.get(), sample: self.sample.borrow().clone() })
    }

    fn check(&self) -> Result<()> {
        match &*self.failure.borrow() {
            Some(failure) => bail!("{failure}"),
            None => Ok(()),
        }
    }

    fn delivered(&self) {
        self.deliveries.set(self.deliveries.get() + 1);
        if self.deliveries.get() == self.awaited.get() {
            self.changed.notify_one();
        }
    }

    fn fail(&self, error: &anyhow::Error) {
        self.failure.borrow_mut().get_or_insert_with(|| format!("{error:#}"));
        self.changed.notify_one();
    }
}

/// One client's socket and what it has got.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    /// The start of a frame whose rest has not arrived; mostly empty.
    partial: Vec<u8>,
    replies: u32,
    /// The number of the last publication.
    last: u64,
}

impl Client {
    /// Connects, and subscribes if there is a `token`.
    async fn connect(swarm: &Swarm, token: Option<String>) -> Result<Self> {
        let stream = TcpStream::connect(swarm.address).await?;
        stream.set_nodelay(true)?;
        // No TIME_WAIT: tens of thousands of them would be left to the next run.
        stream.set_zero_linger()?;
        let mut client = Self { stream, partial: Vec::new(), replies: 0, last: 0 };
        if let Some(token) = token {
            client.upgrade(swarm.address).await?;
            client.stream.write_all(&frame::connect_and_subscribe(&token)).await?;
            // The replies may already be there, behind the answer to the upgrade.
            client.take(swarm, &[])?;
            while client.replies < 2 {
                client.read(swarm).await?;
            }
        }
        Ok(client)
    }

    async fn upgrade(&mut self, address: SocketAddr) -> Result<()> {
        let request = format!(
            "GET /connection/websocket HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes()).await?;
        let mut response = Vec::with_capacity(512);
        let end = loop {
            ensure!(response.len() < RESPONSE_BYTES_MAX, "the response to the upgrade does not end");
            ensure!(self.stream.read_buf(&mut response).await? > 0, "closed during the upgrade");
            if let Some(at) = response.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let status = String::from_utf8_lossy(&response[..end]);
        let status = status.lines().next().unwrap_or_default();
        ensure!(status.starts_with("HTTP/1.1 101 "), "the upgrade was answered with {status:?}");
        self.partial = response.split_off(end);
        Ok(())
    }

    /// Reads until the connection or a check fails, which fails the whole swarm.
    async fn listen(mut self, swarm: Rc<Swarm>) {
        loop {
            if let Err(error) = self.read(&swarm).await {
                swarm.fail(&error.context(format!("a client, after publication {}", self.last)));
                return;
            }
        }
    }

    /// Takes in what the next read brings. The buffer is borrowed within one poll only, so one serves all.
    async fn read(&mut self, swarm: &Swarm) -> Result<()> {
        poll_fn(|context| {
            let mut buffer = swarm.buffer.borrow_mut();
            let mut buffer = ReadBuf::new(&mut buffer);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(anyhow::anyhow!("closed by the server")));
            }
            Poll::Ready(self.take(swarm, buffer.filled()))
        })
        .await
    }

    /// Checks the frames that `bytes` complete and keeps the rest.
    fn take(&mut self, swarm: &Swarm, bytes: &[u8]) -> Result<()> {
        if self.partial.is_empty() {
            let taken = self.check_frames(swarm, bytes)?;
            self.partial.extend_from_slice(&bytes[taken..]);
            return Ok(());
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.extend_from_slice(bytes);
        let taken = self.check_frames(swarm, &whole)?;
        self.partial = whole.split_off(taken);
        Ok(())
    }

    fn check_frames(&mut self, swarm: &Swarm, bytes: &[u8]) -> Result<usize> {
        let mut lines = 0;
        let before = self.last;
        let taken = frame::read_frames(bytes, |line| {
            lines += 1;
            self.check_line(swarm, line)
        })?;
        if lines == 1 && self.last != before && swarm.sample.borrow().is_empty() {
            swarm.sample.replace(bytes[..taken].to_vec());
        }
        Ok(taken)
    }

    fn check_line(&mut self, swarm: &Swarm, line: Line) -> Result<()> {
        match line {
            Line::Publication(sequence) => {
                let due = self.last + 1;
                ensure!(sequence == due, "publication {sequence} came where {due} was due");
                self.last = sequence;
                swarm.delivered();
            }
            Line::Ping => {
                let pong = frame::pong();
                ensure!(self.stream.try_write(&pong)? == pong.len(), "the socket takes no pong");
                swarm.pings.set(swarm.pings.get() + 1);
            }
            Line::Reply(id) => {
                ensure!(matches!(id, 1 | 2), "a reply to command {id}, which was not sent");
                self.replies += 1;
            }
        }
        Ok(())
    }
}

/// The token of client `index`: each is a user of its own.
fn sign(key: &EncodingKey, index: u32) -> Result<String> {
    let expires = SystemTime::now().duration_since(UNIX_EPOCH)? + TOKEN_LIFETIME;
    let claims = serde_json::json!({"sub": format!("bench-{index}"), "exp": expires.as_secs()});
    Ok(jsonwebtoken::encode(&Header::default(), &claims, key)?)
}
