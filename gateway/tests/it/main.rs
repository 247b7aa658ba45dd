//! Black-box tests: real gateways on ports of this machine, real sockets, all tests in parallel.
//!
//! One file for each behavior; `support` is the only place with plumbing.

mod chat;
mod cli;
mod frames;
mod handshake;
mod history;
mod large_replies;
mod leaks;
mod lifecycle;
mod policies;
mod protobuf;
mod recovery;
mod secrets;
mod slow;
mod support;
mod token;
