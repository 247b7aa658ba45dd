//! Whether the numbers that a subscriber is given go on by one: nothing lost, nothing twice, all in order.

use std::ops::RangeInclusive;

/// So many gaps of one subscriber are kept apart. What is missing in later ones is only counted, and what is late there is a
/// repeat.
const GAPS_MAX: usize = 64;

/// The numbers that one subscriber has of one channel.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    /// The next number; 0 as long as any may come.
    due: u64,
    /// The first that was given, or must be.
    first: u64,
    gaps: Vec<RangeInclusive<u64>>,
    /// How many are missing in gaps that are not kept.
    forgotten: u64,
}

/// What a number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was due.
    Next,
    /// So many before it are missing.
    Gap(u64),
    /// It was missing: it comes after later ones.
    Late,
    /// It was there before.
    Repeat,
}

impl Sequence {
    /// Whatever comes first is the first.
    pub fn anywhere() -> Self {
        Self::default()
    }

    /// This number is the first.
    pub fn from(first: u64) -> Self {
        Self { due: first, first, ..Self::default() }
    }

    /// The next number that is due; 0 as long as any may come.
    pub fn due(&self) -> u64 {
        self.due
    }

    /// Takes the next number that was given. Numbers begin with 1.
    pub fn see(&mut self, number: u64) -> Seen {
        if self.due == 0 {
            self.first = number;
        }
        if self.due == 0 || number == self.due {
            self.due = number + 1;
            return Seen::Next;
        }
        if number > self.due {
            return self.skip(number);
        }
        if self.fill(number) { Seen::Late } else { Seen::Repeat }
    }

    /// Whether a number was given, or is in a gap that is not kept.
    pub fn has(&self, number: u64) -> bool {
        let is_missing = self.gaps.iter().any(|gap| gap.contains(&number));
        self.first <= number && number < self.due && !is_missing
    }

    /// What is missing, given that everything up to `last` was published.
    pub fn missing(&self, last: u64) -> impl Iterator<Item = RangeInclusive<u64>> {
        let tail = (self.due > 0 && self.due <= last).then_some(self.due..=last);
        self.gaps.iter().cloned().chain(tail)
    }

    /// How many more are missing than [`missing`](Self::missing) says, at least: some of the numbers that are `uncertain`, and
    /// need not have been given, may be among them.
    pub fn forgotten(&self, uncertain: impl Iterator<Item = u64>) -> u64 {
        if self.forgotten == 0 {
            return 0;
        }
        self.forgotten.saturating_sub(uncertain.filter(|number| self.has(*number)).count() as u64)
    }

    fn skip(&mut self, number: u64) -> Seen {
        let missing = number - self.due;
        if self.gaps.len() < GAPS_MAX {
            self.gaps.push(self.due..=number - 1);
        } else {
            self.forgotten += missing;
        }
        self.due = number + 1;
        Seen::Gap(missing)
    }

    /// Takes `number` out of the gap that it is in, if it is in one.
    fn fill(&mut self, number: u64) -> bool {
        let Some(at) = self.gaps.iter().position(|gap| gap.contains(&number)) else { return false };
        let gap = self.gaps.swap_remove(at);
        let parts = [*gap.start()..=number - 1, number + 1..=*gap.end()];
        self.gaps.extend(parts.into_iter().filter(|part| !part.is_empty()));
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(sequence: &mut Sequence, numbers: &[u64]) -> Vec<Seen> {
        numbers.iter().map(|number| sequence.see(*number)).collect()
    }

    #[test]
    fn numbers_that_go_on_are_clean() {
        let mut sequence = Sequence::from(1);
        assert_eq!(seen(&mut sequence, &[1, 2, 3]), [Seen::Next; 3]);
        assert_eq!(sequence.missing(3).count(), 0);
        let mut anywhere = Sequence::anywhere();
        assert_eq!(seen(&mut anywhere, &[41, 42]), [Seen::Next; 2]);
    }

    #[test]
    fn a_gap_at_the_start_within_and_at_the_end_is_found() {
        let mut sequence = Sequence::from(1);
        assert_eq!(seen(&mut sequence, &[2, 3, 7]), [Seen::Gap(1), Seen::Next, Seen::Gap(3)]);
        assert_eq!(sequence.missing(9).collect::<Vec<_>>(), [1..=1, 4..=6, 8..=9]);
        assert_eq!(Sequence::from(1).missing(2).collect::<Vec<_>>(), [1..=2]);
        assert_eq!(Sequence::anywhere().missing(2).count(), 0);
    }

    #[test]
    fn more_gaps_than_are_kept_are_counted() {
        let mut sequence = Sequence::from(1);
        // Every even number is missing; those of 64 gaps are known, and of six more only their count.
        (0..=70).for_each(|turn| _ = sequence.see(2 * turn + 1));
        assert_eq!(sequence.missing(141).count(), 64);
        assert_eq!(sequence.forgotten([].into_iter()), 6);
        assert_eq!(sequence.forgotten([2, 130, 140, 150].into_iter()), 4, "two of them need not have come");
        assert_eq!(Sequence::from(1).forgotten([1].into_iter()), 0);
    }

    #[test]
    fn disorder_is_told_from_a_repeat() {
        let mut sequence = Sequence::from(1);
        assert_eq!(
            seen(&mut sequence, &[1, 4, 3, 3, 1]),
            [Seen::Next, Seen::Gap(2), Seen::Late, Seen::Repeat, Seen::Repeat]
        );
        assert_eq!(sequence.missing(4).collect::<Vec<_>>(), [2..=2]);
    }

    proptest! {
        /// Whatever the order, and whatever comes twice: what is missing is what never came.
        #[test]
        fn missing_is_what_never_came(numbers in proptest::collection::vec(1_u64..40, 0..60)) {
            let mut sequence = Sequence::from(1);
            let repeats = numbers.iter().filter(|number| sequence.see(**number) == Seen::Repeat).count();
            let mut missing: Vec<u64> = sequence.missing(40).flatten().collect();
            missing.sort_unstable();
            let mut distinct = numbers.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(repeats, numbers.len() - distinct.len());
            prop_assert_eq!(missing, (1..=40).filter(|number| !distinct.contains(number)).collect::<Vec<_>>());
        }
    }
}
