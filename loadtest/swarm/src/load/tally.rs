//! What happened, counted while it happens: cheap to write, and to be read by anybody at any time.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! events {
    ($($(#[$doc:meta])* $event:ident = $name:literal,)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Event {
            $($(#[$doc])* $event,)*
        }

        impl Event {
            /// All of them, in the order in which they are told.
            pub const ALL: &[Self] = &[$(Self::$event,)*];

            /// What it is called in results.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$event => $name,)*
                }
            }
        }
    };
}

events! {
    /// A client began to connect.
    Handshake = "handshakes",
    /// A client is connected, and subscribed to what it was made for.
    Connected = "connected",
    /// A subscription was answered.
    Subscribed = "subscribed",
    /// A subscription had everything that its client missed.
    Recovered = "recovered",
    /// A client asked for what it missed, and was told that it cannot have it.
    Unrecovered = "unrecovered",
    /// A publication of this run came to a client for the first time.
    Delivered = "deliveries",
    /// A publication came that others made.
    Foreign = "publications of others",
    /// A client was told of a join.
    Joined = "joins heard",
    /// A client was told of a leave.
    Parted = "leaves heard",
    /// A ping of the server, which was answered if it wants that.
    Ping = "pings",
    /// Bytes that were read after the upgrade.
    Byte = "bytes read",
    /// A publication that was due did not come before later ones.
    Gap = "gaps",
    /// A publication came after later ones.
    Late = "out of order",
    /// A publication came again.
    Repeat = "repeated",
    /// Offsets of a channel did not go on by one.
    OffsetBreak = "offsets broken",
    /// A connection ended that nobody here ended.
    Ended = "connections ended",
    /// A connection ended that was there before, because it was to end here.
    Left = "connections left",
    /// A client did not get in.
    Failed = "connects failed",
}

const EVENTS: usize = Event::ALL.len();

/// The counts of one thread, which alone writes them.
///
/// A line of the cache and its neighbour are its own, so that threads do not slow each other down.
#[derive(Debug)]
#[repr(align(128))]
pub struct Tally {
    events: [AtomicU64; EVENTS],
    p99_micros: AtomicU64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { events: [const { AtomicU64::new(0) }; EVENTS], p99_micros: AtomicU64::new(0) }
    }
}

impl Tally {
    /// Counts `count` more; only from the thread that it belongs to.
    pub(crate) fn add(&self, event: Event, count: u64) {
        // One writer, so that nothing is lost between the two, and no lock is taken on the bus.
        let counter = &self.events[event as usize];
        counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn get(&self, event: Event) -> u64 {
        self.events[event as usize].load(Ordering::Relaxed)
    }

    /// The 99th percentile of delays so far, for the eye.
    pub(crate) fn set_p99(&self, micros: u64) {
        self.p99_micros.store(micros, Ordering::Relaxed);
    }
}

/// The counts of all threads at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    events: [u64; EVENTS],
    /// The 99th percentile of delays so far, in microseconds: that of the thread where it is worst, a second ago at most.
    pub p99_micros: u64,
}

impl Counts {
    /// How many there were.
    pub fn get(&self, event: Event) -> u64 {
        self.events[event as usize]
    }

    /// Connections that are there.
    pub fn open(&self) -> u64 {
        let gone = self.get(Event::Ended) + self.get(Event::Left);
        self.get(Event::Connected).saturating_sub(gone)
    }

    /// What is wrong with publications: gaps, disorder, repeats, broken offsets.
    pub fn faults(&self) -> u64 {
        [Event::Gap, Event::Late, Event::Repeat, Event::OffsetBreak]
            .into_iter()
            .map(|event| self.get(event))
            .sum()
    }
}

impl<'a> FromIterator<&'a Tally> for Counts {
    fn from_iter<T: IntoIterator<Item = &'a Tally>>(tallies: T) -> Self {
        let mut sum = Self::default();
        for tally in tallies {
            for (event, total) in Event::ALL.iter().zip(&mut sum.events) {
                *total += tally.get(*event);
            }
            sum.p99_micros = sum.p99_micros.max(tally.p99_micros.load(Ordering::Relaxed));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_all_threads() {
        let (one, two) = (Tally::default(), Tally::default());
        one.add(Event::Connected, 3);
        two.add(Event::Connected, 2);
        two.add(Event::Ended, 1);
        two.add(Event::Gap, 7);
        let counts: Counts = [&one, &two].into_iter().collect();
        assert_eq!((counts.get(Event::Connected), counts.open(), counts.faults()), (5, 4, 7));
    }

    #[test]
    fn events_are_numbered_as_they_are_listed() {
        assert!(Event::ALL.iter().enumerate().all(|(index, event)| *event as usize == index));
    }
}
