//! The native protocol: Centrifuge client protocol, version 2, in JSON and in Protobuf.
//!
//! Published SDKs speak it unchanged. [`Client`] is the conversation; [`Session`] is what remains of it
//! once the client has authenticated, and serves the bare form too.

pub mod code;
pub mod codec;
pub mod command;
pub mod push;
pub mod reply;

mod client;
mod session;
#[cfg(test)]
mod tests;

pub use client::Client;
pub use codec::Codec;
pub use session::{Admitted, Manner, Refused, Session, all_wanted};
