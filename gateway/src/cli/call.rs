//! Calls of the commands to a running node.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde_json::Value;

use super::{ConfigFile, protected};
use crate::config::{Config, TlsFiles};
use crate::model::Secret;
use crate::tls::client::{Connector, Trust};

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
    file: ConfigFile,
}

impl Server {
    /// Calls a method of the server API and answers its result.
    pub(super) fn call(&self, method: &str, request: &Value) -> anyhow::Result<Value> {
        let key = self.key()?;
        let (base, tls) = self.base()?;
        let url = format!("{base}/api/{method}");
        let mut response = agent(tls.as_ref(), Trust::Ourselves)?
            .post(&url)
            .header("X-API-Key", key.expose())
            .send(request.to_string())
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
        let (base, tls) = self.base()?;
        let url = format!("{base}{path}");
        let agent = agent(tls.as_ref(), Trust::Anybody)?;
        let mut response = agent.get(&url).call().with_context(|| format!("asking {url}"))?;
        let status = response.status().as_u16();
        Ok((status, response.body_mut().read_to_string().unwrap_or_default()))
    }

    /// Where the internal listener is, and what it shows if it speaks TLS.
    fn base(&self) -> anyhow::Result<(String, Option<TlsFiles>)> {
        match &self.url {
            Some(url) if !url.starts_with("https://") => Ok((url.trim_end_matches('/').to_owned(), None)),
            Some(url) => {
                let files = listener_files(&self.file.load_or_default()?);
                let files =
                    files.context("https needs a --config with internal.tls, to know what to trust")?;
                Ok((url.trim_end_matches('/').to_owned(), Some(files)))
            }
            None => {
                let config = self.file.load_or_default()?;
                let files = listener_files(&config);
                let scheme = if files.is_some() { "https" } else { "http" };
                Ok((format!("{scheme}://{}", internal_address(&config)), files))
            }
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

/// The internal listener of this machine.
pub(super) fn internal_address(config: &Config) -> SocketAddr {
    reachable(SocketAddr::new(config.internal.address, config.internal.port))
}

/// The public listener of this machine.
pub(super) fn public_address(config: &Config) -> SocketAddr {
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

/// What the internal listener shows: if it is that of clients as well, what that shows.
fn listener_files(config: &Config) -> Option<TlsFiles> {
    if config.is_shared() { config.public.tls.files() } else { config.internal.tls.files() }
}

fn agent(tls: Option<&TlsFiles>, trust: Trust) -> anyhow::Result<ureq::Agent> {
    let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false);
    let config = config.build();
    match tls {
        None => Ok(config.into()),
        Some(files) => {
            let connector = Connector::new(files, trust).map_err(|problem| anyhow!("{problem}"))?;
            Ok(protected::agent(config, connector))
        }
    }
}
