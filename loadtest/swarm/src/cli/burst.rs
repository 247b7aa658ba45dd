//! `swarm burst`.

use clap::{Args, value_parser};

use super::Failure;
use super::load::LoadArguments;
use crate::plays::{Play, burst};

/// Publish many publications in one call to all clients of one channel, and say what a delivery costs
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    swarm burst --url ws://127.0.0.1:8000/connection/websocket --api http://127.0.0.1:9000 --clients 1000 --size 16 \
    --nap 1ms --pid $(pidof clarion)")]
pub(super) struct Burst {
    /// How many clients, all subscribed to the channel
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = value_parser!(u32).range(1..))]
    clients: u32,
    /// How many publications of one call
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = value_parser!(u32).range(1..=1000))]
    size: u32,
    /// How many calls, each once all clients have everything of the one before
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..))]
    bursts: u32,
    #[command(flatten)]
    load: LoadArguments,
}

impl Burst {
    /// Plays; answers whether it was a success.
    pub(super) fn run(self, command: String) -> Result<bool, Failure> {
        self.load.needs_api()?;
        let play = Play::Burst(burst::Burst { bursts: self.bursts, size: self.size });
        self.load.run(&play, self.clients, 1, command)
    }
}
