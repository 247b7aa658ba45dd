use std::time::Duration;

use tokio::time::Instant;

/// The first wait is up to this.
const BASE: Duration = Duration::from_millis(100);
/// No wait is longer. Short, because service is to resume soon after Redis does.
const CAP: Duration = Duration::from_secs(1);
/// What is refused will be for a while: an operator has to act.
const REFUSED: Duration = Duration::from_secs(2);
/// Who was connected for so long starts anew.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// How long to wait before the next attempt: full jitter, so that nodes do not come back together; for ever.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u32,
    connected_at: Option<Instant>,
}

impl Backoff {
    /// It is connected.
    pub(super) fn connected(&mut self) {
        self.connected_at = Some(Instant::now());
    }

    /// How long to wait now. `is_refused`: the server is there and does not want us.
    pub(super) fn next(&mut self, is_refused: bool) -> Duration {
        if self.connected_at.take().is_some_and(|since| since.elapsed() >= HEALTHY_AFTER) {
            self.attempts = 0;
        }
        let limit = BASE.saturating_mul(1 << self.attempts.min(8)).min(CAP);
        self.attempts = self.attempts.saturating_add(1);
        if is_refused {
            return REFUSED.mul_f64(rand::random_range(0.5..=1.0));
        }
        limit.mul_f64(rand::random_range(0.0..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_up_to_a_second_and_start_anew_after_good_times() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            assert!(backoff.next(false) <= CAP);
        }
        backoff.connected();
        tokio::time::advance(HEALTHY_AFTER).await;
        assert!(backoff.next(false) <= BASE);
        assert!(backoff.next(true) >= REFUSED / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_thrown_out_again_and_again_waits_longer() {
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            backoff.connected();
            tokio::time::advance(Duration::from_millis(1)).await;
            backoff.next(false);
        }
        let waits: Vec<_> = (0..100).map(|_| backoff.next(false)).collect();
        assert!(waits.iter().any(|wait| *wait > CAP / 4), "{waits:?}");
    }
}
