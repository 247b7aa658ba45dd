//! Bytes of `/proto/control.proto` ↔ what nodes say to one another.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use prost::Message as _;

use super::command::{Command, Dismissal, Order, Question, Target};
use super::process::Process;
use super::roster::{Load, Report};
use crate::model::{
    Channel, ClientId, NodeEpoch, NodeId, Overrides, RawJson, Revocation, Since, SubscriptionGrant, UserId,
    Whose,
};

#[allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::pedantic,
    reason = "it is made from the schema, which has docs"
)]
mod schema {
    include!(concat!(env!("OUT_DIR"), "/clarion.control.rs"));
}

/// The version of the schema that this node writes, and the highest that it reads.
const VERSION: u32 = 1;
/// Longest name of a channel; the limit of the configuration has been applied before.
const CHANNEL_BYTES_MAX: usize = 1 << 16;

/// What somebody sent is not understood, and skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// Not the bytes of a message, or with a field that cannot be.
    #[error("malformed")]
    Malformed,
    /// Of a newer version, or a kind that this one does not know.
    #[error("unknown")]
    Unknown,
}

/// A command and who sends it.
#[derive(Debug, PartialEq)]
pub(super) struct Sent {
    pub(super) from: NodeId,
    pub(super) command: Command,
}

/// A part of what a node answers.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) from: NodeId,
    pub(super) question: u64,
    /// Its number, from 0, below `parts`.
    pub(super) part: u32,
    pub(super) parts: u32,
    pub(super) channels: Vec<(String, u64)>,
}

pub(super) fn command(from: NodeId, command: &Command) -> Vec<u8> {
    let kind = Some(kind(command));
    schema::Command { version: VERSION, from: from.to_string(), kind }.encode_to_vec()
}

pub(super) fn read_command(bytes: &[u8]) -> Result<Sent, Unreadable> {
    let sent = schema::Command::decode(bytes).map_err(|_| Unreadable::Malformed)?;
    if sent.version > VERSION {
        return Err(Unreadable::Unknown);
    }
    let from = NodeId::parse(&sent.from).ok_or(Unreadable::Malformed)?;
    let command = read_kind(sent.kind.ok_or(Unreadable::Unknown)?).ok_or(Unreadable::Malformed)?;
    Ok(Sent { from, command })
}

pub(super) fn answer(answer: &Answer) -> Vec<u8> {
    let subscribers = |(channel, clients): &(String, u64)| schema::Subscribers {
        channel: channel.clone(),
        clients: *clients,
    };
    let message = schema::Answer {
        version: VERSION,
        from: answer.from.to_string(),
        question: answer.question,
        part: answer.part,
        parts: answer.parts,
        channels: answer.channels.iter().map(subscribers).collect(),
    };
    message.encode_to_vec()
}

pub(super) fn read_answer(bytes: &[u8]) -> Result<Answer, Unreadable> {
    let answer = schema::Answer::decode(bytes).map_err(|_| Unreadable::Malformed)?;
    if answer.version > VERSION {
        return Err(Unreadable::Unknown);
    }
    if answer.part >= answer.parts {
        return Err(Unreadable::Malformed);
    }
    Ok(Answer {
        from: NodeId::parse(&answer.from).ok_or(Unreadable::Malformed)?,
        question: answer.question,
        part: answer.part,
        parts: answer.parts,
        channels: answer.channels.into_iter().map(|held| (held.channel, held.clients)).collect(),
    })
}

pub(super) fn report(report: &Report) -> Vec<u8> {
    let number = |count: usize| count as u64;
    let message = schema::Report {
        version: VERSION,
        id: report.id.to_string(),
        epoch: report.epoch.to_string(),
        name: report.name.clone(),
        release: report.release.clone(),
        address: report.address.clone(),
        uptime_ms: duration_millis(report.uptime),
        clients: number(report.load.clients),
        users: number(report.load.users),
        channels: number(report.load.channels),
        subscriptions: number(report.load.subscriptions),
        process: report.process.map(|process| schema::Process { cpu: process.cpu, rss: process.rss }),
        is_draining: report.is_draining,
        handshakes_per_second: number(report.handshakes_per_second),
    };
    message.encode_to_vec()
}

/// What a node said of itself, in whatever version: who it is can be read of each.
pub(super) fn read_report(bytes: &[u8]) -> Result<Report, Unreadable> {
    let report = schema::Report::decode(bytes).map_err(|_| Unreadable::Malformed)?;
    let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    Ok(Report {
        id: NodeId::parse(&report.id).ok_or(Unreadable::Malformed)?,
        epoch: NodeEpoch::parse(&report.epoch).ok_or(Unreadable::Malformed)?,
        name: report.name,
        release: report.release,
        address: report.address,
        uptime: Duration::from_millis(report.uptime_ms),
        load: Load {
            clients: number(report.clients),
            users: number(report.users),
            channels: number(report.channels),
            subscriptions: number(report.subscriptions),
        },
        process: report.process.map(|process| Process { cpu: process.cpu, rss: process.rss }),
        is_draining: report.is_draining,
        handshakes_per_second: number(report.handshakes_per_second),
    })
}

/// The bytes in which a revocation is remembered, without the time at which it is forgotten: one about the same
/// tokens has the same.
pub(super) fn whose(whose: &Whose) -> Vec<u8> {
    message_of(whose).encode_to_vec()
}

/// What was remembered, and until when.
pub(super) fn read_whose(bytes: &[u8]) -> Result<Whose, Unreadable> {
    let message = schema::Revocation::decode(bytes).map_err(|_| Unreadable::Malformed)?;
    read_whose_of(message).ok_or(Unreadable::Unknown)
}

fn message_of(whose: &Whose) -> schema::Revocation {
    let message = schema::Revocation::default();
    match whose {
        Whose::Token(id) => schema::Revocation { token_id: Some(id.clone()), ..message },
        Whose::User { user, issued_before } => schema::Revocation {
            user: Some(user.to_string()),
            issued_before: issued_before.map(millis),
            ..message
        },
        Whose::Everybody { issued_before } => {
            schema::Revocation { issued_before: Some(millis(*issued_before)), ..message }
        }
    }
}

fn read_whose_of(message: schema::Revocation) -> Option<Whose> {
    let issued_before = message.issued_before.map(time);
    match (message.token_id, message.user, issued_before) {
        (Some(id), None, None) => Some(Whose::Token(id)),
        (None, Some(user), issued_before) => {
            let user = UserId::parse(&user).ok().filter(|user| !user.is_anonymous())?;
            Some(Whose::User { user, issued_before })
        }
        (None, None, Some(issued_before)) => Some(Whose::Everybody { issued_before }),
        _ => None,
    }
}

fn kind(command: &Command) -> schema::command::Kind {
    use schema::command::Kind;
    match command {
        Command::Order { target, order } => order_kind(target, order),
        Command::Disconnect { target, reason, except } => {
            let (code, reason) = match reason {
                Dismissal::Expired => (0, String::new()),
                Dismissal::Advised { code, reason } => (u32::from(*code), reason.clone()),
            };
            let except = except.iter().map(ToString::to_string).collect();
            Kind::Disconnect(schema::Disconnect {
                target: Some(target_message(target)),
                code,
                reason,
                except,
            })
        }
        Command::Revoke(revocation) => Kind::Revoke(schema::Revocation {
            forget_at: millis(revocation.forget_at),
            ..message_of(&revocation.whose)
        }),
        Command::Survey(question) => {
            Kind::Question(schema::Question { id: question.id, pattern: question.pattern.clone() })
        }
    }
}

fn order_kind(target: &Target, order: &Order) -> schema::command::Kind {
    use schema::command::Kind;
    let target = Some(target_message(target));
    match order {
        Order::Subscribe { channel, grant, since } => Kind::Subscribe(schema::Subscribe {
            target,
            channel: channel.to_string(),
            info: grant.info.clone().map(RawJson::into_bytes),
            data: grant.data.clone().map(RawJson::into_bytes),
            expire_at: grant.expires_at.map(millis),
            overrides: Some(overrides_message(&grant.overrides)),
            since: since
                .as_ref()
                .map(|since| schema::Since { offset: since.offset, epoch: since.epoch.clone() }),
        }),
        Order::Unsubscribe { channel } => {
            Kind::Unsubscribe(schema::Unsubscribe { target, channel: channel.to_string() })
        }
        Order::Refresh { expires_at, info } => Kind::Refresh(schema::Refresh {
            target,
            expire_at: expires_at.map(millis),
            info: info.clone().map(RawJson::into_bytes),
        }),
    }
}

fn read_kind(kind: schema::command::Kind) -> Option<Command> {
    use schema::command::Kind;
    Some(match kind {
        Kind::Subscribe(message) => {
            Command::Order { target: read_target(message.target.as_ref())?, order: read_subscribe(message)? }
        }
        Kind::Unsubscribe(message) => Command::Order {
            target: read_target(message.target.as_ref())?,
            order: Order::Unsubscribe { channel: channel(&message.channel)? },
        },
        Kind::Refresh(message) => Command::Order {
            target: read_target(message.target.as_ref())?,
            order: Order::Refresh {
                expires_at: message.expire_at.map(time),
                info: json(message.info.as_deref())?,
            },
        },
        Kind::Disconnect(message) => Command::Disconnect {
            target: read_target(message.target.as_ref())?,
            except: message.except.iter().filter_map(|id| ClientId::parse(id)).collect::<HashSet<_>>(),
            reason: match u16::try_from(message.code).ok()? {
                0 => Dismissal::Expired,
                code => Dismissal::Advised { code, reason: message.reason },
            },
        },
        Kind::Revoke(message) => {
            let forget_at = time(message.forget_at);
            Command::Revoke(Revocation { whose: read_whose_of(message)?, forget_at })
        }
        Kind::Question(message) => Command::Survey(Question { id: message.id, pattern: message.pattern }),
    })
}

fn read_subscribe(message: schema::Subscribe) -> Option<Order> {
    let overrides = message.overrides.unwrap_or_default();
    Some(Order::Subscribe {
        channel: channel(&message.channel)?,
        grant: SubscriptionGrant {
            info: json(message.info.as_deref())?,
            data: json(message.data.as_deref())?,
            overrides: Overrides {
                presence: overrides.presence,
                join_leave: overrides.join_leave,
                force_push_join_leave: overrides.force_push_join_leave,
                force_positioning: overrides.force_positioning,
                force_recovery: overrides.force_recovery,
            },
            expires_at: message.expire_at.map(time),
        },
        since: message.since.map(|since| Since { epoch: since.epoch, offset: since.offset }),
    })
}

fn target_message(target: &Target) -> schema::Target {
    let client = target.client.map(|client| client.to_string()).unwrap_or_default();
    schema::Target { user: target.user.to_string(), client }
}

fn read_target(message: Option<&schema::Target>) -> Option<Target> {
    let message = message?;
    let client = match message.client.as_str() {
        "" => None,
        client => Some(ClientId::parse(client)?),
    };
    Some(Target { user: UserId::parse(&message.user).ok()?, client })
}

fn overrides_message(overrides: &Overrides) -> schema::Overrides {
    schema::Overrides {
        presence: overrides.presence,
        join_leave: overrides.join_leave,
        force_push_join_leave: overrides.force_push_join_leave,
        force_positioning: overrides.force_positioning,
        force_recovery: overrides.force_recovery,
    }
}

fn channel(name: &str) -> Option<Channel> {
    Channel::parse(name, CHANNEL_BYTES_MAX).ok()
}

/// The JSON in `bytes`, if there are any; `None` if they are none.
#[expect(clippy::option_option, reason = "what is absent is not what is wrong")]
fn json(bytes: Option<&[u8]>) -> Option<Option<RawJson>> {
    bytes.map(RawJson::parse).transpose().ok()
}

pub(super) fn millis(time: SystemTime) -> u64 {
    duration_millis(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn duration_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A time that is too far away for the clock is as far as it goes, nearly.
pub(super) fn time(millis: u64) -> SystemTime {
    const MILLIS_MAX: u64 = 253_402_300_799_999;
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis.min(MILLIS_MAX))
}

#[cfg(test)]
mod tests;
