//! WebSocket: the opening handshake (RFC 6455 §4.2), who the client is, and the upgrade.
//!
//! [`respond`] answers a request: with a refusal, or with 101 and an [`Acceptance`] in the extensions of the
//! response, by which the accept loop of the shard calls [`upgrade`].

mod handshake;
mod negotiation;
mod origin;
mod refusal;
mod token;
mod upgrade;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response};

pub use origin::{OriginError, Origins};
pub use refusal::Refusal;
pub use upgrade::{Acceptance, upgrade};

use self::handshake::Handshake;
use super::AcceptedAt;
use crate::auth::TokenError;
use crate::config::Reject;
use crate::metrics::Metrics;
use crate::model::{CloseReason, Identity};
use crate::node::recovery::Since;
use crate::protocol::centrifuge::Codec;
use crate::protocol::{Context, Rejection, bare, centrifuge};

/// What the handshakes of a node have in common.
#[derive(Debug)]
pub struct Gate {
    /// What conversations share.
    pub context: Arc<Context>,
    /// Which pages may connect.
    pub origins: Origins,
    /// How a bad token is told.
    pub reject: Reject,
}

/// Which protocol a path speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/connection/websocket`
    Native,
    /// `/ws`
    Bare,
}

/// Answers a handshake: 101, or why not. The token is verified before the 101.
pub fn respond(gate: &Gate, endpoint: Endpoint, request: &Request<Body>) -> Response<Body> {
    let admitted = admit(gate, endpoint, request);
    if let Some(AcceptedAt(accepted_at)) = request.extensions().get() {
        gate.context.metrics.handshake_answered(admitted.is_ok(), accepted_at.elapsed());
    }
    match admitted {
        Ok((handshake, sub_protocol, acceptance)) => handshake.accept(sub_protocol, acceptance),
        Err(refusal) => {
            gate.context.metrics.handshake_rejected(refusal.label());
            refusal.into_response()
        }
    }
}

/// Has the counts of refusals begin at zero.
pub fn expect(metrics: &Metrics) {
    let labels = Refusal::ALL_BUT_TOKENS.map(Refusal::code);
    labels.iter().chain(&TokenError::LABELS).for_each(|reason| metrics.expect_refused_handshake(reason));
}

fn admit(
    gate: &Gate,
    endpoint: Endpoint,
    request: &Request<Body>,
) -> Result<(Handshake, Option<&'static str>, Acceptance), Refusal> {
    let handshake = Handshake::parse(request)?;
    gate.origins.check(request.headers())?;
    let query = handshake::query(request.uri())?;
    let codec = match endpoint {
        Endpoint::Native => negotiation::codec(&query, &handshake.sub_protocols),
        Endpoint::Bare => Codec::Json,
    };
    let sub_protocol = negotiation::sub_protocol(codec, &handshake.sub_protocols);
    let token = token::find(&query, request.headers(), &handshake)?;
    let verdict = token.map(|token| gate.context.authenticate(&token)).transpose();
    let context = Arc::clone(&gate.context);
    let identity = match verdict {
        Ok(identity) => identity,
        Err(error) if gate.reject == Reject::Close => {
            gate.context.metrics.handshake_rejected(error.label());
            return Ok((handshake, sub_protocol, rejection(endpoint, close_reason(error))));
        }
        Err(error) => return Err(Refusal::Token(error)),
    };
    let acceptance = match endpoint {
        Endpoint::Native => Acceptance::new(move |client| {
            Box::new(centrifuge::Client::new(Arc::clone(&context), codec, client, identity.clone()))
        }),
        Endpoint::Bare => {
            let identity = bare_identity(gate, identity)?;
            let wishes = wishes(&query)?;
            Acceptance::new(move |client| {
                Box::new(bare::Client::new(Arc::clone(&context), client, identity.clone(), wishes.clone()))
            })
        }
    };
    Ok((handshake, sub_protocol, acceptance))
}

/// Answers a handshake for something that needs no token: 101 with `acceptance`, or why not.
pub fn accept(request: &Request<Body>, acceptance: Acceptance) -> Response<Body> {
    Handshake::parse(request)
        .map_or_else(Refusal::into_response, |handshake| handshake.accept(None, acceptance))
}

fn rejection(endpoint: Endpoint, reason: CloseReason) -> Acceptance {
    let close_code = match endpoint {
        Endpoint::Native => centrifuge::code::close_code,
        Endpoint::Bare => bare::close_code,
    };
    Acceptance::new(move |_| Box::new(Rejection::new(reason.clone(), close_code)))
}

/// The bare form has no other place for a token than the handshake.
fn bare_identity(gate: &Gate, identity: Option<Identity>) -> Result<Identity, Refusal> {
    identity.or_else(|| gate.context.authority.anonymous()).ok_or(Refusal::NoToken)
}

/// What the query wants: `channels=a,b`, `channel=` for a name that holds a comma, `publish=a`,
/// `since=CHANNEL@EPOCH:OFFSET` to catch up, `join_leave=1` to hear of others.
fn wishes(query: &handshake::Query) -> Result<bare::Wishes, Refusal> {
    let mut wishes = bare::Wishes::default();
    for (name, value) in query {
        match name.as_ref() {
            "channels" => {
                let names = value.split(',').filter(|name| !name.is_empty());
                wishes.channels.extend(names.map(str::to_owned));
            }
            "channel" => wishes.channels.push(value.to_string()),
            "since" => {
                let (channel, since) = since(value).ok_or(Refusal::Malformed)?;
                wishes.since.insert(channel, since);
            }
            "join_leave" => wishes.join_leave = matches!(value.as_ref(), "1" | "true"),
            "publish" if wishes.publish.is_some() => return Err(Refusal::DuplicateParameter),
            "publish" => wishes.publish = Some(value.to_string()),
            _ => {}
        }
    }
    if wishes.publish.is_some() && !wishes.since.is_empty() {
        // In the form with nothing but data there is no place for what was missed.
        return Err(Refusal::Malformed);
    }
    Ok(wishes)
}

/// `CHANNEL@EPOCH:OFFSET`
fn since(value: &str) -> Option<(String, Since)> {
    let (channel, position) = value.rsplit_once('@')?;
    let (epoch, offset) = position.rsplit_once(':')?;
    Some((channel.to_owned(), Since { epoch: epoch.to_owned(), offset: offset.parse().ok()? }))
}

fn close_reason(error: TokenError) -> CloseReason {
    match error {
        // It comes again with a fresh one, or when the clocks agree.
        TokenError::Expired | TokenError::NotYetValid => CloseReason::Expired,
        _ => CloseReason::InvalidToken,
    }
}
