//! Three gateways that share a Redis: one is published at, the others hold the subscribers.

use anyhow::{Context as _, Result};
use serde_json::json;

use super::options::Options;
use super::redis_server::RedisServer;
use super::server::Server;

/// Begins the names of channels without a history.
pub(crate) const PLAIN: &str = "plain:";
/// Begins the names of channels that keep one, which is what lost publications are read from.
pub(crate) const KEPT: &str = "kept:";
/// How many publications those keep.
const HISTORY_SIZE: u32 = 100;

/// See the module's doc.
pub(crate) struct Cluster {
    /// Where is published; it has no subscribers.
    pub(crate) publishing: Server,
    /// Where the subscribers are.
    pub(crate) receiving: [Server; 2],
    pub(crate) redis: RedisServer,
}

impl Cluster {
    /// Starts all four and waits until they hear one another.
    pub(crate) fn start(options: &Options) -> Result<Self> {
        let redis = RedisServer::start(options)?;
        let kept = json!({
            "name": KEPT.trim_end_matches(':'),
            "allow_subscribe_for_client": true,
            "history_size": HISTORY_SIZE,
            "history_ttl": "1m",
            "force_recovery": true,
        });
        let plain = json!({"name": PLAIN.trim_end_matches(':'), "allow_subscribe_for_client": true});
        let settings = json!({
            "broker": {"type": "redis", "redis": {"address": format!("redis://{}", redis.address())}},
            "channel": {"namespaces": [plain, kept]},
        });
        let start = || Server::start_with(options, &settings).context("starting a node");
        Ok(Self { publishing: start()?, receiving: [start()?, start()?], redis })
    }

    /// Ends the nodes.
    ///
    /// # Errors
    /// One did not end as it should.
    pub(crate) fn stop(self) -> Result<()> {
        self.publishing.stop()?;
        self.receiving.into_iter().try_for_each(Server::stop)
    }
}
