use std::fmt;
use std::sync::Arc;

/// Letters of a random epoch.
const EPOCH_LETTERS: usize = 8;

/// Names one life of a channel's history. A new epoch means that old offsets say nothing.
///
/// Random, chosen when the history's metadata is made; kept as long as they are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// A fresh one.
    pub fn random() -> Self {
        let letter = |_| char::from(rand::random_range(b'a'..=b'z'));
        Self((0..EPOCH_LETTERS).map(letter).collect::<String>().into())
    }

    /// One that somebody remembered.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A place in a channel's history.
///
/// Offsets start at 1 and grow by 1 within an epoch; 0 is the place before the first publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which history.
    pub epoch: Epoch,
    /// The last publication before this place.
    pub offset: u64,
}

/// Where a client believes to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// Empty for whatever epoch there is.
    pub epoch: String,
    /// The last publication that the client has; 0 for none.
    pub offset: u64,
}
