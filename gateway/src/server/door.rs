//! Who may ask for what, in HTTP's own terms: keys in headers, scopes, and bodies that are read within limits.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;

use super::access::Caller;
use super::body;
use super::problem::Problem;
use crate::auth::ApiKeys;
use crate::config::{self, Scope};

/// How much of the name of an unknown field is repeated, in characters.
const NAME_MAX: usize = 64;

/// Whom a resource lets in, and what it reads of them.
#[derive(Clone)]
pub struct Door {
    /// Who may call.
    pub keys: ApiKeys,
    /// Limits, and whether keys are asked for.
    pub config: config::Api,
}

impl Door {
    /// The body of a request whose sender may do what `scope` allows.
    pub(super) async fn admit(&self, scope: Scope, request: Request) -> Result<Bytes, Problem> {
        let (head, body) = request.into_parts();
        self.caller(scope, &head)?;
        self.json(&head, body).await
    }

    /// The sender of a request, who may do what `scope` allows.
    pub(super) fn caller(&self, scope: Scope, head: &Parts) -> Result<Caller<'_>, Problem> {
        let caller = Caller::identify_by_header(&self.keys, self.config.insecure, head);
        let caller = caller.ok_or(Problem::Unauthorized)?;
        tracing::trace!(api.key = caller.name(), "server API is called");
        if caller.may(scope) { Ok(caller) } else { Err(Problem::Forbidden) }
    }

    /// The body of a request, which says that it is JSON.
    pub(super) async fn json(&self, head: &Parts, body: Body) -> Result<Bytes, Problem> {
        if !is_json(head) {
            return Err(Problem::ContentType);
        }
        let body = body::read(head, body, self.config.body_bytes_max, self.config.timeout).await;
        body.map_err(|status| match status {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::ContentType,
            StatusCode::REQUEST_TIMEOUT => Problem::Timeout,
            _ => Problem::Malformed("the body broke off".into()),
        })
    }
}

/// Whether the body says that it is JSON; parameters do not matter (RFC 8259 §11).
fn is_json(head: &Parts) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The one object that `text` is, whose fields are `known`: a list to show.
pub(super) fn decode<T: DeserializeOwned>(text: &[u8], known: &str) -> Result<T, Problem> {
    // A derived structure would also take an array of its fields.
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(malformed("the body must be a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let object = serde_path_to_error::deserialize(&mut json).map_err(|error| explain(&error, known))?;
    json.end().map_err(|_| malformed("the body must be one JSON object"))?;
    Ok(object)
}

/// What is wrong, without the value that is.
fn explain(error: &serde_path_to_error::Error<serde_json::Error>, known: &str) -> Problem {
    let message = error.inner().to_string();
    let field = message.split('`').nth(1).unwrap_or_default();
    let field: String = field.chars().take(NAME_MAX).collect();
    let path = error.path().to_string();
    if message.starts_with("unknown field") {
        Problem::Malformed(format!("unknown field `{field}`; known are {known}"))
    } else if message.starts_with("missing field") {
        Problem::Malformed(format!("`{field}` is missing"))
    } else if message.starts_with("duplicate field") {
        Problem::Malformed(format!("`{field}` is there twice"))
    } else if error.inner().is_data() {
        Problem::Malformed(format!("`{path}` has a value of the wrong type"))
    } else {
        malformed("the body is not JSON")
    }
}

fn malformed(detail: &str) -> Problem {
    Problem::Malformed(detail.into())
}
