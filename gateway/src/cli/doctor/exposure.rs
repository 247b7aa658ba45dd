//! Who gets in: origins, switches that open everything, and where the internal listener can be reached.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::finding::Finding;
use crate::config::Config;

/// What to say of `config` on a machine that has these addresses.
pub(super) fn findings(config: &Config, addresses: &[IpAddr]) -> Vec<Finding> {
    vec![origins(&config.client.allowed_origins), insecure(config), internal_listener(config, addresses)]
}

fn origins(origins: &[String]) -> Finding {
    const REMEDY: &str = "client.allowed_origins: [\"https://app.example.com\"]";
    let name = "origins";
    let allows = |origin: &str| origins.iter().any(|allowed| allowed == origin);
    if origins.is_empty() {
        let finding = Finding::ok(name, "client.allowed_origins is empty");
        return finding.warns("every browser is refused").remedy(REMEDY);
    }
    let finding = Finding::ok(name, format!("client.allowed_origins: {}", origins.join(", ")));
    if allows("*") {
        return finding.warns("any web page may connect with the token of its visitor").remedy(REMEDY);
    }
    if allows("null") {
        return finding.warns("any web page can claim to be `null`").remedy(REMEDY);
    }
    finding
}

fn insecure(config: &Config) -> Finding {
    let switches = [
        (config.client.insecure, "client.insecure", "every client may do everything"),
        (config.api.insecure, "api.insecure", "whoever reaches the internal port may call the server API"),
    ];
    let on: Vec<_> = switches.into_iter().filter(|(is_on, ..)| *is_on).collect();
    let names: Vec<_> = on.iter().map(|(_, name, _)| *name).collect();
    if on.is_empty() {
        return Finding::ok("insecure", "client.insecure and api.insecure are off");
    }
    let meanings: Vec<_> = on.iter().map(|(.., meaning)| *meaning).collect();
    let finding = Finding::ok("insecure", format!("{} on", names.join(" and "))).fails(meanings.join("; "));
    names.into_iter().fold(finding, |finding, name| finding.remedy(format!("{name}: false")))
}

fn internal_listener(config: &Config, addresses: &[IpAddr]) -> Finding {
    let (public, internal) = (&config.public, &config.internal);
    let finding = Finding::ok("internal_listener", format!("{}, port {}", internal.address, internal.port));
    let is_shared = public.port != 0 && (public.address, public.port) == (internal.address, internal.port);
    if is_shared && !internal.address.is_loopback() {
        let wrong = "clients reach the server API and metrics: they are on the public port";
        return finding.fails(wrong).remedy("internal: {address: 127.0.0.1, port: 9000}");
    }
    if is_of_the_internet(internal.address) {
        return finding.fails("it is an address of the internet").remedy("internal.address: 127.0.0.1");
    }
    let reachable = addresses
        .iter()
        .find(|address| is_of_the_internet(**address) && is_served(internal.address, **address));
    match reachable.filter(|_| internal.address.is_unspecified()) {
        None => finding,
        Some(address) => finding
            .warns(format!(
                "it is reached by {address} too, an address of the internet, unless a firewall closes it"
            ))
            .remedy("internal.address: 127.0.0.1   # or that of a private network"),
    }
}

/// Whether who listens at `unspecified` is reached by `address`.
fn is_served(unspecified: IpAddr, address: IpAddr) -> bool {
    unspecified.is_ipv6() || address.is_ipv4()
}

/// Whether anybody might reach it: it is of no private, local or shared network (RFC 1918, 3927, 4193, 4291, 6598).
fn is_of_the_internet(address: IpAddr) -> bool {
    let is_special = match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            address.is_private() || address.is_link_local() || is_shared
        }
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    };
    !is_special && !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}

/// The addresses of this machine; none where the system does not say them.
pub(super) fn addresses() -> Vec<IpAddr> {
    let v4 = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    v4_addresses(&v4).chain(v6_addresses(&v6)).collect()
}

/// Those that the table of routes has as local: a line with the address, then one with `host LOCAL`.
fn v4_addresses(table: &str) -> impl Iterator<Item = IpAddr> {
    let lines = table.lines().zip(table.lines().skip(1));
    let local = lines.filter(|(_, kind)| kind.contains("host LOCAL"));
    let address = |(line, _): (&str, &str)| line.trim().trim_start_matches("|-- ").parse::<Ipv4Addr>().ok();
    local.filter_map(address).map(IpAddr::V4)
}

/// Of 32 hexadecimal digits at the beginning of each line.
fn v6_addresses(table: &str) -> impl Iterator<Item = IpAddr> {
    let digits = table.lines().filter_map(|line| line.split_whitespace().next());
    digits
        .filter_map(|digits| u128::from_str_radix(digits, 16).ok())
        .map(|bits| Ipv6Addr::from_bits(bits).into())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level::{self, Ok, Problem, Warning};
    use super::*;

    #[track_caller]
    fn is(finding: &Finding, level: Level, words: &[&str]) {
        let text = finding.text(false);
        assert_eq!(finding.level, level, "{text}");
        words.iter().for_each(|word| assert!(text.contains(word), "{text} lacks {word}"));
        assert_eq!(finding.remedies.is_empty(), level == Ok, "what is wrong has a remedy: {text}");
    }

    #[test]
    fn origins_are_named_and_not_all_of_them() {
        let of = |allowed: &[&str]| origins(&allowed.iter().map(ToString::to_string).collect::<Vec<_>>());
        is(&of(&["https://app.example.com"]), Ok, &["https://app.example.com"]);
        is(&of(&[]), Warning, &["every browser is refused", "allowed_origins: [\"https"]);
        is(&of(&["*"]), Warning, &["any web page may connect"]);
        is(&of(&["https://app.example.com", "null"]), Warning, &["`null`"]);
    }

    #[test]
    fn switches_that_open_everything_are_off() {
        let mut config = Config::default();
        is(&insecure(&config), Ok, &[]);
        config.client.insecure = true;
        is(&insecure(&config), Problem, &["every client", "> client.insecure: false"]);
        config.api.insecure = true;
        is(&insecure(&config), Problem, &["> client.insecure: false", "> api.insecure: false"]);
    }

    #[test]
    fn the_internal_listener_is_not_on_the_internet() {
        let mut config = Config::default();
        let [private, public] = ["10.1.2.3", "192.0.2.7"].map(|text| text.parse::<IpAddr>().unwrap());
        is(&internal_listener(&config, &[private, public]), Ok, &["127.0.0.1, port 9000"]);
        config.internal.address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        is(&internal_listener(&config, &[private]), Ok, &["0.0.0.0"]);
        is(&internal_listener(&config, &[private, public]), Warning, &["192.0.2.7", "firewall"]);
        let v6 = "2001:db8::1".parse().unwrap();
        is(&internal_listener(&config, &[private, v6]), Ok, &[]);
        config.internal.address = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        is(&internal_listener(&config, &[private, v6]), Warning, &["2001:db8::1"]);
        config.internal.address = public;
        is(&internal_listener(&config, &[]), Problem, &["internal.address: 127.0.0.1"]);
        config.internal = crate::config::Internal {
            address: config.public.address,
            port: config.public.port,
            ..config.internal
        };
        is(&internal_listener(&config, &[]), Problem, &["on the public port"]);
        config.internal.address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        config.public.address = config.internal.address;
        is(&internal_listener(&config, &[public]), Ok, &[]);
    }

    #[test]
    fn the_networks_that_nobody_else_reaches_are_known() {
        for address in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.0.1",
            "127.0.0.1",
            "fd00::1",
            "fe80::1",
            "::1",
            "::",
        ] {
            assert!(!is_of_the_internet(address.parse().unwrap()), "{address}");
        }
        for address in ["192.0.2.1", "100.128.0.1", "172.32.0.1", "2001:db8::1"] {
            assert!(is_of_the_internet(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn addresses_are_read_from_the_tables_of_the_kernel() {
        let table =
            "     |-- 10.1.2.3\n        /32 host LOCAL\n     |-- 10.1.2.255\n        /32 link BROADCAST\n";
        assert_eq!(v4_addresses(table).collect::<Vec<_>>(), ["10.1.2.3".parse::<IpAddr>().unwrap()]);
        let table = "20010db8000000000000000000000001 02 40 00 80 eth0\n";
        assert_eq!(v6_addresses(table).collect::<Vec<_>>(), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
        assert!(addresses().iter().any(IpAddr::is_loopback));
    }
}
