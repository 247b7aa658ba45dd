//! What is known of clients that publish for themselves, and of the order in which others hear it.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Something that a client should have been given: client, channel and number.
pub type Missed = (u32, u32, u64);

/// What the clients of a thread said and heard, or those of all.
#[derive(Debug, Default)]
pub struct Talk {
    /// What was published and refused, or not answered: nobody need have it. Channel and number.
    pub doubtful: HashSet<(u32, u64)>,
    /// What clients were not given between other things, in channels that they have left since.
    pub missed: Vec<Missed>,
    /// Places of a history at which clients were given different publications.
    pub forked: u64,
    places: HashMap<Place, u64>,
}

/// A place in a history: channel, epoch and offset.
type Place = (u32, u64, u64);

impl Talk {
    /// At this place of the history of a channel somebody was given this; answers whether others were, too.
    pub(super) fn place(&mut self, channel: u32, epoch: Option<&str>, offset: u64, number: u64) -> bool {
        let mut hasher = DefaultHasher::new();
        epoch.hash(&mut hasher);
        self.put((channel, hasher.finish(), offset), number)
    }

    /// What the clients of another thread said and heard.
    pub fn add(&mut self, other: Self) {
        self.doubtful.extend(other.doubtful);
        self.missed.extend(other.missed);
        self.forked += other.forked;
        for (place, number) in other.places {
            self.put(place, number);
        }
    }

    fn put(&mut self, place: Place, number: u64) -> bool {
        let is_same = *self.places.entry(place).or_insert(number) == number;
        self.forked += u64::from(!is_same);
        is_same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_given_something_else_at_the_same_place_forked() {
        let (mut one, mut two) = (Talk::default(), Talk::default());
        assert!(one.place(0, Some("e"), 5, 1) && one.place(0, Some("e"), 5, 1));
        assert!(one.place(0, Some("f"), 5, 2) && one.place(1, Some("e"), 5, 3));
        assert!(two.place(0, Some("e"), 5, 9));
        assert_eq!((one.forked, two.forked), (0, 0));
        one.add(two);
        assert_eq!(one.forked, 1);
    }
}
