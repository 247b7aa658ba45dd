//! What a run is played on: a Redis, nodes of the gateway, and a load balancer in front of them, all on this machine.
//!
//! Everything is a child process that ends with its guard, by its id; everything listens on loopback and writes into
//! one directory. Nothing here knows what is played: a scenario starts nodes, shows them to clients and takes them away.

pub mod node;
pub mod ports;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod redis;
mod wait;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Result;

use self::node::{Node, NodeSettings};
use self::ports::Ports;
use self::programs::Programs;
use self::proxy::{Proxy, Room, SLOTS};
use self::redis::Redis;

/// A Redis, a load balancer that sends clients nowhere yet, and what it takes to start nodes. Dropping it ends all.
#[derive(Debug)]
pub struct Stage {
    proxy: Proxy,
    redis: Redis,
    programs: Programs,
    settings: NodeSettings,
    ports: Ports,
    nodes_started: usize,
    free_slots: Vec<usize>,
    directory: PathBuf,
}

/// A node, and how others reach it.
#[derive(Debug)]
pub struct Member {
    /// The process.
    pub node: Node,
    /// What is known of it elsewhere.
    pub endpoint: Endpoint,
}

/// What a load balancer and a back end know of a node.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// What it is called in this run.
    pub name: String,
    /// Where it takes clients.
    pub public: SocketAddr,
    /// Where it serves the server API and its metrics.
    pub internal: SocketAddr,
    /// Its place in the load balancer.
    slot: usize,
}

impl Stage {
    /// Starts Redis and the load balancer, for this many clients and as nice as `proxy_niceness` says. Nodes will run with
    /// `settings`. Everything writes its configuration and its log into `directory`.
    ///
    /// # Errors
    /// One of them does not start; the end of its log is part of the error.
    pub async fn start(
        programs: Programs,
        settings: NodeSettings,
        directory: &Path,
        clients: usize,
        proxy_niceness: i32,
    ) -> Result<Self> {
        let mut ports = Ports::of_this_machine();
        let redis = Redis::start(&programs.redis_server, directory, ports.take()?).await?;
        let room = Room { clients, niceness: proxy_niceness };
        let proxy = Proxy::start(&programs.haproxy, directory, ports.take()?, room).await?;
        let free_slots = (0..SLOTS).rev().collect();
        let directory = directory.to_owned();
        Ok(Self { proxy, redis, programs, settings, ports, nodes_started: 0, free_slots, directory })
    }

    /// Starts one more node and waits until it is ready. Clients are not sent there before [`Stage::enter`].
    ///
    /// # Errors
    /// It does not become ready, or there are as many nodes as the load balancer has places for.
    pub async fn start_node(&mut self) -> Result<Member> {
        let slot = self.free_slots.pop();
        let slot =
            slot.ok_or_else(|| anyhow::anyhow!("the load balancer has {SLOTS} places, and all are taken"))?;
        self.nodes_started += 1;
        let name = format!("node-{}", self.nodes_started);
        let (public, internal) = (self.ports.take()?, self.ports.take()?);
        let config = self.settings.config(&name, public, internal, self.redis.port());
        let node = Node::start(&self.programs.gateway, &self.directory, &name, &config).await?;
        let endpoint = Endpoint { name, public: loopback(public), internal: loopback(internal), slot };
        Ok(Member { node, endpoint })
    }

    /// From now on clients are sent to `endpoint` too.
    ///
    /// # Errors
    /// The load balancer does not do as it is told.
    pub async fn enter(&self, endpoint: &Endpoint) -> Result<()> {
        self.proxy.enter(endpoint.slot, endpoint.public).await
    }

    /// From now on no clients are sent to `endpoint`; those that are there stay.
    ///
    /// # Errors
    /// The load balancer does not do as it is told.
    pub async fn leave(&self, endpoint: &Endpoint) -> Result<()> {
        self.proxy.leave(endpoint.slot).await
    }

    /// Forgets a node that has ended; whatever of it still runs is killed.
    pub fn discard(&mut self, member: Member) {
        let Member { node, endpoint } = member;
        drop(node);
        self.free_slots.insert(0, endpoint.slot);
    }

    /// Where clients connect to.
    pub fn public(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// The Redis that nodes share.
    pub fn redis(&mut self) -> &mut Redis {
        &mut self.redis
    }
}

/// A port of this machine that nobody else reaches.
fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
