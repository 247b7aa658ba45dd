//! One client in the bench's own process, which says one thing at a time and waits for the answer.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use jsonwebtoken::EncodingKey;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::server::Server;
use super::swarm::sign;

/// What a client that reads little has room for; the kernel makes it twice as much.
const NARROW_BYTES: usize = 4096;

/// A connected client.
#[derive(Debug)]
pub(crate) struct Visitor {
    socket: WebSocket<TcpStream>,
    commands: u32,
    /// Of a frame that held several, what was not looked at.
    lines: VecDeque<String>,
}

impl Visitor {
    /// Connects as the user of this number, and subscribes to `channel`.
    pub(crate) fn subscribe(server: &Server, user: u32, channel: &str) -> Result<Self> {
        let stream = TcpStream::connect(server.public())?;
        stream.set_nodelay(true)?;
        Self::over(stream, server, user, channel)
    }

    /// The same, with hardly any room for what it does not read.
    pub(crate) fn subscribe_narrow(server: &Server, user: u32, channel: &str) -> Result<Self> {
        // Before it connects: what it has room for is said with the first packet.
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        set_socket_recv_buffer_size(&socket, NARROW_BYTES)?;
        connect(&socket, &server.public())?;
        Self::over(TcpStream::from(socket), server, user, channel)
    }

    fn over(stream: TcpStream, server: &Server, user: u32, channel: &str) -> Result<Self> {
        let address = format!("ws://{}/connection/websocket", server.public());
        let (socket, _) = tungstenite::client(address, stream).context("a visitor is not let in")?;
        let mut visitor = Self { socket, commands: 0, lines: VecDeque::new() };
        let token = sign(&EncodingKey::from_secret(server.secret().as_bytes()), user)?;
        visitor.ask("connect", &json!({"token": token}))?;
        visitor.ask("subscribe", &json!({"channel": channel}))?;
        Ok(visitor)
    }

    /// Sends a command and waits for its result.
    ///
    /// # Errors
    /// It was refused.
    pub(crate) fn ask(&mut self, command: &str, request: &Value) -> Result<Value> {
        let reply = self.ask_text(command, request)?;
        let mut reply: Value = serde_json::from_str(&reply).context("a visitor got no JSON")?;
        ensure!(reply.get("error").is_none(), "{command} was refused: {}", reply["error"]);
        Ok(reply[command].take())
    }

    /// Sends a command and waits for its reply, which is not read: that takes time.
    pub(crate) fn ask_text(&mut self, command: &str, request: &Value) -> Result<String> {
        self.commands += 1;
        let id = self.commands;
        self.socket.send(Message::text(json!({"id": id, command: request}).to_string()))?;
        let head = format!(r#"{{"id":{id},"#);
        loop {
            let line = self.line()?;
            if line.starts_with(&head) {
                return Ok(line);
            }
        }
    }

    /// Waits for a push.
    pub(crate) fn push(&mut self) -> Result<Value> {
        loop {
            let line = self.line()?;
            if line.starts_with(r#"{"push""#) {
                let mut push: Value = serde_json::from_str(&line).context("a visitor got no JSON")?;
                return Ok(push["push"].take());
            }
        }
    }

    /// As [`push`](Self::push); `None` if none comes within `limit`.
    pub(crate) fn push_within(&mut self, limit: Duration) -> Result<Option<Value>> {
        self.socket.get_ref().set_read_timeout(Some(limit))?;
        match self.push() {
            Err(error) if is_timeout(&error) => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// The next line but pings, which it answers.
    fn line(&mut self) -> Result<String> {
        loop {
            match self.lines.pop_front() {
                Some(ping) if ping == "{}" => self.socket.send(Message::text("{}"))?,
                Some(line) => return Ok(line),
                None => self.read()?,
            }
        }
    }

    /// Reads one frame.
    fn read(&mut self) -> Result<()> {
        loop {
            match self.socket.read()? {
                Message::Text(text) => {
                    self.lines.extend(text.lines().map(str::to_owned));
                    return Ok(());
                }
                Message::Close(frame) => bail!("a visitor was closed: {frame:?}"),
                _ => {}
            }
        }
    }
}

fn is_timeout(error: &anyhow::Error) -> bool {
    let Some(tungstenite::Error::Io(error)) = error.downcast_ref() else { return false };
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
