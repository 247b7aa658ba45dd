//! Where other nodes reach this one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};

use crate::config::{BrokerType, Config};

/// The address of the internal listener, which is bound to `bound`, for other nodes: what is configured, else that to
/// which it is bound, else that of this host. Empty if none of them leads here.
pub(super) fn internal(config: &Config, bound: SocketAddr) -> String {
    if config.node.internal_address != "auto" {
        return config.node.internal_address.clone();
    }
    let towards_redis = towards(&config.broker.redis.address);
    let ip = if bound.ip().is_unspecified() { host(towards_redis) } else { Some(bound.ip()) };
    let is_at_hand = towards_redis.is_some_and(|ip| ip.is_loopback());
    match ip.filter(|ip| !ip.is_unspecified()) {
        // Nodes that share a Redis of this machine are on it themselves.
        Some(ip) if !ip.is_loopback() || is_at_hand => SocketAddr::new(ip, bound.port()).to_string(),
        _ => {
            if config.broker.kind == BrokerType::Redis {
                tracing::warn!(
                    "other nodes cannot ask this one whether it hears Redis; set node.internal_address to where they \
                     reach its internal listener"
                );
            }
            String::new()
        }
    }
}

/// The address to which the host name resolves; where that is this machine alone, `towards_redis`.
fn host(towards_redis: Option<IpAddr>) -> Option<IpAddr> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let addresses = (name.trim(), 0).to_socket_addrs().into_iter().flatten().map(|address| address.ip());
    let addresses: Vec<_> = addresses.chain(towards_redis).collect();
    addresses.iter().find(|address| !address.is_loopback()).or(addresses.first()).copied()
}

/// The address of this machine from which the host of `url` is reached. Nothing is sent.
fn towards(url: &str) -> Option<IpAddr> {
    let (_, rest) = url.split_once("://")?;
    let host = rest.split('/').next().unwrap_or(rest);
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let host = if has_port { host.to_owned() } else { format!("{host}:6379") };
    host.to_socket_addrs().ok()?.find_map(|address| {
        let any: IpAddr =
            if address.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(address).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(internal_address: &str) -> Config {
        let mut config = Config::default();
        config.node.internal_address = internal_address.into();
        config
    }

    #[test]
    fn others_reach_what_is_configured_or_bound_or_the_host() {
        let bound = |address: &str| address.parse::<SocketAddr>().unwrap();
        assert_eq!(
            internal(&config("clarion-1.clarion:9000"), bound("0.0.0.0:9000")),
            "clarion-1.clarion:9000"
        );
        assert_eq!(internal(&config("auto"), bound("127.0.0.1:9001")), "127.0.0.1:9001");
        let found: SocketAddr = internal(&config("auto"), bound("0.0.0.0:9002")).parse().unwrap();
        assert_eq!(found.port(), 9002);
        assert!(!found.ip().is_unspecified(), "{found}");
    }

    #[test]
    fn what_leads_elsewhere_from_another_machine_is_not_given_out() {
        let bound = "127.0.0.1:9001".parse().unwrap();
        let mut config = config("auto");
        // That of a documentation network (RFC 5737), to which there is a way or not.
        config.broker.redis.address = "redis://192.0.2.1:6379/0".into();
        assert_eq!(internal(&config, bound), "");
        config.node.internal_address = "clarion-1:9000".into();
        assert_eq!(internal(&config, bound), "clarion-1:9000");
    }

    #[test]
    fn the_way_to_redis_says_who_we_are() {
        for url in ["redis://127.0.0.1:6379/0", "rediss://127.0.0.1", "redis://127.0.0.1/1"] {
            assert_eq!(towards(url), Some(IpAddr::from([127, 0, 0, 1])), "{url}");
        }
        assert_eq!(towards("nonsense"), None);
    }
}
