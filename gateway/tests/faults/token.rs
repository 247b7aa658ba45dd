//! Tokens for clients, signed as an application does.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Signs every token (HS256).
pub(crate) const SECRET: &str = "kJ8s0QxW2nB7vL4tYc9mZ3hR6pA1dFgE";

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs()
}

/// A token for `user`, good for three hours: also for a node whose clock is wrong by one.
pub(crate) fn sign(user: &str) -> String {
    sign_claims(&json!({"sub": user, "exp": now() + 3 * 3_600}))
}

/// A token with these claims.
pub(crate) fn sign_claims(claims: &Value) -> String {
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let header = encode(&json!({"alg": "HS256", "typ": "JWT"}));
    let message = format!("{header}.{}", encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
    format!("{message}.{signature}")
}
