//! Error and close codes of the protocol, and what of ours they stand for.

use std::borrow::Cow;

use crate::auth::Refusal;
use crate::broker::BrokerError;
use crate::model::CloseReason;
use crate::node::PublishError;
use crate::presence::PresenceError;
use crate::protocol::SubscribeError;

/// An error in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// The number that clients act on.
    pub code: u32,
    /// The same in words.
    pub message: &'static str,
    /// Whether the client should try again by itself.
    pub temporary: bool,
}

const fn error(code: u32, message: &'static str) -> Error {
    Error { code, message, temporary: false }
}

/// Something failed on our side; the client tries again.
pub const INTERNAL: Error = Error { code: 100, message: "internal server error", temporary: true };
/// The channel's namespace is not configured.
pub const UNKNOWN_CHANNEL: Error = error(102, "unknown channel");
/// Not allowed.
pub const PERMISSION_DENIED: Error = error(103, "permission denied");
/// There is a subscription to this channel already.
pub const ALREADY_SUBSCRIBED: Error = error(105, "already subscribed");
/// One subscription too many.
pub const LIMIT_EXCEEDED: Error = error(106, "limit exceeded");
/// The request makes no sense.
pub const BAD_REQUEST: Error = error(107, "bad request");
/// The feature is off.
pub const NOT_AVAILABLE: Error = error(108, "not available");
/// The token was good once.
pub const TOKEN_EXPIRED: Error = error(109, "token expired");
/// Too much is under way; the client tries again.
pub const TOO_MANY_REQUESTS: Error = Error { code: 111, message: "too many requests", temporary: true };

/// The position of the client cannot be caught up with, and the client wants nothing less.
pub const UNRECOVERABLE_POSITION: Error = error(112, "unrecoverable position");

impl Error {
    /// The label for metrics: the code.
    pub fn label(self) -> &'static str {
        match self.code {
            100 => "100",
            102 => "102",
            103 => "103",
            105 => "105",
            106 => "106",
            107 => "107",
            108 => "108",
            109 => "109",
            111 => "111",
            112 => "112",
            _ => "other",
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::BadChannel => BAD_REQUEST,
            Refusal::UnknownNamespace => UNKNOWN_CHANNEL,
            Refusal::Denied => PERMISSION_DENIED,
        }
    }
}

impl From<&BrokerError> for Error {
    fn from(error: &BrokerError) -> Self {
        match error {
            BrokerError::Unavailable | BrokerError::Refused | BrokerError::Full => INTERNAL,
        }
    }
}

impl From<&PresenceError> for Error {
    fn from(error: &PresenceError) -> Self {
        match error {
            PresenceError::Unavailable | PresenceError::Refused => INTERNAL,
        }
    }
}

impl From<&SubscribeError> for Error {
    /// A gap has no code: it closes.
    fn from(error: &SubscribeError) -> Self {
        match error {
            SubscribeError::Broker(error) => error.into(),
            SubscribeError::Presence(error) => error.into(),
            SubscribeError::Unrecoverable => UNRECOVERABLE_POSITION,
            SubscribeError::Gap(_) => INTERNAL,
        }
    }
}

impl From<&PublishError> for Error {
    fn from(error: &PublishError) -> Self {
        match error {
            PublishError::Overloaded => TOO_MANY_REQUESTS,
            PublishError::Broker(error) => error.into(),
        }
    }
}

/// The close code and text of `reason`.
///
/// The text is never empty and never JSON: SDKs look at the ranges of codes only if there is a text
/// (Centrifuge protocol, disconnect codes).
pub fn close_code(reason: &CloseReason) -> (u16, Cow<'static, str>) {
    let (code, text) = match reason {
        CloseReason::ByClient { .. } => (1000, "closed by client"),
        CloseReason::ConnectionLost => (3000, "connection closed"),
        CloseReason::Shutdown => (3001, "shutdown"),
        // As a node that stops says it: come back, to whichever node.
        CloseReason::Rebalance => (3001, "rebalance"),
        CloseReason::Lifetime => (3001, "lifetime"),
        CloseReason::Internal => (3004, "internal server error"),
        CloseReason::Expired => (3005, "connection expired"),
        CloseReason::Revoked => (3503, "token revoked"),
        CloseReason::SubscriptionExpired => (3006, "subscription expired"),
        CloseReason::SlowConsumer | CloseReason::WriteTimeout => (3008, "slow"),
        CloseReason::InsufficientState => (3010, "insufficient state"),
        CloseReason::NoPong => (3012, "no pong"),
        CloseReason::TooManyRequests => (3013, "too many requests"),
        CloseReason::InvalidToken => (3500, "invalid token"),
        CloseReason::BadRequest | CloseReason::UnsupportedData => (3501, "bad request"),
        CloseReason::Stale => (3502, "stale"),
        CloseReason::ConnectionLimit => (3504, "connection limit"),
        CloseReason::ChannelLimit => (3505, "channel limit"),
        CloseReason::InappropriateProtocol => (3506, "inappropriate protocol"),
        CloseReason::PermissionDenied => (3507, "permission denied"),
        CloseReason::TooManyErrors => (3509, "too many errors"),
        CloseReason::FrameError => (1002, "protocol error"),
        CloseReason::InvalidUtf8 => (1007, "invalid utf-8"),
        CloseReason::TooBig => (1009, "message too big"),
        CloseReason::Disconnected { code, reason } => return (*code, Cow::Owned(reason.clone())),
    };
    (code, Cow::Borrowed(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_are_those_of_the_protocol() {
        let numbers = [
            (INTERNAL, 100, true),
            (UNKNOWN_CHANNEL, 102, false),
            (PERMISSION_DENIED, 103, false),
            (ALREADY_SUBSCRIBED, 105, false),
            (LIMIT_EXCEEDED, 106, false),
            (BAD_REQUEST, 107, false),
            (NOT_AVAILABLE, 108, false),
            (TOKEN_EXPIRED, 109, false),
            (TOO_MANY_REQUESTS, 111, true),
            (UNRECOVERABLE_POSITION, 112, false),
        ];
        for (error, code, temporary) in numbers {
            assert_eq!((error.code, error.temporary), (code, temporary));
            assert_eq!(error.label(), code.to_string());
        }
    }

    #[test]
    fn close_codes_are_those_of_the_protocol() {
        let numbers = [
            (CloseReason::Shutdown, 3001),
            (CloseReason::Rebalance, 3001),
            (CloseReason::Lifetime, 3001),
            (CloseReason::Internal, 3004),
            (CloseReason::Expired, 3005),
            (CloseReason::SubscriptionExpired, 3006),
            (CloseReason::SlowConsumer, 3008),
            (CloseReason::WriteTimeout, 3008),
            (CloseReason::InsufficientState, 3010),
            (CloseReason::NoPong, 3012),
            (CloseReason::TooManyRequests, 3013),
            (CloseReason::InvalidToken, 3500),
            (CloseReason::BadRequest, 3501),
            (CloseReason::UnsupportedData, 3501),
            (CloseReason::Stale, 3502),
            (CloseReason::Revoked, 3503),
            (CloseReason::ConnectionLimit, 3504),
            (CloseReason::ChannelLimit, 3505),
            (CloseReason::InappropriateProtocol, 3506),
            (CloseReason::PermissionDenied, 3507),
            (CloseReason::TooManyErrors, 3509),
            (CloseReason::FrameError, 1002),
            (CloseReason::InvalidUtf8, 1007),
            (CloseReason::TooBig, 1009),
            (CloseReason::Disconnected { code: 4500, reason: "banned".into() }, 4500),
        ];
        for (reason, code) in numbers {
            let (number, text) = close_code(&reason);
            assert_eq!(number, code, "{reason:?}");
            assert!(!text.is_empty() && text.len() <= 123);
        }
    }
}
