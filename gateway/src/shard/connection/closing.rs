//! The end of a connection: everybody forgets it, the client reads why, and the socket goes.

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;

use super::Connection;
use crate::config::SlowConsumer;
use crate::model::CloseReason;
use crate::wire::{self, Decoded, Event};

/// How long the peer may take to answer a close frame; then the socket is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the presence may take to keep the places of a client that is asked to come back.
const SEATS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a peer that broke the framing is listened to, so that it can read why it was closed.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// How much of what it still sends is read meanwhile.
const LINGER_BYTES_MAX: usize = 64 << 10;
/// How much of what another peer still sends is read until it answers the close frame.
const FAREWELL_BYTES_MAX: usize = 1 << 20;

/// How a connection ended, for metrics.
#[derive(Debug)]
pub(super) struct Ending {
    code: String,
    reason: &'static str,
}

impl Default for Ending {
    /// That of a task that panicked.
    fn default() -> Self {
        Self { code: "none".into(), reason: CloseReason::Internal.label() }
    }
}

impl Connection {
    /// Leaves everything, says why, and closes the socket once the peer has had its chance to read it.
    pub(super) async fn finish(mut self: Box<Self>, reason: CloseReason) {
        self.operation = None;
        let lost = self.shard.forget(self.key, &reason);
        let (code, text) = self.conversation.close_code(&reason);
        match &reason {
            CloseReason::SlowConsumer | CloseReason::WriteTimeout => {
                self.shard.metrics.slow_consumer(SlowConsumer::Disconnect);
            }
            _ => {}
        }
        if reason != CloseReason::ConnectionLost {
            // Who is asked to come back may be there at once, on another node.
            drop(tokio::time::timeout(SEATS_TIMEOUT, join_all(lost)).await);
            let frame = match reason {
                // The answer repeats it (RFC 6455 §5.5.1).
                CloseReason::ByClient { code } => wire::close_frame(code, ""),
                _ => wire::close_frame(Some(code), &text),
            };
            self.link.outbox.borrow_mut().push_always(frame, &self.shard.budget);
            let timeout = if self.is_garbled { LINGER_TIMEOUT } else { CLOSE_TIMEOUT };
            // On a timeout the peer did not read or did not answer: it is dropped all the same.
            drop(tokio::time::timeout(timeout, self.part()).await);
        }
        if self.has_unwritten() {
            self.shard.cut.set(self.shard.cut.get() + 1);
            // What the peer does not read must not stay in the kernel either.
            drop(self.socket.stream().set_zero_linger());
        }
        self.ending = Some(Box::new(Ending { code: code_label(&reason, code), reason: reason.label() }));
        tracing::debug!(
            client.id = %self.link.client,
            close.code = code,
            close.reason = reason.label(),
            "connection closed"
        );
    }

    /// Writes what is left, then waits for the peer to close.
    async fn part(&mut self) {
        loop {
            self.flush();
            if std::mem::take(&mut self.yields) {
                tokio::task::yield_now().await;
            }
            if !self.has_unwritten() || self.socket.writable().await.is_err() {
                break;
            }
        }
        if self.peer_closed || self.is_garbled {
            self.socket.shut_down();
        }
        if !self.peer_closed {
            self.read_to_the_end().await;
            self.socket.say_end();
        }
    }

    /// Whether something is left that the peer has not taken.
    fn has_unwritten(&self) -> bool {
        !self.link.outbox.borrow().is_empty() || self.socket.has_unsent()
    }

    /// Reads and forgets until the peer closes, or has sent its fill: what is not read would become a reset, which
    /// overtakes the close frame.
    async fn read_to_the_end(&mut self) {
        let mut total = 0;
        while !self.peer_closed && self.socket.readable().await.is_ok() {
            // Reading takes nothing from the runtime's budget: a peer that floods would keep the thread.
            tokio::task::yield_now().await;
            let shard = Rc::clone(&self.shard);
            let mut buffer = shard.read_buffer.borrow_mut();
            match self.socket.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    total += count;
                    self.look_for_close(&mut buffer[..count]);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return,
            }
            if total > if self.is_garbled { LINGER_BYTES_MAX } else { FAREWELL_BYTES_MAX } {
                return;
            }
        }
    }

    /// Notes the peer's close frame if it is in `input`.
    pub(super) fn look_for_close(&mut self, mut input: &mut [u8]) {
        while !self.is_garbled && !self.peer_closed {
            match self.decoder.decode(input) {
                Err(_) => self.is_garbled = true,
                Ok(Decoded { event: Some(Event::Close(_)), .. }) => self.peer_closed = true,
                Ok(Decoded { event: None, .. }) => return,
                Ok(Decoded { consumed, .. }) => input = &mut input[consumed..],
            }
        }
    }
}

impl Drop for Connection {
    /// Also the end of a task that panicked: nothing of the connection may stay behind.
    fn drop(&mut self) {
        // There is nobody to ask to come back any more.
        drop(self.shard.forget(self.key, &CloseReason::Internal));
        self.link.outbox.borrow_mut().clear(&self.shard.budget);
        let Ending { code, reason } = *self.ending.take().unwrap_or_default();
        let lived = self.shard.age(&self.link);
        self.shard.metrics.connection_closed(self.conversation.name(), &code, reason, lived);
        self.shard.connections.set(self.shard.connections.get() - 1);
        self.shard.emptied.notify_waiters();
    }
}

/// The label of a close code: closed by us it is one of ours, else it says whose it was.
fn code_label(reason: &CloseReason, code: u16) -> String {
    match reason {
        CloseReason::ByClient { .. } => "client".into(),
        CloseReason::ConnectionLost => "none".into(),
        CloseReason::Disconnected { code: 3503, .. } => "3503".into(),
        CloseReason::Disconnected { .. } => "custom".into(),
        _ => code.to_string(),
    }
}
