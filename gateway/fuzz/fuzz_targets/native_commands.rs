//! No text that a client sends makes the native protocol panic or break its contract.
//!
//! The data is cut into frames at every byte 0xFF, which UTF-8 never has; what is no UTF-8 is a binary
//! frame. Before a frame that starts with `.` the slow effect under way succeeds, before one that starts
//! with `!` it fails; that character is not part of the frame.

#![no_main]

use std::sync::Arc;

use clarion::auth::Authority;
use clarion::broker::BrokerError;
use clarion::config::{Channels, Config};
use clarion::metrics::Metrics;
use clarion::model::ClientId;
use clarion::protocol::centrifuge::codec::json::read;
use clarion::protocol::centrifuge::{Client, Codec};
use clarion::protocol::{Context, Conversation, Effect, Message, Outcome};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut bench = Bench::new();
    bench.say(r#"{"id":1,"connect":{}}"#);
    for frame in data.split(|byte| *byte == 0xFF) {
        match std::str::from_utf8(frame) {
            Ok(text) => bench.play(text),
            Err(_) => bench.watch(|client, effects| client.on_message(Message::Binary(frame), effects)),
        }
    }
    while bench.slow.is_some() {
        bench.end(Fate::Success);
    }
    assert!(bench.is_closed || bench.client.backlog_bytes() == 0);
});

#[derive(Clone, Copy)]
enum Fate {
    Success,
    Failure,
}

/// What was asked for and has not ended.
enum Slow {
    Subscribe(usize),
    Publish,
}

/// A client, in place of whose connection every effect is only watched.
struct Bench {
    client: Client,
    slow: Option<Slow>,
    is_closed: bool,
}

impl Bench {
    fn new() -> Self {
        let mut config = Config::default();
        config.client.insecure = true;
        let channels = Channels::new(&config.channel);
        let authority = Authority::new(&config.client, channels, config.channel.channel_bytes_max);
        let context = Context {
            authority: authority.expect("there are no keys"),
            channels_max: 4,
            recovery_publications_max: 4,
            recovery_bytes_max: 4,
            history_publications_max: 4,
            ping_interval: config.client.ping_interval,
            metrics: Arc::new(Metrics::new()),
        };
        let client = Client::new(Arc::new(context), Codec::Json, ClientId::random(), None);
        Self { client, slow: None, is_closed: false }
    }

    fn play(&mut self, text: &str) {
        let (fate, text) = match text.split_at_checked(1) {
            Some((".", rest)) => (Some(Fate::Success), rest),
            Some(("!", rest)) => (Some(Fate::Failure), rest),
            _ => (None, text),
        };
        if let Some(fate) = fate {
            self.end(fate);
        }
        for line in text.split('\n') {
            let _parsed = read::parse(line);
        }
        self.say(text);
    }

    fn say(&mut self, text: &str) {
        self.watch(|client, effects| client.on_message(Message::Text(text), effects));
    }

    fn end(&mut self, fate: Fate) {
        let result = || match fate {
            Fate::Success => Ok(()),
            Fate::Failure => Err(BrokerError::Unavailable),
        };
        let subscribed = || result().map(|()| None).map_err(Into::into);
        let outcome = match self.slow.take() {
            Some(Slow::Subscribe(count)) => Outcome::Subscribed((0..count).map(|_| subscribed()).collect()),
            Some(Slow::Publish) => Outcome::Published(result().map_err(Into::into)),
            None => return,
        };
        self.watch(|client, effects| client.on_outcome(outcome, effects));
    }

    fn watch(&mut self, call: impl FnOnce(&mut Client, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        call(&mut self.client, &mut effects);
        for effect in effects {
            assert!(!self.is_closed, "after it closed: {effect:?}");
            match effect {
                Effect::Send(message) => {
                    assert!(!message.contains(&b'\n'), "a message is one line");
                    std::str::from_utf8(&message).expect("a message is UTF-8");
                }
                Effect::Subscribe(channels) => self.begin(Slow::Subscribe(channels.len())),
                Effect::Publish(..) => self.begin(Slow::Publish),
                Effect::Close(_) => self.is_closed = true,
                Effect::SendBinary(_) => panic!("a JSON client gets text"),
                Effect::History(..) => panic!("no channel has a history here"),
                Effect::Open(..) | Effect::Renew(_) | Effect::Pong | Effect::Unsubscribe(_) => {}
            }
        }
    }

    fn begin(&mut self, slow: Slow) {
        assert!(self.slow.replace(slow).is_none(), "two slow effects at once");
    }
}
