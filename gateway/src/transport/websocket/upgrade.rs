//! From the accepted handshake to a connection of the shard.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use axum::body::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use tokio::net::TcpStream;

use crate::model::ClientId;
use crate::protocol::Conversation;
use crate::shard::{Arrival, Permit, Shard};

/// What a connection whose handshake was accepted will speak.
///
/// It travels in the extensions of the response, from a handler that may run anywhere to the shard that owns
/// the socket.
#[derive(Clone)]
pub struct Acceptance(Arc<dyn Fn(ClientId) -> Box<dyn Conversation> + Send + Sync>);

impl Acceptance {
    /// The connection will be a conversation that `begin` makes, once.
    pub fn new(begin: impl Fn(ClientId) -> Box<dyn Conversation> + Send + Sync + 'static) -> Self {
        Self(Arc::new(begin))
    }
}

impl fmt::Debug for Acceptance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Acceptance")
    }
}

/// Takes the socket back from HTTP, with what the client sent after the head, and gives it to `shard`.
///
/// Waits until the 101 is written. A client that is gone by then leaves nothing behind.
pub async fn upgrade(
    shard: Rc<Shard>,
    upgrade: OnUpgrade,
    acceptance: Acceptance,
    send_buffer_bytes: usize,
    permit: Option<Permit>,
) {
    let client = ClientId::random();
    let conversation = (acceptance.0)(client);
    if let Some((stream, unread)) = take_back(upgrade, send_buffer_bytes).await {
        shard.take_in(Arrival { stream, unread, conversation, client, permit });
    }
}

async fn take_back(upgrade: OnUpgrade, send_buffer_bytes: usize) -> Option<(TcpStream, Bytes)> {
    let upgraded: Upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "client left during its handshake");
            return None;
        }
    };
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().expect("the listener serves plain TCP streams");
    let stream = parts.io.into_inner();
    // The kernel's default would hide megabytes of a stalled client. A socket that is gone says so later.
    if let Err(error) = sockopt::set_socket_send_buffer_size(&stream, send_buffer_bytes) {
        tracing::debug!(%error, "could not bound the send buffer");
    }
    Some((stream, parts.read_buf))
}
