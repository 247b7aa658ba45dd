//! A TCP proxy in front of Redis that can be slow, stall, cut off, or lose one reply.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

/// What it does with the bytes that come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weather {
    /// How much later each byte arrives, in either direction.
    pub(crate) latency: Duration,
    /// Most bytes per second and direction; `None` = as fast as it goes.
    pub(crate) rate: Option<u32>,
    /// Nothing moves on connections made up to this one, counted from 1; new ones pass. `u64::MAX`: none moves.
    pub(crate) frozen_up_to: u64,
    /// Connections end as soon as they are made.
    pub(crate) refuses: bool,
    /// Rises with each time that all connections have to end.
    resets: u64,
    /// A command that holds this word passes, and then its connection ends before the reply. Once.
    cut_after: Option<String>,
}

/// Most bytes that are under way on a connection in one direction, in pieces of [`PIECE_BYTES`].
const PIECES_MAX: usize = 256;
const PIECE_BYTES: usize = 16 << 10;

/// What Redis gets to execute a command whose reply is cut.
const TO_EXECUTE: Duration = Duration::from_millis(50);

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    accepted: Arc<AtomicU64>,
    accepting: AbortHandle,
}

impl Proxy {
    /// Listens on a free port of loopback, for whoever wants to reach `target`.
    pub(crate) async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let weather = watch::Sender::new(Weather::default());
        let accepted = Arc::default();
        let accepting = tokio::spawn(accept(listener, target, weather.clone(), Arc::clone(&accepted)));
        Ok(Self { address, weather, accepted, accepting: accepting.abort_handle() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far, refused ones included.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Changes the weather, for bytes that come from now on.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.weather.send_modify(change);
    }

    /// Everything passes at once.
    pub(crate) fn clear(&self) {
        self.change(|weather| *weather = Weather { resets: weather.resets, ..Weather::default() });
    }

    /// Established connections stall; new ones pass.
    pub(crate) fn freeze_established(&self) {
        let accepted = self.accepted();
        self.change(|weather| weather.frozen_up_to = accepted);
    }

    /// All connections stall, new ones too.
    pub(crate) fn freeze(&self) {
        self.change(|weather| weather.frozen_up_to = u64::MAX);
    }

    /// Established connections end.
    pub(crate) fn reset(&self) {
        self.change(|weather| weather.resets += 1);
    }

    /// The next command that holds `word` gets no reply: its connection ends when it has passed.
    pub(crate) fn cut_reply_of(&self, word: &str) {
        self.change(|weather| weather.cut_after = Some(word.to_owned()));
    }

    /// Whether [`cut_reply_of`](Self::cut_reply_of) has had its effect.
    pub(crate) fn has_cut(&self) -> bool {
        self.weather.borrow().cut_after.is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    weather: watch::Sender<Weather>,
    accepted: Arc<AtomicU64>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let number = 1 + accepted.fetch_add(1, Ordering::Relaxed);
        while connections.try_join_next().is_some() {}
        if !weather.borrow().refuses {
            connections.spawn(carry(client, target, weather.clone(), number));
        }
    }
}

/// One connection, from its start to its end.
async fn carry(client: TcpStream, target: SocketAddr, weather: watch::Sender<Weather>, number: u64) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let is_cut = AtomicBool::new(false);
    let there = Direction { weather: &weather, number, carries_commands: true, is_cut: &is_cut };
    let back = Direction { weather: &weather, number, carries_commands: false, is_cut: &is_cut };
    let mut current = weather.subscribe();
    let resets = current.borrow().resets;
    tokio::select! {
        () = there.run(from_client, to_server) => {}
        () = back.run(from_server, to_client) => {}
        _ = current.wait_for(|weather| weather.resets != resets) => {}
    }
}

/// Bytes with the moment at which they may arrive.
type Piece = (Instant, Vec<u8>);

/// One direction of one connection.
struct Direction<'a> {
    weather: &'a watch::Sender<Weather>,
    number: u64,
    carries_commands: bool,
    /// Nothing passes any more: a command is being executed whose reply must not come through.
    is_cut: &'a AtomicBool,
}

impl Direction<'_> {
    /// Ends when either side does and all of it has arrived, or when a reply is to be cut.
    async fn run(&self, from: OwnedReadHalf, to: OwnedWriteHalf) {
        let (under_way, arriving) = mpsc::channel(PIECES_MAX);
        tokio::select! {
            () = self.give(arriving, to) => {}
            () = async { self.take(from, under_way).await; pending().await } => {}
        }
    }

    async fn take(&self, mut from: OwnedReadHalf, under_way: mpsc::Sender<Piece>) {
        loop {
            let mut bytes = Vec::with_capacity(PIECE_BYTES);
            if !matches!(from.read_buf(&mut bytes).await, Ok(1..)) {
                return;
            }
            let due = Instant::now() + self.weather.borrow().latency;
            if under_way.send((due, bytes)).await.is_err() {
                return;
            }
        }
    }

    async fn give(&self, mut arriving: mpsc::Receiver<Piece>, mut to: OwnedWriteHalf) {
        while let Some((due, bytes)) = arriving.recv().await {
            sleep_until(due).await;
            self.thawed().await;
            if self.is_cut.load(Ordering::Relaxed) {
                continue;
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
            if self.cuts_after(&bytes) {
                self.is_cut.store(true, Ordering::Relaxed);
                return sleep(TO_EXECUTE).await;
            }
            let rate = self.weather.borrow().rate;
            if let Some(rate) = rate {
                sleep(Duration::from_secs_f64(bytes.len() as f64 / f64::from(rate))).await;
            }
        }
    }

    async fn thawed(&self) {
        let mut weather = self.weather.subscribe();
        // The sender is ours: it cannot be gone.
        drop(weather.wait_for(|weather| self.number > weather.frozen_up_to).await);
    }

    /// Whether the command whose reply is to be cut is in `bytes`. From now on it is not looked for any more.
    fn cuts_after(&self, bytes: &[u8]) -> bool {
        self.carries_commands
            && self.weather.send_if_modified(|weather| {
                let cuts = weather.cut_after.as_deref().is_some_and(|word| contains(bytes, word));
                if cuts {
                    weather.cut_after = None;
                }
                cuts
            })
    }
}

/// Whether `word` is in `bytes`, in upper or lower case.
fn contains(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    crate::own::tests!(; bytes_pass_are_late_and_stall, a_rate_is_kept, connections_end_when_told, the_reply_of_one_command_is_cut_after_it_passed);

    /// A server that answers each line with itself, and a proxy in front of it.
    async fn echo() -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    drop(tokio::io::copy(&mut from, &mut to).await);
                });
            }
        });
        Proxy::start(address).await.unwrap()
    }

    async fn exchange(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
        stream.write_all(text.as_bytes()).await?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    async fn stalls(stream: &mut TcpStream) -> bool {
        tokio::time::timeout(Duration::from_millis(200), exchange(stream, "held")).await.is_err()
    }

    async fn bytes_pass_are_late_and_stall() {
        let proxy = echo().await;
        let mut old = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(exchange(&mut old, "hello").await.unwrap(), "hello");
        proxy.change(|weather| weather.latency = Duration::from_millis(100));
        let start = Instant::now();
        assert_eq!(exchange(&mut old, "late").await.unwrap(), "late");
        assert!(start.elapsed() >= Duration::from_millis(200), "once in each direction");
        proxy.clear();
        proxy.freeze_established();
        assert!(stalls(&mut old).await);
        let mut new = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(exchange(&mut new, "new").await.unwrap(), "new");
        proxy.freeze();
        assert!(stalls(&mut new).await);
        proxy.clear();
        let mut held = [0; 4];
        new.read_exact(&mut held).await.unwrap();
        assert_eq!(&held, b"held", "nothing is lost");
    }

    async fn a_rate_is_kept() {
        let proxy = echo().await;
        proxy.change(|weather| weather.rate = Some(100_000));
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        let start = Instant::now();
        let text = "x".repeat(5_000);
        for _ in 0..4 {
            exchange(&mut stream, &text).await.unwrap();
        }
        assert!(start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());
    }

    async fn connections_end_when_told() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        exchange(&mut stream, "hello").await.unwrap();
        proxy.reset();
        assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)));
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        exchange(&mut stream, "again").await.unwrap();
        proxy.change(|weather| weather.refuses = true);
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(exchange(&mut refused, "no").await.is_err());
        assert_eq!(exchange(&mut stream, "still").await.unwrap(), "still");
        assert_eq!(proxy.accepted(), 3);
    }

    async fn the_reply_of_one_command_is_cut_after_it_passed() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        proxy.cut_reply_of("EVALSHA");
        client.write_all(b"get x").await.unwrap();
        server.read_exact(&mut [0; 5]).await.unwrap();
        assert!(!proxy.has_cut());
        client.write_all(b"evalsha x").await.unwrap();
        server.read_exact(&mut [0; 9]).await.unwrap();
        assert!(matches!(client.read(&mut [0]).await, Ok(0) | Err(_)));
        assert!(proxy.has_cut());
    }
}
