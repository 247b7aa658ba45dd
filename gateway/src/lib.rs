//! Clarion: a real-time gateway.
//!
//! It keeps the sockets of an application's users, authenticates each of them by a JWT at the handshake, and
//! delivers what the application's back end publishes to every subscriber of a channel.
//!
//! # One publication, end to end
//!
//! ```text
//! back end ──HTTP──▶ server::api ─▶ Node::publish ─▶ Broker::publish
//!                                                        │ in the order of the channel
//!                     node::Dispatch::deliver ◀──────────┘ never waits
//!                        │ one push to the inbox of each shard that has subscribers
//!                     shard::fanout ─▶ hub: who subscribes ─▶ encoded once per form, shared
//!                        │
//!                     send(2) to each socket; what it does not take waits in its outbox
//! ```
//!
//! A client's command goes the other way: the shard reads bytes, `wire` makes frames of them, the client's
//! conversation in `protocol` turns them into effects, and the connection's task carries those out against
//! `node`.
//!
//! # Layers
//!
//! The modules below stand in reading order; an arrow points at what a module may use, and nobody reaches
//! upward:
//!
//! ```text
//! main → cli → app → server → transport → shard → protocol → node → cluster → auth → { broker, presence } → redis → tls → wire → model
//! ```
//!
//! `config`, `metrics` and `telemetry` may be used by anyone and use nothing above `model`.
//!
//! # Invariants
//!
//! * `model`, `wire` and `protocol` do no I/O. `protocol` never sees a socket, `shard` never parses a message,
//!   `hub` never heard of a protocol.
//! * One external crate, one home: `axum` and `hyper` in `server` and `transport`, `jsonwebtoken` in `auth`,
//!   `prometheus` in `metrics`, `prost` in the codecs, `redis` in `redis`, `opentelemetry` in `telemetry`, `rustls` where its bytes
//!   are, `rustix` in `shard` and `transport`.
//! * Only a shard writes to its sockets, through one door per connection. Its state is touched by its thread
//!   alone.
//! * Only `node` subscribes the broker: first local subscriber in, last one out. Only `node` puts somebody into the
//!   presence, and whoever leaves takes the entry along.
//! * No thread lock is held across an await; delivery from the broker to the inboxes never awaits.
//! * Every queue is bounded, in bytes where bytes are what it holds. There is no `unsafe`.
//!
//! `tests/layers.rs` checks what of this can be read off the source.

pub mod cli;

pub mod app;

pub mod server;
pub mod transport;

pub mod shard;

pub mod protocol;

pub mod node;

pub mod cluster;

pub mod auth;
pub mod broker;
pub mod presence;

pub mod redis;

pub mod tls;

pub mod wire;

pub mod model;

pub mod config;
pub mod metrics;
pub mod telemetry;
