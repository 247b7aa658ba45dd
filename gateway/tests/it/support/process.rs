use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use super::eventually;

/// The real binary at work; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Runs `clarion` with `arguments` and nothing in its environment but `variables`.
    pub(crate) fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::launch(Command::new(env!("CARGO_BIN_EXE_clarion")), None, arguments, variables)
    }

    /// The same with its standard error, where logs go, at `output`.
    pub(crate) fn start_logging(output: Stdio, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::launch(Command::new(env!("CARGO_BIN_EXE_clarion")), Some(output), arguments, variables)
    }

    /// The same under limits of its own, as `--nofile=256`.
    pub(crate) fn start_limited(limits: &[&str], arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut prlimit = Command::new("prlimit");
        prlimit.args(limits).arg(env!("CARGO_BIN_EXE_clarion"));
        Self::launch(prlimit, None, arguments, variables)
    }

    fn launch(
        mut command: Command,
        output: Option<Stdio>,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let file = |name| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("clarion-{number}.{name}"));
        let (stdout, stderr) = (file("stdout"), file("stderr"));
        let create = |path| Stdio::from(File::create(path).expect("the directory of tests is writable"));
        let child = command
            .args(arguments)
            .env_clear()
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(create(&stdout))
            .stderr(output.unwrap_or_else(|| create(&stderr)))
            .spawn()
            .expect("the binary starts");
        Self { child, stdout, stderr }
    }

    /// What it wrote so far.
    pub(crate) fn output(&self) -> String {
        [&self.stdout, &self.stderr].map(|path| fs::read_to_string(path).expect("it is text")).concat()
    }

    /// By what the system knows it.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).expect("it is text")
    }

    /// Where it serves clients, and where it serves the rest.
    pub(crate) async fn addresses(&mut self) -> (SocketAddr, SocketAddr) {
        let mut addresses = None;
        eventually("the node to serve", async || {
            let ended = self.child.try_wait().expect("it is our child");
            assert_eq!(ended, None, "{}", self.output());
            addresses = self.output().lines().find_map(addresses_in);
            addresses.is_some()
        })
        .await;
        addresses.expect("it was waited for")
    }

    pub(crate) fn send_signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// How it ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process to end", async || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        })
        .await;
        status.expect("it was waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_file(&self.stdout));
        drop(fs::remove_file(&self.stderr));
    }
}

/// The addresses in the line that says that the node serves.
fn addresses_in(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let json: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    let address = |name: &str| {
        // As text it is `name=address` somewhere.
        let in_text = || line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        json[name].as_str().or_else(in_text)?.parse().ok()
    };
    Some((address("public")?, address("internal")?))
}
