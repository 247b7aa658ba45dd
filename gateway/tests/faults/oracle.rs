//! Whether what subscribers saw is what was published: the judge of every fault.
//!
//! It knows no socket: it gets what publishers were answered, what each subscriber saw of a channel in its order, and
//! where each channel's history ends. A subscriber may miss something only if it was told so in between, by a verdict
//! that it was not recovered.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// A place in a channel's history.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Position {
    pub(crate) epoch: Arc<str>,
    pub(crate) offset: u64,
}

impl Position {
    pub(crate) fn new(epoch: &str, offset: u64) -> Self {
        Self { epoch: epoch.into(), offset }
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.epoch, self.offset)
    }
}

/// How a subscription began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The subscriber had no position: it sees what comes from now on.
    Fresh,
    /// It gets exactly what it missed.
    Recovered,
    /// It missed something that it will not get.
    NotRecovered,
}

/// One thing that a subscriber saw of a channel.
#[derive(Clone, Debug)]
pub(crate) enum Sight {
    /// With [`Verdict::Recovered`] the position is the one from which it recovers, else the top.
    Subscribed(Verdict, Position),
    /// A publication; the number says which one it is, among all of the run.
    Publication(Position, u64),
}

/// What one subscriber saw of one channel.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) subscriber: String,
    pub(crate) channel: Arc<str>,
    /// When it first was subscribed.
    pub(crate) since: Instant,
    pub(crate) sights: Vec<Sight>,
}

/// A publication of which somebody was told its place.
#[derive(Clone, Debug)]
pub(crate) struct Ack {
    pub(crate) channel: Arc<str>,
    pub(crate) position: Position,
    pub(crate) number: u64,
    /// When it was sent for the first time.
    pub(crate) sent_at: Instant,
    pub(crate) acked_at: Instant,
}

/// What was found; all but `lost_declared` must be 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Publications that a subscriber did not get and was not told of, summed over subscribers.
    pub(crate) lost_silent: u64,
    /// Acknowledged publications that a subscriber did not get, and it was told.
    pub(crate) lost_declared: u64,
    /// Places or publications that came twice to a subscriber, or that one publication got twice.
    pub(crate) dup: u64,
    /// Publications that came after later ones.
    pub(crate) reorder: u64,
    /// Places with two different publications.
    pub(crate) forks: u64,
    /// The first of what was wrong, in words.
    pub(crate) details: Vec<String>,
}

/// More details than these help nobody.
const DETAILS_MAX: usize = 12;

impl Findings {
    pub(crate) fn is_clean(&self) -> bool {
        self.lost_silent == 0 && self.dup == 0 && self.reorder == 0 && self.forks == 0
    }

    fn detail(&mut self, record: &Record, what: fmt::Arguments<'_>) {
        if self.details.len() < DETAILS_MAX {
            self.details.push(format!("{} in {}: {what}", record.subscriber, record.channel));
        }
    }
}

/// Judges `records` by what was acknowledged and by the `tops` of the channels once all was quiet.
pub(crate) fn judge(acks: &[Ack], records: &[Record], tops: &HashMap<Arc<str>, Position>) -> Findings {
    let mut findings = Findings::default();
    let mut places = Places::default();
    let mut by_channel: HashMap<&str, Vec<&Ack>> = HashMap::new();
    for ack in acks {
        places.enter(&ack.channel, &ack.position, ack.number, &mut findings);
        by_channel.entry(&ack.channel).or_default().push(ack);
    }
    count_double_acks(acks, &mut findings);
    for record in records {
        let mut walk = Walk::new(record);
        for sight in &record.sights {
            if let Sight::Publication(position, number) = sight {
                places.enter(&record.channel, position, *number, &mut findings);
            }
            walk.step(sight, &mut findings);
        }
        let acks = by_channel.get(&*record.channel).map_or(&[][..], Vec::as_slice);
        walk.finish(acks, tops.get(&record.channel), &mut findings);
    }
    findings
}

/// One publication has one place.
fn count_double_acks(acks: &[Ack], findings: &mut Findings) {
    let mut acked: HashMap<u64, &Position> = HashMap::new();
    for ack in acks {
        let first = *acked.entry(ack.number).or_insert(&ack.position);
        if *first != ack.position {
            findings.dup += 1;
            findings
                .details
                .push(format!("{} was acknowledged at {first:?} and {:?}", ack.number, ack.position));
        }
    }
}

/// Which publication is where, as anybody saw or was told it.
#[derive(Default)]
struct Places(HashMap<(Arc<str>, Position), u64>);

impl Places {
    fn enter(&mut self, channel: &Arc<str>, position: &Position, number: u64, findings: &mut Findings) {
        let first = *self.0.entry((Arc::clone(channel), position.clone())).or_insert(number);
        if first != number {
            findings.forks += 1;
            if findings.details.len() < DETAILS_MAX {
                findings.details.push(format!("{channel} has {first} and {number} at {position:?}"));
            }
        }
    }
}

/// What a subscriber skipped.
struct Gap {
    from: Position,
    to: Position,
    is_declared: bool,
}

impl Gap {
    /// `held` are the epochs in which the subscriber has been.
    fn covers(&self, position: &Position, held: &HashSet<Arc<str>>) -> bool {
        let after = position.epoch == self.from.epoch && position.offset > self.from.offset;
        let before = position.epoch == self.to.epoch && position.offset <= self.to.offset;
        if self.from.epoch == self.to.epoch {
            return after && before;
        }
        after || before || !held.contains(&position.epoch)
    }
}

/// Goes through a record.
struct Walk<'a> {
    record: &'a Record,
    position: Option<Position>,
    seen: HashSet<Position>,
    numbers: HashMap<u64, Position>,
    held: HashSet<Arc<str>>,
    gaps: Vec<Gap>,
    /// Publications that came a second time, at another place.
    repeats: Vec<(u64, Position, Position)>,
}

impl<'a> Walk<'a> {
    fn new(record: &'a Record) -> Self {
        Self {
            record,
            position: None,
            seen: HashSet::new(),
            numbers: HashMap::new(),
            held: HashSet::new(),
            gaps: Vec::new(),
            repeats: Vec::new(),
        }
    }

    fn step(&mut self, sight: &Sight, findings: &mut Findings) {
        match sight {
            Sight::Subscribed(verdict, position) => self.subscribed(*verdict, position, findings),
            Sight::Publication(position, number) => self.publication(position, *number, findings),
        }
    }

    fn subscribed(&mut self, verdict: Verdict, to: &Position, findings: &mut Findings) {
        self.held.insert(Arc::clone(&to.epoch));
        let Some(from) = self.position.clone() else {
            self.position = Some(to.clone());
            return;
        };
        match verdict {
            Verdict::Recovered if from.epoch == to.epoch && from.offset >= to.offset => {}
            Verdict::Recovered => self.skip(from, to, findings),
            Verdict::Fresh | Verdict::NotRecovered => {
                // Offsets above the top are void, even if the epoch is the same.
                self.seen.retain(|seen| seen.epoch != to.epoch || seen.offset <= to.offset);
                self.position = Some(to.clone());
                self.gaps.push(Gap { from, to: to.clone(), is_declared: true });
            }
        }
    }

    fn publication(&mut self, at: &Position, number: u64, findings: &mut Findings) {
        let from = self.position.clone().unwrap_or_else(|| Position::new(&at.epoch, at.offset - 1));
        self.held.insert(Arc::clone(&at.epoch));
        if !self.seen.insert(at.clone()) {
            findings.dup += 1;
            findings.detail(self.record, format_args!("{at:?} came twice"));
            return;
        }
        if let Some(first) = self.numbers.insert(number, at.clone()) {
            self.repeats.push((number, first, at.clone()));
        }
        if from.epoch == at.epoch && at.offset <= from.offset {
            findings.reorder += 1;
            findings.detail(self.record, format_args!("{at:?} came after {from:?}"));
            return;
        }
        if from.epoch != at.epoch || at.offset > from.offset + 1 {
            let last_missed = Position { epoch: Arc::clone(&at.epoch), offset: at.offset - 1 };
            self.skip(from, &last_missed, findings);
        }
        self.position = Some(at.clone());
    }

    /// Something is missing, and nobody said so.
    fn skip(&mut self, from: Position, to: &Position, findings: &mut Findings) {
        let missed = if from.epoch == to.epoch { to.offset - from.offset } else { to.offset.max(1) };
        findings.lost_silent += missed;
        findings.detail(self.record, format_args!("nothing between {from:?} and behind {to:?}"));
        self.position = Some(to.clone());
        self.gaps.push(Gap { from, to: to.clone(), is_declared: false });
    }

    /// Compares with what was acknowledged, and with where the channel's history ends.
    fn finish(mut self, acks: &[&Ack], top: Option<&Position>, findings: &mut Findings) {
        self.judge_repeats(acks, findings);
        let position = self.position.clone();
        if let (Some(from), Some(top)) = (position, top)
            && from != *top
        {
            let is_ahead = from.epoch == top.epoch && from.offset > top.offset;
            let end = if is_ahead { from.clone() } else { top.clone() };
            if is_ahead {
                findings.forks += 1;
                findings.detail(self.record, format_args!("it is at {from:?}, but the top is {top:?}"));
            } else {
                self.skip(from, &end, findings);
            }
        }
        for ack in acks.iter().filter(|ack| ack.sent_at > self.record.since) {
            if self.seen.contains(&ack.position) {
                continue;
            }
            let covering = self.gaps.iter().filter(|gap| gap.covers(&ack.position, &self.held));
            match covering.map(|gap| gap.is_declared).max() {
                Some(true) => findings.lost_declared += 1,
                // It was counted when it was skipped.
                Some(false) => {}
                None => {
                    findings.lost_silent += 1;
                    findings.detail(self.record, format_args!("{:?} never came", ack.position));
                }
            }
        }
    }

    /// A publication may come again in a new epoch if nobody was told that it was in the old one: its publisher had to
    /// try again, and Redis had forgotten the first time.
    fn judge_repeats(&self, acks: &[&Ack], findings: &mut Findings) {
        for (number, first, second) in &self.repeats {
            let was_promised = acks.iter().any(|ack| ack.number == *number && ack.position == *first);
            if first.epoch == second.epoch || was_promised {
                findings.dup += 1;
                findings.detail(self.record, format_args!("{number} came as {first:?} and {second:?}"));
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    crate::own::tests!(
        all_in_order_passes,
        a_planted_loss_is_silent,
        a_planted_repeat_is_found,
        a_planted_swap_is_found,
        a_planted_fork_is_found,
        two_subscribers_that_see_different_things_disagree,
        a_loss_of_which_the_subscriber_was_told_is_declared,
        a_verdict_covers_no_more_than_it_says,
        a_new_epoch_needs_a_verdict,
        a_subscriber_that_is_not_told_of_a_new_epoch_is_found,
        a_publication_that_was_not_promised_may_come_again_in_a_new_epoch
    );

    const CHANNEL: &str = "kept:a";

    fn at(epoch: &str, offset: u64) -> Position {
        Position::new(epoch, offset)
    }

    /// The publication at an offset of the epoch `e` has the number 100 + offset.
    fn publication(offset: u64) -> Sight {
        Sight::Publication(at("e", offset), 100 + offset)
    }

    fn subscribed(verdict: Verdict, epoch: &str, offset: u64) -> Sight {
        Sight::Subscribed(verdict, at(epoch, offset))
    }

    fn fresh() -> Sight {
        subscribed(Verdict::Fresh, "e", 0)
    }

    /// One subscriber saw these, five publications are acknowledged in the epoch `e`, and the top is `top`.
    fn judged_with(
        sights: impl IntoIterator<Item = Sight>,
        top: Position,
        more: &[(Position, u64)],
    ) -> Findings {
        let start = Instant::now();
        let channel: Arc<str> = CHANNEL.into();
        let later = start + Duration::from_secs(1);
        let ack = |(position, number): (Position, u64)| Ack {
            channel: Arc::clone(&channel),
            position,
            number,
            sent_at: later,
            acked_at: later,
        };
        let five = (1..=5).map(|offset| (at("e", offset), 100 + offset));
        let acks: Vec<Ack> = five.chain(more.iter().cloned()).map(ack).collect();
        let sights = sights.into_iter().collect();
        let record = Record { subscriber: "bob".into(), channel: channel.clone(), since: start, sights };
        judge(&acks, &[record], &HashMap::from([(channel, top)]))
    }

    fn judged(sights: impl IntoIterator<Item = Sight>) -> Findings {
        judged_with(sights, at("e", 5), &[])
    }

    fn all_in_order_passes() {
        let findings = judged([fresh()].into_iter().chain((1..=5).map(publication)));
        assert_eq!(findings, Findings::default());
        // An unsubscription and a reconnect in between make no difference.
        let back = subscribed(Verdict::Recovered, "e", 2);
        let sights =
            [fresh(), publication(1), publication(2), back, publication(3), publication(4), publication(5)];
        assert_eq!(judged(sights), Findings::default());
    }

    fn a_planted_loss_is_silent() {
        let findings = judged([fresh(), publication(1), publication(2), publication(4), publication(5)]);
        assert_eq!((findings.lost_silent, findings.lost_declared), (1, 0));
        assert!(!findings.is_clean());
        let last = judged([fresh(), publication(1), publication(2), publication(3), publication(4)]);
        assert_eq!(last.lost_silent, 1, "the last one is missing");
        assert_eq!(judged([fresh()]).lost_silent, 5, "nothing came at all");
    }

    fn a_planted_repeat_is_found() {
        let repeated = judged([1, 2, 2, 3, 4, 5].map(publication));
        assert_eq!((repeated.dup, repeated.lost_silent, repeated.reorder), (1, 0, 0));
        // The same publication at a second place.
        let again = Sight::Publication(at("e", 6), 105);
        let sights = (1..=5).map(publication).chain([again]);
        assert_eq!(judged_with(sights, at("e", 6), &[]).dup, 1);
        // What was recovered begins too early.
        let sights = [publication(1), publication(2), subscribed(Verdict::Recovered, "e", 1), publication(2)];
        assert_eq!(judged(sights.into_iter().chain((3..=5).map(publication))).dup, 1);
        // The key of a retry did not hold.
        assert_eq!(judged_with((1..=5).map(publication), at("e", 5), &[(at("e", 4), 105)]).dup, 1);
    }

    fn a_planted_swap_is_found() {
        let findings = judged([1, 2, 4, 3, 5].map(publication));
        assert_eq!(findings.reorder, 1);
        assert!(!findings.is_clean());
    }

    fn a_planted_fork_is_found() {
        let other = Sight::Publication(at("e", 3), 999);
        let findings = judged([publication(1), publication(2), other, publication(4), publication(5)]);
        assert_eq!((findings.forks, findings.lost_silent), (1, 0));
        assert!(!findings.is_clean());
        // Somebody has more than there is.
        assert_eq!(judged_with((1..=5).map(publication), at("e", 4), &[]).forks, 1);
    }

    fn two_subscribers_that_see_different_things_disagree() {
        let (start, channel): (_, Arc<str>) = (Instant::now(), CHANNEL.into());
        let record = |number| Record {
            subscriber: format!("user {number}"),
            channel: Arc::clone(&channel),
            since: start,
            sights: vec![fresh(), Sight::Publication(at("e", 1), number)],
        };
        let tops = HashMap::from([(Arc::clone(&channel), at("e", 1))]);
        assert!(judge(&[], &[record(1), record(1)], &tops).is_clean());
        assert_eq!(judge(&[], &[record(1), record(2)], &tops).forks, 1);
    }

    fn a_loss_of_which_the_subscriber_was_told_is_declared() {
        let told = subscribed(Verdict::NotRecovered, "e", 4);
        let findings = judged([fresh(), publication(1), told, publication(5)]);
        assert_eq!((findings.lost_silent, findings.lost_declared), (0, 3));
        assert!(findings.is_clean());
        // The verdict covers what was before it alone.
        let told = subscribed(Verdict::NotRecovered, "e", 3);
        assert_eq!(judged([fresh(), publication(1), told, publication(5)]).lost_silent, 1);
    }

    fn a_verdict_covers_no_more_than_it_says() {
        // Who is subscribed at 0, and told that it is 1, never gets the first one.
        let (told, start) = (subscribed(Verdict::NotRecovered, "e", 4), subscribed(Verdict::Fresh, "e", 1));
        let findings = judged([start, publication(2), told, publication(5)]);
        assert_eq!((findings.lost_silent, findings.lost_declared), (1, 2));
    }

    fn a_new_epoch_needs_a_verdict() {
        let first_of_new = || Sight::Publication(at("f", 1), 201);
        let told = subscribed(Verdict::NotRecovered, "f", 0);
        let new = [(at("f", 1), 201)];
        let sights = [fresh(), publication(1), publication(2), told, first_of_new()];
        let findings = judged_with(sights, at("f", 1), &new);
        assert_eq!((findings.lost_silent, findings.lost_declared), (0, 3));
        let sights = [fresh(), publication(1), publication(2), first_of_new()];
        assert!(judged_with(sights, at("f", 1), &new).lost_silent > 0);
        let lie = subscribed(Verdict::Recovered, "f", 0);
        let sights = [fresh(), publication(1), publication(2), lie, first_of_new()];
        assert!(judged_with(sights, at("f", 1), &new).lost_silent > 0);
        // An epoch in between that it never was in is covered as well.
        let told = subscribed(Verdict::NotRecovered, "g", 0);
        let sights = (1..=5).map(publication).chain([told]);
        assert_eq!(judged_with(sights, at("g", 0), &new).lost_declared, 1);
    }

    fn a_subscriber_that_is_not_told_of_a_new_epoch_is_found() {
        assert!(judged_with((1..=5).map(publication), at("f", 0), &[]).lost_silent > 0);
    }

    fn a_publication_that_was_not_promised_may_come_again_in_a_new_epoch() {
        let unpromised = Sight::Publication(at("e", 6), 301);
        let told = subscribed(Verdict::NotRecovered, "f", 0);
        let again = Sight::Publication(at("f", 1), 301);
        let sights = || (1..=5).map(publication).chain([unpromised.clone(), told.clone(), again.clone()]);
        assert!(judged_with(sights(), at("f", 1), &[(at("f", 1), 301)]).is_clean());
        assert!(judged_with(sights(), at("f", 1), &[]).is_clean(), "never acknowledged");
        assert_eq!(judged_with(sights(), at("f", 1), &[(at("e", 6), 301)]).dup, 1);
    }
}
