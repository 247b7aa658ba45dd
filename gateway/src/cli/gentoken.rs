use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::output::Output;
use super::{ConfigFile, Failure};
use crate::auth;
use crate::config::{Config, Token};
use crate::model::{Channel, UserId};

/// Print a signed token for a user, to try things out
#[derive(Args)]
#[command(
    after_help = "Example:\n  clarion gentoken --config clarion.yaml --user 42 --info '{\"name\":\"Ann\"}' --ttl 1h\n  \
    clarion gentoken --config clarion.yaml --user 42 --channel '$news'"
)]
pub(super) struct Gentoken {
    /// The user; empty for an anonymous one.
    #[arg(long, value_name = "ID")]
    user: String,
    /// Make it a subscription token for this channel, instead of a connection token.
    #[arg(long)]
    channel: Option<String>,
    /// What others see of the user: any JSON.
    #[arg(long, value_name = "JSON")]
    info: Option<String>,
    /// How long the token is good.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'a RawValue>,
}

impl Gentoken {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.file.load()?;
        let claims = self.claims(&config, SystemTime::now()).map_err(Failure::Usage)?;
        let token = auth::sign(self.rules(&config), &claims).map_err(Failure::usage)?;
        // The one output that is meant to show a token.
        let token = token.expose();
        self.output.report(token, &json!({ "token": token, "expires_at": claims.exp }))
    }

    /// The keys and rules of tokens of the kind asked for.
    fn rules<'a>(&self, config: &'a Config) -> &'a Token {
        match self.channel {
            Some(_) => config.client.subscription_token_rules(),
            None => &config.client.token,
        }
    }

    /// The claims asked for, and those without which the configuration would refuse the token.
    fn claims<'a>(&'a self, config: &'a Config, now: SystemTime) -> anyhow::Result<Claims<'a>> {
        let rules = self.rules(config);
        let limit = rules.lifetime_max;
        if self.ttl.as_secs() == 0 || (!limit.is_zero() && self.ttl > limit) {
            let most = if limit.is_zero() {
                "no limit".into()
            } else {
                humantime::format_duration(limit).to_string()
            };
            return Err(anyhow!("--ttl must be from 1s to lifetime_max of the configuration ({most})"));
        }
        UserId::parse(&self.user).context("--user")?;
        if let Some(channel) = &self.channel {
            Channel::parse(channel, config.channel.channel_bytes_max).context("--channel")?;
        }
        let info = self.info.as_deref().map(serde_json::from_str).transpose();
        let iat = now.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        Ok(Claims {
            sub: &self.user,
            iat,
            exp: iat.saturating_add(self.ttl.as_secs()),
            aud: rules.audience.as_deref(),
            iss: rules.issuer.as_deref(),
            channel: self.channel.as_deref(),
            info: info.context("--info must be JSON")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::auth::TokenVerifier;
    use crate::model::Secret;

    #[derive(clap::Parser)]
    struct Wrapper {
        #[command(flatten)]
        command: Gentoken,
    }

    fn config() -> Config {
        let mut config = Config::default();
        config.client.token.hmac_secret_key = Secret::new("0123456789abcdefghijklmnopqrstuv");
        config.client.token.audience = Some("clarion".into());
        config.client.token.issuer = Some("shop".into());
        config
    }

    fn gentoken(arguments: &[&str]) -> Gentoken {
        Wrapper::parse_from([&["gentoken"], arguments].concat()).command
    }

    /// A token made with `arguments` under `config`.
    fn token(config: &Config, arguments: &[&str]) -> Secret {
        let command = gentoken(arguments);
        let claims = command.claims(config, SystemTime::now()).unwrap();
        auth::sign(command.rules(config), &claims).unwrap()
    }

    #[test]
    fn a_generated_token_is_accepted_under_the_same_configuration() {
        let config = config();
        let verifier = TokenVerifier::for_connections(&config.client).unwrap();
        let token = token(&config, &["--user", "42", "--info", r#"{"n": 1.0}"#, "--ttl", "24h"]);
        let identity = verifier.verify(token.expose(), SystemTime::now()).unwrap();
        assert_eq!(identity.user.as_str(), "42");
        assert_eq!(identity.info.unwrap().as_bytes(), br#"{"n": 1.0}"#);
    }

    #[test]
    fn a_token_with_a_channel_is_for_subscribing_to_it() {
        let mut config = config();
        config.client.subscription_token.hmac_secret_key =
            Secret::new("another key, for the tokens of subscriptions");
        let token = token(&config, &["--user", "42", "--channel", "$news", "--info", "1"]);
        let verifier = TokenVerifier::for_subscriptions(&config.client).unwrap();
        let claims = verifier.verify_subscription(token.expose(), SystemTime::now()).unwrap();
        assert_eq!((claims.channel.as_str(), claims.user.as_str()), ("$news", "42"));
        assert_eq!(claims.grant.info.unwrap().as_bytes(), b"1");
        let connecting = TokenVerifier::for_connections(&config.client).unwrap();
        assert!(connecting.verify(token.expose(), SystemTime::now()).is_err());
    }

    #[test]
    fn what_no_token_could_hold_is_refused() {
        let config = config();
        for arguments in
            [["--ttl", "25h"], ["--ttl", "0s"], ["--info", "{"], ["--channel", ""], ["--channel", "a b"]]
        {
            let command = gentoken(&[&["--user", "42"][..], &arguments].concat());
            assert!(command.claims(&config, SystemTime::now()).is_err(), "{arguments:?}");
        }
        assert!(gentoken(&["--user", "a\nb"]).claims(&config, SystemTime::now()).is_err());
    }
}
