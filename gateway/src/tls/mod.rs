//! TLS as this process speaks it: what a listener shows, what the node's own calls trust.
//!
//! A [`Keeper`] holds what one listener shows and takes up new files while clients stay; [`client`] is the other side, for
//! the internal listeners of this deployment. Only handshakes happen here: whoever is through speaks HTTP or WebSocket as
//! over any socket. TLS 1.3 and 1.2, of `rustls` with `aws-lc`.

pub mod client;
mod keeper;

pub use keeper::{HandshakeError, Keeper, Listener};
