//! What a connection says: what its conversation said is framed and offered, and what waits is written.

use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Connection;
use crate::model::CloseReason;
use crate::protocol::{Drawn, Framing};
use crate::shard::Offer;
use crate::shard::drawing::Drawing;
use crate::shard::outbox::Full;
use crate::wire::{self, Opcode};

/// How much is written before the others of the shard have their turn.
const WRITTEN_BYTES_PER_TURN: usize = 256 << 10;

/// What a conversation said and is not framed yet.
#[derive(Default)]
pub(super) struct Said {
    messages: Vec<Vec<u8>>,
    pub(super) bytes: usize,
}

impl Said {
    pub(super) fn push(&mut self, message: Vec<u8>) {
        self.bytes += message.len();
        self.messages.push(message);
    }
}

impl Connection {
    /// Frames what the conversation said and offers it.
    pub(super) fn say(&self, said: &mut Said) {
        let Said { messages: said, .. } = std::mem::take(said);
        if said.is_empty() {
            return;
        }
        let mut out = Vec::new();
        match self.conversation.framing() {
            Framing::Lines => wire::encode_frame(Opcode::Text, &said.join(&b'\n'), &mut out),
            Framing::Single => {
                for message in &said {
                    wire::encode_frame(Opcode::Text, message, &mut out);
                }
            }
            Framing::Binary => wire::encode_frame(Opcode::Binary, &said.concat(), &mut out),
        }
        self.offer(&out.into());
    }

    /// Queues a message that is drawn as the client takes it, and writes what it takes now.
    pub(super) fn draw(&mut self, drawn: Drawn) {
        let shard = Rc::clone(&self.shard);
        if let Some(entry) = shard.table.borrow().get(self.key) {
            match Drawing::new(drawn, Arc::clone(&shard.metrics), &shard.budget) {
                Ok(drawing) => {
                    self.link.outbox.borrow_mut().push_drawn(Box::new(drawing), &shard.budget);
                    shard.watch_writes(entry, self.key);
                }
                Err(Full) => self.link.close(CloseReason::SlowConsumer),
            }
        }
    }

    /// Offers the frames collected in `frames`, if any.
    pub(super) fn offer_all(&self, frames: &mut Vec<u8>) {
        if !frames.is_empty() {
            self.offer(&std::mem::take(frames).into());
        }
    }

    pub(super) fn offer(&self, frame: &Bytes) {
        match self.shard.offer(self.key, frame) {
            Offer::Sent | Offer::Queued => self.shard.metrics.bytes_sent(frame.len()),
            // The link is closing; the task's loop sees it next.
            Offer::SlowConsumer | Offer::Closed => {}
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self) {
        let mut outbox = self.link.outbox.borrow_mut();
        let mut total = 0;
        while !outbox.is_empty() || self.socket.has_unsent() {
            if total >= WRITTEN_BYTES_PER_TURN {
                // A client that takes as fast as we draw must not keep the thread.
                self.yields = true;
                return;
            }
            match self.socket.try_write(&outbox.slices(), &self.shard.budget) {
                Ok(written) => {
                    outbox.advance(written, &self.shard.budget);
                    total += written;
                    self.link.blocked_since.set(Some(Instant::now()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    // Nobody reads it any more; and what waits would be tried again for ever.
                    outbox.clear(&self.shard.budget);
                    self.socket.give_up();
                    drop(outbox);
                    return self.link.close(CloseReason::ConnectionLost);
                }
            }
        }
        self.link.blocked_since.set(None);
        if let Some(entry) = self.shard.table.borrow().get(self.key) {
            entry.blocked.set(self.link.is_closing());
        }
    }
}
