//! When it is somebody's turn: a token bucket with a short queue, and behind that a longer one that nobody stands in.
//!
//! Pure arithmetic; the time is given. A bucket is one moment, that of the next turn if none had been saved up (GCRA,
//! ITU-T I.371): it needs nobody to refill it. The queue of those who were sent away is another moment, up to which
//! turns were promised. It is only advice, so both run off by themselves.

use std::time::{Duration, Instant};

/// How long somebody may wait for a turn. Longer than that is too long to hold a socket for nothing, and a proxy in
/// front may give up; shorter would send away whom a second of patience lets in.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// The part of a second whose turns may be taken at once. Clients come in clusters, and whoever comes after a quiet
/// moment should not wait; but what is let in at once is also work that is done at once, before anything is delivered.
const BURST_SHARE: usize = 10;
/// How far ahead turns are promised. Who comes after that is told a moment in its second half, at random.
const HORIZON: Duration = Duration::from_secs(45);
/// Least and most that is advised, in seconds.
const ADVICE_SECONDS: std::ops::RangeInclusive<u64> = 1..=60;

/// When somebody may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// After this; zero for at once. Never more than [`PATIENCE`].
    After(Duration),
    /// Too late to wait for it. No turn was taken.
    TooLate,
}

/// The turns of a node.
#[derive(Debug)]
pub(super) struct Turns {
    /// Between two turns.
    interval: Duration,
    /// By how much turns may come early because some before them were not taken.
    saved_max: Duration,
    next_at: Instant,
    /// Up to where turns were promised to those who were sent away.
    promised_until: Instant,
}

impl Turns {
    /// So many turns in a second, at least 1, from `now` on.
    pub(super) fn new(per_second: usize, now: Instant) -> Self {
        let per_second = u64::try_from(per_second.max(1)).unwrap_or(u64::MAX);
        // Rounded up: never more than so many.
        let interval = Duration::from_nanos(1_000_000_000u64.div_ceil(per_second));
        let burst = (per_second / BURST_SHARE as u64).max(1);
        let saved_max = interval.saturating_mul(u32::try_from(burst - 1).unwrap_or(u32::MAX));
        Self { interval, saved_max, next_at: now, promised_until: now }
    }

    /// Takes the next turn, unless it comes too late.
    pub(super) fn take(&mut self, now: Instant) -> Turn {
        let wait = self.wait(now);
        if wait > PATIENCE {
            return Turn::TooLate;
        }
        self.next_at = self.next_at.max(now) + self.interval;
        Turn::After(wait)
    }

    /// Takes a place behind all who wait and all who were sent away before: when it may be this one's turn, from now.
    /// Never zero, and never more than [`HORIZON`].
    pub(super) fn promise(&mut self, now: Instant) -> Duration {
        let last = self.promised_until.max(now + self.wait(now));
        self.promised_until = (last + self.interval).min(now + HORIZON);
        self.promised_until.duration_since(now)
    }

    /// How long whoever comes now would wait.
    fn wait(&self, now: Instant) -> Duration {
        self.next_at.saturating_duration_since(now).saturating_sub(self.saved_max)
    }
}

/// What to say in `Retry-After` for a place that [`Turns::promise`] gave, in seconds: the place, and up to a second
/// and a quarter of it more. `chance` is from 0 to 1.
pub(super) fn advice(place: Duration, chance: f64) -> u64 {
    // Promises end there: whoever was told the same moment would come at the same moment.
    let place = if place < HORIZON { place } else { HORIZON.mul_f64(0.5 + chance / 2.0) };
    let jitter = (Duration::from_secs(1) + place / 4).mul_f64(chance);
    let seconds = (place + jitter).as_secs_f64().ceil() as u64;
    seconds.clamp(*ADVICE_SECONDS.start(), *ADVICE_SECONDS.end())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn promised(turns: &mut Turns, now: Instant) -> Option<Duration> {
        match turns.take(now) {
            Turn::After(_) => None,
            Turn::TooLate => Some(turns.promise(now)),
        }
    }

    #[test]
    fn a_burst_comes_in_at_once_and_the_rest_one_after_another() {
        let now = Instant::now();
        let mut turns = Turns::new(100, now);
        let waits: Vec<u128> = (0..13)
            .map(|_| match turns.take(now) {
                Turn::After(wait) => wait.as_millis(),
                Turn::TooLate => panic!("it is within a second"),
            })
            .collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 20, 30]);
    }

    #[test]
    fn of_a_herd_a_second_waits_and_the_rest_is_spread_over_what_it_takes() {
        let now = Instant::now();
        let mut turns = Turns::new(1_000, now);
        let places: Vec<Duration> = (0..8_000).filter_map(|_| promised(&mut turns, now)).collect();
        assert_eq!(8_000 - places.len(), 1_000 + 100, "a second, and the burst");
        for (second, range) in [(1, 0..1_000), (3, 2_000..3_000), (6, 5_000..6_000)] {
            let those = &places[range];
            let is_there = |place: &&Duration| (second..=second + 1).contains(&place.as_secs());
            assert_eq!(those.iter().filter(is_there).count(), 1_000, "second {second}");
        }
    }

    #[test]
    fn who_is_rare_never_waits_and_a_rate_of_one_lets_one_in() {
        let start = Instant::now();
        let mut turns = Turns::new(1, start);
        for second in 0..5 {
            assert_eq!(turns.take(start + SECOND * second), Turn::After(Duration::ZERO));
        }
        assert_eq!(turns.take(start + SECOND * 4), Turn::After(SECOND));
        assert_eq!(turns.take(start + SECOND * 4), Turn::TooLate);
    }

    #[test]
    fn after_quiet_everything_is_forgotten() {
        let start = Instant::now();
        let mut turns = Turns::new(10, start);
        for _ in 0..100_000 {
            promised(&mut turns, start);
        }
        let later = start + HORIZON + SECOND;
        assert_eq!(turns.take(later), Turn::After(Duration::ZERO));
        assert_eq!(turns.promise(later), SECOND / 10 * 2, "behind the one that has just come");
    }

    #[test]
    fn advice_is_bounded_and_beyond_the_horizon_at_random() {
        assert_eq!(advice(Duration::from_millis(1), 0.0), 1);
        assert_eq!((advice(SECOND * 4, 0.0), advice(SECOND * 4, 1.0)), (4, 6));
        assert_eq!((advice(HORIZON, 0.0), advice(HORIZON, 1.0)), (23, 58));
    }

    proptest! {
        /// Whoever comes when, in no time are more let in than the rate and a burst, nobody waits longer than a second,
        /// and whoever is sent away after somebody else at the same moment is told no earlier time.
        #[test]
        fn never_more_come_in_than_the_rate(
            per_second in 1usize..5_000,
            gaps in prop::collection::vec((0u64..200_000_000, 1usize..400), 1..60),
        ) {
            let mut now = Instant::now();
            let mut turns = Turns::new(per_second, now);
            let mut let_in = Vec::new();
            for (gap, comers) in gaps {
                now += Duration::from_nanos(gap);
                let mut last_place = Duration::ZERO;
                for _ in 0..comers {
                    match turns.take(now) {
                        Turn::After(wait) => {
                            prop_assert!(wait <= PATIENCE);
                            let_in.push(now + wait);
                        }
                        Turn::TooLate => {
                            let place = turns.promise(now);
                            prop_assert!(place >= last_place && place > Duration::ZERO && place <= HORIZON);
                            last_place = place;
                        }
                    }
                }
            }
            prop_assert!(let_in.is_sorted(), "nobody is overtaken");
            let burst = (per_second / BURST_SHARE).max(1);
            for (first, from) in let_in.iter().enumerate().step_by(7) {
                for (last, until) in let_in.iter().enumerate().skip(first).step_by(11) {
                    let time = until.duration_since(*from).as_secs_f64();
                    let most = time * per_second as f64 + burst as f64;
                    prop_assert!((last - first + 1) as f64 <= most + 1e-6, "{} in {time}", last - first + 1);
                }
            }
        }
    }
}
