//! The HTTP side: who listens where, and what is served there.
//!
//! Two listeners. The public one serves client transports and nothing else; the internal one serves the
//! server API, metrics and health. In development one listener serves both.

pub mod accept;
mod access;
pub mod admin;
pub mod admission;
pub mod api;
mod body;
pub mod door;
pub mod in_flight;
pub mod ops;
pub mod playground;
mod problem;
pub mod public;
pub mod v1;

/// What a listener serves.
pub type Routes = axum::Router;
