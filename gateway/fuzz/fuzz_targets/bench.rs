//! What fuzz targets of the native protocol share: a client, in place of whose connection every effect is only watched.

use std::sync::Arc;

use clarion::auth::Authority;
use clarion::broker::BrokerError;
use clarion::config::{Channels, Config};
use clarion::metrics::Metrics;
use clarion::model::ClientId;
use clarion::presence::{PresenceError, PresenceStats};
use clarion::protocol::centrifuge::{Client, Codec};
use clarion::protocol::{Context, Conversation, Effect, Message, Outcome};

/// How a slow effect ends.
#[derive(Clone, Copy)]
pub enum Fate {
    Success,
    Failure,
}

/// What was asked for and has not ended.
enum Slow {
    Subscribe(usize),
    Publish,
    Presence,
    PresenceStats,
}

/// A client that may do everything.
pub struct Bench {
    client: Client,
    slow: Option<Slow>,
    is_closed: bool,
    /// Whether something is one message of the codec.
    is_message: fn(&[u8]) -> bool,
}

impl Bench {
    pub fn new(codec: Codec, is_message: fn(&[u8]) -> bool) -> Self {
        let mut config = Config::default();
        config.client.insecure = true;
        config.channel.without_namespace.presence = true;
        let channels = Channels::new(&config.channel);
        let authority = Authority::new(&config.client, channels, config.channel.channel_bytes_max);
        let context = Context {
            authority: authority.expect("there are no keys"),
            channels_max: 4,
            recovery_publications_max: 4,
            recovery_bytes_max: 4,
            history_publications_max: 4,
            ping_interval: config.client.ping_interval,
            expired_sub_close_delay: config.client.expired_sub_close_delay,
            metrics: Arc::new(Metrics::new()),
        };
        let client = Client::new(Arc::new(context), codec, ClientId::random(), None);
        Self { client, slow: None, is_closed: false, is_message }
    }

    /// The client sends a frame.
    pub fn say(&mut self, message: Message<'_>) {
        self.watch(|client, effects| client.on_message(message, effects));
    }

    /// Everything slow succeeds; nothing is left.
    pub fn finish(mut self) {
        while self.slow.is_some() {
            self.end(Fate::Success);
        }
        assert!(self.is_closed || self.client.backlog_bytes() == 0);
    }

    /// The slow effect under way ends, if there is one.
    pub fn end(&mut self, fate: Fate) {
        let result = || match fate {
            Fate::Success => Ok(()),
            Fate::Failure => Err(BrokerError::Unavailable),
        };
        let subscribed = || result().map(|()| None).map_err(Into::into);
        let outcome = match self.slow.take() {
            Some(Slow::Subscribe(count)) => Outcome::Subscribed((0..count).map(|_| subscribed()).collect()),
            Some(Slow::Publish) => Outcome::Published(result().map_err(Into::into)),
            Some(Slow::Presence) => Outcome::Presence(match fate {
                Fate::Success => Ok(Vec::new()),
                Fate::Failure => Err(PresenceError::Unavailable),
            }),
            Some(Slow::PresenceStats) => Outcome::PresenceStats(match fate {
                Fate::Success => Ok(PresenceStats { clients: 1, users: 1 }),
                Fate::Failure => Err(PresenceError::Unavailable),
            }),
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
                Effect::Send(message) => assert!((self.is_message)(&message), "a message is one message"),
                Effect::Subscribe(channels) => self.begin(Slow::Subscribe(channels.len())),
                Effect::Publish(..) => self.begin(Slow::Publish),
                Effect::Close(_) => self.is_closed = true,
                Effect::SendDrawn(_) => panic!("nobody is present"),
                Effect::SendBinary(_) => panic!("it is said in the way of the codec"),
                Effect::History(..) => panic!("no channel has a history here"),
                Effect::Presence(_) => self.begin(Slow::Presence),
                Effect::PresenceStats(_) => self.begin(Slow::PresenceStats),
                Effect::Open(..)
                | Effect::Renew(..)
                | Effect::Remind(_)
                | Effect::Appear(..)
                | Effect::Pong
                | Effect::Unsubscribe(_) => {}
            }
        }
    }

    fn begin(&mut self, slow: Slow) {
        assert!(self.slow.replace(slow).is_none(), "two slow effects at once");
    }
}
