//! A collector of traces behind a proxy, by which it can be gone, hang, or be slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::proxy::Proxy;

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Collector {
    /// Whoever sends traces goes through this.
    pub(crate) proxy: Proxy,
    batches: Arc<AtomicU64>,
    serving: AbortHandle,
}

impl Collector {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let proxy = Proxy::start(listener.local_addr()?).await?;
        let batches = Arc::<AtomicU64>::default();
        let taken = Arc::clone(&batches);
        let take = post(async move |_: Bytes| {
            taken.fetch_add(1, Ordering::Relaxed);
        });
        let router = Router::new().route("/v1/traces", take);
        let serving = tokio::spawn(async { axum::serve(listener, router).await }).abort_handle();
        Ok(Self { proxy, batches, serving })
    }

    /// What goes into `otlp.endpoint`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.proxy.address())
    }

    /// How many batches of spans it took.
    pub(crate) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
