//! One line of JSON to one command.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::model::is_too_deep;
use crate::protocol::centrifuge::command::{
    ChannelRequest, Command, ConnectRequest, HistoryRequest, Malformed, PublishRequest, RefreshRequest,
    Request, SubRefreshRequest, SubscribeRequest, is_present, or_default,
};

/// Reads the lines of a frame, one after another. A line break at its end begins no further line. After one that
/// cannot be read there is no next one.
pub fn lines(text: &str, each: &mut impl FnMut(Result<Command, Malformed>)) {
    let text = text.strip_suffix('\n').unwrap_or(text);
    for command in text.split('\n').map(parse) {
        let is_malformed = command.is_err();
        each(command);
        if is_malformed {
            return;
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Line {
    #[serde(deserialize_with = "or_default")]
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
    sub_refresh: Option<SubRefreshRequest>,
}

/// Reads one line. Unknown fields are ignored, and so is `null`; of several requests the first in the protocol's order counts.
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
    fn every_other_field_that_is_null_is_absent() {
        for (line, fields) in [
            ("connect", "token subs"),
            (
                "subscribe",
                "channel token recover epoch offset positioned recoverable join_leave flag delta type tf",
            ),
            ("unsubscribe", "channel"),
            ("publish", "channel type"),
            ("presence", "channel"),
            ("presence_stats", "channel"),
            ("history", "channel limit since reverse"),
            ("refresh", "token"),
            ("sub_refresh", "channel token type"),
        ] {
            let nulls: Vec<_> = fields.split(' ').map(|field| format!(r#""{field}":null"#)).collect();
            let written =
                parse(&format!(r#"{{"id":1,"{line}":{{{}}},"rpc":null}}"#, nulls.join(","))).unwrap();
            let absent = parse(&format!(r#"{{"id":1,"{line}":{{}}}}"#)).unwrap();
            assert_eq!(format!("{:?}", written.request), format!("{:?}", absent.request));
        }
        assert_eq!(parse(r#"{"id":null}"#).unwrap().id, 0);
        let since = parse(r#"{"id":1,"history":{"since":{"offset":null,"epoch":null}}}"#).unwrap();
        assert!(matches!(since.request, Some(Request::History(HistoryRequest { since: Some(_), .. }))));
        let subs = parse(r#"{"id":1,"connect":{"subs":{"a":null}}}"#).unwrap();
        assert!(matches!(subs.request, Some(Request::Connect(request)) if request.subs.contains_key("a")));
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
