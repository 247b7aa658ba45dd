//! A large message on its way out: drawn piece by piece, as its client takes it, each a fragment (RFC 6455 §5.4).

use std::fmt;
use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;

use super::outbox::{Budget, Charge, Full};
use crate::metrics::Metrics;
use crate::protocol::{Drawn, FrameKind};
use crate::wire::{self, Opcode};

/// What is left of a message.
pub(super) struct Drawing {
    pieces: Peekable<Box<dyn Iterator<Item = Vec<u8>>>>,
    /// Of the next fragment.
    opcode: Opcode,
    metrics: Arc<Metrics>,
    _charge: Charge,
}

impl Drawing {
    /// Charges what the message holds to `budget` until its end.
    ///
    /// # Errors
    /// [`Full`] if that is more than is left.
    pub(super) fn new(drawn: Drawn, metrics: Arc<Metrics>, budget: &Arc<Budget>) -> Result<Self, Full> {
        let charge = Charge::new(Arc::clone(budget), drawn.held_bytes)?;
        let opcode = match drawn.kind {
            FrameKind::Text => Opcode::Text,
            FrameKind::Binary => Opcode::Binary,
        };
        Ok(Self { pieces: drawn.pieces.peekable(), opcode, metrics, _charge: charge })
    }

    /// The next fragment; `None` after the last one.
    pub(super) fn next_frame(&mut self) -> Option<Bytes> {
        let piece = self.pieces.next()?;
        let opcode = std::mem::replace(&mut self.opcode, Opcode::Continuation);
        let mut frame = Vec::new();
        wire::encode_fragment(opcode, self.pieces.peek().is_none(), &piece, &mut frame);
        self.metrics.bytes_sent(frame.len());
        Some(frame.into())
    }
}

impl fmt::Debug for Drawing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Drawing")
    }
}
