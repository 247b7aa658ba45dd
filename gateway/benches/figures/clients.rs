//! The clients of one server, as the bench drives them; the sockets are in `swarm`, another process.
//!
//! Publications are numbered from 1 per swarm. [`Clients::expect`] announces the next ones, [`Clients::received`]
//! waits until every client has each of them exactly once and in order.

use std::mem::discriminant;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::helper::Helper;
use super::options::Spread;
use super::server::Server;

/// What the bench asks of a swarm, one JSON object per line.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Sign the tokens with this, and connect; the first order of a swarm that is not bare.
    Secret(String),
    /// Subscribe each client, and answer [`Answer::Subscribed`].
    Subscribe,
    /// Cut all lines. Every client has all publications up to now.
    Leave,
    /// Connect again, and answer [`Answer::Connected`].
    Return,
    /// Subscribe each client from where it was; it must recover the publications up to this one, and none else.
    Recover(u64),
    /// Answer [`Answer::Received`] once every client has all publications up to this one, which is published at this
    /// time, in nanoseconds since 1970.
    Await(u64, u64),
    /// Answer [`Answer::Status`] at once.
    Status,
}

/// What a swarm answers, likewise.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Every client is connected, and subscribed unless the swarm is bare or subscribes apart.
    Connected,
    Subscribed,
    Left,
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
    /// Joins and leaves heard of, by all clients together.
    pub(crate) notices: u64,
    /// The first frame that brought one publication alone, as it was on the wire; empty before.
    pub(crate) sample: Vec<u8>,
    /// How late deliveries were since the last answer, if they are [timed](Start::timed).
    pub(crate) lateness: Lateness,
}

/// From publishing to having read a delivery, in microseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Lateness {
    pub(crate) deliveries: usize,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
}

/// How clients begin.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start {
    /// Subscribe when told to, instead of with connecting.
    pub(crate) apart: bool,
    /// Ask for joins and leaves.
    pub(crate) hearing: bool,
    /// Read at once what comes, and note how late it is.
    pub(crate) timed: bool,
}

/// Connected clients; they are gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Clients {
    helper: Helper,
    connections: u32,
    published: u64,
}

impl Clients {
    /// Connects clients to the gateway and subscribes each.
    pub(crate) fn subscribe(server: &Server, connections: u32) -> Result<Self> {
        Self::begin(server, connections, Start::default())
    }

    /// Connects clients to the gateway, each with a token of its own.
    pub(crate) fn begin(server: &Server, connections: u32, start: Start) -> Result<Self> {
        let flags = [(start.apart, "--apart"), (start.hearing, "--hearing"), (start.timed, "--timed")];
        let flags: Vec<&str> = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag).collect();
        let mut clients = Self::start(server.public(), connections, &flags)?;
        clients.tell(&Order::Secret(server.secret().to_owned()), &Answer::Connected)?;
        Ok(clients)
    }

    /// Connects `each` clients for every channel of `spread`, and subscribes them.
    pub(crate) fn spread(server: &Server, spread: &Spread, each: u32, is_timed: bool) -> Result<Self> {
        let spreading = format!("--spread={spread}");
        let flags = [spreading.as_str(), "--timed"];
        let flags = if is_timed { &flags[..] } else { &flags[..1] };
        let mut clients = Self::start(server.public(), each * spread.count, flags)?;
        clients.tell(&Order::Secret(server.secret().to_owned()), &Answer::Connected)?;
        Ok(clients)
    }

    /// Opens sockets to the bare loop at `address`.
    pub(crate) fn open(address: SocketAddr, connections: u32) -> Result<Self> {
        let mut clients = Self::start(address, connections, &["--bare"])?;
        clients.hear(&Answer::Connected)?;
        Ok(clients)
    }

    /// Subscribes all at once.
    pub(crate) fn subscribe_all(&mut self) -> Result<()> {
        self.tell(&Order::Subscribe, &Answer::Subscribed)
    }

    /// Cuts all lines.
    pub(crate) fn leave(&mut self) -> Result<()> {
        self.tell(&Order::Leave, &Answer::Left)
    }

    /// The numbers of `count` publications that come while all are away.
    pub(crate) fn miss(&mut self, count: u32) -> Range<u64> {
        let first = self.published + 1;
        self.published += u64::from(count);
        first..self.published + 1
    }

    /// Connects again all that left; nobody is subscribed yet.
    pub(crate) fn come_back(&mut self) -> Result<()> {
        self.tell(&Order::Return, &Answer::Connected)
    }

    /// Subscribes all at once, from where they were.
    ///
    /// # Errors
    /// A client did not recover exactly what it missed, in order.
    pub(crate) fn recover_all(&mut self) -> Result<()> {
        self.tell(&Order::Recover(self.published), &Answer::Subscribed)
    }

    /// How many clients there are.
    pub(crate) fn count(&self) -> u32 {
        self.connections
    }

    /// Announces `count` publications and returns their numbers.
    pub(crate) fn expect(&mut self, count: u32) -> Result<Range<u64>> {
        let first = self.published + 1;
        self.published += u64::from(count);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        self.order(&Order::Await(self.published, u64::try_from(now.as_nanos())?))?;
        Ok(first..self.published + 1)
    }

    /// Waits until every client has what was announced.
    ///
    /// # Errors
    /// A client lost a publication, got one twice or out of order, or was closed.
    pub(crate) fn received(&mut self) -> Result<()> {
        self.hear(&Answer::Received)
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

    fn tell(&mut self, order: &Order, answer: &Answer) -> Result<()> {
        self.order(order)?;
        self.hear(answer)
    }

    fn hear(&mut self, expected: &Answer) -> Result<()> {
        let answer = self.answer()?;
        ensure!(discriminant(&answer) == discriminant(expected), "the swarm answered {answer:?} out of turn");
        Ok(())
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
