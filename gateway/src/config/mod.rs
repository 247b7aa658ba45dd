//! Every setting: its type, its default, its unit, and what it may be.
//!
//! Owns where values come from (defaults, then a file, then `CLARION__SECTION__KEY`) and refuses
//! whatever nothing would use. It must not act on a setting: it binds nothing, logs nothing, and knows
//! of keys only whether they could be used. Enter by [`Config::load`].

mod api;
mod auto;
mod broker;
mod channel;
mod client;
mod debug;
mod drain;
mod entry;
mod log;
mod otlp;
mod place;
mod public_key;
mod secret_file;
mod source;
#[cfg(test)]
mod tests;
mod tls;
mod validate;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};

pub use api::{Api, ApiKey, Scope};
pub use auto::Auto;
pub use broker::{Broker, BrokerType, Cluster, Redis, RedisTls};
pub use channel::{
    ChannelOptions, ChannelSection, Channels, DataFormat, LeaveGrace, NamespaceId, Pattern, RecoveryMode,
    SlowConsumer, UnknownNamespace,
};
pub use client::{Algorithm, Client, PersonalChannel, Reject, Token};
pub use debug::Debugging;
pub use drain::{Admission, Drain, Rebalance};
pub use log::{Log, LogFormat, LogLevel};
pub use otlp::Otlp;
pub use public_key::{KeyKind, KeyMaterial, PublicKey, PublicKeyError};
pub use tls::{InternalTls, PublicTls, TlsFiles, TlsMaterial, TlsTexts, certificate_expiry};
pub use validate::is_well_known;

use crate::model::Secret;

/// The whole configuration of a node.
///
/// `Serialize` exists to compare and to describe it; secrets come out as `***`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This node.
    pub node: Node,
    /// The listener of client transports; the only one to expose.
    pub public: Public,
    /// The listener of the server API, metrics and health; never exposed.
    pub internal: Internal,
    /// Event loops for sockets; 1 to 1024. Auto = the CPUs that this process may use.
    pub shards: Auto<usize>,
    /// Client connections.
    pub client: Client,
    /// Channels and namespaces.
    pub channel: ChannelSection,
    /// The server API.
    pub api: Api,
    /// What carries publications between nodes.
    pub broker: Broker,
    /// What nodes know of one another.
    pub cluster: Cluster,
    /// How a node that stops lets go of its clients.
    pub drain: Drain,
    /// How fast clients may come.
    pub admission: Admission,
    /// Whether nodes even out how many clients they have.
    pub rebalance: Rebalance,
    /// Logs.
    pub log: Log,
    /// What helps to find out why a node does what it does.
    pub debug: Debugging,
    /// The file that was read, if it holds comments and no setting. It is no setting itself.
    #[serde(skip)]
    pub comments_only: Option<PathBuf>,
    /// Traces.
    pub otlp: Otlp,
}

/// This node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Its name in logs, metrics and traces; the host name by default.
    pub name: String,
    /// Where other nodes reach the internal listener, as `host:port`. `auto` = the address of the host name, with
    /// the port of `internal`.
    pub internal_address: String,
}

impl Default for Node {
    fn default() -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = name.trim();
        Self {
            name: if name.is_empty() { "localhost".into() } else { name.into() },
            internal_address: "auto".into(),
        }
    }
}

/// The listener of client transports.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Public {
    /// Address to listen on.
    pub address: IpAddr,
    /// Port to listen on; 0 = any free one.
    pub port: u16,
    /// How long a client may take to send the head of its request; above 0.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// Networks (CIDR, or one address) of proxies whose word on a client's address is taken: `X-Forwarded-For` or
    /// `Forwarded`.
    pub trusted_proxies: Vec<String>,
    /// TLS.
    pub tls: PublicTls,
}

impl Default for Public {
    fn default() -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 8000,
            header_timeout: Duration::from_secs(5),
            trusted_proxies: Vec::new(),
            tls: PublicTls::default(),
        }
    }
}

impl Public {
    /// `trusted_proxies`, which have been validated.
    pub fn trusted_networks(&self) -> Vec<IpNet> {
        self.trusted_proxies.iter().filter_map(|text| network(text)).collect()
    }
}

/// A network as `10.0.0.0/8`, or as the one address in it; `None` if it is neither.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// The listener of the server API, metrics and health.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Internal {
    /// Address to listen on. With the address and port of `public`, one listener serves both.
    pub address: IpAddr,
    /// Port to listen on; 0 = any free one.
    pub port: u16,
    /// TLS.
    pub tls: InternalTls,
}

impl Default for Internal {
    fn default() -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 9000, tls: InternalTls::default() }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    /// In the order of the tree; never empty. No value of a secret is among them.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The full path of the setting; empty if it concerns the file as a whole.
    pub path: String,
    /// What is wrong and what is allowed.
    pub message: String,
    /// Where it was given: the file with the line, or the variable. `None` if it was not, or that is not known.
    pub place: Option<String>,
}

impl Problem {
    /// One that is wrong wherever it was given.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), place: None }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.message)?;
        match &self.place {
            Some(place) => write!(formatter, " ({place})"),
            None => Ok(()),
        }
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl Config {
    /// Reads the file at `path` (YAML, TOML or JSON, by its extension), lays `environment` over it,
    /// reads the files that secrets are in, and validates the whole.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem found. Nothing falls back to a default.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let variables = source::variables(environment);
        let names: Vec<_> = variables.iter().map(|(name, _)| name.clone()).collect();
        Self::load_from(path, variables).map_err(|error| place::find(error, path, &names))
    }

    fn load_from(path: Option<&Path>, variables: Vec<(String, String)>) -> Result<Self, ConfigError> {
        let mut config = source::read(path, variables)?;
        let is_void =
            |file: &&Path| std::fs::read_to_string(file).is_ok_and(|text| source::is_comments(&text));
        config.comments_only = path.filter(is_void).map(Path::to_owned);
        secret_file::read_all(&mut config)?;
        config.validate()?;
        Ok(config)
    }

    /// Whether one listener serves clients and everything else.
    pub fn is_shared(&self) -> bool {
        let (public, internal) = (&self.public, &self.internal);
        (public.address, public.port) == (internal.address, internal.port) && public.port != 0
    }

    /// Checks what the types cannot say: ranges, and settings that contradict each other.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        validate::check(self)
    }

    /// Looks whether a listener can show what its files hold now. Not a part of [`load`](Self::load): whoever calls a node
    /// must not fail for a file that the node does not use.
    ///
    /// # Errors
    /// [`ConfigError`] with what is wrong with each.
    pub fn check_certificates(&self) -> Result<(), ConfigError> {
        tls::check(self)
    }

    /// What is allowed but should be known to whoever starts the node; a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        validate::warnings(self)
    }

    /// The tree of all settings with their defaults, each list of tables with one entry in it.
    fn shape() -> serde_json::Value {
        let mut config = Self::default();
        config.client.token.public_keys.push(PublicKey::default());
        config.channel.namespaces.push(ChannelOptions { name: "name".into(), ..ChannelOptions::default() });
        config.api.keys.push(ApiKey::default());
        serde_json::to_value(config).expect("the tree has string keys only")
    }
}

/// Writes `***` for a secret, null for none.
fn hide_secret<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    if secret.is_empty() { serializer.serialize_none() } else { serializer.collect_str(secret) }
}

/// Writes `***` for each secret.
fn hide_secrets<S: Serializer>(secrets: &[Secret], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(secrets.iter().map(ToString::to_string))
}
