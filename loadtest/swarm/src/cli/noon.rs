use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, value_parser};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use super::telling::Telling;
use super::{Failure, limits};
use crate::clock::Clock;
use crate::noon::facts::Facts;
use crate::noon::journal::Journal;
use crate::noon::settings::{Fault, Plant, Play, Settings};
use crate::report::environment::Environment;
use crate::report::{Report, page, table};
use crate::stage::programs::Programs;

/// Replace every node at peak hour, or break something, and judge what clients and back ends notice of it
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    swarm noon --report noon.html\n  \
    swarm noon --short\n  \
    swarm noon --fault kill-node --clients 1000\n\n\
    Starts redis-server, haproxy and nodes of the gateway on this machine, and ends them. Exit code 0: every promise \
    holds; 1: one is broken; 2: used wrongly.")]
pub(super) struct Noon {
    /// How many clients listen [default: 2000; with --fault storm 8000; with --short 300]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=15_000))]
    clients: Option<u32>,
    /// Publications per second, over all channels [default: 200; with --fault storm 20; with --short 60]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=10_000))]
    rate: Option<u32>,
    /// How many channels; each client listens to one
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = value_parser!(u32).range(1..=1000))]
    channels: u32,
    /// How many nodes serve at a time
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u32).range(2..=5))]
    nodes: u32,
    /// Over how long a node that stops closes its connections [default: 20s; with --short 3s]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    window: Option<Duration>,
    /// How long a node that stops still accepts before that [default: 5s; with --short 1s]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    delay: Option<Duration>,
    /// How long nothing happens at first, to compare with [default: 15s; with --short 3s]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    calm: Option<Duration>,
    /// A run of half a minute: what is not given otherwise is small
    #[arg(long)]
    short: bool,
    /// Break something instead of replacing the nodes
    #[arg(long, value_name = "FAULT")]
    fault: Option<Fault>,
    /// Do something wrong on purpose, to see that it is found: the run must fail
    #[arg(long, value_name = "WRONG")]
    plant: Option<Plant>,
    /// Fail for a figure of time that is missed, too
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    telling: Telling,
    /// The binary of the gateway [default: `clarion` beside this program]
    #[arg(long, value_name = "PATH", env = "CLARION_BIN")]
    gateway: Option<PathBuf>,
}

impl Noon {
    /// Plays, and says what came of it; answers whether it was a success.
    pub(super) fn run(self, command: String) -> Result<bool, Failure> {
        let settings = self.settings().map_err(Failure::Usage)?;
        let programs = self.prepare(&settings).map_err(Failure::Usage)?;
        let environment = Environment::of(&programs);
        let directory = tempfile::Builder::new().prefix("swarm-").tempdir().context("making a directory")?;
        let journal = Journal::new(Clock::start(), self.telling.is_text());
        let facts = match play(&settings, programs, directory.path(), &journal) {
            Ok(Some(facts)) => facts,
            Ok(None) => {
                return Err(anyhow::anyhow!("interrupted; everything that was started has ended").into());
            }
            Err(error) => return Err(error.context(logs_kept(directory)).into()),
        };
        let report = Report::new(settings, self.strict, command, environment, facts);
        self.tell(&report)?;
        if !report.passed {
            let _: io::Result<()> = writeln!(io::stderr(), "{}", logs_kept(directory));
        }
        Ok(report.passed)
    }

    fn settings(&self) -> Result<Settings> {
        let play = self.fault.map_or(Play::Roll, Play::Fault);
        let or = |given: Option<Duration>, short, long| {
            given.unwrap_or(Duration::from_secs(if self.short { short } else { long }))
        };
        let (clients, rate) = match self.fault {
            _ if self.short => (300, 60),
            // It is about connections: deliveries to so many are work of which two CPUs have none left.
            Some(Fault::Storm) => (8000, 20),
            _ => (2000, 200),
        };
        let settings = Settings {
            play,
            clients: usize::try_from(self.clients.unwrap_or(clients))?,
            rate: self.rate.unwrap_or(rate),
            channels: usize::try_from(self.channels)?,
            nodes: usize::try_from(self.nodes)?,
            window: or(self.window, 3, 20),
            delay: or(self.delay, 1, 5),
            calm: or(self.calm, 3, 15),
            plant: self.plant,
        };
        check(&settings)?;
        Ok(settings)
    }

    /// What can be wrong is found before anything is started.
    fn prepare(&self, settings: &Settings) -> Result<Programs> {
        self.telling.check()?;
        let programs = Programs::find(self.gateway.as_deref())?;
        // The load balancer, which inherits the limit, needs two for each client.
        let needed = u64::try_from(settings.clients)? * 2 + 1000;
        limits::raise_open_files(&format!("--clients {}", settings.clients), needed)?;
        Ok(programs)
    }

    fn tell(&self, report: &Report) -> Result<()> {
        let text = if self.telling.is_text() {
            table::text(report)
        } else {
            serde_json::to_string_pretty(report)? + "\n"
        };
        self.telling.write(&text, || page::html(report))
    }
}

/// What no single argument can be blamed for.
fn check(settings: &Settings) -> Result<()> {
    let Settings { channels, clients, calm, delay, window, .. } = settings;
    ensure!(
        channels <= clients,
        "--channels {channels}: with {clients} clients nobody would listen to some of them"
    );
    for (name, duration) in [("--calm", calm), ("--delay", delay), ("--window", window)] {
        let longest = Duration::from_secs(600);
        ensure!(
            *duration <= longest,
            "{name}: at most 10m, and this is {}",
            humantime::format_duration(*duration)
        );
    }
    // Delays are kept by the second.
    ensure!(*calm >= Duration::from_secs(2), "--calm: at least 2s, to have something to compare with");
    Ok(())
}

/// `None`: interrupted, and everything that was started has ended.
fn play(
    settings: &Settings,
    programs: Programs,
    directory: &Path,
    journal: &Journal,
) -> Result<Option<Facts>> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::select! {
            facts = crate::noon::play(settings, programs, directory, journal) => facts.map(Some),
            _ = interrupt.recv() => Ok(None),
            _ = terminate.recv() => Ok(None),
            _ = hangup.recv() => Ok(None),
        }
    })
}

/// The directory stays, for whoever wants to know what went wrong.
fn logs_kept(directory: TempDir) -> String {
    format!("logs of the run are in {}", directory.keep().display())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        noon: Noon,
    }

    fn parsed(arguments: &str) -> Noon {
        let words = std::iter::once("noon").chain(arguments.split_whitespace());
        Alone::try_parse_from(words).unwrap().noon
    }

    fn settings(arguments: &str) -> Settings {
        parsed(arguments).settings().unwrap()
    }

    fn error(arguments: &str) -> String {
        let words = std::iter::once("noon").chain(arguments.split_whitespace());
        match Alone::try_parse_from(words) {
            Ok(alone) => alone.noon.settings().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_full_form_is_the_default_and_the_short_one_gives_way_to_what_is_given() {
        let full = settings("");
        assert_eq!((full.clients, full.rate, full.channels, full.nodes), (2000, 200, 20, 3));
        assert_eq!((full.delay.as_secs(), full.window.as_secs(), full.calm.as_secs()), (5, 20, 15));
        let short = settings("--short --window 7s");
        assert_eq!((short.clients, short.rate), (300, 60));
        assert_eq!((short.delay.as_secs(), short.window.as_secs(), short.calm.as_secs()), (1, 7, 3));
        let storm = settings("--fault storm");
        assert_eq!((storm.clients, storm.rate), (8000, 20));
        assert_eq!(settings("--fault storm --clients 9 --channels 9").clients, 9);
        assert_eq!(settings("--fault storm --short").clients, 300);
    }

    #[test]
    fn bad_arguments_say_what_and_where() {
        for (arguments, words) in [
            ("--clients 0", ["--clients", "1..=15000"]),
            ("--nodes 1", ["--nodes", "2..=5"]),
            ("--rate many", ["--rate", "many"]),
            ("--window 20", ["--window", "20"]),
            ("--window 11m", ["--window", "10m"]),
            ("--calm 1s", ["--calm", "2s"]),
            ("--channels 30 --clients 20", ["--channels 30", "20 clients"]),
            ("--fault fire", ["--fault", "kill-node"]),
            ("--plant grass", ["--plant", "islands"]),
        ] {
            let error = error(arguments);
            assert!(words.iter().all(|word| error.contains(word)), "{arguments}: {error}");
        }
    }
}
