//! Which connections go when the node has more than its share: those that will hardly notice.

use std::hash::BuildHasher;
use std::rc::Rc;
use std::time::Duration;

use super::heartbeat::{Alarm, TICK};
use super::link::{Link, Recall};
use super::table::Key;
use super::{DEADLINE_LOOK, Shard};

/// Of its lifetime, the share by which a connection may go earlier, so that those that came together do not go together.
const EARLIER: f64 = 0.25;

impl Shard {
    /// Asks connections to come again, as many as `count`: of those that can catch up with what they miss and have nothing
    /// under way, the oldest.
    pub(super) fn shed(&self, count: usize) {
        let mut idle = self.idle();
        if count < idle.len() {
            idle.select_nth_unstable_by_key(count, |(opened_at, _)| *opened_at);
            idle.truncate(count);
        }
        for (_, key) in idle {
            self.recall(key, Recall::Rebalance);
        }
    }

    /// Connections that would hardly notice, each with when it was opened.
    fn idle(&self) -> Vec<(u32, Key)> {
        let now = self.ticks();
        let table = self.table.borrow();
        let idle = table.iter().filter(|(_, entry)| {
            let link = &entry.link;
            let is_known = link.user.borrow().is_some() && !link.is_closing() && !link.is_recalled();
            is_known && self.is_quiet(link, now) && self.is_safe(link)
        });
        idle.map(|(key, entry)| (entry.link.opened_at.get(), key)).collect()
    }

    /// Whether nothing goes to and fro.
    fn is_quiet(&self, link: &Link, now: u32) -> bool {
        let is_silent = TICK * now.saturating_sub(link.heard_at.get()) >= self.settings.idle_after;
        is_silent && link.outbox.borrow().is_empty() && link.blocked_since.get().is_none()
    }

    /// The connection is open, and is to come again one day if none may live for ever.
    pub(super) fn limit_lifetime(&self, key: Key, link: &Link) {
        if !self.settings.lifetime_max.is_zero() {
            self.set_alarm(self.rest_of_life(link).min(DEADLINE_LOOK), key, Alarm::Lifetime);
        }
    }

    /// Asks the connection to come again if it has lived as long as it may.
    pub(super) fn on_lifetime(&self, key: Key, link: &Rc<Link>) {
        if self.rest_of_life(link).is_zero() {
            self.recall(key, Recall::Lifetime);
        } else {
            self.limit_lifetime(key, link);
        }
    }

    /// How long it may live on.
    fn rest_of_life(&self, link: &Link) -> Duration {
        let chance = self.slots.hash_one(link.client) as f64 / u64::MAX as f64;
        let lifetime = self.settings.lifetime_max.mul_f64(1.0 - EARLIER * chance);
        lifetime.saturating_sub(self.age(link))
    }

    /// How old a connection is, to a tick.
    pub(super) fn age(&self, link: &Link) -> Duration {
        TICK * self.ticks().saturating_sub(link.opened_at.get())
    }

    /// How long the shard has been there, in turns of the wheel: four bytes last for years.
    pub(super) fn ticks(&self) -> u32 {
        let ticks = self.started_at.elapsed().as_nanos() / TICK.as_nanos();
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// The first turn of the wheel at which `after` has passed; what is too far away for four bytes never comes.
    pub(super) fn ticks_after(&self, after: Duration) -> u32 {
        let ticks = self.started_at.elapsed().saturating_add(after).as_nanos().div_ceil(TICK.as_nanos());
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClientId, CloseReason, UserId};
    use crate::shard::fanout::bench::Bench;
    use crate::shard::table::{Entry, Sink};

    /// A connection that was opened and heard of so many seconds after the shard began, and is not blocked.
    fn connect(shard: &Shard, opened_at: u32, heard_at: u32) -> (Key, Rc<Link>) {
        let link = Rc::new(Link::new(ClientId::random()));
        link.opened_at.set(opened_at * 10);
        link.heard_at.set(heard_at * 10);
        *link.user.borrow_mut() = Some(UserId::parse("ann").unwrap());
        let entry = Entry { sink: Sink::Protected, blocked: true.into(), link: Rc::clone(&link) };
        (shard.table.borrow_mut().insert(entry), link)
    }

    /// A shard that began so many seconds ago.
    fn shard(seconds: u64) -> Rc<Shard> {
        let mut shard = Bench::new().shard;
        let inner = Rc::get_mut(&mut shard).expect("nobody else has it");
        inner.started_at = std::time::Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        shard
    }

    #[tokio::test]
    async fn the_oldest_go_that_are_silent_and_have_nothing_to_take() {
        let shard = shard(1_000);
        let (_, young) = connect(&shard, 900, 900);
        let (_, talking) = connect(&shard, 1, 1_000);
        let (key, behind) = connect(&shard, 2, 2);
        let _queued = shard.offer(key, &bytes::Bytes::from_static(b"x"));
        let (_, unknown) = connect(&shard, 3, 3);
        unknown.user.borrow_mut().take();
        let (_, old) = connect(&shard, 4, 4);
        shard.shed(1);
        let recalled = [&young, &talking, &behind, &unknown, &old].map(|link| link.is_recalled());
        assert_eq!(recalled, [false, false, false, false, true]);
        shard.shed(9);
        assert!(young.is_recalled() && !talking.is_recalled());
        old.close_recalled();
        assert_eq!(old.closing(), Some(&CloseReason::Rebalance));
    }

    #[tokio::test]
    async fn a_life_ends_in_its_last_quarter_and_not_for_all_at_once() {
        let mut shard = shard(100);
        Rc::get_mut(&mut shard).unwrap().settings.lifetime_max = Duration::from_secs(90);
        let links: Vec<_> = (0..200).map(|second| connect(&shard, second / 4, 0)).collect();
        for (key, link) in &links {
            shard.on_lifetime(*key, link);
            let age = Duration::from_secs(100) - TICK * link.opened_at.get();
            assert!(age >= Duration::from_secs(67) || !link.is_recalled(), "{age:?} is too early");
            assert!(age < Duration::from_secs(90) || link.is_recalled(), "{age:?} is too late");
        }
        let recalled = links.iter().filter(|(_, link)| link.is_recalled()).count();
        assert!((45..180).contains(&recalled), "{recalled}");
    }
}
