//! When the log says that clients are sent away: as it begins, and when it is over.

use std::time::{Duration, Instant};

/// So long nobody must have been sent away until it is over. Whoever is sent away comes again, mostly sooner than that.
const QUIET: Duration = Duration::from_secs(5);

/// What to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The first is sent away.
    Closed,
    /// Nobody is sent away any more; so many were.
    Open { refused: u64 },
}

/// Whether clients are sent away.
#[derive(Debug, Default)]
pub(super) struct Notices {
    refused: u64,
    last_at: Option<Instant>,
}

impl Notices {
    /// Somebody was sent away.
    pub(super) fn refused(&mut self, now: Instant) -> Option<Notice> {
        self.refused += 1;
        self.last_at.replace(now).is_none().then_some(Notice::Closed)
    }

    /// Looks whether it is over.
    pub(super) fn look(&mut self, now: Instant) -> Option<Notice> {
        let is_over = self.last_at.is_some_and(|last_at| now.duration_since(last_at) >= QUIET);
        is_over.then(|| Notice::Open { refused: std::mem::take(self).refused })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_and_once_that_it_is_over() {
        let start = Instant::now();
        let mut notices = Notices::default();
        assert_eq!(notices.look(start), None);
        assert_eq!(notices.refused(start), Some(Notice::Closed));
        for second in 1..4 {
            let now = start + Duration::from_secs(second * 4);
            assert_eq!((notices.look(now), notices.refused(now)), (None, None));
        }
        let over = start + Duration::from_secs(12) + QUIET;
        assert_eq!(notices.look(over), Some(Notice::Open { refused: 4 }));
        assert_eq!(notices.look(over), None);
        assert_eq!(notices.refused(over), Some(Notice::Closed));
    }
}
