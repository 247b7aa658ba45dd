use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hide_secret;
use crate::model::Secret;

/// What carries publications between nodes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Broker {
    /// Which one.
    #[serde(rename = "type")]
    pub kind: BrokerType,
    /// The Redis of the kind `redis`.
    pub redis: Redis,
}

/// A kind of broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrokerType {
    /// Within this process: a single node.
    #[default]
    Memory,
    /// Redis, for any number of nodes.
    Redis,
}

/// A Redis that nodes share: it relays, and keeps history and presence.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `redis://host:port/db`, or `rediss://` for TLS. Without user and password.
    pub address: String,
    /// User of Redis' access control list; empty for the default user.
    pub username: String,
    /// Its password; empty for none.
    #[serde(serialize_with = "hide_secret")]
    pub password: Secret,
    /// A file that holds it, instead; read again whenever a connection is opened.
    pub password_file: Option<PathBuf>,
    /// What every key and channel in Redis begins with; nodes with the same one are one cluster. Not empty.
    pub prefix: String,
    /// What `rediss://` trusts and shows.
    pub tls: RedisTls,
    /// How long opening a connection may take; above 0.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long an answer may take; above 0.
    #[serde(with = "humantime_serde")]
    pub command_timeout: Duration,
    /// How often a probe is sent through Redis to itself; above 0.
    #[serde(with = "humantime_serde")]
    pub probe_interval: Duration,
    /// Most bytes received and not yet delivered, per subscription connection; at least 65536.
    pub inbox_bytes_max: usize,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            address: "redis://127.0.0.1:6379".into(),
            username: String::new(),
            password: Secret::default(),
            password_file: None,
            prefix: "clarion".into(),
            tls: RedisTls::default(),
            connect_timeout: Duration::from_secs(1),
            command_timeout: Duration::from_secs(1),
            probe_interval: Duration::from_secs(1),
            inbox_bytes_max: 32 << 20,
        }
    }
}

/// What `rediss://` trusts and shows. Files are read again whenever a connection is opened.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisTls {
    /// Certificates (PEM) of who may sign that of Redis, instead of those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The certificate chain (PEM) that this node shows; with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// Its key (PEM).
    pub key_file: Option<PathBuf>,
}

/// What nodes know of one another.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// How often a node says that it lives; above 0.
    #[serde(with = "humantime_serde")]
    pub heartbeat_interval: Duration,
    /// A node silent for longer is dead; at least twice `heartbeat_interval`.
    #[serde(with = "humantime_serde")]
    pub node_ttl: Duration,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { heartbeat_interval: Duration::from_secs(3), node_ttl: Duration::from_secs(15) }
    }
}
