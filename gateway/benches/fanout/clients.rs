//! The clients of one server, as the bench drives them; the sockets are in `swarm`, another process.
//!
//! Publications are numbered from 1 per swarm. [`Clients::expect`] announces the next ones, [`Clients::received`]
//! waits until every client has each of them exactly once and in order.

use std::net::SocketAddr;
use std::ops::Range;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::helper::Helper;

/// What the bench asks of a swarm, one JSON object per line.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Sign the tokens with this; the first order of a swarm that is not bare.
    Secret(String),
    /// Answer [`Answer::Received`] once every client has all publications up to this one.
    Await(u64),
    /// Answer [`Answer::Status`] at once.
    Status,
}

/// What a swarm answers, likewise.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Every client is connected, and subscribed unless the swarm is bare.
    Connected,
    Received,
    Status(Status),
    /// A client failed or misses something; the swarm has ended.
    Failed(String),
}

/// What a swarm has seen so far.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Status {
    /// Pings answered, by all clients together.
    pub(crate) pings: u64,
    /// The first frame that brought one publication alone, as it was on the wire; empty before.
    pub(crate) sample: Vec<u8>,
}

/// Connected clients; they are gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Clients {
    helper: Helper,
    connections: u32,
    published: u64,
}

impl Clients {
    /// Connects clients to the gateway at `address` and subscribes each, with a token signed with `secret`.
    pub(crate) fn subscribe(address: SocketAddr, connections: u32, secret: &str) -> Result<Self> {
        let mut clients = Self::start(address, connections, &[])?;
        clients.order(&Order::Secret(secret.to_owned()))?;
        clients.connected()
    }

    /// Opens sockets to the bare loop at `address`.
    pub(crate) fn open(address: SocketAddr, connections: u32) -> Result<Self> {
        Self::start(address, connections, &["--bare"])?.connected()
    }

    /// How many clients there are.
    pub(crate) fn count(&self) -> u32 {
        self.connections
    }

    /// Announces `count` publications and returns their numbers.
    pub(crate) fn expect(&mut self, count: u32) -> Result<Range<u64>> {
        let first = self.published + 1;
        self.published += u64::from(count);
        self.order(&Order::Await(self.published))?;
        Ok(first..self.published + 1)
    }

    /// Waits until every client has what was announced.
    ///
    /// # Errors
    /// A client lost a publication, got one twice or out of order, or was closed.
    pub(crate) fn received(&mut self) -> Result<()> {
        match self.answer()? {
            Answer::Received => Ok(()),
            other => bail!("the swarm answered {other:?} out of turn"),
        }
    }

    /// What the clients have seen so far; also the moment to learn of anything that came too often.
    pub(crate) fn status(&mut self) -> Result<Status> {
        self.order(&Order::Status)?;
        match self.answer()? {
            Answer::Status(status) => Ok(status),
            other => bail!("the swarm answered {other:?} out of turn"),
        }
    }

    fn start(address: SocketAddr, connections: u32, flags: &[&str]) -> Result<Self> {
        let mut arguments =
            vec!["swarm".to_owned(), format!("--address={address}"), format!("--connections={connections}")];
        arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
        Ok(Self { helper: Helper::start(&arguments)?, connections, published: 0 })
    }

    fn connected(mut self) -> Result<Self> {
        match self.answer()? {
            Answer::Connected => Ok(self),
            other => bail!("the swarm answered {other:?} out of turn"),
        }
    }

    fn order(&mut self, order: &Order) -> Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.helper.order(&line)
    }

    fn answer(&mut self) -> Result<Answer> {
        match serde_json::from_str(&self.helper.answer()?)? {
            Answer::Failed(reason) => bail!("clients: {reason}"),
            answer => Ok(answer),
        }
    }
}
