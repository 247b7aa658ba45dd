//! Tokens for clients, signed as an application does.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

/// How long a token is good. Longer than a run, below the day that gateways take at most by default.
const LIFETIME_SECONDS: u64 = 12 * 60 * 60;

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    exp: u64,
}

/// A token for `user` (HS256), good for twelve hours.
pub(crate) fn sign(user: &str, secret: &str) -> String {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is not before 1970");
    let claims = Claims { sub: user, exp: since_1970.as_secs() + LIFETIME_SECONDS };
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .expect("two plain claims and a key of bytes can be signed")
}
