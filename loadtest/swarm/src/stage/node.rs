//! A node of the gateway: its configuration, its process, and what it says of itself.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::process::Process;
use super::{loopback, wait};

/// How long a node may take to become ready.
const START: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// The namespace in which everything happens: recoverable, with presence, and joins and leaves for who asks.
pub const NAMESPACE: &str = "room";

/// What all nodes of a run have in common.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// How long a node still accepts after SIGTERM.
    pub drain_delay: Duration,
    /// Over how long it closes its connections then.
    pub drain_window: Duration,
    /// Signs tokens of clients (HS256); at least 32 bytes.
    pub token_secret: String,
    /// For the server API.
    pub api_key: String,
    /// Nodes that know nothing of each other: a fault, to see that it is found.
    pub islands: bool,
}

impl NodeSettings {
    /// The configuration of one node. Every key that a run relies on is here, and only here.
    pub fn config(&self, name: &str, public: u16, internal: u16, redis: u16) -> Value {
        let duration = |duration: Duration| humantime::format_duration(duration).to_string();
        let broker = if self.islands {
            json!({"type": "memory"})
        } else {
            json!({"type": "redis", "redis": {"address": format!("redis://127.0.0.1:{redis}")}})
        };
        json!({
            "node": {"name": name, "internal_address": loopback(internal).to_string()},
            "public": {"address": "127.0.0.1", "port": public},
            "internal": {"address": "127.0.0.1", "port": internal},
            "client": {"token": {"hmac_secret_key": self.token_secret}},
            "channel": {"namespaces": [{
                "name": NAMESPACE,
                "allow_subscribe_for_client": true,
                "presence": true,
                "join_leave": true,
                "history_size": 5000,
                "history_ttl": "300s",
                "force_recovery": true,
            }]},
            "api": {"keys": [self.api_key]},
            "broker": broker,
            "cluster": {"heartbeat_interval": "1s"},
            "drain": {"delay": duration(self.drain_delay), "window": duration(self.drain_window)},
            "log": {"format": "text"},
        })
    }
}

/// A process that is ready to serve. Dropping it kills it.
#[derive(Debug)]
pub struct Node {
    process: Process,
    internal: SocketAddr,
    http: reqwest::Client,
}

impl Node {
    /// Writes `config` into `directory`, starts a node with it, and waits until `/readyz` says 200.
    ///
    /// # Errors
    /// It does not start, or does not become ready; the file with its log is named.
    pub async fn start(program: &Path, directory: &Path, name: &str, config: &Value) -> Result<Self> {
        let file = directory.join(format!("{name}.json"));
        fs::write(&file, format!("{config:#}\n"))?;
        let mut command = Command::new(program);
        // Settings of whoever runs this are not those of the run.
        command.arg("serve").arg("--config").arg(&file).env_clear();
        let mut node = Self {
            process: Process::start(name, &mut command, directory)?,
            internal: internal(config)?,
            http: reqwest::Client::builder().timeout(ANSWER).no_proxy().build()?,
        };
        let ready = format!("http://{}/readyz", node.internal);
        let http = node.http.clone();
        let is_ready = async || http.get(&ready).send().await.is_ok_and(|answer| answer.status() == 200);
        wait::until_up(&mut node.process, START, is_ready).await?;
        Ok(node)
    }

    /// What it is called in this run.
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// What it says of itself now.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metrics(&self) -> Result<Metrics> {
        metrics(&self.http, self.internal).await
    }

    /// Sends SIGTERM: it is to drain and to end.
    ///
    /// # Errors
    /// It has ended.
    pub fn terminate(&self) -> Result<()> {
        self.process.signal(Signal::TERM)
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// The kernel does not say how it ended.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Waits until it ends, which it was told to do. `None` if it does not within `patience`.
    pub async fn exit(&mut self, patience: Duration) -> Option<ExitStatus> {
        self.process.exit(patience).await
    }
}

/// Where a node serves the server API and its metrics, by its configuration.
fn internal(config: &Value) -> Result<SocketAddr> {
    let port = config["internal"]["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    Ok(loopback(port.context("the configuration has no internal port")?))
}

/// Asks the node at `internal` for its metrics.
///
/// # Errors
/// It does not answer.
pub async fn metrics(http: &reqwest::Client, internal: SocketAddr) -> Result<Metrics> {
    let answer = http.get(format!("http://{internal}/metrics")).send().await?;
    Ok(Metrics(answer.error_for_status()?.text().await?))
}

/// A text of metrics in the format of Prometheus.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    /// The value of a metric, summed over its labels; 0 if there is no such metric.
    pub fn sum(&self, name: &str) -> f64 {
        self.0.lines().filter_map(|line| sample(line, name)).sum()
    }
}

/// The value on a line, if it is one of the metric `name`.
fn sample(line: &str, name: &str) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let value = match rest.strip_prefix('{') {
        Some(labels) => labels.rsplit_once('}')?.1,
        None => rest.strip_prefix(' ')?,
    };
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> NodeSettings {
        NodeSettings {
            drain_delay: Duration::from_secs(5),
            drain_window: Duration::from_millis(2500),
            token_secret: "s".repeat(32),
            api_key: "key".into(),
            islands: false,
        }
    }

    #[test]
    fn a_configuration_says_where_the_node_listens_how_it_drains_and_what_it_keeps() {
        let config = settings().config("node-1", 8001, 9001, 7001);
        assert_eq!(config["public"], json!({"address": "127.0.0.1", "port": 8001}));
        assert_eq!(internal(&config).unwrap(), loopback(9001));
        assert_eq!(config["node"]["internal_address"], "127.0.0.1:9001");
        assert_eq!(config["drain"], json!({"delay": "5s", "window": "2s 500ms"}));
        assert_eq!(config["broker"]["redis"]["address"], "redis://127.0.0.1:7001");
        let namespace = &config["channel"]["namespaces"][0];
        assert_eq!(namespace["force_recovery"], true);
        assert!(namespace["history_size"].as_u64().unwrap() >= 1000);
    }

    #[test]
    fn islands_share_nothing() {
        let config = NodeSettings { islands: true, ..settings() }.config("node-1", 8001, 9001, 7001);
        assert_eq!(config["broker"], json!({"type": "memory"}));
    }

    #[test]
    fn metrics_are_summed_over_labels_and_not_mixed_up_with_longer_names() {
        let text = "# HELP clarion_connections Open.\n\
            clarion_connections{transport=\"websocket\",protocol=\"a} 9\"} 3\n\
            clarion_connections{transport=\"websocket\",protocol=\"b\"} 4\n\
            clarion_connections_limit 100\n\
            clarion_draining 1\n";
        let metrics = Metrics(text.into());
        assert_eq!(metrics.sum("clarion_connections"), 7.0);
        assert_eq!(metrics.sum("clarion_draining"), 1.0);
        assert_eq!(metrics.sum("clarion_nothing"), 0.0);
    }
}
