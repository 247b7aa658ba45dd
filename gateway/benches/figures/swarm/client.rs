//! One client: its socket, and whether what comes is what must come.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use anyhow::{Result, ensure};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

use super::Swarm;
use crate::frame::{self, Line, Reply};

const RESPONSE_BYTES_MAX: usize = 8 * 1024;

/// One client's socket and what it has got.
#[derive(Debug)]
pub(super) struct Client {
    link: Link,
    /// The start of a frame whose rest has not arrived; mostly empty.
    partial: Vec<u8>,
    replies: u32,
    /// The number of the last publication.
    last: u64,
}

/// Its socket, for whoever else writes to it. Closed once client and links are dropped.
#[derive(Clone, Debug)]
pub(super) struct Link(Rc<RefCell<TcpStream>>);

impl Link {
    /// Writes `frame`, which must fit into the socket's buffer.
    pub(super) fn write(&self, frame: &[u8]) -> Result<()> {
        ensure!(
            self.0.borrow().try_write(frame)? == frame.len(),
            "the socket takes no {} bytes",
            frame.len()
        );
        Ok(())
    }
}

impl Client {
    /// Connects; then upgrades and sends what is in `greeting`, until it has as many replies as are there.
    pub(super) async fn connect(swarm: &Swarm, greeting: Option<(Vec<u8>, u32)>) -> Result<Self> {
        let mut stream = TcpStream::connect(swarm.address).await?;
        stream.set_nodelay(true)?;
        // No TIME_WAIT: tens of thousands of them would be left to the next run.
        stream.set_zero_linger()?;
        let (mut partial, mut replies) = (Vec::new(), 0);
        if let Some((greeting, expected)) = greeting {
            partial = upgrade(&mut stream, swarm.address).await?;
            stream.write_all(&greeting).await?;
            replies = expected;
        }
        let link = Link(Rc::new(RefCell::new(stream)));
        let mut client = Self { link, partial, replies: 0, last: swarm.base.get() };
        // The replies may already be there, behind the answer to the upgrade.
        client.take(swarm, &[])?;
        while client.replies < replies {
            client.read(swarm).await?;
        }
        Ok(client)
    }

    pub(super) fn link(&self) -> Link {
        self.link.clone()
    }

    /// Reads until the connection or a check fails, which fails the whole swarm.
    pub(super) async fn listen(mut self, swarm: Rc<Swarm>) {
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
            ready!(Pin::new(&mut *self.link.0.borrow_mut()).poll_read(context, &mut buffer))?;
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
            Line::Publication { number, published_ns } => {
                self.check_publication(swarm, number, published_ns)?;
            }
            Line::Notice => swarm.notices.set(swarm.notices.get() + 1),
            Line::Ping => {
                self.link.write(&frame::pong())?;
                swarm.pings.set(swarm.pings.get() + 1);
            }
            Line::Reply(reply) => self.check_reply(swarm, &reply)?,
        }
        Ok(())
    }

    fn check_publication(&mut self, swarm: &Swarm, sequence: u64, published_ns: Option<u64>) -> Result<()> {
        let due = self.last + 1;
        ensure!(sequence == due, "publication {sequence} came where {due} was due");
        self.last = sequence;
        swarm.delivered(published_ns);
        Ok(())
    }

    fn check_reply(&mut self, swarm: &Swarm, reply: &Reply) -> Result<()> {
        ensure!(matches!(reply.id, 1 | 2), "a reply to command {}, which was not sent", reply.id);
        self.replies += 1;
        if reply.id == 1 {
            return Ok(());
        }
        let due = swarm.recovered.get().saturating_sub(swarm.base.get());
        let count = reply.publications.len() as u64;
        ensure!(count == due && reply.recovered == (due > 0), "recovered {count} publications of {due}");
        reply.publications.iter().try_for_each(|sequence| self.check_publication(swarm, *sequence, None))?;
        swarm.epoch.borrow_mut().clone_from(&reply.epoch);
        swarm.subscribed();
        Ok(())
    }
}

/// Asks for a WebSocket, and returns what has come after the answer.
async fn upgrade(stream: &mut TcpStream, address: SocketAddr) -> Result<Vec<u8>> {
    let request = format!(
        "GET /connection/websocket HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::with_capacity(512);
    let end = loop {
        ensure!(response.len() < RESPONSE_BYTES_MAX, "the response to the upgrade does not end");
        ensure!(stream.read_buf(&mut response).await? > 0, "closed during the upgrade");
        if let Some(at) = response.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let status = String::from_utf8_lossy(&response[..end]);
    let status = status.lines().next().unwrap_or_default();
    ensure!(status.starts_with("HTTP/1.1 101 "), "the upgrade was answered with {status:?}");
    Ok(response.split_off(end))
}
