//! Clarion: a real-time gateway.

pub mod model;
pub mod wire;
