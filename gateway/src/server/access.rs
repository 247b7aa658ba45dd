//! Who calls the server API, by the key in the request.

use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use crate::auth::ApiKeys;
use crate::config::{ApiKey, Scope};

/// Somebody who may call the API.
#[derive(Clone, Copy, Debug)]
pub(super) enum Caller<'a> {
    /// No key is asked for: everything is allowed.
    Anyone,
    /// The holder of a key, who may do what its scopes say.
    Holder(&'a ApiKey),
}

impl<'a> Caller<'a> {
    /// Looks for a key in `X-API-Key`, or without that in `Authorization: apikey KEY`, and if that is none of
    /// `keys`, in the query's `api_key`. `None` if the caller is to be turned away.
    pub(super) fn identify(keys: &'a ApiKeys, insecure: bool, head: &Parts) -> Option<Self> {
        if insecure {
            return Some(Self::Anyone);
        }
        let in_header = header_key(head, &["apikey"]).and_then(|key| keys.authenticate(key));
        in_header.or_else(|| keys.authenticate(&query_key(head)?)).map(Self::Holder)
    }

    /// The same without the query, which proxies log: in `X-API-Key`, or without that in `Authorization`, as
    /// `Bearer KEY` or `apikey KEY`.
    pub(super) fn identify_by_header(keys: &'a ApiKeys, insecure: bool, head: &Parts) -> Option<Self> {
        if insecure {
            return Some(Self::Anyone);
        }
        let key = header_key(head, &["bearer", "apikey"])?;
        keys.authenticate(key).map(Self::Holder)
    }

    /// Whether methods of `scope` are allowed.
    pub(super) fn may(self, scope: Scope) -> bool {
        match self {
            Self::Anyone => true,
            Self::Holder(key) => key.allows(scope),
        }
    }

    /// The name of the key, for logs; empty for none.
    pub(super) fn name(self) -> &'a str {
        match self {
            Self::Anyone => "",
            Self::Holder(key) => &key.name,
        }
    }
}

fn header_key<'a>(head: &'a Parts, schemes: &[&str]) -> Option<&'a str> {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    match text("x-api-key") {
        Some(key) if !key.is_empty() => Some(key),
        _ => {
            let (scheme, key) = text(AUTHORIZATION.as_str())?.split_once(' ')?;
            let is_known = schemes.iter().any(|known| scheme.eq_ignore_ascii_case(known));
            is_known.then(|| key.trim())
        }
    }
}

fn query_key(head: &Parts) -> Option<String> {
    let query = head.uri.query()?;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "api_key").map(|(_, key)| key.into_owned())
}
