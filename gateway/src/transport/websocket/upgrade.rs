//! From the accepted handshake to a connection of the shard.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use axum::body::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::model::ClientId;
use crate::protocol::Conversation;
use crate::shard::{Arrival, Permit, Shard, Socket};

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
pub async fn upgrade(shard: Rc<Shard>, upgrade: OnUpgrade, acceptance: Acceptance, permit: Option<Permit>) {
    let client = ClientId::random();
    let conversation = (acceptance.0)(client);
    if let Some((socket, unread)) = take_back(upgrade).await {
        shard.take_in(Arrival { socket, unread, conversation, client, permit });
    }
}

async fn take_back(upgrade: OnUpgrade) -> Option<(Socket, Bytes)> {
    let upgraded: Upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "client left during its handshake");
            return None;
        }
    };
    let (stream, tls, unread) = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => (parts.io.into_inner(), None, parts.read_buf),
        Err(upgraded) => {
            let parts = upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>();
            let parts = parts.expect("the listener serves TCP streams, plain or under TLS");
            let (stream, tls) = parts.io.into_inner().into_inner();
            (stream, Some(tls), parts.read_buf)
        }
    };
    let socket = match tls {
        None => Socket::from(stream),
        Some(tls) => Socket::protected(stream, tls),
    };
    Some((socket, unread))
}
