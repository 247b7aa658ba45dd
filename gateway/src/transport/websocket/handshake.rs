//! The opening handshake of RFC 6455 §4.2, checked to the letter.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use axum::body::Body;
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Acceptance, Refusal};

/// RFC 6455 §1.3.
const KEY_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longest URI, path and query together; a token is at most 4 KiB of it.
const URI_BYTES_MAX: usize = 8 << 10;
/// Longest `Sec-WebSocket-Protocol`, all of its headers together; it may carry a token.
const SUB_PROTOCOLS_BYTES_MAX: usize = 6 << 10;
/// Most sub-protocols that may be offered.
const SUB_PROTOCOLS_MAX: usize = 16;

/// The decoded query, in its order.
pub(super) type Query = Vec<(String, String)>;

/// A request that asks for a WebSocket in the proper form.
#[derive(Debug)]
pub(super) struct Handshake {
    accept: String,
    pub(super) sub_protocols: Vec<String>,
}

impl Handshake {
    /// # Errors
    /// [`Refusal`] with the first rule that the request breaks.
    pub(super) fn parse(request: &Request<Body>) -> Result<Self, Refusal> {
        let headers = request.headers();
        if request.method() != Method::GET {
            return Err(Refusal::Method);
        }
        if request.version() != Version::HTTP_11 {
            return Err(Refusal::HttpVersion);
        }
        if request.uri().path_and_query().is_some_and(|path| path.as_str().len() > URI_BYTES_MAX) {
            return Err(Refusal::UriTooLong);
        }
        if headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING) {
            return Err(Refusal::Malformed);
        }
        let has_upgrade =
            lists(headers, &header::CONNECTION, "upgrade") && lists(headers, &header::UPGRADE, "websocket");
        if !has_upgrade {
            return Err(Refusal::NotAnUpgrade);
        }
        if single(headers, &header::SEC_WEBSOCKET_VERSION) != Some("13") {
            return Err(Refusal::Version);
        }
        let key = single(headers, &header::SEC_WEBSOCKET_KEY).ok_or(Refusal::Key)?;
        let decoded = STANDARD.decode(key).map_err(|_| Refusal::Key)?;
        if decoded.len() != 16 {
            return Err(Refusal::Key);
        }
        Ok(Self { accept: accept_key(key), sub_protocols: sub_protocols(headers)? })
    }

    /// 101, with the sub-protocol that was selected of those that were offered; `None` for none of them.
    pub(super) fn accept(
        &self,
        sub_protocol: Option<&'static str>,
        acceptance: Acceptance,
    ) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let accept = HeaderValue::from_str(&self.accept).expect("base64 is valid in a header");
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(spoken) = sub_protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(spoken));
        }
        response.extensions_mut().insert(acceptance);
        response
    }
}

/// RFC 6455 §4.2.2, item 5.4.
fn accept_key(key: &str) -> String {
    let challenge = [key.as_bytes(), KEY_GUID].concat();
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &challenge))
}

/// The value of a header that may come once; `None` if it is missing, doubled or not text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok().map(str::trim)
}

/// Whether the comma-separated values of a header hold `token`, in any case.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

fn sub_protocols(headers: &HeaderMap) -> Result<Vec<String>, Refusal> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let total: usize = values.iter().map(HeaderValue::len).sum();
    if total > SUB_PROTOCOLS_BYTES_MAX {
        return Err(Refusal::SubProtocol);
    }
    let mut found = Vec::new();
    for value in values {
        let value = value.to_str().map_err(|_| Refusal::SubProtocol)?;
        for item in value.split(',').map(str::trim) {
            if item.is_empty() || !item.bytes().all(is_token_byte) || found.len() == SUB_PROTOCOLS_MAX {
                return Err(Refusal::SubProtocol);
            }
            found.push(item.to_owned());
        }
    }
    Ok(found)
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The query, decoded.
///
/// # Errors
/// [`Refusal::Malformed`] if a value is not UTF-8 after decoding.
pub(super) fn query(uri: &Uri) -> Result<Query, Refusal> {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let owned = |text: Cow<'_, str>| {
        // The parser replaces what is not UTF-8, which would turn one channel into another.
        if text.contains(char::REPLACEMENT_CHARACTER) {
            Err(Refusal::Malformed)
        } else {
            Ok(text.into_owned())
        }
    };
    pairs.map(|(name, value)| Ok((owned(name)?, owned(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    fn request(change: impl FnOnce(&mut HeaderMap)) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        let headers = request.headers_mut();
        for (name, value) in [
            ("host", "a.example"),
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        change(headers);
        request
    }

    fn refusal(change: impl FnOnce(&mut HeaderMap)) -> Option<Refusal> {
        Handshake::parse(&request(change)).err()
    }

    #[test]
    fn a_proper_handshake_passes() {
        assert_eq!(refusal(|_| {}), None);
    }

    #[test]
    fn each_broken_rule_is_named() {
        let set = |name: &'static str, value: &'static str| {
            refusal(move |headers| {
                headers.insert(name, HeaderValue::from_static(value));
            })
        };
        assert_eq!(set("connection", "keep-alive"), Some(Refusal::NotAnUpgrade));
        assert_eq!(set("upgrade", "h2c"), Some(Refusal::NotAnUpgrade));
        assert_eq!(set("sec-websocket-version", "12"), Some(Refusal::Version));
        assert_eq!(set("sec-websocket-key", "abc"), Some(Refusal::Key));
        assert_eq!(set("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ"), Some(Refusal::Key));
        assert_eq!(set("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZSE="), Some(Refusal::Key));
        assert_eq!(set("content-length", "0"), Some(Refusal::Malformed));
        assert_eq!(set("transfer-encoding", "chunked"), Some(Refusal::Malformed));
        assert_eq!(set("sec-websocket-protocol", "a,,b"), Some(Refusal::SubProtocol));
        assert_eq!(set("sec-websocket-protocol", "a b"), Some(Refusal::SubProtocol));
        let doubled = refusal(|headers| {
            headers.append("sec-websocket-key", HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        });
        assert_eq!(doubled, Some(Refusal::Key));
        for offered in ["a,".repeat(1_000) + "a", "x".repeat(10_000)] {
            let refused = refusal(|headers| {
                headers.insert("sec-websocket-protocol", offered.parse().unwrap());
            });
            assert_eq!(refused, Some(Refusal::SubProtocol));
        }
    }

    #[test]
    fn a_query_that_is_not_utf8_is_malformed() {
        assert_eq!(query(&"/ws?channel=%ff".parse().unwrap()), Err(Refusal::Malformed));
        let pairs = query(&"/ws?channel=a%2Cb&x=%C3%A9".parse().unwrap()).unwrap();
        assert_eq!(pairs, [("channel".into(), "a,b".into()), ("x".into(), "é".into())]);
    }
}
