//! What a node shares with others, or has for itself: broker, presence, registry.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::machine;
use crate::auth::Authority;
use crate::broker::{MemoryBroker, RedisBroker};
use crate::cluster::{self, RedisRegistry};
use crate::config::{BrokerType, Config};
use crate::metrics::Metrics;
use crate::model::{NodeId, Tenure};
use crate::node::{Backends, Dispatch, PresenceSettings};
use crate::presence::{Heartbeats, MemoryPresence, RedisPresence};
use crate::redis::{Redis, Unsuitable};

/// How often the memory of expired histories and leases is given back.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What `config` asks for. Works on `backbone`.
///
/// # Errors
/// [`Unsuitable`] when a Redis answers that cannot be used.
pub(super) fn make(
    config: &Config,
    authority: &Authority,
    dispatch: &Arc<Dispatch>,
    metrics: &Arc<Metrics>,
    backbone: &Runtime,
) -> Result<Backends, Unsuitable> {
    match config.broker.kind {
        BrokerType::Memory => Ok(in_memory(config, authority, dispatch, metrics, backbone)),
        BrokerType::Redis => in_redis(config, authority, dispatch, metrics, backbone),
    }
}

/// What a node needs to stand alone. Its memory is swept on `backbone`.
fn in_memory(
    config: &Config,
    authority: &Authority,
    dispatch: &Arc<Dispatch>,
    metrics: &Metrics,
    backbone: &Runtime,
) -> Backends {
    let broker = Arc::new(MemoryBroker::new(Arc::clone(dispatch) as _));
    let presence = Arc::new(MemoryPresence::new());
    backbone.spawn(sweep(Arc::clone(&broker), Arc::clone(&presence)));
    metrics.broker_up(true);
    Backends {
        broker,
        presence,
        presence_settings: presence_settings(config),
        cluster: cluster::Options::alone(Arc::clone(authority.revocations())),
    }
}

/// What a node needs that is one of many.
fn in_redis(
    config: &Config,
    authority: &Authority,
    dispatch: &Arc<Dispatch>,
    metrics: &Arc<Metrics>,
    backbone: &Runtime,
) -> Result<Backends, Unsuitable> {
    let id = NodeId::random();
    let redis = backbone.block_on(Redis::start(&config.broker.redis, id, metrics))?;
    backbone.spawn(crate::redis::warn_of_rights(config.broker.redis.clone()));
    let broker = RedisBroker::traced(
        Arc::clone(&redis),
        Arc::clone(dispatch) as _,
        Arc::clone(metrics),
        backbone.handle(),
        dispatch.traces().clone(),
    );
    // After an outage every node has had time to be heard twice.
    let grace = config.cluster.heartbeat_interval * 2;
    let heartbeats = Heartbeats::new(Arc::clone(&redis));
    let presence = Arc::new(RedisPresence::new(Arc::clone(&redis), Arc::new(heartbeats)));
    Ok(Backends {
        broker,
        presence,
        presence_settings: presence_settings(config),
        cluster: cluster::Options {
            id,
            registry: Arc::new(RedisRegistry::new(Arc::clone(&redis), grace)),
            revocations: Arc::clone(authority.revocations()),
            heartbeat_interval: config.cluster.heartbeat_interval,
            node_ttl: config.cluster.node_ttl,
            user_connections_max: config.client.user_connections_max,
            handshakes_per_second: machine::handshakes_per_second(config),
            is_rebalancing: config.rebalance.enabled,
            tenure: watch::Sender::new(Tenure::unheard()),
            hearing: Some(redis.home().hearing()),
            tls: config.internal.tls.files(),
        },
    })
}

fn presence_settings(config: &Config) -> PresenceSettings {
    PresenceSettings {
        ttl: config.channel.presence_ttl,
        update_interval: config.client.presence_update_interval,
    }
}

/// Gives back what broker and presence need not keep any more, for ever.
async fn sweep(broker: Arc<MemoryBroker>, presence: Arc<MemoryPresence>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        broker.sweep().await;
        presence.sweep();
    }
}
