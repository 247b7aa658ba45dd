//! The conversation with an SDK: `connect` first, then everything else.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use super::code::{self, Error};
use super::command::{self, Command, ConnectRequest, Request};
use super::reply;
use super::session::{Manner, Session};
use crate::auth::TokenError;
use crate::model::{Channel, ClientId, CloseReason, Identity};
use crate::node::Order;
use crate::protocol::{Context, Conversation, Effect, Encoding, Framing, Heartbeat, Message, Outcome};

/// A client of the native protocol in JSON.
#[derive(Debug)]
pub struct Client {
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Handshake(Handshake),
    Open(Box<Session>),
    /// Told to go: whatever it still says is not heard.
    Refused,
}

/// A client that has not said `connect` yet.
#[derive(Clone, Debug)]
struct Handshake {
    context: Arc<Context>,
    client: ClientId,
    /// What the token of the HTTP handshake established, if it had one.
    identity: Option<Identity>,
}

/// Why a `connect` did not open a session.
enum ConnectError {
    Reply(Error),
    Close(CloseReason),
}

impl Client {
    /// A conversation with `client`; `identity` is what the token of the HTTP handshake established.
    pub fn new(context: Arc<Context>, client: ClientId, identity: Option<Identity>) -> Self {
        Self { stage: Stage::Handshake(Handshake { context, client, identity }) }
    }

    fn on_line(&mut self, line: &str, effects: &mut Vec<Effect>) {
        match (&mut self.stage, command::parse(line)) {
            (Stage::Refused, _) => {}
            (Stage::Handshake(handshake), Ok(command)) => {
                let handshake = handshake.clone();
                self.stage = handshake.on_command(&command, effects);
            }
            (Stage::Handshake(_), Err(_)) => self.stage = refuse(CloseReason::BadRequest, effects),
            // A command without id is a pong, whatever else it holds, unless it is a `send`.
            (Stage::Open(_), Ok(Command { id: 0, request, .. }))
                if !matches!(request, Some(Request::Send)) =>
            {
                effects.push(Effect::Pong);
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
    fn on_command(self, command: &Command, effects: &mut Vec<Effect>) -> Stage {
        let Some(Request::Connect(request)) = &command.request else {
            return refuse(CloseReason::BadRequest, effects);
        };
        if command.id == 0 {
            return refuse(CloseReason::BadRequest, effects);
        }
        let started_at = Instant::now();
        let metrics = Arc::clone(&self.context.metrics);
        let count = |outcome| metrics.command("connect", outcome, started_at.elapsed());
        match self.connect(request) {
            Ok((session, ping_interval)) => {
                let identity = session.identity().clone();
                // Who came with a token in its address has no way to refresh; it comes again at the end.
                let refresh_by = identity.expires_at.filter(|_| !request.token.is_empty());
                effects.push(Effect::Send(reply::connect(
                    command.id,
                    session.client(),
                    ping_interval,
                    refresh_by,
                )));
                effects.push(Effect::Open(identity, Heartbeat::Message("{}")));
                count("ok");
                Stage::Open(Box::new(session))
            }
            Err(ConnectError::Reply(error)) => {
                effects.push(Effect::Send(reply::error(command.id, error)));
                count(error.label());
                Stage::Refused
            }
            Err(ConnectError::Close(reason)) => {
                count(reason.label());
                refuse(reason, effects)
            }
        }
    }

    fn connect(self, request: &ConnectRequest) -> Result<(Session, std::time::Duration), ConnectError> {
        let identity = self.identify(request)?;
        let ping_interval = self.context.ping_interval;
        Ok((Session::new(self.context, self.client, identity, Manner::Native), ping_interval))
    }

    /// The token of the command counts before that of the HTTP handshake, but cannot change the user.
    fn identify(&self, request: &ConnectRequest) -> Result<Identity, ConnectError> {
        let authority = &self.context.authority;
        if request.token.is_empty() {
            let known = self.identity.clone().or_else(|| authority.anonymous());
            return known.ok_or(ConnectError::Close(CloseReason::BadRequest));
        }
        let identity = authority.authenticate(&request.token).map_err(|error| match error {
            TokenError::Expired | TokenError::NotYetValid => ConnectError::Reply(code::TOKEN_EXPIRED),
            _ => ConnectError::Close(CloseReason::InvalidToken),
        })?;
        if self.identity.as_ref().is_some_and(|known| known.user != identity.user) {
            return Err(ConnectError::Close(CloseReason::InvalidToken));
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
        "centrifuge_json"
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn encoding(&self) -> Encoding {
        Encoding::CentrifugeJson
    }

    fn on_start(&mut self, _: &mut Vec<Effect>) {}

    fn on_message(&mut self, message: Message<'_>, effects: &mut Vec<Effect>) {
        let Message::Text(text) = message else {
            match &mut self.stage {
                Stage::Handshake(_) => self.stage = refuse(CloseReason::BadRequest, effects),
                Stage::Open(session) => session.accept_violation(CloseReason::BadRequest, effects),
                Stage::Refused => {}
            }
            return self.notice_close(effects);
        };
        let text = text.strip_suffix('\n').unwrap_or(text);
        for line in text.split('\n') {
            self.on_line(line, effects);
            self.notice_close(effects);
        }
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
            session.on_lost(channel, effects);
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
