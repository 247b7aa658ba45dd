//! A client that is little more than a socket: it says what it likes, and reads when it likes.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::BytesMut;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};

use crate::{token, wait};

pub(crate) const FIN: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;

/// Whatever it waits for takes no longer, unless it says so.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a client that reads little has room for; the kernel makes it twice as much.
const NARROW_BYTES: u32 = 4096;
/// Where many clients come from, each of which needs a port: addresses that begin like this one.
const SOURCES: u8 = 8;

/// See the module's doc.
#[derive(Debug)]
pub(crate) struct Raw {
    reader: Reader,
    writer: OwnedWriteHalf,
    /// What came in one frame with the reply that was asked for last.
    lines: VecDeque<Value>,
}

/// Its side that hears, with what came and was not looked at yet.
#[derive(Debug)]
struct Reader {
    stream: OwnedReadHalf,
    received: BytesMut,
}

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// A frame of a client, masked; at most 64 KiB.
pub(crate) fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let length = match u16::try_from(payload.len()) {
        Ok(length @ ..126) => vec![0x80 | length as u8],
        Ok(length) => [&[0x80 | 126][..], &length.to_be_bytes()].concat(),
        Err(_) => [&[0x80 | 127][..], &(payload.len() as u64).to_be_bytes()].concat(),
    };
    let masked = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    [first_byte].into_iter().chain(length).chain(MASK).chain(masked).collect()
}

/// A close frame of a client.
pub(crate) fn close(code: u16) -> Vec<u8> {
    frame(FIN | CLOSE, &code.to_be_bytes())
}

/// The request of the bare form for `user`, subscribed to `channel`.
pub(crate) fn bare_path(user: &str, channel: &str) -> String {
    format!("/ws?token={}&channels={channel}", token::sign(user))
}

impl Raw {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::of(stream))
    }

    /// One that has hardly any room for what it does not read, the nth of many.
    pub(crate) async fn open_narrow(address: SocketAddr, index: usize) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(NARROW_BYTES)?;
        let source = Ipv4Addr::new(127, 0, 1, 1 + u8::try_from(index % usize::from(SOURCES))?);
        socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
        Ok(Self::of(socket.connect(address).await?))
    }

    fn of(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader: Reader { stream: reader, received: BytesMut::new() }, writer, lines: VecDeque::new() }
    }

    /// Asks for a WebSocket, and expects it.
    pub(crate) async fn upgrade(mut self, path: &str) -> Result<Self> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        self.send(request.as_bytes()).await?;
        let head = self.head().await?;
        ensure!(head.starts_with("HTTP/1.1 101 "), "an upgrade is answered {head}");
        Ok(self)
    }

    /// A WebSocket of the native protocol on which nothing is said yet.
    pub(crate) async fn silent(address: SocketAddr) -> Result<Self> {
        Self::open(address).await?.upgrade("/connection/websocket").await
    }

    /// The same, and it has said who it is; with the id that it was given.
    pub(crate) async fn native(address: SocketAddr, user: &str) -> Result<(Self, String)> {
        let mut raw = Self::silent(address).await?;
        raw.say(&json!({"id": 1, "connect": {"token": token::sign(user)}})).await?;
        let reply = raw.json().await?;
        let client = reply["connect"]["client"].as_str().with_context(|| format!("told {reply}"))?;
        Ok((raw, client.to_owned()))
    }

    /// Sends one command in a frame of its own.
    pub(crate) async fn say(&mut self, command: &Value) -> Result<()> {
        self.send(&frame(FIN | TEXT, command.to_string().as_bytes())).await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sending = async { Ok(self.writer.write_all(bytes).await?) };
        wait::within("bytes to be taken", PATIENCE, sending).await
    }

    /// The head of a response.
    pub(crate) async fn head(&mut self) -> Result<String> {
        loop {
            let received = &mut self.reader.received;
            if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok(String::from_utf8(received.split_to(end + 4).into())?);
            }
            ensure!(self.reader.fill().await?, "the connection ended before an answer");
        }
    }

    /// The next frame; `None` when the connection has ended.
    pub(crate) async fn frame(&mut self) -> Result<Option<Frame>> {
        self.reader.frame().await
    }

    /// The next text, which is one JSON object.
    pub(crate) async fn json(&mut self) -> Result<Value> {
        let frame = self.frame().await?.context("the connection has ended")?;
        ensure!(frame.opcode == TEXT, "a frame of another kind came: {frame:?}");
        Ok(serde_json::from_slice(&frame.payload)?)
    }

    /// The code with which the gateway closes, whatever it says before.
    pub(crate) async fn close_code(&mut self) -> Result<u16> {
        while let Some(frame) = self.frame().await? {
            if let (CLOSE, [high, low, ..]) = (frame.opcode, &frame.payload[..]) {
                return Ok(u16::from_be_bytes([*high, *low]));
            }
        }
        bail!("the connection ended without a close frame")
    }

    /// The reply to the command `id`, whatever comes before it; pings are answered.
    pub(crate) async fn reply(&mut self, id: usize) -> Result<Value> {
        loop {
            while let Some(line) = self.lines.pop_front() {
                if line["id"] == id {
                    return Ok(line);
                }
                if line == json!({}) {
                    self.say(&line).await?;
                }
            }
            let frame = self.frame().await?.context("the connection ended before an answer")?;
            ensure!(frame.opcode == TEXT, "a frame of another kind came: {frame:?}");
            for line in frame.payload.split(|byte| *byte == b'\n') {
                self.lines.push_back(serde_json::from_slice(line)?);
            }
        }
    }

    /// Reads exactly `count` more bytes, and keeps them.
    pub(crate) async fn take(&mut self, count: usize) -> Result<()> {
        let Reader { stream, received } = &mut self.reader;
        let start = received.len();
        received.resize(start + count, 0);
        let reading = async { Ok(stream.read_exact(&mut received[start..]).await?) };
        wait::within("bytes", PATIENCE, reading).await.map(drop)
    }

    /// Waits for the end of the connection; answers what came before it and was not read.
    pub(crate) async fn rest(&mut self) -> Result<Vec<u8>> {
        while self.reader.fill().await? {}
        Ok(std::mem::take(&mut self.reader.received).into())
    }

    /// Breaks the connection off: the gateway gets a reset.
    pub(crate) fn reset(self) -> Result<()> {
        Ok(self.reader.stream.reunite(self.writer)?.set_zero_linger()?)
    }

    /// Where it comes from.
    pub(crate) fn port(&self) -> Result<u16> {
        Ok(self.writer.local_addr()?.port())
    }

    /// Sends all of that, with pauses, while `hear` gets the payload of whatever comes; answers the code with which the gateway closes,
    /// `None` if it ends without one.
    pub(crate) async fn flood<'a>(
        self,
        all: impl IntoIterator<Item = &'a [u8]>,
        pause: Duration,
        mut hear: impl FnMut(&[u8]),
    ) -> Result<Option<u16>> {
        let Self { mut reader, mut writer, .. } = self;
        let sending = async {
            for bytes in all {
                // Whoever was closed meanwhile cannot send it all.
                if writer.write_all(bytes).await.is_err() {
                    break;
                }
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
            std::future::pending::<()>().await;
        };
        let hearing = async {
            loop {
                let Some(Frame { opcode, payload }) = reader.frame().await? else { return Ok(None) };
                match (opcode, &payload[..]) {
                    (CLOSE, [high, low, ..]) => return Ok(Some(u16::from_be_bytes([*high, *low]))),
                    _ => hear(&payload),
                }
            }
        };
        let flooding = async {
            tokio::select! {
                code = hearing => code,
                () = sending => Ok(None),
            }
        };
        wait::within("a flood to end", PATIENCE * 3, flooding).await
    }
}

impl Reader {
    /// See [`Raw::frame`].
    async fn frame(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some((start, end)) = extent(&self.received)
                && self.received.len() >= end
            {
                let mut frame = self.received.split_to(end);
                let opcode = frame[0] & 0xF;
                return Ok(Some(Frame { opcode, payload: frame.split_off(start).into() }));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// Receives more; `false` when the connection has ended or was reset.
    async fn fill(&mut self) -> Result<bool> {
        let reading = async { Ok(self.stream.read_buf(&mut self.received).await) };
        let received = wait::within("bytes", PATIENCE, reading).await?;
        Ok(matches!(received, Ok(count) if count > 0))
    }
}

/// Where the payload of the first frame begins and ends, once its header is there.
fn extent(bytes: &[u8]) -> Option<(usize, usize)> {
    let start = *bytes.get(1)?;
    let (header, length) = match (start, &bytes[2..]) {
        (126, [high, low, ..]) => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        (127, rest) => (10, usize::try_from(u64::from_be_bytes(rest.get(..8)?.try_into().ok()?)).ok()?),
        (126, _) => return None,
        (length, _) => (2, usize::from(length)),
    };
    Some((header, header + length))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    crate::own::tests!(frames_are_written_and_found);

    fn frames_are_written_and_found() {
        assert_eq!(frame(FIN | PING, b"")[..2], [0x89, 0x80]);
        assert_eq!(frame(FIN | TEXT, b"ab"), [0x81, 0x82, 0x37, 0xfa, 0x21, 0x3d, b'a' ^ 0x37, b'b' ^ 0xfa]);
        assert_eq!(frame(TEXT, &[0; 126])[..4], [0x01, 0x80 | 126, 0, 126]);
        assert_eq!(frame(TEXT, &[0; 65_536])[..10], [0x01, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(extent(&[0x81]), None);
        assert_eq!(extent(&[0x81, 5, 1]), Some((2, 7)));
        assert_eq!(extent(&[0x81, 126, 1]), None);
        assert_eq!(extent(&[0x81, 126, 1, 0]), Some((4, 260)));
        assert_eq!(extent(&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]), Some((10, 65_546)));
    }
}
