//! Takes out who left its seat, or has it linger.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::Worker;
use crate::model::{Channel, ClientId, Notice};
use crate::node::attendance::SeatId;
use crate::node::attendance::owed::{Leaving, Stay};
use crate::presence::{Member, PresenceError};

impl Worker {
    /// Who waits for it does so until all are out, linger, or are owed that.
    pub(super) async fn leave(&mut self, left: Vec<(SeatId, Option<oneshot::Sender<()>>)>) {
        let sitting = left.iter().filter_map(|(id, lost)| Some((self.seats.remove(*id)?, lost.is_some())));
        let kept = sitting.filter(|(sitting, _)| sitting.is_kept());
        let left: Vec<_> = kept.map(|(sitting, is_lost)| Leaving::of(sitting, is_lost)).collect();
        self.seats.shrink();
        if self.owed.is_empty() {
            // Those that fail are owed.
            let _later = self.take_out(left).await;
        } else {
            left.into_iter().for_each(|leaving| self.owed.add(leaving));
        }
    }

    /// # Errors
    /// When some of them are owed now.
    pub(super) async fn take_out(&mut self, leaving: Vec<Leaving>) -> Result<(), PresenceError> {
        let mut rooms: HashMap<Channel, Vec<Leaving>> = HashMap::new();
        for leaving in leaving {
            rooms.entry(leaving.channel.clone()).or_default().push(leaving);
        }
        let rooms = rooms.into_iter().map(|(channel, leaving)| self.take_out_of(channel, leaving));
        let mut outcome = Ok(());
        for (mut leaving, result) in join_all(rooms).await.into_iter().flatten() {
            if let Err(error) = result {
                outcome = Err(error);
                if let Some(stay) = &mut leaving.stay {
                    stay.doubt.get_or_insert_with(|| self.graces.doubt());
                }
                self.owed.add(leaving);
            }
        }
        outcome
    }

    /// Takes out, or has linger, some of one channel.
    async fn take_out_of(
        &self,
        channel: Channel,
        leaving: Vec<Leaving>,
    ) -> Vec<(Leaving, Result<(), PresenceError>)> {
        let staying = self.linger(&channel, &leaving).await;
        let ends = leaving.iter().map(async |leaving| match (&leaving.stay, &staying) {
            (Some(_), Err(error)) => Err(*error),
            (Some(_), Ok(staying)) if staying.contains(&leaving.member.info.client) => Ok(()),
            _ => self.take_out_one(leaving).await,
        });
        let results = join_all(ends).await;
        leaving.into_iter().zip(results).collect()
    }

    /// Has those linger who are to; answers who does, or did until its user came back.
    async fn linger(
        &self,
        channel: &Channel,
        leaving: &[Leaving],
    ) -> Result<HashSet<ClientId>, PresenceError> {
        let staying = leaving.iter().filter_map(|leaving| Some((&leaving.member, leaving.stay.as_ref()?)));
        let members: Vec<_> = staying.clone().map(|(member, stay)| (member.clone(), stay.grace())).collect();
        if members.is_empty() {
            return Ok(HashSet::new());
        }
        match self.presence.linger(channel, &members, self.lease()?.owner).await {
            Ok(answers) => {
                let stayed = staying.zip(answers).filter_map(|(staying, stays)| stays.then_some(staying));
                let note = |(member, stay): (&Member, &Stay)| {
                    self.graces.begin(stay.until);
                    member.info.client
                };
                Ok(stayed.map(note).collect())
            }
            Err(PresenceError::Unavailable) => Err(PresenceError::Unavailable),
            Err(error @ PresenceError::Refused) => {
                tracing::warn!(%error, "could not keep in the presence who lost its connection");
                Ok(HashSet::new())
            }
        }
    }

    async fn take_out_one(&self, leaving: &Leaving) -> Result<(), PresenceError> {
        let asking = self.lease()?.owner;
        let Leaving { channel, member, owner, has_joined, stay } = leaving;
        let has_ended = match self.presence.remove(channel, member.info.client, asking).await {
            Ok(has_ended) => has_ended,
            Err(PresenceError::Unavailable) => return Err(PresenceError::Unavailable),
            Err(error @ PresenceError::Refused) => {
                tracing::warn!(%error, "could not remove from the presence who left");
                false
            }
        };
        // Nobody else takes it out while the tenure lasts under which it entered. It may be gone all the same: by an
        // earlier try that was not answered, or because Redis lost it.
        // One that may linger, for all that was answered, is not: its user may have come back, or its grace may be over.
        let may_have_stayed = stay.as_ref().is_some_and(|stay| stay.doubt.is_some());
        let is_ours_alone = !may_have_stayed && owner.is_some() && *owner == self.tenure.borrow().held();
        if (has_ended || is_ours_alone) && *has_joined {
            self.tell(channel.clone(), Notice::Leave(Arc::clone(&member.info))).await;
        }
        Ok(())
    }
}
