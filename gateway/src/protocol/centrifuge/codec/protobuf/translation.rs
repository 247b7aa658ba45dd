//! From JSON to Protobuf and back, for tests: what one codec reads and writes is what the other does.

use std::collections::HashMap;

use prost::Message as _;
use serde_json::{Map, Value, json};

use super::schema;
use crate::protocol::centrifuge::codec::json;
use crate::protocol::centrifuge::command::{Command, ConnectRequest, Request, SubscribeRequest};

/// The frame with the commands of a frame of JSON. What is malformed there is so here.
pub(in crate::protocol) fn frame(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    json::read::lines(text, &mut |command| match command {
        Ok(command) => frame.extend(message(command).encode_length_delimited_to_vec()),
        // No length.
        Err(_) => frame.extend([0xFF; 11]),
    });
    frame
}

fn message(command: Command) -> schema::Command {
    let mut message = schema::Command { id: command.id, ..Default::default() };
    match command.request {
        None => {}
        Some(Request::Connect(request)) => message.connect = Some(connect(request)),
        Some(Request::Ping) => message.ping = Some(schema::PingRequest {}),
        Some(Request::Subscribe(request)) => message.subscribe = Some(subscribe(request)),
        Some(Request::Unsubscribe(request)) => {
            message.unsubscribe = Some(schema::UnsubscribeRequest { channel: request.channel });
        }
        Some(Request::Publish(request)) => {
            message.publish = Some(schema::PublishRequest {
                channel: request.channel,
                data: request.data.map(|data| data.bytes().clone()).unwrap_or_default(),
                r#type: request.kind,
                ..Default::default()
            });
        }
        Some(Request::Presence(request)) => {
            message.presence = Some(schema::PresenceRequest { channel: request.channel });
        }
        Some(Request::PresenceStats(request)) => {
            message.presence_stats = Some(schema::PresenceStatsRequest { channel: request.channel });
        }
        Some(Request::History(request)) => {
            message.history = Some(schema::HistoryRequest {
                channel: request.channel,
                limit: request.limit,
                since: request
                    .since
                    .map(|since| schema::StreamPosition { offset: since.offset, epoch: since.epoch }),
                reverse: request.reverse,
            });
        }
        Some(Request::Rpc) => message.rpc = Some(schema::RpcRequest::default()),
        Some(Request::Send) => message.send = Some(schema::SendRequest::default()),
        Some(Request::Refresh(request)) => {
            message.refresh = Some(schema::RefreshRequest { token: request.token.expose().to_owned() });
        }
        Some(Request::SubRefresh(request)) => {
            message.sub_refresh = Some(schema::SubRefreshRequest {
                channel: request.channel,
                token: request.token.expose().to_owned(),
                r#type: request.kind,
                ..Default::default()
            });
        }
    }
    message
}

fn connect(request: ConnectRequest) -> schema::ConnectRequest {
    let subs = request.subs.into_iter().map(|(channel, request)| (channel, subscribe(request)));
    schema::ConnectRequest {
        token: request.token.expose().to_owned(),
        subs: subs.collect(),
        ..Default::default()
    }
}

fn subscribe(request: SubscribeRequest) -> schema::SubscribeRequest {
    schema::SubscribeRequest {
        channel: request.channel,
        token: request.token.expose().to_owned(),
        recover: request.recover,
        epoch: request.epoch,
        offset: request.offset,
        positioned: request.positioned,
        recoverable: request.recoverable,
        join_leave: request.join_leave,
        delta: request.delta,
        tf: request.has_filter.then(schema::FilterNode::default),
        flag: request.flag,
        r#type: request.kind,
        ..Default::default()
    }
}

/// What the delimited `message` says, as the message of JSON that says it.
pub(in crate::protocol) fn reply(mut message: &[u8]) -> Value {
    let reply = schema::Reply::decode_length_delimited(&mut message).expect("it is a reply");
    assert!(message.is_empty(), "more than a message");
    let mut fields = Fields::default();
    fields.unless_default("id", reply.id);
    fields.some("error", reply.error.map(error));
    fields.some("push", reply.push.map(push));
    fields.some("connect", reply.connect.map(connect_result));
    fields.some("subscribe", reply.subscribe.map(subscribe_result));
    fields.some("unsubscribe", reply.unsubscribe.map(|_| json!({})));
    fields.some("publish", reply.publish.map(|_| json!({})));
    fields.some("presence", reply.presence.map(|result| json!({"presence": object(result.presence, info)})));
    fields.some(
        "presence_stats",
        reply
            .presence_stats
            .map(|result| json!({"num_clients": result.num_clients, "num_users": result.num_users})),
    );
    fields.some("history", reply.history.map(history));
    fields.some("refresh", reply.refresh.map(|result| expiry(result.expires, result.ttl).into()));
    fields.some("sub_refresh", reply.sub_refresh.map(|result| expiry(result.expires, result.ttl).into()));
    fields.into()
}

fn error(error: schema::Error) -> Value {
    let mut fields = Fields::default();
    fields.always("code", error.code);
    fields.always("message", error.message);
    fields.unless_default("temporary", error.temporary);
    fields.into()
}

fn push(push: schema::Push) -> Value {
    let mut fields = Fields::default();
    fields.unless_default("channel", push.channel);
    fields.some("pub", push.r#pub.map(publication));
    fields
        .some("unsubscribe", push.unsubscribe.map(|push| json!({"code": push.code, "reason": push.reason})));
    fields.some(
        "subscribe",
        push.subscribe.map(|push| {
            let mut fields = Fields::default();
            fields.unless_default("recoverable", push.recoverable);
            fields.unless_default("epoch", push.epoch);
            fields.unless_default("offset", push.offset);
            fields.unless_default("positioned", push.positioned);
            fields.raw("data", &push.data);
            fields.into()
        }),
    );
    fields.some("connect", push.connect.map(|push| {
        json!({"client": push.client, "version": push.version, "subs": object(push.subs, subscribe_result)})
    }));
    fields.some("refresh", push.refresh.map(|push| expiry(push.expires, push.ttl).into()));
    fields.into()
}

fn connect_result(result: schema::ConnectResult) -> Value {
    let mut fields = expiry(result.expires, result.ttl);
    fields.always("client", result.client);
    fields.always("version", result.version);
    fields.unless_default("ping", result.ping);
    fields.unless_default("pong", result.pong);
    if !result.subs.is_empty() {
        fields.always("subs", object(result.subs, subscribe_result));
    }
    fields.into()
}

fn subscribe_result(result: schema::SubscribeResult) -> Value {
    let mut fields = expiry(result.expires, result.ttl);
    fields.unless_default("recoverable", result.recoverable);
    fields.unless_default("epoch", result.epoch);
    if !result.publications.is_empty() {
        fields.always("publications", publications(result.publications));
    }
    fields.unless_default("recovered", result.recovered);
    fields.unless_default("offset", result.offset);
    fields.unless_default("positioned", result.positioned);
    fields.raw("data", &result.data);
    fields.unless_default("was_recovering", result.was_recovering);
    fields.into()
}

fn history(result: schema::HistoryResult) -> Value {
    json!({
        "publications": publications(result.publications),
        "epoch": result.epoch,
        "offset": result.offset,
    })
}

fn publications(publications: Vec<schema::Publication>) -> Value {
    publications.into_iter().map(publication).collect()
}

fn publication(publication: schema::Publication) -> Value {
    let mut fields = Fields::default();
    fields.raw("data", &publication.data);
    fields.some("info", publication.info.map(info));
    fields.unless_default("offset", publication.offset);
    if !publication.tags.is_empty() {
        fields.always("tags", object(publication.tags, Value::from));
    }
    fields.into()
}

fn info(info: schema::ClientInfo) -> Value {
    let mut fields = Fields::default();
    fields.always("user", info.user);
    fields.always("client", info.client);
    fields.raw("conn_info", &info.conn_info);
    fields.raw("chan_info", &info.chan_info);
    fields.into()
}

fn expiry(expires: bool, ttl: u32) -> Fields {
    let mut fields = Fields::default();
    fields.unless_default("expires", expires);
    fields.unless_default("ttl", ttl);
    fields
}

fn object<T>(map: HashMap<String, T>, value: impl Fn(T) -> Value) -> Value {
    map.into_iter().map(|(name, content)| (name, value(content))).collect::<Map<_, _>>().into()
}

/// The fields of an object, by the rules of the protocol in JSON.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn always(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.into(), value.into());
    }

    fn unless_default<T: Into<Value> + Default + PartialEq>(&mut self, name: &str, value: T) {
        if value != T::default() {
            self.always(name, value);
        }
    }

    fn some(&mut self, name: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.always(name, value);
        }
    }

    /// Bytes that are the text of a JSON value.
    fn raw(&mut self, name: &str, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.always(name, serde_json::from_slice::<Value>(bytes).expect("it is JSON"));
        }
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Self {
        fields.0.into()
    }
}
