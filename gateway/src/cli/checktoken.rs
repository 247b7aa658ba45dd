use std::io::{self, Read as _};
use std::time::SystemTime;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use serde_json::{Value, json};

use super::output::Output;
use super::{ConfigFile, Failure};
use crate::auth::{SubscriptionClaims, TokenError, TokenVerifier};
use crate::config::Client;
use crate::model::{Identity, Secret};

/// Stands for standard input.
const STDIN: &str = "-";
/// More than any token, to read no endless input.
const STDIN_BYTES_MAX: u64 = 64 * 1024;

/// Say what kind of token it is, whether it is accepted, and what it says
#[derive(Args)]
#[command(after_help = "Example:\n  clarion gentoken --config clarion.yaml --user 42 | \
    clarion checktoken --config clarion.yaml -\n\nExit code 0: accepted. 1: refused. 2: bad configuration.")]
pub(super) struct Checktoken {
    /// The token, or `-` to read it from standard input, where no list of processes shows it.
    token: String,
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: Output,
}

impl Checktoken {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.file.load()?;
        let token = self.token()?;
        let (verdict, kind) = verify(&config.client, token.expose())?;
        let (text, json) = report(&verdict, kind, token.expose());
        self.output.report(&text, &json)?;
        verdict.map(|_| ()).map_err(|_| Failure::Reported(1))
    }

    fn token(&self) -> Result<Secret, Failure> {
        if self.token != STDIN {
            return Ok(Secret::new(self.token.as_str()));
        }
        let mut text = String::new();
        let input = io::stdin().lock();
        input.take(STDIN_BYTES_MAX).read_to_string(&mut text).context("reading standard input")?;
        Ok(Secret::new(text.trim()))
    }
}

/// What a token is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connection,
    Subscription,
}

impl Kind {
    /// What `token` claims to be for, before anything of it is verified.
    fn claimed(token: &str) -> Self {
        if claims(token).get("channel").is_some() { Self::Subscription } else { Self::Connection }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Subscription => "subscription",
        }
    }
}

/// What an accepted token says.
enum Accepted {
    Connection(Identity),
    Subscription(SubscriptionClaims),
}

/// Verifies `token` as what it claims to be for, with the keys and rules of that.
fn verify(client: &Client, token: &str) -> Result<(Result<Accepted, TokenError>, Kind), Failure> {
    let now = SystemTime::now();
    let kind = Kind::claimed(token);
    let verdict = match kind {
        Kind::Connection => {
            let verifier = TokenVerifier::for_connections(client).map_err(Failure::usage)?;
            verifier.verify(token, now).map(Accepted::Connection)
        }
        Kind::Subscription => {
            let verifier = TokenVerifier::for_subscriptions(client).map_err(Failure::usage)?;
            verifier.verify_subscription(token, now).map(Accepted::Subscription)
        }
    };
    Ok((verdict, kind))
}

/// The verdict for people and for scripts. Claims are shown only of a token whose signature is good.
fn report(verdict: &Result<Accepted, TokenError>, kind: Kind, token: &str) -> (String, Value) {
    let kind = kind.name();
    match verdict {
        Ok(accepted) => {
            let claims = claims(token);
            let (user, channel, expires_at) = match accepted {
                Accepted::Connection(identity) => (&identity.user, None, identity.expires_at),
                Accepted::Subscription(token) => (&token.user, Some(&token.channel), token.grant.expires_at),
            };
            let expires = expires_at.map(humantime::format_rfc3339_seconds).map(|time| time.to_string());
            let who = if user.is_anonymous() { "the anonymous user".into() } else { format!("user {user}") };
            let until = expires.as_deref().map_or("for ever".into(), |time| format!("until {time}"));
            let to = channel.map(|channel| format!(" to {channel}")).unwrap_or_default();
            let text = format!("{claims:#}\naccepted as a {kind} token{to}: {who}, {until}");
            let user = user.as_str();
            let json = json!({ "ok": true, "kind": kind, "user": user, "channel": channel, "expires_at": expires,
                "claims": claims });
            (text, json)
        }
        Err(error) => {
            let claims = if error.is_authentic() { claims(token) } else { Value::Null };
            let (reason, message) = (error.reason(), in_words(*error));
            let shown = if claims.is_null() { String::new() } else { format!("{claims:#}\n") };
            let text = format!("{shown}refused as a {kind} token ({reason}): {message}");
            let json =
                json!({ "ok": false, "kind": kind, "reason": reason, "message": message, "claims": claims });
            (text, json)
        }
    }
}

fn in_words(error: TokenError) -> String {
    match error {
        TokenError::Signature => format!("{error}: it was signed with another, or altered"),
        error => error.to_string(),
    }
}

/// The claims of a token; null if there are none that can be read.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    payload.and_then(|payload| serde_json::from_slice(&payload).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth;

    const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";
    const SUBSCRIPTION_SECRET: &str = "another key, for the tokens of subscriptions";

    #[test]
    fn only_an_authentic_token_is_shown() {
        let token = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(r#"{"sub":"42"}"#));
        let (text, json) = report(&Err(TokenError::Expired), Kind::Connection, &token);
        assert!(text.contains("\"sub\": \"42\""));
        assert!(text.ends_with("refused as a connection token (expired): the token has expired"));
        assert_eq!(json["claims"]["sub"], "42");
        let (text, json) = report(&Err(TokenError::Signature), Kind::Connection, &token);
        assert!(!text.contains("42") && json["claims"].is_null());
        assert_eq!(json["reason"], "bad_token");
        let anonymous = Ok(Accepted::Connection(Identity::default()));
        let (text, json) = report(&anonymous, Kind::Connection, &token);
        assert!(text.ends_with("accepted as a connection token: the anonymous user, for ever"));
        assert_eq!(json["ok"], true);
    }

    #[test]
    fn a_token_is_verified_as_what_it_is_for() {
        let mut client = Client::default();
        client.token.hmac_secret_key = Secret::new(SECRET);
        client.subscription_token.hmac_secret_key = Secret::new(SUBSCRIPTION_SECRET);
        let exp = humantime::parse_rfc3339("9999-01-01T00:00:00Z").unwrap();
        let exp = exp.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        client.token.lifetime_max = std::time::Duration::ZERO;
        client.subscription_token.lifetime_max = std::time::Duration::ZERO;
        let outcome = |rules, claims: Value| {
            let token = auth::sign(rules, &claims).unwrap();
            let (verdict, kind) = verify(&client, token.expose()).unwrap();
            report(&verdict, kind, token.expose())
        };
        let (connection, subscription) = (&client.token, &client.subscription_token);
        let (text, json) = outcome(subscription, json!({"sub": "42", "exp": exp, "channel": "$news"}));
        assert!(text.contains("accepted as a subscription token to $news: user 42, until 9999-"), "{text}");
        assert_eq!((&json["kind"], &json["channel"]), (&json!("subscription"), &json!("$news")));
        let (text, _) = outcome(connection, json!({"sub": "42", "exp": exp, "channel": "$news"}));
        assert!(text.starts_with("refused as a subscription token (bad_token)"), "{text}");
        let (_, json) = outcome(connection, json!({"sub": "42", "exp": exp}));
        assert_eq!((&json["kind"], &json["ok"]), (&json!("connection"), &json!(true)));
    }
}
