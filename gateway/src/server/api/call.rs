//! What a back end may ask: the methods and the fields that are used of their requests.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::config::Scope;
use crate::model::Overrides;

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
    /// Publish the same to each of these channels; the channel inside is none.
    Broadcast(Vec<String>, Publish<'a>),
    Subscribe(Subscribe<'a>),
    Unsubscribe(Unsubscribe),
    Disconnect(Disconnect),
    Channels(Channels),
    Info,
    Rpc(Rpc),
    History(History),
    HistoryRemove(OfChannel),
    Presence(OfChannel),
    PresenceStats(OfChannel),
    Refresh(Refresh<'a>),
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
            Method::Broadcast => object::<Broadcast<'_>>(text)?.into_call(),
            Method::Subscribe => Self::Subscribe(object(text)?),
            Method::Unsubscribe => Self::Unsubscribe(object(text)?),
            Method::Disconnect => Self::Disconnect(object(text)?),
            Method::Channels => Self::Channels(object(text)?),
            Method::Rpc => Self::Rpc(object(text)?),
            Method::Info => object(text).map(|Nothing {}| Self::Info)?,
            Method::Refresh => Self::Refresh(object(text)?),
            Method::History => Self::History(object(text)?),
            Method::HistoryRemove => Self::HistoryRemove(object(text)?),
            Method::Presence => Self::Presence(object(text)?),
            Method::PresenceStats => Self::PresenceStats(object(text)?),
        })
    }

    pub(super) fn method(&self) -> Method {
        match self {
            Self::Publish(_) => Method::Publish,
            Self::Broadcast(..) => Method::Broadcast,
            Self::Subscribe(_) => Method::Subscribe,
            Self::Unsubscribe(_) => Method::Unsubscribe,
            Self::Disconnect(_) => Method::Disconnect,
            Self::Channels(_) => Method::Channels,
            Self::Info => Method::Info,
            Self::Rpc(_) => Method::Rpc,
            Self::History(_) => Method::History,
            Self::HistoryRemove(_) => Method::HistoryRemove,
            Self::Presence(_) => Method::Presence,
            Self::PresenceStats(_) => Method::PresenceStats,
            Self::Refresh(_) => Method::Refresh,
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
    #[serde(deserialize_with = "or_default")]
    pub(super) skip_history: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) idempotency_key: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) version: u64,
    #[serde(deserialize_with = "or_default")]
    pub(super) version_epoch: String,
    /// A connection that is not to get it; ours.
    #[serde(deserialize_with = "or_default")]
    pub(super) exclude_client: String,
}

/// `broadcast`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Broadcast<'a> {
    #[serde(deserialize_with = "or_default")]
    channels: Vec<String>,
    #[serde(borrow, deserialize_with = "raw")]
    data: Option<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    b64data: String,
    #[serde(deserialize_with = "or_default")]
    tags: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    skip_history: bool,
    #[serde(deserialize_with = "or_default")]
    idempotency_key: String,
    #[serde(deserialize_with = "or_default")]
    version: u64,
    #[serde(deserialize_with = "or_default")]
    version_epoch: String,
    #[serde(deserialize_with = "or_default")]
    exclude_client: String,
}

impl<'a> Broadcast<'a> {
    /// The channels, and what each of them is to get.
    fn into_call(self) -> Call<'a> {
        let publish = Publish {
            channel: String::new(),
            data: self.data,
            b64data: self.b64data,
            tags: self.tags,
            skip_history: self.skip_history,
            idempotency_key: self.idempotency_key,
            version: self.version,
            version_epoch: self.version_epoch,
            exclude_client: self.exclude_client,
        };
        Call::Broadcast(self.channels, publish)
    }
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
    /// Unix seconds; 0 for never.
    #[serde(deserialize_with = "or_default")]
    pub(super) expire_at: i64,
    #[serde(borrow, deserialize_with = "raw")]
    pub(super) info: Option<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    pub(super) b64info: String,
    #[serde(borrow, deserialize_with = "raw")]
    pub(super) data: Option<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    pub(super) b64data: String,
    pub(super) recover_since: Option<Since>,
    #[serde(rename = "override", deserialize_with = "or_default")]
    pub(super) overrides: Override,
}

/// Options of one subscription that differ from those of its namespace.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Override {
    pub(super) presence: Option<Switch>,
    pub(super) join_leave: Option<Switch>,
    pub(super) force_recovery: Option<Switch>,
    pub(super) force_positioning: Option<Switch>,
    pub(super) force_push_join_leave: Option<Switch>,
}

/// `{"value": true}`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Switch {
    pub(super) value: bool,
}

impl Override {
    pub(super) fn overrides(&self) -> Overrides {
        let value = |switch: &Option<Switch>| switch.as_ref().map(|switch| switch.value);
        Overrides {
            presence: value(&self.presence),
            join_leave: value(&self.join_leave),
            force_push_join_leave: value(&self.force_push_join_leave),
            force_positioning: value(&self.force_positioning),
            force_recovery: value(&self.force_recovery),
        }
    }
}

/// `refresh`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refresh<'a> {
    #[serde(deserialize_with = "or_default")]
    pub(super) user: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) client: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) session: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) expired: bool,
    /// Unix seconds; 0 for never.
    #[serde(deserialize_with = "or_default")]
    pub(super) expire_at: i64,
    #[serde(borrow, deserialize_with = "raw")]
    pub(super) info: Option<&'a RawValue>,
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

/// `history`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct History {
    #[serde(deserialize_with = "or_default")]
    pub(super) channel: String,
    /// Most publications; 0 for the position alone, negative for all.
    #[serde(deserialize_with = "or_default")]
    pub(super) limit: i32,
    pub(super) since: Option<Since>,
    #[serde(deserialize_with = "or_default")]
    pub(super) reverse: bool,
}

/// Where reading begins; an empty epoch is the current one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Since {
    #[serde(deserialize_with = "or_default")]
    pub(super) offset: u64,
    #[serde(deserialize_with = "or_default")]
    pub(super) epoch: String,
}

/// A request that names a channel and nothing else that matters.
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
