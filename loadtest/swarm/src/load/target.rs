//! Where clients connect to, and where the server API is.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};

/// A WebSocket endpoint that clients connect to: `ws://host:port/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    authority: String,
    address: SocketAddr,
    path: String,
}

impl Target {
    /// The address that its name stands for; of several the first.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Host and port, as they were written.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Path and query, to which `query` is added, which is written as it stands in a URL.
    pub fn path_with(&self, query: Option<&str>) -> String {
        match query {
            None => self.path.clone(),
            Some(query) => {
                let joint = if self.path.contains('?') { '&' } else { '?' };
                format!("{}{joint}{query}", self.path)
            }
        }
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(url: &str) -> Result<Self> {
        let (scheme, authority, path) = split(url)?;
        match scheme {
            "ws" => {}
            "wss" => bail!("wss is not spoken here: put swarm beside the server, behind its TLS"),
            other => bail!("{other}:// is no WebSocket: it begins with ws://"),
        }
        Ok(Self { address: resolve(authority, 80)?, authority: authority.to_owned(), path: path.to_owned() })
    }
}

impl fmt::Display for Target {
    /// Without its query, which may hold a token.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        write!(formatter, "ws://{}{path}", self.authority)
    }
}

/// The server API: `http://host:port`, with what comes before `/api` if anything does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    base: String,
}

impl Api {
    /// The URL of a method.
    pub fn method(&self, name: &str) -> String {
        format!("{}/api/{name}", self.base)
    }
}

impl FromStr for Api {
    type Err = anyhow::Error;

    fn from_str(url: &str) -> Result<Self> {
        let (scheme, authority, path) = split(url)?;
        ensure!(scheme == "http", "{scheme}:// is not spoken here: the URL of the API begins with http://");
        ensure!(!path.contains('?'), "a query has no place here; the key goes into SWARM_API_KEY");
        resolve(authority, 80)?;
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix("/api").unwrap_or(path);
        Ok(Self { base: format!("http://{authority}{path}") })
    }
}

impl fmt::Display for Api {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.base)
    }
}

/// Scheme, authority, and the rest, which begins with a slash.
fn split(url: &str) -> Result<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://").context("a URL begins with its scheme, such as ws://")?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    ensure!(!authority.is_empty(), "the URL has no host");
    // Whatever is written there is said again in reports.
    ensure!(!authority.contains('@'), "a URL with a user or a password is not taken");
    ensure!(!authority.contains('?'), "a query comes after a path: ws://host:port/path?query");
    Ok((scheme, authority, path))
}

fn resolve(authority: &str, default_port: u16) -> Result<SocketAddr> {
    let has_port =
        authority.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let name = if has_port { authority.to_owned() } else { format!("{authority}:{default_port}") };
    let mut addresses = name.to_socket_addrs().with_context(|| format!("{name} has no address"))?;
    addresses.next().with_context(|| format!("{name} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_and_written() {
        let target: Target = "ws://127.0.0.1:8000/connection/websocket?x=secret".parse().unwrap();
        assert_eq!(target.address(), "127.0.0.1:8000".parse().unwrap());
        assert_eq!(target.authority(), "127.0.0.1:8000");
        assert_eq!(target.path_with(None), "/connection/websocket?x=secret");
        assert_eq!(target.path_with(Some("token=t")), "/connection/websocket?x=secret&token=t");
        assert_eq!(target.to_string(), "ws://127.0.0.1:8000/connection/websocket");
        let bare: Target = "ws://127.0.0.1".parse().unwrap();
        assert_eq!((bare.address().port(), bare.path_with(Some("token=t"))), (80, "/?token=t".to_owned()));
        let six: Target = "ws://[::1]:8000/".parse().unwrap();
        assert_eq!(six.address(), "[::1]:8000".parse().unwrap());
    }

    #[test]
    fn an_api_is_read_with_and_without_its_path() {
        for url in ["http://127.0.0.1:9000", "http://127.0.0.1:9000/", "http://127.0.0.1:9000/api/"] {
            let api: Api = url.parse().unwrap();
            assert_eq!(api.method("publish"), "http://127.0.0.1:9000/api/publish", "{url}");
        }
    }

    #[test]
    fn a_url_that_is_none_says_why() {
        for (url, word) in [
            ("localhost:8000", "scheme"),
            ("http://127.0.0.1/", "ws://"),
            ("wss://127.0.0.1/", "wss"),
            ("ws:///path", "no host"),
            ("ws://me:pass@127.0.0.1/", "password"),
            ("ws://127.0.0.1:99999/", "no address"),
        ] {
            let error = format!("{:#}", url.parse::<Target>().unwrap_err());
            assert!(error.contains(word) && !error.contains("pass@"), "{url}: {error}");
        }
        for (url, word) in
            [("https://127.0.0.1", "http://"), ("http://127.0.0.1/?api_key=x", "SWARM_API_KEY")]
        {
            let error = format!("{:#}", url.parse::<Api>().unwrap_err());
            assert!(error.contains(word), "{url}: {error}");
        }
    }
}
