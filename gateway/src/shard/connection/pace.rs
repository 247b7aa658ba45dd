//! How fast a client sends.

use super::Connection;
use crate::shard::heartbeat::TICKS_PER_SECOND;

/// Frames of one client in the second that goes on, by the clock of its shard.
///
/// Whole seconds: nobody is too fast who never sends more than the limit in one of them.
#[derive(Debug, Default)]
pub(super) struct Pace {
    second: u32,
    frames: u32,
}

impl Pace {
    /// Counts `frames` more that were read in `second`; `true` if they are more than `frames_max` by now.
    pub(super) fn exceeds(&mut self, frames_max: usize, second: u32, frames: usize) -> bool {
        if self.second != second {
            *self = Self { second, frames: 0 };
        }
        self.frames = self.frames.saturating_add(u32::try_from(frames).unwrap_or(u32::MAX));
        self.frames as usize > frames_max
    }
}

impl Connection {
    /// Counts `frames` that were read now. Without a limit not even the clock is looked at.
    pub(super) fn is_too_fast(&mut self, frames: usize) -> bool {
        let frames_max = self.shard.settings.frames_per_second_max;
        frames_max > 0 && self.pace.exceeds(frames_max, self.shard.ticks() / TICKS_PER_SECOND, frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_by_the_second() {
        let mut pace = Pace::default();
        for second in 0..5 {
            assert!(!pace.exceeds(3, second, 0), "a part of a frame is none");
            assert!(!pace.exceeds(3, second, 2));
            assert!(!pace.exceeds(3, second, 1));
        }
        assert!(pace.exceeds(3, 4, 1));
        assert!(!pace.exceeds(3, 5, 3), "a new second");
        assert!(pace.exceeds(3, 6, usize::MAX));
        assert!(pace.exceeds(3, 6, usize::MAX), "there is no way around the counter");
    }
}
