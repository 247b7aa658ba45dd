//! Where other nodes reach this one.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};

use crate::config::Config;

/// The address of the internal listener, which is bound to `bound`, for other nodes: what is configured, else that to
/// which it is bound, else that of this host.
pub(super) fn internal(config: &Config, bound: SocketAddr) -> String {
    match config.node.internal_address.as_str() {
        "auto" if bound.ip().is_unspecified() => {
            SocketAddr::new(host(config).unwrap_or(bound.ip()), bound.port()).to_string()
        }
        "auto" => bound.to_string(),
        configured => configured.to_owned(),
    }
}

/// The address to which the host name resolves; where that is this machine alone, that from which Redis is reached.
fn host(config: &Config) -> Option<IpAddr> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let addresses = (name.trim(), 0).to_socket_addrs().into_iter().flatten().map(|address| address.ip());
    let addresses: Vec<_> = addresses.chain(towards(&config.broker.redis.address)).collect();
    addresses.iter().find(|address| !address.is_loopback()).or(addresses.first()).copied()
}

/// The address of this machine from which the host of `url` is reached. Nothing is sent.
fn towards(url: &str) -> Option<IpAddr> {
    let (_, rest) = url.split_once("://")?;
    let host = rest.split('/').next().unwrap_or(rest);
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let host = if has_port { host.to_owned() } else { format!("{host}:6379") };
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(host).ok()?;
    Some(socket.local_addr().ok()?.ip())
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
    fn the_way_to_redis_says_who_we_are() {
        for url in ["redis://127.0.0.1:6379/0", "rediss://127.0.0.1", "redis://127.0.0.1/1"] {
            assert_eq!(towards(url), Some(IpAddr::from([127, 0, 0, 1])), "{url}");
        }
        assert_eq!(towards("nonsense"), None);
    }
}
