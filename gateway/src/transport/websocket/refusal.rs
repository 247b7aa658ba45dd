//! Why a handshake is refused, as an answer of constant size that repeats nothing of the request.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};

use super::OriginError;
use crate::auth::TokenError;

/// A refused handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a GET.
    #[error("only GET opens a WebSocket")]
    Method,
    /// HTTP/1.0 has no upgrade.
    #[error("HTTP/1.1 is needed")]
    HttpVersion,
    /// `Connection: Upgrade` or `Upgrade: websocket` is missing (RFC 6455 §4.2.1).
    #[error("this is a WebSocket endpoint")]
    NotAnUpgrade,
    /// `Sec-WebSocket-Version` is not 13 (RFC 6455 §4.2.2).
    #[error("only version 13 of the WebSocket protocol is spoken")]
    Version,
    /// `Sec-WebSocket-Key` is not 16 bytes in base64.
    #[error("Sec-WebSocket-Key is missing, doubled or malformed")]
    Key,
    /// `Sec-WebSocket-Protocol` is too long or malformed.
    #[error("Sec-WebSocket-Protocol is too long or malformed")]
    SubProtocol,
    /// `Host` is doubled, or the request has a body.
    #[error("the request is malformed")]
    Malformed,
    /// The URI is above its limit.
    #[error("the URI is too long")]
    UriTooLong,
    /// A parameter that may come once came twice.
    #[error("a parameter of the query is doubled")]
    DuplicateParameter,
    /// The page may not connect.
    #[error("this origin may not connect")]
    Origin,
    /// More than one token.
    #[error("more than one token in one handshake")]
    TwoTokens,
    /// No token where one is needed.
    #[error("a token is needed")]
    NoToken,
    /// The token does not verify.
    #[error("the token is not accepted")]
    Token(TokenError),
}

impl From<OriginError> for Refusal {
    fn from(_: OriginError) -> Self {
        Self::Origin
    }
}

impl Refusal {
    /// Every one that is not about what is in a token.
    pub const ALL_BUT_TOKENS: [Self; 12] = [
        Self::Method,
        Self::HttpVersion,
        Self::NotAnUpgrade,
        Self::Version,
        Self::Key,
        Self::SubProtocol,
        Self::Malformed,
        Self::UriTooLong,
        Self::DuplicateParameter,
        Self::Origin,
        Self::TwoTokens,
        Self::NoToken,
    ];

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Token(error) => error.label(),
            other => other.code(),
        }
    }

    /// The machine-readable reason, from a closed set.
    pub fn code(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::HttpVersion => "http_version",
            Self::NotAnUpgrade => "not_an_upgrade",
            Self::Version => "version",
            Self::Key => "key",
            Self::SubProtocol => "sub_protocol",
            Self::Malformed => "malformed",
            Self::UriTooLong => "uri_too_long",
            Self::DuplicateParameter => "duplicate_parameter",
            Self::Origin => "origin",
            Self::TwoTokens => "two_tokens",
            Self::NoToken => "no_token",
            Self::Token(error) => error.reason(),
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::NotAnUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Key | Self::SubProtocol | Self::Malformed | Self::DuplicateParameter | Self::TwoTokens => {
                StatusCode::BAD_REQUEST
            }
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::NoToken | Self::Token(_) => StatusCode::UNAUTHORIZED,
        }
    }

    /// The answer. The connection closes after it: what else was sent is not looked at.
    pub(super) fn into_response(self) -> Response<Body> {
        let body = format!(r#"{{"code":"{}","message":"{self}"}}"#, self.code());
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        match self {
            Self::Method => headers.insert(header::ALLOW, HeaderValue::from_static("GET")),
            Self::NotAnUpgrade => headers.insert(header::UPGRADE, HeaderValue::from_static("websocket")),
            Self::Version => headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
            Self::NoToken | Self::Token(_) => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            _ => None,
        };
        response
    }
}
