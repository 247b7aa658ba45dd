//! Whether what a client was given is what was published.
//!
//! Pure judgement: it is told what happens to one client as it happens ([`Walk`]), and keeps no more of it than where the
//! client was in the history, stay by stay. At the end it compares with what was acknowledged ([`Log`]). A client may
//! miss something only if it was told so in between.

use std::time::Duration;

use crate::findings::Verdict;
use crate::published::Log;

/// A numbering of a channel's history, as a number that [`Log::epoch`] gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u32);

/// A place in a channel's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// In which numbering.
    pub epoch: Epoch,
    /// Grows by one with each publication, from 1.
    pub offset: u64,
}

/// More stays than these are not kept of one client: the oldest are forgotten, since they are judged.
const STAYS_MAX: usize = 256;

/// How a subscription was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the client had asked to recover.
    pub asked: bool,
    /// Whether the server said that the client gets all that it missed.
    pub recovered: bool,
    /// The epoch, and the offset: the top of the history, unless the client recovers.
    pub at: Position,
}

/// What one client was given of its channel, judged as it comes.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// When it was first subscribed.
    since: Duration,
    /// In the order of their time; the last one goes on. Empty before the first subscription.
    stays: Vec<Stay>,
    verdict: Verdict,
}

/// A stretch of the history that a client has without a hole.
#[derive(Clone, Copy, Debug)]
struct Stay {
    epoch: Epoch,
    /// The offset before the first that it has.
    after: u64,
    /// The last offset that it has.
    upto: u64,
    entry: Entry,
}

/// What lies between a stay and the one before it.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// Nothing: it is the first.
    First,
    /// The client was told at this time that it misses something.
    Told(Duration),
    /// It misses something and was not told.
    Silent,
}

impl Stay {
    fn at(position: Position, entry: Entry) -> Self {
        Self { epoch: position.epoch, after: position.offset, upto: position.offset, entry }
    }

    fn has(&self, position: Position) -> bool {
        self.epoch == position.epoch && (self.after + 1..=self.upto).contains(&position.offset)
    }
}

/// What became of an acknowledged publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The client has it, or it was published before the client came.
    Settled,
    /// The client was told that it misses it.
    Declared,
    /// It was counted as lost when the next one came.
    Counted,
    /// It never came, and nobody said why.
    Missing,
}

impl Walk {
    /// Where the client is; `None` before its first subscription.
    pub fn position(&self) -> Option<Position> {
        self.stays.last().map(|stay| Position { epoch: stay.epoch, offset: stay.upto })
    }

    /// The server subscribed the client, at the time `now`. Publications that came with the answer are to follow, each by
    /// [`Walk::publication`].
    pub fn subscribed(&mut self, answer: Answer, now: Duration) {
        let Some(last) = self.position() else {
            self.since = now;
            return self.enter(answer.at, Entry::First);
        };
        match (answer.asked, answer.recovered) {
            (true, true) if answer.at.epoch == last.epoch => {}
            (true, false) => {
                self.void_above(answer.at);
                self.enter(answer.at, Entry::Told(now));
            }
            _ if answer.at == last => {}
            _ => self.skip(last, answer.at),
        }
    }

    /// A publication came, at the time `now`.
    pub fn publication(&mut self, at: Position, now: Duration) {
        let Some(mut last) = self.position() else {
            self.since = now;
            self.enter(Position { offset: at.offset.saturating_sub(1), ..at }, Entry::First);
            return self.publication(at, now);
        };
        if at.epoch != last.epoch {
            // A publication that names its epoch tells of a new one, in which nothing is given yet.
            last = Position { epoch: at.epoch, offset: 0 };
            self.enter(last, Entry::Told(now));
        }
        if at.offset <= last.offset {
            return self.again(at, last);
        }
        if at.offset > last.offset + 1 {
            self.skip(last, Position { offset: at.offset - 1, ..at });
        }
        if let Some(stay) = self.stays.last_mut() {
            stay.upto = at.offset;
        }
    }

    /// Compares with all that was acknowledged. Of a client that `is_live` nothing may be missing.
    pub fn finish(mut self, log: &Log, is_live: bool) -> Verdict {
        let mut missing = 0;
        let mut first = None;
        for (position, sent_at) in log.acknowledged() {
            match self.fate(position, sent_at) {
                Fate::Settled | Fate::Counted => {}
                Fate::Declared => self.verdict.lost_declared += 1,
                Fate::Missing => {
                    missing += 1;
                    first.get_or_insert(position);
                }
            }
        }
        if let Some(first) = first {
            self.verdict.behind_at_end = 1;
            if is_live {
                self.verdict.lost_silent += missing;
                self.verdict.example(format!("{missing} never came, the first at {}", log.name(first)));
            }
        }
        self.verdict
    }

    fn enter(&mut self, at: Position, entry: Entry) {
        if self.stays.len() == STAYS_MAX {
            self.forget_oldest();
        }
        self.stays.push(Stay::at(at, entry));
    }

    /// What was published before the second stay is judged, as far as it ever will be.
    fn forget_oldest(&mut self) {
        self.stays.remove(0);
        if let Some(Stay { entry, .. }) = self.stays.first_mut() {
            if let Entry::Told(at) = *entry {
                self.since = at;
            }
            *entry = Entry::First;
        }
    }

    /// The client is at `to` now, and nobody told it what was in between.
    fn skip(&mut self, from: Position, to: Position) {
        let missed = if from.epoch == to.epoch { to.offset.saturating_sub(from.offset) } else { to.offset };
        self.verdict.lost_silent += missed;
        self.verdict.example(format!("nothing came between {} and behind {}", from.offset, to.offset));
        self.void_above(to);
        self.enter(to, Entry::Silent);
    }

    /// The server said that the history ends here: what a client has beyond is no more.
    fn void_above(&mut self, top: Position) {
        for stay in self.stays.iter_mut().filter(|stay| stay.epoch == top.epoch) {
            stay.upto = stay.upto.min(top.offset);
            stay.after = stay.after.min(top.offset);
        }
    }

    /// Something came that is not ahead of the client.
    fn again(&mut self, at: Position, last: Position) {
        if self.stays.iter().any(|stay| stay.has(at)) {
            self.verdict.duplicated += 1;
            return self.verdict.example(format!("{} came twice", at.offset));
        }
        self.verdict.reordered += 1;
        self.verdict.example(format!("{} came after {}", at.offset, last.offset));
        self.fill(at);
    }

    /// What was counted as lost came late: it is not lost.
    fn fill(&mut self, at: Position) {
        let is_before = |stay: &Stay| stay.epoch == at.epoch && at.offset <= stay.after;
        let found = self.stays.iter().position(|stay| is_before(stay) && matches!(stay.entry, Entry::Silent));
        if let Some(index) = found {
            let late = Stay { epoch: at.epoch, after: at.offset - 1, upto: at.offset, entry: Entry::Silent };
            self.stays.insert(index, late);
            self.verdict.lost_silent = self.verdict.lost_silent.saturating_sub(1);
        }
    }

    fn fate(&self, position: Position, sent_at: Duration) -> Fate {
        let Some(first) = self.stays.first() else { return Fate::Settled };
        let is_later = position.epoch == first.epoch && position.offset > first.after;
        let is_earlier = position.epoch == first.epoch && position.offset <= first.after;
        if is_earlier
            || !(is_later || sent_at > self.since)
            || self.stays.iter().any(|stay| stay.has(position))
        {
            return Fate::Settled;
        }
        let holds = |pair: &[Stay]| self.gap_holds(pair[0], pair[1], position, sent_at);
        let gaps = self.stays.windows(2).filter(|pair| holds(pair));
        let was_told = gaps.map(|pair| matches!(pair[1].entry, Entry::Told(_))).max();
        match was_told {
            None => Fate::Missing,
            Some(true) => Fate::Declared,
            Some(false) => Fate::Counted,
        }
    }

    /// Whether `position` lies between two stays. What was published after a client was told of a new epoch does not.
    fn gap_holds(&self, from: Stay, to: Stay, position: Position, sent_at: Duration) -> bool {
        let is_after = position.epoch == from.epoch && position.offset > from.upto;
        let is_before = position.epoch == to.epoch && position.offset <= to.after;
        if from.epoch == to.epoch {
            return is_after && is_before;
        }
        let is_old = matches!(to.entry, Entry::Told(at) if sent_at <= at);
        let is_foreign = !self.stays.iter().any(|stay| stay.epoch == position.epoch);
        is_before || (is_old && (is_after || is_foreign))
    }
}
