//! `swarm capacity`.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum, value_parser};

use super::Failure;
use super::load::{self, LoadArguments};
use crate::plays::Play;
use crate::plays::capacity::ladder::{Climb, Stride};
use crate::plays::capacity::slo::Slo;
use crate::plays::capacity::{self, Grows};

/// Grow the load until something that is asked for does not hold any more, and name the knee
///
/// Each step is held for a while and judged. The knee is the last load at which everything held. If swarm itself has no
/// CPU left, the ramp ends without a knee: the clients are the limit, not the server.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    swarm capacity --url ws://127.0.0.1:8000/connection/websocket --api http://127.0.0.1:9000 --ramp connections \
    --from 1000 --to 15000 --step 1000 --slo p99=50ms,connect_p99=1s,loss=0,errors=0 --pid $(pidof clarion)\n  \
    swarm capacity --url ws://127.0.0.1:8000/connection/websocket --api http://127.0.0.1:9000 --ramp rate \
    --clients 2000 --channels 200 --from 200 --to 20000 --factor 1.5 --refine 3")]
pub(super) struct Capacity {
    /// What grows
    #[arg(long, value_enum, value_name = "WHAT")]
    ramp: What,
    /// The first load
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=10_000_000))]
    from: u64,
    /// The last load
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=10_000_000))]
    to: u64,
    /// Each load is by so much larger than the one before
    #[arg(long, value_name = "N", conflicts_with = "factor")]
    step: Option<u64>,
    /// Each load is by this factor larger than the one before [default: 1.5]
    #[arg(long, value_name = "FACTOR")]
    factor: Option<f64>,
    /// How often to look between the last load that held and the first that did not
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u32).range(0..=30))]
    refine: u32,
    /// How long each step is held
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    hold: Duration,
    /// What must hold: p50, p90, p95, p99, p999 or max (delay), connect_p99 and so on, loss, errors
    #[arg(
        long,
        value_name = "NAME=VALUE",
        value_delimiter = ',',
        default_value = "p99=50ms,connect_p99=1s,loss=0,errors=0"
    )]
    slo: Vec<Slo>,
    /// How many clients, while publications grow
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = value_parser!(u32).range(1..))]
    clients: u32,
    /// How many channels; each client is subscribed to one
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=100_000))]
    channels: u32,
    /// Publications per second, while connections grow
    #[arg(long, value_name = "RATE", default_value = "20", value_parser = load::rate)]
    rate: f64,
    /// No step begins after this
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = humantime::parse_duration)]
    limit: Duration,
    #[command(flatten)]
    load: LoadArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Clients that are connected and subscribed
    Connections,
    /// Publications per second
    Rate,
}

impl Capacity {
    /// Plays; answers whether nothing was lost.
    pub(super) fn run(self, command: String) -> Result<bool, Failure> {
        self.load.needs_api()?;
        let climb = self.climb();
        climb.check().map_err(Failure::Usage)?;
        self.check().map_err(Failure::Usage)?;
        let (grows, clients) = match self.ramp {
            What::Connections => (Grows::Connections, self.to.try_into().unwrap_or(u32::MAX)),
            What::Rate => (Grows::Rate, self.clients),
        };
        let play = Play::Capacity(capacity::Capacity {
            grows,
            climb,
            slos: self.slo,
            hold: self.hold,
            rate: self.rate,
            limit: self.limit,
            own_busy_max: capacity::SATURATED,
        });
        self.load.run(&play, clients, self.channels, command)
    }

    fn climb(&self) -> Climb {
        let stride = match (self.step, self.factor) {
            (Some(step), _) => Stride::By(step),
            (None, factor) => Stride::Times(factor.unwrap_or(1.5)),
        };
        Climb { from: self.from, to: self.to, stride, refine: self.refine }
    }

    /// What no single argument can be blamed for.
    fn check(&self) -> Result<()> {
        let hold = humantime::format_duration(self.hold);
        let shortest = Duration::from_secs(1);
        anyhow::ensure!(
            self.hold >= shortest,
            "--hold {hold}: a step is held for 1s at least, to say anything"
        );
        anyhow::ensure!(self.hold <= self.limit, "--hold {hold}: that is longer than --limit");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        capacity: Capacity,
    }

    fn parsed(arguments: &str) -> Result<Capacity, clap::Error> {
        let always =
            "capacity --url ws://127.0.0.1:1/ --api http://127.0.0.1:1 --ramp rate --from 10 --to 100";
        let words = always.split_whitespace().chain(arguments.split_whitespace());
        Alone::try_parse_from(words).map(|alone| alone.capacity)
    }

    #[test]
    fn objectives_and_steps_are_read() {
        let capacity = parsed("--slo p99=5ms,loss=0 --slo errors=1 --step 10").unwrap();
        assert_eq!(capacity.slo.len(), 3);
        assert_eq!(capacity.climb().stride, Stride::By(10));
        let plain = parsed("").unwrap();
        assert_eq!(
            plain.slo.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            "delay p99 at most 50ms, connect time p99 at most 1s, nothing lost, no errors"
        );
        assert_eq!(plain.climb().stride, Stride::Times(1.5));
    }

    #[test]
    fn bad_arguments_say_what_and_where() {
        for (arguments, words) in [
            ("--slo p98=1s", ["--slo", "p98"]),
            ("--step 5 --factor 2", ["--step", "--factor"]),
            ("--refine 31", ["--refine", "0..=30"]),
        ] {
            let error = parsed(arguments).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{arguments}: {error}");
        }
        for (arguments, words) in
            [("--hold 100ms", ["--hold 100ms", "1s"]), ("--hold 2h", ["--hold 2h", "--limit"])]
        {
            let error = parsed(arguments).unwrap().check().unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{arguments}: {error}");
        }
        let usage = parsed("--factor 1").unwrap().run(String::new()).unwrap_err();
        assert!(matches!(usage, Failure::Usage(error) if error.to_string().contains("--factor 1")));
    }
}
