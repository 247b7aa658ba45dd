//! What a Redis says of itself to whoever has the time to ask: for a look from outside, not for a node at work.
//!
//! Asks more than a node may: what the user is not allowed to see is told as that, and hinders nothing.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, Value};

use super::check::{self, Verdict};
use super::connect::Connector;
use super::{Failure, Names};
use crate::config;

/// What was found where the configuration says that Redis is.
#[derive(Clone, Debug)]
pub enum Inspection {
    /// Nobody answers, and why: a node would wait for it.
    Away(String),
    /// Who answers lets us do nothing, or is no Redis: a node would refuse to start. One sentence, without secrets.
    Unsuitable(String),
    /// A Redis that answers.
    Met(Box<Server>),
}

/// What a server says of itself. An error means that it was asked and did not say it.
#[derive(Clone, Debug)]
pub struct Server {
    /// As `7.2.4`; empty if it does not say it.
    pub version: String,
    /// Whether it takes no writes because it follows another.
    pub is_replica: bool,
    /// The commands that a node needs and may not run.
    pub missing: Vec<String>,
    /// What its `INFO` says: fields and values as they are.
    pub info: Result<HashMap<String, String>, Failure>,
    /// When a subscriber that does not read is given up.
    pub subscriber_limit: Result<OutputLimit, Failure>,
    /// When it writes its data to disk, as its setting `save`; empty for never.
    pub save: Result<String, Failure>,
    /// Who we are there.
    pub user: Result<User, Failure>,
    /// How its clock and ours differ.
    pub clock: Result<ClockDifference, Failure>,
}

/// A limit of `client-output-buffer-limit`; zero means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimit {
    /// Whoever has more unread is closed at once, in bytes.
    pub hard_bytes: u64,
    /// Whoever has more unread for `soft_lasts` is closed, in bytes.
    pub soft_bytes: u64,
    /// How long.
    pub soft_lasts: Duration,
}

/// A user of the access control list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// What it may run, as `+@all`. `None` if it may not ask, which somebody who may do everything may.
    pub commands: Option<String>,
}

/// How two clocks differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockDifference {
    /// By how many seconds the other clock is ahead of ours.
    pub seconds_ahead: f64,
    /// How far off that may be: half the time that asking took, in seconds.
    pub uncertainty: f64,
}

/// Asks the server of `settings` about itself. Opens one connection, and closes it; ends within a few times
/// `command_timeout`.
pub async fn inspect(settings: &config::Redis) -> Inspection {
    super::topology::install_crypto();
    let connector = Connector::new(settings.clone());
    let names = Names::new(&settings.prefix);
    match check::open(&connector).await {
        Ok(mut connection) => Inspection::Met(Box::new(Server::ask(&mut connection, &names).await)),
        Err(Verdict::Away(reason)) => Inspection::Away(reason),
        Err(Verdict::Unsuitable(reason)) => Inspection::Unsuitable(reason),
    }
}

/// Says in the log if the user of `settings` may do everything in that Redis: whoever has its password can then do more
/// than a node ever has to. Says nothing if Redis does not answer.
pub async fn warn_of_rights(settings: config::Redis) {
    super::topology::install_crypto();
    if let Ok(mut connection) = check::open(&Connector::new(settings)).await
        && let Ok(user) = User::ask(&mut connection).await
        && user.may_do_everything()
    {
        tracing::warn!(
            redis.user = user.name,
            "this user may do everything in Redis: give the nodes one of their own, as docs/redis.md has it"
        );
    }
}

impl Server {
    async fn ask(connection: &mut MultiplexedConnection, names: &Names) -> Self {
        let hello = check::hello(connection).await;
        let field = |name: &str| hello.get(name).cloned().unwrap_or_default();
        let is_replica = field("role") == "replica";
        // A replica refuses to be tried out, whatever the rights.
        let missing = if is_replica { Vec::new() } else { check::missing(connection, names).await };
        Self {
            version: field("version"),
            is_replica,
            missing,
            info: ask(connection, &mut ::redis::cmd("INFO")).await.map(|info| fields_of_info(&info)),
            subscriber_limit: setting(connection, "client-output-buffer-limit")
                .await
                .and_then(|setting| subscriber_limit(&setting)),
            save: setting(connection, "save").await,
            user: User::ask(connection).await,
            clock: ClockDifference::ask(connection).await,
        }
    }
}

impl User {
    async fn ask(connection: &mut MultiplexedConnection) -> Result<Self, Failure> {
        let name = ask(connection, ::redis::cmd("ACL").arg("WHOAMI")).await?;
        let user = check::ask(connection, ::redis::cmd("ACL").arg("GETUSER").arg(&name)).await;
        let commands = user.ok().and_then(check::fields).and_then(|mut user| user.remove("commands"));
        Ok(Self { name, commands })
    }

    /// Whether no command is denied to it, as far as it may know that.
    pub fn may_do_everything(&self) -> bool {
        self.commands.as_deref().is_some_and(|commands| commands.split(' ').any(|right| right == "+@all"))
    }
}

impl ClockDifference {
    async fn ask(connection: &mut MultiplexedConnection) -> Result<Self, Failure> {
        let before = seconds(SystemTime::now());
        let time = check::ask(connection, &mut ::redis::cmd("TIME")).await;
        let after = seconds(SystemTime::now());
        let time = time.map_err(|error| Failure::from(&error))?;
        let (whole, micros): (u64, u32) =
            ::redis::from_redis_value(time).map_err(|_| Failure::Unavailable)?;
        let there = whole as f64 + f64::from(micros) / 1e6;
        Ok(Self { seconds_ahead: there - (before + after) / 2.0, uncertainty: (after - before).abs() / 2.0 })
    }
}

/// Since 1970; 0 for a clock that stands before.
fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The text that `command` is answered with.
async fn ask(connection: &mut MultiplexedConnection, command: &mut Cmd) -> Result<String, Failure> {
    let answer: Value = check::ask(connection, command).await.map_err(|error| Failure::from(&error))?;
    check::text(answer).ok_or(Failure::Unavailable)
}

/// A setting of the server.
async fn setting(connection: &mut MultiplexedConnection, name: &str) -> Result<String, Failure> {
    let answer = check::ask(connection, ::redis::cmd("CONFIG").arg("GET").arg(name)).await;
    let answer = answer.map_err(|error| Failure::from(&error))?;
    check::fields(answer).and_then(|mut settings| settings.remove(name)).ok_or(Failure::Unavailable)
}

/// `name:value` in each line.
fn fields_of_info(info: &str) -> HashMap<String, String> {
    let fields = info.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// That of the class `pubsub`, of `normal 0 0 0 slave 1 2 3 pubsub 33554432 8388608 60`.
fn subscriber_limit(setting: &str) -> Result<OutputLimit, Failure> {
    let words = setting.split_whitespace().skip_while(|word| *word != "pubsub").skip(1);
    let numbers: Vec<u64> = words.take(3).filter_map(|word| word.parse().ok()).collect();
    let [hard_bytes, soft_bytes, lasts] = numbers[..] else { return Err(Failure::Unavailable) };
    Ok(OutputLimit { hard_bytes, soft_bytes, soft_lasts: Duration::from_secs(lasts) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_subscribers_is_read_among_the_others() {
        let setting = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        let limit =
            OutputLimit { hard_bytes: 32 << 20, soft_bytes: 8 << 20, soft_lasts: Duration::from_secs(60) };
        assert_eq!(subscriber_limit(setting), Ok(limit));
        assert!(subscriber_limit("normal 0 0 0").is_err());
    }

    #[test]
    fn what_info_says_is_read_by_line() {
        let info = fields_of_info("# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n");
        assert_eq!((&*info["maxmemory"], &*info["maxmemory_policy"]), ("0", "noeviction"));
    }
}
