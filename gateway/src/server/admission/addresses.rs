//! What each address may: so many handshakes in a second, and so many connections.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::address::Address;

/// How many addresses have their rate looked at. An entry is kept until its address could come as often as ever, which
/// takes a second; so many new ones in a second come from somebody who has no need to come twice from one.
const ADDRESSES_MAX: usize = 1 << 16;

type Limiter<C> = RateLimiter<Address, HashMapStateStore<Address>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// What an address did too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooMuch {
    /// Handshakes; the next is allowed after this.
    Handshakes(Duration),
    Connections,
}

/// The limits of addresses, and who has come how often.
#[derive(Debug)]
pub(super) struct Addresses<C: Clock = DefaultClock> {
    /// `None`: there is no limit.
    handshakes: Option<Limiter<C>>,
    connections: Option<Connections>,
}

impl<C: Clock> Addresses<C> {
    /// Zero stands for no limit.
    pub(super) fn new(handshakes_per_second: usize, connections_max: usize, clock: C) -> Self {
        let rate = NonZeroU32::new(u32::try_from(handshakes_per_second).unwrap_or(u32::MAX));
        let limiter = |rate| RateLimiter::hashmap_with_clock(Quota::per_second(rate), clock);
        let connections = (connections_max > 0).then(|| Connections::new(connections_max));
        Self { handshakes: rate.map(limiter), connections }
    }

    /// Whether there is any limit.
    pub(super) fn are_limited(&self) -> bool {
        self.handshakes.is_some() || self.connections.is_some()
    }

    /// Counts a handshake of `address`, and takes a place among its connections; `None` if they are not counted.
    pub(super) fn admit(&self, address: Address) -> Result<Option<OwnedSemaphorePermit>, TooMuch> {
        if let Some(limiter) = self.handshakes.as_ref().filter(|limiter| limiter.len() < ADDRESSES_MAX) {
            let now = limiter.clock().now();
            limiter.check_key(&address).map_err(|next| TooMuch::Handshakes(next.wait_time_from(now)))?;
        }
        match &self.connections {
            Some(connections) => connections.take(address).map(Some).ok_or(TooMuch::Connections),
            None => Ok(None),
        }
    }

    /// Forgets addresses of which there is nothing to know.
    pub(super) fn purge(&self) {
        if let Some(limiter) = &self.handshakes {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        if let Some(connections) = &self.connections {
            connections.purge();
        }
    }
}

/// The places of each address that has any taken.
#[derive(Debug)]
struct Connections {
    max: usize,
    places: Mutex<HashMap<Address, Arc<Semaphore>>>,
}

impl Connections {
    fn new(max: usize) -> Self {
        Self { max: max.min(Semaphore::MAX_PERMITS), places: Mutex::default() }
    }

    fn take(&self, address: Address) -> Option<OwnedSemaphorePermit> {
        let mut places = self.places.lock();
        let of_address = places.entry(address).or_insert_with(|| Arc::new(Semaphore::new(self.max)));
        Arc::clone(of_address).try_acquire_owned().ok()
    }

    fn purge(&self) {
        let mut places = self.places.lock();
        // Each place that is taken holds its semaphore.
        places.retain(|_, places| Arc::strong_count(places) > 1);
        if places.capacity() > 2 * places.len() + 1024 {
            places.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn address(last: u8) -> Address {
        Address::from(std::net::IpAddr::from([198, 51, 100, last]))
    }

    #[test]
    fn an_address_comes_so_often_in_a_second_and_others_do_not_matter() {
        let clock = FakeRelativeClock::default();
        let addresses = Addresses::new(3, 0, clock.clone());
        for _ in 0..3 {
            assert!(addresses.admit(address(1)).unwrap().is_none());
        }
        let refused = addresses.admit(address(1)).unwrap_err();
        assert!(
            matches!(refused, TooMuch::Handshakes(wait) if wait <= Duration::from_millis(334)),
            "{refused:?}"
        );
        assert!(addresses.admit(address(2)).is_ok());
        clock.advance(Duration::from_millis(334));
        assert!(addresses.admit(address(1)).is_ok());
        assert!(addresses.admit(address(1)).is_err());
    }

    #[test]
    fn a_place_is_given_back_when_it_is_dropped() {
        let addresses = Addresses::new(0, 2, FakeRelativeClock::default());
        let one = addresses.admit(address(1)).unwrap();
        let other = addresses.admit(address(1)).unwrap();
        assert_eq!(addresses.admit(address(1)).unwrap_err(), TooMuch::Connections);
        assert!(addresses.admit(address(2)).is_ok());
        drop(one);
        let again = addresses.admit(address(1)).unwrap();
        addresses.purge();
        assert!(addresses.admit(address(1)).is_err(), "what is taken is not forgotten");
        drop((other, again));
    }

    #[test]
    fn nobody_is_remembered_for_nothing() {
        let clock = FakeRelativeClock::default();
        let addresses = Addresses::new(2, 2, clock.clone());
        let held = addresses.admit(address(1)).unwrap();
        for last in 2..=255 {
            drop(addresses.admit(address(last)).unwrap());
        }
        let known = || {
            let places = addresses.connections.as_ref().unwrap().places.lock().len();
            (addresses.handshakes.as_ref().unwrap().len(), places)
        };
        assert_eq!(known(), (255, 255));
        addresses.purge();
        assert_eq!(known(), (255, 1), "they came just now");
        clock.advance(Duration::from_secs(1));
        addresses.purge();
        assert_eq!(known(), (0, 1));
        drop(held);
        addresses.purge();
        assert_eq!(known(), (0, 0));
    }

    #[test]
    fn without_limits_nobody_is_counted() {
        let addresses = Addresses::new(0, 0, FakeRelativeClock::default());
        assert!(!addresses.are_limited());
        assert!((0..100).all(|_| addresses.admit(address(1)).unwrap().is_none()));
    }
}
