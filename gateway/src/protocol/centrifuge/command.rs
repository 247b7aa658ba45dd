//! What a client may say, as values. They can be read from JSON as they are, where `null` is a field's default, as
//! encoders write what is not set.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::model::{Payload, RawJson, Secret};

/// One command.
#[derive(Debug)]
pub struct Command {
    /// Chosen by the client; 0 if it gave none.
    pub id: u32,
    /// What it asks for; `None` for a pong.
    pub request: Option<Request>,
    /// Its length as it came, which it counts for while it waits.
    pub cost_bytes: usize,
}

/// What a command asks for. The channel's name is as the client wrote it.
#[derive(Debug)]
pub enum Request {
    /// Authenticate and open the session.
    Connect(ConnectRequest),
    /// Not used by any SDK: a protocol violation.
    Ping,
    /// Join a channel.
    Subscribe(SubscribeRequest),
    /// Leave it.
    Unsubscribe(ChannelRequest),
    /// Publish to it.
    Publish(PublishRequest),
    /// Who is there.
    Presence(ChannelRequest),
    /// How many are there.
    PresenceStats(ChannelRequest),
    /// What was published.
    History(HistoryRequest),
    /// Call the back end.
    Rpc,
    /// Tell the back end.
    Send,
    /// Prolong the connection.
    Refresh(RefreshRequest),
    /// Prolong a subscription.
    SubRefresh(SubRefreshRequest),
}

impl Request {
    /// Every name, but for that of `ping`, which no client sends.
    pub const NAMES: [&str; 11] = [
        "connect",
        "subscribe",
        "unsubscribe",
        "publish",
        "presence",
        "presence_stats",
        "history",
        "rpc",
        "send",
        "refresh",
        "sub_refresh",
    ];

    /// Its name on the wire, which is its label in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Ping => "ping",
            Self::Subscribe(_) => "subscribe",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::Publish(_) => "publish",
            Self::Presence(_) => "presence",
            Self::PresenceStats(_) => "presence_stats",
            Self::History(_) => "history",
            Self::Rpc => "rpc",
            Self::Send => "send",
            Self::Refresh(_) => "refresh",
            Self::SubRefresh(_) => "sub_refresh",
        }
    }
}

/// `connect`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ConnectRequest {
    /// Empty for none.
    #[serde(deserialize_with = "or_default")]
    pub token: Secret,
    /// Where the client was in channels that the server subscribes it to, and which it would like to have.
    #[serde(deserialize_with = "positions")]
    pub subs: HashMap<String, SubscribeRequest>,
}

/// `subscribe`. Fields of features that are off are read where they decide the answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SubscribeRequest {
    /// Must not be empty.
    #[serde(deserialize_with = "or_default")]
    pub channel: String,
    /// A subscription token; empty for none.
    #[serde(deserialize_with = "or_default")]
    pub token: Secret,
    /// Whether the client wants to catch up, from `offset` of `epoch`.
    #[serde(deserialize_with = "or_default")]
    pub recover: bool,
    /// Empty for whatever epoch there is.
    #[serde(deserialize_with = "or_default")]
    pub epoch: String,
    /// The last publication that the client has.
    #[serde(deserialize_with = "or_default")]
    pub offset: u64,
    /// Whether it wants to be told what it misses.
    #[serde(deserialize_with = "or_default")]
    pub positioned: bool,
    /// Whether it wants to be able to catch up later.
    #[serde(deserialize_with = "or_default")]
    pub recoverable: bool,
    /// Whether it wants to be told of others' joining and leaving.
    #[serde(deserialize_with = "or_default")]
    pub join_leave: bool,
    /// Bit 1 (2): an error rather than a subscription that is not recovered.
    #[serde(deserialize_with = "or_default")]
    pub flag: i64,
    /// Empty or `fossil`.
    #[serde(deserialize_with = "or_default")]
    pub delta: String,
    /// 0 for a stream.
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: i32,
    /// Whether there is a tags filter.
    #[serde(rename = "tf", deserialize_with = "is_present")]
    pub has_filter: bool,
}

/// A request that names a channel and nothing else that matters yet.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ChannelRequest {
    /// Must not be empty.
    #[serde(deserialize_with = "or_default")]
    pub channel: String,
}

/// `history`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct HistoryRequest {
    /// Must not be empty.
    #[serde(deserialize_with = "or_default")]
    pub channel: String,
    /// 0 for the position alone, negative for as many as there may be.
    #[serde(deserialize_with = "or_default")]
    pub limit: i32,
    /// Strictly after this place, or before it in `reverse`.
    pub since: Option<PlaceRequest>,
    /// Newest first.
    #[serde(deserialize_with = "or_default")]
    pub reverse: bool,
}

/// A place in a history.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PlaceRequest {
    /// 0 for the place before the first publication.
    #[serde(deserialize_with = "or_default")]
    pub offset: u64,
    /// Empty for whatever epoch there is.
    #[serde(deserialize_with = "or_default")]
    pub epoch: String,
}

/// `publish`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PublishRequest {
    /// Must not be empty.
    #[serde(deserialize_with = "or_default")]
    pub channel: String,
    /// `None` if absent; an explicit `null` is a payload.
    #[serde(deserialize_with = "raw")]
    pub data: Option<Payload>,
    /// 0 for a stream.
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: i32,
}

/// `refresh`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RefreshRequest {
    /// Must not be empty.
    #[serde(deserialize_with = "or_default")]
    pub token: Secret,
}

/// `sub_refresh`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SubRefreshRequest {
    /// Must not be empty.
    #[serde(deserialize_with = "or_default")]
    pub channel: String,
    /// Must not be empty.
    #[serde(deserialize_with = "or_default")]
    pub token: Secret,
    /// 0 for a token.
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: i32,
}

/// It is not a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a command")]
pub struct Malformed;

/// Reads `null` as the default.
pub(super) fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a map in which each value, as well as the map, may be `null`.
fn positions<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<HashMap<String, SubscribeRequest>, D::Error> {
    let positions: HashMap<String, Option<SubscribeRequest>> = or_default(deserializer)?;
    Ok(positions.into_iter().map(|(channel, request)| (channel, request.unwrap_or_default())).collect())
}

/// Keeps a raw value, `null` included; without it `null` would read as absent.
fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Payload>, D::Error> {
    let value = <&RawValue>::deserialize(deserializer)?;
    Ok(Some(RawJson::from_raw(value).into()))
}

/// Whether the field is there and not `null`; its value must be JSON and may be anything.
pub(super) fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let value = <&RawValue>::deserialize(deserializer)?;
    Ok(value.get() != "null")
}
