//! `swarm fan`.

use clap::{Args, value_parser};

use super::Failure;
use super::load::LoadArguments;
use crate::plays::{Play, fan};

/// Publish to all clients of one channel, one publication at a time, and say what a delivery costs
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    swarm fan --url ws://127.0.0.1:8000/connection/websocket --api http://127.0.0.1:9000 --clients 1000 --nap 1ms \
    --pid $(pidof clarion)")]
pub(super) struct Fan {
    /// How many clients, all subscribed to the channel
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = value_parser!(u32).range(1..))]
    clients: u32,
    /// How many publications, each once all clients have the one before
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = value_parser!(u32).range(1..))]
    publications: u32,
    #[command(flatten)]
    load: LoadArguments,
}

impl Fan {
    /// Plays; answers whether it was a success.
    pub(super) fn run(self, command: String) -> Result<bool, Failure> {
        self.load.needs_api()?;
        let play = Play::Fan(fan::Fan { publications: self.publications });
        self.load.run(&play, self.clients, 1, command)
    }
}
