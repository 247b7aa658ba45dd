//! What the gateway says unasked, as JSON text without line breaks.
//!
//! Written by hand: a push is the hot path, and payloads are embedded as they are.

use std::io::Write;

use super::code::Error;
use super::reply::{self, Begun};
use crate::model::{Channel, ClientId, ClientInfo, Publication, RawJson};

/// The version that the gateway tells clients.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `{"push":{"channel":…,"pub":{…}}}`
pub fn publication(channel: &Channel, publication: &Publication, out: &mut Vec<u8>) {
    open(channel, out);
    out.extend_from_slice(b"\"pub\":");
    publication_object(publication, out);
    out.extend_from_slice(b"}}");
}

/// `{"data":…,"offset":…,…}`
pub(super) fn publication_object(publication: &Publication, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"data\":");
    out.extend_from_slice(publication.data.as_bytes());
    if publication.offset > 0 {
        write!(out, ",\"offset\":{}", publication.offset).expect("a vector takes everything");
    }
    if let Some(info) = &publication.info {
        out.extend_from_slice(b",\"info\":");
        client_info(info, out);
    }
    if !publication.tags.is_empty() {
        out.extend_from_slice(b",\"tags\":");
        serde_json::to_writer(&mut *out, &publication.tags).expect("a map of strings is always JSON");
    }
    out.push(b'}');
}

/// The server subscribed the client: `{"push":{"channel":…,"subscribe":{…}}}`
pub fn subscribe(channel: &Channel, begun: &Begun, data: Option<&RawJson>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    open(channel, &mut out);
    out.extend_from_slice(b"\"subscribe\":");
    begun.write(data, &mut out);
    out.extend_from_slice(b"}}");
    out
}

/// The server ended a subscription: code 2000, which the client does not undo by itself.
pub fn unsubscribe(channel: &Channel) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    open(channel, &mut out);
    out.extend_from_slice(br#""unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#);
    out
}

/// The client missed something: code 2500, after which it subscribes again and recovers.
pub fn insufficient_state(channel: &Channel) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    open(channel, &mut out);
    out.extend_from_slice(br#""unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#);
    out
}

/// The first push of the bare form: each requested channel as subscribed or refused, with its code.
pub fn connect(client: ClientId, subscriptions: &[(String, Result<Begun, Error>)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(b"{\"push\":{\"connect\":{\"client\":\"");
    out.extend_from_slice(client.to_string().as_bytes());
    out.extend_from_slice(b"\",\"version\":\"");
    out.extend_from_slice(VERSION.as_bytes());
    out.extend_from_slice(b"\",\"subs\":{");
    for (index, (channel, result)) in subscriptions.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        reply::string(channel, &mut out);
        match result {
            Ok(begun) => {
                out.push(b':');
                begun.write(None, &mut out);
            }
            Err(error) => {
                out.extend_from_slice(b":{");
                reply::error_field(*error, &mut out);
                out.push(b'}');
            }
        }
    }
    out.extend_from_slice(b"}}}}");
    out
}

fn open(channel: &Channel, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"push\":{\"channel\":");
    reply::string(channel.as_str(), out);
    out.push(b',');
}

fn client_info(info: &ClientInfo, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"user\":");
    reply::string(info.user.as_str(), out);
    out.extend_from_slice(b",\"client\":\"");
    out.extend_from_slice(info.client.to_string().as_bytes());
    out.push(b'"');
    for (name, value) in [("conn_info", &info.conn_info), ("chan_info", &info.chan_info)] {
        if let Some(value) = value {
            write!(out, ",\"{name}\":").expect("a vector takes everything");
            out.extend_from_slice(value.as_bytes());
        }
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::UserId;
    use crate::protocol::centrifuge::code;

    fn channel(name: &str) -> Channel {
        Channel::parse(name, 255).unwrap()
    }

    #[test]
    fn a_publication_of_a_client_carries_who_it_was() {
        let client = ClientId::parse("7a1f5c0e-2b64-4f0e-9d0b-3c1d9d1f0b11").unwrap();
        let conn_info = RawJson::parse(br#"{"name":"Ann"}"#).ok();
        let info = ClientInfo {
            user: UserId::parse("4\"2").unwrap(),
            client,
            conn_info,
            chan_info: RawJson::parse(b"7").ok(),
        };
        let tags = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let data = RawJson::parse(b"1e3").unwrap();
        let mut out = Vec::new();
        let info = Some(Box::new(info));
        let kept = Publication { info, tags, offset: u64::MAX, ..Publication::of(data) };
        publication(&channel("a\"b"), &kept, &mut out);
        let expected = concat!(
            r#"{"push":{"channel":"a\"b","pub":{"data":1e3,"offset":18446744073709551615,"#,
            r#""info":{"user":"4\"2","#,
            r#""client":"7a1f5c0e-2b64-4f0e-9d0b-3c1d9d1f0b11","conn_info":{"name":"Ann"},"chan_info":7},"tags":{"k":"v"}}}}"#
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn pushes_of_subscriptions_are_those_of_the_reference() {
        let data = RawJson::string("x");
        assert_eq!(
            subscribe(&channel("c"), &Begun::default(), None),
            br#"{"push":{"channel":"c","subscribe":{}}}"#
        );
        let with_data = br#"{"push":{"channel":"c","subscribe":{"data":"x"}}}"#;
        assert_eq!(subscribe(&channel("c"), &Begun::default(), Some(&data)), with_data);
        let expected =
            br#"{"push":{"channel":"c","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#;
        assert_eq!(unsubscribe(&channel("c")), expected);
    }

    #[test]
    fn the_connect_push_lists_each_channel_with_its_verdict() {
        let client = ClientId::random();
        let verdicts =
            [("a".to_owned(), Ok(Begun::default())), ("b".to_owned(), Err(code::PERMISSION_DENIED))];
        let push: serde_json::Value = serde_json::from_slice(&connect(client, &verdicts)).unwrap();
        let connect = &push["push"]["connect"];
        assert_eq!(connect["client"], client.to_string());
        assert_eq!(connect["subs"]["a"], serde_json::json!({}));
        assert_eq!(connect["subs"]["b"]["error"]["code"], 103);
    }
}
