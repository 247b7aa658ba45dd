//! How long a client waits before it tries again: as centrifuge-js and its siblings do.

use std::time::Duration;

use rand::RngExt as _;

/// The shortest wait.
pub(crate) const DELAY_MIN: Duration = Duration::from_millis(500);
/// The longest wait.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(20);

/// A random wait after `failures` attempts that failed in a row: half a second and up to half a second more, the latter
/// doubled by each failure, and 20 seconds at most.
pub(crate) fn delay(failures: u32) -> Duration {
    let reach = DELAY_MIN.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(DELAY_MAX);
    (DELAY_MIN + rand::rng().random_range(Duration::ZERO..=reach)).min(DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_wait_is_between_half_a_second_and_one() {
        let delays: Vec<_> = (0..1_000).map(|_| delay(0)).collect();
        assert!(delays.iter().all(|delay| (DELAY_MIN..=2 * DELAY_MIN).contains(delay)), "{delays:?}");
        assert!(delays.iter().any(|&delay| delay > DELAY_MIN * 3 / 2), "it is random");
    }

    #[test]
    fn waits_double_and_end_at_their_maximum() {
        for failures in 0..100 {
            let reach = DELAY_MIN * 2_u32.pow(failures.min(6)) + DELAY_MIN;
            for _ in 0..100 {
                assert!((DELAY_MIN..=reach.min(DELAY_MAX)).contains(&delay(failures)), "after {failures}");
            }
        }
        assert!((0..1_000).any(|_| delay(3) > 4 * DELAY_MIN), "it grows");
        assert!((0..1_000).any(|_| delay(40) == DELAY_MAX), "it does not overflow");
    }
}
