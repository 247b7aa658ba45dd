//! Whether a Redis can be used at all.

use std::sync::Arc;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::{Cmd, ErrorKind, RedisError, Value};

use super::connect::{ConnectError, Connector};
use super::{Failure, Names, Refusal};

/// The oldest Redis that has what we use, and whose scripts report errors as we read them.
const VERSION_MIN: u64 = 7;

/// Does what the gateway does, in small, on a key of its own that goes by itself.
const TRIAL: &str = include_str!("scripts/trial.lua");

/// A server answers that cannot be used, or the settings cannot. One sentence, without secrets.
#[derive(Debug, thiserror::Error)]
#[error("Redis at {address} cannot be used: {reason}")]
pub struct Unsuitable {
    address: String,
    reason: String,
}

/// Why a connection is not good enough.
pub(super) enum Verdict {
    /// Nobody there, or nobody who answers: it may come back.
    Away(String),
    /// As long as nobody changes something.
    Unsuitable(String),
}

/// Refuses a server that cannot be used. One that is away may be good.
pub(super) async fn at_start(connector: &Arc<Connector>, names: &Names) -> Result<(), Unsuitable> {
    match look(connector, names).await {
        Ok(()) => Ok(()),
        Err(Verdict::Away(reason)) => {
            tracing::warn!(redis.address = connector.address(), reason, "Redis is away; waiting for it");
            Ok(())
        }
        Err(Verdict::Unsuitable(reason)) => {
            Err(Unsuitable { address: connector.address().to_owned(), reason })
        }
    }
}

async fn look(connector: &Connector, names: &Names) -> Result<(), Verdict> {
    let mut connection = connector.open(None).await.map_err(|error| verdict(&error))?;
    check(&mut connection).await?;
    try_out(&mut connection, names).await
}

/// Looks whether the server that was connected to is one that can be used, which may change while we run. Answers the
/// lineage of its data.
pub(super) async fn check(connection: &mut MultiplexedConnection) -> Result<String, Verdict> {
    let mut role = ::redis::cmd("ROLE");
    // Who may not ask finds out by the first write.
    if let Ok(Value::Array(role)) = ask(connection, &mut role).await
        && let Some(Value::BulkString(role)) = role.first()
        && role != b"master"
    {
        return Err(Verdict::Unsuitable(
            "it is a replica, which takes no writes; give the address of its master".into(),
        ));
    }
    let info = ask(connection, ::redis::cmd("INFO").arg("server").arg("replication")).await;
    let info = info.ok().and_then(text).unwrap_or_default();
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let version = field("redis_version:").unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse::<u64>().ok());
    if major.is_some_and(|major| major < VERSION_MIN) {
        return Err(Verdict::Unsuitable(format!(
            "its version is {version}, and {VERSION_MIN}.0 or newer is needed"
        )));
    }
    Ok(field("master_replid:").unwrap_or_default().to_owned())
}

fn text(info: Value) -> Option<String> {
    match info {
        Value::BulkString(text) => String::from_utf8(text).ok(),
        Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}

async fn try_out(connection: &mut MultiplexedConnection, names: &Names) -> Result<(), Verdict> {
    let (key, channel) = (names.of("trial", "key"), names.of("trial", "channel"));
    let mut trial = ::redis::cmd("EVAL");
    trial.arg(TRIAL).arg(2).arg(format!("{key}:hash")).arg(format!("{key}:stream")).arg(&channel);
    let tried = [
        ("run scripts, write hashes and streams, and publish", trial),
        ("subscribe to channels", subscribe("SUBSCRIBE", &channel)),
        ("unsubscribe", subscribe("UNSUBSCRIBE", &channel)),
    ];
    for (what, mut command) in tried {
        match ask(connection, &mut command).await {
            Err(error) if Failure::from(&error) == Failure::Refused(Refusal::Permission) => {
                let right = format!("the user lacks a right: it must be able to {what}");
                let where_ = format!(
                    "on keys and channels that begin with `{}`",
                    names.of("", "").trim_end_matches(':')
                );
                return Err(Verdict::Unsuitable(format!("{right} {where_}")));
            }
            // Full or loading: that passes.
            _ => {}
        }
    }
    Ok(())
}

fn subscribe(command: &str, channel: &str) -> Cmd {
    let mut command = ::redis::cmd(command);
    command.arg(channel);
    command
}

async fn ask(connection: &mut MultiplexedConnection, command: &mut Cmd) -> Result<Value, RedisError> {
    connection.req_packed_command(command).await?.extract_error()
}

/// In words that name what to change. The library's own text may repeat what the server said, but no secret is ever
/// in what it said.
pub(super) fn verdict(error: &ConnectError) -> Verdict {
    let error = match error {
        ConnectError::Redis(error) => error,
        ConnectError::File { setting, source } => {
            return Verdict::Unsuitable(format!("{setting} cannot be read: {source}"));
        }
        ConnectError::Settings(problem) => return Verdict::Unsuitable(problem.clone()),
    };
    match (Failure::from(error), error.kind()) {
        (Failure::Refused(Refusal::Credentials), _) => Verdict::Unsuitable(
            "it refuses the user or the password; see broker.redis.username and broker.redis.password".into(),
        ),
        (Failure::Refused(Refusal::Permission), _) => {
            Verdict::Unsuitable("the user lacks the right to connect as we do (HELLO, CLIENT)".into())
        }
        (_, ErrorKind::RESP3NotSupported) => {
            Verdict::Unsuitable(format!("it is too old: {VERSION_MIN}.0 or newer is needed"))
        }
        (_, ErrorKind::Parse) => Verdict::Unsuitable("what answers there is not Redis".into()),
        (_, ErrorKind::InvalidClientConfig) => {
            Verdict::Unsuitable("the address, a certificate or a key cannot be used".into())
        }
        (Failure::Refused(refusal), _) => Verdict::Away(refusal.to_string()),
        _ => Verdict::Away(error.category().to_owned()),
    }
}
