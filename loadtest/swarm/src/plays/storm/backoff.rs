//! How long a client that lost its line waits before it tries again.

use std::time::Duration;

use crate::client::backoff;
use crate::load::Trouble;

/// Between two attempts of who does not wait: a moment, so that a server that is gone is not asked without end.
const MOMENT: Duration = Duration::from_millis(10);

/// What clients do when they lost their line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// What the SDKs do: half a second at least and 20 seconds at most, random, and longer after each failure; and not
    /// before a server that refuses says that they may (`Retry-After`).
    Sdk,
    /// Come back at once, and again after 10 ms, whatever the server says.
    None,
}

impl Backoff {
    /// Before the first attempt.
    pub(super) fn first(self) -> Duration {
        match self {
            Self::Sdk => backoff::delay(0),
            Self::None => Duration::ZERO,
        }
    }

    /// After so many attempts have failed, the last one because of `trouble`.
    pub(super) fn after(self, failures: u32, trouble: &Trouble) -> Duration {
        match (self, trouble) {
            (Self::None, _) => MOMENT,
            (Self::Sdk, Trouble::Refused { retry_after: Some(least), .. }) => {
                backoff::delay(failures).max(*least)
            }
            (Self::Sdk, _) => backoff::delay(failures),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(retry_after: Option<u64>) -> Trouble {
        Trouble::Refused { status: 503, retry_after: retry_after.map(Duration::from_secs) }
    }

    #[test]
    fn who_is_told_when_to_come_back_does_not_come_before() {
        for failures in 0..20 {
            assert!(Backoff::Sdk.after(failures, &refused(Some(30))) >= Duration::from_secs(30));
            let wait = Backoff::Sdk.after(failures, &refused(None));
            assert!((backoff::DELAY_MIN..=backoff::DELAY_MAX).contains(&wait), "{wait:?}");
        }
        assert!(Backoff::Sdk.first() >= backoff::DELAY_MIN);
    }

    #[test]
    fn who_does_not_wait_does_not_listen_either() {
        assert_eq!(Backoff::None.first(), Duration::ZERO);
        assert_eq!(Backoff::None.after(9, &refused(Some(30))), MOMENT);
    }
}
