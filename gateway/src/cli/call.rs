//! Calls of the commands to a running node.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde_json::Value;

use super::ConfigFile;
use super::protected::{self, Trusted};
use crate::config::{Config, TlsFiles};
use crate::model::Secret;
use crate::tls::client::Connector;

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Which node to call, and with which key.
#[derive(Args)]
pub(super) struct Server {
    /// Where the internal listener is; by default where the configuration says.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The API key; by default the first of the configuration.
    #[arg(long, value_name = "KEY", env = "CLARION_API_KEY", hide_env_values = true)]
    key: Option<String>,
    #[command(flatten)]
    trusted: Trusted,
    #[command(flatten)]
    file: ConfigFile,
}

impl Server {
    /// Calls a method of the server API and answers its result.
    pub(super) fn call(&self, method: &str, request: &Value) -> anyhow::Result<Value> {
        let key = self.key()?;
        let listener = self.listener()?;
        let url = format!("{}/api/{method}", listener.base);
        let tls = listener.connector(&self.trusted)?;
        let mut response = agent(tls)
            .post(&url)
            .header("X-API-Key", key.expose())
            .send(request.to_string())
            .map_err(protected::explain)
            .with_context(|| format!("calling {url}"))?;
        let status = response.status();
        let body = response.body_mut().read_to_string().unwrap_or_default();
        match status.as_u16() {
            200 => {}
            401 => bail!("{url} refuses the API key"),
            _ => bail!("{url} answers {status}"),
        }
        let mut reply: Value =
            serde_json::from_str(&body).with_context(|| format!("{url} is no server API"))?;
        match reply.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => Err(anyhow!("{method}: {}", reply["error"]["message"].as_str().unwrap_or("no result"))),
        }
    }

    /// Asks `path` and answers the status with the text.
    pub(super) fn ask(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let listener = self.listener()?;
        let url = format!("{}{path}", listener.base);
        let tls = if self.trusted.is_given() {
            listener.connector(&self.trusted)?
        } else if listener.is_protected() {
            // Nothing secret is said, and a probe must not fail because a new file is not shown yet.
            Some(Connector::to_anybody(listener.files.as_ref()).map_err(|problem| anyhow!("{problem}"))?)
        } else {
            None
        };
        let asked = agent(tls).get(&url).call().map_err(protected::explain);
        let mut response = asked.with_context(|| format!("asking {url}"))?;
        let status = response.status().as_u16();
        Ok((status, response.body_mut().read_to_string().unwrap_or_default()))
    }

    fn listener(&self) -> anyhow::Result<Listener> {
        let given = self.url.as_deref().map(|url| url.trim_end_matches('/'));
        match given {
            // Without TLS nobody needs to know what the configuration says of it.
            Some(url) if !url.starts_with("https://") => Ok(Listener::at(url, None)),
            given => Ok(Listener::internal(given, &self.file.load_or_default()?)),
        }
    }

    fn key(&self) -> anyhow::Result<Secret> {
        if let Some(key) = &self.key {
            return Ok(Secret::new(key.as_str()));
        }
        let config = self.file.load_or_default()?;
        let first = config.api.keys.into_iter().next();
        let first = first.context("no API key: give --key, CLARION_API_KEY or a --config with api.keys")?;
        Ok(first.key)
    }
}

/// Where a command calls, and what is known of who should answer.
pub(super) struct Listener {
    /// Its address, without a `/` at the end.
    pub(super) base: String,
    /// Whether somebody typed the address.
    is_given: bool,
    /// What the configuration says that the listener shows.
    files: Option<TlsFiles>,
}

impl Listener {
    /// One at an address that was typed.
    fn at(url: &str, files: Option<TlsFiles>) -> Self {
        Self { base: url.trim_end_matches('/').to_owned(), is_given: true, files }
    }

    /// That of the server API: at `url`, or else where the configuration says.
    pub(super) fn internal(url: Option<&str>, config: &Config) -> Self {
        // If it is that of clients as well, it shows what that shows.
        let tls = if config.is_shared() { config.public.tls.files() } else { config.internal.tls.files() };
        Self::new(url, "http", internal_address(config), tls)
    }

    /// That of clients: at `url`, or else where the configuration says.
    pub(super) fn public(url: Option<&str>, config: &Config) -> Self {
        Self::new(url, "ws", public_address(config), config.public.tls.files())
    }

    fn new(url: Option<&str>, scheme: &str, address: SocketAddr, files: Option<TlsFiles>) -> Self {
        match url {
            Some(url) => Self::at(url, files),
            None => {
                let protection = if files.is_some() { "s" } else { "" };
                Self { base: format!("{scheme}{protection}://{address}"), is_given: false, files }
            }
        }
    }

    fn is_protected(&self) -> bool {
        self.base.starts_with("https://") || self.base.starts_with("wss://")
    }

    /// What shakes hands with it; `None` if it is called without TLS.
    ///
    /// # Errors
    /// If a file cannot be used that says whom to believe.
    pub(super) fn connector(&self, trusted: &Trusted) -> anyhow::Result<Option<Connector>> {
        match &self.files {
            _ if !self.is_protected() => Ok(None),
            Some(files) if !self.is_given => trusted.ourselves(files).map(Some),
            files => trusted.anybody(files.as_ref()).map(Some),
        }
    }
}

/// The internal listener of this machine.
fn internal_address(config: &Config) -> SocketAddr {
    reachable(SocketAddr::new(config.internal.address, config.internal.port))
}

/// The public listener of this machine.
fn public_address(config: &Config) -> SocketAddr {
    reachable(SocketAddr::new(config.public.address, config.public.port))
}

/// An address that means all of a machine is reached by the loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn agent(tls: Option<Connector>) -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false);
    protected::agent(config.build(), tls)
}
