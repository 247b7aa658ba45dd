//! The gateway under test: the real binary, started with its defaults and with what a question is about.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use uuid::Uuid;

use super::api::{self, API_KEY, Api};
use super::options::Options;
use super::process::{self, CpuMeter};
use super::report::print_error;

const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Far more than a node takes that does not drain.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Memory counts as quiet when it has moved by less than this for `QUIET_SECONDS`, after at most `QUIET_SECONDS_MAX`:
/// the allocator gives back what was needed for a moment over some ten seconds.
const QUIET_BYTES: u64 = 64 * 1024;
const QUIET_SECONDS: u32 = 3;
const QUIET_SECONDS_MAX: u32 = 20;
const POLL: Duration = Duration::from_millis(20);

/// The servers that run, for the watchdog, which ends this process without running any destructor.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Ends all servers and this process after `limit`, whatever they are doing. Helpers end with this process.
pub(crate) fn kill_all_after(limit: Duration) {
    thread::spawn(move || {
        thread::sleep(limit);
        print_error(&anyhow!("the bench did not end within {} s", limit.as_secs()));
        if let Ok(mut running) = RUNNING.lock() {
            for pid in running.drain(..) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        std::process::exit(1);
    });
}

/// `child` is not to outlive the bench, however that ends.
pub(crate) fn watch(child: &Child) {
    if let Ok(mut running) = RUNNING.lock() {
        running.push(Pid::from_child(child));
    }
}

/// Kills `child`.
pub(crate) fn kill(child: &mut Child) {
    // Nobody else may be killed under this number once the process is waited for.
    if let Ok(mut running) = RUNNING.lock() {
        running.retain(|pid| *pid != Pid::from_child(child));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// A running gateway; killed when dropped, unless it was [stopped](Self::stop) before.
pub(crate) struct Server {
    child: Child,
    directory: PathBuf,
    public: SocketAddr,
    internal: SocketAddr,
    secret: String,
    agent: ureq::Agent,
}

impl Server {
    /// Starts the gateway with its defaults and waits until it is ready.
    pub(crate) fn start(options: &Options) -> Result<Self> {
        Self::start_with(options, &json!({}))
    }

    /// Starts it with some settings that are no defaults, as a tree, and waits until it is ready.
    pub(crate) fn start_with(options: &Options, settings: &Value) -> Result<Self> {
        let directory = work_directory()?;
        let [public, internal] = free_addresses()?;
        // Two UUIDs: 64 random characters.
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let config = directory.join("clarion.json");
        let mut tree = necessities(public, internal, &secret);
        lay_over(&mut tree, settings);
        fs::write(&config, tree.to_string())?;
        let child = spawn(&options.server, &config, &directory.join("clarion.log"))?;
        watch(&child);
        let mut server = Self { child, directory, public, internal, secret, agent: api::agent() };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Where clients connect.
    pub(crate) fn public(&self) -> SocketAddr {
        self.public
    }

    /// What the tokens of clients are signed with.
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    pub(crate) fn cpu(&self) -> CpuMeter {
        CpuMeter::new(self.child.id())
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        process::resident_bytes(self.child.id())
    }

    /// Resident memory in bytes, once it no longer moves.
    pub(crate) fn quiet_bytes(&self) -> Result<u64> {
        let mut bytes = self.resident_bytes()?;
        let mut quiet_seconds = 0;
        for _ in 0..QUIET_SECONDS_MAX {
            thread::sleep(Duration::from_secs(1));
            let now = self.resident_bytes()?;
            quiet_seconds = if now.abs_diff(bytes) < QUIET_BYTES { quiet_seconds + 1 } else { 0 };
            bytes = now;
            if quiet_seconds == QUIET_SECONDS {
                break;
            }
        }
        Ok(bytes)
    }

    /// Calls the gateway's memory of now its peak.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        process::forget_peak(self.child.id())
    }

    /// The most resident memory since [`forget_peak`](Self::forget_peak), in bytes.
    pub(crate) fn peak_bytes(&self) -> Result<u64> {
        process::peak_bytes(self.child.id())
    }

    /// Where the server API and the metrics are.
    pub(crate) fn internal(&self) -> SocketAddr {
        self.internal
    }

    /// The sum of a metric over all its labels; 0 as long as there is none.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        let mut response = self.agent.get(format!("http://{}/metrics", self.internal)).call()?;
        let text = response.body_mut().read_to_string()?;
        let samples = text.lines().filter_map(|line| line.strip_prefix(name));
        let samples = samples.filter(|rest| rest.starts_with([' ', '{']));
        Ok(samples.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// A client of the server API with a connection of its own.
    pub(crate) fn api(&self) -> Api {
        Api::new(self.internal)
    }

    /// Asks the gateway to end.
    ///
    /// # Errors
    /// It did not within a minute, or not with exit code 0. Its log is kept and named.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the gateway ended with {status}; {}", self.log());
                fs::remove_dir_all(&self.directory)?;
                return Ok(());
            }
            thread::sleep(POLL);
        }
        bail!("the gateway did not end within {} s of SIGTERM; {}", STOP_TIMEOUT.as_secs(), self.log())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let url = format!("http://{}/readyz", self.internal);
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("the gateway ended at start with {status}; {}", self.log());
            }
            if self.agent.get(&url).call().is_ok_and(|response| response.status() == 200) {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        bail!("the gateway is not ready within {} s; {}", START_TIMEOUT.as_secs(), self.log())
    }

    fn log(&self) -> String {
        format!("its log is {}", self.directory.join("clarion.log").display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

fn spawn(binary: &Path, config: &Path, log: &Path) -> Result<Child> {
    let log = fs::File::create(log)?;
    let mut command = Command::new(binary);
    // Settings of whoever runs the bench would no longer be the defaults.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CLARION_")) {
        command.env_remove(name);
    }
    command.args(["serve", "--config"]).arg(config);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("starting {}", binary.display()))
}

/// Only what the bench cannot do without; everything else is a default.
fn necessities(public: SocketAddr, internal: SocketAddr, secret: &str) -> Value {
    json!({
        "public": {"address": "127.0.0.1", "port": public.port()},
        "internal": {"port": internal.port()},
        "client": {"token": {"hmac_secret_key": secret}},
        "channel": {"without_namespace": {"allow_subscribe_for_client": true}},
        "api": {"keys": [API_KEY]},
        // Nobody is to be spared here, neither by waiting nor by letting wait.
        "drain": {"delay": "0s", "window": "0s"},
        "admission": {"handshakes_per_second": 1_000_000},
    })
}

/// Puts `settings` into `tree`, level by level.
fn lay_over(tree: &mut Value, settings: &Value) {
    match (tree, settings) {
        (Value::Object(tree), Value::Object(settings)) => {
            for (name, setting) in settings {
                lay_over(tree.entry(name).or_insert(Value::Null), setting);
            }
        }
        (tree, setting) => *tree = setting.clone(),
    }
}

/// Addresses that are free now. Somebody could take one before the gateway does; it then fails at start.
pub(crate) fn free_addresses() -> Result<[SocketAddr; 2]> {
    let public = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let internal = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok([public.local_addr()?, internal.local_addr()?])
}

/// A new directory for the configuration and the log of one server.
pub(crate) fn work_directory() -> Result<PathBuf> {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("clarion-bench-{}-{number}", std::process::id()));
    fs::create_dir_all(&directory)?;
    Ok(directory)
}
