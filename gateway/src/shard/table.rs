//! The sockets of a shard: a dense table that fan-out walks.

use std::cell::Cell;
use std::rc::Rc;

use tokio::net::TcpStream;

use super::link::Link;

/// Names one entry. An index is used again, a key never: the generation tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

/// How bytes get to the client.
#[derive(Debug)]
pub(super) enum Sink {
    /// Straight to the socket.
    Direct(Rc<TcpStream>),
    /// Encrypted first, by the session that the link has (TLS). Without one nothing is taken.
    Protected,
}

/// What delivery needs of a connection.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) sink: Sink,
    /// Bytes wait in the outbox or, encrypted, in the session, or the connection is closing: nothing goes straight to the socket.
    pub(super) blocked: Cell<bool>,
    /// The rest of the connection.
    pub(super) link: Rc<Link>,
}

/// Entries by key. Removing one leaves the others where they are.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    entry: Option<Entry>,
}

impl Table {
    pub(super) fn insert(&mut self, entry: Entry) -> Key {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.entry = Some(entry);
            return Key { index, generation: slot.generation };
        }
        let index = u32::try_from(self.slots.len()).expect("a process has fewer files than that");
        self.slots.push(Slot { generation: 0, entry: Some(entry) });
        Key { index, generation: 0 }
    }

    /// The entry, unless it was removed.
    pub(super) fn get(&self, key: Key) -> Option<&Entry> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.entry.as_ref() } else { None }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Entry> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(entry)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Every entry with its key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Entry)> {
        let slots = (0_u32..).zip(&self.slots);
        slots.filter_map(|(index, slot)| {
            Some((Key { index, generation: slot.generation }, slot.entry.as_ref()?))
        })
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().filter_map(|slot| slot.entry.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ClientId;

    fn entry() -> Entry {
        Entry {
            sink: Sink::Protected,
            blocked: Cell::new(true),
            link: Rc::new(Link::new(ClientId::random())),
        }
    }

    #[test]
    fn a_stale_key_finds_nothing_in_a_slot_that_is_used_again() {
        let mut table = Table::default();
        let first = table.insert(entry());
        assert!(table.get(first).is_some());
        assert!(table.remove(first).is_some());
        assert!(table.remove(first).is_none());
        let second = table.insert(entry());
        assert_eq!(first.index, second.index);
        assert!(table.get(first).is_none());
        assert!(table.get(second).is_some());
        assert_eq!((table.len(), table.entries().count()), (1, 1));
    }
}
