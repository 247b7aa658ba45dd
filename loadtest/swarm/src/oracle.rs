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
            (true, false) => self.enter(answer.at, Entry::Told(now)),
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
        self.verdict
            .example(format!("after {} came nothing up to {}, and nobody said so", from.offset, to.offset));
        self.enter(to, Entry::Silent);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const OLD: Epoch = Epoch(0);
    const NEW: Epoch = Epoch(1);

    /// What happens to a client; each thing a second after the one before.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// Subscribed: asked to recover, was recovered, and where.
        Subscribed(bool, bool, Epoch, u64),
        Publication(Epoch, u64),
    }
    use Event::{Publication, Subscribed};

    fn fresh() -> Event {
        Subscribed(false, false, OLD, 0)
    }

    fn old(offset: u64) -> Event {
        Publication(OLD, offset)
    }

    fn second(count: usize) -> Duration {
        Duration::from_secs(count as u64)
    }

    /// A log in which each of `acknowledged` was sent in its second.
    fn log(acknowledged: &[(usize, Epoch, u64)]) -> Log {
        let mut log = Log::new(1_000);
        assert_eq!((log.epoch("old"), log.epoch("new")), (OLD, NEW));
        for (seq, &(sent_at, epoch, offset)) in (0..).zip(acknowledged) {
            log.acknowledge(Position { epoch, offset }, seq, second(sent_at));
        }
        log
    }

    fn judged(events: &[Event], log: &Log, is_live: bool) -> Verdict {
        let mut walk = Walk::default();
        for (count, event) in events.iter().enumerate() {
            match *event {
                Subscribed(asked, recovered, epoch, offset) => {
                    let at = Position { epoch, offset };
                    walk.subscribed(Answer { asked, recovered, at }, second(count));
                }
                Publication(epoch, offset) => walk.publication(Position { epoch, offset }, second(count)),
            }
        }
        walk.finish(log, is_live)
    }

    /// Lost silently, lost declared, duplicated, reordered, behind at the end.
    fn counts(verdict: &Verdict) -> [u64; 5] {
        assert_eq!(verdict.forked, 0, "nobody sees a fork from one place");
        let Verdict { lost_silent, lost_declared, duplicated, reordered, behind_at_end, .. } = *verdict;
        [lost_silent, lost_declared, duplicated, reordered, behind_at_end]
    }

    /// Judges a live client, with four publications acknowledged in the old epoch.
    fn of_four(events: &[Event]) -> [u64; 5] {
        let log = log(&[(1, OLD, 1), (2, OLD, 2), (3, OLD, 3), (4, OLD, 4)]);
        counts(&judged(events, &log, true))
    }

    #[test]
    fn all_in_order_is_clean() {
        assert_eq!(of_four(&[fresh(), old(1), old(2), old(3), old(4)]), [0; 5]);
        let late = Subscribed(false, false, OLD, 2);
        assert_eq!(of_four(&[late, old(3), old(4)]), [0; 5], "what was before is no concern");
        let back = Subscribed(true, true, OLD, 2);
        assert_eq!(of_four(&[fresh(), old(1), old(2), back, old(3), old(4)]), [0; 5], "it recovered");
        assert_eq!(of_four(&[fresh(), old(1), old(2), back, back, old(3), old(4)]), [0; 5], "twice");
    }

    #[test]
    fn each_fault_has_its_count() {
        let unasked = Subscribed(false, false, OLD, 4);
        let told = Subscribed(true, false, OLD, 4);
        let back = Subscribed(true, true, OLD, 2);
        let table: &[(&str, &[Event], [u64; 5])] = &[
            ("a hole", &[fresh(), old(1), old(2), old(4)], [1, 0, 0, 0, 0]),
            ("a large hole", &[fresh(), old(4)], [3, 0, 0, 0, 0]),
            ("the last is missing", &[fresh(), old(1), old(2), old(3)], [1, 0, 0, 0, 1]),
            ("nothing came", &[fresh()], [4, 0, 0, 0, 1]),
            ("twice at once", &[fresh(), old(1), old(2), old(2), old(3), old(4)], [0, 0, 1, 0, 0]),
            ("twice, later", &[fresh(), old(1), old(2), old(3), old(1), old(4)], [0, 0, 1, 0, 0]),
            (
                "repeated by recovery",
                &[fresh(), old(1), old(2), back, old(2), old(3), old(4)],
                [0, 0, 1, 0, 0],
            ),
            ("a hole in recovery", &[fresh(), old(1), old(2), back, old(4)], [1, 0, 0, 0, 0]),
            ("out of order, not lost", &[fresh(), old(2), old(1), old(3), old(4)], [0, 0, 0, 1, 0]),
            ("out of order and twice", &[fresh(), old(2), old(1), old(1), old(3), old(4)], [0, 0, 1, 1, 0]),
            ("told", &[fresh(), old(1), told], [0, 3, 0, 0, 0]),
            ("back without recovery", &[fresh(), old(1), unasked], [3, 0, 0, 0, 0]),
            ("what the top covers comes after it", &[told, old(3)], [0, 0, 0, 1, 0]),
        ];
        for (name, events, expected) in table {
            assert_eq!(of_four(events), *expected, "{name}");
        }
    }

    #[test]
    fn back_without_recovery_in_time_is_clean() {
        let unasked = Subscribed(false, false, OLD, 2);
        assert_eq!(of_four(&[fresh(), old(1), old(2), unasked, old(3), old(4)]), [0; 5]);
    }

    #[test]
    fn who_is_away_at_the_end_is_behind_but_lost_nothing() {
        let log = log(&[(1, OLD, 1), (2, OLD, 2)]);
        assert_eq!(counts(&judged(&[fresh(), old(1)], &log, false)), [0, 0, 0, 0, 1]);
        assert_eq!(counts(&judged(&[fresh(), old(1), old(2)], &log, false)), [0; 5]);
        assert_eq!(counts(&judged(&[], &log, false)), [0; 5], "it was never there");
    }

    #[test]
    fn a_new_epoch_of_which_a_client_is_told_is_declared() {
        let told = Subscribed(true, false, NEW, 1);
        let log = log(&[(1, OLD, 1), (1, OLD, 2), (1, NEW, 1), (9, NEW, 2)]);
        let events = [fresh(), old(1), told, Publication(NEW, 2)];
        assert_eq!(counts(&judged(&events, &log, true)), [0, 2, 0, 0, 0]);
        let by_publication = [fresh(), old(1), old(2), Publication(NEW, 1), Publication(NEW, 2)];
        assert_eq!(counts(&judged(&by_publication, &log, true)), [0; 5]);
        let by_later_publication = [fresh(), old(1), old(2), Publication(NEW, 2)];
        assert_eq!(counts(&judged(&by_later_publication, &log, true)), [1, 0, 0, 0, 0], "1 is missing");
    }

    #[test]
    fn being_told_excuses_nothing_that_is_published_later() {
        let told = Subscribed(true, false, NEW, 0);
        // The old epoch goes on beside the new one, as if nodes were islands.
        let log = log(&[(1, OLD, 1), (9, OLD, 2), (9, NEW, 1)]);
        let events = [fresh(), old(1), told, Publication(NEW, 1)];
        assert_eq!(counts(&judged(&events, &log, true)), [1, 0, 0, 0, 1]);
    }

    #[test]
    fn an_epoch_of_which_nobody_told_is_lost() {
        let log = log(&[(1, OLD, 1), (2, NEW, 1), (3, NEW, 2)]);
        assert_eq!(counts(&judged(&[fresh(), old(1)], &log, true)), [2, 0, 0, 0, 1]);
        let lied = Subscribed(true, true, NEW, 1);
        let events = [fresh(), old(1), lied, Publication(NEW, 2)];
        assert_eq!(counts(&judged(&events, &log, true)), [1, 0, 0, 0, 0], "recovered, and in another epoch");
    }

    #[test]
    fn what_a_history_lost_of_its_end_may_come_anew() {
        let rolled_back = Subscribed(true, false, OLD, 1);
        let events = [fresh(), old(1), old(2), rolled_back, old(2), old(3), old(4)];
        assert_eq!(of_four(&events), [0; 5]);
        let hole = [fresh(), old(1), old(2), rolled_back, old(3), old(4)];
        assert_eq!(of_four(&hole), [1, 0, 0, 0, 0], "what came in this place before is another one");
        let quiet = [fresh(), old(1), old(2), old(3), old(4), rolled_back];
        assert_eq!(of_four(&quiet), [0; 5], "what a client had it has");
    }

    #[test]
    fn what_was_before_a_client_came_is_no_concern() {
        let log = log(&[(0, OLD, 1), (2, NEW, 1)]);
        let events = [Subscribed(false, false, NEW, 0), Publication(NEW, 1)];
        assert_eq!(counts(&judged(&events, &log, true)), [0; 5], "not even in an older epoch");
    }

    #[test]
    fn examples_say_what_and_where() {
        let log = log(&[(1, OLD, 1), (2, OLD, 2)]);
        let verdict = judged(&[fresh()], &log, true);
        assert_eq!(verdict.examples, ["2 never came, the first at old/1"]);
        let verdict = judged(&[fresh(), old(1), old(4)], &log, true);
        assert_eq!(verdict.examples, ["after 1 came nothing up to 3, and nobody said so"]);
    }

    #[test]
    fn a_client_with_endless_trouble_is_still_judged() {
        let told = |count: u64| [Subscribed(true, false, OLD, 2 * count), old(2 * count + 1)];
        let events: Vec<Event> = [fresh()].into_iter().chain((1..1_000).flat_map(told)).collect();
        let acknowledged: Vec<_> = (1..2_000).map(|offset| (1, OLD, offset)).collect();
        let mut log = log(&[]);
        log = acknowledged.iter().fold(log, |mut log, &(at, epoch, offset)| {
            log.acknowledge(Position { epoch, offset }, offset, second(at));
            log
        });
        let verdict = judged(&events, &log, true);
        assert_eq!((verdict.lost_silent, verdict.duplicated, verdict.reordered), (0, 0, 0));
        let hole = [events, vec![old(2_010)]].concat();
        assert_eq!(judged(&hole, &log, true).lost_silent, 10, "2000 to 2009");
    }

    /// What may happen in a world in which the server is faithful.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Publish,
        /// The client loses its connection, if it has one.
        Close,
        /// The client comes back, if it is away; the server still has this many publications.
        Return(u64),
        /// The history begins anew, and the client is told.
        Restart,
    }

    /// A channel and a client that listens to it.
    struct World {
        log: Log,
        events: Vec<(Event, u64)>,
        /// The publications of each epoch.
        seqs: Vec<Vec<u64>>,
        published: u64,
        client: Option<Position>,
        is_live: bool,
    }

    impl World {
        /// Everything happens at the time of its step; the client is there from the beginning, and to the end.
        fn after(steps: &[Step]) -> Self {
            let mut log = Log::new(10_000);
            log.epoch("0");
            let seqs = vec![Vec::new()];
            let mut world =
                Self { log, events: Vec::new(), seqs, published: 0, client: None, is_live: false };
            world.come(u64::MAX, 0);
            for (step, time) in steps.iter().zip(1..) {
                world.step(*step, time);
            }
            world.come(u64::MAX, steps.len() as u64 + 1);
            world
        }

        fn step(&mut self, step: Step, time: u64) {
            match step {
                Step::Publish => self.publish(time),
                Step::Close => self.is_live = false,
                Step::Return(kept) => self.come(kept, time),
                Step::Restart => {
                    let epoch = self.log.epoch(&self.seqs.len().to_string());
                    assert_eq!(epoch.0 as usize, self.seqs.len());
                    self.seqs.push(Vec::new());
                    if std::mem::take(&mut self.is_live) {
                        self.come(u64::MAX, time);
                    }
                }
            }
        }

        fn top(&self) -> Position {
            let newest = self.seqs.len() - 1;
            Position { epoch: Epoch(newest as u32), offset: self.seqs[newest].len() as u64 }
        }

        fn publish(&mut self, time: u64) {
            let seq = self.published;
            self.published += 1;
            self.seqs.last_mut().unwrap().push(seq);
            let at = self.top();
            self.log.acknowledge(at, seq, Duration::from_secs(time));
            if self.is_live {
                self.give(at, time);
            }
        }

        fn give(&mut self, at: Position, time: u64) {
            self.events.push((Publication(at.epoch, at.offset), time));
            self.client = Some(at);
        }

        fn come(&mut self, kept: u64, time: u64) {
            if std::mem::replace(&mut self.is_live, true) {
                return;
            }
            let top = self.top();
            let recovers = |from: &Position| from.epoch == top.epoch && top.offset - from.offset <= kept;
            let from = self.client.filter(recovers);
            let at = from.unwrap_or(top);
            let event = Subscribed(self.client.is_some(), from.is_some(), at.epoch, at.offset);
            self.events.push((event, time));
            self.client = Some(at);
            for offset in at.offset + 1..=top.offset {
                self.give(Position { offset, ..top }, time);
            }
        }

        /// The places in the list of events where a publication is that no later verdict excuses.
        fn owed(&self) -> Vec<usize> {
            let is_told = |event: &Event| matches!(event, Subscribed(true, false, ..));
            let owed = |index: &usize| {
                let rest = &self.events[index + 1..];
                let next = rest.iter().find(|(event, _)| is_told(event) || matches!(event, Publication(..)));
                next.is_none_or(|(event, _)| !is_told(event))
            };
            let is_publication = |index: &usize| matches!(self.events[*index].0, Publication(..));
            (0..self.events.len()).filter(is_publication).filter(owed).collect()
        }

        fn verdict(mut self) -> Verdict {
            let mut walk = Walk::default();
            for (event, time) in self.events {
                let now = Duration::from_secs(time);
                match event {
                    Subscribed(asked, recovered, epoch, offset) => {
                        walk.subscribed(Answer { asked, recovered, at: Position { epoch, offset } }, now);
                    }
                    Publication(epoch, offset) => {
                        let known = self.seqs[epoch.0 as usize].get(offset as usize - 1);
                        self.log.saw(Position { epoch, offset }, *known.unwrap());
                        walk.publication(Position { epoch, offset }, now);
                    }
                }
            }
            let mut verdict = walk.finish(&self.log, true);
            verdict.add(self.log.verdict(), "log");
            verdict
        }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => Just(Step::Publish),
            2 => Just(Step::Close),
            3 => prop_oneof![Just(u64::MAX), 0..4_u64].prop_map(Step::Return),
            1 => Just(Step::Restart),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_faithful_server_is_clean(steps in steps()) {
            let verdict = World::after(&steps).verdict();
            prop_assert!(verdict.is_clean(), "{verdict:?}");
        }

        #[test]
        fn any_one_loss_is_found(steps in steps(), which: Index) {
            let mut world = World::after(&steps);
            let owed = world.owed();
            prop_assume!(!owed.is_empty());
            world.events.remove(owed[which.index(owed.len())]);
            prop_assert_eq!(world.verdict().lost_silent, 1);
        }

        #[test]
        fn any_one_repeat_is_found(steps in steps(), which: Index, later: Index) {
            let mut world = World::after(&steps);
            let owed = world.owed();
            prop_assume!(!owed.is_empty());
            let index = owed[which.index(owed.len())];
            // Again, at once or anywhere later in the same epoch.
            let is_other = |(event, _): &(Event, u64)| matches!(event, Subscribed(true, false, ..));
            let rest = &world.events[index + 1..];
            let stretch = rest.iter().position(is_other).unwrap_or(rest.len());
            world.events.insert(index + 1 + later.index(stretch + 1), world.events[index]);
            prop_assert_eq!(world.verdict().duplicated, 1);
        }

        #[test]
        fn any_one_swap_is_found(steps in steps(), which: Index) {
            let mut world = World::after(&steps);
            let is_pair = |index: &usize| {
                let pair = (world.events[*index].0, world.events[index + 1].0);
                matches!(pair, (Publication(first, _), Publication(second, _)) if first == second)
            };
            let pairs: Vec<usize> = (0..world.events.len() - 1).filter(is_pair).collect();
            prop_assume!(!pairs.is_empty());
            let index = pairs[which.index(pairs.len())];
            world.events.swap(index, index + 1);
            let verdict = world.verdict();
            prop_assert_eq!((verdict.reordered, verdict.lost_silent, verdict.duplicated), (1, 0, 0));
        }

        #[test]
        fn any_one_change_is_found(steps in steps(), which: Index) {
            let mut world = World::after(&steps);
            let owed = world.owed();
            prop_assume!(!owed.is_empty());
            let Publication(epoch, offset) = world.events[owed[which.index(owed.len())]].0 else {
                unreachable!("only publications are owed")
            };
            // Clients see another publication in that place than was acknowledged.
            world.seqs[epoch.0 as usize][offset as usize - 1] += 1_000;
            prop_assert!(world.verdict().forked > 0);
        }
    }
}
