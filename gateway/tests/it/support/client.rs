use std::collections::VecDeque;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::within;

/// What a client speaks over: a socket, with TLS or without.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A well-behaved client of any form.
pub(crate) struct Client {
    socket: WebSocketStream<Box<dyn Io>>,
    last_id: u32,
    /// Pushes that came while something else was waited for.
    pushes: VecDeque<Value>,
    /// Further lines of a frame whose first was looked at.
    lines: VecDeque<Value>,
    /// What the gateway said first: the reply to `connect`, or the connect push of the bare form.
    pub(crate) welcome: Value,
    /// Whether it answers pings of the native protocol.
    pub(crate) answers_pings: bool,
    /// How many came.
    pub(crate) pings: usize,
}

/// Data that came through a channel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Publication {
    pub(crate) channel: String,
    pub(crate) data: Value,
    /// Who published it; empty if it was no client.
    pub(crate) user: String,
}

impl Client {
    /// Connects and says `connect` with `token`.
    pub(crate) async fn native(stream: impl Io + 'static, token: &str) -> Self {
        Self::native_with(stream, json!({"token": token})).await
    }

    /// Connects and says `connect` with this `request`.
    pub(crate) async fn native_with(stream: impl Io + 'static, request: Value) -> Self {
        let mut client = Self::native_silent(stream).await;
        let reply = client.call(json!({ "connect": request })).await;
        assert!(reply["connect"]["client"].is_string(), "{reply}");
        client.welcome = reply["connect"].clone();
        client
    }

    /// Connects and says nothing yet.
    pub(crate) async fn native_silent(stream: impl Io + 'static) -> Self {
        Self::handshake(stream, "/connection/websocket").await
    }

    /// Connects with a token in the address and says nothing yet.
    pub(crate) async fn native_verified(stream: impl Io + 'static, token: &str) -> Self {
        Self::handshake(stream, &format!("/connection/websocket?token={token}")).await
    }

    /// Connects to the bare form and reads its connect push.
    pub(crate) async fn bare(stream: impl Io + 'static, token: &str, query: &str) -> Self {
        let mut client = Self::handshake(stream, &format!("/ws?token={token}&{query}")).await;
        let mut push = client.next_push().await;
        client.welcome = push["connect"].take();
        assert!(client.welcome["client"].is_string(), "{}", client.welcome);
        client
    }

    /// Connects to the form with nothing but data, in which nobody greets.
    pub(crate) async fn data(stream: impl Io + 'static, token: &str, query: &str) -> Self {
        Self::handshake(stream, &format!("/ws?token={token}&{query}")).await
    }

    async fn handshake(stream: impl Io + 'static, path: &str) -> Self {
        let stream: Box<dyn Io> = Box::new(stream);
        let connecting = client_async(format!("ws://test{path}"), stream);
        let (socket, _) = within("the upgrade", connecting).await.expect("the upgrade is accepted");
        Self {
            socket,
            last_id: 0,
            pushes: VecDeque::new(),
            lines: VecDeque::new(),
            welcome: Value::Null,
            answers_pings: true,
            pings: 0,
        }
    }

    /// The id that the gateway gave it.
    pub(crate) fn id(&self) -> &str {
        self.welcome["client"].as_str().expect("it has connected")
    }

    /// Subscribes; the reply has come.
    pub(crate) async fn subscribe(mut self, channel: &str) -> Self {
        let reply = self.call(json!({"subscribe": {"channel": channel}})).await;
        assert!(reply["subscribe"].is_object(), "{reply}");
        self
    }

    /// Ends the subscription; the reply has come.
    pub(crate) async fn unsubscribe(&mut self, channel: &str) {
        let reply = self.call(json!({"unsubscribe": {"channel": channel}})).await;
        assert!(reply["unsubscribe"].is_object(), "{reply}");
    }

    /// Publishes; the reply has come.
    pub(crate) async fn publish(&mut self, channel: &str, data: impl Into<Value>) {
        let reply = self.call(json!({"publish": {"channel": channel, "data": data.into()}})).await;
        assert!(reply["publish"].is_object(), "{reply}");
    }

    /// Sends `command` with an id of its own; answers the reply, error or not.
    pub(crate) async fn call(&mut self, mut command: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        command["id"] = json!(id);
        self.send(command.to_string()).await;
        loop {
            let message = self.next_message().await;
            if message["id"] == id {
                return message;
            }
            self.pushes.extend(message.get("push").cloned());
        }
    }

    /// The code of the error with which `command` is refused; the connection stays.
    pub(crate) async fn refusal(&mut self, command: Value) -> u64 {
        let reply = self.call(command.clone()).await;
        reply["error"]["code"].as_u64().unwrap_or_else(|| panic!("{command} is answered {reply}"))
    }

    /// Sends a text as it is.
    pub(crate) async fn send(&mut self, text: impl Into<String>) {
        let sending = self.socket.send(Message::text(text.into()));
        within("a message to be taken", sending).await.expect("the connection is open");
    }

    /// Sends bytes.
    pub(crate) async fn send_binary(&mut self, bytes: &[u8]) {
        let sending = self.socket.send(Message::binary(bytes.to_vec()));
        within("a message to be taken", sending).await.expect("the connection is open");
    }

    /// The next publication of any channel.
    pub(crate) async fn next_publication(&mut self) -> Publication {
        let mut push = self.next_push().await;
        assert!(push["pub"].is_object(), "{push}");
        Publication {
            channel: push["channel"].as_str().expect("a publication has a channel").to_owned(),
            user: push["pub"]["info"]["user"].as_str().unwrap_or_default().to_owned(),
            data: push["pub"]["data"].take(),
        }
    }

    /// The content of the next push of any kind.
    pub(crate) async fn next_push(&mut self) -> Value {
        if let Some(push) = self.pushes.pop_front() {
            return push;
        }
        let mut message = self.next_message().await;
        assert!(message.get("push").is_some(), "{message}");
        message["push"].take()
    }

    /// Forgets the pushes that came while something else was waited for.
    pub(crate) fn forget_pushes(&mut self) {
        self.pushes.clear();
    }

    /// The next reply or push. Pings are answered on the way.
    ///
    /// Several lines in one frame come one after another.
    pub(crate) async fn next_message(&mut self) -> Value {
        loop {
            let Some(message) = self.lines.pop_front() else {
                let text = self.next_text().await;
                self.lines
                    .extend(text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")));
                assert!(!self.lines.is_empty(), "a frame is not empty");
                continue;
            };
            if message != json!({}) {
                return message;
            }
            self.pings += 1;
            if self.answers_pings {
                self.send("{}").await;
            }
        }
    }

    /// The next text as it came.
    pub(crate) async fn next_text(&mut self) -> String {
        match self.next().await {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("{other:?} is no text"),
        }
    }

    /// The next text as it came, or the code with which the gateway closes instead.
    pub(crate) async fn next_text_or_close(&mut self) -> Result<String, u16> {
        match self.next().await {
            Message::Text(text) => Ok(text.as_str().to_owned()),
            Message::Close(Some(frame)) => Err(frame.code.into()),
            other => panic!("{other:?} is neither"),
        }
    }

    /// The next bytes.
    pub(crate) async fn next_binary(&mut self) -> Vec<u8> {
        match self.next().await {
            Message::Binary(bytes) => bytes.to_vec(),
            other => panic!("{other:?} is not binary"),
        }
    }

    /// The next frame; transport pings are answered on the way.
    async fn next(&mut self) -> Message {
        loop {
            let message = within("a frame", self.socket.next()).await.expect("the connection is open");
            match message.expect("the connection is open") {
                Message::Ping(_) => self.pings += 1,
                message => return message,
            }
        }
    }

    /// The code and the text with which the gateway closes; what comes before is not looked at.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Message::Close(frame) = self.next().await {
                let frame = frame.expect("the gateway says why");
                // The answer, which nobody has to take any more.
                drop(within("the answer to be taken", self.socket.flush()).await);
                return (frame.code.into(), frame.reason.as_str().to_owned());
            }
        }
    }

    /// Waits until the gateway, which has closed, says that nothing follows; over TLS that is more than the end of the
    /// socket.
    pub(crate) async fn ends(mut self) {
        let mut rest = Vec::new();
        let reading = self.socket.get_mut().read_to_end(&mut rest);
        within("the end", reading).await.expect("it is said that nothing follows");
        assert_eq!(rest, [0; 0], "nothing follows the close frame");
    }

    /// Closes in order.
    pub(crate) async fn leave(mut self) {
        within("the close handshake", async {
            self.socket.close(None).await.expect("the connection is open");
            while let Some(Ok(_)) = self.socket.next().await {}
        })
        .await;
    }
}
