//! What is said to somebody who is sent away.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};

/// Why somebody is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The node is stopping; there are others.
    #[error("the node is stopping")]
    Stopping,
    /// Its turn would come too late.
    #[error("too many clients come at the same time")]
    Rate,
    /// The node has as many connections as it may.
    #[error("the node has as many connections as it may")]
    ConnectionsMax,
    /// The process has little memory left.
    #[error("the node is short of memory")]
    Memory,
    /// The process, or the system, has no file left.
    #[error("the node is short of files")]
    Files,
    /// Its address comes too often.
    #[error("too many handshakes from this address")]
    AddressRate,
    /// Its address has as many connections as it may.
    #[error("too many connections from this address")]
    AddressConnectionsMax,
    /// The internal listener has as many connections as it may.
    #[error("too many connections at a time")]
    InternalConnectionsMax,
    /// The head of its request did not come in time.
    #[error("the head of the request did not come in time")]
    HeaderTimeout,
    /// It does not speak TLS to a listener of TLS, or not well enough.
    #[error("this port speaks TLS: use https or wss")]
    Tls,
    /// It came without TLS, to this node or to a proxy before it.
    #[error("TLS is required: use wss")]
    TlsRequired,
}

impl Reason {
    /// The machine-readable reason; also the label in metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::Rate => "rate",
            Self::ConnectionsMax => "connections_max",
            Self::Memory => "memory",
            Self::Files => "files",
            Self::AddressRate => "address_rate",
            Self::AddressConnectionsMax => "address_connections_max",
            Self::InternalConnectionsMax => "internal_connections_max",
            Self::HeaderTimeout => "header_timeout",
            Self::Tls => "tls",
            Self::TlsRequired => "tls_required",
        }
    }

    /// Whether it is about the address of the client and not about this node.
    pub(super) fn is_of_address(self) -> bool {
        matches!(self, Self::AddressRate | Self::AddressConnectionsMax)
    }

    fn status(self) -> StatusCode {
        match self {
            Self::HeaderTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Tls => StatusCode::BAD_REQUEST,
            Self::TlsRequired => StatusCode::FORBIDDEN,
            _ if self.is_of_address() => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// An answer to somebody who is sent away: 503, 429 if it is about its address, 400 or 403 if it should
/// speak TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// When to come again, in seconds; 0: not in this way.
    pub retry_after: u64,
}

impl Refusal {
    fn body(self) -> String {
        let Self { reason, .. } = self;
        format!(r#"{{"code":"{}","message":"{reason}"}}"#, reason.code())
    }

    /// The whole response, for a socket on which nobody speaks HTTP.
    pub(super) fn to_text(self) -> String {
        let (status, body) = (self.reason.status(), self.body());
        let retry_after = match self.retry_after {
            0 => String::new(),
            seconds => format!("retry-after: {seconds}\r\n"),
        };
        format!(
            "HTTP/1.1 {status}\r\n{retry_after}content-type: application/json\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\nconnection: close\r\n\r\n{body}",
            body.len(),
        )
    }

    /// The response to a request that was read. The connection closes after it.
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.reason.status();
        let headers = response.headers_mut();
        if self.retry_after > 0 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after));
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_when_to_come_again_and_why() {
        let text = Refusal { reason: Reason::Rate, retry_after: 7 }.to_text();
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\n"), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{text}");
        assert!(body.starts_with(r#"{"code":"rate","#), "{text}");
        let text = Refusal { reason: Reason::AddressRate, retry_after: 1 }.to_text();
        assert!(text.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{text}");
    }
}
