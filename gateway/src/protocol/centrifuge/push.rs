//! What the gateway says unasked, as values.

use std::time::SystemTime;

use super::code::Error;
use super::reply::Begun;
use crate::model::{Channel, ClientId, Publication};

/// The version that the gateway tells clients.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One push.
#[derive(Clone, Copy, Debug)]
pub enum Push<'a> {
    /// Something was published.
    Publication(&'a Channel, &'a Publication),
    /// The server subscribed the client. It has no place for publications.
    Subscribe(&'a Channel, &'a Begun),
    /// A subscription ended.
    Unsubscribe(&'a Channel, Ended),
    /// The connection is good until then; `None`: for ever.
    Refresh(Option<SystemTime>),
    /// The first push of the bare form: each requested channel as subscribed or refused, with its code.
    Connect(ClientId, &'a [(String, Result<Begun, Error>)]),
}

/// Why a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The server ended it; the client does not undo that by itself.
    ByServer,
    /// The client missed something; it subscribes again and recovers.
    InsufficientState,
    /// It was not refreshed in time; the client subscribes again.
    Expired,
}

impl Ended {
    /// The code and the text of the push (Centrifuge protocol, unsubscribe codes).
    pub fn code(self) -> (u32, &'static str) {
        match self {
            Self::ByServer => (2000, "server unsubscribe"),
            Self::InsufficientState => (2500, "insufficient state"),
            Self::Expired => (2501, "subscription expired"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsubscribe_codes_are_those_of_the_protocol() {
        for (ended, code) in
            [(Ended::ByServer, 2000), (Ended::InsufficientState, 2500), (Ended::Expired, 2501)]
        {
            assert_eq!(ended.code().0, code);
            assert!(!ended.code().1.is_empty());
        }
    }
}
