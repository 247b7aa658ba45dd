//! What spans are called and what they hold: the names of OpenTelemetry's semantic conventions, and a few of ours.
//!
//! Those for messaging are still in development, so they are pinned here and in `docs/traces.md`. Never in them: the name
//! of a channel, a user, a payload, a key, a query.

use std::borrow::Cow;

use super::{Channel, KeyValue, Publication, SpanBuilder, SpanKind};

pub(super) const ERROR: &str = "error.type";
pub(super) const STATUS: &str = "http.response.status_code";
pub(super) const MESSAGE_ID: &str = "messaging.message.id";
/// How many connections of the node it was written or queued to.
pub(super) const RECIPIENTS: &str = "clarion.recipients";
/// How many did not get it, because they are too slow.
pub(super) const DROPPED: &str = "clarion.dropped";
/// It was published before: neither kept nor delivered.
pub(super) const SUPPRESSED: &str = "clarion.suppressed";

/// `POST /api/{method}`
pub(super) fn request(method: &'static str) -> SpanBuilder {
    let route = format!("/api/{method}");
    let attributes = vec![
        KeyValue::new("http.request.method", "POST"),
        KeyValue::new("http.route", route.clone()),
        // Of the target only this: the query may hold a key.
        KeyValue::new("url.path", route.clone()),
    ];
    builder(format!("POST {route}"), SpanKind::Server, attributes)
}

/// `{command}`, of Redis.
pub(super) fn command(command: &'static str) -> SpanBuilder {
    let attributes =
        vec![KeyValue::new("db.system.name", "redis"), KeyValue::new("db.operation.name", command)];
    builder(command, SpanKind::Client, attributes)
}

/// `publish {namespace}`
pub(super) fn publish(channel: &Channel, publication: &Publication) -> SpanBuilder {
    message("publish", "send", SpanKind::Producer, channel, publication)
}

/// `process {namespace}`
pub(super) fn process(channel: &Channel, publication: &Publication) -> SpanBuilder {
    message("process", "process", SpanKind::Consumer, channel, publication)
}

fn message(
    name: &'static str,
    kind: &'static str,
    span_kind: SpanKind,
    channel: &Channel,
    publication: &Publication,
) -> SpanBuilder {
    let mut attributes = vec![
        KeyValue::new("messaging.system", "clarion"),
        KeyValue::new("messaging.operation.name", name),
        KeyValue::new("messaging.operation.type", kind),
        KeyValue::new("messaging.message.body.size", count(publication.data.as_bytes().len())),
    ];
    let title = match channel.namespace() {
        Some(namespace) => {
            attributes.push(KeyValue::new("messaging.destination.template", namespace.to_owned()));
            Cow::Owned(format!("{name} {namespace}"))
        }
        None => Cow::Borrowed(name),
    };
    builder(title, span_kind, attributes)
}

fn builder(name: impl Into<Cow<'static, str>>, kind: SpanKind, attributes: Vec<KeyValue>) -> SpanBuilder {
    SpanBuilder { attributes: Some(attributes), ..SpanBuilder::from_name(name).with_kind(kind) }
}

/// As attributes hold it.
pub(super) fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
