//! What the people ask who run a node, of that node alone: which lines it logs, and where its time goes.
//!
//! As [`v1`](super::v1), in HTTP's own terms and with a key in a header. Enter by [`routes`].

mod log_level;
mod profiles;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use super::door::Door;
use super::problem::Problem;
use crate::metrics::Metrics;
use crate::node::Node;

/// What the routes work with.
#[derive(Clone)]
pub struct Admin {
    /// The node.
    pub node: Arc<Node>,
    /// Whom they let in.
    pub door: Door,
    /// Whether there are profiles.
    pub has_profiles: bool,
}

/// `/admin/log-level`, and if there are profiles `/debug/pprof/profile`.
pub fn routes(admin: Admin) -> Router {
    let mut router =
        Router::new().route("/admin/log-level", only("GET, PUT", get(log_level).put(change_log_level)));
    if admin.has_profiles {
        router = router.route("/debug/pprof/profile", only("GET", get(profile)));
    }
    router.with_state(Arc::new(admin))
}

/// Has the counts of every resource begin at zero.
pub fn expect(metrics: &Metrics) {
    metrics.expect_api_method("log_level", &["ok"]);
    metrics.expect_api_method("profile", &["ok", "busy"]);
}

/// `handlers`, and for other verbs a word about which there are.
fn only(verbs: &'static str, handlers: MethodRouter<Arc<Admin>>) -> MethodRouter<Arc<Admin>> {
    handlers.fallback(move || async move { Problem::Method(verbs).into_response() })
}

async fn log_level(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    admin.serve("log_level", async { admin.log_level(request) }).await
}

async fn change_log_level(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    admin.serve("log_level", admin.change_log_level(request)).await
}

async fn profile(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    admin.serve("profile", admin.profile(request)).await
}

impl Admin {
    /// What `answer` answers, counted as a call of `name`.
    async fn serve<T: IntoResponse>(
        &self,
        name: &'static str,
        answer: impl Future<Output = Result<T, Problem>>,
    ) -> Response {
        let started_at = Instant::now();
        let result = answer.await;
        let outcome = result.as_ref().map_or_else(Problem::label, |_| "ok");
        self.node.metrics().api_request(name, outcome, started_at.elapsed());
        let mut response = result.into_response();
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}
