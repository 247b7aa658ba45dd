//! The Redis that nodes share: whether it can be used, keeps what it is given, and tells the same time.

use std::collections::HashMap;
use std::time::Duration;

use super::finding::Finding;
use crate::config::{self, BrokerType, Config};
use crate::redis::{self, ClockDifference, Failure, Inspection, OutputLimit, Server, User};

/// What Redis gives subscribers by default, in bytes: nodes read at once, but may be slow for a moment.
const SUBSCRIBER_BYTES_MIN: u64 = 32 << 20;
/// Above this share of its memory it is nearly full, in percent.
const MEMORY_FULL: u64 = 80;
/// Clocks that differ by more are not kept by anybody, in seconds.
const CLOCK_WARNING: f64 = 1.0;

/// Asks the Redis of `config`, if nodes share one.
pub(super) fn findings(config: &Config) -> anyhow::Result<Vec<Finding>> {
    if config.broker.kind == BrokerType::Memory {
        let found = "broker.type is memory: this node stands alone, and there is no Redis to look at";
        return Ok(vec![Finding::ok("redis", found)]);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let redis = &config.broker.redis;
    Ok(judge(&runtime.block_on(redis::inspect(redis)), redis, config.client.token.leeway))
}

/// What to say of what was found at `settings`, if tokens are believed to be good for `leeway` more.
fn judge(inspection: &Inspection, settings: &config::Redis, leeway: Duration) -> Vec<Finding> {
    let finding = Finding::ok("redis", settings.address.clone());
    let server = match inspection {
        Inspection::Away(reason) => return vec![away(finding, reason, settings)],
        Inspection::Unsuitable(reason) => {
            let finding = finding.fails(format!("a node would refuse to start: {reason}"));
            return vec![finding.remedy(cli(settings, "ACL WHOAMI"))];
        }
        Inspection::Met(server) => server,
    };
    vec![
        finding,
        version(server),
        role(server),
        rights(server, settings),
        user(&server.user, settings),
        subscriber_limit(&server.subscriber_limit, settings),
        eviction(&server.info, settings),
        memory(&server.info, settings),
        persistence(server, settings),
        clock(&server.clock, leeway),
    ]
}

fn away(finding: Finding, reason: &str, settings: &config::Redis) -> Finding {
    finding
        .fails(format!("it cannot be reached: {reason}"))
        .remedy(cli(settings, "PING") + "   # from here; then firewalls and the NetworkPolicy")
        .remedy("broker.redis.address: redis://HOST:PORT")
}

/// A command for the Redis of `settings`, as its client takes it; it asks for the password by itself.
fn cli(settings: &config::Redis, command: &str) -> String {
    let user = match settings.username.as_str() {
        "" => String::new(),
        user => format!("--user {user} --askpass "),
    };
    format!("redis-cli -u {} {user}{command}", settings.address)
}

fn version(server: &Server) -> Finding {
    let finding = Finding::ok("redis_version", server.version.clone());
    match server.version.as_str() {
        "" => Finding::unknown("redis_version", "it does not say it"),
        version if redis::is_too_old(version) => finding
            .fails("7.0 or newer is needed")
            .remedy("apt-get install redis-server   # or a newer image: redis:7"),
        _ => finding,
    }
}

fn role(server: &Server) -> Finding {
    if !server.is_replica {
        return Finding::ok("redis_role", "a master");
    }
    let info = server.info.as_ref().ok();
    let field = |name: &str| info.and_then(|info| info.get(name)).map_or("HOST", String::as_str);
    let master = format!("redis://{}:{}", field("master_host"), field("master_port").replace("HOST", "PORT"));
    Finding::ok("redis_role", "a replica")
        .fails("it takes no writes: a node would refuse to start")
        .remedy(format!("broker.redis.address: {master}"))
}

fn rights(server: &Server, settings: &config::Redis) -> Finding {
    let name = "redis_rights";
    if server.is_replica {
        return Finding::unknown(name, "a replica cannot be tried out");
    }
    if server.missing.is_empty() {
        return Finding::ok(name, "every command that a node runs was tried and may be run");
    }
    let missing = &server.missing;
    let (prefix, user) = (&settings.prefix, shown_user(settings));
    let commands: Vec<_> = missing.iter().map(|name| format!("+{}", name.to_lowercase())).collect();
    let rights = format!("ACL SETUSER {user} ~{prefix}:* &{prefix}:* {}", commands.join(" "));
    Finding::ok(name, format!("missing: {}", missing.join(", ")))
        .fails("a node would refuse to start")
        .remedy(format!("redis-cli -u {} --user ADMIN --askpass {rights}", settings.address))
}

fn shown_user(settings: &config::Redis) -> &str {
    if settings.username.is_empty() { "default" } else { &settings.username }
}

/// A user that may do everything is one too many (docs/redis.md has the line for one that may not).
fn user(user: &Result<User, Failure>, settings: &config::Redis) -> Finding {
    let name = "redis_user";
    let user = match user {
        Ok(user) => user,
        // Who may do everything may ask that.
        Err(Failure::Refused(_)) => {
            return Finding::ok(name, "one that may not ask who it is, so it may not do everything");
        }
        Err(failure) => return unasked(name, *failure),
    };
    let commands = user.commands.as_deref();
    let finding =
        Finding::ok(name, format!("{}: {}", user.name, shortened(commands.unwrap_or("not everything"))));
    if !user.may_do_everything() {
        return finding;
    }
    let prefix = &settings.prefix;
    finding
        .warns("whoever has its password can read, change and delete everything there, and reconfigure Redis")
        .remedy(format!("ACL SETUSER clarion on >PASSWORD ~{prefix}:* resetchannels &{prefix}:* …   # the line of docs/redis.md"))
        .remedy("broker.redis.username: clarion")
}

/// Rights of one user can fill a screen.
fn shortened(rights: &str) -> String {
    const SHOWN: usize = 60;
    if rights.len() <= SHOWN {
        return rights.to_owned();
    }
    let whole = rights.char_indices().take_while(|(at, _)| *at < SHOWN).map(|(_, character)| character);
    format!("{}…", whole.collect::<String>())
}

fn unasked(name: &'static str, failure: Failure) -> Finding {
    match failure {
        // What a managed service switched off is an unknown command.
        Failure::Refused(_) => Finding::unknown(name, "not allowed to look"),
        failure => Finding::unknown(name, format!("could not be looked at: {failure}")),
    }
}

fn subscriber_limit(limit: &Result<OutputLimit, Failure>, settings: &config::Redis) -> Finding {
    let name = "redis_subscriber_limit";
    let limit = match limit {
        Ok(limit) => limit,
        Err(failure) => return unasked(name, *failure),
    };
    let OutputLimit { hard_bytes, soft_bytes, soft_lasts } = limit;
    let found = format!(
        "client-output-buffer-limit pubsub: {hard_bytes} at once, {soft_bytes} for {}s",
        soft_lasts.as_secs()
    );
    let finding = Finding::ok(name, found);
    let finding = if *hard_bytes == 0 && *soft_bytes == 0 {
        finding.warns("without a limit a node that hangs makes Redis grow until there is no memory left")
    } else if *hard_bytes > 0 && *hard_bytes < SUBSCRIBER_BYTES_MIN {
        finding.warns("Redis cuts off a node that does not read for a moment, and it must catch up")
    } else {
        return finding;
    };
    let setting = "CONFIG SET client-output-buffer-limit \"pubsub 33554432 8388608 60\"";
    finding.remedy(cli(settings, setting))
}

type Info = Result<HashMap<String, String>, Failure>;

fn field<'a>(info: &'a Info, name: &str) -> Result<&'a str, Failure> {
    match info {
        Ok(info) => info.get(name).map(String::as_str).ok_or(Failure::Unavailable),
        Err(failure) => Err(*failure),
    }
}

fn eviction(info: &Info, settings: &config::Redis) -> Finding {
    let name = "redis_eviction";
    let policy = match field(info, "maxmemory_policy") {
        Ok(policy) => policy,
        Err(failure) => return unasked(name, failure),
    };
    let finding = Finding::ok(name, format!("maxmemory-policy {policy}"));
    if policy == "noeviction" {
        return finding;
    }
    let is_limited = field(info, "maxmemory").is_ok_and(|bytes| bytes != "0");
    // Everything that we keep has a time to live, so that `volatile-…` takes it too.
    let finding = if is_limited {
        finding.fails("when Redis is full, histories, presence and revocations vanish without a word")
    } else {
        finding.warns("with a maxmemory, histories, presence and revocations would vanish when it is full")
    };
    finding.remedy(cli(settings, "CONFIG SET maxmemory-policy noeviction"))
}

fn memory(info: &Info, settings: &config::Redis) -> Finding {
    let name = "redis_memory";
    let bytes = |name| field(info, name).map(|bytes| bytes.parse::<u64>().unwrap_or(0));
    let (used, max) = match (bytes("used_memory"), bytes("maxmemory")) {
        (Ok(used), Ok(max)) => (used, max),
        (Err(failure), _) | (_, Err(failure)) => return unasked(name, failure),
    };
    let system = bytes("total_system_memory").unwrap_or(0);
    if max == 0 {
        let suggested = if system == 0 { 1 << 30 } else { system / 4 * 3 };
        return Finding::ok(name, format!("{used} bytes used, maxmemory 0: no limit"))
            .warns("the system ends it when the memory of the machine is used up; with a limit it refuses writes instead")
            .remedy(cli(settings, &format!("CONFIG SET maxmemory {suggested}")));
    }
    let finding = Finding::ok(name, format!("{used} of {max} bytes used"));
    if used.saturating_mul(100) <= max.saturating_mul(MEMORY_FULL) {
        return finding;
    }
    finding
        .warns("when it is full, publishing to channels with a history is refused (507)")
        .remedy(cli(settings, &format!("CONFIG SET maxmemory {}", max.saturating_mul(2))))
}

fn persistence(server: &Server, settings: &config::Redis) -> Finding {
    let name = "redis_persistence";
    match (field(&server.info, "aof_enabled"), &server.save) {
        (Ok("1"), _) => Finding::ok(name, "appendonly yes"),
        (Ok(_), Ok(save)) if !save.is_empty() => Finding::ok(
            name,
            format!("snapshots, save {save:?}: what came after the newest is lost with the process"),
        ),
        (Ok(_), Ok(_)) => Finding::ok(name, "none")
            .warns("histories and revocations end with the process of Redis")
            .remedy(cli(settings, "CONFIG SET appendonly yes")),
        (Ok(_), Err(failure)) => unasked(name, *failure),
        (Err(failure), _) => unasked(name, failure),
    }
}

fn clock(clock: &Result<ClockDifference, Failure>, leeway: Duration) -> Finding {
    let name = "redis_clock";
    let ClockDifference { seconds_ahead, uncertainty } = match clock {
        Ok(clock) => *clock,
        Err(failure) => return unasked(name, *failure),
    };
    let finding =
        Finding::ok(name, format!("{seconds_ahead:+.3}s from ours, give or take {uncertainty:.3}s"));
    let least = (seconds_ahead.abs() - uncertainty).max(0.0);
    let finding = if least > leeway.as_secs_f64().max(CLOCK_WARNING) {
        finding.fails("one of the two is wrong; if it is ours, good tokens are refused and old ones are not")
    } else if least > CLOCK_WARNING {
        finding.warns("one of the two is not kept")
    } else {
        return finding;
    };
    finding.remedy("timedatectl set-ntp true   # on the machine whose clock is wrong")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level::{Ok as Fine, Problem, Unknown, Warning};
    use super::super::finding::is;
    use super::*;
    use crate::redis::Refusal;

    const FORBIDDEN: Failure = Failure::Refused(Refusal::Permission);
    /// `CONFIG` is no command.
    const SWITCHED_OFF: Failure = Failure::Refused(Refusal::Other);

    fn settings() -> config::Redis {
        config::Redis { username: "clarion".into(), ..config::Redis::default() }
    }

    fn info(fields: &[(&str, &str)]) -> Info {
        Ok(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn server() -> Server {
        let fields = [
            ("maxmemory_policy", "noeviction"),
            ("maxmemory", "1000"),
            ("used_memory", "10"),
            ("aof_enabled", "1"),
            ("master_host", "10.0.0.1"),
            ("master_port", "6380"),
        ];
        Server {
            version: "7.0.15".into(),
            is_replica: false,
            missing: Vec::new(),
            info: info(&fields),
            subscriber_limit: Ok(OutputLimit {
                hard_bytes: 32 << 20,
                soft_bytes: 8 << 20,
                soft_lasts: Duration::from_secs(60),
            }),
            save: Ok(String::new()),
            user: Ok(User { name: "clarion".into(), commands: Some("-@all +get".into()) }),
            clock: Ok(ClockDifference { seconds_ahead: 0.001, uncertainty: 0.001 }),
        }
    }

    #[test]
    fn a_redis_that_is_as_it_should_be_has_nothing_but_good_lines() {
        let findings = judge(&Inspection::Met(Box::new(server())), &settings(), Duration::from_secs(5));
        assert_eq!(findings.len(), 10);
        findings.iter().for_each(|finding| is(finding, Fine, &[]));
    }

    #[test]
    fn one_that_is_away_or_of_no_use_is_said_to_be() {
        let judge = |inspection| judge(&inspection, &settings(), Duration::ZERO).remove(0);
        is(
            &judge(Inspection::Away("no answer".into())),
            Problem,
            &["no answer", "redis-cli -u redis://127.0.0.1:6379 --user clarion --askpass PING"],
        );
        is(&judge(Inspection::Unsuitable("it refuses".into())), Problem, &["refuse to start: it refuses"]);
    }

    #[test]
    fn a_version_that_is_too_old() {
        for (found, level) in [("7.0.0", Fine), ("8.2.1", Fine), ("6.2.14", Problem), ("", Unknown)] {
            is(&version(&Server { version: found.into(), ..server() }), level, &[found]);
        }
    }

    #[test]
    fn a_replica() {
        let server = Server { is_replica: true, ..server() };
        is(&role(&server), Problem, &["broker.redis.address: redis://10.0.0.1:6380"]);
        is(&rights(&server, &settings()), Unknown, &["cannot be tried"]);
    }

    #[test]
    fn rights_that_are_missing_are_named_with_what_grants_them() {
        let server = Server { missing: vec!["XADD".into(), "PUBLISH".into()], ..server() };
        is(
            &rights(&server, &settings()),
            Problem,
            &["missing: XADD, PUBLISH", "ACL SETUSER clarion ~clarion:* &clarion:* +xadd +publish"],
        );
    }

    #[test]
    fn s62_a_user_that_may_do_everything() {
        let of = |name: &str, commands: Option<&str>| {
            user(&Ok(User { name: name.into(), commands: commands.map(str::to_owned) }), &settings())
        };
        is(&of("default", Some("+@all")), Warning, &["default: +@all", "broker.redis.username: clarion"]);
        is(&of("clarion", Some("-@all +get")), Fine, &["clarion: -@all +get"]);
        is(&of("clarion", None), Fine, &["not everything"]);
        is(&user(&Err(FORBIDDEN), &settings()), Fine, &["may not do everything"]);
        is(&user(&Err(Failure::Unavailable), &settings()), Unknown, &["could not be looked at"]);
        let long = of("clarion", Some(&"+get ".repeat(40)));
        assert!(long.found.len() < 100, "{}", long.found);
    }

    #[test]
    fn a_limit_of_subscribers_that_is_too_low_or_missing() {
        let of = |hard_bytes, soft_bytes| {
            let limit = OutputLimit { hard_bytes, soft_bytes, soft_lasts: Duration::from_secs(60) };
            subscriber_limit(&Ok(limit), &settings())
        };
        is(&of(32 << 20, 8 << 20), Fine, &["33554432 at once, 8388608 for 60s"]);
        is(&of(1 << 20, 0), Warning, &["cuts off", "CONFIG SET client-output-buffer-limit"]);
        is(&of(0, 0), Warning, &["without a limit"]);
        is(&subscriber_limit(&Err(SWITCHED_OFF), &settings()), Unknown, &["not allowed to look"]);
    }

    #[test]
    fn an_eviction_that_could_take_histories_away() {
        let of =
            |policy, max| eviction(&info(&[("maxmemory_policy", policy), ("maxmemory", max)]), &settings());
        is(&of("noeviction", "1000"), Fine, &["maxmemory-policy noeviction"]);
        is(&of("allkeys-lru", "1000"), Problem, &["vanish", "CONFIG SET maxmemory-policy noeviction"]);
        is(&of("volatile-ttl", "1000"), Problem, &["vanish"]);
        is(&of("volatile-ttl", "0"), Warning, &["would vanish"]);
        is(&eviction(&Err(FORBIDDEN), &settings()), Unknown, &["not allowed to look"]);
    }

    #[test]
    fn memory_without_a_limit_or_nearly_used_up() {
        let of = |used, max| {
            memory(
                &info(&[("used_memory", used), ("maxmemory", max), ("total_system_memory", "4000")]),
                &settings(),
            )
        };
        is(&of("800", "1000"), Fine, &["800 of 1000"]);
        is(&of("801", "1000"), Warning, &["507", "CONFIG SET maxmemory 2000"]);
        is(&of("1", "0"), Warning, &["no limit", "CONFIG SET maxmemory 3000"]);
        is(&memory(&Err(FORBIDDEN), &settings()), Unknown, &["not allowed to look"]);
    }

    #[test]
    fn data_that_is_nowhere_but_in_memory() {
        let of = |aof, save: Result<&str, Failure>| {
            let save = save.map(str::to_owned);
            persistence(&Server { info: info(&[("aof_enabled", aof)]), save, ..server() }, &settings())
        };
        is(&of("1", Err(FORBIDDEN)), Fine, &["appendonly yes"]);
        is(&of("0", Ok("3600 1")), Fine, &["snapshots"]);
        is(&of("0", Ok("")), Warning, &["CONFIG SET appendonly yes"]);
        is(&of("0", Err(FORBIDDEN)), Unknown, &["not allowed to look"]);
    }

    #[test]
    fn clocks_that_differ() {
        let of = |seconds_ahead, uncertainty| {
            clock(&Ok(ClockDifference { seconds_ahead, uncertainty }), Duration::from_secs(5))
        };
        is(&of(0.9, 0.0), Fine, &["+0.900s"]);
        is(&of(-2.0, 0.0), Warning, &["-2.000s"]);
        is(&of(-2.0, 1.5), Fine, &["give or take 1.500s"]);
        is(&of(-6.0, 0.1), Problem, &["-6.000s"]);
        is(&of(6.0, 0.1), Problem, &["good tokens are refused", "timedatectl"]);
        is(&clock(&Err(FORBIDDEN), Duration::ZERO), Unknown, &["not allowed to look"]);
    }
}
