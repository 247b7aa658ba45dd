//! How one client's bytes come in: the handshakes that end in a connection of a shard.

pub mod websocket;
