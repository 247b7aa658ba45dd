//! One gateway: the real binary in a process of its own, with short clocks.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http::{Answer, Http};
use crate::process::{Process, command};
use crate::token;
use crate::wait;

pub(crate) const API_KEY: &str = "the-api-key-of-the-tests";

/// How long it may take to start, or to answer when nothing holds it up.
const PATIENCE: Duration = Duration::from_secs(20);

/// What carries publications between nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Broker {
    Memory,
    /// What listens here speaks for Redis.
    Redis(SocketAddr),
}

/// A node; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Node {
    process: Process,
    name: String,
    file: PathBuf,
    public: SocketAddr,
    internal: SocketAddr,
    surroundings: Surroundings,
}

/// What a node finds around it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    /// Variables of its environment.
    pub(crate) environment: Environment,
    /// Limits of the system, as `prlimit` takes them.
    pub(crate) limits: &'static [&'static str],
}

/// Variables of the environment of a node, with their values.
pub(crate) type Environment = Vec<(&'static str, String)>;

/// Where a node logs to that is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    /// To its file, as before.
    File,
    /// Where nobody reads.
    Unread,
    /// To a disk that has no room.
    Full,
}

impl Node {
    /// Starts one and waits until it serves; `change` changes its configuration, see [`config`].
    pub(crate) async fn start(
        name: &str,
        directory: &Path,
        broker: Broker,
        surroundings: Surroundings,
        change: impl FnOnce(&mut Value),
    ) -> Result<Self> {
        let mut config = config(name, broker);
        change(&mut config);
        let file = directory.join(format!("{name}.json"));
        fs::write(&file, config.to_string())?;
        let mut process = launch(&file, &surroundings, Log::File)?;
        let (public, internal) = serving(&mut process, 0).await?;
        Ok(Self { process, name: name.to_owned(), file, public, internal, surroundings })
    }

    /// Starts it again, after its end. It has the addresses that it had before.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.restart_logging(Log::File).await
    }

    /// The same, and it logs to `log`.
    pub(crate) async fn restart_logging(&mut self, log: Log) -> Result<()> {
        let mut config: Value = serde_json::from_slice(&fs::read(&self.file)?)?;
        config["public"]["port"] = json!(self.public.port());
        config["internal"]["port"] = json!(self.internal.port());
        fs::write(&self.file, config.to_string())?;
        let said_before = self.process.output().len();
        self.process = launch(&self.file, &self.surroundings, log)?;
        if log == Log::File {
            return serving(&mut self.process, said_before).await.map(drop);
        }
        let lives = async || Ok(self.get("/livez").await.is_ok_and(|answer| answer.status == 200));
        wait::until("the node to live", PATIENCE, lives).await.map(drop)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where clients connect.
    pub(crate) fn public(&self) -> SocketAddr {
        self.public
    }

    /// Where the server API, metrics and health are.
    pub(crate) fn internal(&self) -> SocketAddr {
        self.internal
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    pub(crate) fn freeze(&self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    pub(crate) fn thaw(&self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// Asks it to stop, waits for that, and expects that it went well.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.exit(PATIENCE).await?;
        ensure!(status.success(), "node {} ended with {status}", self.name);
        Ok(())
    }

    /// Waits for its end, which somebody has asked it for; answers how it ended.
    pub(crate) async fn exit_after(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.process.exit(patience).await
    }

    /// What it has logged, one JSON object in each line.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.process.output().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Lines of the levels `warn` and `error` so far.
    pub(crate) fn complaints(&self) -> usize {
        let is_complaint = |line: &Value| matches!(line["level"].as_str(), Some("WARN" | "ERROR"));
        self.log().iter().filter(|line| is_complaint(line)).count()
    }

    /// `GET path` on the internal listener.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        Http::to(self.internal).get(path, PATIENCE).await
    }

    /// Calls the server API; answers its `result`.
    pub(crate) async fn api(&self, method: &str, request: &Value) -> Result<Value> {
        let answer = call_api(&mut Http::to(self.internal), method, request, PATIENCE).await?;
        ensure!(answer.status == 200, "{method} is answered {}: {}", answer.status, answer.body);
        let mut body: Value = serde_json::from_str(&answer.body)?;
        ensure!(body.get("error").is_none(), "{method} is answered {body}");
        Ok(body["result"].take())
    }

    /// The value of a metric, summed over its series; see `metrics::Samples` for `name`.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        let answer = self.get("/metrics").await?;
        ensure!(answer.status == 200, "/metrics is answered {}: {}", answer.status, answer.body);
        Ok(crate::metrics::Samples::parse(&answer.body).get(name))
    }

    /// Whether it wants new clients.
    pub(crate) async fn is_ready(&self) -> Result<bool> {
        Ok(self.get("/readyz").await?.status == 200)
    }
}

/// One request to the server API.
pub(crate) async fn call_api(
    http: &mut Http,
    method: &str,
    request: &Value,
    patience: Duration,
) -> Result<Answer> {
    let key = format!("x-api-key: {API_KEY}\r\n");
    http.post(&format!("/api/{method}"), &key, &request.to_string(), patience).await
}

fn launch(file: &Path, surroundings: &Surroundings, log: Log) -> Result<Process> {
    const BINARY: &str = env!("CARGO_BIN_EXE_clarion");
    let Surroundings { environment, limits } = surroundings;
    let mut command = command(if limits.is_empty() { BINARY } else { "prlimit" });
    if !limits.is_empty() {
        // It becomes the node: the process stays the same.
        command.args(*limits).arg(BINARY);
    }
    command.args(["serve", "--config"]).arg(file).envs(environment.iter().map(|(name, value)| (name, value)));
    let output = file.with_extension("log");
    match log {
        Log::File => Process::start(&mut command, &output),
        Log::Unread => Process::start_unread(&mut command, &output),
        Log::Full => Process::start_full(&mut command, &output),
    }
}

/// Waits for the line that says where it serves, behind the first `skipped` bytes.
async fn serving(process: &mut Process, skipped: usize) -> Result<(SocketAddr, SocketAddr)> {
    let mut addresses = None;
    wait::until("the node to serve", PATIENCE, async || {
        // Before its output is read: its last words are in it then.
        let ended = process.ended()?;
        let output = process.output();
        ensure!(ended.is_none(), "the node ended at once, with {ended:?}: {output}");
        addresses = output.get(skipped..).unwrap_or_default().lines().find_map(addresses_in);
        Ok(addresses.is_some())
    })
    .await?;
    addresses.context("it was waited for")
}

fn addresses_in(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let address = |name: &str| line[name].as_str()?.parse().ok();
    Some((address("public")?, address("internal")?))
}

/// Short clocks, and four kinds of channels: `kept:` recovers, `room:` shows who is there, `both:` does both, `plain:`
/// does neither.
pub(crate) fn config(name: &str, broker: Broker) -> Value {
    let broker = match broker {
        Broker::Memory => json!({"type": "memory"}),
        Broker::Redis(address) => json!({
            "type": "redis",
            "redis": {
                "address": format!("redis://{address}"),
                "connect_timeout": "1s", "command_timeout": "1s", "probe_interval": "1s",
            },
        }),
    };
    json!({
        "node": {"name": name},
        "public": {"address": "127.0.0.1", "port": 0},
        "internal": {"address": "127.0.0.1", "port": 0},
        "shards": 2,
        "client": {
            "token": {"hmac_secret_key": token::SECRET},
            "ping_interval": "2s", "pong_timeout": "1s",
            "position_check_interval": "1s",
            "presence_update_interval": "2s",
        },
        "channel": {"presence_ttl": "6s", "namespaces": namespaces()},
        "api": {"keys": [API_KEY]},
        "broker": broker,
        "cluster": {"heartbeat_interval": "500ms", "node_ttl": "2s"},
        "drain": {"delay": "0s", "window": "0s"},
        "log": {"level": "info", "format": "json"},
    })
}

fn namespaces() -> Value {
    let keeps = json!({"history_size": 5000, "history_ttl": "10m", "force_recovery": true});
    let shows = json!({
        "presence": true, "join_leave": true, "force_push_join_leave": true, "leave_grace": "0s",
        "allow_presence_for_subscriber": true,
    });
    let namespace = |name: &str, parts: &[&Value]| {
        let mut options = json!({"name": name, "allow_subscribe_for_client": true});
        for (key, value) in parts.iter().filter_map(|part| part.as_object()).flatten() {
            options[key] = value.clone();
        }
        options
    };
    json!([
        namespace("kept", &[&keeps]),
        namespace("room", &[&shows]),
        namespace("both", &[&keeps, &shows]),
        namespace("plain", &[]),
    ])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cleanup::Directory;

    crate::own::tests!(; a_node_answers_and_is_started_again_where_it_was);

    async fn a_node_answers_and_is_started_again_where_it_was() {
        let directory = Directory::make("own-node").unwrap();
        let mut node =
            Node::start("alone", &directory, Broker::Memory, Surroundings::default(), |_| {}).await.unwrap();
        let request = json!({"channel": "kept:a", "data": 1});
        assert_eq!(node.api("publish", &request).await.unwrap()["offset"], 1);
        assert!(node.is_ready().await.unwrap());
        assert_eq!(node.metric("clarion_broker_up").await.unwrap(), 1.0);
        assert!(node.api("publish", &json!({"channel": "unknown:a", "data": 1})).await.is_err());
        let public = node.public();
        node.kill().unwrap();
        node.restart().await.unwrap();
        assert_eq!(node.public(), public);
        assert_eq!(node.api("publish", &request).await.unwrap()["offset"], 1, "it forgot");
        node.stop().await.unwrap();
    }
}
