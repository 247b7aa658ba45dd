//! A load generator whose clients check what they are given: nothing lost in silence, nothing twice, all in order.
//!
//! It speaks the Centrifuge protocol, version 2, in JSON over WebSocket, and shares no code with the gateway: a judge
//! reads the protocol for itself. A [`crowd::Crowd`] of clients listens while a [`publisher::Publisher`] publishes; both
//! write what happened against one [`clock::Clock`], and the [`oracle`] judges it. What comes out is plain data, in
//! [`findings`].
//!
//! [`load`] is the other way to have clients, by the ten thousand: they are as lean as they can be, and [`load::Load`]
//! drives them. [`plays`] are what is played with them, and an [`outcome::Outcome`] is what comes of it, which several
//! processes can merge. [`progress`] shows how it goes meanwhile.
//!
//! A [`stage`] has a Redis, nodes and a load balancer of its own; [`noon`] plays a deploy or a fault on it, with a crowd
//! and a publisher, and judges what was promised; [`report`] writes down what came of it. Enter by [`cli::run`].

pub mod cli;
mod client;
pub mod clock;
pub mod crowd;
pub mod findings;
pub mod load;
pub mod mark;
pub mod noon;
pub mod oracle;
pub mod outcome;
pub mod plays;
pub mod progress;
pub mod published;
pub mod publisher;
mod records;
pub mod report;
pub mod stage;
mod token;
