//! HAProxy before the nodes: clients connect to one address, and nodes come and go behind it while it runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::process::Process;
use super::{loopback, wait};

/// How many nodes may be behind it at one time.
pub const SLOTS: usize = 6;

/// How long it may take to start.
const START: Duration = Duration::from_secs(10);
/// How long an answer of its own may take.
const ANSWER: Duration = Duration::from_secs(5);
/// The group of nodes, as its configuration calls it.
const NODES: &str = "nodes";

/// What it is given.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// How many connect through it.
    pub clients: usize,
    /// As of `nice`: how much it yields to others.
    pub niceness: i32,
}

/// A load balancer. Dropping it kills it, and with it every connection through it.
#[derive(Debug)]
pub struct Proxy {
    _process: Process,
    port: u16,
    socket: PathBuf,
}

impl Proxy {
    /// Starts it with all places empty, and waits until it accepts.
    ///
    /// # Errors
    /// It does not.
    pub async fn start(program: &Path, directory: &Path, port: u16, room: Room) -> Result<Self> {
        let file = directory.join("haproxy.cfg");
        let socket = directory.join("haproxy.sock");
        let open_files = getrlimit(Resource::Nofile).current;
        std::fs::write(&file, config(port, &socket, connections(room.clients, open_files)))?;
        // All its threads have to be, so it is so from its start.
        let mut command = Command::new("nice");
        command.arg("-n").arg(room.niceness.to_string()).arg(program);
        // In the foreground: a daemon would have an id that we do not know.
        command.arg("-db").arg("-f").arg(&file);
        let mut process = Process::start("haproxy", &mut command, directory)?;
        let accepts = async || TcpStream::connect(loopback(port)).await.is_ok();
        wait::until_up(&mut process, START, accepts).await?;
        Ok(Self { _process: process, port, socket })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// Sends clients to the node at `address` too, in the place `slot` (below [`SLOTS`]).
    ///
    /// # Errors
    /// It does not do as it is told.
    pub async fn enter(&self, slot: usize, address: SocketAddr) -> Result<()> {
        let (ip, port) = (address.ip(), address.port());
        self.tell(&format!("set server {NODES}/{slot} addr {ip} port {port}")).await?;
        self.tell(&format!("set server {NODES}/{slot} state ready")).await
    }

    /// Sends nobody to the place `slot` any more. Connections that are there stay.
    ///
    /// # Errors
    /// It does not do as it is told.
    pub async fn leave(&self, slot: usize) -> Result<()> {
        self.tell(&format!("set server {NODES}/{slot} state maint")).await
    }

    /// One command of its runtime API, which says something only if it did not understand, or has changed an address.
    async fn tell(&self, command: &str) -> Result<()> {
        let telling = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            stream.write_all(format!("{command}\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let answer = timeout(ANSWER, telling).await.context("HAProxy does not answer")??;
        let answer = answer.trim();
        ensure!(is_done(answer), "HAProxy answers `{command}` with: {answer}");
        Ok(())
    }
}

fn is_done(answer: &str) -> bool {
    // "no need to change the addr", "IP changed from '127.0.0.1' to …", "port changed from '1' to '8001'".
    answer.is_empty() || answer.contains("changed") || answer.contains("no need to change")
}

/// How many connections it takes at a time. It refuses to start if it would need more open files than it may have.
fn connections(clients: usize, open_files: Option<u64>) -> usize {
    // Those who come back before HAProxy has noticed that they were gone are there twice.
    let wanted = clients + clients / 5 + 500;
    // Two for each connection, and some of its own.
    let possible = open_files.map(|files| files.saturating_sub(200) / 2);
    possible.map_or(wanted, |possible| wanted.min(usize::try_from(possible).unwrap_or(wanted)))
}

/// What HAProxy is told: the nodes are not checked, because the scenario says who is there, as an orchestrator would.
fn config(port: u16, socket: &Path, connections: usize) -> String {
    let servers: String =
        (0..SLOTS).map(|slot| format!("    server {slot} 127.0.0.1:1 disabled\n")).collect();
    format!(
        "global
    stats socket {} mode 600 level admin
    maxconn {connections}

defaults
    mode http
    balance leastconn
    option redispatch 1
    retries 3
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    timeout queue 5s
    timeout tunnel 1h

frontend clients
    bind 127.0.0.1:{port}
    default_backend {NODES}

backend {NODES}
{servers}",
        socket.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_everybody_as_far_as_open_files_go() {
        assert_eq!(connections(2000, Some(20_000)), 2900);
        assert_eq!(connections(8000, Some(20_000)), 9900);
        assert_eq!(connections(8000, None), 10_100);
    }

    #[test]
    fn the_configuration_has_every_place_empty() {
        let config = config(8000, Path::new("/run/x.sock"), 2900);
        assert_eq!(config.matches("127.0.0.1:1 disabled").count(), SLOTS);
        for line in ["maxconn 2900", "bind 127.0.0.1:8000", "stats socket /run/x.sock mode 600 level admin"] {
            assert!(config.contains(line), "{line} is missing from:\n{config}");
        }
        for line in
            ["balance leastconn", "option redispatch 1", "retries 3", "timeout tunnel 1h", "mode http"]
        {
            assert!(config.contains(line), "{line} is missing from:\n{config}");
        }
    }

    #[test]
    fn only_what_was_done_counts_as_done() {
        assert!(is_done(""));
        assert!(is_done("port changed from '1' to '8001' by 'stats socket command'"));
        assert!(!is_done("No such server."));
        assert!(!is_done("Unknown command: 'set sever'"));
    }
}
