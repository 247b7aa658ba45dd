//! How many patient calls are under way at a time.
//!
//! Redis takes what waits on a connection in one go before it turns to the next, so a crowd of calls on one holds up a
//! publication on another by as long as all of them take. Few at a time are enough to keep it busy; the rest waits here.
//! The farther away Redis is, the more have to be on their way for that.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Most at a time if Redis answers at once.
const NEAR: usize = 16;
/// For each of these in the time that an answer takes, one more. Redis needs less for a call, so that many do not become
/// more because they wait for one another.
const STEP: Duration = Duration::from_micros(200);
/// Most at a time, however long answers take.
const FAR: usize = 4096;
/// How long the fastest answer counts: Redis may have moved, or the way to it.
const AGE_MAX: Duration = Duration::from_secs(10);

/// Lets some calls through, in their order.
#[derive(Debug)]
pub(super) struct Patience {
    places: Semaphore,
    fastest: Mutex<Fastest>,
}

/// How many there may be: the fastest answer of this time and of the one before; `None` if there was none.
#[derive(Debug)]
struct Fastest {
    /// How many places there are, those that are taken included.
    places: usize,
    began: Instant,
    now: Option<Duration>,
    before: Option<Duration>,
}

impl Patience {
    pub(super) fn new() -> Self {
        let fastest = Mutex::new(Fastest { places: NEAR, began: Instant::now(), now: None, before: None });
        Self { places: Semaphore::new(NEAR), fastest }
    }

    /// Waits for a place, at most until `deadline` has passed; `None` if there was none.
    pub(super) async fn place(&self, deadline: Duration) -> Option<SemaphorePermit<'_>> {
        tokio::time::timeout(deadline, self.places.acquire()).await.ok()?.ok()
    }

    /// An answer took so long.
    pub(super) fn answered(&self, took: Duration) {
        // One at a time: of two who find that there are too many places each would take them away.
        let mut fastest = self.fastest.lock();
        let wanted = size(fastest.note(took, Instant::now()));
        if wanted > fastest.places {
            self.places.add_permits(wanted - fastest.places);
            fastest.places = wanted;
        } else if wanted < fastest.places {
            fastest.places -= self.places.forget_permits(fastest.places - wanted);
        }
    }
}

impl Fastest {
    /// Notes how long an answer took; answers how long the fastest did lately.
    fn note(&mut self, took: Duration, now: Instant) -> Duration {
        if now.duration_since(self.began) > AGE_MAX {
            *self = Self { began: now, now: None, before: self.now, ..*self };
        }
        let fastest = self.now.map_or(took, |fastest| fastest.min(took));
        self.now = Some(fastest);
        self.before.map_or(fastest, |before| before.min(fastest))
    }
}

/// How many are let through if the fastest answer took so long.
fn size(fastest: Duration) -> usize {
    let steps = fastest.as_micros() / STEP.as_micros();
    usize::try_from(steps).unwrap_or(FAR).saturating_add(NEAR).min(FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn few_are_let_through_and_who_gets_no_place_in_time_is_told() {
        let patience = Patience::new();
        let mut places = Vec::new();
        while let Some(place) = patience.place(SOON).await {
            places.push(place);
        }
        assert_eq!(places.len(), NEAR);
        places.pop();
        assert!(patience.place(SOON).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_farther_away_redis_is_the_more_are_under_way() {
        let patience = Patience::new();
        patience.answered(Duration::from_millis(200));
        assert_eq!(patience.places.available_permits(), NEAR + 1_000);
        patience.answered(Duration::from_micros(250));
        assert_eq!(patience.places.available_permits(), NEAR + 1);
        patience.answered(Duration::from_secs(3_600));
        assert_eq!(patience.places.available_permits(), NEAR + 1, "one that was slow says nothing");
        for _ in 0..2 {
            tokio::time::advance(AGE_MAX + SOON).await;
            patience.answered(Duration::from_secs(3_600));
        }
        assert_eq!(patience.places.available_permits(), FAR, "it is far away by now");
    }

    #[tokio::test(start_paused = true)]
    async fn places_that_are_taken_are_given_up_when_they_come_back() {
        let patience = Patience::new();
        patience.answered(Duration::from_millis(200));
        let mut places = Vec::new();
        while let Some(place) = patience.place(SOON).await {
            places.push(place);
        }
        patience.answered(Duration::ZERO);
        drop(places);
        patience.answered(Duration::ZERO);
        assert_eq!(patience.places.available_permits(), NEAR);
        assert_eq!(patience.fastest.lock().places, NEAR);
    }
}
