//! The reference: what the kernel asks for N sends, and nothing else.
//!
//! It accepts its sockets with the options that the gateway gives to its own (`TCP_NODELAY`, a bounded `SO_SNDBUF`,
//! non-blocking), shares them among as many threads as the gateway has shards, and writes each frame it is handed
//! to all of them in one loop of `send(2)`. It knows nothing about frames.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use rustix::net::{SendFlags, send, sockopt};

use super::helper::{Helper, say};
use super::options::BareLoopArguments;
use super::process::CpuMeter;

/// The gateway's default of `client.send_buffer_bytes`.
const SEND_BUFFER_BYTES: usize = 65_536;
const ACCEPTED: &str = "accepted";
const SENT: &str = "sent";

/// The reference, as the bench drives it.
#[derive(Debug)]
pub(crate) struct BareLoop {
    helper: Helper,
    address: SocketAddr,
}

impl BareLoop {
    /// Starts a loop for `connections` sockets; it accepts them at [`address`](Self::address).
    pub(crate) fn start(connections: u32) -> Result<Self> {
        let threads = thread::available_parallelism()?;
        let mut helper = Helper::start(&[
            "bare-loop".to_owned(),
            format!("--connections={connections}"),
            format!("--threads={threads}"),
        ])?;
        let address = helper.answer()?.parse().context("the bare loop did not say where it listens")?;
        Ok(Self { helper, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn cpu(&self) -> CpuMeter {
        CpuMeter::new(self.helper.pid())
    }

    /// Waits until all sockets are accepted.
    pub(crate) fn accepted(&mut self) -> Result<()> {
        self.expect(ACCEPTED)
    }

    /// Sends `frame` to every socket.
    ///
    /// # Errors
    /// A socket did not take it as a whole.
    pub(crate) fn send(&mut self, frame: &[u8]) -> Result<()> {
        let mut order = u32::try_from(frame.len())?.to_be_bytes().to_vec();
        order.extend(frame);
        self.helper.order(&order)?;
        self.expect(SENT)
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        let answer = self.helper.answer()?;
        ensure!(answer == word, "the bare loop answered {answer:?} instead of {word:?}");
        Ok(())
    }
}

/// The process itself. Orders are frames after their length, a big-endian `u32`.
pub(crate) fn run(arguments: &BareLoopArguments) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    say(&listener.local_addr()?.to_string())?;
    let sockets = accept(&listener, arguments.connections)?;
    say(ACCEPTED)?;

    let (done_tx, done) = sync_channel(1);
    let workers =
        spread(sockets, arguments.threads).into_iter().map(|share| start_worker(share, done_tx.clone()));
    let workers: Vec<SyncSender<Arc<[u8]>>> = workers.collect();
    while let Some(frame) = read_order()? {
        for worker in &workers {
            worker.send(frame.clone())?;
        }
        for _ in &workers {
            done.recv()??;
        }
        say(SENT)?;
    }
    Ok(())
}

fn accept(listener: &TcpListener, connections: u32) -> Result<Vec<TcpStream>> {
    let mut sockets = Vec::new();
    for _ in 0..connections {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER_BYTES)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Deals `sockets` to `threads` in turn.
fn spread(sockets: Vec<TcpStream>, threads: u32) -> Vec<Vec<TcpStream>> {
    let mut shares: Vec<Vec<TcpStream>> = (0..threads).map(|_| Vec::new()).collect();
    let count = shares.len();
    for (index, socket) in sockets.into_iter().enumerate() {
        shares[index % count].push(socket);
    }
    shares
}

fn start_worker(sockets: Vec<TcpStream>, done: SyncSender<Result<()>>) -> SyncSender<Arc<[u8]>> {
    let (frames, orders): (_, Receiver<Arc<[u8]>>) = sync_channel(1);
    thread::spawn(move || {
        for frame in orders {
            if done.send(send_all(&sockets, &frame)).is_err() {
                return;
            }
        }
    });
    frames
}

fn send_all(sockets: &[TcpStream], frame: &[u8]) -> Result<()> {
    for socket in sockets {
        let sent = send(socket, frame, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
        ensure!(sent == frame.len(), "a socket took {sent} bytes of {}", frame.len());
    }
    Ok(())
}

/// The next frame to send; `None` when the bench has ended.
fn read_order() -> Result<Option<Arc<[u8]>>> {
    let mut input = std::io::stdin().lock();
    let mut length = [0; 4];
    if input.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    input.read_exact(&mut length[1..])?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    input.read_exact(&mut frame)?;
    Ok(Some(frame.into()))
}
