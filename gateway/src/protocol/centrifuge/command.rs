//! What a client may say: one line of JSON to one [`Command`].

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::model::{RawJson, Secret, is_too_deep};

/// One command.
#[derive(Debug)]
pub struct Command {
    /// Chosen by the client; 0 if it gave none.
    pub id: u32,
    /// What it asks for; `None` for a pong.
    pub request: Option<Request>,
    /// Length of its text, which it counts for while it waits.
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
    SubRefresh(ChannelRequest),
}

impl Request {
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
    pub token: Secret,
}

/// `subscribe`. Fields of features that are off are read where they decide the answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SubscribeRequest {
    /// Must not be empty.
    pub channel: String,
    /// A subscription token; empty for none.
    pub token: Secret,
    /// Whether the client wants to catch up, from `offset` of `epoch`.
    pub recover: bool,
    /// Empty for whatever epoch there is.
    pub epoch: String,
    /// The last publication that the client has.
    pub offset: u64,
    /// Whether it wants to be told what it misses.
    pub positioned: bool,
    /// Whether it wants to be able to catch up later.
    pub recoverable: bool,
    /// Bit 1 (2): an error rather than a subscription that is not recovered.
    pub flag: i64,
    /// Empty or `fossil`.
    pub delta: String,
    /// 0 for a stream.
    #[serde(rename = "type")]
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
    pub channel: String,
}

/// `history`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct HistoryRequest {
    /// Must not be empty.
    pub channel: String,
    /// 0 for the position alone, negative for as many as there may be.
    pub limit: i32,
    /// Strictly after this place, or before it in `reverse`.
    pub since: Option<PlaceRequest>,
    /// Newest first.
    pub reverse: bool,
}

/// A place in a history.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PlaceRequest {
    /// 0 for the place before the first publication.
    pub offset: u64,
    /// Empty for whatever epoch there is.
    pub epoch: String,
}

/// `publish`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PublishRequest {
    /// Must not be empty.
    pub channel: String,
    /// `None` if absent; an explicit `null` is a payload.
    #[serde(deserialize_with = "raw")]
    pub data: Option<RawJson>,
    /// 0 for a stream.
    #[serde(rename = "type")]
    pub kind: i32,
}

/// `refresh`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RefreshRequest {
    /// Must not be empty.
    pub token: Secret,
}

/// The line is not a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a command")]
pub struct Malformed;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Line {
    id: u32,
    #[serde(deserialize_with = "object")]
    connect: Option<ConnectRequest>,
    #[serde(deserialize_with = "is_present")]
    ping: bool,
    #[serde(deserialize_with = "object")]
    subscribe: Option<SubscribeRequest>,
    #[serde(deserialize_with = "object")]
    unsubscribe: Option<ChannelRequest>,
    #[serde(deserialize_with = "object")]
    publish: Option<PublishRequest>,
    #[serde(deserialize_with = "object")]
    presence: Option<ChannelRequest>,
    #[serde(deserialize_with = "object")]
    presence_stats: Option<ChannelRequest>,
    #[serde(deserialize_with = "object")]
    history: Option<HistoryRequest>,
    #[serde(deserialize_with = "is_present")]
    rpc: bool,
    #[serde(deserialize_with = "is_present")]
    send: bool,
    #[serde(deserialize_with = "object")]
    refresh: Option<RefreshRequest>,
    #[serde(deserialize_with = "object")]
    sub_refresh: Option<ChannelRequest>,
}

/// Reads one line. Unknown fields are ignored; of several requests the first in the protocol's order counts.
///
/// # Errors
/// [`Malformed`] if it is not a JSON object, a known field has another type, a field comes twice, or
/// something is nested too deep.
pub fn parse(line: &str) -> Result<Command, Malformed> {
    // A pong is by far the most frequent line.
    if line == "{}" {
        return Ok(Command { id: 0, request: None, cost_bytes: 0 });
    }
    if is_too_deep(line.as_bytes()) {
        return Err(Malformed);
    }
    let mut deserializer = serde_json::Deserializer::from_str(line);
    let parsed: Line = object(&mut deserializer).ok().flatten().ok_or(Malformed)?;
    deserializer.end().map_err(|_| Malformed)?;
    let id = parsed.id;
    Ok(Command { id, request: request(parsed), cost_bytes: line.len() })
}

fn request(line: Line) -> Option<Request> {
    line.connect
        .map(Request::Connect)
        .or(line.ping.then_some(Request::Ping))
        .or(line.subscribe.map(Request::Subscribe))
        .or(line.unsubscribe.map(Request::Unsubscribe))
        .or(line.publish.map(Request::Publish))
        .or(line.presence.map(Request::Presence))
        .or(line.presence_stats.map(Request::PresenceStats))
        .or(line.history.map(Request::History))
        .or(line.rpc.then_some(Request::Rpc))
        .or(line.send.then_some(Request::Send))
        .or(line.refresh.map(Request::Refresh))
        .or(line.sub_refresh.map(Request::SubRefresh))
}

/// Reads a message; `null` is none. By itself a struct could be read from an array too, field by field.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_any(ObjectVisitor(PhantomData))
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object or null")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}

/// Keeps a raw value, `null` included; without it `null` would read as absent.
fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RawJson>, D::Error> {
    let value = <&RawValue>::deserialize(deserializer)?;
    Ok(Some(RawJson::from_raw(value)))
}

/// Whether the field is there and not `null`; its value must be JSON and may be anything.
fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let value = <&RawValue>::deserialize(deserializer)?;
    Ok(value.get() != "null")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_with_unknown_fields_ignored() {
        let command = parse(r#"{"subscribe":{"channel":"news","flag":1,"x":[]},"id":2,"y":{}}"#).unwrap();
        assert_eq!(command.id, 2);
        let Some(Request::Subscribe(request)) = command.request else { panic!("{command:?}") };
        assert_eq!(request.channel, "news");
        assert!(!request.has_filter);
    }

    #[test]
    fn a_pong_is_a_line_without_request() {
        assert!(parse("{}").unwrap().request.is_none());
        assert!(parse(r#" { "z" : 1 } "#).unwrap().request.is_none());
    }

    #[test]
    fn null_is_a_payload_and_absence_is_not() {
        let data = |line: &str| match parse(line).unwrap().request {
            Some(Request::Publish(request)) => request.data.map(|data| data.as_bytes().to_vec()),
            other => panic!("{other:?}"),
        };
        assert_eq!(data(r#"{"id":1,"publish":{"channel":"a","data":null}}"#).unwrap(), b"null");
        assert_eq!(data(r#"{"id":1,"publish":{"channel":"a","data":1.0}}"#).unwrap(), b"1.0");
        assert!(data(r#"{"id":1,"publish":{"channel":"a"}}"#).is_none());
    }

    #[test]
    fn of_several_requests_the_first_in_the_order_of_the_protocol_counts() {
        let command =
            parse(r#"{"id":1,"rpc":{},"publish":{"channel":"a"},"subscribe":{"channel":"b"}}"#).unwrap();
        assert!(matches!(command.request, Some(Request::Subscribe(_))));
        let command = parse(r#"{"id":1,"rpc":{"method":"x"},"send":{}}"#).unwrap();
        assert!(matches!(command.request, Some(Request::Rpc)));
    }

    #[test]
    fn what_is_not_a_command_is_malformed() {
        let deep = format!(r#"{{"id":1,"rpc":{{"data":{}{}}}}}"#, "[".repeat(1_000), "]".repeat(1_000));
        let lines = [
            "",
            "nope",
            "[]",
            "1",
            "null",
            "{} {}",
            r#"{"id":"1"}"#,
            r#"{"id":-1}"#,
            r#"{"id":9007199254740993}"#,
            r#"{"id":1,"id":2}"#,
            r#"{"id":1,"subscribe":{"channel":7}}"#,
            r#"{"id":1,"subscribe":{"channel":"\ud800"}}"#,
            r#"{"id":1,"subscribe":[]}"#,
            r#"{"id":1,"publish":{"channel":"a","data":}}"#,
            &deep,
        ];
        for line in lines {
            assert_eq!(parse(line).err(), Some(Malformed), "{line:.60}");
        }
    }

    #[test]
    fn nesting_is_limited_and_what_stands_in_a_string_is_no_nesting() {
        let line = |data: &str| format!(r#"{{"id":1,"publish":{{"channel":"a","data":{data}}}}}"#);
        let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&line(&deep(128 - 2))).is_ok());
        assert_eq!(parse(&line(&deep(128 - 1))).err(), Some(Malformed));
        assert!(parse(&line(&format!(r#""\"{}""#, "[".repeat(1_000)))).is_ok());
        assert!(parse(&line(&format!("[{}]", vec!["[[]]"; 200].join(",")))).is_ok());
    }

    #[test]
    fn a_token_is_not_printed() {
        let command = parse(r#"{"id":1,"connect":{"token":"LEAKCANARY"}}"#).unwrap();
        assert!(!format!("{command:?}").contains("LEAKCANARY"));
    }
}
