//! One timer for all connections of a shard: a hashed wheel of alarms.
//!
//! A timer of its own would cost each idle connection memory and a place in the runtime's heap.

use std::time::{Duration, Instant};

use super::table::Key;

/// How often the wheel turns; alarms come at most this much late.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// The same the other way round.
pub(super) const TICKS_PER_SECOND: u32 = 10;
/// Places of the wheel. An alarm further away than a whole turn stays in its place for another one.
const PLACES: usize = 512;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// The client should have authenticated by now.
    Stale,
    /// A ping is to be sent.
    Ping,
    /// The pong should have come by now.
    Pong,
    /// What authenticated the client is no longer good.
    Expiry,
    /// The conversation asked to be reminded.
    Reminder,
    /// It may have lived as long as it may.
    Lifetime,
    /// What it asked for before it was recalled should be done by now.
    Recall,
    /// The socket should have taken something by now.
    Write,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    tick: u64,
    key: Key,
    alarm: Alarm,
}

/// Alarms by the time at which they are due.
#[derive(Debug)]
pub(super) struct Wheel {
    started_at: Instant,
    /// The last tick that was run.
    now: u64,
    places: Vec<Vec<Entry>>,
}

impl Wheel {
    pub(super) fn new(now: Instant) -> Self {
        Self { started_at: now, now: 0, places: vec![Vec::new(); PLACES] }
    }

    /// Sets an alarm; it comes at `at` or up to a tick later.
    pub(super) fn set(&mut self, at: Instant, key: Key, alarm: Alarm) {
        let ticks = at.saturating_duration_since(self.started_at).as_nanos().div_ceil(TICK.as_nanos());
        let tick = u64::try_from(ticks).unwrap_or(u64::MAX).max(self.now + 1);
        self.places[tick as usize % PLACES].push(Entry { tick, key, alarm });
    }

    /// How many alarms are set.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.places.iter().map(Vec::len).sum()
    }

    /// Turns the wheel up to `now` and moves what is due into `due`. Answers how late the turn is.
    pub(super) fn turn(&mut self, now: Instant, due: &mut Vec<(Key, Alarm)>) -> Duration {
        let elapsed = now.saturating_duration_since(self.started_at);
        let target = u64::try_from(elapsed.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX);
        let turns = target.saturating_sub(self.now);
        // After a long pause every place is visited once, not once per missed turn.
        for step in 1..=turns.min(PLACES as u64) {
            let place = &mut self.places[(self.now + step) as usize % PLACES];
            place.retain(|entry| {
                let is_due = entry.tick <= target;
                if is_due {
                    due.push((entry.key, entry.alarm));
                }
                !is_due
            });
            // A crowd that passed leaves no memory behind.
            if place.capacity() > 64 && place.len() < place.capacity() / 4 {
                place.shrink_to(place.len() * 2);
            }
        }
        self.now = target.max(self.now);
        TICK * u32::try_from(turns.saturating_sub(1)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::super::link::Link;
    use super::super::table::{Entry as TableEntry, Sink, Table};
    use super::*;
    use crate::model::ClientId;

    fn key() -> Key {
        let link = Rc::new(Link::new(ClientId::random()));
        Table::default().insert(TableEntry { sink: Sink::Protected, blocked: Cell::new(false), link })
    }

    #[test]
    fn an_alarm_comes_once_not_early_and_at_most_a_tick_late() {
        let start = Instant::now();
        for millis in [0, 1, 99, 100, 101, 8_000, 25_000, 51_200, 51_300, 600_000] {
            let mut wheel = Wheel::new(start);
            let at = start + Duration::from_millis(millis);
            wheel.set(at, key(), Alarm::Ping);
            let mut due = Vec::new();
            let mut now = start;
            while due.is_empty() {
                now += TICK;
                wheel.turn(now, &mut due);
            }
            assert_eq!(due, [(key(), Alarm::Ping)]);
            assert!(now >= at && now <= at + TICK * 2, "{millis}: {:?}", now - start);
            wheel.turn(now + Duration::from_secs(7_200), &mut due);
            assert_eq!(due.len(), 1);
        }
    }

    #[test]
    fn after_a_pause_everything_that_is_due_comes_at_once() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        for millis in (0..1_000).map(|step| step * 77) {
            wheel.set(start + Duration::from_millis(millis), key(), Alarm::Pong);
        }
        let mut due = Vec::new();
        let lag = wheel.turn(start + Duration::from_secs(3_600), &mut due);
        assert_eq!(due.len(), 1_000);
        assert!(lag > Duration::from_secs(3_500));
        wheel.set(start, key(), Alarm::Ping);
        wheel.turn(start + Duration::from_secs(3_601), &mut due);
        assert_eq!(due.len(), 1_001, "an alarm in the past comes with the next tick");
    }
}
