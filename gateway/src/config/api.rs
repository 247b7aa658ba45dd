use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::entry::{self, Entry};
use super::hide_secret;
use crate::model::Secret;

/// The server API.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Keys that may call the API; several may be live at once. Empty: every request is refused.
    pub keys: Vec<ApiKey>,
    /// Serve requests without a key: development only.
    pub insecure: bool,
    /// Largest request body, in bytes; at least 1.
    pub body_bytes_max: usize,
    /// Most commands in one batch; at least 1.
    pub batch_max: usize,
    /// How long a request may take; above 0.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            insecure: false,
            body_bytes_max: 1024 * 1024,
            batch_max: 1000,
            timeout: Duration::from_secs(10),
        }
    }
}

/// A key of the server API: the string alone (all scopes), or a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, remote = "Self")]
pub struct ApiKey {
    /// Says in logs which key was used; empty for none.
    pub name: String,
    /// The key itself; not empty, unless `key_file` is given.
    #[serde(serialize_with = "hide_secret")]
    pub key: Secret,
    /// File that holds the key, instead of `key`.
    pub key_file: Option<PathBuf>,
    /// What the key may do; all scopes by default, at least one.
    pub scopes: Vec<Scope>,
}

/// What an API key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Publish and broadcast.
    Publish,
    /// Subscribe and unsubscribe users.
    Subscribe,
    /// Read who is in a channel.
    Presence,
    /// Read and remove history.
    History,
    /// Disconnect, refresh and revoke; change the level of the log, and take profiles.
    Control,
    /// Read about nodes and channels, and the level of the log.
    Info,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 6] =
        [Self::Publish, Self::Subscribe, Self::Presence, Self::History, Self::Control, Self::Info];
}

impl Default for ApiKey {
    fn default() -> Self {
        Self { name: String::new(), key: Secret::default(), key_file: None, scopes: Scope::ALL.into() }
    }
}

impl Entry for ApiKey {
    const EXPECTED: &'static str = "a string or a table with `key` or `key_file`";

    fn from_text(text: String) -> Self {
        Self { key: Secret::new(text), ..Self::default() }
    }

    fn from_table<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        Self::deserialize(table)
    }
}

impl<'de> Deserialize<'de> for ApiKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        entry::deserialize(deserializer)
    }
}

impl Serialize for ApiKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}
