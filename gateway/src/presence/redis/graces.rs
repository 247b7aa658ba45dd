//! Takes out those who lingered and did not come back. Whoever takes one out sees to it that its leave is announced.
//!
//! Each owner has a list of them by the time when their grace is over. Who came back stays in it until then: by that an
//! owner who asks twice whether somebody lingers knows that it did.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use super::reaping::{TAKEN_MAX, batches, go_on_if_refused};
use super::room::{Due, due, graces, read_name};
use crate::model::{Channel, NodeEpoch};
use crate::presence::PresenceError;
use crate::redis::{Call, Instance};

impl Inner {
    /// Takes out whose grace is over; answers after how long that of the next one is.
    pub(super) async fn expire(
        self: &Arc<Self>,
        owner: NodeEpoch,
    ) -> Result<Option<Duration>, PresenceError> {
        let mut next = None;
        for instance in self.redis.instances() {
            let rest = self.expire_in(instance, owner).await?;
            next = next.into_iter().chain(rest).min();
        }
        Ok(next)
    }

    async fn expire_in(
        self: &Arc<Self>,
        instance: &Arc<Instance>,
        owner: NodeEpoch,
    ) -> Result<Option<Duration>, PresenceError> {
        let key = graces(self.redis.names(), owner);
        loop {
            let (rest_ms, names): Due = instance.call(due(&key, TAKEN_MAX)).await?;
            if names.is_empty() {
                return Ok(u64::try_from(rest_ms).ok().map(Duration::from_millis));
            }
            self.take_lingering(instance, &names).await?;
            // Afterwards: of who is not in the list nobody knows.
            let _gone: u64 = instance.call(Call::command("ZREM").arg(&key).arg(&names)).await?;
        }
    }

    async fn take_lingering(
        self: &Arc<Self>,
        instance: &Arc<Instance>,
        names: &[Vec<u8>],
    ) -> Result<(), PresenceError> {
        let mut found: HashMap<Channel, Vec<Vec<u8>>> = HashMap::new();
        for (client, channel) in names.iter().filter_map(|name| read_name(name)) {
            found.entry(channel).or_default().push(client);
        }
        let found = found.iter().map(|(channel, clients)| (channel, clients.clone())).collect();
        for batch in batches(found) {
            self.departures.room().await;
            let mut refused = Ok(());
            go_on_if_refused(self.take(instance, batch, NodeEpoch::NOBODY).await, &mut refused)?;
            if let Err(error) = refused {
                tracing::warn!(%error, "could not take out who did not come back; what is there ends with its time");
            }
        }
        Ok(())
    }
}
