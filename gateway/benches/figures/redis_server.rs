//! A `redis-server` of the bench's own: it keeps nothing on disk and listens on loopback only.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use redis::FromRedisValue;

use super::options::Options;
use super::process::CpuMeter;
use super::server::{free_addresses, kill, watch, work_directory};

const START_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(2);

/// A running Redis; killed when dropped.
pub(crate) struct RedisServer {
    binary: PathBuf,
    directory: PathBuf,
    address: SocketAddr,
    child: Child,
}

impl RedisServer {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// There is no such program, or it does not come up.
    pub(crate) fn start(options: &Options) -> Result<Self> {
        let [address, _] = free_addresses()?;
        let (binary, directory) = (options.redis_server.clone(), work_directory()?);
        let child = spawn(&binary, &directory, address)?;
        let server = Self { binary, directory, address, child };
        server.wait_until_up()?;
        Ok(server)
    }

    /// Kills it (`SIGKILL`): what it held is lost.
    pub(crate) fn kill(&mut self) {
        kill(&mut self.child);
    }

    /// Starts it again, empty, at the same address, and waits until it answers.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.child = spawn(&self.binary, &self.directory, self.address)?;
        self.wait_until_up()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn cpu(&self) -> CpuMeter {
        CpuMeter::new(self.child.id())
    }

    /// Asks it, on a connection that is opened for this.
    pub(crate) fn ask<T: FromRedisValue>(&self, words: &[&str]) -> Result<T> {
        let mut connection = self.connect()?;
        let (name, arguments) = words.split_first().context("nothing is asked")?;
        let answer = redis::cmd(name).arg(arguments).query(&mut connection);
        answer.with_context(|| format!("asking Redis for {name}"))
    }

    fn connect(&self) -> Result<redis::Connection> {
        let client = redis::Client::open(format!("redis://{}", self.address))?;
        client.get_connection().context("connecting to Redis")
    }

    fn wait_until_up(&self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if self.ask::<String>(&["PING"]).is_ok() {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        bail!("{} does not answer within {} s", self.binary.display(), START_TIMEOUT.as_secs())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        // Nothing of interest is in it.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn spawn(binary: &PathBuf, directory: &PathBuf, address: SocketAddr) -> Result<Child> {
    let mut command = Command::new(binary);
    command.args(["--bind", "127.0.0.1", "--port"]).arg(address.port().to_string());
    command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(directory);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().with_context(|| format!("starting {}", binary.display()))?;
    watch(&child);
    Ok(child)
}
