//! The protocol in JSON: a message is one line of text (Centrifuge protocol, JSON rules and framing).

pub mod read;
pub mod write;
