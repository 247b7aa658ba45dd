//! A bench for conversations: frames in, effects out, without a socket, a node or a clock.
//!
//! [`Bench`] stands in for a connection's task. It never does two slow effects at once, lets a test say
//! when the one under way ends and how, and fails at whatever a conversation must never do.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::centrifuge::codec::protobuf::translation;
use super::{Context, Conversation, Effect, Framing, Heartbeat, Message, Outcome, Wanted};
use crate::auth::{self, Authority};
use crate::broker::BrokerError;
use crate::config::{Channels, Config};
use crate::metrics::Metrics;
use crate::model::{
    Channel, ClientId, ClientInfo, CloseReason, Identity, Publication, RawJson, SubscriptionGrant, UserId,
};
use crate::node::{Order, PublishError};
use crate::presence::{PresenceError, PresenceStats};

/// The `info` claim of every token.
pub(super) const INFO: &str = r#"{"name": "Ann"}"#;

/// A configuration with namespaces named for what they allow, and few and short channels.
pub(super) fn config() -> Config {
    let config = json!({
        "client": {
            "token": {"hmac_secret_key": "0123456789abcdefghijklmnopqrstuv"},
            "channels_max": 4,
        },
        "channel": {
            "channel_bytes_max": 32,
            "without_namespace": {"allow_subscribe_for_client": true},
            "namespaces": [
                {
                    "name": "open",
                    "allow_subscribe_for_client": true,
                    "allow_subscribe_for_anonymous": true,
                    "allow_publish_for_client": true,
                    "allow_publish_for_anonymous": true,
                },
                {"name": "read", "allow_subscribe_for_client": true},
                {"name": "chat", "allow_subscribe_for_client": true, "allow_publish_for_subscriber": true},
                {"name": "user", "allow_user_limited_channels": true},
                {"name": "closed"},
            ],
        },
    });
    serde_json::from_value(config).unwrap()
}

/// The same, where a token is not needed.
pub(super) fn anonymous() -> Config {
    let mut config = config();
    config.client.anonymous = true;
    config
}

/// What the conversations of a node with `config` share.
pub(super) fn context(config: &Config) -> Arc<Context> {
    let channels = Channels::new(&config.channel);
    Arc::new(Context {
        recovery_publications_max: 300,
        recovery_bytes_max: 1 << 19,
        history_publications_max: 300,
        authority: Authority::new(&config.client, channels, config.channel.channel_bytes_max).unwrap(),
        channels_max: config.client.channels_max,
        ping_interval: config.client.ping_interval,
        expired_sub_close_delay: config.client.expired_sub_close_delay,
        metrics: Arc::new(Metrics::of_namespaces(&config.channel)),
    })
}

/// A token of `user`, good for an hour.
pub(super) fn token(user: &str) -> String {
    token_until(user, SystemTime::now() + Duration::from_secs(3600))
}

/// A token of `user` that was good until an hour ago.
pub(super) fn expired_token(user: &str) -> String {
    token_until(user, SystemTime::now() - Duration::from_secs(3600))
}

fn token_until(user: &str, end: SystemTime) -> String {
    let expires = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let info: Value = serde_json::from_str(INFO).unwrap();
    let claims = json!({"sub": user, "exp": expires, "info": info});
    auth::sign(&config().client.token, &claims).unwrap().expose().to_owned()
}

/// What the token of the HTTP handshake established about `user`.
pub(super) fn identity(user: &str) -> Identity {
    Identity {
        user: UserId::parse(user).unwrap(),
        info: RawJson::parse(INFO.as_bytes()).ok(),
        ..Identity::default()
    }
}

/// A channel that exists.
pub(super) fn channel(name: &str) -> Channel {
    Channel::parse(name, 255).unwrap()
}

/// The server API subscribes the client.
pub(super) fn subscribe_order(name: &str) -> Order {
    Order::Subscribe { channel: channel(name), grant: SubscriptionGrant::default(), since: None }
}

/// The server API ends a subscription.
pub(super) fn unsubscribe_order(name: &str) -> Order {
    Order::Unsubscribe { channel: channel(name) }
}

/// Something that a conversation did.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Did {
    /// Until some time, or for ever.
    Renew(bool),
    /// Sent a message.
    Say(Value),
    /// Opened itself as this user.
    Open(String, Heartbeat),
    /// Took note of a pong.
    Pong,
    /// Asked to be subscribed.
    Subscribe(Vec<String>),
    /// Gave a subscription up.
    Unsubscribe(String),
    /// Asked to publish this text, or what bytes look like as text.
    Publish(String, String),
    /// Is to be seen in a channel with this `conn_info` and `chan_info`.
    Appear(String, Option<String>, Option<String>),
    /// Asked who is in a channel, or how many.
    AskPresence(String),
    /// Asked to be reminded of the end of a subscription.
    Remind,
    /// Closed.
    Close(CloseReason),
}

/// A conversation and what a connection's task would know of it.
pub(super) struct Bench<C> {
    pub(super) conversation: C,
    pub(super) client: ClientId,
    /// What the slow effect under way is to do; it has not ended.
    pending: Option<Slow>,
    /// Channels that the shard would deliver to this client.
    pub(super) subscribed: HashSet<String>,
    /// What was published with success, oldest first.
    pub(super) published: Vec<Publication>,
    /// Who is in every channel that has presence.
    pub(super) present: Vec<Arc<ClientInfo>>,
    /// What the last subscription wanted.
    pub(super) wanted: Vec<Wanted>,
    is_closed: bool,
}

enum Slow {
    Subscribe(Vec<Channel>),
    Publish(Publication),
    Presence,
    PresenceStats,
}

impl<C: Conversation> Bench<C> {
    /// Makes a conversation with a fresh client, not started yet.
    pub(super) fn new(converse: impl FnOnce(ClientId) -> C) -> Self {
        let client = ClientId::random();
        Self {
            conversation: converse(client),
            client,
            pending: None,
            subscribed: HashSet::new(),
            published: Vec::new(),
            present: Vec::new(),
            wanted: Vec::new(),
            is_closed: false,
        }
    }

    /// The connection is ready.
    pub(super) fn start(&mut self) -> Vec<Did> {
        self.call(|conversation, effects| conversation.on_start(effects))
    }

    /// The client sends a text frame; one that speaks Protobuf says the same in it.
    pub(super) fn say(&mut self, text: &str) -> Vec<Did> {
        if self.conversation.framing() == Framing::Binary {
            return self.say_binary(&translation::frame(text));
        }
        self.call(|conversation, effects| conversation.on_message(Message::Text(text), effects))
    }

    /// The client sends a binary frame.
    pub(super) fn say_binary(&mut self, bytes: &[u8]) -> Vec<Did> {
        self.call(|conversation, effects| conversation.on_message(Message::Binary(bytes), effects))
    }

    /// The server API orders something.
    pub(super) fn order(&mut self, order: Order) -> Vec<Did> {
        self.call(|conversation, effects| conversation.on_order(order, effects))
    }

    /// The subscription to the channel called `name` missed something.
    pub(super) fn lose(&mut self, name: &str) -> Vec<Did> {
        let lost = channel(name);
        self.call(|conversation, effects| conversation.on_lost(lost, effects))
    }

    /// The time has come that it asked to be reminded of.
    pub(super) fn remind(&mut self) -> Vec<Did> {
        self.call(|conversation, effects| conversation.on_reminder(effects))
    }

    /// The slow effect under way succeeds.
    pub(super) fn succeed(&mut self) -> Vec<Did> {
        let outcome = match self.pending.take().expect("nothing is under way") {
            Slow::Subscribe(channels) => {
                let results = channels.iter().map(|_| Ok(None)).collect();
                self.subscribed.extend(channels.iter().map(ToString::to_string));
                Outcome::Subscribed(results)
            }
            Slow::Publish(publication) => {
                self.published.push(publication);
                Outcome::Published(Ok(()))
            }
            Slow::Presence => Outcome::Presence(Ok(self.present.clone())),
            Slow::PresenceStats => {
                Outcome::PresenceStats(Ok(PresenceStats { clients: self.present.len(), users: 1 }))
            }
        };
        self.call(|conversation, effects| conversation.on_outcome(outcome, effects))
    }

    /// The broker does not answer.
    pub(super) fn fail(&mut self) -> Vec<Did> {
        let outcome = match self.pending.take().expect("nothing is under way") {
            Slow::Subscribe(channels) => {
                Outcome::Subscribed(channels.iter().map(|_| Err(BrokerError::Unavailable.into())).collect())
            }
            Slow::Publish(_) => Outcome::Published(Err(BrokerError::Unavailable.into())),
            Slow::Presence => Outcome::Presence(Err(PresenceError::Unavailable)),
            Slow::PresenceStats => Outcome::PresenceStats(Err(PresenceError::Unavailable)),
        };
        self.call(|conversation, effects| conversation.on_outcome(outcome, effects))
    }

    /// The broker does not answer for the channel called `name`; the others are subscribed.
    pub(super) fn fail_only(&mut self, name: &str) -> Vec<Did> {
        let Some(Slow::Subscribe(channels)) = self.pending.take() else {
            panic!("no subscribe is under way")
        };
        let fate = |channel: &Channel| match channel.as_str() {
            failed if failed == name => Err(BrokerError::Unavailable.into()),
            live => {
                self.subscribed.insert(live.to_owned());
                Ok(None)
            }
        };
        let outcome = Outcome::Subscribed(channels.iter().map(fate).collect());
        self.call(|conversation, effects| conversation.on_outcome(outcome, effects))
    }

    /// The node has too much to deliver already.
    pub(super) fn overload(&mut self) -> Vec<Did> {
        assert!(matches!(self.pending.take(), Some(Slow::Publish(_))), "no publish is under way");
        let outcome = Outcome::Published(Err(PublishError::Overloaded));
        self.call(|conversation, effects| conversation.on_outcome(outcome, effects))
    }

    /// Whether a slow effect is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether the conversation closed.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Lets everything slow succeed until nothing is under way.
    pub(super) fn settle(&mut self) -> Vec<Did> {
        let mut done = Vec::new();
        while self.is_busy() {
            done.extend(self.succeed());
        }
        done
    }

    /// Sends a frame and lets everything slow succeed; what the client gets.
    pub(super) fn ask(&mut self, text: &str) -> Vec<Value> {
        let mut done = self.say(text);
        done.extend(self.settle());
        said(done)
    }

    fn call(&mut self, call: impl FnOnce(&mut C, &mut Vec<Effect>)) -> Vec<Did> {
        let mut effects = Vec::new();
        call(&mut self.conversation, &mut effects);
        effects.into_iter().map(|effect| self.note(effect)).collect()
    }

    /// Keeps account of an effect, and fails at what breaks the contract of a conversation.
    fn note(&mut self, effect: Effect) -> Did {
        assert!(!self.is_closed, "after it closed: {effect:?}");
        match effect {
            Effect::Send(message) if self.conversation.framing() == Framing::Binary => {
                Did::Say(translation::reply(&message))
            }
            Effect::Send(message) => {
                assert!(!message.contains(&b'\n'), "a message is one line");
                Did::Say(serde_json::from_slice(&message).unwrap())
            }
            Effect::SendDrawn(drawn) => {
                Did::Say(serde_json::from_slice(&drawn.pieces.flatten().collect::<Vec<u8>>()).unwrap())
            }
            Effect::SendBinary(_) => panic!("no conversation here sends bytes"),
            Effect::Open(identity, heartbeat) => Did::Open(identity.user.to_string(), heartbeat),
            Effect::Pong => Did::Pong,
            Effect::Subscribe(wanted) => {
                self.wanted.clone_from(&wanted);
                let channels: Vec<_> = wanted.into_iter().map(|wanted| wanted.channel).collect();
                let names: Vec<_> = channels.iter().map(ToString::to_string).collect();
                assert!(names.iter().all(|name| !self.subscribed.contains(name)), "twice: {names:?}");
                self.begin(Slow::Subscribe(channels));
                Did::Subscribe(names)
            }
            Effect::Unsubscribe(channel) => {
                assert!(self.subscribed.remove(channel.as_str()), "not subscribed: {channel}");
                Did::Unsubscribe(channel.to_string())
            }
            Effect::Publish(channel, publication, _) => {
                let data = String::from_utf8_lossy(publication.data.as_bytes()).into_owned();
                self.begin(Slow::Publish(publication));
                Did::Publish(channel.to_string(), data)
            }
            Effect::Renew(_, expires_at) => Did::Renew(expires_at.is_some()),
            Effect::History(..) => panic!("these tests read no history"),
            Effect::Appear(channel, info) => {
                let text = |info: &Option<RawJson>| {
                    info.as_ref().map(|info| String::from_utf8(info.as_bytes().to_vec()).unwrap())
                };
                Did::Appear(channel.to_string(), text(&info.conn_info), text(&info.chan_info))
            }
            Effect::Presence(channel) => {
                self.begin(Slow::Presence);
                Did::AskPresence(channel.to_string())
            }
            Effect::PresenceStats(channel) => {
                self.begin(Slow::PresenceStats);
                Did::AskPresence(channel.to_string())
            }
            Effect::Remind(_) => Did::Remind,
            Effect::Close(reason) => {
                assert!(!self.is_busy(), "closed while something slow was under way");
                self.is_closed = true;
                Did::Close(reason)
            }
        }
    }

    fn begin(&mut self, slow: Slow) {
        assert!(self.pending.replace(slow).is_none(), "two slow effects at once");
    }
}

/// The messages among what was done.
pub(super) fn said(done: Vec<Did>) -> Vec<Value> {
    done.into_iter()
        .filter_map(|did| if let Did::Say(message) = did { Some(message) } else { None })
        .collect()
}
