/// Why a connection ended: the one source of its close code, its log field and its metric label.
///
/// A client protocol maps it to a code of its own (`protocol/<name>/code.rs`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client closed with a close frame of its own.
    ByClient {
        /// What it says; `None` if it says nothing.
        code: Option<u16>,
    },
    /// The transport ended without a close frame.
    ConnectionLost,
    /// The node stops.
    Shutdown,
    /// Other nodes have far fewer clients than this one.
    Rebalance,
    /// It lived as long as a connection may.
    Lifetime,
    /// No pong came back in time.
    NoPong,
    /// More was queued for the client than it may hold up.
    SlowConsumer,
    /// The socket took nothing for longer than the write timeout.
    WriteTimeout,
    /// The client did not authenticate in time.
    Stale,
    /// The client broke its protocol.
    BadRequest,
    /// The token does not verify.
    InvalidToken,
    /// The token was good once; the connection outlived it.
    Expired,
    /// The token was revoked.
    Revoked,
    /// It missed something that cannot be made good within the connection.
    InsufficientState,
    /// It has more subscriptions than it may.
    ChannelLimit,
    /// The client may not connect at all.
    PermissionDenied,
    /// The client asked more often than it may.
    TooManyRequests,
    /// The server API closed it, with the code and the text of the caller.
    Disconnected {
        /// 3000–4999.
        code: u16,
        /// At most 123 bytes; not empty.
        reason: String,
    },
    /// The client did nothing but err.
    TooManyErrors,
    /// A frame broke RFC 6455.
    FrameError,
    /// A text was not UTF-8 (RFC 6455 §8.1).
    InvalidUtf8,
    /// A frame or message above the limit.
    TooBig,
    /// A kind of frame that the protocol does not use, as binary where all is text.
    UnsupportedData,
    /// Data that the client's protocol has no place for: bytes, for a client of JSON.
    InappropriateProtocol,
    /// A subscription that the server made outlived what allowed it.
    SubscriptionExpired,
    /// Its user has as many connections as it may.
    ConnectionLimit,
    /// Our own failure.
    Internal,
}

impl CloseReason {
    /// Those for which a node closes a connection by itself.
    pub const OF_NODE: [Self; 23] = [
        Self::Shutdown,
        Self::Rebalance,
        Self::Lifetime,
        Self::NoPong,
        Self::SlowConsumer,
        Self::WriteTimeout,
        Self::Stale,
        Self::BadRequest,
        Self::InvalidToken,
        Self::Expired,
        Self::Revoked,
        Self::InsufficientState,
        Self::ChannelLimit,
        Self::PermissionDenied,
        Self::TooManyRequests,
        Self::TooManyErrors,
        Self::FrameError,
        Self::InvalidUtf8,
        Self::TooBig,
        Self::UnsupportedData,
        Self::InappropriateProtocol,
        Self::SubscriptionExpired,
        Self::ConnectionLimit,
    ];

    /// Whether the client is expected to come back at once: it lost its connection, or was asked to connect again.
    /// Who closed on purpose, or was sent away, is not.
    pub fn comes_back(&self) -> bool {
        match self {
            Self::ConnectionLost
            | Self::Shutdown
            | Self::Rebalance
            | Self::Lifetime
            | Self::NoPong
            | Self::SlowConsumer
            | Self::WriteTimeout
            | Self::Expired
            | Self::SubscriptionExpired
            | Self::InsufficientState
            | Self::TooManyRequests
            | Self::Internal => true,
            // A page that goes away says 1001, whether it is loaded again or not. Without a code a program has closed
            // it: so do all SDKs when they are told to.
            Self::ByClient { code } => !matches!(code, None | Some(1000 | 3500..=3999 | 4500..=4999)),
            Self::Stale
            | Self::BadRequest
            | Self::InvalidToken
            | Self::Revoked
            | Self::ChannelLimit
            | Self::PermissionDenied
            | Self::Disconnected { .. }
            | Self::TooManyErrors
            | Self::FrameError
            | Self::InvalidUtf8
            | Self::TooBig
            | Self::UnsupportedData
            | Self::InappropriateProtocol
            | Self::ConnectionLimit => false,
        }
    }

    /// The label for metrics and the field `close.reason` of logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::ByClient { .. } => "by_client",
            Self::ConnectionLost => "connection_lost",
            Self::Shutdown => "shutdown",
            Self::Rebalance => "rebalance",
            Self::Lifetime => "lifetime",
            Self::NoPong => "no_pong",
            Self::SlowConsumer => "slow",
            Self::WriteTimeout => "write_timeout",
            Self::Stale => "stale",
            Self::BadRequest => "bad_request",
            Self::InvalidToken => "invalid_token",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::InsufficientState => "insufficient_state",
            Self::ChannelLimit => "channel_limit",
            Self::PermissionDenied => "permission_denied",
            Self::TooManyRequests => "too_many_requests",
            Self::Disconnected { .. } => "disconnected",
            Self::TooManyErrors => "too_many_errors",
            Self::FrameError => "frame_error",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::TooBig => "too_big",
            Self::UnsupportedData => "unsupported_data",
            Self::InappropriateProtocol => "inappropriate_protocol",
            Self::SubscriptionExpired => "subscription_expired",
            Self::ConnectionLimit => "connection_limit",
            Self::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lost_its_connection_or_was_asked_to_connect_again_comes_back_and_nobody_else() {
        let by_client = |code| CloseReason::ByClient { code };
        let disconnected = |code| CloseReason::Disconnected { code, reason: "x".into() };
        for (reason, comes_back) in [
            (by_client(None), false),
            (by_client(Some(1000)), false),
            (by_client(Some(1001)), true),
            (by_client(Some(1011)), true),
            (by_client(Some(3000)), true),
            (by_client(Some(3499)), true),
            (by_client(Some(3500)), false),
            (by_client(Some(3999)), false),
            (by_client(Some(4000)), true),
            (by_client(Some(4499)), true),
            (by_client(Some(4500)), false),
            (by_client(Some(4999)), false),
            (CloseReason::ConnectionLost, true),
            (CloseReason::Shutdown, true),
            (CloseReason::Rebalance, true),
            (CloseReason::Lifetime, true),
            (CloseReason::NoPong, true),
            (CloseReason::SlowConsumer, true),
            (CloseReason::WriteTimeout, true),
            (CloseReason::Expired, true),
            (CloseReason::SubscriptionExpired, true),
            (CloseReason::InsufficientState, true),
            (CloseReason::TooManyRequests, true),
            (CloseReason::Internal, true),
            (CloseReason::Stale, false),
            (CloseReason::BadRequest, false),
            (CloseReason::InvalidToken, false),
            (CloseReason::Revoked, false),
            (CloseReason::ChannelLimit, false),
            (CloseReason::PermissionDenied, false),
            (disconnected(3000), false),
            (disconnected(4500), false),
            (CloseReason::TooManyErrors, false),
            (CloseReason::FrameError, false),
            (CloseReason::InvalidUtf8, false),
            (CloseReason::TooBig, false),
            (CloseReason::UnsupportedData, false),
            (CloseReason::InappropriateProtocol, false),
            (CloseReason::ConnectionLimit, false),
        ] {
            assert_eq!(reason.comes_back(), comes_back, "{reason:?}");
        }
    }
}
