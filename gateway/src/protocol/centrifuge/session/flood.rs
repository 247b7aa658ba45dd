use std::time::{Duration, Instant};

/// Most errors that a client may be told within [`WINDOW`]. Clients that retry do so every few seconds.
const ERRORS_MAX: u32 = 500;
/// The time in which they are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// Counts the errors of one client, to tell who errs from who attacks.
#[derive(Debug, Default)]
pub(super) struct Flood {
    count: u32,
    since: Option<Instant>,
}

impl Flood {
    /// Counts an error; `true` if they are more than a client that means well could make.
    pub(super) fn is_too_much(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) > WINDOW) {
            *self = Self { count: 0, since: Some(now) };
        }
        self.count += 1;
        self.count > ERRORS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_count_only_within_a_while() {
        let (mut flood, start) = (Flood::default(), Instant::now());
        for second in 0..1_000 {
            assert!(!flood.is_too_much(start + Duration::from_secs(second)), "now and then");
        }
        let now = start + Duration::from_secs(2_000);
        for _ in 0..ERRORS_MAX {
            assert!(!flood.is_too_much(now));
        }
        assert!(flood.is_too_much(now));
    }
}
