//! The command line of the bench, and how much work each run does.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

/// Deliveries of one turn. Enough for the noise of waking and sleeping threads to disappear in them; few enough for
/// gateway and reference to take turns within the same fraction of a second, since other tenants of the machine
/// double the cost of both for seconds at a time.
const DELIVERIES_PER_TURN: u32 = 60_000;

/// Publications of one burst, sent to the gateway in one API call.
pub(crate) const BURST: u32 = 16;

/// Measures memory and CPU of the gateway per connection and per delivery.
#[derive(Debug, Parser, Serialize)]
#[command(name = "figures")]
pub(crate) struct Options {
    /// Fewer rounds and a short idle window: shows that it works, not how fast it is.
    #[arg(long)]
    pub(crate) quick: bool,

    /// What to measure; everything if nothing is named.
    #[arg(value_name = "QUESTION")]
    only: Vec<Question>,

    /// Connections of the large runs.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) connections: u32,

    /// How long idle connections are watched; default: two ping intervals, or 10 s with --quick.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=300))]
    idle_seconds: Option<u64>,

    /// If nothing is named: the questions about nodes that share a Redis, instead of those about one node.
    #[arg(long)]
    pub(crate) redis: bool,

    /// The `redis-server` that nodes share.
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    #[serde(skip)]
    pub(crate) redis_server: PathBuf,

    /// Exit with 1 if a target is missed.
    #[arg(long)]
    pub(crate) assert: bool,

    /// Measure this gateway instead of the one just built, to compare two builds.
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_clarion"))]
    #[serde(skip)]
    pub(crate) server: PathBuf,

    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    #[serde(skip)]
    pub(crate) bench: bool,

    #[command(subcommand)]
    #[serde(skip)]
    pub(crate) mode: Option<Mode>,
}

/// What this process is, if it is not the one that measures. Internal to the bench.
#[derive(Debug, Subcommand)]
pub(crate) enum Mode {
    /// The reference: a loop of `send` calls over accepted sockets.
    #[command(hide = true)]
    BareLoop(BareLoopArguments),
    /// The clients of one server.
    #[command(hide = true)]
    Swarm(SwarmArguments),
}

#[derive(Debug, Args)]
pub(crate) struct BareLoopArguments {
    /// Sockets to accept before anything is sent.
    #[arg(long)]
    pub(crate) connections: u32,
    /// Threads that share the sockets.
    #[arg(long)]
    pub(crate) threads: u32,
}

#[derive(Debug, Args)]
pub(crate) struct SwarmArguments {
    /// Where to connect to.
    #[arg(long)]
    pub(crate) address: SocketAddr,
    /// Clients to connect.
    #[arg(long)]
    pub(crate) connections: u32,
    /// Only open the sockets: no upgrade, no commands. The secret is not read either.
    #[arg(long)]
    pub(crate) bare: bool,
    /// Subscribe when told to, instead of with connecting.
    #[arg(long, conflicts_with = "spread")]
    pub(crate) apart: bool,
    /// Subscribe in turns to these channels instead of all to one, as PREFIX/COUNT.
    #[arg(long)]
    pub(crate) spread: Option<Spread>,
    /// Ask for joins and leaves.
    #[arg(long)]
    pub(crate) hearing: bool,
    /// Read at once what comes, and note how late it is.
    #[arg(long)]
    pub(crate) timed: bool,
}

/// Channels that clients are spread over: `prefix` and a number below `count`, which is not 0.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    pub(crate) prefix: String,
    pub(crate) count: u32,
}

impl Spread {
    pub(crate) fn channels(&self) -> Vec<String> {
        (0..self.count).map(|number| format!("{}{number}", self.prefix)).collect()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.prefix, self.count)
    }
}

impl FromStr for Spread {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (prefix, count) = text.rsplit_once('/').context("no count")?;
        let count = count.parse()?;
        ensure!(count > 0, "no channels");
        Ok(Self { prefix: prefix.to_owned(), count })
    }
}

/// What can be asked for by name. Each is answered by one figure or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Question {
    /// What a connection costs: to open, to keep, and to keep alive.
    Connections,
    /// What an API call costs that reaches nobody.
    Api,
    /// What a delivery costs, one publication at a time and several per API call.
    Delivery,
    /// How late deliveries are that come at a rate.
    Rate,
    /// What becomes dearer when there is more of everything.
    Growth,
    /// What it costs when all subscribers come back at once and catch up.
    Recovery,
    /// How much memory a kept publication takes.
    History,
    /// Whether deliveries are late while histories expire.
    Expiry,
    /// What joins and leaves cost in a channel where everybody hears of them.
    Notices,
    /// How long others wait while somebody asks who is in a large channel.
    Presence,
    /// Whether clients that stop reading make deliveries to others late.
    Hostile,
    /// Whether memory returns after all clients were cut off and came back.
    Storm,
    /// What a publication costs that goes through Redis to other nodes, and how long that takes.
    Relay,
    /// How soon 10,000 channels are heard again when the connection to Redis was lost.
    Resubscription,
    /// How soon nodes notice that Redis is gone, and hear it again once it is back.
    Outage,
}

impl Question {
    /// Whether it is about nodes that share a Redis.
    fn is_about_redis(self) -> bool {
        matches!(self, Self::Relay | Self::Resubscription | Self::Outage)
    }
}

impl Options {
    /// What was asked for, in the order in which it is measured.
    pub(crate) fn questions(&self) -> Vec<Question> {
        let all = Question::value_variants().iter().copied();
        let is_asked = |question: &Question| match self.only.as_slice() {
            [] => question.is_about_redis() == self.redis,
            only => only.contains(question),
        };
        all.filter(is_asked).collect()
    }

    /// The sizes of the channel that deliveries are measured at.
    pub(crate) fn subscribers(&self) -> Vec<u32> {
        let mut sizes = vec![self.connections.min(1_000), self.connections];
        sizes.dedup();
        sizes
    }

    /// Turns that gateway and reference each take.
    pub(crate) fn rounds(&self) -> u32 {
        if self.quick { 5 } else { 25 }
    }

    /// Turns of what takes seconds each.
    pub(crate) fn long_rounds(&self) -> u32 {
        if self.quick { 3 } else { 7 }
    }

    /// How often Redis goes away, in each way.
    pub(crate) fn outages(&self) -> u32 {
        if self.quick { 3 } else { 20 }
    }

    /// API calls that reach nobody.
    pub(crate) fn api_calls(&self) -> u32 {
        if self.quick { 500 } else { 5_000 }
    }

    /// How long idle connections are watched. The default is a whole number of ping intervals (25 s), so that each
    /// connection is pinged equally often in it, whenever it was opened.
    pub(crate) fn idle_window(&self) -> Duration {
        Duration::from_secs(self.idle_seconds.unwrap_or(if self.quick { 10 } else { 50 }))
    }
}

/// Publications of one turn, one at a time.
pub(crate) fn publications(subscribers: u32) -> u32 {
    (DELIVERIES_PER_TURN / subscribers).clamp(2, 1_000)
}

/// Bursts of one turn. A delivery in a burst costs a fraction of a single one, so a turn has more of them.
pub(crate) fn bursts(subscribers: u32) -> u32 {
    (4 * DELIVERIES_PER_TURN / (BURST * subscribers)).clamp(2, 250)
}
