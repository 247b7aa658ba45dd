//! What development serves beside everything else: one page to try the gateway with.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use crate::auth;
use crate::config::Token;

const PAGE: &str = include_str!("playground/page.html");
const STYLE: &str = include_str!("playground/style.css");
const SCRIPT: &str =
    concat!("\"use strict\";\n", include_str!("playground/client.js"), include_str!("playground/page.js"));
/// How long a token of the playground is good.
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 3600);

#[derive(Clone)]
struct Playground {
    page: Arc<str>,
    policy: HeaderValue,
    token: Arc<Token>,
    api_key: Arc<str>,
}

/// The page at `/`, tokens for any user at `/dev/token?user=`, and what the page shows at `/dev/info`.
///
/// For development on the loopback alone: whoever reaches it can be anybody.
pub fn routes(token: Token, api_key: String) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/dev/token", get(sign))
        .route("/dev/info", get(info))
        .with_state(Playground {
            page: assemble().into(),
            policy: policy(),
            token: Arc::new(token),
            api_key: api_key.into(),
        })
}

async fn page(State(playground): State<Playground>) -> Response {
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    let headers = [(header::CONTENT_TYPE, html), (header::CONTENT_SECURITY_POLICY, playground.policy)];
    (headers, playground.page.to_string()).into_response()
}

/// The page with its style and its script in it, so that it asks for nothing else.
fn assemble() -> String {
    PAGE.replacen("{style}", STYLE, 1).replacen("{script}", SCRIPT, 1)
}

/// Lets the page use its own style, its own script and this gateway, and nothing else.
fn policy() -> HeaderValue {
    let policy = format!(
        "default-src 'none'; img-src data:; style-src {}; script-src {}; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        source_hash(STYLE),
        source_hash(SCRIPT)
    );
    HeaderValue::try_from(policy).expect("hashes are valid in a header")
}

/// By which the policy allows an element with that content (CSP level 3, §2.3.1).
fn source_hash(content: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, content.as_bytes())))
}

#[derive(Deserialize)]
struct Who {
    user: String,
}

async fn sign(State(playground): State<Playground>, Query(who): Query<Who>) -> Response {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let claims =
        json!({"sub": who.user, "exp": (now + TOKEN_LIFETIME).as_secs(), "info": {"name": who.user}});
    match auth::sign(&playground.token, &claims) {
        Ok(token) => {
            let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
            (no_store, Json(json!({"token": token.expose()}))).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn info(State(playground): State<Playground>) -> Response {
    Json(json!({"api_key": &*playground.api_key, "version": env!("CARGO_PKG_VERSION")})).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_one_style_and_the_one_script_that_the_policy_allows() {
        let page = assemble();
        for (tag, content) in [("style", STYLE), ("script", SCRIPT)] {
            assert_eq!(page.matches(&format!("<{tag}")).count(), 1);
            assert!(page.contains(&format!("<{tag}>{content}</{tag}>")));
        }
    }
}
