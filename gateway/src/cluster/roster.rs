use std::time::Duration;

use super::process::Process;
use crate::model::{NodeEpoch, NodeId};

/// What a node has to do, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Clients that have authenticated.
    pub clients: usize,
    /// Their distinct users, the anonymous one included if there is one.
    pub users: usize,
    /// Channels with at least one subscriber.
    pub channels: usize,
    /// Subscribers of all channels.
    pub subscriptions: usize,
}

/// What a node says of itself at each heartbeat.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Its id.
    pub id: NodeId,
    /// Its tenure.
    pub epoch: NodeEpoch,
    /// Its configured name.
    pub name: String,
    /// Which version of the gateway it runs.
    pub release: String,
    /// Where others reach its internal listener, as `host:port`; empty if they cannot.
    pub address: String,
    /// How long it has been running.
    pub uptime: Duration,
    /// What it has to do.
    pub load: Load,
    /// What its process takes; `None` where the system does not tell.
    pub process: Option<Process>,
    /// It was told to stop: clients leave it, and no new ones come.
    pub is_draining: bool,
    /// Most handshakes that it takes in a second; 0 if it does not say.
    pub handshakes_per_second: usize,
}
