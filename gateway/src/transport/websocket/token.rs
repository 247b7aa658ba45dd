//! Where a handshake may carry its token: the query, `Authorization`, or a sub-protocol. One of them.

use axum::http::{HeaderMap, header};

use super::Refusal;
use super::handshake::{Handshake, Query};
use crate::model::Secret;

/// The sub-protocol that is a token; a script in a browser can set no header.
const SUB_PROTOCOL_PREFIX: &str = "bearer.";
/// RFC 6750 §2.1; the scheme is read in any case.
const SCHEME: &str = "bearer ";

/// The token of the handshake; `None` if there is none.
///
/// # Errors
/// [`Refusal::TwoTokens`] if there is more than one, wherever they are.
pub(super) fn find(
    query: &Query,
    headers: &HeaderMap,
    handshake: &Handshake,
) -> Result<Option<Secret>, Refusal> {
    let of_query = query.iter().filter(|(name, _)| name == "token").map(|(_, value)| value.as_str());
    // Another scheme is none of ours: a browser sends what a proxy before us asked for.
    let of_header = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| {
        let value = value.to_str().ok()?;
        let is_bearer = value.get(..SCHEME.len())?.eq_ignore_ascii_case(SCHEME);
        is_bearer.then(|| value[SCHEME.len()..].trim())
    });
    let of_protocol =
        handshake.sub_protocols.iter().filter_map(|name| name.strip_prefix(SUB_PROTOCOL_PREFIX));
    let mut tokens = of_query.chain(of_header).chain(of_protocol);
    let token = tokens.next();
    if tokens.next().is_some() {
        return Err(Refusal::TwoTokens);
    }
    Ok(token.map(Secret::new))
}
