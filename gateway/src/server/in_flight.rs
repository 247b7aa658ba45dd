//! Requests under way, so that a node that stops can let them end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use tokio::sync::watch;

/// Counts requests.
#[derive(Debug)]
pub struct InFlight(watch::Sender<usize>);

impl Default for InFlight {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

/// One request; gone when it is answered or its client is.
struct Guard(Arc<InFlight>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

impl InFlight {
    /// Counts the requests of `routes`.
    pub fn watch(self: &Arc<Self>, routes: Router) -> Router {
        routes.layer(middleware::from_fn_with_state(Arc::clone(self), count))
    }

    /// Waits until no request is under way, at most for `deadline`.
    pub async fn ended(&self, deadline: Duration) {
        let mut count = self.0.subscribe();
        // On a timeout the requests end with the process.
        drop(tokio::time::timeout(deadline, count.wait_for(|count| *count == 0)).await);
    }
}

async fn count(State(in_flight): State<Arc<InFlight>>, request: Request, next: Next) -> Response {
    in_flight.0.send_modify(|count| *count += 1);
    let _guard = Guard(in_flight);
    next.run(request).await
}
