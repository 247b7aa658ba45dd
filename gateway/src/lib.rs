//! Clarion: a real-time gateway.

pub mod auth;
pub mod cli;
pub mod config;
pub mod model;
