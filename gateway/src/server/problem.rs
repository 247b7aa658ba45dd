//! Why a request was not carried out, in HTTP's own terms.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::cluster::{RegistryError, RevokeError};

/// Why a request was not carried out, as `application/problem+json` (RFC 9457). No value of the request is repeated,
/// but what is no filter of the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    /// The body is not what it must be; the text says what.
    #[error("{0}")]
    Malformed(String),
    /// No good key in a header.
    #[error("a key is needed, in X-API-Key or as Authorization: Bearer")]
    Unauthorized,
    /// The key has not the scope.
    #[error("the scopes of the key do not allow it")]
    Forbidden,
    /// Another verb than those.
    #[error("only {0} is answered here")]
    Method(&'static str),
    /// The body did not come in time.
    #[error("the body did not come in time")]
    Timeout,
    /// The body is above the limit.
    #[error("the body is larger than api.body_bytes_max")]
    TooLarge,
    /// The body is of another kind.
    #[error("the body must be application/json")]
    ContentType,
    /// This node did it, but it is not known of others, or not for good.
    #[error("this node has done it, others may not have; try again")]
    Unavailable,
    /// The process was started by something that has a log of its own.
    #[error("this node does not write its log by itself")]
    NoLog,
    /// One profile at a time.
    #[error("a profile is being taken; ask again when it is there")]
    Busy,
    /// The profiler has nowhere to write.
    #[error("the profiler cannot start; it needs a directory for temporary files, which TMPDIR names")]
    NoProfile,
    /// There is no room to remember it, and no other node was told.
    #[error("no other node was told, because there is no room to remember it")]
    Full,
}

/// RFC 9457 §3.1; without a `type` of its own the title is that of the status (§4.2.1).
#[derive(Serialize)]
struct Details<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: String,
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoLog => StatusCode::NOT_FOUND,
            Self::Busy => StatusCode::CONFLICT,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unavailable | Self::NoProfile => StatusCode::SERVICE_UNAVAILABLE,
            Self::Full => StatusCode::INSUFFICIENT_STORAGE,
        }
    }

    /// For metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::ContentType | Self::Method(_) => "malformed",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Unavailable | Self::NoProfile => "unavailable",
            Self::Full => "full",
            Self::NoLog => "no_log",
            Self::Busy => "busy",
        }
    }
}

impl From<RevokeError> for Problem {
    fn from(error: RevokeError) -> Self {
        match error {
            RevokeError::Registry(RegistryError::Full) => Self::Full,
            RevokeError::Registry(RegistryError::Unavailable) | RevokeError::Unheard(_) => Self::Unavailable,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let details = Details {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: self.to_string(),
        };
        let body = serde_json::to_vec(&details).expect("it has string keys only");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self {
            // RFC 9110 §11.6.1, §15.5.6 and §10.2.3.
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer, apikey"))
            }
            Self::Method(allowed) => headers.insert(header::ALLOW, HeaderValue::from_static(allowed)),
            Self::Unavailable => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")),
            _ => None,
        };
        response
    }
}
