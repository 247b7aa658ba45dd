//! What a back end may ask: the methods and the fields that are used of their requests.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::config::Scope;

/// A method of the API, but for `batch`, which holds others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Publish,
    Broadcast,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Refresh,
    Presence,
    PresenceStats,
    History,
    HistoryRemove,
    Channels,
    Info,
    Rpc,
}

impl Method {
    pub(super) const ALL: [Self; 13] = [
        Self::Publish,
        Self::Broadcast,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Disconnect,
        Self::Refresh,
        Self::Presence,
        Self::PresenceStats,
        Self::History,
        Self::HistoryRemove,
        Self::Channels,
        Self::Info,
        Self::Rpc,
    ];

    /// The name in paths, in batches and in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Broadcast => "broadcast",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Disconnect => "disconnect",
            Self::Refresh => "refresh",
            Self::Presence => "presence",
            Self::PresenceStats => "presence_stats",
            Self::History => "history",
            Self::HistoryRemove => "history_remove",
            Self::Channels => "channels",
            Self::Info => "info",
            Self::Rpc => "rpc",
        }
    }

    /// What a key must be good for.
    pub(super) fn scope(self) -> Scope {
        match self {
            Self::Publish | Self::Broadcast => Scope::Publish,
            Self::Subscribe | Self::Unsubscribe => Scope::Subscribe,
            Self::Disconnect | Self::Refresh => Scope::Control,
            Self::Presence | Self::PresenceStats => Scope::Presence,
            Self::History | Self::HistoryRemove => Scope::History,
            Self::Channels | Self::Info | Self::Rpc => Scope::Info,
        }
    }
}

/// There is no such method.
#[derive(Debug)]
pub(super) struct UnknownMethod;

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(name: &str) -> Result<Self, UnknownMethod> {
        Self::ALL.into_iter().find(|method| method.name() == name).ok_or(UnknownMethod)
    }
}

/// A method with its request.
#[derive(Debug)]
pub(super) enum Call<'a> {
    Publish(Publish<'a>),
    Broadcast(Broadcast<'a>),
    Subscribe(Subscribe<'a>),
    Unsubscribe(Unsubscribe),
    Disconnect(Disconnect),
    Channels(Channels),
    Info,
    Rpc(Rpc),
    /// Presence or history of a channel.
    OfChannel(Method, OfChannel),
    Refresh,
}

/// The text is not the request of the method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl From<serde_json::Error> for Malformed {
    fn from(_: serde_json::Error) -> Self {
        Self
    }
}

impl<'a> Call<'a> {
    /// Reads the request of `method`: an object. Unknown fields are ignored, `null` is a field's default.
    pub(super) fn decode(method: Method, text: &'a str) -> Result<Self, Malformed> {
        Ok(match method {
            Method::Publish => Self::Publish(object(text)?),
            Method::Broadcast => Self::Broadcast(object(text)?),
            Method::Subscribe => Self::Subscribe(object(text)?),
            Method::Unsubscribe => Self::Unsubscribe(object(text)?),
            Method::Disconnect => Self::Disconnect(object(text)?),
            Method::Channels => Self::Channels(object(text)?),
            Method::Rpc => Self::Rpc(object(text)?),
            Method::Info => object(text).map(|Nothing {}| Self::Info)?,
            Method::Refresh => object(text).map(|Nothing {}| Self::Refresh)?,
            Method::Presence | Method::PresenceStats | Method::History | Method::HistoryRemove => {
                Self::OfChannel(method, object(text)?)
            }
        })
    }

    pub(super) fn method(&self) -> Method {
        match self {
            Self::Publish(_) => Method::Publish,
            Self::Broadcast(_) => Method::Broadcast,
            Self::Subscribe(_) => Method::Subscribe,
            Self::Unsubscribe(_) => Method::Unsubscribe,
            Self::Disconnect(_) => Method::Disconnect,
            Self::Channels(_) => Method::Channels,
            Self::Info => Method::Info,
            Self::Rpc(_) => Method::Rpc,
            Self::OfChannel(method, _) => *method,
            Self::Refresh => Method::Refresh,
        }
    }
}

/// Reads an object; derived structs would also take an array of their fields.
pub(super) fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Malformed> {
    if !text.trim_start().starts_with('{') {
        return Err(Malformed);
    }
    Ok(serde_json::from_str(text)?)
}

/// A request without fields that are used.
#[derive(Deserialize)]
struct Nothing {}

/// `publish`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Publish<'a> {
    #[serde(deserialize_with = "or_default")]
    pub(super) channel: String,
    #[serde(borrow, deserialize_with = "raw")]
    pub(super) data: Option<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    pub(super) b64data: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) tags: BTreeMap<String, String>,
}

/// `broadcast`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Broadcast<'a> {
    #[serde(deserialize_with = "or_default")]
    pub(super) channels: Vec<String>,
    #[serde(borrow, deserialize_with = "raw")]
    pub(super) data: Option<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    pub(super) b64data: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) tags: BTreeMap<String, String>,
}

/// `subscribe`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Subscribe<'a> {
    #[serde(deserialize_with = "or_default")]
    pub(super) channel: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) user: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) client: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) session: String,
    #[serde(borrow, deserialize_with = "raw")]
    pub(super) data: Option<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    pub(super) b64data: String,
}

/// `unsubscribe`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Unsubscribe {
    #[serde(deserialize_with = "or_default")]
    pub(super) channel: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) user: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) client: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) session: String,
}

/// `disconnect`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Disconnect {
    #[serde(deserialize_with = "or_default")]
    pub(super) user: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) disconnect: Advice,
    #[serde(deserialize_with = "or_default")]
    pub(super) client: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) whitelist: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) session: String,
}

/// What a closed client is told; `None` for the default.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Advice {
    pub(super) code: Option<u32>,
    pub(super) reason: Option<String>,
}

/// `channels`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Channels {
    /// A glob; empty for all channels.
    #[serde(deserialize_with = "or_default")]
    pub(super) pattern: String,
}

/// `rpc`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rpc {
    #[serde(deserialize_with = "or_default")]
    pub(super) method: String,
}

/// A request that names a channel and nothing else that matters yet.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OfChannel {
    #[serde(deserialize_with = "or_default")]
    pub(super) channel: String,
}

/// Reads `null` as the default, as encoders write what is not set.
fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Keeps a raw value, `null` included; without it `null` would read as absent.
fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}
