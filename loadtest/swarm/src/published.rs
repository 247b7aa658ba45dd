//! What was published, and where: the common knowledge of publisher and clients.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::findings::Verdict;
use crate::oracle::{Epoch, Position};

/// So many publications are kept of all channels together: an hour at 200 per second. The oldest are forgotten.
const KEPT_MAX: usize = 720_000;

/// More publications than these, each in two places, need not be told apart.
const REPEATS_MAX: usize = 1_000;

/// The place of every publication, as publishers were told and as clients saw it. Shared by all of them.
#[derive(Debug)]
pub struct Published {
    names: Vec<String>,
    logs: Vec<Mutex<Log>>,
}

impl Published {
    /// Nothing is published yet, and only these channels will be.
    pub fn new(channels: &[String]) -> Self {
        let kept_max = KEPT_MAX / channels.len().max(1);
        Self {
            names: channels.to_vec(),
            logs: channels.iter().map(|_| Mutex::new(Log::new(kept_max))).collect(),
        }
    }

    /// The log of a channel, by its number in the list of channels. The lock is for a moment.
    ///
    /// # Panics
    /// If there is no such channel.
    pub fn log(&self, channel: usize) -> MutexGuard<'_, Log> {
        // A log is consistent after each of its methods, so a panic elsewhere spoils nothing.
        self.logs[channel].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong whoever looks: places with two publications, publications in two places.
    pub fn verdict(&self) -> Verdict {
        let mut sum = Verdict::default();
        for (channel, name) in self.names.iter().enumerate() {
            sum.add(self.log(channel).verdict(), name);
        }
        sum
    }
}

/// The publications of one channel.
#[derive(Debug)]
pub struct Log {
    kept_max: usize,
    kept: usize,
    /// By their number; in the order in which anybody first heard of them.
    epochs: Vec<EpochLog>,
    /// Where each publication was first found.
    places: HashMap<u64, Position>,
    /// Publications that were found in a second place.
    repeats: Vec<Repeat>,
    /// What was found so far; the repeats are judged at the end.
    verdict: Verdict,
}

#[derive(Debug)]
struct EpochLog {
    name: String,
    /// By offset.
    entries: BTreeMap<u64, Logged>,
}

#[derive(Clone, Copy, Debug)]
struct Logged {
    seq: u64,
    /// When it was first sent; `None` as long as nobody was told that it is here.
    acknowledged: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Repeat {
    seq: u64,
    first: Position,
    second: Position,
}

impl Log {
    /// An empty one that keeps `kept_max` publications.
    pub fn new(kept_max: usize) -> Self {
        Self {
            kept_max: kept_max.max(1),
            kept: 0,
            epochs: Vec::new(),
            places: HashMap::new(),
            repeats: Vec::new(),
            verdict: Verdict::default(),
        }
    }

    /// The number of an epoch, by its name.
    pub fn epoch(&mut self, name: &str) -> Epoch {
        let known = self.epochs.iter().position(|epoch| epoch.name == name);
        let number = known.unwrap_or_else(|| {
            self.epochs.push(EpochLog { name: name.to_owned(), entries: BTreeMap::new() });
            self.epochs.len() - 1
        });
        Epoch(u32::try_from(number).expect("memory holds fewer epochs"))
    }

    /// The names of all epochs, in the order in which anybody first heard of them.
    pub fn epochs(&self) -> impl Iterator<Item = &str> {
        self.epochs.iter().map(|epoch| epoch.name.as_str())
    }

    /// A client was given the publication `seq` at this place.
    pub fn saw(&mut self, at: Position, seq: u64) {
        self.note(at, seq);
    }

    /// The publisher of `seq`, sent first at `sent_at`, was told that it is at this place.
    pub fn acknowledge(&mut self, at: Position, seq: u64, sent_at: Duration) {
        if let Some(entry) = self.note(at, seq)
            && entry.seq == seq
        {
            entry.acknowledged = Some(sent_at);
        }
    }

    /// Every publication whose publisher was told its place, with the time when it was first sent.
    pub fn acknowledged(&self) -> impl Iterator<Item = (Position, Duration)> {
        (0..).map(Epoch).zip(&self.epochs).flat_map(|(epoch, log)| {
            let entries = log.entries.iter();
            entries
                .filter_map(move |(&offset, entry)| Some((Position { epoch, offset }, entry.acknowledged?)))
        })
    }

    /// The last place of the newest epoch that was acknowledged; `None` if nothing was.
    pub fn top(&self) -> Option<Position> {
        let tops = (0..).map(Epoch).zip(&self.epochs).filter_map(|(epoch, log)| {
            let last = log.entries.iter().rev().find(|(_, entry)| entry.acknowledged.is_some());
            last.map(|(&offset, _)| Position { epoch, offset })
        });
        tops.last()
    }

    /// A place as people write it.
    pub fn name(&self, at: Position) -> String {
        let epoch = self.epochs.get(at.epoch.0 as usize).map_or("?", |epoch| epoch.name.as_str());
        format!("{epoch}/{}", at.offset)
    }

    fn note(&mut self, at: Position, seq: u64) -> Option<&mut Logged> {
        let epoch = self.epochs.get(at.epoch.0 as usize)?;
        match epoch.entries.get(&at.offset).map(|entry| entry.seq) {
            None => self.insert(at, seq),
            Some(known) if known != seq => {
                let place = self.name(at);
                self.verdict.forked += 1;
                self.verdict.example(format!("{place} is publication {known} and {seq}"));
            }
            Some(_) => {}
        }
        self.epochs.get_mut(at.epoch.0 as usize)?.entries.get_mut(&at.offset)
    }

    fn insert(&mut self, at: Position, seq: u64) {
        match self.places.entry(seq) {
            Entry::Vacant(place) => _ = place.insert(at),
            Entry::Occupied(place) if self.repeats.len() < REPEATS_MAX => {
                self.repeats.push(Repeat { seq, first: *place.get(), second: at });
            }
            Entry::Occupied(_) => {}
        }
        if let Some(epoch) = self.epochs.get_mut(at.epoch.0 as usize) {
            epoch.entries.insert(at.offset, Logged { seq, acknowledged: None });
            self.kept += 1;
        }
        if self.kept > self.kept_max {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.epochs.iter_mut().find_map(|epoch| epoch.entries.pop_first());
        if let Some((_, entry)) = oldest {
            self.places.remove(&entry.seq);
            self.kept -= 1;
        }
    }

    /// What is wrong whoever looks.
    pub(crate) fn verdict(&self) -> Verdict {
        let mut verdict = self.verdict.clone();
        for repeat in self.repeats.iter().filter(|repeat| self.is_fault(repeat)) {
            let Repeat { seq, first, second } = *repeat;
            verdict.duplicated += 1;
            verdict.example(format!("publication {seq} is {} and {}", self.name(first), self.name(second)));
        }
        verdict
    }

    /// A publication may come again in a new epoch if nobody was told that it was in the old one: its publisher had to
    /// try again, and the history had been forgotten meanwhile.
    fn is_fault(&self, repeat: &Repeat) -> bool {
        let first = repeat.first;
        let entry =
            self.epochs.get(first.epoch.0 as usize).and_then(|epoch| epoch.entries.get(&first.offset));
        first.epoch == repeat.second.epoch || entry.is_some_and(|entry| entry.acknowledged.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Duration = Duration::from_secs(1);

    fn at(log: &mut Log, epoch: &str, offset: u64) -> Position {
        Position { epoch: log.epoch(epoch), offset }
    }

    #[test]
    fn what_all_agree_on_is_clean() {
        let mut log = Log::new(10);
        let place = at(&mut log, "e", 1);
        log.saw(place, 7);
        log.acknowledge(place, 7, SENT);
        log.saw(place, 7);
        assert_eq!(log.verdict(), Verdict::default());
        assert_eq!(log.acknowledged().collect::<Vec<_>>(), [(place, SENT)]);
    }

    #[test]
    fn only_what_was_acknowledged_is_owed() {
        let mut log = Log::new(10);
        let (first, second) = (at(&mut log, "e", 1), at(&mut log, "e", 2));
        log.acknowledge(first, 1, SENT);
        log.saw(second, 2);
        assert_eq!(log.acknowledged().count(), 1);
        assert_eq!(log.top(), Some(first));
        let newer = at(&mut log, "f", 1);
        log.acknowledge(newer, 3, SENT);
        assert_eq!(log.top(), Some(newer), "an epoch is followed by the next");
        assert_eq!(log.epochs().collect::<Vec<_>>(), ["e", "f"]);
    }

    #[test]
    fn a_place_with_two_publications_is_a_fork() {
        let mut log = Log::new(10);
        let place = at(&mut log, "e", 1);
        log.acknowledge(place, 1, SENT);
        log.saw(place, 2);
        let verdict = log.verdict();
        assert_eq!((verdict.forked, verdict.duplicated), (1, 0));
        assert_eq!(verdict.examples, ["e/1 is publication 1 and 2"]);
        log.acknowledge(place, 3, SENT);
        assert_eq!(log.verdict().forked, 2);
    }

    #[test]
    fn a_publication_in_two_places_is_a_repeat() {
        let mut log = Log::new(10);
        let (first, second) = (at(&mut log, "e", 1), at(&mut log, "e", 2));
        log.saw(first, 1);
        log.saw(second, 1);
        log.saw(second, 1);
        let verdict = log.verdict();
        assert_eq!((verdict.duplicated, verdict.forked), (1, 0));
        assert_eq!(verdict.examples, ["publication 1 is e/1 and e/2"]);
    }

    #[test]
    fn a_publication_may_come_again_in_a_new_epoch_unless_it_was_promised() {
        let mut log = Log::new(10);
        let (old, new) = (at(&mut log, "e", 1), at(&mut log, "f", 1));
        log.saw(old, 1);
        log.acknowledge(new, 1, SENT);
        assert_eq!(log.verdict().duplicated, 0);
        log.acknowledge(old, 1, SENT);
        assert_eq!(log.verdict().duplicated, 1);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut log = Log::new(3);
        for offset in 1..=10 {
            let place = at(&mut log, if offset < 6 { "e" } else { "f" }, offset);
            log.acknowledge(place, offset, SENT);
        }
        let offsets: Vec<u64> = log.acknowledged().map(|(at, _)| at.offset).collect();
        assert_eq!(offsets, [8, 9, 10]);
        assert_eq!((log.kept, log.places.len()), (3, 3));
    }
}
