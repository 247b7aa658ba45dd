//! What happened to the clients of a crowd, written down as it happens.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::findings::{
    Blackout, Closing, CrowdFindings, Delays, EXAMPLES_MAX, Notices, Opening, Refused, Second,
};

/// So much is kept of each kind of event: a run that needs more has other worries.
const EVENTS_MAX: usize = 1_000_000;

/// So many seconds of a run have a histogram of their own: a day.
const SECONDS_MAX: u64 = 24 * 60 * 60;

/// What took longer is counted as this long.
const DELAY_MAX: Duration = Duration::from_secs(60 * 60);

/// Shared by all clients of a crowd.
#[derive(Debug)]
pub(crate) struct Records {
    /// Everything but what has a place of its own below.
    findings: Mutex<CrowdFindings>,
    delays: Mutex<Delays>,
    /// The id of each client that is live.
    roster: Mutex<Vec<Option<Box<str>>>>,
    /// How many are.
    live: watch::Sender<usize>,
}

impl Records {
    pub(crate) fn new(clients: usize) -> Self {
        Self {
            findings: Mutex::new(CrowdFindings { clients, ..CrowdFindings::default() }),
            delays: Mutex::default(),
            roster: Mutex::new(vec![None; clients]),
            live: watch::Sender::new(0),
        }
    }

    /// Client `client` is live under this id, or is not any more.
    pub(crate) fn set_live(&self, client: usize, id: Option<&str>) {
        let mut roster = lock(&self.roster);
        let was_live = roster[client].is_some();
        roster[client] = id.map(Into::into);
        match (was_live, id.is_some()) {
            (false, true) => self.live.send_modify(|live| *live += 1),
            (true, false) => self.live.send_modify(|live| *live -= 1),
            _ => {}
        }
    }

    /// Follows how many are live.
    pub(crate) fn watch_live(&self) -> watch::Receiver<usize> {
        self.live.subscribe()
    }

    /// Calls `visit` with the number and the id of each client that is live.
    pub(crate) fn each_live(&self, mut visit: impl FnMut(usize, &str)) {
        for (client, id) in lock(&self.roster).iter().enumerate() {
            if let Some(id) = id {
                visit(client, id);
            }
        }
    }

    pub(crate) fn opened(&self, opening: Opening) {
        self.event(|findings| &mut findings.opened, opening);
    }

    pub(crate) fn refused(&self, refused: Refused) {
        self.event(|findings| &mut findings.refused, refused);
    }

    pub(crate) fn closed(&self, closing: Closing) {
        self.event(|findings| &mut findings.closed, closing);
    }

    pub(crate) fn blackout(&self, blackout: Blackout) {
        self.event(|findings| &mut findings.blackouts, blackout);
    }

    pub(crate) fn cut(&self) {
        lock(&self.findings).cut += 1;
    }

    pub(crate) fn terminal(&self) {
        lock(&self.findings).terminal += 1;
    }

    pub(crate) fn notice(&self, count: impl FnOnce(&mut Notices)) {
        count(&mut lock(&self.findings).notices);
    }

    /// Something went wrong that has no number of its own.
    pub(crate) fn failure(&self, words: impl FnOnce() -> String) {
        let mut findings = lock(&self.findings);
        findings.failures_total += 1;
        if findings.failures.len() < EXAMPLES_MAX {
            findings.failures.push(words());
        }
    }

    /// A publication of the time `published_at` came at the time `now`. One from the future is not of this run.
    pub(crate) fn delay(&self, published_at: Duration, now: Duration) {
        let Some(delay) = now.checked_sub(published_at) else { return };
        let second = usize::try_from(published_at.as_secs().min(SECONDS_MAX)).expect("a day has few seconds");
        let micros = u64::try_from(delay.min(DELAY_MAX).as_micros()).expect("an hour has few microseconds");
        let mut delays = lock(&self.delays);
        if delays.seconds.len() <= second {
            delays.seconds.resize_with(second + 1, Second::default);
        }
        // Not `saturating_record`, which would take the size of the histogram so far for its limit.
        delays.seconds[second].micros.record(micros).expect("a histogram grows");
    }

    /// All that was written down. Nothing should be written afterwards.
    pub(crate) fn take(&self) -> CrowdFindings {
        let mut findings = std::mem::take(&mut *lock(&self.findings));
        findings.delays = std::mem::take(&mut *lock(&self.delays));
        findings
    }

    fn event<T>(&self, list: impl FnOnce(&mut CrowdFindings) -> &mut Vec<T>, event: T) {
        let mut findings = lock(&self.findings);
        let list = list(&mut findings);
        if list.len() < EVENTS_MAX {
            list.push(event);
        } else {
            findings.unrecorded += 1;
        }
    }
}

/// Nothing panics while it holds one of these locks, and what they hold is consistent at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn delays_are_kept_by_the_second_of_their_publication() {
        let records = Records::new(1);
        records.delay(millis(500), millis(503));
        records.delay(millis(2_100), millis(5_000));
        records.delay(millis(2_900), millis(2_901));
        records.delay(millis(9_000), millis(8_000));
        let delays = records.take().delays;
        let counts: Vec<u64> = delays.seconds.iter().map(|second| second.micros.len()).collect();
        assert_eq!(counts, [1, 0, 2], "and none from the future");
        let is_near = |micros: u64, expected: u64| micros.abs_diff(expected) <= expected / 50;
        assert!(is_near(delays.between(millis(0), millis(1_000)).max(), 3_000));
        let later = delays.between(millis(1_000), Duration::MAX);
        assert!(is_near(later.max(), 2_900_000) && is_near(later.min(), 1_000), "{later:?}");
        assert_eq!(delays.between(millis(0), Duration::MAX).len(), 3);
    }

    #[test]
    fn delays_are_written_as_quantiles() {
        let records = Records::new(1);
        records.delay(millis(0), millis(1));
        let json = serde_json::to_value(records.take().delays).unwrap();
        assert_eq!(json["seconds"][0]["count"], 1);
        assert!(json["seconds"][0]["p99_us"].as_u64().unwrap().abs_diff(1_000) < 20, "{json}");
    }

    #[test]
    fn the_roster_counts_each_client_once() {
        let records = Records::new(2);
        for id in [Some("a"), Some("b"), None, None, Some("c")] {
            records.set_live(1, id);
        }
        assert_eq!(*records.watch_live().borrow(), 1);
        let mut live = Vec::new();
        records.each_live(|client, id| live.push((client, id.to_owned())));
        assert_eq!(live, [(1, "c".to_owned())]);
    }
}
