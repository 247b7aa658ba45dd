//! Requests under way, so that a node that stops can let them end, and then takes no more.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

/// What a request is told that comes too late: try another node, soon.
const CLOSED_HEADERS: [(HeaderName, &str); 2] = [(header::RETRY_AFTER, "1"), (header::CONNECTION, "close")];

/// Counts requests.
#[derive(Debug, Default)]
pub struct InFlight {
    requests: watch::Sender<Requests>,
}

#[derive(Debug, Default)]
struct Requests {
    count: usize,
    is_closed: bool,
}

/// One request; gone when it is answered or its client is.
struct Guard(Arc<InFlight>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.requests.send_modify(|requests| requests.count -= 1);
    }
}

impl InFlight {
    /// Counts the requests of `routes`.
    pub fn watch(self: &Arc<Self>, routes: Router) -> Router {
        routes.layer(middleware::from_fn_with_state(Arc::clone(self), count))
    }

    /// Takes no more requests, which are answered 503 from now on, and waits until none is under way, at most for
    /// `deadline`. Answers how many are.
    pub async fn close(&self, deadline: Duration) -> usize {
        self.requests.send_modify(|requests| requests.is_closed = true);
        let mut requests = self.requests.subscribe();
        // On a timeout the requests end with the process.
        drop(tokio::time::timeout(deadline, requests.wait_for(|requests| requests.count == 0)).await);
        self.requests.borrow().count
    }

    /// Counts a request, unless no more are taken.
    fn enter(self: &Arc<Self>) -> Option<Guard> {
        let is_taken = self.requests.send_if_modified(|requests| {
            requests.count += usize::from(!requests.is_closed);
            !requests.is_closed
        });
        is_taken.then(|| Guard(Arc::clone(self)))
    }
}

async fn count(State(in_flight): State<Arc<InFlight>>, request: Request, next: Next) -> Response {
    match in_flight.enter() {
        Some(_guard) => next.run(request).await,
        // Nothing of it was done, and another node takes it.
        None => (StatusCode::SERVICE_UNAVAILABLE, CLOSED_HEADERS, "the node stops\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_in_may_end_and_nobody_else_comes_in() {
        let in_flight = Arc::new(InFlight::default());
        let guard = in_flight.enter().unwrap();
        assert_eq!(in_flight.close(Duration::from_secs(1)).await, 1);
        assert!(in_flight.enter().is_none());
        drop(guard);
        assert_eq!(in_flight.close(Duration::from_secs(1)).await, 0);
    }
}
