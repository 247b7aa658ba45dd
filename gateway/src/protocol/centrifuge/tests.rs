//! The native protocol as a client without a socket sees it.

mod commands;
mod connect;
mod interleaving;
mod orders;
mod protobuf;
mod subscriptions;

use serde_json::{Value, json};

use super::{Client, Codec};
use crate::config::Config;
use crate::protocol::testing::{Bench, Did, config, context, token};

/// A client that has not said anything, nor shown a token in its handshake.
fn arrived(config: &Config) -> Bench<Client> {
    arrived_with(Codec::Json, config)
}

fn arrived_with(codec: Codec, config: &Config) -> Bench<Client> {
    Bench::new(|client| Client::new(context(config), codec, client, None))
}

/// Replaces a time to live that is right, and that depends on how long the test took.
fn about_an_hour(ttl: &mut Value) {
    assert!(ttl.as_u64().is_some_and(|ttl| (3_540..=3_600).contains(&ttl)), "{ttl}");
    *ttl = "about an hour".into();
}

/// A client that has connected as `user`.
fn connected_as(user: &str) -> Bench<Client> {
    connected_with(Codec::Json, user)
}

fn connected_with(codec: Codec, user: &str) -> Bench<Client> {
    let mut bench = arrived_with(codec, &config());
    bench.say(&connect(&token(user)));
    assert!(!bench.is_closed());
    bench
}

/// The command that opens a session, with the id 1.
fn connect(token: &str) -> String {
    json!({"id": 1, "connect": {"token": token, "name": "js"}}).to_string()
}

fn subscribe(id: u32, channel: &str) -> String {
    json!({"id": id, "subscribe": {"channel": channel, "flag": 1}}).to_string()
}

fn unsubscribe(id: u32, channel: &str) -> String {
    json!({"id": id, "unsubscribe": {"channel": channel}}).to_string()
}

fn publish(id: u32, channel: &str, data: &Value) -> String {
    json!({"id": id, "publish": {"channel": channel, "data": data}}).to_string()
}

/// The reply to the command `id` is an error with this code.
fn error(id: u32, code: u32) -> Value {
    let message = match code {
        100 => "internal server error",
        102 => "unknown channel",
        103 => "permission denied",
        105 => "already subscribed",
        106 => "limit exceeded",
        107 => "bad request",
        108 => "not available",
        109 => "token expired",
        111 => "too many requests",
        _ => panic!("an unknown code"),
    };
    let mut error = json!({"code": code, "message": message});
    if matches!(code, 100 | 111) {
        error["temporary"] = json!(true);
    }
    json!({"id": id, "error": error})
}

fn subscribes(channel: &str) -> Did {
    Did::Subscribe(vec![channel.into()])
}
