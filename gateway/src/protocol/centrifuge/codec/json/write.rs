//! Replies and pushes as JSON text without line breaks.
//!
//! Written by hand: a push is the hot path, and payloads are embedded as they are. A field with its default value is
//! left out, but for those that the protocol says are always there.

use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;

use crate::broker::History;
use crate::model::{Channel, ClientId, ClientInfo, Notice, Payload, Publication, RawJson};
use crate::node::recovery::Start;
use crate::presence::PresenceStats;
use crate::protocol::Inappropriate;
use crate::protocol::centrifuge::code::Error;
use crate::protocol::centrifuge::codec::roster::Roster;
use crate::protocol::centrifuge::push::{Push, VERSION};
use crate::protocol::centrifuge::reply::{Begun, Connected, Reply, ping_seconds, ttl_seconds};

/// What a writer answers: an error if there is something that JSON has no place for.
type Written = Result<(), Inappropriate>;

/// The reply to the command `id`; without an id the field is left out.
///
/// # Errors
/// [`Inappropriate`] for a publication whose data is not JSON.
pub fn reply(id: u32, reply: &Reply) -> Result<Vec<u8>, Inappropriate> {
    let mut out = Vec::with_capacity(64);
    object(&mut out, |fields| {
        if id != 0 {
            fields.number("id", id);
        }
        match reply {
            Reply::Error(error) => error_field(*error, fields),
            Reply::Connect(connected) => {
                return fields.object("connect", |fields| connect(connected, fields));
            }
            Reply::Subscribe(begun) => {
                return fields.object("subscribe", |fields| subscribe_result(begun, fields));
            }
            Reply::Unsubscribe => fields.raw("unsubscribe", b"{}"),
            Reply::Publish => fields.raw("publish", b"{}"),
            Reply::Presence(members) => presence(members, fields),
            Reply::PresenceStats(PresenceStats { clients, users }) => {
                let stats = format!(r#"{{"num_clients":{clients},"num_users":{users}}}"#);
                fields.raw("presence_stats", stats.as_bytes());
            }
            Reply::History(read) => return fields.object("history", |fields| history(read, fields)),
            Reply::Refresh(expires_at) => expiry_object("refresh", *expires_at, fields),
            Reply::SubRefresh(expires_at) => expiry_object("sub_refresh", *expires_at, fields),
        }
        Ok(())
    })?;
    Ok(out)
}

/// Appends `{"push":{…}}`.
///
/// # Errors
/// [`Inappropriate`] for a publication whose data is not JSON; what was appended must be thrown away.
pub fn push(push: &Push<'_>, out: &mut Vec<u8>) -> Written {
    object(out, |fields| {
        fields.object("push", |fields| match push {
            Push::Publication(channel, publication) => {
                fields.string("channel", channel.as_str());
                fields.object("pub", |fields| publication_fields(publication, fields))
            }
            Push::Subscribe(channel, begun) => {
                fields.string("channel", channel.as_str());
                fields.object("subscribe", |fields| subscribe_fields(begun, fields))
            }
            Push::Unsubscribe(channel, ended) => {
                let (code, reason) = ended.code();
                fields.string("channel", channel.as_str());
                let unsubscribe = format!(r#"{{"code":{code},"reason":"{reason}"}}"#);
                fields.raw("unsubscribe", unsubscribe.as_bytes());
                Ok(())
            }
            Push::Refresh(expires_at) => {
                expiry_object("refresh", *expires_at, fields);
                Ok(())
            }
            Push::Connect(client, verdicts) => {
                fields.object("connect", |fields| connect_push(*client, verdicts, fields))
            }
        })
    })
}

/// Appends `{"push":{"channel":…,"pub":{…}}}`.
///
/// # Errors
/// [`Inappropriate`] if its data is not JSON; what was appended must be thrown away.
pub fn publication(channel: &Channel, publication: &Publication, out: &mut Vec<u8>) -> Written {
    push(&Push::Publication(channel, publication), out)
}

/// Appends `{"push":{"channel":…,"join":{"info":{…}}}}`, or `leave`.
pub fn notice(channel: &Channel, notice: &Notice, out: &mut Vec<u8>) {
    let name = match notice {
        Notice::Join(_) => "join",
        Notice::Leave(_) => "leave",
    };
    let written = object(out, |fields| {
        fields.object("push", |fields| {
            fields.string("channel", channel.as_str());
            fields.object(name, |fields| {
                client_info_field("info", notice.info(), fields);
                Ok(())
            })
        })
    });
    written.expect("it holds no publication");
}

fn connect(connected: &Connected, fields: &mut Fields<'_>) -> Written {
    client_fields(connected.client, fields);
    if !connected.ping.is_zero() {
        fields.number("ping", ping_seconds(connected.ping));
        fields.raw("pong", b"true");
    }
    expiry_fields(connected.expires_at, fields);
    if connected.subscriptions.is_empty() {
        return Ok(());
    }
    fields.object("subs", |fields| {
        connected.subscriptions.iter().try_for_each(|(channel, begun)| {
            fields.object(channel.as_str(), |fields| subscribe_result(begun, fields))
        })
    })
}

fn connect_push(
    client: ClientId,
    verdicts: &[(String, Result<Begun, Error>)],
    fields: &mut Fields<'_>,
) -> Written {
    client_fields(client, fields);
    fields.object("subs", |fields| {
        verdicts.iter().try_for_each(|(channel, verdict)| {
            fields.object(channel, |fields| match verdict {
                Ok(begun) => subscribe_result(begun, fields),
                Err(error) => {
                    error_field(*error, fields);
                    Ok(())
                }
            })
        })
    })
}

fn client_fields(client: ClientId, fields: &mut Fields<'_>) {
    fields.string("client", &client.to_string());
    fields.string("version", VERSION);
}

/// The fields of a SubscribeResult.
fn subscribe_result(begun: &Begun, fields: &mut Fields<'_>) -> Written {
    expiry_fields(begun.expires_at, fields);
    if begun.since.is_some() {
        fields.raw("was_recovering", b"true");
    }
    subscribe_fields(begun, fields)?;
    let Some(Start { recovered, publications, .. }) = &begun.start else { return Ok(()) };
    if *recovered == Some(true) {
        fields.raw("recovered", b"true");
    }
    if publications.is_empty() { Ok(()) } else { publication_list(publications, fields) }
}

/// What a SubscribeResult and a Subscribe push have in common.
fn subscribe_fields(begun: &Begun, fields: &mut Fields<'_>) -> Written {
    if begun.is_recoverable {
        fields.raw("recoverable", b"true");
    }
    if let Some(start) = &begun.start {
        fields.raw("positioned", b"true");
        fields.string("epoch", start.position.epoch.as_str());
        if begun.offset() > 0 {
            fields.number("offset", begun.offset());
        }
    }
    if let Some(data) = &begun.data {
        fields.raw("data", data.as_bytes());
    }
    Ok(())
}

fn history(history: &History, fields: &mut Fields<'_>) -> Written {
    publication_list(&history.publications, fields)?;
    fields.string("epoch", history.top.epoch.as_str());
    fields.number("offset", history.top.offset);
    Ok(())
}

fn publication_list(publications: &[impl AsRef<Publication>], fields: &mut Fields<'_>) -> Written {
    let out = fields.name("publications");
    out.push(b'[');
    for (index, publication) in publications.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        object(out, |fields| publication_fields(publication.as_ref(), fields))?;
    }
    out.push(b']');
    Ok(())
}

fn publication_fields(publication: &Publication, fields: &mut Fields<'_>) -> Written {
    data_field(&publication.data, fields)?;
    if publication.offset > 0 {
        fields.number("offset", publication.offset);
    }
    if let Some(info) = &publication.info {
        client_info_field("info", info, fields);
    }
    if !publication.tags.is_empty() {
        serde_json::to_writer(fields.name("tags"), &publication.tags)
            .expect("a map of strings is always JSON");
    }
    Ok(())
}

fn data_field(data: &Payload, fields: &mut Fields<'_>) -> Written {
    if !data.is_empty() {
        fields.raw("data", &data.json_line().ok_or(Inappropriate)?);
    }
    Ok(())
}

/// The reply to the command `id`, which asked for the presence, in pieces.
pub fn presence_pieces(id: u32, members: Vec<Arc<ClientInfo>>) -> impl Iterator<Item = Vec<u8>> {
    let head = match id {
        0 => r#"{"presence":{"presence":{"#.to_owned(),
        id => format!(r#"{{"id":{id},"presence":{{"presence":{{"#),
    };
    let write_member = |member: &ClientInfo, out: &mut Vec<u8>| {
        client_info_field(&member.client.to_string(), member, &mut Fields { out, is_first: true });
    };
    Roster::new(head.into_bytes(), members, write_member, (b",", b"}}}"))
}

/// `"presence":{"presence":{…}}`
fn presence(members: &[Arc<ClientInfo>], fields: &mut Fields<'_>) {
    let out = fields.name("presence");
    out.extend_from_slice(br#"{"presence":{"#);
    let mut list = Fields { out, is_first: true };
    members.iter().for_each(|member| client_info_field(&member.client.to_string(), member, &mut list));
    out.extend_from_slice(b"}}");
}

fn client_info_field(name: &str, info: &ClientInfo, fields: &mut Fields<'_>) {
    let out = fields.name(name);
    out.push(b'{');
    let mut fields = Fields { out, is_first: true };
    fields.string("user", info.user.as_str());
    fields.string("client", &info.client.to_string());
    let infos: [(_, &Option<RawJson>); 2] = [("conn_info", &info.conn_info), ("chan_info", &info.chan_info)];
    for (name, value) in infos {
        if let Some(value) = value {
            fields.raw(name, value.as_bytes());
        }
    }
    out.push(b'}');
}

/// `"error":{…}`
fn error_field(error: Error, fields: &mut Fields<'_>) {
    let out = fields.name("error");
    write!(out, r#"{{"code":{},"message":"#, error.code).expect("a vector takes everything");
    string(error.message, out);
    if error.temporary {
        out.extend_from_slice(br#","temporary":true"#);
    }
    out.push(b'}');
}

fn expiry_object(name: &str, expires_at: Option<SystemTime>, fields: &mut Fields<'_>) {
    let out = fields.name(name);
    out.push(b'{');
    expiry_fields(expires_at, &mut Fields { out, is_first: true });
    out.push(b'}');
}

/// `"expires":true,"ttl":…`
fn expiry_fields(expires_at: Option<SystemTime>, fields: &mut Fields<'_>) {
    if let Some(expires_at) = expires_at {
        fields.raw("expires", b"true");
        fields.number("ttl", ttl_seconds(expires_at));
    }
}

/// Appends `text` as a JSON string.
fn string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is always JSON");
}

/// Appends an object whose fields `fill` writes.
fn object(out: &mut Vec<u8>, fill: impl FnOnce(&mut Fields<'_>) -> Written) -> Written {
    out.push(b'{');
    fill(&mut Fields { out, is_first: true })?;
    out.push(b'}');
    Ok(())
}

/// The fields of an object that is being written.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
}

impl Fields<'_> {
    /// Writes a name; the caller appends the value.
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        string(name, self.out);
        self.out.push(b':');
        self.out
    }

    fn raw(&mut self, name: &str, value: &[u8]) {
        self.name(name).extend_from_slice(value);
    }

    fn string(&mut self, name: &str, value: &str) {
        string(value, self.name(name));
    }

    fn number(&mut self, name: &str, value: impl std::fmt::Display) {
        write!(self.name(name), "{value}").expect("a vector takes everything");
    }

    fn object(&mut self, name: &str, fill: impl FnOnce(&mut Fields<'_>) -> Written) -> Written {
        object(self.name(name), fill)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::model::UserId;
    use crate::protocol::centrifuge::code;
    use crate::protocol::centrifuge::push::Ended;

    const CLIENT: &str = "7a1f5c0e-2b64-4f0e-9d0b-3c1d9d1f0b11";

    fn channel(name: &str) -> Channel {
        Channel::parse(name, 255).unwrap()
    }

    fn ann() -> ClientInfo {
        let user = UserId::parse("4\"2").unwrap();
        let conn_info = RawJson::parse(br#"{"name":"Ann"}"#).ok();
        let client = ClientId::parse(CLIENT).unwrap();
        ClientInfo { user, client, conn_info, chan_info: RawJson::parse(b"7").ok() }
    }

    fn pushed(message: &Push<'_>) -> String {
        let mut out = Vec::new();
        push(message, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn replied(id: u32, message: &Reply) -> String {
        String::from_utf8(reply(id, message).unwrap()).unwrap()
    }

    fn subscribed(begun: Begun) -> String {
        replied(2, &Reply::Subscribe(Box::new(begun)))
    }

    #[test]
    fn a_publication_of_a_client_carries_who_it_was() {
        let tags = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let data = RawJson::parse(b"1e3").unwrap();
        let kept =
            Publication { info: Some(Box::new(ann())), tags, offset: u64::MAX, ..Publication::of(data) };
        let expected = concat!(
            r#"{"push":{"channel":"a\"b","pub":{"data":1e3,"offset":18446744073709551615,"#,
            r#""info":{"user":"4\"2","client":"7a1f5c0e-2b64-4f0e-9d0b-3c1d9d1f0b11","#,
            r#""conn_info":{"name":"Ann"},"chan_info":7},"tags":{"k":"v"}}}}"#
        );
        assert_eq!(pushed(&Push::Publication(&channel("a\"b"), &kept)), expected);
    }

    #[test]
    fn joins_and_leaves_say_who_it_is() {
        let who = concat!(
            r#"{"info":{"user":"4\"2","client":"7a1f5c0e-2b64-4f0e-9d0b-3c1d9d1f0b11","#,
            r#""conn_info":{"name":"Ann"},"chan_info":7}}"#
        );
        for (sent, name) in
            [(Notice::Join(Arc::new(ann())), "join"), (Notice::Leave(Arc::new(ann())), "leave")]
        {
            let mut out = Vec::new();
            notice(&channel("a\"b"), &sent, &mut out);
            let expected = format!(r#"{{"push":{{"channel":"a\"b","{name}":{who}}}}}"#);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn data_that_is_not_json_has_no_place_and_no_data_is_left_out() {
        let binary = Publication::of(Payload::of_bytes(Bytes::from_static(b"\x00")));
        assert_eq!(push(&Push::Publication(&channel("c"), &binary), &mut Vec::new()), Err(Inappropriate));
        let empty = Publication::of(Payload::empty());
        assert_eq!(pushed(&Push::Publication(&channel("c"), &empty)), r#"{"push":{"channel":"c","pub":{}}}"#);
    }

    #[test]
    fn pushes_of_subscriptions_are_those_of_the_reference() {
        let c = channel("c");
        assert_eq!(
            pushed(&Push::Subscribe(&c, &Begun::default())),
            r#"{"push":{"channel":"c","subscribe":{}}}"#
        );
        let with_data = Begun { data: Some(RawJson::string("x")), ..Begun::default() };
        assert_eq!(
            pushed(&Push::Subscribe(&c, &with_data)),
            r#"{"push":{"channel":"c","subscribe":{"data":"x"}}}"#
        );
        assert_eq!(
            pushed(&Push::Unsubscribe(&c, Ended::ByServer)),
            r#"{"push":{"channel":"c","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#
        );
        assert_eq!(pushed(&Push::Refresh(None)), r#"{"push":{"refresh":{}}}"#);
    }

    #[test]
    fn the_connect_push_lists_each_channel_with_its_verdict() {
        let verdicts =
            [("a".to_owned(), Ok(Begun::default())), ("b".to_owned(), Err(code::PERMISSION_DENIED))];
        let push = pushed(&Push::Connect(ClientId::random(), &verdicts));
        let push: serde_json::Value = serde_json::from_str(&push).unwrap();
        assert_eq!(push["push"]["connect"]["subs"]["a"], serde_json::json!({}));
        assert_eq!(push["push"]["connect"]["subs"]["b"]["error"]["code"], 103);
    }

    #[test]
    fn replies_are_those_of_the_reference() {
        assert_eq!(replied(7, &Reply::Unsubscribe), r#"{"id":7,"unsubscribe":{}}"#);
        assert_eq!(replied(7, &Reply::Publish), r#"{"id":7,"publish":{}}"#);
        assert_eq!(subscribed(Begun::default()), r#"{"id":2,"subscribe":{}}"#);
        let asked = Begun { since: Some(0), ..Begun::default() };
        assert_eq!(subscribed(asked), r#"{"id":2,"subscribe":{"was_recovering":true}}"#);
        assert_eq!(
            replied(2, &Reply::Error(code::PERMISSION_DENIED)),
            r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#
        );
        assert_eq!(
            replied(0, &Reply::Error(code::INTERNAL)),
            r#"{"error":{"code":100,"message":"internal server error","temporary":true}}"#
        );
        assert_eq!(
            replied(7, &Reply::PresenceStats(PresenceStats { clients: 2, users: 1 })),
            r#"{"id":7,"presence_stats":{"num_clients":2,"num_users":1}}"#
        );
    }

    #[test]
    fn presence_is_a_map_by_client() {
        assert_eq!(replied(6, &Reply::Presence(Vec::new())), r#"{"id":6,"presence":{"presence":{}}}"#);
        let expected = concat!(
            r#"{"id":6,"presence":{"presence":{"7a1f5c0e-2b64-4f0e-9d0b-3c1d9d1f0b11":{"user":"4\"2","#,
            r#""client":"7a1f5c0e-2b64-4f0e-9d0b-3c1d9d1f0b11","conn_info":{"name":"Ann"},"chan_info":7}}}}"#
        );
        assert_eq!(replied(6, &Reply::Presence(vec![Arc::new(ann())])), expected);
    }

    #[test]
    fn presence_in_pieces_is_what_it_is_in_one() {
        for (id, count) in [(6, 0), (6, 1), (0, 2), (7, 1_000)] {
            let member = |_| Arc::new(ClientInfo { client: ClientId::random(), ..ann() });
            let members: Vec<_> = (0..count).map(member).collect();
            let pieces: Vec<_> = presence_pieces(id, members.clone()).collect();
            assert!(pieces.len() >= count / 150 && pieces.iter().all(|piece| piece.len() < 20_000));
            assert_eq!(String::from_utf8(pieces.concat()).unwrap(), replied(id, &Reply::Presence(members)));
        }
    }

    #[test]
    fn a_client_is_told_when_to_refresh_if_it_has_to() {
        assert_eq!(replied(9, &Reply::Refresh(None)), r#"{"id":9,"refresh":{}}"#);
        let soon = SystemTime::now() + Duration::from_millis(3_600_500);
        assert_eq!(
            replied(9, &Reply::SubRefresh(Some(soon))),
            r#"{"id":9,"sub_refresh":{"expires":true,"ttl":3600}}"#
        );
        assert_eq!(
            subscribed(Begun { expires_at: Some(soon), ..Begun::default() }),
            r#"{"id":2,"subscribe":{"expires":true,"ttl":3600}}"#
        );
    }

    #[test]
    fn a_session_begins_with_what_there_is() {
        let client = ClientId::parse(CLIENT).unwrap();
        let connected = |ping| Connected { client, ping, expires_at: None, subscriptions: vec![] };
        let text = |connected| replied(1, &Reply::Connect(Box::new(connected)));
        let head = format!(r#"{{"id":1,"connect":{{"client":"{CLIENT}","version":"{VERSION}""#);
        assert_eq!(text(connected(Duration::ZERO)), format!("{head}}}}}"));
        assert_eq!(text(connected(Duration::from_secs(25))), format!(r#"{head},"ping":25,"pong":true}}}}"#));
        let subscriptions = vec![(channel("#42"), Begun::default())];
        assert_eq!(
            text(Connected { subscriptions, ..connected(Duration::ZERO) }),
            format!(r##"{head},"subs":{{"#42":{{}}}}}}}}"##)
        );
    }
}
