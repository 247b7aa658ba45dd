//! A reply to `presence` that is written in pieces, so that thousands of members neither fill an outbox nor keep a
//! thread.

use std::sync::Arc;
use std::vec::IntoIter;

use crate::model::ClientInfo;

/// About how many bytes a piece has.
pub(super) const PIECE_BYTES: usize = 16 << 10;

/// The pieces of one reply, made as they are asked for.
pub(super) struct Roster {
    /// What comes before the first member; taken by the first piece.
    head: Vec<u8>,
    members: IntoIter<Arc<ClientInfo>>,
    write_member: fn(&ClientInfo, &mut Vec<u8>),
    separator: &'static [u8],
    tail: &'static [u8],
    has_member: bool,
    is_done: bool,
}

impl Roster {
    /// `head`, then each of `members` as `write_member` writes it, with `separator` between them, then `tail`.
    pub(super) fn new(
        head: Vec<u8>,
        members: Vec<Arc<ClientInfo>>,
        write_member: fn(&ClientInfo, &mut Vec<u8>),
        (separator, tail): (&'static [u8], &'static [u8]),
    ) -> Self {
        let members = members.into_iter();
        Self { head, members, write_member, separator, tail, has_member: false, is_done: false }
    }
}

impl Iterator for Roster {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.is_done {
            return None;
        }
        let mut piece = std::mem::take(&mut self.head);
        while piece.len() < PIECE_BYTES {
            let Some(member) = self.members.next() else {
                piece.extend_from_slice(self.tail);
                self.is_done = true;
                break;
            };
            if std::mem::replace(&mut self.has_member, true) {
                piece.extend_from_slice(self.separator);
            }
            (self.write_member)(&member, &mut piece);
        }
        Some(piece)
    }
}
