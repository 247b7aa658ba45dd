//! The server API in HTTP's own terms, under `/v1/`: statuses say how it went, and an error is a problem (RFC 9457).
//!
//! Beside [`api`](super::api), which is as existing libraries call it, and on the same node. The key comes in a header,
//! never in the query; fields that nothing uses are refused. Enter by [`routes`].

mod revocations;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::door::Door;
use super::problem::Problem;
use crate::metrics::Metrics;
use crate::node::Node;

/// What the routes work with.
#[derive(Clone)]
pub struct V1 {
    /// The node.
    pub node: Arc<Node>,
    /// Whom they let in.
    pub door: Door,
    /// How long a token can be good from now on; zero: for ever.
    pub token_lifetime_max: Duration,
}

/// What is said of the routes to machines: OpenAPI 3.1. Written by hand, for it says more than types do, and held to the
/// routes by tests.
const OPENAPI: &str = include_str!("v1/openapi.json");

/// Every resource under `/v1/`, and `/openapi.json`, which describes them to whoever asks.
pub fn routes(v1: V1) -> Router {
    let revocations = post(|State(v1): State<Arc<V1>>, request| async move { v1.serve(request).await });
    Router::new()
        .route("/v1/revocations", revocations.fallback(|| async { Problem::Method("POST").into_response() }))
        .route("/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) }))
        .with_state(Arc::new(v1))
}

/// Has the counts of every resource begin at zero.
pub fn expect(metrics: &Metrics) {
    metrics.expect_api_method("revocations", &["ok", "unavailable", "full"]);
}

impl V1 {
    /// `POST /v1/revocations`
    async fn serve(&self, request: Request) -> Response {
        let started_at = Instant::now();
        let result = self.revoke(request).await;
        let outcome = result.as_ref().map_or_else(Problem::label, |_| "ok");
        self.node.metrics().api_request("revocations", outcome, started_at.elapsed());
        let mut response = match result {
            Ok(created) => (StatusCode::CREATED, axum::Json(created)).into_response(),
            Err(problem) => problem.into_response(),
        };
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}
