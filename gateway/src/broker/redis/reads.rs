//! Many who read the history of one channel read it together.
//!
//! While a channel is read, whoever wants to read it too waits: the read under way may have been answered before they
//! asked. When it is back, all who wait are served by as few reads as their ranges allow. So ten thousand clients that
//! come back to a channel at once cost Redis a handful of reads.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::broker::{BrokerError, History, Range};
use crate::model::{Channel, Publication};

/// Readers whose ranges begin at most so far from one another are served by one read.
const SPREAD_MAX: u64 = 512;
/// Of a read for several, how many times the bytes that one of them may get.
const BYTES_FACTOR: usize = 4;

/// Somebody who wants to read.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) range: Range,
    pub(super) meta_ttl: Duration,
    /// Dropped by who gave up.
    pub(super) answer: oneshot::Sender<Result<History, BrokerError>>,
}

impl Reader {
    /// Answers it, if it still waits.
    pub(super) fn answer(self, answer: Result<History, BrokerError>) {
        let _gone = self.answer.send(answer);
    }
}

/// Who reads what; the channels that are being read, with those who wait.
#[derive(Debug, Default)]
pub(super) struct Reads(Mutex<HashMap<Channel, Vec<Reader>>>);

impl Reads {
    /// `reader` waits for its turn. `true`: nobody reads the channel, and the caller has to see to it that
    /// [`next`](Self::next) is called until it answers nothing.
    #[must_use]
    pub(super) fn enter(&self, channel: &Channel, reader: Reader) -> bool {
        let mut reads = self.0.lock();
        let is_first = !reads.contains_key(channel);
        reads.entry(channel.clone()).or_default().push(reader);
        is_first
    }

    /// Nobody reads the channel any more, and who waits hears nothing.
    pub(super) fn abandon(&self, channel: &Channel) {
        self.0.lock().remove(channel);
    }

    /// Those who wait.
    pub(super) fn waiting(&self, channel: &Channel) -> Vec<Reader> {
        self.0.lock().get_mut(channel).map(std::mem::take).unwrap_or_default()
    }

    /// Whether there are some who wait for publications: a crowd is coming back, and more will follow.
    pub(super) fn is_crowded(&self, channel: &Channel) -> bool {
        let reads = self.0.lock();
        reads.get(channel).is_some_and(|waiting| waiting.iter().any(|reader| reader.range.limit != Some(0)))
    }

    /// Those whose turn it is; `None` if there is nobody any more.
    pub(super) fn next(&self, channel: &Channel) -> Option<Vec<Reader>> {
        let mut reads = self.0.lock();
        let waiting = reads.get_mut(channel).map(std::mem::take).unwrap_or_default();
        if waiting.is_empty() {
            reads.remove(channel);
            return None;
        }
        Some(waiting)
    }
}

/// Readers who are served by one read.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) range: Range,
    pub(super) meta_ttl: Duration,
    pub(super) readers: Vec<Reader>,
}

/// As few parties as the ranges of `readers` allow.
pub(super) fn parties(readers: Vec<Reader>) -> Vec<Party> {
    let mut readers: Vec<_> = readers.into_iter().filter(|reader| !reader.answer.is_closed()).collect();
    // Who wants the top alone is content with what any other reads, so these come last.
    readers.sort_by_key(|reader| (reader.range.limit == Some(0), reader.range.reverse, reader.range.since));
    let mut parties: Vec<Party> = Vec::new();
    for reader in readers {
        match parties.last_mut().and_then(|party| Some((party.range_with(&reader.range)?, party))) {
            Some((range, party)) => {
                party.range = range;
                party.meta_ttl = party.meta_ttl.max(reader.meta_ttl);
                party.readers.push(reader);
            }
            None => parties.push(Party {
                range: reader.range.clone(),
                meta_ttl: reader.meta_ttl,
                readers: vec![reader],
            }),
        }
    }
    parties
}

impl Party {
    /// What has to be read for `range` as well, which begins no earlier; `None` if that is another read.
    fn range_with(&self, range: &Range) -> Option<Range> {
        if range.limit == Some(0) || self.range == *range {
            return Some(self.range.clone());
        }
        let (first, since) = (self.range.since.unwrap_or(0), range.since.unwrap_or(0));
        if range.reverse || self.range.reverse || since - first > SPREAD_MAX {
            return None;
        }
        let end = |limit: Option<usize>, since: u64| Some(limit? as u64 + (since - first));
        let ends = end(self.range.limit, first).zip(end(range.limit, since));
        let limit = ends.map(|(one, other)| usize::try_from(one.max(other)).unwrap_or(usize::MAX));
        let bytes = self.range.bytes_max.zip(range.bytes_max);
        let bytes_max = bytes.map(|(one, other)| one.max(other.saturating_mul(BYTES_FACTOR)));
        Some(Range { since: self.range.since, reverse: false, limit, bytes_max })
    }

    /// The part of `history`, which was read for the party, that is for `range`; `None` if it is not in there.
    pub(super) fn share(&self, history: &History, range: &Range) -> Option<History> {
        let top = history.top.clone();
        if range.limit == Some(0) {
            return Some(History { top, publications: Vec::new() });
        }
        if self.range == *range {
            return Some(history.clone());
        }
        let since = range.since.unwrap_or(0);
        let mut rest = history.publications.iter().skip_while(|publication| publication.offset <= since);
        let (mut bytes, mut publications) = (0_usize, Vec::new());
        loop {
            if range.limit.is_some_and(|limit| publications.len() >= limit) {
                break;
            }
            let Some(next) = rest.next() else {
                let last = history.publications.last().map_or(0, |last| last.offset);
                // What was read ends before the history does: there may be more for this one.
                let is_all = last >= top.offset || history.publications.is_empty();
                return is_all.then_some(History { top, publications });
            };
            bytes = bytes.saturating_add(Publication::cost_bytes(next));
            if !publications.is_empty() && range.bytes_max.is_some_and(|max| bytes > max) {
                break;
            }
            publications.push(next.clone());
        }
        Some(History { top, publications })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Epoch, Position, RawJson};

    fn forward(since: u64, limit: usize) -> Range {
        Range { since: Some(since), limit: Some(limit), bytes_max: Some(1 << 20), ..Range::default() }
    }

    fn top() -> Range {
        Range { limit: Some(0), ..Range::default() }
    }

    fn reverse() -> Range {
        Range { limit: Some(1), reverse: true, ..Range::default() }
    }

    fn readers(ranges: Vec<Range>) -> (Vec<Reader>, Vec<oneshot::Receiver<Result<History, BrokerError>>>) {
        let reader = |range| {
            let (answer, heard) = oneshot::channel();
            (Reader { range, meta_ttl: Duration::from_secs(1), answer }, heard)
        };
        ranges.into_iter().map(reader).unzip()
    }

    fn history(offsets: std::ops::RangeInclusive<u64>, top: u64) -> History {
        let publication = |offset| Arc::new(Publication { offset, ..Publication::of(RawJson::string("x")) });
        let top = Position { epoch: Epoch::new("e"), offset: top };
        History { top, publications: offsets.map(publication).collect() }
    }

    #[test]
    fn who_comes_while_a_channel_is_read_waits_for_the_next_read() {
        let reads = Reads::default();
        let channel = Channel::parse("a", 255).unwrap();
        let (mut crowd, _also_heard) = readers(vec![forward(0, 9)]);
        let (readers, _heard) = readers(vec![top(), top(), top()]);
        let mut readers = readers.into_iter();
        assert!(reads.enter(&channel, readers.next().unwrap()));
        assert_eq!(reads.next(&channel).unwrap().len(), 1);
        assert!(!reads.is_crowded(&channel));
        assert!(readers.all(|reader| !reads.enter(&channel, reader)));
        assert!(!reads.is_crowded(&channel), "who wants the top alone is no crowd");
        assert!(!reads.enter(&channel, crowd.remove(0)));
        assert!(reads.is_crowded(&channel));
        assert_eq!(reads.next(&channel).unwrap().len(), 3);
        assert!(reads.next(&channel).is_none());
        assert!(reads.0.lock().is_empty());
    }

    #[test]
    fn a_crowd_is_served_by_few_reads() {
        let ranges = (0..1_000).map(|index| forward(index, 300)).chain([top(), reverse(), reverse(), top()]);
        let (readers, heard) = readers(ranges.collect());
        let parties = parties(readers);
        let ranges: Vec<_> = parties.iter().map(|party| (party.range.since, party.range.limit)).collect();
        assert_eq!(ranges, [(Some(0), Some(812)), (Some(513), Some(786)), (None, Some(1))]);
        assert_eq!(parties.iter().map(|party| party.readers.len()).sum::<usize>(), 1_004);
        drop(heard);
    }

    #[test]
    fn who_gave_up_is_not_read_for() {
        let (readers, heard) = readers(vec![forward(0, 9), forward(5_000, 9)]);
        drop(heard);
        assert!(parties(readers).is_empty());
    }

    #[test]
    fn everybody_gets_what_it_would_have_got_alone() {
        let (readers, _heard) = readers(vec![forward(0, 10), forward(5, 10), forward(20, 10), top()]);
        let party = parties(readers).remove(0);
        let offsets = |history: Option<History>| {
            history.map(|history| history.publications.iter().map(|one| one.offset).collect::<Vec<_>>())
        };
        let whole = history(1..=25, 25);
        assert_eq!(offsets(party.share(&whole, &forward(5, 10))), Some((6..=15).collect()));
        assert_eq!(offsets(party.share(&whole, &forward(20, 10))), Some((21..=25).collect()));
        assert_eq!(offsets(party.share(&whole, &forward(25, 10))), Some(vec![]));
        assert_eq!(offsets(party.share(&whole, &top())), Some(vec![]));
        let small = Range { bytes_max: Some(1), ..forward(5, 10) };
        assert_eq!(offsets(party.share(&whole, &small)), Some(vec![6]));
        // Cut off by its bytes.
        let cut = history(1..=12, 25);
        assert_eq!(offsets(party.share(&cut, &forward(5, 10))), None);
        assert_eq!(offsets(party.share(&cut, &forward(2, 10))), Some((3..=12).collect()));
        let nothing = History { publications: Vec::new(), ..whole };
        // What is kept begins later.
        assert_eq!(offsets(party.share(&history(22..=25, 25), &forward(5, 10))), Some((22..=25).collect()));
        assert_eq!(offsets(party.share(&nothing, &forward(5, 10))), Some(vec![]));
    }
}
