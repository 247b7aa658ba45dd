//! One client in the bench's own process, which says one thing at a time and waits for the answer.

use std::net::TcpStream;

use anyhow::{Context as _, Result, bail, ensure};
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::server::Server;
use super::swarm::sign;

/// A connected client.
#[derive(Debug)]
pub(crate) struct Visitor {
    socket: WebSocket<TcpStream>,
    commands: u32,
}

impl Visitor {
    /// Connects as the user of this number, and subscribes to `channel`.
    pub(crate) fn subscribe(server: &Server, user: u32, channel: &str) -> Result<Self> {
        let stream = TcpStream::connect(server.public())?;
        stream.set_nodelay(true)?;
        let address = format!("ws://{}/connection/websocket", server.public());
        let (socket, _) = tungstenite::client(address, stream).context("a visitor is not let in")?;
        let mut visitor = Self { socket, commands: 0 };
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
        self.commands += 1;
        let id = self.commands;
        self.socket.send(Message::text(json!({"id": id, command: request}).to_string()))?;
        loop {
            let mut line = self.line()?;
            if line["id"] == id {
                ensure!(line.get("error").is_none(), "{command} was refused: {}", line["error"]);
                return Ok(line[command].take());
            }
        }
    }

    /// Waits for a push.
    pub(crate) fn push(&mut self) -> Result<Value> {
        loop {
            let mut line = self.line()?;
            if line.get("push").is_some() {
                return Ok(line["push"].take());
            }
        }
    }

    /// The next line but pings, which it answers. Frames that hold several are not expected.
    fn line(&mut self) -> Result<Value> {
        loop {
            match self.socket.read()? {
                Message::Text(text) if text.as_str() == "{}" => self.socket.send(Message::text("{}"))?,
                Message::Text(text) => {
                    return serde_json::from_str(&text).context("a visitor got no JSON");
                }
                Message::Close(frame) => bail!("a visitor was closed: {frame:?}"),
                _ => {}
            }
        }
    }
}
