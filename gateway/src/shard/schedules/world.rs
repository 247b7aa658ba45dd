//! A shard over an unruly broker, its clients and publishers, and the truth.

use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use super::client::{Client, some_of};
use super::{GRACE_IS_OVER, Tally};
use crate::broker::unruly::Unruly;
use crate::broker::{Broker, Draft, MemoryBroker, PublishOptions, Range, Retention};
use crate::metrics::Metrics;
use crate::model::chance::Manners;
use crate::model::{Channel, Publication, RawJson};
use crate::presence::Presence;
use crate::presence::unruly::UnrulyPresence;
use crate::shard::Shard;
use crate::shard::fanout::bench::{Bench, Random};

const CLIENTS: usize = 4;
const CALLS_MAX: usize = 4;
/// Small, so that some come back too late.
const KEPT: usize = 8;
/// Short, so that epochs end.
pub(super) const META_TTL: Duration = Duration::from_secs(20);
const KEY_TTL: Duration = Duration::from_secs(300);

const OPTIONS: PublishOptions = PublishOptions {
    retention: Some(Retention { size: KEPT, ttl: META_TTL, meta_ttl: META_TTL }),
    idempotency_ttl: KEY_TTL,
};

/// What the broker kept.
#[derive(Default)]
pub(super) struct Truth {
    /// Channel, epoch and offset of each number that was published.
    pub(super) numbers: HashMap<u64, (usize, String, u64)>,
    places: HashMap<(usize, String, u64), u64>,
    /// Of each channel, the last.
    ends: HashMap<usize, (String, u64)>,
}

impl Truth {
    /// The number at a place.
    pub(super) fn at(&self, channel: usize, epoch: &str, offset: u64) -> u64 {
        self.places[&(channel, epoch.to_owned(), offset)]
    }

    fn learn(&mut self, channel: usize, epoch: &str, offset: u64, number: u64, tally: &mut Tally) {
        let end = self.ends.entry(channel).or_default();
        if end.0 != epoch {
            *end = (epoch.to_owned(), 0);
            tally.epochs += 1;
        }
        end.1 += 1;
        assert_eq!(end.1, offset, "offsets count from 1");
        let twice = self.numbers.insert(number, (channel, epoch.to_owned(), offset));
        assert!(twice.is_none(), "a number is published once, however often it is tried");
        self.places.insert((channel, epoch.to_owned(), offset), number);
    }
}

/// What clients act on.
pub(super) struct Bed {
    bench: Bench,
    pub(super) channels: Vec<Channel>,
    /// Whether clients are present.
    pub(super) is_seen: bool,
    pub(super) truth: Truth,
}

impl Bed {
    pub(super) fn shard(&self) -> &Rc<Shard> {
        &self.bench.shard
    }
}

/// A call under way that no client makes.
enum Call {
    /// Which numbers; answered with whether it is known that they were published.
    Publish(usize, Vec<u64>, Pin<Box<dyn Future<Output = bool>>>),
    Other(Pin<Box<dyn Future<Output = ()>>>),
}

pub(super) struct World {
    bed: Bed,
    broker: Arc<Unruly>,
    presence: Arc<UnrulyPresence>,
    clients: Vec<Client>,
    calls: Vec<Call>,
    next_number: u64,
    /// Nothing is lost, repeated or forgotten: nobody may be told that it is.
    pub(super) is_lossless: bool,
}

impl World {
    /// `metrics` are shared by all worlds: making them takes longer than a schedule.
    pub(super) fn new(seed: u64, manners: Manners, metrics: &Arc<Metrics>) -> Self {
        let mut broker = None;
        let presence = Arc::new(UnrulyPresence::new(seed, manners));
        let make = |receiver| {
            let unruly = Unruly::new(seed, manners, receiver, MemoryBroker::new);
            broker.insert(unruly).clone() as Arc<dyn Broker>
        };
        // Half of it is for what is set aside: in a third of the schedules a few publications are too much.
        let outbox_bytes_max = if seed.is_multiple_of(3) { 1_000 } else { 1 << 20 };
        let bench = Bench::over(make, Arc::clone(&presence) as _, outbox_bytes_max, Arc::clone(metrics));
        // The worker of a channel is random: with one channel there is one, so the seed decides all.
        let is_seen = seed % 8 >= 6;
        let names = if is_seen { &["a"][..] } else { &["a", "b"] };
        let channels: Vec<_> = names.iter().map(|name| Channel::parse(name, 255).unwrap()).collect();
        let clients = (0..CLIENTS).map(|_| Client::new(channels.len())).collect();
        let bed = Bed { bench, channels, is_seen, truth: Truth::default() };
        let (broker, is_lossless) = (broker.unwrap(), seed.is_multiple_of(5));
        Self { bed, broker, presence, clients, calls: Vec::new(), next_number: 0, is_lossless }
    }

    pub(super) async fn step(&mut self, random: &mut Random, tally: &mut Tally) {
        let index = random.below(CLIENTS);
        let channel = random.below(self.bed.channels.len());
        match random.below(32) {
            11 | 14 if self.is_lossless => {}
            0..=3 => self.publish(channel, 1 + random.below(2)),
            4..=7 => self.bed.bench.turn(),
            8..=10 => drop(self.broker.pass_on()),
            11 => match random.below(8) {
                0..=1 => self.broker.lose(),
                2 => self.bed.bench.lose_what_waits(),
                3 => self.remove_history(channel),
                4 => tokio::time::advance(META_TTL / 3).await,
                5 if random.below(4) == 0 => tokio::time::advance(META_TTL).await,
                _ => self.repeat(channel, 1 + random.below(8) as u64).await,
            },
            12 => self.clients[index].unsubscribe(&self.bed, channel),
            13 if random.below(2) == 0 => self.clients[index].disconnect(&self.bed, tally),
            14 if random.below(2) == 0 => self.check_positions(),
            15..=17 => {
                let channels = some_of(self.bed.channels.len(), random);
                self.clients[index].subscribe(&self.bed, channels);
            }
            18..=22 => self.poll_call(random, tally),
            _ => self.poll_client(index, tally),
        }
        // What runs on the backbone has its turn.
        if self.bed.is_seen || random.below(8) == 0 {
            tokio::task::yield_now().await;
        }
        self.look(tally);
    }

    fn poll_client(&mut self, index: usize, tally: &mut Tally) {
        if let Some(finished) = self.clients[index].poll() {
            self.learn(tally);
            self.clients[index].settle(&self.bed, finished, tally);
        }
    }

    /// Learns what was kept; every client reads.
    fn look(&mut self, tally: &mut Tally) {
        self.learn(tally);
        for client in &mut self.clients {
            client.read(&self.bed, tally);
        }
    }

    fn learn(&mut self, tally: &mut Tally) {
        for kept in self.broker.take_kept() {
            let number = std::str::from_utf8(&kept.data).unwrap().parse().unwrap();
            let channel = self.bed.channels.iter().position(|known| *known == kept.channel).unwrap();
            let (epoch, offset) = (kept.position.epoch.as_str(), kept.position.offset);
            self.bed.truth.learn(channel, epoch, offset, number, tally);
        }
    }

    fn publish(&mut self, channel: usize, count: usize) {
        if self.calls.len() < CALLS_MAX {
            let numbers = (self.next_number..).take(count).collect();
            self.next_number += count as u64;
            self.begin_publish(channel, numbers);
        }
    }

    fn begin_publish(&mut self, channel: usize, numbers: Vec<u64>) {
        let draft = |number: &u64| {
            let data = RawJson::parse(number.to_string().as_bytes()).unwrap();
            let idempotency_key = Some(number.to_string());
            Draft { idempotency_key, ..Draft::of(Publication::of(data)) }
        };
        let drafts = numbers.iter().map(draft).collect();
        let (node, name) = (Arc::clone(&self.bed.shard().node), self.bed.channels[channel].clone());
        let published = async move { node.publish(&name, drafts, OPTIONS).await.is_ok() };
        self.calls.push(Call::Publish(channel, numbers, Box::pin(published)));
    }

    fn remove_history(&mut self, channel: usize) {
        let (node, name) = (Arc::clone(&self.bed.shard().node), self.bed.channels[channel].clone());
        self.calls.push(Call::Other(Box::pin(async move {
            let _may_fail = node.remove_history(&name).await;
        })));
    }

    fn check_positions(&mut self) {
        // One at a time, as the shard does.
        if !self.calls.iter().any(|call| matches!(call, Call::Other(_))) {
            let shard = Rc::clone(self.bed.shard());
            self.calls.push(Call::Other(Box::pin(async move { shard.check_positions().await })));
        }
    }

    /// The newest of the history are delivered again.
    async fn repeat(&self, channel: usize, count: u64) {
        let name = &self.bed.channels[channel];
        let history = self.broker.inner().history(name, Range::default(), META_TTL).await.unwrap();
        let count = history.publications.len().min(count as usize);
        let newest = &history.publications[history.publications.len() - count..];
        self.bed.bench.deliver(name, &history.top.epoch, newest);
    }

    /// Polls one of the calls that are under way, or drops it now and then.
    fn poll_call(&mut self, random: &mut Random, tally: &mut Tally) {
        if self.calls.is_empty() {
            return;
        }
        let mut call = self.calls.swap_remove(random.below(self.calls.len()));
        if random.below(32) == 0 {
            return;
        }
        let mut ctx = Context::from_waker(Waker::noop());
        let (is_ready, published) = match &mut call {
            Call::Publish(_, _, published) => match published.as_mut().poll(&mut ctx) {
                std::task::Poll::Ready(is_known) => (true, Some(is_known)),
                std::task::Poll::Pending => (false, None),
            },
            Call::Other(done) => (done.as_mut().poll(&mut ctx).is_ready(), None),
        };
        if !is_ready {
            return self.calls.push(call);
        }
        if let (Call::Publish(channel, numbers, _), Some(is_known)) = (call, published) {
            self.learn(tally);
            self.published(channel, numbers, is_known, random, tally);
        }
    }

    fn published(
        &mut self,
        channel: usize,
        numbers: Vec<u64>,
        is_known: bool,
        random: &mut Random,
        tally: &mut Tally,
    ) {
        let kept = numbers.iter().filter(|number| self.bed.truth.numbers.contains_key(number)).count();
        if is_known {
            return assert_eq!(kept, numbers.len(), "answered, and not kept");
        }
        tally.kept_in_spite += kept;
        if random.below(2) == 0 {
            tally.retried += 1;
            self.begin_publish(channel, numbers);
        }
    }

    /// Everybody becomes live and gets everything, or the word that it has not.
    pub(super) async fn finish(&mut self, tally: &mut Tally) {
        self.broker.calm();
        self.presence.calm();
        self.calls.clear();
        // The first round ends what is under way; what was lost at the end shows by the second look after that.
        for _ in 0..4 {
            self.bed.bench.finish();
            self.look(tally);
            self.bed.shard().check_positions().await;
            self.look(tally);
            self.make_live(tally).await;
            self.look(tally);
        }
        for (index, name) in self.bed.channels.iter().enumerate() {
            let range = Range { limit: Some(0), ..Range::default() };
            let top = self.broker.inner().history(name, range, META_TTL).await.unwrap().top;
            for client in &self.clients {
                assert!(client.places[index].is_at(top.epoch.as_str(), top.offset), "missed the end");
            }
        }
        assert_eq!(self.bed.shard().inbox().held_bytes(), 0);
        assert_eq!(self.bed.shard().node.subscription_count(), CLIENTS * self.bed.channels.len());
    }

    async fn make_live(&mut self, tally: &mut Tally) {
        let all: Vec<_> = (0..self.bed.channels.len()).collect();
        // All at once: who waits for another's call needs that one to go on.
        while self.clients.iter().any(|client| client.is_busy() || !client.is_live()) {
            for index in 0..CLIENTS {
                self.clients[index].subscribe(&self.bed, all.clone());
                self.poll_client(index, tally);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Everybody goes, and nothing is left.
    pub(super) async fn close(mut self) {
        for client in &mut self.clients {
            client.disconnect(&self.bed, &mut Tally::default());
        }
        self.bed.bench.finish();
        // The leaves that are announced are for nobody.
        tokio::time::sleep(GRACE_IS_OVER).await;
        let shard = self.bed.shard();
        assert_eq!((shard.hub.borrow().len(), shard.table.borrow().len()), (0, 0));
        assert_eq!((shard.node.subscription_count(), shard.node.known_channels()), (0, 0));
        assert_eq!(self.broker.subscribed(), 0, "the broker holds what nobody wants");
        assert_eq!(shard.inbox().held_bytes(), 0);
        for channel in &self.bed.channels {
            assert_eq!(self.presence.memory().stats(channel).await.unwrap().clients, 0, "a ghost");
        }
    }
}
