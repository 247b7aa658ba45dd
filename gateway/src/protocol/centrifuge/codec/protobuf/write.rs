//! Replies and pushes as delimited Protobuf messages.
//!
//! Written by hand: a push is the hot path, and payloads are embedded as they are. Field numbers are those of
//! `/proto/client.proto`. A field with its default value is left out.

use std::io::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::broker::History;
use crate::model::{Channel, ClientId, ClientInfo, Notice, Publication};
use crate::node::recovery::Start;
use crate::presence::PresenceStats;
use crate::protocol::centrifuge::code::Error;
use crate::protocol::centrifuge::codec::roster::Roster;
use crate::protocol::centrifuge::push::{Push, VERSION};
use crate::protocol::centrifuge::reply::{Begun, Connected, Reply, ping_seconds, ttl_seconds};

/// `Reply.id`
const REPLY_ID: u32 = 1;
/// `Reply.push`
const REPLY_PUSH: u32 = 4;
/// `Reply.presence`
const REPLY_PRESENCE: u32 = 9;
/// `PresenceResult.presence`
const PRESENCE_MEMBERS: u32 = 1;

/// The reply to the command `id`; without an id the field is left out.
pub fn reply(id: u32, reply: &Reply) -> Vec<u8> {
    let mut out = Vec::new();
    delimited(&mut out, |fields| {
        fields.number(REPLY_ID, id.into());
        match reply {
            Reply::Error(error) => fields.message(2, |fields| error_fields(*error, fields)),
            Reply::Connect(connected) => fields.message(5, |fields| connect(connected, fields)),
            Reply::Subscribe(begun) => fields.message(6, |fields| subscribe_result(begun, fields)),
            Reply::Unsubscribe => fields.message(7, |_| {}),
            Reply::Publish => fields.message(8, |_| {}),
            Reply::Presence(members) => fields.message(REPLY_PRESENCE, |fields| {
                members.iter().for_each(|member| presence_fields(member, fields));
            }),
            Reply::PresenceStats(PresenceStats { clients, users }) => fields.message(10, |fields| {
                fields.number(1, *clients as u64);
                fields.number(2, *users as u64);
            }),
            Reply::History(read) => fields.message(11, |fields| history(read, fields)),
            Reply::Refresh(expires_at) => fields.message(14, |fields| expiry(*expires_at, (3, 4), fields)),
            Reply::SubRefresh(expires_at) => {
                fields.message(15, |fields| expiry(*expires_at, (1, 2), fields));
            }
        }
    });
    out
}

/// Appends a push.
pub fn push(push: &Push<'_>, out: &mut Vec<u8>) {
    delimited(out, |fields| fields.message(REPLY_PUSH, |fields| push_fields(push, fields)));
}

/// Appends the push of a publication.
pub fn publication(channel: &Channel, publication: &Publication, out: &mut Vec<u8>) {
    push(&Push::Publication(channel, publication), out);
}

/// Appends the push of a join or a leave.
pub fn notice(channel: &Channel, notice: &Notice, out: &mut Vec<u8>) {
    let number = match notice {
        Notice::Join(_) => 5,
        Notice::Leave(_) => 6,
    };
    delimited(out, |fields| {
        fields.message(REPLY_PUSH, |fields| {
            fields.text(2, channel.as_str());
            fields.message(number, |fields| fields.message(1, |fields| client_info(notice.info(), fields)));
        });
    });
}

/// The reply to the command `id`, which asked for the presence, in pieces.
pub fn presence_pieces(id: u32, members: Vec<Arc<ClientInfo>>) -> impl Iterator<Item = Vec<u8>> {
    let members_bytes: usize =
        members.iter().map(|one| measure(&|fields| presence_fields(one, fields))).sum();
    let (mut head, mut fields_bytes) = (Vec::new(), Vec::new());
    let mut fields = Fields { out: Some(&mut fields_bytes), bytes: 0 };
    fields.number(REPLY_ID, id.into());
    fields.key(REPLY_PRESENCE, WireType::LengthDelimited);
    fields.varint(members_bytes as u64);
    encode_varint((fields_bytes.len() + members_bytes) as u64, &mut head);
    head.append(&mut fields_bytes);
    let write_member = |member: &ClientInfo, out: &mut Vec<u8>| {
        presence_fields(member, &mut Fields { out: Some(out), bytes: 0 });
    };
    Roster::new(head, members, write_member, (b"", b""))
}

fn push_fields(push: &Push<'_>, fields: &mut Fields<'_>) {
    match push {
        Push::Publication(channel, publication) => {
            fields.text(2, channel.as_str());
            fields.message(4, |fields| publication_fields(publication, fields));
        }
        Push::Subscribe(channel, begun) => {
            fields.text(2, channel.as_str());
            fields.message(9, |fields| subscribe_push(begun, fields));
        }
        Push::Unsubscribe(channel, ended) => {
            let (code, reason) = ended.code();
            fields.text(2, channel.as_str());
            fields.message(7, |fields| {
                fields.number(2, code.into());
                fields.text(3, reason);
            });
        }
        Push::Refresh(expires_at) => fields.message(12, |fields| expiry(*expires_at, (1, 2), fields)),
        Push::Connect(client, verdicts) => {
            fields.message(10, |fields| connect_push(*client, verdicts, fields));
        }
    }
}

fn error_fields(error: Error, fields: &mut Fields<'_>) {
    fields.number(1, error.code.into());
    fields.text(2, error.message);
    fields.flag(3, error.temporary);
}

/// The fields of a ConnectResult.
fn connect(connected: &Connected, fields: &mut Fields<'_>) {
    fields.client(1, connected.client);
    fields.text(2, VERSION);
    expiry(connected.expires_at, (3, 4), fields);
    for (channel, begun) in &connected.subscriptions {
        fields.entry(6, channel.as_str(), |fields| subscribe_result(begun, fields));
    }
    let ping = ping_seconds(connected.ping);
    fields.number(7, ping.into());
    fields.flag(8, ping > 0);
}

/// The fields of a Connect push. It has no place for a refusal: a channel that is missing was refused.
fn connect_push(client: ClientId, verdicts: &[(String, Result<Begun, Error>)], fields: &mut Fields<'_>) {
    fields.client(1, client);
    fields.text(2, VERSION);
    for (channel, verdict) in verdicts {
        if let Ok(begun) = verdict {
            fields.entry(4, channel, |fields| subscribe_result(begun, fields));
        }
    }
}

/// The fields of a SubscribeResult.
fn subscribe_result(begun: &Begun, fields: &mut Fields<'_>) {
    expiry(begun.expires_at, (1, 2), fields);
    fields.flag(3, begun.is_recoverable);
    if let Some(Start { position, recovered, publications }) = &begun.start {
        fields.text(6, position.epoch.as_str());
        for publication in publications {
            fields.message(7, |fields| publication_fields(publication, fields));
        }
        fields.flag(8, *recovered == Some(true));
        fields.number(9, begun.offset());
        fields.flag(10, true);
    }
    if let Some(data) = &begun.data {
        fields.bytes(11, data.as_bytes());
    }
    fields.flag(12, begun.since.is_some());
}

/// The fields of a Subscribe push.
fn subscribe_push(begun: &Begun, fields: &mut Fields<'_>) {
    fields.flag(1, begun.is_recoverable);
    if let Some(start) = &begun.start {
        fields.text(4, start.position.epoch.as_str());
        fields.number(5, begun.offset());
        fields.flag(6, true);
    }
    if let Some(data) = &begun.data {
        fields.bytes(7, data.as_bytes());
    }
}

/// The fields of a HistoryResult.
fn history(history: &History, fields: &mut Fields<'_>) {
    for publication in &history.publications {
        fields.message(1, |fields| publication_fields(publication, fields));
    }
    fields.text(2, history.top.epoch.as_str());
    fields.number(3, history.top.offset);
}

fn publication_fields(publication: &Publication, fields: &mut Fields<'_>) {
    fields.bytes(4, publication.data.as_bytes());
    if let Some(info) = &publication.info {
        fields.message(5, |fields| client_info(info, fields));
    }
    fields.number(6, publication.offset);
    for (name, value) in &publication.tags {
        fields.message(7, |fields| {
            fields.text(1, name);
            fields.text(2, value);
        });
    }
}

/// One entry of a PresenceResult.
fn presence_fields(member: &ClientInfo, fields: &mut Fields<'_>) {
    fields.message(PRESENCE_MEMBERS, |fields| {
        fields.client(1, member.client);
        fields.message(2, |fields| client_info(member, fields));
    });
}

fn client_info(info: &ClientInfo, fields: &mut Fields<'_>) {
    fields.text(1, info.user.as_str());
    fields.client(2, info.client);
    for (number, value) in [(3, &info.conn_info), (4, &info.chan_info)] {
        if let Some(value) = value {
            fields.bytes(number, value.as_bytes());
        }
    }
}

/// `expires` and `ttl`, which have other numbers in each message.
fn expiry(expires_at: Option<SystemTime>, (expires, ttl): (u32, u32), fields: &mut Fields<'_>) {
    if let Some(expires_at) = expires_at {
        fields.flag(expires, true);
        fields.number(ttl, ttl_seconds(expires_at).into());
    }
}

/// Appends a message whose fields `fill` writes, after its length.
fn delimited(out: &mut Vec<u8>, fill: impl Fn(&mut Fields<'_>)) {
    let bytes = measure(&fill);
    out.reserve(encoded_len_varint(bytes as u64) + bytes);
    encode_varint(bytes as u64, out);
    fill(&mut Fields { out: Some(out), bytes: 0 });
}

/// How long the fields are that `fill` writes.
fn measure(fill: &impl Fn(&mut Fields<'_>)) -> usize {
    let mut fields = Fields { out: None, bytes: 0 };
    fill(&mut fields);
    fields.bytes
}

/// The fields of a message, which are written, or only counted: a message stands after its length.
struct Fields<'a> {
    out: Option<&'a mut Vec<u8>>,
    bytes: usize,
}

impl Fields<'_> {
    fn number(&mut self, number: u32, value: u64) {
        if value != 0 {
            self.key(number, WireType::Varint);
            self.varint(value);
        }
    }

    fn flag(&mut self, number: u32, value: bool) {
        self.number(number, value.into());
    }

    fn text(&mut self, number: u32, value: &str) {
        self.bytes(number, value.as_bytes());
    }

    fn client(&mut self, number: u32, client: ClientId) {
        let mut text = [0; 36];
        write!(&mut text[..], "{client}").expect("the hyphenated form of an id has 36 characters");
        self.bytes(number, &text);
    }

    fn bytes(&mut self, number: u32, value: &[u8]) {
        if value.is_empty() {
            return;
        }
        self.key(number, WireType::LengthDelimited);
        self.varint(value.len() as u64);
        match &mut self.out {
            Some(out) => out.extend_from_slice(value),
            None => self.bytes += value.len(),
        }
    }

    /// A message, which is there even if it is empty.
    fn message(&mut self, number: u32, fill: impl Fn(&mut Fields<'_>)) {
        let bytes = measure(&fill);
        self.key(number, WireType::LengthDelimited);
        self.varint(bytes as u64);
        match self.out {
            Some(_) => fill(self),
            None => self.bytes += bytes,
        }
    }

    /// An entry of a map from text to messages.
    fn entry(&mut self, number: u32, name: &str, fill: impl Fn(&mut Fields<'_>)) {
        self.message(number, |fields| {
            fields.text(1, name);
            fields.message(2, &fill);
        });
    }

    fn key(&mut self, number: u32, wire_type: WireType) {
        match &mut self.out {
            Some(out) => encode_key(number, wire_type, *out),
            None => self.bytes += key_len(number),
        }
    }

    fn varint(&mut self, value: u64) {
        match &mut self.out {
            Some(out) => encode_varint(value, *out),
            None => self.bytes += encoded_len_varint(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use prost::Message as _;
    use serde_json::{Value, json};

    use super::super::{schema, translation};
    use super::*;
    use crate::model::{Epoch, Payload, Position, RawJson, UserId};
    use crate::protocol::centrifuge::code;
    use crate::protocol::centrifuge::codec::json;
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

    fn publication(data: &str, offset: u64) -> Publication {
        Publication { offset, ..Publication::of(RawJson::parse(data.as_bytes()).unwrap()) }
    }

    fn full_publication() -> Publication {
        let tags = BTreeMap::from([("k".to_owned(), "v".to_owned()), ("empty".to_owned(), String::new())]);
        Publication { info: Some(Box::new(ann())), tags, ..publication("[1.5]", u64::MAX) }
    }

    fn start(recovered: Option<bool>) -> Start {
        let position = Position { epoch: Epoch::new("ab"), offset: 300 };
        let publications = [publication("{}", 299), full_publication()].map(Arc::new).to_vec();
        Start { position, recovered, publications }
    }

    /// Begun in every way.
    fn begun() -> Vec<Begun> {
        let soon = SystemTime::now() + Duration::from_millis(3_600_500);
        let full = Begun {
            start: Some(start(Some(true))),
            is_recoverable: true,
            since: Some(298),
            expires_at: Some(soon),
            data: RawJson::parse(br#"{"a":1}"#).ok(),
        };
        let lost =
            Begun { start: Some(Start { publications: vec![], ..start(Some(false)) }), ..full.clone() };
        vec![Begun::default(), Begun { since: Some(0), ..Begun::default() }, full, lost]
    }

    fn replies() -> Vec<Reply> {
        let soon = SystemTime::now() + Duration::from_millis(3_600_500);
        let client = ClientId::parse(CLIENT).unwrap();
        let connected = |ping, expires_at, subscriptions| {
            Reply::Connect(Box::new(Connected { client, ping, expires_at, subscriptions }))
        };
        let subscriptions = begun().into_iter().enumerate();
        let subscriptions =
            subscriptions.map(|(index, begun)| (channel(&format!("c{index}")), begun)).collect();
        let top = start(None).position;
        let read = |publications| Reply::History(History { top: top.clone(), publications });
        let mut replies = vec![
            Reply::Error(code::PERMISSION_DENIED),
            Reply::Error(code::INTERNAL),
            Reply::Unsubscribe,
            Reply::Publish,
            Reply::Presence(vec![]),
            Reply::Presence(vec![Arc::new(ann())]),
            Reply::PresenceStats(PresenceStats { clients: 0, users: 0 }),
            Reply::PresenceStats(PresenceStats { clients: 1_000_000, users: 1 }),
            read(vec![]),
            read(start(None).publications),
            Reply::Refresh(None),
            Reply::Refresh(Some(soon)),
            Reply::SubRefresh(None),
            Reply::SubRefresh(Some(soon)),
            connected(Duration::ZERO, None, vec![]),
            connected(Duration::from_millis(24_500), Some(soon), subscriptions),
        ];
        replies.extend(begun().into_iter().map(|begun| Reply::Subscribe(Box::new(begun))));
        replies
    }

    fn pushed(message: &Push<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        push(message, &mut out);
        out
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn messages_are_those_of_the_reference_byte_for_byte() {
        let start = Start {
            position: Position { epoch: Epoch::new("ab"), offset: 3 },
            recovered: None,
            publications: vec![],
        };
        let begun = Begun { start: Some(start), is_recoverable: true, ..Begun::default() };
        assert_eq!(
            hex(&reply(2, &Reply::Subscribe(Box::new(begun)))),
            "0e 08 02 32 0a 18 01 32 02 61 62 48 03 50 01"
        );
        assert_eq!(
            hex(&pushed(&Push::Publication(&channel("news"), &publication(r#"{"a":1}"#, 4)))),
            "15 22 13 12 04 6e 65 77 73 22 0b 22 07 7b 22 61 22 3a 31 7d 30 04"
        );
        assert_eq!(
            hex(&reply(2, &Reply::Error(code::PERMISSION_DENIED))),
            "19 08 02 12 15 08 67 12 11 70 65 72 6d 69 73 73 69 6f 6e 20 64 65 6e 69 65 64"
        );
        assert_eq!(hex(&reply(7, &Reply::Unsubscribe)), "04 08 07 3a 00");
    }

    #[test]
    fn a_session_begins_with_the_fields_of_the_reference_in_their_order() {
        let connected = Connected {
            client: ClientId::parse(CLIENT).unwrap(),
            ping: Duration::from_secs(25),
            expires_at: None,
            subscriptions: vec![],
        };
        let head =
            [b"\x08\x01\x2a\x31\x0a\x24".as_slice(), CLIENT.as_bytes(), b"\x12\x05", VERSION.as_bytes()];
        let expected = [&head.concat(), b"\x38\x19\x40\x01".as_slice()].concat();
        assert_eq!(reply(1, &Reply::Connect(Box::new(connected)))[1..], expected);
    }

    #[test]
    fn every_reply_says_what_it_says_in_json() {
        for message in replies() {
            for id in [0, 1, u32::MAX] {
                let json: Value = serde_json::from_slice(&json::write::reply(id, &message).unwrap()).unwrap();
                assert_eq!(translation::reply(&reply(id, &message)), json, "{message:?}");
            }
        }
    }

    #[test]
    fn every_push_says_what_it_says_in_json() {
        let (channel, publication) = (channel("a\"b"), full_publication());
        let (soon, all) = (SystemTime::now() + Duration::from_millis(3_600_500), begun());
        let subscribed: Vec<_> = all.iter().map(|begun| Ok(begun.clone())).collect();
        let verdicts: Vec<_> = (0..).map(|index| format!("c{index}")).zip(subscribed).collect();
        let mut pushes = vec![
            Push::Publication(&channel, &publication),
            Push::Unsubscribe(&channel, Ended::Expired),
            Push::Refresh(None),
            Push::Refresh(Some(soon)),
            Push::Connect(ann().client, &verdicts),
        ];
        pushes.extend(all.iter().map(|begun| Push::Subscribe(&channel, begun)));
        for message in pushes {
            let mut json = Vec::new();
            json::write::push(&message, &mut json).unwrap();
            let json: Value = serde_json::from_slice(&json).unwrap();
            assert_eq!(translation::reply(&pushed(&message)), json, "{message:?}");
        }
    }

    #[test]
    fn what_was_refused_is_missing_in_a_connect_push() {
        let verdicts =
            [("a".to_owned(), Ok(Begun::default())), ("b".to_owned(), Err(code::PERMISSION_DENIED))];
        let push = translation::reply(&pushed(&Push::Connect(ann().client, &verdicts)));
        assert_eq!(push["push"]["connect"]["subs"], json!({"a": {}}));
    }

    #[test]
    fn data_is_what_was_published_json_or_not() {
        for data in [b"\x00\xff\n".as_slice(), b"{\"a\" :\n 1.0}", b""] {
            let kept = Publication::of(Payload::of_bytes(Bytes::from_static(data)));
            let message = pushed(&Push::Publication(&channel("c"), &kept));
            let read = schema::Reply::decode_length_delimited(&message[..]).unwrap();
            assert_eq!(read.push.unwrap().r#pub.unwrap().data, data);
        }
    }

    #[test]
    fn a_message_is_as_long_as_it_says_whatever_its_size() {
        for bytes in [0, 1, 100, 126, 127, 128, 129, 16_383, 16_384, 70_000] {
            let data = Payload::of_bytes(Bytes::from(vec![b'x'; bytes]));
            let kept = Publication { info: Some(Box::new(ann())), ..Publication::of(data) };
            let message = pushed(&Push::Publication(&channel("c"), &kept));
            let mut rest = &message[..];
            let read = schema::Reply::decode_length_delimited(&mut rest).unwrap();
            assert_eq!((read.push.unwrap().r#pub.unwrap().data.len(), rest.len()), (bytes, 0));
        }
    }

    #[test]
    fn joins_and_leaves_say_who_it_is() {
        for is_join in [true, false] {
            let info = Arc::new(ann());
            let sent = if is_join { Notice::Join(info) } else { Notice::Leave(info) };
            let mut message = Vec::new();
            notice(&channel("c"), &sent, &mut message);
            let push = schema::Reply::decode_length_delimited(&message[..]).unwrap().push.unwrap();
            assert_eq!(push.channel, "c");
            let (join, leave) =
                (push.join.and_then(|join| join.info), push.leave.and_then(|leave| leave.info));
            let (told, other) = if is_join { (join, leave) } else { (leave, join) };
            let told = told.unwrap();
            assert_eq!((told.client.as_str(), told.conn_info.is_empty(), other), (CLIENT, false, None));
        }
    }

    #[test]
    fn presence_written_in_pieces_is_what_it_is_in_one() {
        for count in [0, 1, 2, 300] {
            let members: Vec<_> = (0..count)
                .map(|index| {
                    let user = UserId::parse(&format!("user-{index}")).unwrap();
                    Arc::new(ClientInfo { client: ClientId::random(), user, ..ann() })
                })
                .collect();
            let pieces: Vec<_> = presence_pieces(6, members.clone()).collect();
            assert_eq!(pieces.len() > 1, count == 300);
            assert_eq!(pieces.concat(), reply(6, &Reply::Presence(members)));
        }
    }
}
