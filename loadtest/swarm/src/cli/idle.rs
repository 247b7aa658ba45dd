//! `swarm idle`.

use std::time::Duration;

use clap::{Args, value_parser};

use super::Failure;
use super::load::LoadArguments;
use crate::plays::{Play, idle};

/// Keep connections that have nothing to say, and say what one costs in a second
///
/// With --api, one publication has to reach every client at the end: figures are void if these are no live subscribers.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    swarm idle --url ws://127.0.0.1:8000/connection/websocket --clients 10000 --for 1m --pid $(pidof clarion)")]
pub(super) struct Idle {
    /// How many clients
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = value_parser!(u32).range(1..))]
    clients: u32,
    /// How many channels; each client is subscribed to one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=1_000_000))]
    channels: u32,
    /// How long they are kept
    #[arg(long = "for", value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    time: Duration,
    #[command(flatten)]
    load: LoadArguments,
}

impl Idle {
    /// Plays; answers whether it was a success.
    pub(super) fn run(self, command: String) -> Result<bool, Failure> {
        self.load.run(&Play::Idle(idle::Idle { time: self.time }), self.clients, self.channels, command)
    }
}
