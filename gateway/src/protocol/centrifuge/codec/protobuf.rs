//! The protocol in Protobuf: a message is its length as a varint, then its bytes (`/proto/client.proto`).
//!
//! The types that are made from the schema are for reading alone; what is sent is written field by field from our own
//! values, so that nothing is copied but into the frame. Tests read it with the types.

pub mod read;
pub mod write;

#[cfg(test)]
pub(in crate::protocol) mod translation;

#[allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    reason = "it is made from the schema, which has docs"
)]
mod schema {
    include!(concat!(env!("OUT_DIR"), "/centrifugal.centrifuge.protocol.rs"));
}
