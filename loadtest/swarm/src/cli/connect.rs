//! `swarm connect`.

use clap::{Args, value_parser};

use super::Failure;
use super::load::LoadArguments;
use crate::plays::{Play, connect};

/// Open connections, each subscribed to a channel, and say what one costs
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    swarm connect --url ws://127.0.0.1:8000/connection/websocket --clients 10000 --pid $(pidof clarion)")]
pub(super) struct Connect {
    /// How many clients
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = value_parser!(u32).range(1..))]
    clients: u32,
    /// How many channels; each client is subscribed to one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=1_000_000))]
    channels: u32,
    #[command(flatten)]
    load: LoadArguments,
}

impl Connect {
    /// Plays; answers whether it was a success.
    pub(super) fn run(self, command: String) -> Result<bool, Failure> {
        self.load.run(&Play::Connect(connect::Connect), self.clients, self.channels, command)
    }
}
