//! What a run is asked to be.

use std::time::Duration;

use serde::Serialize;

use crate::crowd;

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// What happens.
    pub play: Play,
    /// How many clients listen.
    pub clients: usize,
    /// Publications per second, over all channels.
    pub rate: u32,
    /// How many channels there are; client `i` listens to channel `i % channels`.
    pub channels: usize,
    /// How many nodes serve at a time.
    pub nodes: usize,
    /// Over how long a node that stops closes its connections.
    pub window: Duration,
    /// How long a node that stops accepts before that.
    pub delay: Duration,
    /// How long nothing happens at first, to compare with.
    pub calm: Duration,
    /// A fault that is put in on purpose, to see that it is found.
    pub plant: Option<Plant>,
}

/// What happens in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", untagged)]
pub enum Play {
    /// Every node is replaced in turn.
    #[serde(serialize_with = "roll")]
    Roll,
    /// Something breaks.
    Fault(Fault),
}

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// One node is killed (SIGKILL), and another one takes its place
    KillNode,
    /// Redis is killed and is back after 2 s, empty
    RedisRestart,
    /// Redis is stopped for 8 s (SIGSTOP) and goes on
    RedisStop,
    /// Redis drops every subscription connection, six times in 30 s
    PubsubKill,
    /// All clients lose their connection at one instant and come back, to one node less
    Storm,
}

/// A fault that is put in on purpose: a judge that finds nothing proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Plant {
    /// Nodes that do not know of each other, each with a broker in its memory
    Islands,
    /// Clients that come back do not recover what they missed
    Forget,
    /// One client is shown one publication twice
    Repeat,
}

impl Settings {
    /// Clients of one node, if they are spread evenly.
    pub fn clients_per_node(&self) -> f64 {
        self.clients as f64 / self.nodes as f64
    }

    /// What the clients themselves are to do wrong.
    pub(super) fn clients_plant(&self) -> Option<crowd::Plant> {
        match self.plant? {
            Plant::Islands => None,
            Plant::Forget => Some(crowd::Plant::Forget),
            Plant::Repeat => Some(crowd::Plant::Repeat),
        }
    }
}

impl Play {
    /// In words, as a heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Roll => "Every node is replaced in turn",
            Self::Fault(Fault::KillNode) => "One node is killed",
            Self::Fault(Fault::RedisRestart) => "Redis is killed and comes back empty",
            Self::Fault(Fault::RedisStop) => "Redis is stopped for a while",
            Self::Fault(Fault::PubsubKill) => "Redis drops subscription connections",
            Self::Fault(Fault::Storm) => "All clients lose their connection at once",
        }
    }

    /// How long a back end tries again until a publication is acknowledged; zero: once.
    pub(super) fn patience(self) -> Duration {
        match self {
            Self::Fault(Fault::RedisRestart | Fault::RedisStop) => Duration::from_secs(60),
            _ => Duration::ZERO,
        }
    }
}

fn roll<S: serde::Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("roll")
}
