//! Why a connection did not come to be, or ended.

use std::fmt;
use std::io;
use std::time::Duration;

/// Why a client is not connected, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There was no TCP connection, or it broke.
    Io(io::ErrorKind, String),
    /// The upgrade was answered by another status of HTTP than 101.
    Refused {
        /// The status.
        status: u16,
        /// Of `Retry-After`, if the server says it.
        retry_after: Option<Duration>,
    },
    /// A command was answered by an error of the protocol.
    Rejected {
        /// `connect` or `subscribe`.
        command: &'static str,
        /// The code of the error.
        code: u32,
        /// What it is called.
        message: String,
    },
    /// The server closed with a close frame.
    Closed {
        /// Its code; 1005 if there was none.
        code: u16,
        /// What the server says of it.
        reason: String,
    },
    /// The server hung up without a close frame.
    HungUp,
    /// There was no answer in time.
    Silent(Duration),
    /// The server said something that is against the protocol, or not understood here.
    Broken(String),
    /// The client hung up, because it was told to.
    Left,
}

impl Trouble {
    /// What it is counted as: the same words for the same kind.
    pub fn kind(&self) -> String {
        match self {
            Self::Closed { code, .. } => format!("close {code}"),
            Self::Broken(_) => "against the protocol".to_owned(),
            other => other.to_string(),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind(), error.to_string())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(_, words) => write!(formatter, "{words}"),
            Self::Refused { status, retry_after: None } => {
                write!(formatter, "the upgrade was answered with {status}")
            }
            Self::Refused { status, retry_after: Some(_) } => {
                write!(formatter, "the upgrade was answered with {status} and Retry-After")
            }
            Self::Rejected { command, code, message } => {
                write!(formatter, "{command} was answered with error {code} ({message})")
            }
            Self::Closed { code, reason } => write!(formatter, "closed by the server with {code} ({reason})"),
            Self::HungUp => write!(formatter, "the server hung up without a close frame"),
            Self::Silent(limit) => {
                write!(formatter, "no answer within {}", humantime::format_duration(*limit))
            }
            Self::Broken(words) => write!(formatter, "{words}"),
            Self::Left => write!(formatter, "it was told to leave"),
        }
    }
}

impl std::error::Error for Trouble {}
