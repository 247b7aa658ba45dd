use std::io::{self, Read as _};
use std::time::SystemTime;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use serde_json::{Value, json};

use super::output::Output;
use super::{ConfigFile, Failure};
use crate::auth::{TokenError, TokenVerifier};
use crate::model::{Identity, Secret};

/// Stands for standard input.
const STDIN: &str = "-";
/// More than any token, to read no endless input.
const STDIN_BYTES_MAX: u64 = 64 * 1024;

/// Say whether a token is accepted, and what it says
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
        let verifier = TokenVerifier::for_connections(&config.client).map_err(Failure::usage)?;
        let token = self.token()?;
        let verdict = verifier.verify(token.expose(), SystemTime::now());
        let (text, json) = report(&verdict, token.expose());
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

/// The verdict for people and for scripts. Claims are shown only of a token whose signature is good.
fn report(verdict: &Result<Identity, TokenError>, token: &str) -> (String, Value) {
    match verdict {
        Ok(identity) => {
            let claims = claims(token);
            let user = identity.user.as_str();
            let expires =
                identity.expires_at.map(humantime::format_rfc3339_seconds).map(|time| time.to_string());
            let who = if user.is_empty() { "the anonymous user".into() } else { format!("user {user}") };
            let until = expires.as_deref().map_or("for ever".into(), |time| format!("until {time}"));
            let text = format!("{claims:#}\naccepted: {who}, {until}");
            (text, json!({ "ok": true, "user": user, "expires_at": expires, "claims": claims }))
        }
        Err(error) => {
            let claims = if error.is_authentic() { claims(token) } else { Value::Null };
            let message = in_words(*error);
            let shown = if claims.is_null() { String::new() } else { format!("{claims:#}\n") };
            let text = format!("{shown}refused ({}): {message}", error.reason());
            (text, json!({ "ok": false, "reason": error.reason(), "message": message, "claims": claims }))
        }
    }
}

fn in_words(error: TokenError) -> String {
    match error {
        TokenError::Claim("channel") => {
            "this is a subscription token (it has the claim `channel`): it is not for connecting".into()
        }
        TokenError::Signature => format!("{error}: it was signed with another, or altered"),
        error => error.to_string(),
    }
}

/// The claims of a token that has been verified.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    payload.and_then(|payload| serde_json::from_slice(&payload).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_authentic_token_is_shown() {
        let token = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(r#"{"sub":"42"}"#));
        let (text, json) = report(&Err(TokenError::Expired), &token);
        assert!(
            text.contains("\"sub\": \"42\"") && text.ends_with("refused (expired): the token has expired")
        );
        assert_eq!(json["claims"]["sub"], "42");
        let (text, json) = report(&Err(TokenError::Signature), &token);
        assert!(!text.contains("42") && json["claims"].is_null());
        assert_eq!(json["reason"], "bad_token");
        let (text, json) = report(&Ok(Identity::default()), &token);
        assert!(text.ends_with("accepted: the anonymous user, for ever"));
        assert_eq!(json["ok"], true);
    }
}
