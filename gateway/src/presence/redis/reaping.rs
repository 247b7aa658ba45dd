//! Takes out the members of owners that are gone. Whoever takes one out sees to it that its leave is announced.

use std::collections::HashSet;
use std::sync::Arc;

use super::entry;
use super::room::{Entries, Kind, PAGE, Page, Room, index};
use super::{CLEARING_MAX, Departed, Inner, together};
use crate::model::{Channel, NodeEpoch};
use crate::presence::PresenceError;
use crate::redis::{Call, Instance};

impl Inner {
    /// Takes out all members of an owner, channel by channel of its index.
    pub(super) async fn reap(&self, owner: NodeEpoch) -> Result<(), PresenceError> {
        for instance in self.redis.instances() {
            let key = index(self.redis.names(), owner);
            let mut cursor = 0;
            loop {
                let scan = Call::command("SSCAN").arg(&key).arg(cursor).arg("COUNT").arg(PAGE);
                let (next, channels): (u64, Vec<String>) = instance.call(scan).await?;
                self.reap_channels(instance, owner, &channels).await?;
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn reap_channels(
        &self,
        instance: &Instance,
        owner: NodeEpoch,
        channels: &[String],
    ) -> Result<(), PresenceError> {
        let channels = channels.iter().filter_map(|name| Channel::parse(name, usize::MAX).ok());
        let channels: Vec<_> = channels.collect();
        let first_page =
            |channel: &Channel| Room::new(self.redis.names(), channel).owned(Kind::Listed, owner, 0);
        // Most channels are small: a page of each is taken out by two calls for all of them together.
        let pages = together::<Page>(instance, channels.iter().map(first_page).collect()).await?;
        let pages = channels.iter().zip(pages).filter_map(|(channel, page)| Some((channel, page.ok()?.1)));
        let pages: Vec<_> = pages.filter(|(_, clients)| !clients.is_empty()).collect();
        self.departures.room().await;
        let take = |(channel, clients): &(&Channel, Vec<_>)| {
            Room::new(self.redis.names(), channel).take(clients, owner)
        };
        let taken = together::<Entries>(instance, pages.iter().map(take).collect()).await?;
        for ((channel, _), taken) in pages.iter().zip(taken) {
            self.depart(channel, &taken.unwrap_or_default());
        }
        for channel in channels {
            match self.clear(&channel, owner).await {
                Err(PresenceError::Unavailable) => return Err(PresenceError::Unavailable),
                Err(error @ PresenceError::Refused) => {
                    tracing::warn!(%error, "could not clear a channel of who died; what is there ends with its time");
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Takes the members of an owner out of a channel.
    pub(super) async fn clear(&self, channel: &Channel, owner: NodeEpoch) -> Result<(), PresenceError> {
        self.take_owned(channel, owner, |_| true).await
    }

    /// Does so for each of these owners, without waiting for it.
    pub(super) fn clear_later(self: &Arc<Self>, channel: &Channel, owners: &HashSet<NodeEpoch>) {
        for owner in owners {
            let (inner, task) = (Arc::clone(self), (channel.clone(), *owner));
            let mut clearing = self.clearing.lock();
            if clearing.len() < CLEARING_MAX && clearing.insert(task.clone()) {
                tokio::spawn(async move {
                    if let Err(error) = inner.clear(&task.0, task.1).await {
                        tracing::debug!(%error, "could not clear a channel of who died; the next reader tries again");
                    }
                    inner.clearing.lock().remove(&task);
                });
            }
        }
    }

    /// Takes out those clients of an owner that are `wanted`, page by page.
    pub(super) async fn take_owned(
        &self,
        channel: &Channel,
        owner: NodeEpoch,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<(), PresenceError> {
        let (room, instance) = self.room(channel);
        for kind in [Kind::Listed, Kind::Hidden] {
            let mut cursor = 0;
            loop {
                let (next, mut clients): Page = instance.call(room.owned(kind, owner, cursor)).await?;
                clients.retain(|client| wanted(client));
                if !clients.is_empty() {
                    self.departures.room().await;
                    let taken: Entries = instance.call(room.take(&clients, owner)).await?;
                    self.depart(channel, &taken);
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        // Also without clients: the channel leaves the index.
        instance.call::<Entries>(room.take(&[], owner)).await?;
        Ok(())
    }

    fn depart(&self, channel: &Channel, taken: &Entries) {
        let announced = taken.iter().filter_map(|(client, entry)| entry::departing(client, entry));
        self.departures.push(announced.map(|info| Departed { channel: channel.clone(), info }));
    }
}
