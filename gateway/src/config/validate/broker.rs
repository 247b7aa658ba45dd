//! What nodes share: how Redis is reached, and when a node is dead.

use super::Problems;
use crate::config::{Cluster, Redis};

/// Least room for what Redis delivers: a message may be large.
const INBOX_BYTES_MIN: usize = 64 << 10;

pub(super) fn check_redis(redis: &Redis, problems: &mut Problems) {
    if let Err(reason) = check_address(&redis.address) {
        // The address itself is not repeated: somebody may have put a password into it.
        problems.add("broker.redis.address", reason);
    }
    check_tls(redis, problems);
    problems.require(!redis.prefix.is_empty(), "broker.redis.prefix", "must not be empty");
    problems.above_zero("broker.redis.connect_timeout", redis.connect_timeout);
    problems.above_zero("broker.redis.command_timeout", redis.command_timeout);
    problems.above_zero("broker.redis.probe_interval", redis.probe_interval);
    let has_room = redis.inbox_bytes_max >= INBOX_BYTES_MIN;
    problems.require(has_room, "broker.redis.inbox_bytes_max", "must be at least 65536");
}

/// Whether it is `redis://HOST`, or `rediss://`, with a port and the number of a database if any, and nothing else.
fn check_address(address: &str) -> Result<(), &'static str> {
    let rest = address.strip_prefix("redis://").or_else(|| address.strip_prefix("rediss://"));
    let rest = rest.ok_or("must be `redis://host:port`, or `rediss://host:port` for TLS")?;
    if rest.contains('@') {
        return Err("must hold no user and no password: \
            they go into broker.redis.username and broker.redis.password (or password_file)");
    }
    if rest.contains(['?', '#']) {
        return Err("must end after the host, the port and the number of the database");
    }
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    if !database.is_empty() && database.parse::<u16>().is_err() {
        return Err("must have the number of a database after the `/`, or nothing");
    }
    check_authority(authority)
}

/// Whether it is `HOST` or `HOST:PORT`.
pub(super) fn check_authority(authority: &str) -> Result<(), &'static str> {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("ipv6", port),
        Some(_) => return Err("has no valid IPv6 address"),
        None => authority.find(':').map_or((authority, ""), |colon| authority.split_at(colon)),
    };
    let is_label = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_label) {
        return Err("has no valid host");
    }
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    match port.strip_prefix(':') {
        Some(port) if is_port(port) => Ok(()),
        None if port.is_empty() => Ok(()),
        _ => Err("has no valid port"),
    }
}

fn check_tls(redis: &Redis, problems: &mut Problems) {
    let tls = &redis.tls;
    let is_tls = redis.address.starts_with("rediss://");
    for (name, file) in
        [("ca_file", &tls.ca_file), ("cert_file", &tls.cert_file), ("key_file", &tls.key_file)]
    {
        let path = format!("broker.redis.tls.{name}");
        let holds = is_tls || file.is_none();
        problems.require(holds, &path, "would not be used: broker.redis.address is not `rediss://`");
    }
    let path =
        if tls.cert_file.is_none() { "broker.redis.tls.cert_file" } else { "broker.redis.tls.key_file" };
    let is_pair = tls.cert_file.is_some() == tls.key_file.is_some();
    problems.require(is_pair, path, "is missing: a certificate goes with its key");
}

pub(super) fn check_cluster(cluster: &Cluster, problems: &mut Problems) {
    problems.above_zero("cluster.heartbeat_interval", cluster.heartbeat_interval);
    let lasts = cluster.node_ttl >= cluster.heartbeat_interval.saturating_mul(2);
    problems.require(lasts, "cluster.node_ttl", "must be at least twice `cluster.heartbeat_interval`");
}
