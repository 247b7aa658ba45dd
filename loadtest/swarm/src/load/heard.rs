//! What a subscriber has of one channel, whoever numbers its publications.

use std::collections::BTreeMap;

use super::sequence::{Seen, Sequence};

/// How often somebody can speak in a channel, and how many can.
const VOICE: u64 = 1_000_000;

/// Who numbers the publications of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbering {
    /// One back end: all publications of a channel have numbers in a row.
    #[default]
    Channel,
    /// The clients that speak in it, each for itself: nobody knows in which order the server takes what several say.
    Speakers,
}

/// Something that a client says: the publication of a speaker, who numbers it for the channel. As a number of a
/// [`Stamp`](super::stamp::Stamp) it has twelve digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Voice {
    /// The client; below a million.
    pub speaker: u32,
    /// How often it has spoken in the channel, this time included; from 1 on, below a million.
    pub count: u32,
}

impl Voice {
    /// The number that stands for it.
    pub fn number(self) -> u64 {
        u64::from(self.speaker) * VOICE + u64::from(self.count)
    }

    /// What a number stands for.
    pub fn of(number: u64) -> Self {
        let part = |part: u64| u32::try_from(part).unwrap_or(u32::MAX);
        Self { speaker: part(number / VOICE), count: part(number % VOICE) }
    }
}

/// The numbers that one subscriber has of one channel.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    Channel(Sequence),
    Speakers(BTreeMap<u32, Sequence>),
}

impl Heard {
    /// Takes the next number that was given, and says what it says, and which one was due: 0 if any was.
    pub(super) fn see(&mut self, number: u64) -> (Seen, u64) {
        match self {
            Self::Channel(sequence) => {
                let due = sequence.due();
                (sequence.see(number), due)
            }
            Self::Speakers(speakers) => {
                let Voice { speaker, count } = Voice::of(number);
                let sequence = speakers.entry(speaker).or_insert_with(Sequence::anywhere);
                let due = sequence.due();
                (sequence.see(count.into()), due)
            }
        }
    }

    /// What is missing, given that everything up to `last` was published. How often speakers have spoken is not known
    /// here: of them nothing is missing.
    pub(super) fn missing(&self, last: u64) -> Vec<u64> {
        match self {
            Self::Channel(sequence) => sequence.missing(last).flatten().collect(),
            Self::Speakers(_) => Vec::new(),
        }
    }

    /// How many more are missing at least, if none of `uncertain` need have come. Of speakers nothing is, see
    /// [`missing`](Self::missing).
    pub(super) fn forgotten(&self, uncertain: impl Iterator<Item = u64>) -> u64 {
        match self {
            Self::Channel(sequence) => sequence.forgotten(uncertain),
            Self::Speakers(_) => 0,
        }
    }

    /// What is missing between numbers that were given.
    pub(super) fn gaps(&self) -> Vec<u64> {
        match self {
            Self::Channel(sequence) => sequence.missing(0).flatten().collect(),
            Self::Speakers(speakers) => {
                let of_each = speakers.iter().flat_map(|(speaker, sequence)| {
                    let counts = sequence.missing(0).flatten().filter_map(|count| u32::try_from(count).ok());
                    counts.map(|count| Voice { speaker: *speaker, count }.number())
                });
                of_each.collect()
            }
        }
    }

    /// Whether this number was given.
    pub(super) fn has(&self, number: u64) -> bool {
        match self {
            Self::Channel(sequence) => sequence.has(number),
            Self::Speakers(speakers) => {
                let Voice { speaker, count } = Voice::of(number);
                speakers.get(&speaker).is_some_and(|sequence| sequence.has(count.into()))
            }
        }
    }

    /// A number in words.
    pub(super) fn words(&self, number: u64) -> String {
        match self {
            Self::Channel(_) => format!("publication {number}"),
            Self::Speakers(_) => {
                let Voice { speaker, count } = Voice::of(number);
                format!("publication {count} of client {speaker}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(speaker: u32, count: u32) -> u64 {
        Voice { speaker, count }.number()
    }

    #[test]
    fn a_number_stands_for_a_speaker_and_how_often_it_spoke() {
        let most = Voice { speaker: 999_999, count: 999_999 };
        assert_eq!((most.number(), Voice::of(most.number())), (999_999_999_999, most));
    }

    #[test]
    fn speakers_are_in_order_each_for_itself() {
        let mut heard = Heard::Speakers(BTreeMap::new());
        let seen = [voice(7, 3), voice(8, 1), voice(7, 4), voice(8, 3), voice(8, 2), voice(7, 4)]
            .map(|number| heard.see(number).0);
        assert_eq!(seen, [Seen::Next, Seen::Next, Seen::Next, Seen::Gap(1), Seen::Late, Seen::Repeat]);
        assert_eq!(heard.gaps(), [0_u64; 0]);
        assert!(heard.has(voice(8, 2)) && !heard.has(voice(9, 1)) && !heard.has(voice(7, 5)));
        // It was not there for it.
        assert!(!heard.has(voice(7, 2)));
    }

    #[test]
    fn a_gap_between_words_of_a_speaker_is_missing() {
        let mut heard = Heard::Speakers(BTreeMap::new());
        for number in [voice(7, 1), voice(7, 4)] {
            heard.see(number);
        }
        assert_eq!(heard.gaps(), [voice(7, 2), voice(7, 3)]);
        assert_eq!(heard.missing(u64::MAX), [0_u64; 0], "nobody here knows how often they spoke");
        assert!(heard.words(voice(7, 2)).contains("2 of client 7"));
    }
}
