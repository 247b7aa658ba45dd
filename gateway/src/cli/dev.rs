use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::json;

use super::{Failure, genconfig, output, serve};
use crate::app::{Development, Gateway};
use crate::auth;
use crate::config::{ApiKey, ChannelOptions, Config, LogLevel};
use crate::model::Secret;
use crate::telemetry;

/// Where the secret may come from; without it one is generated.
const SECRET_VARIABLE: &str = "CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY";
/// How long the printed token is good.
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// How much of each channel is kept, and for how long: enough to see a recovery, and little enough to see one fail.
const HISTORY: (usize, Duration) = (100, Duration::from_secs(10 * 60));

/// Run a node to try things out: this machine only, everything allowed, with a playground
#[derive(Args)]
#[command(after_help = "Example:\n  clarion dev\n  clarion dev --port 8001\n\n\
    Listens on 127.0.0.1 only. Secrets that no CLARION__ variable gives are made up at each start.")]
pub(super) struct Dev {
    /// Port of the playground, the sockets and the server API.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Another port for the server API, metrics and health.
    #[arg(long)]
    internal_port: Option<u16>,
}

impl Dev {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.config()?;
        telemetry::start(&config.log);
        let api_key = config.api.keys[0].key.expose().to_owned();
        let development = Development { api_key: api_key.clone() };
        serve::run(&config, Some(&development), None, |gateway| {
            output::print(&greeting(&config, gateway, &api_key)?)
        })
    }

    fn config(&self) -> Result<Config, Failure> {
        let mut environment: Vec<_> = super::environment().collect();
        if !environment.iter().any(|(name, _)| name.starts_with(SECRET_VARIABLE)) {
            environment.push((SECRET_VARIABLE.into(), genconfig::secret()?));
        }
        let mut config = Config::load(None, environment.into_iter())?;
        if config.api.keys.is_empty() {
            config.api.keys.push(ApiKey { key: Secret::new(genconfig::secret()?), ..ApiKey::default() });
        }
        if config.log.level == LogLevel::Info {
            config.log.level = LogLevel::Warn;
        }
        // There is no other node to go to, and somebody waits at the terminal.
        (config.drain.delay, config.drain.window) = (Duration::ZERO, Duration::ZERO);
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        (config.public.address, config.public.port) = (loopback, self.port);
        (config.internal.address, config.internal.port) = (loopback, self.internal_port.unwrap_or(self.port));
        allow_everything(&mut config.channel.without_namespace);
        offer_everything(&mut config.channel.without_namespace);
        Ok(config)
    }
}

fn allow_everything(options: &mut ChannelOptions) {
    options.allow_subscribe_for_client = true;
    options.allow_subscribe_for_anonymous = true;
    options.allow_publish_for_client = true;
    options.allow_publish_for_anonymous = true;
    options.allow_presence_for_client = true;
    options.allow_presence_for_anonymous = true;
    options.allow_history_for_client = true;
    options.allow_history_for_anonymous = true;
}

/// A history that a variable gave stays as it is.
fn offer_everything(options: &mut ChannelOptions) {
    options.presence = true;
    options.join_leave = true;
    options.allow_positioning = true;
    options.allow_recovery = true;
    if !options.has_history() {
        (options.history_size, options.history_ttl) = HISTORY;
    }
}

/// What to do next, ready to be copied.
fn greeting(config: &Config, gateway: &Gateway, api_key: &str) -> Result<String, Failure> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(anyhow::Error::from)?;
    let claims = json!({"sub": "ann", "exp": (now + TOKEN_LIFETIME).as_secs()});
    let token = auth::sign(&config.client.token, &claims).map_err(anyhow::Error::from)?;
    let (public, internal) = (gateway.public_address(), gateway.internal_address());
    let playground = if public == internal {
        format!("http://{public}/")
    } else {
        format!("http://{internal}/ (page only)")
    };
    Ok(format!(
        "Clarion {version}, development mode: 127.0.0.1 only, memory broker, everything allowed\n\n  \
         Playground  {playground}\n  \
         WebSocket   ws://{public}/ws?token={token}&channels=chat\n  \
         Publish     curl -X POST http://{internal}/api/publish -H 'X-API-Key: {api_key}' \
         -d '{{\"channel\":\"chat\",\"data\":{{\"text\":\"hello\"}}}}'\n\n\
         Open the playground in two windows and say something. Ctrl-C stops.",
        version = env!("CARGO_PKG_VERSION"),
        token = token.expose(),
    ))
}
