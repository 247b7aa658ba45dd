//! Who lingers, by whose it was and when its grace is over.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;

use crate::model::{Channel, ClientId, NodeEpoch};

/// Most that are taken at once.
const TAKEN_MAX: usize = 256;

/// Those of every owner.
#[derive(Debug, Default)]
pub(super) struct Graces {
    owners: HashMap<NodeEpoch, Due>,
    /// Graces so far: it tells those apart that are over at the same time.
    begun: u64,
}

/// Those of an owner. Who came back is among them until then.
#[derive(Debug, Default)]
struct Due {
    queue: BTreeMap<(Instant, u64), (Channel, ClientId)>,
    known: HashMap<(Channel, ClientId), (Instant, u64)>,
}

impl Graces {
    pub(super) fn begin(&mut self, owner: NodeEpoch, over: Instant, channel: &Channel, client: ClientId) {
        self.begun += 1;
        let (due, key) = (self.owners.entry(owner).or_default(), (over, self.begun));
        if let Some(before) = due.known.insert((channel.clone(), client), key) {
            due.queue.remove(&before);
        }
        due.queue.insert(key, (channel.clone(), client));
    }

    pub(super) fn has(&self, owner: NodeEpoch, channel: &Channel, client: ClientId) -> bool {
        self.owners.get(&owner).is_some_and(|due| due.known.contains_key(&(channel.clone(), client)))
    }

    /// Takes some of those whose grace is over; none if there are none.
    pub(super) fn take_due(&mut self, owner: NodeEpoch, now: Instant) -> Vec<(Channel, ClientId)> {
        let mut taken = Vec::new();
        let Some(due) = self.owners.get_mut(&owner) else { return taken };
        while taken.len() < TAKEN_MAX
            && let Some(first) = due.queue.first_entry().filter(|first| first.key().0 <= now)
        {
            let name = first.remove();
            due.known.remove(&name);
            taken.push(name);
        }
        if due.queue.is_empty() {
            // A crowd that lingered leaves no memory behind.
            self.owners.remove(&owner);
        }
        taken
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// When the next one's is over.
    pub(super) fn next(&self, owner: NodeEpoch) -> Option<Instant> {
        let (first, _) = self.owners.get(&owner)?.queue.first_key_value()?;
        Some(first.0)
    }
}
