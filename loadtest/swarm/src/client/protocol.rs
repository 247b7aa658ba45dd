//! The Centrifuge protocol, version 2, in JSON: as much of it as a subscriber needs.

use std::borrow::Cow;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Answers a ping.
pub(crate) const PONG: &str = "{}";

/// What a client sends, one in a line. Written by [`Command::line`].
#[derive(Debug, Serialize)]
pub(crate) struct Command<'a> {
    pub(crate) id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connect: Option<Connect<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subscribe: Option<Subscribe<'a>>,
}

/// Ends a subscription; the command with this number.
pub(crate) fn unsubscribe_line(id: u32, channel: &str) -> String {
    serde_json::json!({"id": id, "unsubscribe": {"channel": channel}}).to_string()
}

/// Publishes `data`, which is JSON; the command with this number.
pub(crate) fn publish_line(id: u32, channel: &str, data: &str) -> String {
    let channel = serde_json::Value::from(channel);
    format!(r#"{{"id":{id},"publish":{{"channel":{channel},"data":{data}}}}}"#)
}

/// The first command.
#[derive(Debug, Serialize)]
pub(crate) struct Connect<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<&'a str>,
    pub(crate) name: &'a str,
}

/// Asks for a channel; with a position, for what came after it as well.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Subscribe<'a> {
    pub(crate) channel: &'a str,
    pub(crate) positioned: bool,
    pub(crate) recoverable: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) join_leave: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) recover: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<u64>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Command<'_> {
    /// The command in JSON, without an end of line.
    pub(crate) fn line(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and flags are JSON")
    }
}

/// What a server says, one in a line.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    Ping,
    Connected(Connected<'a>),
    Subscribed(Subscribed<'a>),
    /// The command with this number was answered by an error.
    Refused(u32, Refusal<'a>),
    Publication(Publication<'a>),
    /// A client joined.
    Joined,
    /// A client with this id left.
    Left(Cow<'a, str>),
    /// The subscription was ended with this code.
    Unsubscribed(u32),
    /// Nothing that a subscriber has to know.
    Other,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Connected<'a> {
    #[serde(borrow, default)]
    pub(crate) client: Cow<'a, str>,
    /// Seconds between pings; 0 is none.
    #[serde(default)]
    pub(crate) ping: u64,
    /// Whether pings are to be answered.
    #[serde(default)]
    pub(crate) pong: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Subscribed<'a> {
    #[serde(borrow, default)]
    pub(crate) epoch: Cow<'a, str>,
    /// The top of the history, or where the client was if it recovered.
    #[serde(default)]
    pub(crate) offset: u64,
    #[serde(default)]
    pub(crate) recovered: bool,
    #[serde(borrow, default)]
    pub(crate) publications: Vec<Publication<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Refusal<'a> {
    #[serde(default)]
    pub(crate) code: u32,
    #[serde(borrow, default)]
    pub(crate) message: Cow<'a, str>,
    #[serde(default)]
    temporary: bool,
}

impl Refusal<'_> {
    /// Whether SDKs try again: errors that say so, those below 100, and an expired token.
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary || self.code < 100 || self.code == 109
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Publication<'a> {
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    /// 0 in a channel without a history.
    #[serde(default)]
    pub(crate) offset: u64,
    /// Only said where a new one begins.
    #[serde(default)]
    pub(crate) epoch: Option<Cow<'a, str>>,
}

impl Publication<'_> {
    /// What was published, as it is written; nothing if there is nothing.
    pub(crate) fn data(&self) -> &str {
        self.data.map_or("", RawValue::get)
    }

    /// What our publisher put into it; `None` if somebody else published it.
    pub(crate) fn payload(&self) -> Option<Payload> {
        self.data.and_then(|data| serde_json::from_str(data.get()).ok())
    }
}

/// What the publisher puts into a publication, beside padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Payload {
    /// Counts the publications of a channel.
    pub(crate) seq: u64,
    /// When it was sent first, in microseconds since the start of the run.
    pub(crate) at: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line<'a> {
    id: u32,
    #[serde(borrow)]
    error: Option<Refusal<'a>>,
    #[serde(borrow)]
    connect: Option<Connected<'a>>,
    #[serde(borrow)]
    subscribe: Option<Subscribed<'a>>,
    #[serde(borrow)]
    push: Option<Push<'a>>,
}

#[derive(Debug, Deserialize)]
struct Push<'a> {
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    #[serde(borrow, rename = "pub")]
    publication: Option<Publication<'a>>,
    join: Option<IgnoredAny>,
    #[serde(borrow)]
    leave: Option<Presence<'a>>,
    unsubscribe: Option<Unsubscribe>,
}

#[derive(Debug, Deserialize)]
struct Presence<'a> {
    #[serde(borrow)]
    info: Info<'a>,
}

#[derive(Debug, Deserialize)]
struct Info<'a> {
    #[serde(borrow)]
    client: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
struct Unsubscribe {
    code: u32,
}

/// Reads a line, for a client that listens to `channel` alone.
///
/// # Errors
/// When it is not an object of JSON, or a known field is not what it should be.
pub(crate) fn parse<'a>(line: &'a str, channel: &str) -> Result<Incoming<'a>, serde_json::Error> {
    let message = read(line)?;
    let is_for_others = message.channel.is_some_and(|of| of != channel);
    Ok(if is_for_others { Incoming::Other } else { message.incoming })
}

/// What a line says, and to what.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// The command that it answers; 0 if it answers none.
    pub(crate) id: u32,
    /// The channel of a push.
    pub(crate) channel: Option<Cow<'a, str>>,
    pub(crate) incoming: Incoming<'a>,
}

/// Reads a line.
///
/// # Errors
/// When it is not an object of JSON, or a known field is not what it should be.
pub(crate) fn read(line: &str) -> Result<Message<'_>, serde_json::Error> {
    if !line.starts_with('{') {
        // The library would take a list for the fields of an object.
        return Err(serde_json::Error::custom("a line that is no object"));
    }
    let line: Line<'_> = serde_json::from_str(line)?;
    let id = line.id;
    let (channel, incoming) = match line {
        Line { id: 0, push: Some(mut push), .. } => (Some(std::mem::take(&mut push.channel)), pushed(push)),
        Line { id: 0, push: None, .. } => (None, Incoming::Ping),
        Line { error: Some(refusal), .. } => (None, Incoming::Refused(id, refusal)),
        Line { connect: Some(connected), .. } => (None, Incoming::Connected(connected)),
        Line { subscribe: Some(subscribed), .. } => (None, Incoming::Subscribed(subscribed)),
        _ => (None, Incoming::Other),
    };
    Ok(Message { id, channel, incoming })
}

fn pushed(push: Push<'_>) -> Incoming<'_> {
    match push {
        Push { publication: Some(publication), .. } => Incoming::Publication(publication),
        Push { join: Some(_), .. } => Incoming::Joined,
        Push { leave: Some(leave), .. } => Incoming::Left(leave.info.client),
        Push { unsubscribe: Some(Unsubscribe { code }), .. } => Incoming::Unsubscribed(code),
        _ => Incoming::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Incoming<'_> {
        parse(line, "noon:1").unwrap()
    }

    #[test]
    fn commands_are_written_as_the_protocol_has_them() {
        let connect = Connect { token: Some("t"), name: "swarm" };
        let command = Command { id: 1, connect: Some(connect), subscribe: None };
        assert_eq!(command.line(), r#"{"id":1,"connect":{"token":"t","name":"swarm"}}"#);
        let subscribe = Subscribe {
            channel: "noon:1",
            positioned: true,
            recoverable: true,
            recover: true,
            epoch: Some("e"),
            offset: Some(0),
            ..Subscribe::default()
        };
        let line = Command { id: 2, connect: None, subscribe: Some(subscribe) }.line();
        let expected = r#"{"id":2,"subscribe":{"channel":"noon:1","positioned":true,"recoverable":true,"recover":true,"epoch":"e","offset":0}}"#;
        assert_eq!(line, expected);
    }

    #[test]
    fn what_is_published_is_written_as_it_is() {
        let line = publish_line(7, "a\"b", r#"{"z":1,"a":2}"#);
        assert_eq!(line, r#"{"id":7,"publish":{"channel":"a\"b","data":{"z":1,"a":2}}}"#);
    }

    #[test]
    fn replies_are_read() {
        let line =
            r#"{"id":3,"connect":{"client":"7a1f","version":"1.0.0","ping":25,"pong":true,"expires":true}}"#;
        let Incoming::Connected(connected) = parsed(line) else { panic!("it is a connect reply") };
        assert_eq!((&*connected.client, connected.ping, connected.pong), ("7a1f", 25, true));
        let line = r#"{"id":4,"subscribe":{"recoverable":true,"recovered":true,"epoch":"k\u0051h","offset":42,"publications":[{"data":{"seq":1,"at":5},"offset":43}]}}"#;
        let Incoming::Subscribed(subscribed) = parsed(line) else { panic!("it is a subscribe reply") };
        assert_eq!((&*subscribed.epoch, subscribed.offset, subscribed.recovered), ("kQh", 42, true));
        assert_eq!(subscribed.publications[0].payload(), Some(Payload { seq: 1, at: 5 }));
        let line = r#"{"id":4,"error":{"code":103,"message":"permission denied"}}"#;
        let Incoming::Refused(4, refusal) = parsed(line) else { panic!("it is an error") };
        assert_eq!(
            (refusal.code, &*refusal.message, refusal.is_temporary()),
            (103, "permission denied", false)
        );
    }

    #[test]
    fn errors_after_which_sdks_try_again_are_known() {
        for (json, again) in [
            (r#"{"code":100,"temporary":true}"#, true),
            (r#"{"code":109}"#, true),
            (r#"{"code":2}"#, true),
            (r#"{"code":105}"#, false),
        ] {
            assert_eq!(serde_json::from_str::<Refusal<'_>>(json).unwrap().is_temporary(), again, "{json}");
        }
    }

    #[test]
    fn pushes_are_read() {
        let line = r#"{"push":{"channel":"noon:1","pub":{"data":{"seq":7,"at":9,"pad":"xx"},"offset":3,"epoch":"e"}}}"#;
        let Incoming::Publication(publication) = parsed(line) else { panic!("it is a publication") };
        assert_eq!((publication.offset, publication.epoch.as_deref()), (3, Some("e")));
        assert_eq!(publication.payload(), Some(Payload { seq: 7, at: 9 }));
        let join = parsed(r#"{"push":{"channel":"noon:1","join":{"info":{"user":"7","client":"b2"}}}}"#);
        assert!(matches!(join, Incoming::Joined));
        let leave = parsed(r#"{"push":{"channel":"noon:1","leave":{"info":{"user":"7","client":"b2"}}}}"#);
        assert!(matches!(leave, Incoming::Left(client) if client == "b2"));
        let ended = parsed(r#"{"push":{"channel":"noon:1","unsubscribe":{"code":2500,"reason":"state"}}}"#);
        assert!(matches!(ended, Incoming::Unsubscribed(2500)));
        assert!(matches!(parsed("{}"), Incoming::Ping));
    }

    #[test]
    fn what_is_for_others_is_passed_over() {
        for line in [
            r#"{"push":{"channel":"other","pub":{"data":1}}}"#,
            r#"{"push":{"message":{"data":{"notice":1}}}}"#,
            r#"{"id":9,"rpc":{}}"#,
            r#"{"push":{"channel":"noon:1","something":{}}}"#,
        ] {
            assert!(matches!(parsed(line), Incoming::Other), "{line}");
        }
    }

    #[test]
    fn payloads_of_others_are_none() {
        for data in ["1", r#""text""#, "null", "[]", r#"{"seq":"1"}"#, r#"{"seq":-1,"at":0}"#] {
            let line = format!(r#"{{"push":{{"channel":"noon:1","pub":{{"data":{data},"offset":1}}}}}}"#);
            let Incoming::Publication(publication) = parsed(&line) else { panic!("it is a publication") };
            assert_eq!(publication.payload(), None, "{data}");
        }
    }

    #[test]
    fn garbage_is_an_error() {
        for line in [
            "",
            " ",
            "nonsense",
            "{",
            "[]",
            r#"{"id":"1"}"#,
            r#"{"push":7}"#,
            r#"{"push":{"channel":"noon:1","pub":{"offset":-1}}}"#,
            r#"{"push":{"channel":"noon:1","leave":{}}}"#,
            "{}{}",
        ] {
            assert!(parse(line, "noon:1").is_err(), "{line:?}");
        }
    }
}
