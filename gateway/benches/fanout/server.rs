//! The gateway under test: the real binary, started with its defaults, and its server API.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
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

use super::frame::{self, CHANNEL};
use super::options::Options;
use super::process::{self, CpuMeter};
use super::report::print_error;

const API_KEY: &str = "bench-key";
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Above the default drain: its delay and window.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// The running gateway, for the watchdog, which ends this process without running any destructor.
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);

/// Ends the gateway and this process after `limit`, whatever they are doing. Helpers end with this process.
pub(crate) fn kill_all_after(limit: Duration) {
    thread::spawn(move || {
        thread::sleep(limit);
        print_error(&anyhow!("the bench did not end within {} s", limit.as_secs()));
        if let Ok(mut running) = RUNNING.lock()
            && let Some(pid) = running.take()
        {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::process::exit(1);
    });
}

/// A running gateway; killed when dropped, unless it was [stopped](Self::stop) before.
pub(crate) struct Server {
    child: Child,
    directory: PathBuf,
    public: SocketAddr,
    internal: SocketAddr,
    secret: String,
}

impl Server {
    /// Starts the gateway and waits until it is ready.
    pub(crate) fn start(options: &Options) -> Result<Self> {
        let directory = work_directory()?;
        let [public, internal] = free_addresses()?;
        // Two UUIDs: 64 random characters.
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let config = directory.join("clarion.yaml");
        fs::write(&config, config_file(public, internal, &secret))?;
        let child = spawn(&options.server, &config, &directory.join("clarion.log"))?;
        if let Ok(mut running) = RUNNING.lock() {
            *running = Some(Pid::from_child(&child));
        }
        let mut server = Self { child, directory, public, internal, secret };
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

    /// A client of the server API with a connection of its own.
    pub(crate) fn api(&self) -> Api {
        Api { agent: agent(), base: format!("http://{}/api", self.internal) }
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
        let (agent, url) = (agent(), format!("http://{}/readyz", self.internal));
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("the gateway ended at start with {status}; {}", self.log());
            }
            if agent.get(&url).call().is_ok_and(|response| response.status() == 200) {
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
        // Nobody else may be killed under this number once the process is waited for.
        if let Ok(mut running) = RUNNING.lock() {
            running.take();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server API, over one connection that is kept.
#[derive(Debug)]
pub(crate) struct Api {
    agent: ureq::Agent,
    base: String,
}

impl Api {
    /// Publishes what `numbers` stand for: one by a call of its own, several as one batch.
    ///
    /// # Errors
    /// The gateway refused a publication.
    pub(crate) fn publish(&self, numbers: Range<u64>) -> Result<()> {
        let mut publications: Vec<Value> = numbers.map(publication).collect::<Result<_>>()?;
        if publications.len() == 1 {
            let answer = self.call("publish", &publications.remove(0))?;
            ensure!(answer.get("result").is_some(), "a publication was answered with {answer}");
            return Ok(());
        }
        let commands: Vec<Value> =
            publications.into_iter().map(|publication| json!({"publish": publication})).collect();
        let answer = self.call("batch", &json!({"commands": commands}))?;
        let replies = answer["replies"].as_array().map_or(&[][..], Vec::as_slice);
        let published = replies.iter().filter(|reply| reply.get("publish").is_some()).count();
        ensure!(published == commands.len(), "a batch was answered with {answer}");
        Ok(())
    }

    fn call(&self, method: &str, body: &Value) -> Result<Value> {
        let request = self.agent.post(format!("{}/{method}", self.base)).header("X-API-Key", API_KEY);
        let mut response = request.send(body.to_string()).with_context(|| format!("calling {method}"))?;
        let text = response.body_mut().read_to_string()?;
        ensure!(response.status() == 200, "{method} was answered with {}", response.status());
        serde_json::from_str(&text).with_context(|| format!("the answer to {method} is not JSON"))
    }
}

fn publication(sequence: u64) -> Result<Value> {
    let data: Value = serde_json::from_str(&frame::data(sequence))?;
    Ok(json!({"channel": CHANNEL, "data": data}))
}

/// No proxy: an environment that has one for the world must not get between the bench and loopback.
fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(REQUEST_TIMEOUT))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into()
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
fn config_file(public: SocketAddr, internal: SocketAddr, secret: &str) -> String {
    format!(
        "public:\n  address: 127.0.0.1\n  port: {}\n\
         internal:\n  port: {}\n\
         client:\n  allowed_origins: []\n  token:\n    hmac_secret_key: \"{secret}\"\n\
         channel:\n  without_namespace:\n    allow_subscribe_for_client: true\n\
         api:\n  keys: [\"{API_KEY}\"]\n",
        public.port(),
        internal.port(),
    )
}

/// Two addresses that are free now. Somebody could take one before the gateway does; it then fails at start.
fn free_addresses() -> Result<[SocketAddr; 2]> {
    let public = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let internal = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok([public.local_addr()?, internal.local_addr()?])
}

/// A new directory for the configuration and the log of one gateway.
fn work_directory() -> Result<PathBuf> {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("clarion-bench-{}-{number}", std::process::id()));
    fs::create_dir_all(&directory)?;
    Ok(directory)
}
