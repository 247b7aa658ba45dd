use std::collections::VecDeque;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::super::target::Stream;
use super::heard::Heard;

/// A client of the native protocol that says one thing at a time.
pub(super) struct Socket {
    stream: WebSocketStream<Box<dyn Stream>>,
    /// What came in one frame and was not looked at yet.
    lines: VecDeque<Value>,
    last_id: u32,
}

impl Socket {
    /// Asks for a WebSocket at `url` on a connection to its host.
    pub(super) async fn upgrade(stream: Box<dyn Stream>, url: &str) -> Result<Self, Heard> {
        let (stream, _response) = client_async(url, stream).await?;
        Ok(Self { stream, lines: VecDeque::new(), last_id: 0 })
    }

    /// Gives `command` and waits for its reply. What comes otherwise meanwhile is lost.
    pub(super) async fn call(&mut self, mut command: Value) -> Result<(), Heard> {
        self.last_id += 1;
        command["id"] = self.last_id.into();
        self.send(&command).await?;
        loop {
            let reply = self.next().await?;
            if reply["id"] != self.last_id {
                continue;
            }
            let error = &reply["error"];
            return match error["code"].as_u64() {
                Some(code) => {
                    Err(Heard::Error(code, error["message"].as_str().unwrap_or_default().to_owned()))
                }
                None => Ok(()),
            };
        }
    }

    /// Waits for the publication of `data` in `channel`.
    pub(super) async fn publication(&mut self, channel: &str, data: &Value) -> Result<(), Heard> {
        loop {
            let push = &self.next().await?["push"];
            if push["channel"] == channel && push["pub"]["data"] == *data {
                return Ok(());
            }
        }
    }

    /// The next thing that is no ping.
    async fn next(&mut self) -> Result<Value, Heard> {
        loop {
            match self.lines.pop_front() {
                Some(line) if line == json!({}) => self.send(&line).await?,
                Some(line) => return Ok(line),
                None => self.read().await?,
            }
        }
    }

    async fn read(&mut self) -> Result<(), Heard> {
        match self.stream.next().await.ok_or(Heard::TheEnd)?? {
            Message::Text(text) => {
                for line in text.lines() {
                    self.lines.push_back(serde_json::from_str(line).map_err(|_| Heard::Nonsense)?);
                }
                Ok(())
            }
            Message::Close(Some(frame)) => Err(Heard::Close(frame.code.into(), frame.reason.to_string())),
            Message::Close(None) => Err(Heard::TheEnd),
            _ => Ok(()),
        }
    }

    async fn send(&mut self, line: &Value) -> Result<(), Heard> {
        Ok(self.stream.send(Message::text(line.to_string())).await?)
    }
}
