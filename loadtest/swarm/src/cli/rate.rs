//! `swarm rate`.

use std::time::Duration;

use clap::{Args, value_parser};

use super::Failure;
use super::load::{self, LoadArguments};
use crate::plays::{Play, rate};

/// Publish by a timetable, whatever the server does, and say how late deliveries are
///
/// A delay is measured from when the publication was due, so that a server that stands still is late for everything that
/// was due meanwhile (coordinated omission).
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    swarm rate --url ws://127.0.0.1:8000/connection/websocket --api http://127.0.0.1:9000 --channels 200 \
    --subscribers 10 --rate 500 --for 30s --pid $(pidof clarion)")]
pub(super) struct Rate {
    /// How many channels, which have their turn
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = value_parser!(u32).range(1..=100_000))]
    channels: u32,
    /// How many clients are subscribed to each
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = value_parser!(u32).range(1..=100_000))]
    subscribers: u32,
    /// Publications per second, in all channels together
    #[arg(long, value_name = "RATE", default_value = "500", value_parser = load::rate)]
    rate: f64,
    /// How long
    #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    time: Duration,
    #[command(flatten)]
    load: LoadArguments,
}

impl Rate {
    /// Plays; answers whether it was a success.
    pub(super) fn run(self, command: String) -> Result<bool, Failure> {
        self.load.needs_api()?;
        let clients = self.channels.checked_mul(self.subscribers);
        let clients = clients.ok_or_else(|| {
            Failure::Usage(anyhow::anyhow!("--channels times --subscribers is more than there can be"))
        })?;
        let play = Play::Rate(rate::Rate { rate: self.rate, time: self.time });
        self.load.run(&play, clients, self.channels, command)
    }
}
