//! Black-box tests: real gateways on ports of this machine, real sockets, all tests in parallel.
//!
//! One file for each behavior; `support` is the only place with plumbing.

mod admin;
mod admission;
mod any_node;
mod bad_config;
mod chat;
mod cli;
mod cluster;
mod commands;
mod doctor;
mod drain;
mod example_cluster;
mod expiry;
mod frames;
mod full_disk;
mod grace;
mod handshake;
mod herd;
mod history;
mod large_replies;
mod leaks;
mod lifecycle;
mod metrics;
mod payloads;
mod policies;
mod presence;
mod protobuf;
mod recovery;
mod recovery_elsewhere;
mod redis_access;
mod redis_away;
mod redis_unsuitable;
mod refused;
mod revocations;
mod roundtrip;
mod secrets;
mod server_security;
mod server_side;
mod slow;
mod subscriptions;
mod support;
mod tls;
mod tls_commands;
mod token;
mod traces;
