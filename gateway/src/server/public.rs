//! The public routes: client transports.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use axum::routing::any;

use crate::transport::websocket::{self, Endpoint, Gate};

/// Routes of the public listener. Everything else is 404.
pub fn routes(gate: Arc<Gate>) -> Router {
    Router::new()
        .route("/connection/websocket", any(native))
        .route("/ws", any(bare))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .with_state(gate)
}

async fn native(State(gate): State<Arc<Gate>>, request: Request) -> Response<Body> {
    websocket::respond(&gate, Endpoint::Native, &request)
}

async fn bare(State(gate): State<Arc<Gate>>, request: Request) -> Response<Body> {
    websocket::respond(&gate, Endpoint::Bare, &request)
}
