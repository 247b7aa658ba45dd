//! A run of publications of one channel as frames: what one subscriber is offered in one piece.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;

use crate::model::{ClientId, Publication};
use crate::node::{Cargo, Delivery};
use crate::protocol::{Encoding, FrameKind, Inappropriate};
use crate::wire::{self, Opcode};

/// The tag that says which publications are about the same thing.
const KEY_TAG: &str = "key";

/// The frames of publications, or of notices, one after another.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) bytes: Bytes,
    /// How many publications they are; 0 for notices.
    pub(super) count: usize,
    /// Where each of them is; empty if they can only be dropped together, with the connection.
    parts: Vec<Part>,
}

/// The frame of one publication.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// The same for publications of the same key.
    pub(super) slot: u64,
    /// Its bytes are a part of a larger piece, which is in memory for as long as any of its parts.
    pub(super) is_shared: bool,
}

#[derive(Debug)]
struct Part {
    end: usize,
    slot: u64,
}

/// Which publications of a batch are meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selection {
    /// Those after this offset; 0 for all, with those that are in no history.
    pub(super) after: u64,
    /// Those for this connection; `None` if all are for everybody.
    pub(super) client: Option<ClientId>,
}

impl Selection {
    /// Whether nothing is left out.
    pub(super) fn is_all(self) -> bool {
        self.after == 0 && self.client.is_none()
    }

    pub(super) fn covers(&self, publication: &Publication) -> bool {
        (self.after == 0 || publication.offset > self.after)
            && self.client.is_none_or(|client| publication.is_for(client))
    }
}

impl Run {
    /// Encodes what `selection` says of `batch`, and notices whatever it says. With `slots`, so that a part can be
    /// dropped; they have to be the same for all runs of a connection. Empty if the form has no such thing.
    ///
    /// # Errors
    /// [`Inappropriate`] if the data of a publication has no place in this form.
    pub(super) fn encode(
        encoding: Encoding,
        batch: &[Delivery],
        selection: Selection,
        slots: Option<&RandomState>,
    ) -> Result<Self, Inappropriate> {
        let (mut payload, mut bytes) = (Vec::new(), Vec::new());
        let (mut count, mut parts) = (0, Vec::new());
        for delivery in batch {
            if let Cargo::Notice(notice) = &delivery.cargo {
                payload.clear();
                if let Some(kind) = encoding.encode_notice(&delivery.channel, notice, &mut payload) {
                    wire::encode_frame(opcode(kind), &payload, &mut bytes);
                }
            }
            for publication in delivery.publications().iter().filter(|one| selection.covers(one)) {
                payload.clear();
                let kind = encoding.encode(&delivery.channel, publication, &mut payload)?;
                wire::encode_frame(opcode(kind), &payload, &mut bytes);
                count += 1;
                if let Some(slots) = slots {
                    let slot = slots.hash_one(publication.tags.get(KEY_TAG));
                    parts.push(Part { end: bytes.len(), slot });
                }
            }
        }
        Ok(Self { bytes: bytes.into(), count, parts })
    }

    /// Each publication from the byte `start` on, or the rest of it.
    pub(super) fn pieces(&self, start: usize) -> impl Iterator<Item = Piece> {
        let begins = std::iter::once(0).chain(self.parts.iter().map(|part| part.end));
        let parts = self.parts.iter().zip(begins).filter(move |(part, _)| part.end > start);
        parts.map(move |(part, begin)| Piece {
            bytes: self.bytes.slice(begin.max(start)..part.end),
            slot: part.slot,
            is_shared: self.parts.len() > 1,
        })
    }

    /// How many bytes the [`pieces`](Self::pieces) from `start` on have together.
    pub(super) fn pieces_bytes(&self, start: usize) -> usize {
        self.parts.last().map_or(0, |last| last.end.saturating_sub(start))
    }

    /// Whether a publication begins or ends at the byte `at`.
    pub(super) fn is_between_frames(&self, at: usize) -> bool {
        at == 0 || self.parts.binary_search_by_key(&at, |part| part.end).is_ok()
    }
}

fn opcode(kind: FrameKind) -> Opcode {
    match kind {
        FrameKind::Text => Opcode::Text,
        FrameKind::Binary => Opcode::Binary,
    }
}
