use super::Opcode;

/// Why the bytes of the other end cannot be decoded any further. The connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A frame breaks the rules of RFC 6455.
    #[error("protocol violation: {0}")]
    Protocol(#[from] Violation),
    /// A text message or the reason of a close frame is not UTF-8 (RFC 6455 §8.1).
    #[error("text is not UTF-8")]
    InvalidUtf8,
    /// A message, or what its header announces, exceeds the limit.
    #[error("message exceeds the limit of {message_bytes_max} bytes")]
    TooBig {
        /// The limit that the decoder was made with.
        message_bytes_max: usize,
    },
}

impl DecodeError {
    /// The code to close the connection with (RFC 6455 §7.4.1): 1002, 1007 or 1009.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::InvalidUtf8 => 1007,
            Self::TooBig { .. } => 1009,
        }
    }
}

/// The rule of RFC 6455 that a frame broke. For the log: they all end with the code 1002.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RSV1, RSV2 or RSV3 without an extension that gives it a meaning (§5.2).
    #[error("reserved bit is set")]
    ReservedBit,
    /// An opcode that has no meaning yet (§5.2).
    #[error("opcode is reserved")]
    ReservedOpcode,
    /// A client must mask (§5.1).
    #[error("frame of a client is not masked")]
    Unmasked,
    /// A server must not mask (§5.1).
    #[error("frame of a server is masked")]
    Masked,
    /// A control frame without FIN (§5.5).
    #[error("{0:?} frame is fragmented")]
    FragmentedControl(Opcode),
    /// A control frame of more than 125 bytes (§5.5).
    #[error("{0:?} frame is longer than 125 bytes")]
    LongControl(Opcode),
    /// A length written in more bytes than it needs, or of 2^63 and more (§5.2).
    #[error("length is not encoded as it must be")]
    BadLength,
    /// A continuation while no message is being sent in fragments (§5.4).
    #[error("continuation of no message")]
    NothingToContinue,
    /// A new message before the last fragment of the one under way (§5.4).
    #[error("new message inside a fragmented one")]
    UnfinishedMessage,
    /// A close frame with half a code (§5.5.1).
    #[error("close frame of one byte")]
    HalfCloseCode,
    /// A close frame with a code that must not be sent (§7.4).
    #[error("close code {0} must not be sent")]
    InvalidCloseCode(u16),
}
