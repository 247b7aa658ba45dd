//! Takes out the members of owners that are gone. Whoever takes one out sees to it that its leave is announced.
//!
//! An answer may be lost, and with it who was taken out. So what is taken out is written down in Redis in the same
//! step, under a ticket that only this taker knows, and without an answer it is looked up there. By the look the ticket
//! ends: a call that Redis runs later than that takes nobody out.

use std::collections::{HashSet, VecDeque};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::entry;
use super::room::{Entries, Kind, PAGE, Page, Receipts, Ticket, index};
use super::{CLEARING_MAX, Departed, Inner, together};
use crate::model::{Channel, NodeEpoch};
use crate::presence::PresenceError;
use crate::redis::{Call, Failure, Instance};

/// Most clients that are taken out in one round trip, which has to be over in far less than `command_timeout`.
pub(super) const TAKEN_MAX: usize = 1_000;
/// Most hashes that are looked into in one round trip.
const SCANS_MAX: usize = 64;
/// For how long it is asked who was taken out, and how often.
const LOOKED_UP_FOR: Duration = Duration::from_secs(600);
const LOOKED_UP_EVERY: Duration = Duration::from_millis(250);

/// Clients that are taken out in one round trip, by channel.
pub(super) type Batch = Vec<(Channel, Vec<Vec<u8>>)>;

/// How far a hash has been looked through.
struct Scan<'a> {
    channel: &'a Channel,
    kind: Kind,
    cursor: u64,
}

impl Inner {
    /// Takes out all members of an owner, some channels of its index at a time.
    pub(super) async fn reap(self: &Arc<Self>, owner: NodeEpoch) -> Result<(), PresenceError> {
        for instance in self.redis.instances() {
            let key = index(self.redis.names(), owner);
            let mut cursor = 0;
            loop {
                let scan = Call::command("SSCAN").arg(&key).arg(cursor).arg("COUNT").arg(PAGE);
                let (next, channels): (u64, Vec<String>) = instance.call(scan).await?;
                let channels = channels.iter().filter_map(|name| Channel::parse(name, usize::MAX).ok());
                let channels: Vec<_> = channels.collect();
                match self.take_owned(instance, &channels, owner, |_| true).await {
                    Err(error @ PresenceError::Refused) => {
                        tracing::warn!(%error, "could not clear a channel of who died; what is there ends with its time");
                    }
                    outcome => outcome?,
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Takes the members of an owner out of a channel.
    pub(super) async fn clear(
        self: &Arc<Self>,
        channel: &Channel,
        owner: NodeEpoch,
    ) -> Result<(), PresenceError> {
        let instance = self.redis.instance_of(channel);
        self.take_owned(instance, slice::from_ref(channel), owner, |_| true).await
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

    /// Takes those clients of an owner out of channels that live in one place that are `wanted`.
    ///
    /// Refused if some of the channels hold something else; all others are done.
    pub(super) async fn take_owned(
        self: &Arc<Self>,
        instance: &Arc<Instance>,
        channels: &[Channel],
        owner: NodeEpoch,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<(), PresenceError> {
        let scans = |channel| [Kind::Listed, Kind::Hidden].map(|kind| Scan { channel, kind, cursor: 0 });
        let mut scans: VecDeque<_> = channels.iter().flat_map(scans).collect();
        let mut outcome = Ok(());
        while !scans.is_empty() {
            let some: Vec<_> = scans.drain(..scans.len().min(SCANS_MAX)).collect();
            // Most channels are small: of many, little of each is a page.
            let count = PAGE / some.len();
            let call =
                |scan: &Scan<'_>| self.room(scan.channel).0.owned(scan.kind, owner, scan.cursor, count);
            let pages = together::<Page>(instance, some.iter().map(call).collect()).await?;
            let mut found = Vec::with_capacity(some.len());
            for (scan, page) in some.into_iter().zip(pages) {
                let page = page.map_err(PresenceError::from);
                if let Some((next, mut clients)) = go_on_if_refused(page, &mut outcome)? {
                    clients.retain(|client| wanted(client));
                    found.push((scan.channel, clients));
                    scans.extend((next != 0).then_some(Scan { cursor: next, ..scan }));
                }
            }
            for batch in batches(found) {
                self.departures.room().await;
                go_on_if_refused(self.take(instance, batch, owner).await, &mut outcome)?;
            }
        }
        // Also without clients: the channels leave the index.
        let leave = |channel| self.room(channel).0.take(&[], owner, None);
        for left in together::<Entries>(instance, channels.iter().map(leave).collect()).await? {
            go_on_if_refused(left.map_err(PresenceError::from), &mut outcome)?;
        }
        outcome
    }

    /// Takes clients out, who depart. Without an answer they do when there is one, however long that takes.
    pub(super) async fn take(
        self: &Arc<Self>,
        instance: &Arc<Instance>,
        batch: Batch,
        owner: NodeEpoch,
    ) -> Result<(), PresenceError> {
        let permit = Arc::clone(&self.taking).try_acquire_owned().map_err(|_| PresenceError::Unavailable)?;
        let (inner, instance) = (Arc::clone(self), Arc::clone(instance));
        let (answer, answered) = oneshot::channel();
        // By itself: whoever asked for it may go away in the middle of it.
        tokio::spawn(async move {
            let ticket = Ticket::new(inner.redis.names());
            let taken = inner.try_to_take(&instance, &batch, owner, &ticket).await;
            // Who asked has gone away.
            let _gone = answer.send(taken);
            if taken == Err(Failure::Unavailable) {
                inner.look_up(&instance, &ticket).await;
            } else if let Err(failure) = instance.call::<u8>(ticket.forget()).await {
                tracing::debug!(%failure, "who was taken out stays written down for a while");
            }
            drop(permit);
        });
        Ok(answered.await.unwrap_or(Err(Failure::Unavailable))?)
    }

    /// Unavailable if it is not known who of all of them was taken out; then nobody departs.
    async fn try_to_take(
        &self,
        instance: &Instance,
        batch: &Batch,
        owner: NodeEpoch,
        ticket: &Ticket,
    ) -> Result<(), Failure> {
        let call = |(channel, clients): &(_, Vec<_>)| self.room(channel).0.take(clients, owner, Some(ticket));
        let answers = together::<Entries>(instance, batch.iter().map(call).collect()).await?;
        if answers.contains(&Err(Failure::Unavailable)) {
            return Err(Failure::Unavailable);
        }
        let mut outcome = Ok(());
        for ((channel, _), taken) in batch.iter().zip(answers) {
            match taken {
                Ok(taken) => self.depart(channel, &taken),
                Err(failure) => outcome = Err(failure),
            }
        }
        outcome
    }

    /// Has those depart who were taken out with this ticket.
    async fn look_up(&self, instance: &Instance, ticket: &Ticket) {
        let give_up_at = Instant::now() + LOOKED_UP_FOR;
        while Instant::now() < give_up_at {
            match instance.call::<Receipts>(ticket.end()).await {
                Ok(receipts) => {
                    for (channel, taken) in &receipts {
                        if let Ok(channel) = Channel::parse(channel, usize::MAX) {
                            self.depart(&channel, taken);
                        }
                    }
                    return;
                }
                Err(failure) => {
                    tracing::debug!(%failure, "could not look up who was taken out; it is tried again");
                    tokio::time::sleep(LOOKED_UP_EVERY).await;
                }
            }
        }
        tracing::warn!(
            "it is not known who was taken out when Redis went away: their leaves are not announced"
        );
    }

    fn depart(&self, channel: &Channel, taken: &Entries) {
        let announced = taken.iter().filter_map(|(client, entry)| entry::departing(client, entry));
        self.departures.push(announced.map(|info| Departed { channel: channel.clone(), info }));
    }
}

/// A refusal is for later: the rest can be done all the same.
pub(super) fn go_on_if_refused<T>(
    result: Result<T, PresenceError>,
    outcome: &mut Result<(), PresenceError>,
) -> Result<Option<T>, PresenceError> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(PresenceError::Refused) => {
            *outcome = Err(PresenceError::Refused);
            Ok(None)
        }
        Err(error @ PresenceError::Unavailable) => Err(error),
    }
}

/// All that was found, at most so much at once as a round trip takes, and a script a page.
pub(super) fn batches(found: Vec<(&Channel, Vec<Vec<u8>>)>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut size = TAKEN_MAX;
    for (channel, clients) in found {
        for page in clients.chunks(PAGE) {
            if size + page.len() > TAKEN_MAX {
                batches.push(Vec::new());
                size = 0;
            }
            size += page.len();
            let batch = batches.last_mut();
            batch.expect("one was begun").push((channel.clone(), page.to_vec()));
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_takes_out_no_more_than_it_can_and_all_are_taken() {
        let name = |number: usize| Channel::parse(&format!("c{number}"), 255).unwrap();
        let names: Vec<_> = (0..40).map(name).collect();
        let clients = |number: usize| vec![vec![7; 16]; number * 70];
        let found = names.iter().enumerate().map(|(number, name)| (name, clients(number))).collect();
        let size = |batch: &Batch| batch.iter().map(|(_, clients)| clients.len()).sum::<usize>();
        let sizes: Vec<_> = batches(found).iter().map(size).collect();
        assert!(sizes.iter().all(|size| (1..=TAKEN_MAX).contains(size)), "{sizes:?}");
        assert_eq!(sizes.iter().sum::<usize>(), (0..40).map(|number| number * 70).sum::<usize>());
        assert!(sizes.len() < 100, "{sizes:?}");
    }
}
