//! Clarion: a real-time gateway.

pub mod broker;
pub mod metrics;
pub mod model;
pub mod node;
