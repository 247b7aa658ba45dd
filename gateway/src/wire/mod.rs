//! The WebSocket frame codec of RFC 6455: bytes in, events out; payloads in, frames out.
//!
//! Owns the framing rules: header, mask, fragments, control frames, UTF-8 of texts, close codes, the
//! limit of a message. Must not know sockets, sessions or what a payload means, and does no I/O; the
//! handshake (RFC 6455 §4) is the transport's. Enter by [`Decoder::decode`] and [`encode_frame`].
//!
//! No extension is negotiated, so any RSV bit is an error. `permessage-deflate` (RFC 7692) has its place
//! in `header.rs`, which would let RSV1 through, and where the decoder ends a message.

// Bytes of strangers come here: none of them may panic.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

mod close;
mod decoder;
mod encoder;
mod error;
mod header;
mod mask;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod support;
mod text;

pub use close::{CloseFrame, is_valid_close_code};
pub use decoder::{Decoded, Decoder, Event};
pub use encoder::{close_frame, encode_fragment, encode_frame, encode_masked_frame, frame_bytes};
pub use error::{DecodeError, Violation};

/// Which end of the connection we are. It decides which frames are masked (RFC 6455 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads masked frames, writes unmasked ones.
    Server,
    /// Reads unmasked frames, writes masked ones.
    Client,
}

/// What a frame is for (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A further fragment of the message that an earlier frame began.
    Continuation = 0x0,
    /// A UTF-8 text, or its first fragment.
    Text = 0x1,
    /// Bytes, or their first fragment.
    Binary = 0x2,
    /// The end of the conversation; the payload is empty, or a code and a reason.
    Close = 0x8,
    /// Asks for a pong with the same payload.
    Ping = 0x9,
    /// Answers a ping, or is sent unasked.
    Pong = 0xA,
}

impl Opcode {
    /// The opcode with the number `bits`; `None` for the reserved ones.
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    /// Whether the frame may stand between the fragments of a message (RFC 6455 §5.5).
    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}
