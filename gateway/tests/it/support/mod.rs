//! What tests need around a gateway: clients of every kind, tokens, metrics, the real binary.
//!
//! Everything that waits does so for a fact and gives up after [`PATIENCE`], saying what it waited for.

mod certificates;
mod client;
mod collector;
mod gateway;
mod http;
mod metrics;
mod process;
mod protobuf;
mod proxy;
mod raw;
mod redis;
mod tls;
mod token;

use std::time::Duration;

pub(crate) use certificates::{TempDirectory, certificates};
pub(crate) use client::{Client, Publication};
pub(crate) use collector::{Collector, Span};
pub(crate) use gateway::{API_KEY, Gateway, config, namespace};
pub(crate) use http::{Answer, get, post, request};
pub(crate) use process::Process;
pub(crate) use protobuf::{ProtobufClient, replies, schema};
pub(crate) use proxy::Proxy;
pub(crate) use raw::{Raw, bare_path, frame, upgrade_request};
pub(crate) use redis::{OwnRedis, Redis, Server, documented_redis_user, free_port};
pub(crate) use tls::{Authority, Files, Shown};
pub(crate) use token::{SECRET, after, encode, forge, now, sign, sign_claims};

/// How long a fact may take: far more than it does, on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at a fact that nobody announces.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What `future` brings, if it comes in time.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("still waiting for {what} after {PATIENCE:?}"),
    }
}

/// Looks again and again until `holds` does.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !holds().await {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
    .await;
}
