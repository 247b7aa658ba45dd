//! The conversation with an SDK: `connect` first, then everything else.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use super::Codec;
use super::code;
use super::command::{Command, ConnectRequest, Malformed, Request};
use super::reply::Reply;
use super::session::{Manner, Refused, Session, Ticket};
use crate::auth::TokenError;
use crate::model::{Channel, ClientId, CloseReason, Identity};
use crate::node::Order;
use crate::protocol::{Context, Conversation, Effect, Encoding, Framing, Message, Outcome};

/// A client of the native protocol.
#[derive(Debug)]
pub struct Client {
    codec: Codec,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Boxed, so that it leaves no room behind.
    Handshake(Box<Handshake>),
    Open(Box<Session>),
    /// Told to go: whatever it still says is not heard.
    Refused,
}

/// A client that has not said `connect` yet.
#[derive(Clone, Debug)]
struct Handshake {
    context: Arc<Context>,
    codec: Codec,
    client: ClientId,
    /// What the token of the HTTP handshake established, if it had one.
    identity: Option<Identity>,
}

impl Client {
    /// A conversation with `client`; `identity` is what the token of the HTTP handshake established.
    pub fn new(context: Arc<Context>, codec: Codec, client: ClientId, identity: Option<Identity>) -> Self {
        Self { codec, stage: Stage::Handshake(Box::new(Handshake { context, codec, client, identity })) }
    }

    fn on_command(&mut self, command: Result<Command, Malformed>, effects: &mut Vec<Effect>) {
        match (&mut self.stage, command) {
            (Stage::Refused, _) => {}
            (Stage::Handshake(handshake), Ok(command)) => {
                let handshake = Handshake::clone(handshake);
                self.stage = handshake.on_command(command, effects);
            }
            (Stage::Handshake(_), Err(_)) => self.stage = refuse(CloseReason::BadRequest, effects),
            // A command without id is a pong, whatever else it holds, unless it is a `send`.
            (Stage::Open(_), Ok(Command { id: 0, request, .. }))
                if !matches!(request, Some(Request::Send)) =>
            {
                // A frame has room for tens of thousands, and one says it all.
                if !matches!(effects.last(), Some(Effect::Pong)) {
                    effects.push(Effect::Pong);
                }
            }
            (Stage::Open(session), Ok(command)) => session.accept(command, effects),
            (Stage::Open(session), Err(_)) => session.accept_violation(CloseReason::BadRequest, effects),
        }
    }

    /// After a close nothing is heard any more.
    fn notice_close(&mut self, effects: &[Effect]) {
        if matches!(effects.last(), Some(Effect::Close(_))) {
            self.stage = Stage::Refused;
        }
    }
}

impl Handshake {
    fn on_command(self, command: Command, effects: &mut Vec<Effect>) -> Stage {
        let Some(Request::Connect(request)) = command.request else {
            return refuse(CloseReason::BadRequest, effects);
        };
        if command.id == 0 {
            return refuse(CloseReason::BadRequest, effects);
        }
        let ticket = Ticket { id: command.id, name: "connect", started_at: Instant::now() };
        let (context, started_at) = (Arc::clone(&self.context), ticket.started_at);
        let codec = self.codec;
        match self.connect(&request, ticket, effects) {
            Ok(session) => Stage::Open(Box::new(session)),
            Err(Refused::Error(error)) => {
                let reply = codec.reply(command.id, &Reply::Error(error));
                effects.push(Effect::Send(reply.expect("it holds no publication")));
                context.metrics.command("connect", error.label(), started_at.elapsed());
                Stage::Refused
            }
            Err(Refused::Close(reason)) => {
                context.metrics.command("connect", reason.label(), started_at.elapsed());
                refuse(reason, effects)
            }
        }
    }

    fn connect(
        self,
        request: &ConnectRequest,
        ticket: Ticket,
        effects: &mut Vec<Effect>,
    ) -> Result<Session, Refused> {
        let identity = self.identify(request)?;
        // Who came with a token in its address has no way to refresh; it comes again at the end.
        let refresh_by = identity.expires_at.filter(|_| !request.token.is_empty());
        let form = (Manner::Native, self.codec);
        let mut session = Session::new(self.context, self.client, identity, form);
        session.open(ticket, refresh_by, &request.subs, effects)?;
        Ok(session)
    }

    /// The token of the command counts before that of the HTTP handshake, but cannot change the user.
    fn identify(&self, request: &ConnectRequest) -> Result<Identity, Refused> {
        let authority = &self.context.authority;
        if request.token.is_empty() {
            let known = self.identity.clone().or_else(|| authority.anonymous());
            return known.ok_or(Refused::Close(CloseReason::BadRequest));
        }
        let identity = self.context.authenticate(&request.token).map_err(|error| match error {
            TokenError::Expired | TokenError::NotYetValid => Refused::Error(code::TOKEN_EXPIRED),
            _ => Refused::Close(CloseReason::InvalidToken),
        })?;
        if self.identity.as_ref().is_some_and(|known| known.user != identity.user) {
            return Err(CloseReason::InvalidToken.into());
        }
        Ok(identity)
    }
}

fn refuse(reason: CloseReason, effects: &mut Vec<Effect>) -> Stage {
    effects.push(Effect::Close(reason));
    Stage::Refused
}

impl Conversation for Client {
    fn name(&self) -> &'static str {
        self.codec.name()
    }

    fn framing(&self) -> Framing {
        self.codec.framing()
    }

    fn encoding(&self) -> Encoding {
        self.codec.encoding()
    }

    fn on_start(&mut self, _: &mut Vec<Effect>) {}

    fn on_message(&mut self, message: Message<'_>, effects: &mut Vec<Effect>) {
        if matches!(self.stage, Stage::Refused) {
            return;
        }
        self.codec.read(message, |command| {
            self.on_command(command, effects);
            self.notice_close(effects);
        });
    }

    fn on_outcome(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        if let Stage::Open(session) = &mut self.stage {
            session.on_outcome(outcome, effects);
        }
        self.notice_close(effects);
    }

    fn on_order(&mut self, order: Order, effects: &mut Vec<Effect>) {
        if let Stage::Open(session) = &mut self.stage {
            session.accept_order(order, effects);
        }
        self.notice_close(effects);
    }

    fn on_lost(&mut self, channel: Channel, effects: &mut Vec<Effect>) {
        if let Stage::Open(session) = &mut self.stage {
            session.on_lost(&channel, effects);
        }
        self.notice_close(effects);
    }

    fn on_reminder(&mut self, effects: &mut Vec<Effect>) {
        if let Stage::Open(session) = &mut self.stage {
            session.on_reminder(effects);
        }
        self.notice_close(effects);
    }

    fn backlog_bytes(&self) -> usize {
        match &self.stage {
            Stage::Open(session) => session.waiting_bytes(),
            _ => 0,
        }
    }

    fn close_code(&self, reason: &CloseReason) -> (u16, Cow<'static, str>) {
        code::close_code(reason)
    }
}
