//! What operators and Kubernetes ask: live, ready, metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::admission::Admission;
use crate::node::Node;
use crate::shard::Budget;
use crate::telemetry;

/// Where the node is in its life.
#[derive(Debug, Default)]
pub struct Phase {
    started: AtomicBool,
    stopping: AtomicBool,
}

impl Phase {
    /// Every listener accepts.
    pub fn start(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// The node was told to stop.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// The checks of readiness, each with its name.
    fn checks(&self) -> [(&'static str, bool); 2] {
        let started = self.started.load(Ordering::Acquire);
        [("started", started), ("not_stopping", !self.stopping.load(Ordering::Acquire))]
    }
}

/// What the routes look at.
#[derive(Clone)]
pub struct Ops {
    /// Where the node is in its life.
    pub phase: Arc<Phase>,
    /// The node.
    pub node: Arc<Node>,
    /// What is queued for connections.
    pub budget: Arc<Budget>,
    /// Who is let in.
    pub admission: Arc<Admission>,
}

/// `/livez`, `/readyz`, `/readyz/broker` and `/metrics`.
pub fn routes(ops: Ops) -> Router {
    Router::new()
        // Whoever answers is alive: this never looks at anything that could be slow or away.
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/readyz/broker", get(hears_broker))
        .route("/metrics", get(metrics))
        .with_state(ops)
}

/// 200 when every check passes, else 503. `?verbose` lists the checks.
async fn ready(State(ops): State<Ops>, RawQuery(query): RawQuery) -> Response {
    let [started, not_stopping] = ops.phase.checks();
    let broker = ("broker", ops.node.cluster().is_ready());
    let checks = [started, not_stopping, broker, ("connections_soft_max", ops.admission.has_room())];
    let is_ready = checks.iter().all(|(_, passes)| *passes);
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verdict = if is_ready { "ok\n" } else { "not ready\n" };
    if query.as_deref() != Some("verbose") {
        return (status, verdict).into_response();
    }
    let line = |(name, passes): (&str, bool)| format!("[{}] {name}\n", if passes { '+' } else { '-' });
    (status, checks.map(line).concat() + verdict).into_response()
}

/// 200 if this node hears its broker now, else 503: what other nodes ask that do not.
async fn hears_broker(State(ops): State<Ops>) -> Response {
    match ops.node.cluster().hears_broker() {
        true => "ok\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "deaf\n").into_response(),
    }
}

async fn metrics(State(ops): State<Ops>) -> Response {
    let Ops { node, budget, .. } = ops;
    node.metrics().logs_dropped(telemetry::dropped_lines());
    node.metrics().logs_suppressed(telemetry::suppressed_lines());
    let text = node.metrics().render(budget.used_bytes());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
