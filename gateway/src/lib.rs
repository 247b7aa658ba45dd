//! Clarion: a real-time gateway.

pub mod model;
