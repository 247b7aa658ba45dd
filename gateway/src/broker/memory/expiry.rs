//! When memory can be given back: a hashed wheel of one slot a second.
//!
//! It is no clock for correctness. Whoever filed something looks at its deadline on every use; the wheel makes
//! sure that what nobody uses any more goes as well, without anything being searched.

use std::time::Duration;

use tokio::time::Instant;

/// Slots, and so how many seconds ahead the wheel knows. What is due later comes back to be filed again.
const SLOTS: u64 = 256;
/// No deadline lies further ahead: an [`Instant`] has an end.
const AHEAD_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The moment `delay` after `now`.
pub(super) fn after(now: Instant, delay: Duration) -> Instant {
    now + delay.min(AHEAD_MAX)
}

/// One second of a wheel, counted from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(u64);

/// Hands filed items out once their deadline has passed, up to a second late, or earlier if it was more than
/// [`SLOTS`] seconds ahead.
pub(super) struct Wheel<T> {
    start: Instant,
    /// What is filed, with the tick that it is filed for.
    slots: Box<[Vec<(Tick, T)>]>,
    /// What was filed for the ticks before this one has been handed out.
    next: Tick,
}

impl<T> Wheel<T> {
    /// An empty wheel; time begins at `start`.
    pub(super) fn new(start: Instant) -> Self {
        Self { start, slots: (0..SLOTS).map(|_| Vec::new()).collect(), next: Tick(0) }
    }

    /// When something with this deadline would be handed out if it were filed now.
    pub(super) fn tick(&self, deadline: Instant) -> Tick {
        // The tick after the one that it falls into: no deadline lies ahead when that has come.
        let tick = self.elapsed(deadline) + 1;
        Tick(tick.clamp(self.next.0, self.next.0 + SLOTS - 1))
    }

    /// Files `item`, to be handed out at the answered tick.
    pub(super) fn file(&mut self, item: T, deadline: Instant) -> Tick {
        let tick = self.tick(deadline);
        self.slots[slot(tick)].push((tick, item));
        tick
    }

    /// Takes something out whose tick has come by `now`, with the tick that it was filed for. `None`: nothing is
    /// left.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Tick, T)> {
        let current = self.elapsed(now);
        // All ticks that something can be filed for lie within one turn. After a long rest one turn is enough.
        self.next.0 = self.next.0.max((current + 1).saturating_sub(SLOTS));
        while self.next.0 <= current {
            let slot = &mut self.slots[slot(self.next)];
            if let Some(filed) = slot.pop() {
                return Some(filed);
            }
            // A second in which a crowd was due should not keep the room for it.
            *slot = Vec::new();
            self.next.0 += 1;
        }
        None
    }

    /// How much is filed.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.iter().map(Vec::len).sum()
    }

    fn elapsed(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_secs()
    }
}

fn slot(tick: Tick) -> usize {
    (tick.0 % SLOTS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(wheel: &mut Wheel<u32>, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| wheel.take(now).map(|(_, item)| item)).collect()
    }

    #[test]
    fn an_item_comes_once_after_its_deadline() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let at = |millis| start + Duration::from_millis(millis);
        wheel.file(1, at(1_500));
        wheel.file(2, at(2_500));
        wheel.file(3, at(0));
        assert_eq!(drain(&mut wheel, at(999)), [0; 0]);
        assert_eq!(drain(&mut wheel, at(1_499)), [3]);
        assert_eq!(drain(&mut wheel, at(2_000)), [1]);
        assert_eq!(drain(&mut wheel, at(900_000)), [2]);
        wheel.file(4, at(0));
        assert_eq!(drain(&mut wheel, at(900_000)), [0; 0], "filed for the tick that comes next");
        assert_eq!(drain(&mut wheel, at(901_000)), [4]);
    }

    #[test]
    fn after_a_long_rest_everything_comes_at_once() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        for second in 0..SLOTS {
            wheel.file(second as u32, start + Duration::from_secs(second));
        }
        let mut taken = drain(&mut wheel, start + Duration::from_secs(1_000_000));
        taken.sort_unstable();
        assert!(taken.into_iter().eq(0..SLOTS as u32));
    }

    #[test]
    fn what_is_far_ahead_comes_back_before() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let tick = wheel.file(1, after(start, Duration::MAX));
        assert_eq!(drain(&mut wheel, start + Duration::from_secs(SLOTS - 2)), [0; 0]);
        let (taken_at, item) = wheel.take(start + Duration::from_secs(SLOTS - 1)).unwrap();
        assert_eq!((taken_at, item), (tick, 1));
    }
}
