//! Clarion: a real-time gateway.

pub mod app;
pub mod auth;
pub mod broker;
pub mod cli;
pub mod config;
pub mod metrics;
pub mod model;
pub mod node;
pub mod protocol;
pub mod server;
pub mod shard;
pub mod telemetry;
pub mod transport;
pub mod wire;
