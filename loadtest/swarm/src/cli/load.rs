//! What every play with a load is told on the command line, and how it is run.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum, value_parser};

use super::telling::Telling;
use super::written::masked;
use super::{Failure, limits};
use crate::load::stamp::DATA_BYTES_MIN;
use crate::load::target::{Api, Target};
use crate::load::tokens::{TokenPlace, Tokens};
use crate::load::{LoadSettings, Numbering, Secret};
use crate::plays::{self, Play, Settings};
use crate::progress::Shown;

/// Files that a run needs beside the sockets of its clients.
const OTHER_FILES: u64 = 200;
const SOURCES_MAX: u32 = 65_536;
const DATA_BYTES_MAX: usize = 64_000;

/// Arguments of every play with a load.
#[derive(Debug, Args)]
pub(super) struct LoadArguments {
    /// Where clients connect to; several in turn
    #[arg(long, value_name = "WS_URL", required = true)]
    url: Vec<String>,
    /// Addresses that clients connect from, in turn: one, or a range such as 127.0.0.2-127.0.0.9. For more than 28,000
    #[arg(long, value_name = "ADDRESS")]
    source: Vec<Sources>,
    /// Sign a token for each client with this secret (HS256)
    #[arg(long, value_name = "SECRET", env = "SWARM_SECRET", hide_env_values = true)]
    secret: Option<Secret>,
    /// A file with tokens, one in a line, that clients use in turn; a secret is not looked at then. Without this and
    /// --secret they are anonymous
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// Where clients show their token
    #[arg(long, value_enum, value_name = "PLACE", default_value_t = Place::Query)]
    token_in: Place,
    /// The server API, such as http://127.0.0.1:9000
    #[arg(long, value_name = "HTTP_URL")]
    api: Option<String>,
    /// The key of the server API
    #[arg(long, value_name = "KEY", env = "SWARM_API_KEY", hide_env_values = true)]
    api_key: Option<Secret>,
    /// How many connections to the server API at most; those of one channel are published over one
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = value_parser!(u16).range(1..=1000))]
    api_connections: u16,
    /// How channels are called: this, and the number of the channel. With a namespace: ns:swarm
    #[arg(long, value_name = "NAME", default_value = "swarm", value_parser = channel_name)]
    channel: String,
    /// Clients ask for positions, and to recover when they come back; the channel needs a history
    #[arg(long)]
    recoverable: bool,
    /// The size of the data of a publication
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = data_bytes)]
    payload_bytes: usize,
    /// Threads that hold clients [default: one less than there are CPUs]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// How many handshakes are under way at a time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = value_parser!(u16).range(1..=10_000))]
    handshakes: u16,
    /// How many clients begin to connect in a second [default: as fast as it goes]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    connects_per_second: Option<f64>,
    /// How long a handshake may take, an API call, and a publication to reach everybody
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// How long a thread stays away before it waits for its sockets. On loopback whoever sends pays for waking the
    /// receiver, which clients elsewhere do not cost a server: with 1ms its CPU is its own, and delays are 1 ms longer
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    nap: Duration,
    /// A process of the server, if it is on this machine: its CPU, memory and files are looked at; several together
    #[arg(long, value_name = "PID", num_args(1..))]
    pid: Vec<u32>,
    #[command(flatten)]
    telling: Telling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Place {
    /// In the query of the upgrade, as token=…
    Query,
    /// In the command connect, which every server of the protocol understands
    Command,
}

/// One address, or all from one to another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sources(Vec<IpAddr>);

impl FromStr for Sources {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((first, last)) = text.split_once('-') else {
            return Ok(Self(vec![text.parse().context("it is no IP address, and no range of them")?]));
        };
        let address =
            |text: &str| text.parse::<Ipv4Addr>().context("a range goes from one IPv4 address to another");
        let (first, last) = (address(first)?.to_bits(), address(last)?.to_bits());
        ensure!(first <= last, "the range ends before it begins");
        ensure!(last - first < SOURCES_MAX, "the range has more than {SOURCES_MAX} addresses");
        Ok(Self((first..=last).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))).collect()))
    }
}

fn channel_name(name: &str) -> Result<String> {
    ensure!(!name.is_empty() && name.len() <= 200, "a name has 1 to 200 bytes");
    Ok(name.to_owned())
}

fn data_bytes(text: &str) -> Result<usize> {
    let bytes: usize = text.parse().context("it is no number")?;
    ensure!(
        (DATA_BYTES_MIN..=DATA_BYTES_MAX).contains(&bytes),
        "it is not within {DATA_BYTES_MIN}..={DATA_BYTES_MAX}"
    );
    Ok(bytes)
}

/// Something per second.
pub(super) fn rate(text: &str) -> Result<f64> {
    let rate: f64 = text.parse().context("it is no number")?;
    ensure!((0.01..=1e6).contains(&rate), "it is not within 0.01..=1000000");
    Ok(rate)
}

impl LoadArguments {
    /// Plays with so many clients on so many channels, and says what came of it; answers whether it was a success.
    pub(super) fn run(
        self,
        play: &Play,
        clients: u32,
        channels: u32,
        command: String,
    ) -> Result<bool, Failure> {
        self.telling.check().map_err(Failure::Usage)?;
        let telling = self.telling.clone();
        let settings = self.settings(clients, channels, command).map_err(Failure::Usage)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
        let outcome = runtime.block_on(plays::play(play, settings))?;
        telling.tell(&outcome)?;
        Ok(outcome.passed())
    }

    /// What can be wrong is found before anything is started.
    fn settings(self, clients: u32, channels: u32, command: String) -> Result<Settings> {
        let tokens = self.tokens()?;
        let sources: Vec<IpAddr> = self.source.iter().flat_map(|sources| &sources.0).copied().collect();
        limits::raise_open_files(&format!("--clients {clients}"), u64::from(clients) + OTHER_FILES)?;
        limits::check_ports(clients.into(), sources.len() as u64, self.url.len() as u64)?;
        for pid in &self.pid {
            ensure!(fs::exists(format!("/proc/{pid}"))?, "--pid {pid}: there is no such process here");
        }
        ensure!(!self.patience.is_zero(), "--patience 0s: nothing takes no time");
        let targets = self.url.iter().map(|url| parsed("--url", url)).collect::<Result<Vec<Target>>>()?;
        let api: Option<Api> = self.api.as_deref().map(|url| parsed("--api", url)).transpose()?;
        let load = LoadSettings {
            targets,
            sources,
            tokens,
            token_place: match self.token_in {
                Place::Query => TokenPlace::Query,
                Place::Command => TokenPlace::Command,
            },
            channels: (0..channels).map(|number| format!("{}-{number}", self.channel)).collect(),
            is_recoverable: self.recoverable,
            is_hearing: false,
            numbering: Numbering::Channel,
            data_bytes: self.payload_bytes,
            threads: self.threads.map_or_else(spare_threads, usize::from),
            handshakes_max: self.handshakes.into(),
            connects_per_second: self.connects_per_second,
            patience: self.patience,
            nap: self.nap,
        };
        Ok(Settings {
            load,
            clients,
            api,
            api_key: self.api_key,
            api_connections: self.api_connections.into(),
            data_bytes: self.payload_bytes,
            pids: self.pid,
            shown: Shown::choose(!self.telling.is_text()),
            command,
        })
    }

    /// For a play that publishes.
    pub(super) fn needs_api(&self) -> Result<(), Failure> {
        match self.api {
            Some(_) => Ok(()),
            None => Err(Failure::Usage(anyhow::anyhow!(
                "this play publishes: say where, with --api http://host:port"
            ))),
        }
    }

    fn tokens(&self) -> Result<Tokens> {
        match (&self.secret, &self.token) {
            // The secret may come from the environment, where it is for all runs; a file is for this one.
            (_, Some(file)) => {
                let name = file.display();
                let text = fs::read_to_string(file).with_context(|| format!("--token {name}"))?;
                Tokens::listed(&text).with_context(|| format!("--token {name}"))
            }
            (Some(secret), None) => Ok(Tokens::Signed(secret.clone())),
            (None, None) => Ok(Tokens::None),
        }
    }
}

/// Reads a URL. What is wrong with one is told without what may be secret in it.
fn parsed<T: FromStr<Err = anyhow::Error>>(flag: &str, url: &str) -> Result<T> {
    let shown = masked(url);
    url.parse().with_context(|| format!("{flag} {shown}"))
}

/// One processor is for the play, and for whatever else is here.
fn spare_threads() -> usize {
    thread::available_parallelism().map_or(1, |cpus| cpus.get().saturating_sub(1).max(1))
}
