use std::io;
use std::net::SocketAddr;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};

use super::{Answer, Gateway, within};

/// A client without manners: it sends bytes.
pub(crate) struct Raw {
    reader: Reader,
    writer: OwnedWriteHalf,
}

/// What a raw client receives.
pub(crate) struct Reader {
    stream: OwnedReadHalf,
    received: BytesMut,
}

/// A frame from the gateway.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Raw {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::of(within("a connection", TcpStream::connect(address)).await.expect("somebody listens"))
    }

    /// A client whose kernel takes little for it.
    pub(crate) async fn open_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("there are sockets");
        socket.set_recv_buffer_size(4096).expect("the size is allowed");
        Self::of(within("a connection", socket.connect(address)).await.expect("somebody listens"))
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("the socket is open");
        let (stream, writer) = stream.into_split();
        Self { reader: Reader { stream, received: BytesMut::new() }, writer }
    }

    /// Asks for a WebSocket and reads the 101.
    pub(crate) async fn upgrade(mut self, path: &str) -> Self {
        self.send(upgrade_request(path, "")).await;
        let answer = self.answer().await;
        assert_eq!(answer.status, 101, "{}{}", answer.head, answer.body);
        self
    }

    /// A WebSocket of the native protocol on which nothing was said.
    pub(crate) async fn native(gateway: &Gateway) -> Self {
        Self::open(gateway.public()).await.upgrade("/connection/websocket").await
    }

    /// A WebSocket of the bare form, without its first push.
    pub(crate) async fn bare(gateway: &Gateway) -> Self {
        let mut raw = Self::open(gateway.public()).await.upgrade(&bare_path(gateway, "")).await;
        let push = raw.next_frame().await.expect("the bare form speaks first");
        assert_eq!(push.opcode, 0x1);
        raw
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sending = self.writer.write_all(bytes.as_ref());
        within("bytes to be taken", sending).await.expect("the gateway takes bytes");
    }

    /// Sends though the gateway may have closed.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within("bytes to be taken", self.writer.write_all(bytes.as_ref())).await
    }

    /// Sends a masked frame; see [`frame`].
    pub(crate) async fn send_frame(&mut self, first_byte: u8, payload: impl AsRef<[u8]>) {
        self.send(frame(first_byte, payload.as_ref())).await;
    }

    /// Sends a whole text.
    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send_frame(0x81, text).await;
    }

    /// Breaks the connection off: the gateway gets a reset.
    pub(crate) fn reset(self) {
        let stream = self.writer.reunite(self.reader.stream).expect("they are halves of one");
        stream.set_zero_linger().expect("the socket is open");
    }

    /// The next HTTP response.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.reader.answer().await
    }

    /// The next frame; `None` when the connection has ended.
    pub(crate) async fn next_frame(&mut self) -> Option<Frame> {
        self.reader.next_frame().await
    }

    /// The next text, which is JSON.
    pub(crate) async fn next_json(&mut self) -> serde_json::Value {
        let frame = self.next_frame().await.expect("the connection is open");
        assert_eq!(frame.opcode, 0x1, "{frame:?}");
        serde_json::from_slice(&frame.payload).expect("the text is JSON")
    }

    /// The code with which the gateway closes, whatever it says before.
    pub(crate) async fn close_code(&mut self) -> u16 {
        let frame = loop {
            let frame = self.next_frame().await.expect("a close frame comes before the end");
            if frame.opcode == 0x8 {
                break frame;
            }
        };
        u16::from_be_bytes(frame.payload[..2].try_into().expect("two bytes were cut"))
    }

    /// Waits for the end of the connection; answers what came before it and was not read yet.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        self.reader.rest().await
    }

    /// To send and receive at the same time.
    pub(crate) fn split(self) -> (Reader, OwnedWriteHalf) {
        (self.reader, self.writer)
    }
}

impl Reader {
    async fn answer(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.fill().await, "the connection ended before the answer");
        };
        let head = String::from_utf8(self.received.split_to(end).into()).expect("a head is text");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut answer = Answer { status: status.expect("there is a status"), head, body: String::new() };
        let length = answer.header("content-length").map(|length| length.parse().expect("it is a number"));
        let length: usize = length.unwrap_or(0);
        while self.received.len() < length {
            assert!(self.fill().await, "the connection ended before the end of the body");
        }
        answer.body = String::from_utf8_lossy(&self.received.split_to(length)).into_owned();
        answer
    }

    /// The next frame; `None` when the connection has ended.
    pub(crate) async fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((header, length)) = self.header()
                && self.received.len() >= header + length
            {
                let opcode = self.received[0] & 0xF;
                self.received.advance(header);
                return Some(Frame { opcode, payload: self.received.split_to(length).into() });
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// How long the header and the payload of the next frame are.
    fn header(&self) -> Option<(usize, usize)> {
        let start = self.received.get(1)?;
        match (*start, &self.received[2..]) {
            (126, [high, low, ..]) => Some((4, usize::from(u16::from_be_bytes([*high, *low])))),
            (127, rest) => {
                let length = u64::from_be_bytes(rest.get(..8)?.try_into().expect("eight bytes were cut"));
                Some((10, usize::try_from(length).expect("a frame fits into memory")))
            }
            (126, _) => None,
            (length, _) => Some((2, usize::from(length))),
        }
    }

    /// Waits for the end of the connection; answers what came before it.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.received).into()
    }

    /// Receives more; `false` when the connection has ended or was reset.
    async fn fill(&mut self) -> bool {
        let received = within("bytes", self.stream.read_buf(&mut self.received)).await;
        matches!(received, Ok(count) if count > 0)
    }
}

/// A request for a WebSocket; `headers` are further lines, each with its end.
pub(crate) fn upgrade_request(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// The path of the bare form for a user; `query` begins with `&` or is empty.
pub(crate) fn bare_path(gateway: &Gateway, query: &str) -> String {
    format!("/ws?token={}{query}", gateway.token("raw"))
}

/// A masked frame; the first byte holds FIN, the reserved bits and the opcode.
pub(crate) fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first_byte];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length @ ..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
