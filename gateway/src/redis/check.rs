//! Whether a Redis can be used at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::{Cmd, ErrorKind, RedisError, Value};

use super::connect::{self, ConnectError, Connector};
use super::{Failure, Names, Refusal, Script};

/// The oldest Redis that has what we use, and whose scripts report errors as we read them.
const VERSION_MIN: u64 = 7;

/// How long a server that took a connection may say nothing and still be a Redis that is busy.
const SILENCE: Duration = Duration::from_secs(5);

/// Does what the gateway does, in small, on keys of its own that go by themselves.
const TRIAL: &str = include_str!("scripts/trial.lua");
/// What the keys are.
const TRIAL_KEYS: [&str; 5] = ["hash", "stream", "set", "sorted", "text"];

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

/// Refuses a server that cannot be used. One that is away may be good; who keeps the connections says that it is.
pub(super) async fn at_start(connector: &Arc<Connector>, names: &Names) -> Result<(), Unsuitable> {
    match look(connector, names).await {
        Ok(()) | Err(Verdict::Away(_)) => Ok(()),
        Err(Verdict::Unsuitable(reason)) => {
            Err(Unsuitable { address: connector.address().to_owned(), reason })
        }
    }
}

async fn look(connector: &Connector, names: &Names) -> Result<(), Verdict> {
    let mut connection = open(connector).await?;
    check(&mut connection).await?;
    let missing = missing(&mut connection, names).await;
    if missing.is_empty() { Ok(()) } else { Err(lacks(&missing, names)) }
}

/// A connection, if somebody lets us have one.
pub(super) async fn open(connector: &Connector) -> Result<MultiplexedConnection, Verdict> {
    match connector.open(None).await {
        Ok(connection) => Ok(connection),
        Err(error) if connector.is_silent(&error, SILENCE).await => {
            let what =
                "it takes connections and says nothing: it is not Redis, or one that wants TLS or none";
            Err(Verdict::Unsuitable(what.into()))
        }
        Err(error) => Err(verdict(&error)),
    }
}

/// Looks whether the server that was connected to is one that can be used, which may change while we run. Answers the
/// lineage of its data.
pub(super) async fn check(connection: &mut MultiplexedConnection) -> Result<String, Verdict> {
    let hello = hello(connection).await;
    let field = |name: &str| hello.get(name).map(String::as_str).unwrap_or_default();
    if field("role") == "replica" {
        let what = "it is a replica, which takes no writes; give the address of its master";
        return Err(Verdict::Unsuitable(what.into()));
    }
    let version = field("version");
    if is_too_old(version) {
        return Err(too_old(&format!("its version is {version}")));
    }
    let info = ask(connection, ::redis::cmd("INFO").arg("replication")).await;
    let info = info.ok().and_then(text).unwrap_or_default();
    let lineage = info.lines().find_map(|line| line.strip_prefix("master_replid:"));
    Ok(lineage.map(str::trim).unwrap_or_default().to_owned())
}

/// What it is; empty if it does not say it.
pub(super) async fn hello(connection: &mut MultiplexedConnection) -> HashMap<String, String> {
    // Everybody may ask this, whatever the rights.
    ask(connection, &mut ::redis::cmd("HELLO")).await.ok().and_then(fields).unwrap_or_default()
}

/// Whether a server of this `version`, as `6.2.14`, lacks what we use.
pub fn is_too_old(version: &str) -> bool {
    let major = version.split('.').next().and_then(|major| major.parse::<u64>().ok());
    major.is_some_and(|major| major < VERSION_MIN)
}

fn too_old(why: &str) -> Verdict {
    Verdict::Unsuitable(format!("{why}, and {VERSION_MIN}.0 or newer is needed"))
}

/// The fields of a map whose values are texts.
pub(super) fn fields(map: Value) -> Option<HashMap<String, String>> {
    let Value::Map(pairs) = map else { return None };
    Some(pairs.into_iter().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect())
}

pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(text) => String::from_utf8(text).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}

/// Runs every command that the gateway runs, so that a right that is missing is found now and not at midnight. Answers
/// those that the user may not run.
pub(super) async fn missing(connection: &mut MultiplexedConnection, names: &Names) -> Vec<String> {
    let (key, channel) = (names.of("trial", "key"), names.of("trial", "channel"));
    let keys: Vec<_> = TRIAL_KEYS.iter().map(|kind| format!("{key}:{kind}")).collect();
    let trial = |name: &str, script: &str| {
        let mut trial = ::redis::cmd(name);
        trial.arg(script).arg(keys.len()).arg(&keys).arg(&channel);
        trial
    };
    let mut missing = Vec::new();
    for (name, mut command) in [
        // Redis knows the script from then on.
        ("EVAL", trial("EVAL", TRIAL)),
        ("EVALSHA", trial("EVALSHA", &Script::hash_of(TRIAL))),
        ("SUBSCRIBE", subscribe("SUBSCRIBE", &channel)),
        ("UNSUBSCRIBE", subscribe("UNSUBSCRIBE", &channel)),
        ("PING", ::redis::cmd("PING")),
        ("UNWATCH", ::redis::cmd("UNWATCH")),
    ] {
        match ask(connection, &mut command).await {
            Ok(Value::Array(names)) if name == "EVALSHA" => {
                missing.extend(names.into_iter().filter_map(text));
            }
            Err(error) if Failure::from(&error) == Failure::Refused(Refusal::Permission) => {
                missing.push(name.to_owned());
            }
            // Full or loading: that passes.
            _ => {}
        }
    }
    missing
}

fn lacks(missing: &[String], names: &Names) -> Verdict {
    let prefix = names.of("", "");
    let prefix = prefix.trim_end_matches(':');
    let missing = missing.join(", ");
    Verdict::Unsuitable(format!(
        "the user lacks a right: it must be able to run {missing} on keys and channels that begin with `{prefix}:`"
    ))
}

fn subscribe(command: &str, channel: &str) -> Cmd {
    let mut command = ::redis::cmd(command);
    command.arg(channel);
    command
}

pub(super) async fn ask(
    connection: &mut MultiplexedConnection,
    command: &mut Cmd,
) -> Result<Value, RedisError> {
    connection.req_packed_command(command).await?.extract_error()
}

/// In words that name what to change. What the server says is repeated where it is all there is; a secret is never in
/// it.
pub(super) fn verdict(error: &ConnectError) -> Verdict {
    let error = match error {
        ConnectError::Redis(error) => error,
        ConnectError::File { setting, source } => {
            return Verdict::Unsuitable(format!("{setting} cannot be read: {source}"));
        }
        ConnectError::Settings(problem) => return Verdict::Unsuitable(problem.clone()),
    };
    if let Some(problem) = connect::tls_problem(error) {
        return Verdict::Unsuitable(format!("TLS fails: {problem}"));
    }
    match (Failure::from(error), error.kind()) {
        (Failure::Refused(Refusal::Credentials), _) => Verdict::Unsuitable(
            "it refuses the user or the password; see broker.redis.username and broker.redis.password".into(),
        ),
        (Failure::Refused(Refusal::Permission), _) => {
            Verdict::Unsuitable("the user lacks the right to connect as we do (HELLO, CLIENT, SELECT)".into())
        }
        (_, ErrorKind::RESP3NotSupported) => too_old("it does not know HELLO"),
        (Failure::Refused(Refusal::Other), _) if says(error).starts_with("unknown command") => {
            too_old("it does not know HELLO")
        }
        (_, ErrorKind::Parse) => {
            Verdict::Unsuitable("what answers there is not Redis, or one that wants TLS (rediss://)".into())
        }
        (_, ErrorKind::InvalidClientConfig) => {
            Verdict::Unsuitable("the address, a certificate or a key cannot be used".into())
        }
        (Failure::Refused(Refusal::Other), _) => Verdict::Away(format!("it says: {}", says(error))),
        (Failure::Refused(refusal), _) => Verdict::Away(refusal.to_string()),
        _ => Verdict::Away(connect::io_problem(error)),
    }
}

/// What the server said, on one line.
fn says(error: &RedisError) -> String {
    let said = error.detail().unwrap_or_else(|| error.category());
    said.chars().filter(|character| !character.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// What stands between `before` and the next quote that is like its last character.
    fn quoted<'a>(text: &'a str, before: &str) -> impl Iterator<Item = &'a str> {
        let quote = before.chars().last().expect("there is a quote");
        text.split(before).skip(1).filter_map(move |rest| Some(rest.split_once(quote)?.0))
    }

    /// The commands that scripts and calls of the gateway run, in all files under `directory`.
    fn used(directory: &Path, commands: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).expect("it is a directory") {
            let path = entry.expect("it is there").path();
            if path.is_dir() {
                used(&path, commands);
            } else if !path.to_string_lossy().contains("test") && !path.ends_with("trial.lua") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let found = quoted(&text, "call('").chain(quoted(&text, "Call::command(\""));
                let is_command = |name: &&str| name.bytes().all(|byte| byte.is_ascii_uppercase());
                commands.extend(found.filter(is_command).map(str::to_owned));
            }
        }
    }

    #[test]
    fn what_is_tried_at_the_start_is_what_is_used_later() {
        let mut commands = BTreeSet::new();
        used(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut commands);
        let tried = quoted(TRIAL, "try('").map(str::to_owned).collect();
        assert_eq!(commands, tried);
    }
}
