//! Announces the leaves of those who were taken out without a seat's doing: whose node died, or forgot them.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::broker::Broker;
use crate::model::Notice;
use crate::presence::{Departed, Presence};

/// Announces for ever.
///
/// Of the nodes that notice a death each takes out some of the dead node's members, and announces just those.
pub(super) async fn announce(broker: Arc<dyn Broker>, presence: Arc<dyn Presence>) {
    loop {
        let departed = presence.departed().await;
        join_all(departed.into_iter().map(|departed| tell(&*broker, departed))).await;
        // Backends in memory never wait.
        tokio::task::yield_now().await;
    }
}

async fn tell(broker: &dyn Broker, Departed { channel, info }: Departed) {
    if let Err(error) = broker.announce(&channel, Notice::Leave(info)).await {
        tracing::warn!(%error, "could not announce who left with its node");
    }
}
