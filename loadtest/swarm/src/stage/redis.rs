//! A Redis of our own, which keeps nothing on disk.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::process::Process;
use super::{loopback, wait};

/// How long it may take to start.
const START: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// A server that loses everything when it is killed.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    program: PathBuf,
    directory: PathBuf,
    port: u16,
}

impl Redis {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn start(program: &Path, directory: &Path, port: u16) -> Result<Self> {
        let process = launch(program, directory, port)?;
        let mut redis = Self { process, program: program.to_owned(), directory: directory.to_owned(), port };
        redis.is_up().await?;
        Ok(redis)
    }

    /// Where it listens, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it as a loss of power does.
    ///
    /// # Errors
    /// The kernel does not say how it ended.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again where it was, empty, and waits until it answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn restart(&mut self) -> Result<()> {
        self.process = launch(&self.program, &self.directory, self.port)?;
        self.is_up().await
    }

    /// It stops in the middle of whatever it does, and keeps its connections.
    ///
    /// # Errors
    /// It has ended.
    pub fn freeze(&self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// It goes on where it stopped.
    ///
    /// # Errors
    /// It has ended.
    pub fn thaw(&self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// Runs one command, such as `CLIENT KILL TYPE pubsub`, and answers with the first line of the reply.
    ///
    /// # Errors
    /// There is no reply, or it is an error.
    pub async fn command(&self, line: &str) -> Result<String> {
        let reply = ask(loopback(self.port), line).await?;
        ensure!(!reply.starts_with('-'), "Redis answers `{line}` with {reply}");
        Ok(reply)
    }

    async fn is_up(&mut self) -> Result<()> {
        let address = loopback(self.port);
        let answers = async || ask(address, "PING").await.is_ok_and(|reply| reply == "+PONG");
        wait::until_up(&mut self.process, START, answers).await
    }
}

/// One inline command on a connection of its own; see the section on them in the specification of Redis' protocol.
async fn ask(address: SocketAddr, line: &str) -> Result<String> {
    let asking = async {
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        let mut reply = String::new();
        stream.read_line(&mut reply).await?;
        Ok(reply.trim_end().to_owned())
    };
    timeout(ANSWER, asking).await?
}

fn launch(program: &Path, directory: &Path, port: u16) -> Result<Process> {
    let port = port.to_string();
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
    command.args(["--protected-mode", "yes"]).current_dir(directory);
    Process::start("redis", &mut command, directory)
}
