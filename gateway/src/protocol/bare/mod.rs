//! The bare form: the native JSON protocol with the ceremony removed, for a browser's `new WebSocket(url)`.
//!
//! The token of the handshake has authenticated the client, the query names its channels, and the server
//! speaks first. With `publish=` in the query there are no messages at all, only data in both directions.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::centrifuge::code::{self, Error};
use super::centrifuge::codec::json::read;
use super::centrifuge::push::Push;
use super::centrifuge::reply::Begun;
use super::centrifuge::{Admitted, Codec, Manner, Refused, Session, all_wanted};
use super::{
    Context, Conversation, Effect, Encoding, FrameKind, Framing, Heartbeat, Inappropriate, Message, Outcome,
    SubscribeError,
};
use crate::auth::Asks;
use crate::model::{Channel, ClientId, CloseReason, Identity, Payload, Publication, RawJson};
use crate::node::Order;
use crate::node::recovery::{Since, Start};

/// The name of the protocol for metrics and logs.
pub const NAME: &str = "bare_json";

/// What the query of the handshake asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Channels to subscribe to, as written, in order.
    pub channels: Vec<String>,
    /// Where the client was in the history of a channel, by its name.
    pub since: HashMap<String, Since>,
    /// Whether to be told who joins and leaves.
    pub join_leave: bool,
    /// The channel to which every frame of the client is published; `None` for the form with messages.
    pub publish: Option<String>,
}

/// A client of the bare form.
#[derive(Debug)]
pub struct Client {
    session: Session,
    stage: Stage,
    /// Where every frame is published, in the form with nothing but data.
    publish_to: Option<Channel>,
}

#[derive(Debug)]
enum Stage {
    /// The channels of the query are not subscribed yet; commands wait.
    Opening {
        wishes: Wishes,
        verdicts: Vec<Verdict>,
        admitted: Vec<Admitted>,
    },
    Open,
    Closed,
}

/// A channel, and whether it is subscribed.
type Verdict = (String, Result<Begun, Error>);

impl Client {
    /// A conversation with `client`, which is `identity`.
    pub fn new(context: Arc<Context>, client: ClientId, identity: Identity, wishes: Wishes) -> Self {
        let manner = if wishes.publish.is_some() { Manner::Data } else { Manner::Bare };
        let mut session = Session::new(context, client, identity, (manner, Codec::Json));
        session.hold();
        let stage = Stage::Opening { wishes, verdicts: Vec::new(), admitted: Vec::new() };
        Self { session, stage, publish_to: None }
    }

    /// Looks at the channels that the server subscribes the client to, then at those of the query, each once.
    fn admit(&mut self) -> Result<(), CloseReason> {
        let Stage::Opening { wishes, verdicts, admitted } = &mut self.stage else { return Ok(()) };
        let asks = Asks { positioned: true, recoverable: true, join_leave: wishes.join_leave };
        let mut known = HashSet::new();
        // In the form with nothing but data nobody could tell the channels apart.
        if wishes.publish.is_none() {
            let enrolled = self.session.enrol(|name| wishes.since.remove(name));
            for one in enrolled.map_err(close_reason)? {
                known.insert(one.wanted.channel.to_string());
                verdicts.push((one.wanted.channel.to_string(), Ok(Begun::default())));
                admitted.push(one);
            }
        }
        for name in std::mem::take(&mut wishes.channels) {
            if !known.insert(name.clone()) {
                continue;
            }
            let since = wishes.since.remove(&name);
            let verdict = match self.session.admit(&name, admitted.len(), asks, since) {
                Ok(one) => {
                    admitted.push(one);
                    Ok(Begun::default())
                }
                Err(Refused::Error(error)) => Err(error),
                Err(Refused::Close(reason)) => return Err(reason),
            };
            verdicts.push((name, verdict));
        }
        Ok(())
    }

    /// In the form with nothing but data a refusal cannot be told but by closing.
    fn is_refused(&mut self) -> bool {
        let Stage::Opening { wishes, verdicts, .. } = &self.stage else { return false };
        let Some(publish) = &wishes.publish else { return false };
        let subscribed = verdicts.iter().any(|(name, _)| name == publish);
        self.publish_to = self.session.admit_publish(publish, subscribed).ok();
        self.publish_to.is_none() || verdicts.iter().any(|(_, verdict)| verdict.is_err())
    }

    /// Tells the fate of the channels, then carries out what waited.
    fn open(&mut self, results: Vec<Result<Option<Start>, SubscribeError>>, effects: &mut Vec<Effect>) {
        let Stage::Opening { mut verdicts, admitted, .. } = std::mem::replace(&mut self.stage, Stage::Open)
        else {
            return;
        };
        for (admitted, result) in admitted.into_iter().zip(results) {
            let verdict = verdicts.iter_mut().find(|(name, _)| name == admitted.wanted.channel.as_str());
            verdict.expect("every admitted channel has a verdict").1 = match result {
                Ok(start) => Ok(self.session.begin(admitted, start).1),
                Err(SubscribeError::Gap(_)) => return self.close(CloseReason::InsufficientState, effects),
                Err(error) => Err((&error).into()),
            };
        }
        if self.publish_to.is_none() {
            let push = Push::Connect(self.session.client(), &verdicts);
            match Codec::Json.push(&push) {
                Ok(push) => effects.push(Effect::Send(push)),
                Err(Inappropriate) => return self.close(CloseReason::InappropriateProtocol, effects),
            }
        } else if verdicts.iter().any(|(_, verdict)| verdict.is_err()) {
            return self.close(CloseReason::Internal, effects);
        }
        self.session.opened(effects);
    }

    fn close(&mut self, reason: CloseReason, effects: &mut Vec<Effect>) {
        effects.push(Effect::Close(reason));
        self.stage = Stage::Closed;
    }

    fn on_text(&mut self, text: &str, effects: &mut Vec<Effect>) {
        if let Some(channel) = &self.publish_to {
            let data = RawJson::parse(text.as_bytes()).unwrap_or_else(|_| RawJson::string(text));
            return self.session.accept_data(channel.clone(), data.into(), effects);
        }
        let text = text.strip_suffix('\n').unwrap_or(text);
        for line in text.split('\n') {
            match read::parse(line) {
                // The pong of an SDK: harmless, and nobody waits for it.
                Ok(command) if command.id == 0 && command.request.is_none() => {}
                Ok(command) => self.session.accept(command, effects),
                Err(_) => self.session.accept_violation(CloseReason::BadRequest, effects),
            }
            if self.notice_close(effects) {
                return;
            }
        }
    }

    /// Only in the form with nothing but data there is a place for bytes.
    fn on_binary(&mut self, bytes: &[u8], effects: &mut Vec<Effect>) {
        match &self.publish_to {
            Some(channel) => {
                let data = Payload::binary(Bytes::copy_from_slice(bytes));
                self.session.accept_data(channel.clone(), data, effects);
            }
            None => self.session.accept_violation(CloseReason::UnsupportedData, effects),
        }
    }

    /// After a close nothing is heard any more.
    fn notice_close(&mut self, effects: &[Effect]) -> bool {
        let closed = matches!(effects.last(), Some(Effect::Close(_)));
        if closed {
            self.stage = Stage::Closed;
        }
        closed
    }
}

impl Conversation for Client {
    fn name(&self) -> &'static str {
        NAME
    }

    fn framing(&self) -> Framing {
        Framing::Single
    }

    fn encoding(&self) -> Encoding {
        if self.publish_to.is_some() { Encoding::BareData } else { Encoding::CentrifugeJson }
    }

    fn on_start(&mut self, effects: &mut Vec<Effect>) {
        if let Err(reason) = self.admit() {
            return self.close(reason, effects);
        }
        if self.is_refused() {
            return self.close(CloseReason::PermissionDenied, effects);
        }
        effects.push(Effect::Open(self.session.identity().clone(), Heartbeat::Transport));
        let Stage::Opening { admitted, .. } = &self.stage else { return };
        if admitted.is_empty() {
            return self.open(Vec::new(), effects);
        }
        effects.push(Effect::Subscribe(all_wanted(admitted)));
    }

    fn on_message(&mut self, message: Message<'_>, effects: &mut Vec<Effect>) {
        if matches!(self.stage, Stage::Closed) {
            return;
        }
        match message {
            Message::Text(text) => self.on_text(text, effects),
            Message::Binary(bytes) => self.on_binary(bytes, effects),
        }
        self.notice_close(effects);
    }

    fn on_outcome(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        match (&self.stage, outcome) {
            (Stage::Closed, _) => return,
            (Stage::Opening { .. }, Outcome::Subscribed(results)) => self.open(results, effects),
            (_, outcome) => self.session.on_outcome(outcome, effects),
        }
        self.notice_close(effects);
    }

    fn on_order(&mut self, order: Order, effects: &mut Vec<Effect>) {
        if !matches!(self.stage, Stage::Closed) {
            self.session.accept_order(order, effects);
            self.notice_close(effects);
        }
    }

    fn on_lost(&mut self, channel: Channel, effects: &mut Vec<Effect>) {
        if !matches!(self.stage, Stage::Closed) {
            self.session.on_lost(&channel, effects);
            self.notice_close(effects);
        }
    }

    fn on_reminder(&mut self, effects: &mut Vec<Effect>) {
        if !matches!(self.stage, Stage::Closed) {
            self.session.on_reminder(effects);
            self.notice_close(effects);
        }
    }

    fn backlog_bytes(&self) -> usize {
        self.session.waiting_bytes()
    }

    fn close_code(&self, reason: &CloseReason) -> (u16, Cow<'static, str>) {
        close_code(reason)
    }
}

/// What a refused opening closes with. The bare form has no reply to a handshake.
fn close_reason(refused: Refused) -> CloseReason {
    match refused {
        Refused::Close(reason) => reason,
        Refused::Error(_) => CloseReason::PermissionDenied,
    }
}

/// The close codes of the native protocol, but for those that RFC 6455 §7.4.1 has a word of its own for.
pub fn close_code(reason: &CloseReason) -> (u16, Cow<'static, str>) {
    match reason {
        CloseReason::Shutdown => (1012, Cow::Borrowed("shutdown")),
        CloseReason::Rebalance => (1012, Cow::Borrowed("rebalance")),
        CloseReason::Lifetime => (1012, Cow::Borrowed("lifetime")),
        CloseReason::UnsupportedData => (1003, Cow::Borrowed("text frames only")),
        reason => code::close_code(reason),
    }
}

/// Appends the data of a publication alone: bytes, the content of a JSON string, or the JSON text.
pub fn data(publication: &Publication, out: &mut Vec<u8>) -> FrameKind {
    let text = publication.data.as_bytes();
    if publication.data.is_binary() {
        out.extend_from_slice(text);
        return FrameKind::Binary;
    }
    if text.first() == Some(&b'"')
        && let Ok(content) = serde_json::from_slice::<Cow<'_, str>>(text)
    {
        out.extend_from_slice(content.as_bytes());
    } else {
        out.extend_from_slice(text);
    }
    FrameKind::Text
}
