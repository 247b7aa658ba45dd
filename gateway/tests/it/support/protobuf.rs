use std::collections::VecDeque;

use prost::Message as _;

use super::{Gateway, Raw, upgrade_request};

#[allow(
    dead_code,
    unreachable_pub,
    clippy::all,
    reason = "it is made from the schema, of which tests use a part"
)]
pub(crate) mod schema {
    include!(concat!(env!("OUT_DIR"), "/centrifugal.centrifuge.protocol.rs"));
}

use schema::{Command, ConnectRequest, PublishRequest, Push, Reply, SubscribeRequest};

/// A well-behaved client of the native protocol in Protobuf.
pub(crate) struct ProtobufClient {
    raw: Raw,
    last_id: u32,
    /// Pushes that came while something else was waited for.
    pushes: VecDeque<Push>,
    /// The reply to `connect`.
    pub(crate) welcome: schema::ConnectResult,
    /// Whether it answers pings.
    pub(crate) answers_pings: bool,
}

impl ProtobufClient {
    /// Connects as `user`.
    pub(crate) async fn connect(gateway: &Gateway, user: &str) -> Self {
        let mut raw = Raw::open(gateway.public()).await;
        let headers = "sec-websocket-protocol: centrifuge-protobuf\r\n";
        raw.send(upgrade_request("/connection/websocket", headers)).await;
        assert_eq!(raw.answer().await.header("sec-websocket-protocol"), Some("centrifuge-protobuf"));
        let mut client = Self {
            raw,
            last_id: 0,
            pushes: VecDeque::new(),
            welcome: schema::ConnectResult::default(),
            answers_pings: true,
        };
        let connect = ConnectRequest { token: gateway.token(user), ..Default::default() };
        let reply = client.call(Command { connect: Some(connect), ..Default::default() }).await;
        client.welcome = reply.connect.expect("it is connected");
        client
    }

    /// Subscribes; the reply has come.
    pub(crate) async fn subscribe(mut self, channel: &str) -> Self {
        let subscribe = SubscribeRequest { channel: channel.into(), ..Default::default() };
        let reply = self.call(Command { subscribe: Some(subscribe), ..Default::default() }).await;
        assert!(reply.subscribe.is_some(), "{reply:?}");
        self
    }

    /// Publishes; the reply has come.
    pub(crate) async fn publish(&mut self, channel: &str, data: &'static [u8]) {
        let publish = PublishRequest { channel: channel.into(), data: data.into(), ..Default::default() };
        let reply = self.call(Command { publish: Some(publish), ..Default::default() }).await;
        assert!(reply.publish.is_some(), "{reply:?}");
    }

    /// Sends `command` with an id of its own; answers the reply, error or not.
    pub(crate) async fn call(&mut self, mut command: Command) -> Reply {
        self.last_id += 1;
        command.id = self.last_id;
        self.send(command.encode_length_delimited_to_vec()).await;
        let mut answer = None;
        while answer.is_none() {
            for reply in self.next_frame().await {
                if reply.id == self.last_id {
                    answer = Some(reply);
                } else {
                    self.pushes.extend(reply.push);
                }
            }
        }
        answer.expect("it was waited for")
    }

    /// Sends a binary frame as it is.
    pub(crate) async fn send(&mut self, frame: impl AsRef<[u8]>) {
        self.raw.send_frame(0x82, frame).await;
    }

    /// The content of the next push of any kind.
    pub(crate) async fn next_push(&mut self) -> Push {
        while self.pushes.is_empty() {
            let messages = self.next_frame().await;
            self.pushes.extend(messages.into_iter().filter_map(|reply| reply.push));
        }
        self.pushes.pop_front().expect("it was waited for")
    }

    /// The messages of the next frame. A ping is none.
    pub(crate) async fn next_frame(&mut self) -> Vec<Reply> {
        loop {
            let frame = self.receive().await;
            if frame != [0] {
                return replies(&frame);
            }
        }
    }

    /// Waits for a ping.
    pub(crate) async fn next_ping(&mut self) {
        while self.receive().await != [0] {}
    }

    /// The next frame, a ping too, which is answered.
    async fn receive(&mut self) -> Vec<u8> {
        let frame = self.raw.next_frame().await.expect("the connection is open");
        assert_eq!(frame.opcode, 0x2, "{frame:?}");
        if frame.payload == [0] && self.answers_pings {
            self.send([0]).await;
        }
        frame.payload
    }

    /// The code with which the gateway closes, whatever it says before.
    pub(crate) async fn close_code(&mut self) -> u16 {
        self.raw.close_code().await
    }
}

/// The messages of a frame.
pub(crate) fn replies(mut frame: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while !frame.is_empty() {
        replies.push(Reply::decode_length_delimited(&mut frame).expect("each message is complete"));
    }
    replies
}
