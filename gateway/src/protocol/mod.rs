//! What a client protocol must provide: frames in, effects out. No socket, no await.
//!
//! One folder per protocol. A [`Conversation`] gets what the client sent and answers with [`Effect`]s; the
//! connection's task carries them out and feeds the slow ones' [`Outcome`]s back. So a protocol is tested
//! with bytes alone, and a slow broker never keeps a connection from reading its pongs.

// Bytes of strangers come here: none of them may panic.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

pub mod bare;
pub mod centrifuge;
#[cfg(test)]
mod testing;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use self::centrifuge::Codec;
use self::centrifuge::command::Request;
use crate::auth::{Authority, TokenError};
use crate::broker::{BrokerError, History, PublishOptions, Range};
use crate::config::{NamespaceId, SlowConsumer};
use crate::metrics::Metrics;
use crate::model::{Channel, ClientInfo, CloseReason, Identity, Notice, Publication, Secret, TokenMark};
use crate::node::recovery::{Follow, Gap, Start};
use crate::node::{Entrant, Order, PublishError};
use crate::presence::{PresenceError, PresenceStats};

/// What every conversation of a node shares.
#[derive(Debug)]
pub struct Context {
    /// Who may do what.
    pub authority: Authority,
    /// Most subscriptions of one connection.
    pub channels_max: usize,
    /// Most publications that a client catches up with at once.
    pub recovery_publications_max: usize,
    /// Most bytes of them; half of what may be queued for a connection.
    pub recovery_bytes_max: usize,
    /// Most publications that a client gets of a history at once.
    pub history_publications_max: usize,
    /// Between two pings; zero for none.
    pub ping_interval: Duration,
    /// How long a subscription outlives what allowed it, so that the client can bring something fresh.
    pub expired_sub_close_delay: Duration,
    /// What happened, in numbers.
    pub metrics: Arc<Metrics>,
}

impl Context {
    /// Verifies the token of a connection, and counts what came of it.
    ///
    /// # Errors
    /// [`TokenError`]: it is not accepted.
    pub fn authenticate(&self, token: &Secret) -> Result<Identity, TokenError> {
        let began = Instant::now();
        let verdict = self.authority.authenticate(token);
        let result = verdict.as_ref().map_or_else(TokenError::label, |_| "ok");
        self.metrics.token_checked(result, began.elapsed());
        verdict
    }
}

/// Has the counts of what clients can do, and of how their connections can end, begin at zero.
pub fn expect(metrics: &Metrics) {
    for protocol in [bare::NAME, Codec::Json.name(), Codec::Protobuf.name()] {
        metrics.expect_protocol(protocol);
    }
    Request::NAMES.iter().for_each(|name| metrics.expect_command(name));
    for reason in CloseReason::OF_NODE {
        for close_code in [centrifuge::code::close_code, bare::close_code] {
            metrics.expect_close(&close_code(&reason).0.to_string(), reason.label());
        }
    }
}

/// One complete frame from the client.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// Text.
    Text(&'a str),
    /// Binary.
    Binary(&'a [u8]),
}

/// What a frame to the client holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
}

/// The data of a publication has no place in the client's form: bytes, for a client of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the data is not JSON, and the client takes nothing else")]
pub struct Inappropriate;

/// How the messages of one batch become frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Text; several messages share a frame, a line each.
    Lines,
    /// Text; a frame for each message.
    Single,
    /// Binary; several messages share a frame, one after another, and each says itself how long it is.
    Binary,
}

/// How liveness is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// This text is sent; the conversation answers [`Effect::Pong`] to what comes back.
    Text(&'static str),
    /// The same with bytes.
    Binary(&'static [u8]),
    /// The transport's own ping and pong (RFC 6455 §5.5.2).
    Transport,
}

/// What should happen. Effects are carried out in their order.
#[derive(Debug)]
pub enum Effect {
    /// Send this message, in the way of [`Conversation::framing`].
    Send(Vec<u8>),
    /// Send this message in a binary frame of its own.
    SendBinary(Vec<u8>),
    /// Send a message that is written in pieces as the client takes them; what is sent after it waits for its end.
    SendDrawn(Drawn),
    /// The client has authenticated: it can be addressed and is pinged from now on.
    Open(Identity, Heartbeat),
    /// What authenticates the client is this token from now on, or another time for the same, which is good until
    /// then; `None`: for ever.
    Renew(TokenMark, Option<SystemTime>),
    /// The client answered a ping.
    Pong,
    /// Subscribe to these channels; answered by [`Outcome::Subscribed`].
    Subscribe(Vec<Wanted>),
    /// Give the subscription up. No publication of the channel is sent after it.
    Unsubscribe(Channel),
    /// Others see the client so in the channel from now on, if they see it there at all.
    Appear(Channel, Arc<ClientInfo>),
    /// Publish as these options say; answered by [`Outcome::Published`].
    Publish(Channel, Publication, PublishOptions),
    /// Ask who is in the channel; answered by [`Outcome::Presence`].
    Presence(Channel),
    /// Ask how many are; answered by [`Outcome::PresenceStats`].
    PresenceStats(Channel),
    /// Call [`Conversation::on_reminder`] at this time, or a little later. A later time does not undo a sooner one.
    Remind(SystemTime),
    /// Read the history of the channel, whose epoch is kept for that long; answered by [`Outcome::History`].
    History(Channel, Range, Duration),
    /// Close the connection, after what was sent before. Nothing follows.
    Close(CloseReason),
}

/// A large message that is made piece by piece, so that it is never in memory as a whole.
pub struct Drawn {
    /// What it holds.
    pub kind: FrameKind,
    /// Its pieces, in order; at least one. Where it is cut does not matter.
    pub pieces: Box<dyn Iterator<Item = Vec<u8>>>,
    /// What it holds in memory until its end, roughly, in bytes.
    pub held_bytes: usize,
}

impl fmt::Debug for Drawn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Drawn({:?})", self.kind)
    }
}

/// A channel to subscribe to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which.
    pub channel: Channel,
    /// How its history is followed; `None` if it is not.
    pub follow: Option<Follow>,
    /// Whether there is to be no subscription, not even for a moment, if it asks to catch up and cannot.
    pub must_recover: bool,
    /// Whether the client is told who joins and leaves, from the reply on.
    pub hears_notices: bool,
    /// As whom the others see the client there; `None` if they do not.
    pub entrant: Option<Entrant>,
    /// What happens when the client does not keep up with it.
    pub slow_consumer: SlowConsumer,
    /// Of the channel.
    pub namespace: NamespaceId,
}

impl Wanted {
    /// A channel whose publications alone matter, from now on.
    pub fn live(channel: Channel) -> Self {
        Self {
            channel,
            follow: None,
            must_recover: false,
            hears_notices: false,
            entrant: None,
            slow_consumer: SlowConsumer::default(),
            namespace: NamespaceId::NONE,
        }
    }
}

/// A subscription was not made.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The broker did not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The presence did not answer.
    #[error(transparent)]
    Presence(#[from] PresenceError),
    /// History and live publications do not touch.
    #[error(transparent)]
    Gap(#[from] Gap),
    /// It had to catch up, and what it missed is not there any more.
    #[error("what was missed is gone")]
    Unrecoverable,
}

/// How a slow effect ended.
#[derive(Debug)]
pub enum Outcome {
    /// Of [`Effect::Subscribe`], in the order of its channels; `None` for one without history. Publications of
    /// all of them follow whatever the conversation sends in answer to it.
    Subscribed(Vec<Result<Option<Start>, SubscribeError>>),
    /// Of [`Effect::Publish`].
    Published(Result<(), PublishError>),
    /// Of [`Effect::History`].
    History(Result<History, BrokerError>),
    /// Of [`Effect::Presence`].
    Presence(Result<Vec<Arc<ClientInfo>>, PresenceError>),
    /// Of [`Effect::PresenceStats`].
    PresenceStats(Result<PresenceStats, PresenceError>),
}

/// One client's side of a protocol, from the first byte to the last.
///
/// After it asked for a slow effect it asks for no other until the outcome came; what the client sends
/// meanwhile waits inside, so that commands take effect in their order.
pub trait Conversation {
    /// The name for metrics and logs.
    fn name(&self) -> &'static str;

    /// How its messages become frames.
    fn framing(&self) -> Framing;

    /// In which form it gets publications.
    fn encoding(&self) -> Encoding;

    /// The connection is ready; a protocol in which the server speaks first does it here.
    fn on_start(&mut self, effects: &mut Vec<Effect>);

    /// The client sent a frame.
    fn on_message(&mut self, message: Message<'_>, effects: &mut Vec<Effect>);

    /// A slow effect has ended.
    fn on_outcome(&mut self, outcome: Outcome, effects: &mut Vec<Effect>);

    /// The server API asks something of this connection.
    fn on_order(&mut self, order: Order, effects: &mut Vec<Effect>);

    /// The subscription to `channel`, which followed a history, missed something. It gets nothing more.
    fn on_lost(&mut self, channel: Channel, effects: &mut Vec<Effect>);

    /// The time of an [`Effect::Remind`] has come.
    fn on_reminder(&mut self, effects: &mut Vec<Effect>);

    /// Bytes of commands that wait for a slow effect; above a frame's limit the client is not read.
    fn backlog_bytes(&self) -> usize;

    /// The close code and text that this protocol gives to `reason`.
    fn close_code(&self, reason: &CloseReason) -> (u16, Cow<'static, str>);
}

/// The conversation with a client that is told at once why it may not stay.
///
/// A browser's script cannot read the status of a refused handshake, but it can read a close code.
#[derive(Debug)]
pub struct Rejection {
    reason: CloseReason,
    close_code: fn(&CloseReason) -> (u16, Cow<'static, str>),
}

impl Rejection {
    /// Closes with what `close_code` makes of `reason`.
    pub fn new(reason: CloseReason, close_code: fn(&CloseReason) -> (u16, Cow<'static, str>)) -> Self {
        Self { reason, close_code }
    }
}

impl Conversation for Rejection {
    fn name(&self) -> &'static str {
        "rejected"
    }

    fn framing(&self) -> Framing {
        Framing::Single
    }

    fn encoding(&self) -> Encoding {
        Encoding::CentrifugeJson
    }

    fn on_start(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Close(self.reason.clone()));
    }

    fn on_message(&mut self, _: Message<'_>, _: &mut Vec<Effect>) {}

    fn on_outcome(&mut self, _: Outcome, _: &mut Vec<Effect>) {}

    fn on_order(&mut self, _: Order, _: &mut Vec<Effect>) {}

    fn on_lost(&mut self, _: Channel, _: &mut Vec<Effect>) {}

    fn on_reminder(&mut self, _: &mut Vec<Effect>) {}

    fn backlog_bytes(&self) -> usize {
        0
    }

    fn close_code(&self, reason: &CloseReason) -> (u16, Cow<'static, str>) {
        (self.close_code)(reason)
    }
}

/// In which form a subscriber gets publications and notices. Encoded once for all subscribers of the same form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `{"push":{"channel":…,"pub":{…}}}`
    CentrifugeJson,
    /// `Reply.push.pub` of `/proto/client.proto`, after its length.
    CentrifugeProtobuf,
    /// The data alone: JSON text, or the content of a JSON string.
    BareData,
}

impl Encoding {
    /// Appends `publication` of `channel` to `out`, without any framing. Answers what kind of frame it is for.
    ///
    /// # Errors
    /// [`Inappropriate`] if its data has no place in this form; what was appended must be thrown away.
    pub fn encode(
        self,
        channel: &Channel,
        publication: &Publication,
        out: &mut Vec<u8>,
    ) -> Result<FrameKind, Inappropriate> {
        // Growing by and by would cost more than all the rest of it.
        out.reserve(publication.cost_bytes() + channel.as_str().len());
        match self {
            Self::CentrifugeJson => centrifuge::codec::json::write::publication(channel, publication, out)?,
            Self::CentrifugeProtobuf => {
                centrifuge::codec::protobuf::write::publication(channel, publication, out);
                return Ok(FrameKind::Binary);
            }
            Self::BareData => return Ok(bare::data(publication, out)),
        }
        Ok(FrameKind::Text)
    }

    /// Appends `notice` of `channel` to `out`, without any framing; `None` if this form has none.
    pub fn encode_notice(self, channel: &Channel, notice: &Notice, out: &mut Vec<u8>) -> Option<FrameKind> {
        match self {
            Self::CentrifugeJson => centrifuge::codec::json::write::notice(channel, notice, out),
            Self::CentrifugeProtobuf => {
                centrifuge::codec::protobuf::write::notice(channel, notice, out);
                return Some(FrameKind::Binary);
            }
            Self::BareData => return None,
        }
        Some(FrameKind::Text)
    }
}
