//! `swarm storm`.

use std::time::Duration;

use clap::{Args, ValueEnum, value_parser};

use super::Failure;
use super::load::{self, LoadArguments};
use crate::plays::{Play, storm};

/// With fewer publications nobody has anything to miss.
const RATE_MIN: f64 = 1.0;

/// Cut all connections at once, and say how long everybody takes to be back, and whether anything was lost
///
/// Clients are subscribed to channels with a history, to which is published all the time. Each comes back to where it was:
/// what it missed it is given, or is told that it cannot have it. Anything else is a loss in silence, and fails the run.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    swarm storm --url ws://127.0.0.1:8000/connection/websocket --api http://127.0.0.1:9000 --channel news:swarm \
    --clients 8000 --channels 20 --rate 100 --backoff sdk --rounds 3 --pid $(pidof clarion)")]
pub(super) struct Storm {
    /// How many clients
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = value_parser!(u32).range(1..))]
    clients: u32,
    /// How many channels; each client is subscribed to one
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = value_parser!(u32).range(1..=100_000))]
    channels: u32,
    /// Publications per second, in all channels together
    #[arg(long, value_name = "RATE", default_value = "20", value_parser = load::rate)]
    rate: f64,
    /// How often all connections are cut
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How clients come back
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Backoff::Sdk)]
    backoff: Backoff,
    /// How long nothing happens before the first round, to compare with
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    calm: Duration,
    /// How long everybody may take to be back
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    within: Duration,
    /// How long nothing happens after the last round, until the server's memory is compared with before
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    settle: Duration,
    #[command(flatten)]
    load: LoadArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Backoff {
    /// As the SDKs do: after half a second at least, random, later after each failure, and not before Retry-After
    Sdk,
    /// At once, and again after 10 ms, whatever the server says
    None,
}

impl Storm {
    /// Plays; answers whether it was a success.
    pub(super) fn run(self, command: String) -> Result<bool, Failure> {
        self.load.needs_api()?;
        if self.rate < RATE_MIN {
            let words = format!(
                "--rate {}: at {RATE_MIN} or more publications per second something is missed",
                self.rate
            );
            return Err(Failure::Usage(anyhow::anyhow!(words)));
        }
        let play = Play::Storm(storm::Storm {
            rounds: self.rounds,
            rate: self.rate,
            backoff: match self.backoff {
                Backoff::Sdk => storm::Backoff::Sdk,
                Backoff::None => storm::Backoff::None,
            },
            calm: self.calm,
            within: self.within,
            settle: self.settle,
        });
        self.load.run(&play, self.clients, self.channels, command)
    }
}
