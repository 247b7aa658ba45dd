use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clarion::config::Config;
use serde_json::{Value, json};

/// Signs every good token.
pub(crate) const SECRET: &str = "kJ8s0QxW2nB7vL4tYc9mZ3hR6pA1dFgE";

/// The time in seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs()
}

/// The time that many seconds from now, to the fraction: a token that ends then is good until then.
pub(crate) fn after(seconds: f64) -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs_f64() + seconds
}

/// A token for `user` that is good for a node with `config`.
pub(crate) fn sign(config: &Config, user: &str) -> String {
    let rules = &config.client.token;
    let claims = json!({"sub": user, "exp": now() + 3600, "aud": rules.audience, "iss": rules.issuer});
    sign_claims(config, &claims)
}

/// A token with these claims.
pub(crate) fn sign_claims(config: &Config, claims: &Value) -> String {
    let token = clarion::auth::sign(&config.client.token, claims).expect("there is a key");
    token.expose().to_owned()
}

/// A token with a header of one's own, signed with HS256 whatever the header says.
pub(crate) fn forge(header: &Value, claims: &str, secret: &str) -> String {
    let message = format!("{}.{}", encode(&header.to_string()), encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// One part of a token.
pub(crate) fn encode(part: &str) -> String {
    URL_SAFE_NO_PAD.encode(part)
}
