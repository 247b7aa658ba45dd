//! What one client saw, in its order, and where it stands.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::oracle::{Position, Record, Sight, Verdict};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    /// The gateway closed it, with this code.
    Closed(u16),
    /// It broke off without a close frame (1006 to a browser).
    Broken,
    /// The client heard no ping, or no reply, and gave it up.
    Silent,
    /// It was not made: refused, or not answered.
    Unreachable,
    /// The client went because it was told to.
    Left,
}

/// One thing that happened to a client.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// To the node of this number.
    Connected(usize),
    Ended(End),
    Subscribed(Verdict),
    /// The gateway ended the subscription, with this code.
    Unsubscribed(u32),
    /// The gateway did not subscribe it, with this error, which it may call temporary.
    Refused {
        #[expect(dead_code, reason = "shown in reports")]
        code: u32,
        is_temporary: bool,
    },
    /// A publication of this number.
    Publication(u64),
    /// The client with this id did.
    Joined(String),
    Left(String),
}

/// An entry with its circumstances.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    pub(crate) at: Instant,
    /// `None`: it is about the connection.
    pub(crate) channel: Option<Arc<str>>,
    /// The position after it, in channels that have positions.
    pub(crate) position: Option<Position>,
    pub(crate) entry: Entry,
}

/// Where a client stands in a channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// Where it would recover from.
    pub(crate) position: Option<Position>,
    pub(crate) is_live: bool,
    /// The highest number of a publication that came.
    pub(crate) number_max: u64,
}

/// What one client saw.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) user: String,
    pub(crate) entries: Vec<Noted>,
    pub(crate) standings: HashMap<Arc<str>, Standing>,
    /// The id of the current connection.
    pub(crate) client: String,
}

impl Journal {
    pub(crate) fn new(user: String, channels: &[Arc<str>]) -> Self {
        let standings = channels.iter().map(|channel| (Arc::clone(channel), Standing::default())).collect();
        Self { user, entries: Vec::new(), standings, client: String::new() }
    }

    pub(crate) fn note(&mut self, entry: Entry) {
        if matches!(entry, Entry::Ended(_)) {
            self.standings.values_mut().for_each(|standing| standing.is_live = false);
            self.client.clear();
        }
        self.entries.push(Noted { at: Instant::now(), channel: None, position: None, entry });
    }

    /// The same about a channel; `position` is where it stands now, if that changed.
    pub(crate) fn note_in(&mut self, channel: &Arc<str>, position: Option<Position>, entry: Entry) {
        let standing = self.standings.entry(Arc::clone(channel)).or_default();
        match &entry {
            Entry::Subscribed(_) => standing.is_live = true,
            Entry::Unsubscribed(_) | Entry::Refused { .. } => standing.is_live = false,
            Entry::Publication(number) => standing.number_max = standing.number_max.max(*number),
            _ => {}
        }
        if position.is_some() {
            standing.position.clone_from(&position);
        }
        let noted = Noted { at: Instant::now(), channel: Some(Arc::clone(channel)), position, entry };
        self.entries.push(noted);
    }

    /// Whether it is subscribed to all of its channels.
    pub(crate) fn is_live(&self) -> bool {
        self.standings.values().all(|standing| standing.is_live)
    }

    /// Whether there is anything in `channel` that it missed, according to where the history ends.
    pub(crate) fn is_at(&self, channel: &str, top: &Position) -> bool {
        self.standings.get(channel).is_none_or(|standing| standing.position.as_ref() == Some(top))
    }

    /// When the first publication of `channel` came whose number is at least `number`.
    pub(crate) fn reached(&self, channel: &str, number: u64) -> Option<Instant> {
        let newer = |noted: &&Noted| {
            noted.channel.as_deref() == Some(channel)
                && matches!(noted.entry, Entry::Publication(its_number) if its_number >= number)
        };
        self.entries.iter().find(newer).map(|noted| noted.at)
    }

    /// Entries since `start` that `is_meant`.
    pub(crate) fn count_since(&self, start: Instant, is_meant: impl Fn(&Entry) -> bool) -> usize {
        self.entries.iter().filter(|noted| noted.at >= start && is_meant(&noted.entry)).count()
    }

    /// How connections ended since `start`.
    pub(crate) fn ends_since(&self, start: Instant) -> Vec<End> {
        let end = |noted: &Noted| match noted.entry {
            Entry::Ended(end) if noted.at >= start => Some(end),
            _ => None,
        };
        self.entries.iter().filter_map(end).collect()
    }

    /// For the oracle: one record for each channel with positions.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.standings.keys().filter_map(|channel| self.record(channel)).collect()
    }

    fn record(&self, channel: &Arc<str>) -> Option<Record> {
        let mut since = None;
        let mut sights = Vec::new();
        for noted in self.entries.iter().filter(|noted| noted.channel.as_ref() == Some(channel)) {
            let Some(position) = noted.position.clone() else { continue };
            let sight = match noted.entry {
                Entry::Subscribed(verdict) => Sight::Subscribed(verdict, position),
                Entry::Publication(number) => Sight::Publication(position, number),
                _ => continue,
            };
            since.get_or_insert(noted.at);
            sights.push(sight);
        }
        let subscriber = self.user.clone();
        Some(Record { subscriber, channel: Arc::clone(channel), since: since?, sights })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    crate::own::tests!(a_journal_knows_where_its_client_stands);

    fn a_journal_knows_where_its_client_stands() {
        let channel: Arc<str> = "kept:a".into();
        let mut journal = Journal::new("bob".into(), std::slice::from_ref(&channel));
        let at = |offset| Some(Position::new("e", offset));
        assert!(!journal.is_live());
        journal.note(Entry::Connected(0));
        journal.note_in(&channel, at(3), Entry::Subscribed(Verdict::Fresh));
        journal.note_in(&channel, at(4), Entry::Publication(17));
        assert!(journal.is_live());
        assert!(journal.is_at("kept:a", &Position::new("e", 4)));
        assert!(!journal.is_at("kept:a", &Position::new("f", 4)));
        assert!(journal.reached("kept:a", 17).is_some());
        assert!(journal.reached("kept:a", 18).is_none());
        journal.note(Entry::Ended(End::Closed(3012)));
        assert!(!journal.is_live());
        let records = journal.records();
        assert_eq!((records.len(), records[0].sights.len()), (1, 2));
    }
}
