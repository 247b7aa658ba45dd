//! Where a client is: the peer of its socket, or what a proxy that is trusted says of it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::header::FORWARDED;
use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What is counted as one address: an IPv4 address, or the first 64 bits of an IPv6 address, because whoever has one
/// of the addresses below them has all of them (RFC 4291 §2.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address(IpAddr);

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address => address,
        })
    }
}

/// The proxies whose word is taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies(Vec<IpNet>);

impl Proxies {
    pub(super) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether `address` is one of them.
    pub(super) fn include(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Where the client is of a request that came from the proxy `peer`: what proxies say, from the last one back to
    /// the first that is not trusted. Its own address if they say nothing, or something that cannot be understood.
    ///
    /// Proxies set one of two headers and pass the other on as the client wrote it. So if there are both, they must
    /// agree.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let by_list = self.origin(headers, &X_FORWARDED_FOR, read_node);
        let by_pairs = self.origin(headers, &FORWARDED, read_element);
        match (by_list, by_pairs) {
            (Said::Nothing, Said::Address(address)) | (Said::Address(address), Said::Nothing) => address,
            (Said::Address(one), Said::Address(other)) if one == other => one,
            _ => peer.to_canonical(),
        }
    }

    /// The last address in the lists of a header that is none of a proxy; if all are, the first.
    fn origin(&self, headers: &HeaderMap, name: &HeaderName, read: fn(&str) -> Option<IpAddr>) -> Said {
        let mut said = Said::Nothing;
        // Only what is to the right of a trusted proxy's own words is theirs: so this goes from the right, and a quote
        // that a client left open to the left of them does not matter.
        for value in headers.get_all(name).iter().rev() {
            for item in value.to_str().unwrap_or_default().rsplit(',') {
                let Some(address) = read(item.trim()) else { return Said::Nonsense };
                said = Said::Address(address);
                if !self.include(address) {
                    return said;
                }
            }
        }
        said
    }
}

/// Whether a proxy says that the client spoke TLS; `None` if it does not say. If it lists several, all of them must have:
/// the first may be the client's own word.
pub(super) fn came_by_tls(headers: &HeaderMap) -> Option<bool> {
    let is_tls =
        |scheme: &str| ["https", "wss"].iter().any(|known| scheme.trim().eq_ignore_ascii_case(known));
    let values = headers.get_all(X_FORWARDED_PROTO).iter();
    values
        .map(|value| value.to_str().unwrap_or_default().split(',').all(is_tls))
        .reduce(|one, other| one && other)
}

/// What a header says of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Address(IpAddr),
    Nonsense,
}

/// `for=` in an element of `Forwarded` (RFC 7239 §4).
fn read_element(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    let unquoted = node.strip_prefix('"').and_then(|node| node.strip_suffix('"'));
    read_node(unquoted.unwrap_or(node))
}

/// An address, with a port or without; that of IPv6 in brackets if there is a port.
fn read_node(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|node| node.strip_suffix(']'));
    let address: Option<IpAddr> = bare.unwrap_or(node).parse().ok();
    let with_port = || node.parse::<SocketAddr>().ok().map(|address| address.ip());
    address.or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "10.0.0.1";

    /// Who the client is if a proxy in 10.0.0.0/8 sends these headers.
    fn client(headers: &[(&'static str, &str)]) -> String {
        let proxies = Proxies::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, axum::http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        proxies.client(PEER.parse().unwrap(), &map).to_string()
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        for (list, expected) in [
            ("198.51.100.7", "198.51.100.7"),
            ("203.0.113.9, 198.51.100.7", "198.51.100.7"),
            ("203.0.113.9, 198.51.100.7, 10.1.2.3,10.3.2.1", "198.51.100.7"),
            ("garbage, 198.51.100.7", "198.51.100.7"),
            ("198.51.100.7:4711", "198.51.100.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]:4711, fd00::1", "2001:db8::7"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("10.9.9.9, 10.1.2.3", "10.9.9.9"),
        ] {
            assert_eq!(client(&[("x-forwarded-for", list)]), expected, "{list}");
        }
        let lines = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "198.51.100.7, 10.1.1.1")];
        assert_eq!(client(&lines), "198.51.100.7", "several lines are one list");
    }

    #[test]
    fn the_other_form_says_the_same() {
        for (element, expected) in [
            ("for=198.51.100.7", "198.51.100.7"),
            ("For=203.0.113.9, proto=https; FOR=\"198.51.100.7:80\";by=10.0.0.1", "198.51.100.7"),
            ("for=\"[2001:db8::7]:4711\", for=10.1.1.1", "2001:db8::7"),
            ("for=\"open, for=198.51.100.7", "198.51.100.7"),
        ] {
            assert_eq!(client(&[("forwarded", element)]), expected, "{element}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_the_proxy_itself() {
        assert_eq!(client(&[]), PEER);
        for list in
            ["", "garbage", "198.51.100.7, garbage", "198.51.100.7,", "198.51.100.7, 10.1.1.1, -", "é"]
        {
            assert_eq!(client(&[("x-forwarded-for", list)]), PEER, "{list}");
        }
        for element in ["for=unknown", "for=_hidden", "by=198.51.100.7", "for", "for=198.51.100.7, for=\"x"] {
            assert_eq!(client(&[("forwarded", element)]), PEER, "{element}");
        }
    }

    #[test]
    fn two_headers_must_agree() {
        let both = |list, element| client(&[("x-forwarded-for", list), ("forwarded", element)]);
        assert_eq!(both("198.51.100.7", "for=198.51.100.7"), "198.51.100.7");
        assert_eq!(both("198.51.100.7", "for=203.0.113.9"), PEER);
        assert_eq!(both("198.51.100.7", "for=unknown"), PEER);
    }

    #[test]
    fn every_scheme_that_a_proxy_names_must_be_that_of_tls() {
        let said = |values: &[&'static str]| {
            let mut map = HeaderMap::new();
            for value in values {
                map.append("x-forwarded-proto", axum::http::HeaderValue::from_static(value));
            }
            came_by_tls(&map)
        };
        assert_eq!(said(&[]), None);
        for values in [&["https"][..], &["WSS"], &["https,  wss"], &["https", "https"]] {
            assert_eq!(said(values), Some(true), "{values:?}");
        }
        for values in [&["http"][..], &[""], &["https,"], &["https, http"], &["http", "https"], &["httpss"]] {
            assert_eq!(said(values), Some(false), "{values:?}");
        }
    }

    #[test]
    fn an_address_of_ipv6_is_one_with_its_neighbors() {
        let address = |text: &str| Address::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(address("2001:db8:1:2::7"), address("2001:db8:1:2:ffff::1"));
        assert_ne!(address("2001:db8:1:2::7"), address("2001:db8:1:3::7"));
        assert_ne!(address("198.51.100.7"), address("198.51.100.8"));
        assert_eq!(address("::ffff:198.51.100.7"), address("198.51.100.7"));
    }
}
