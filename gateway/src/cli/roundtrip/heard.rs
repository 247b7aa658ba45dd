use std::fmt;
use std::io;

use serde_json::Value;
use tokio_tungstenite::tungstenite;

use crate::tls::client::HandshakeFailure;

/// One step of the way, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A connection to the public port.
    Reach,
    /// The handshake of TLS, where the address wants it.
    Protect,
    /// Its upgrade to a WebSocket.
    Upgrade,
    /// The command `connect`, with the token.
    Connect,
    /// The command `subscribe`.
    Subscribe,
    /// The request to the server API.
    Publish,
    /// The publication comes back.
    Receive,
}

impl Step {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Reach => "reach",
            Self::Protect => "tls",
            Self::Upgrade => "upgrade",
            Self::Connect => "connect",
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::Receive => "receive",
        }
    }
}

/// What was heard instead of what should have been. Never holds a token or a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing, in time.
    Nothing,
    /// No machine has that name.
    NoSuchHost,
    /// Nobody listens there.
    ConnectionRefused,
    /// The end of the connection.
    TheEnd,
    /// Nothing came of the handshake of TLS.
    Handshake(HandshakeFailure),
    /// What the network says.
    Network(String),
    /// An HTTP status, and why.
    Status(u16, String),
    /// A close frame.
    Close(u16, String),
    /// The error of a command.
    Error(u64, String),
    /// Something else than the protocol has.
    Nonsense,
}

impl fmt::Display for Heard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => formatter.write_str("no answer in time"),
            Self::NoSuchHost => formatter.write_str("there is no host of that name"),
            Self::ConnectionRefused => formatter.write_str("connection refused"),
            Self::TheEnd => formatter.write_str("the connection was ended"),
            Self::Handshake(failure) => failure.fmt(formatter),
            Self::Network(error) => formatter.write_str(error),
            Self::Status(status, reason) if reason.is_empty() => write!(formatter, "HTTP status {status}"),
            Self::Status(status, reason) => write!(formatter, "HTTP status {status}: {reason}"),
            Self::Close(code, reason) => write!(formatter, "closed with {code} {reason}"),
            Self::Error(code, message) => write!(formatter, "error {code}: {message}"),
            Self::Nonsense => formatter.write_str("an answer that is not of the protocol"),
        }
    }
}

impl From<io::Error> for Heard {
    fn from(error: io::Error) -> Self {
        if let Some(failure) = HandshakeFailure::of(&error) {
            return Self::Handshake(failure);
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Nothing,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                Self::TheEnd
            }
            // Of the resolver, whose errors have no kind of their own.
            _ if error.to_string().contains("failed to lookup address") => Self::NoSuchHost,
            _ => Self::Network(error.to_string()),
        }
    }
}

impl From<tungstenite::Error> for Heard {
    fn from(error: tungstenite::Error) -> Self {
        use tungstenite::error::ProtocolError::{HandshakeIncomplete, ResetWithoutClosingHandshake};
        match error {
            tungstenite::Error::Io(error) => error.into(),
            tungstenite::Error::Http(response) => {
                let body = response.body().as_deref().unwrap_or_default();
                Self::Status(response.status().as_u16(), reason_in(body))
            }
            tungstenite::Error::ConnectionClosed
            | tungstenite::Error::AlreadyClosed
            | tungstenite::Error::Protocol(HandshakeIncomplete | ResetWithoutClosingHandshake) => {
                Self::TheEnd
            }
            _ => Self::Nonsense,
        }
    }
}

impl From<ureq::Error> for Heard {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Io(error) => error.into(),
            ureq::Error::Timeout(_) => Self::Nothing,
            ureq::Error::HostNotFound => Self::NoSuchHost,
            ureq::Error::Protocol(_) => Self::Nonsense,
            error => Self::Network(error.to_string()),
        }
    }
}

/// The `message` or the `detail` of a refusal, if it has one.
pub(super) fn reason_in(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let words = [&body["message"], &body["detail"], &body["title"]].into_iter().find_map(Value::as_str);
    words.unwrap_or_default().to_owned()
}
