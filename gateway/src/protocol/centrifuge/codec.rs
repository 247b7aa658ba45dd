//! Bytes to commands, replies and pushes to bytes: the same messages in JSON and in Protobuf.

pub mod json;
pub mod protobuf;
mod roster;

use std::sync::Arc;

use super::command::{Command, Malformed};
use super::push::Push;
use super::reply::Reply;
use crate::model::ClientInfo;
use crate::protocol::{Drawn, Encoding, FrameKind, Framing, Heartbeat, Inappropriate, Message};

/// How the messages of one connection are written. Fixed for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// A line of text for each message.
    Json,
    /// Bytes, each message after its length.
    Protobuf,
}

impl Codec {
    /// The name for metrics and logs of a client that speaks it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "centrifuge_json",
            Self::Protobuf => "centrifuge_protobuf",
        }
    }

    /// How messages become frames.
    pub fn framing(self) -> Framing {
        match self {
            Self::Json => Framing::Lines,
            Self::Protobuf => Framing::Binary,
        }
    }

    /// The form in which publications are written.
    pub fn encoding(self) -> Encoding {
        match self {
            Self::Json => Encoding::CentrifugeJson,
            Self::Protobuf => Encoding::CentrifugeProtobuf,
        }
    }

    /// The message without any content, which is a ping.
    pub fn heartbeat(self) -> Heartbeat {
        match self {
            Self::Json => Heartbeat::Text("{}"),
            Self::Protobuf => Heartbeat::Binary(&[0]),
        }
    }

    /// Reads the commands of one frame and gives each to `each`; what cannot be read ends it.
    ///
    /// A frame without any command is malformed. Whether it came as text or as binary is not looked at
    /// (Centrifuge protocol, WebSocket).
    pub fn read(self, message: Message<'_>, mut each: impl FnMut(Result<Command, Malformed>)) {
        match (self, message) {
            (Self::Json, Message::Text(text)) => json::read::lines(text, &mut each),
            (Self::Json, Message::Binary(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => json::read::lines(text, &mut each),
                Err(_) => each(Err(Malformed)),
            },
            (Self::Protobuf, Message::Text(text)) => protobuf::read::messages(text.as_bytes(), &mut each),
            (Self::Protobuf, Message::Binary(bytes)) => protobuf::read::messages(bytes, &mut each),
        }
    }

    /// Writes the reply to the command `id`; without an id the field is left out.
    ///
    /// # Errors
    /// [`Inappropriate`] for a publication whose data this codec has no way to write.
    pub fn reply(self, id: u32, reply: &Reply) -> Result<Vec<u8>, Inappropriate> {
        match self {
            Self::Json => json::write::reply(id, reply),
            Self::Protobuf => Ok(protobuf::write::reply(id, reply)),
        }
    }

    /// Writes the reply to a `presence` in pieces.
    pub fn presence(self, id: u32, members: Vec<Arc<ClientInfo>>) -> Drawn {
        // The list, and the piece that comes next: what it lists is shared with the presence.
        let held_bytes = members.len() * size_of::<Arc<ClientInfo>>() + roster::PIECE_BYTES;
        match self {
            Self::Json => {
                let pieces = Box::new(json::write::presence_pieces(id, members));
                Drawn { kind: FrameKind::Text, pieces, held_bytes }
            }
            Self::Protobuf => {
                let pieces = Box::new(protobuf::write::presence_pieces(id, members));
                Drawn { kind: FrameKind::Binary, pieces, held_bytes }
            }
        }
    }

    /// Writes a push.
    ///
    /// # Errors
    /// [`Inappropriate`] for a publication whose data this codec has no way to write.
    pub fn push(self, push: &Push<'_>) -> Result<Vec<u8>, Inappropriate> {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::Json => json::write::push(push, &mut out)?,
            Self::Protobuf => protobuf::write::push(push, &mut out),
        }
        Ok(out)
    }
}
