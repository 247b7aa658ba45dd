//! A broker for tests that is as late, as disorderly and as unreliable as the trait allows.
//!
//! It wraps another. A call waits a random number of turns before it takes effect and again before its answer, so
//! calls that are under way at once take effect and are answered in any order. With a rate a call fails, before it
//! took effect or after. Who drops a call does not know either: it may take effect all the same, but before the next
//! call of its channel. What is delivered waits until the test [passes it on](Unruly::pass_on), in the order of its
//! channel; channels overtake one another.
//!
//! A turn is a poll (see `model::chance`), so what happens depends on the seed and on who polls when, never on time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Broker, BrokerError, Draft, History, PublishOptions, Published, Range, Receiver};
use crate::model::chance::{Failure, Fate, Manners, Random, turns};
use crate::model::{Channel, Epoch, Notice, Position, Publication};

/// A publication that was kept, whatever its publisher was told.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) channel: Channel,
    pub(crate) position: Position,
    pub(crate) data: Vec<u8>,
}

type Effect<T> = Pin<Box<dyn Future<Output = Result<T, BrokerError>> + Send>>;

type Abandoned = Pin<Box<dyn Future<Output = ()> + Send>>;

/// See the module's doc.
pub(crate) struct Unruly {
    inner: Arc<dyn Broker>,
    held: Arc<Held>,
    calls: Arc<Mutex<Calls>>,
    kept: Arc<Mutex<Vec<Kept>>>,
}

struct Calls {
    random: Random,
    manners: Manners,
    /// Whether the next call fails whatever the manners say.
    fails_next: bool,
    /// What was asked for by calls that were dropped, in their order.
    abandoned: Vec<(Channel, Abandoned)>,
}

/// A call that has not taken effect.
struct UnderWay<T: Send + 'static> {
    channel: Channel,
    calls: Arc<Mutex<Calls>>,
    effect: Option<Effect<T>>,
}

impl<T: Send + 'static> Drop for UnderWay<T> {
    fn drop(&mut self) {
        let Some(effect) = self.effect.take() else { return };
        let mut calls = self.calls.lock();
        if calls.random.below(2) == 0 {
            calls.abandoned.push((self.channel.clone(), Box::pin(async move { drop(effect.await) })));
        }
    }
}

impl Unruly {
    /// Wraps the broker that `make` builds from a receiver; delivers to `receiver` in the end.
    pub(crate) fn new<B: Broker>(
        seed: u64,
        manners: Manners,
        receiver: Arc<dyn Receiver>,
        make: impl FnOnce(Arc<dyn Receiver>) -> B,
    ) -> Arc<Self> {
        let holding = Holding { holds_back: manners.holds_back, ..Holding::default() };
        let held = Arc::new(Held { receiver, holding: Mutex::new(holding) });
        let inner = Arc::new(make(Arc::clone(&held) as _));
        let calls = Calls { random: Random::new(seed), manners, fails_next: false, abandoned: Vec::new() };
        Arc::new(Self { inner, held, calls: Arc::new(Mutex::new(calls)), kept: Arc::default() })
    }

    /// From now on calls go so.
    pub(crate) fn behave(&self, manners: Manners) {
        self.calls.lock().manners = manners;
        self.held.holding.lock().holds_back = manners.holds_back;
    }

    /// From now on calls take effect at once, and what is delivered is not held back.
    pub(crate) fn calm(&self) {
        self.behave(Manners::CALM);
        while self.pass_on() {}
    }

    /// The next call fails, after it took effect.
    pub(crate) fn fail_next_after_effect(&self) {
        self.calls.lock().fails_next = true;
    }

    /// Delivers what has waited longest in some channel; `false` if nothing waits.
    pub(crate) fn pass_on(&self) -> bool {
        // Delivered under the lock, so that two who pass on do not swap what they took.
        let mut holding = self.held.holding.lock();
        let Some((channel, parcel)) = holding.take(&mut self.calls.lock().random) else { return false };
        match &parcel {
            Parcel::Publications(epoch, publications) => {
                self.held.receiver.deliver(&channel, epoch.as_ref(), publications);
            }
            Parcel::Notice(notice) => self.held.receiver.announce(&channel, notice),
            Parcel::Loss(top) => self.held.receiver.lose(&channel, top),
        }
        true
    }

    /// Loses what has waited longest in some channel.
    pub(crate) fn lose(&self) {
        self.held.holding.lock().take(&mut self.calls.lock().random);
    }

    /// Whether publications of `channel` would be delivered.
    pub(crate) fn is_subscribed(&self, channel: &Channel) -> bool {
        self.held.holding.lock().subscribed.contains(channel)
    }

    /// How many channels it is subscribed to.
    pub(crate) fn subscribed(&self) -> usize {
        self.held.holding.lock().subscribed.len()
    }

    /// What was kept since this was asked before.
    pub(crate) fn take_kept(&self) -> Vec<Kept> {
        std::mem::take(&mut *self.kept.lock())
    }

    /// The broker beneath, which answers at once.
    pub(crate) fn inner(&self) -> &Arc<dyn Broker> {
        &self.inner
    }

    /// Passes on what is delivered, in a task of its own, until the broker is gone.
    pub(crate) fn drive(self: &Arc<Self>) {
        let broker = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(broker) = broker.upgrade() {
                broker.pass_on();
                drop(broker);
                tokio::task::yield_now().await;
            }
        });
    }

    async fn call<T: Send + 'static>(
        &self,
        channel: &Channel,
        effect: impl Future<Output = Result<T, BrokerError>> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let fate = {
            let mut calls = self.calls.lock();
            let manners = calls.manners;
            let fate = manners.fate(&mut calls.random);
            let failure = std::mem::take(&mut calls.fails_next).then_some(Failure::After);
            Fate { failure: failure.or(fate.failure), ..fate }
        };
        let effect = (fate.failure != Some(Failure::Before)).then(|| Box::pin(effect) as Effect<T>);
        let mut under_way = UnderWay { channel: channel.clone(), calls: Arc::clone(&self.calls), effect };
        turns(fate.before).await;
        self.settle_abandoned(channel).await;
        let effect = under_way.effect.take();
        let result = match effect {
            Some(effect) => effect.await,
            None => Err(BrokerError::Unavailable),
        };
        turns(fate.after).await;
        if fate.failure.is_some() { Err(BrokerError::Unavailable) } else { result }
    }

    async fn settle_abandoned(&self, channel: &Channel) {
        let settled: Vec<_> = {
            let mut calls = self.calls.lock();
            calls.abandoned.extract_if(.., |(known, _)| known == channel).collect()
        };
        for (_, effect) in settled {
            effect.await;
        }
    }
}

#[async_trait]
impl Broker for Unruly {
    async fn subscribe(&self, channel: &Channel) -> Result<(), BrokerError> {
        let (inner, held, name) = (Arc::clone(&self.inner), Arc::clone(&self.held), channel.clone());
        let effect = async move {
            held.holding.lock().subscribed.insert(name.clone());
            inner.subscribe(&name).await
        };
        self.call(channel, effect).await
    }

    async fn unsubscribe(&self, channel: &Channel) -> Result<(), BrokerError> {
        let (inner, held, name) = (Arc::clone(&self.inner), Arc::clone(&self.held), channel.clone());
        let effect = async move {
            let result = inner.unsubscribe(&name).await;
            held.holding.lock().forget(&name);
            result
        };
        self.call(channel, effect).await
    }

    async fn publish(
        &self,
        channel: &Channel,
        drafts: Vec<Draft>,
        options: PublishOptions,
    ) -> Result<Vec<Published>, BrokerError> {
        let (inner, kept, name) = (Arc::clone(&self.inner), Arc::clone(&self.kept), channel.clone());
        let effect = async move {
            let data: Vec<_> =
                drafts.iter().map(|draft| draft.publication.data.as_bytes().to_vec()).collect();
            let published = inner.publish(&name, drafts, options).await?;
            for (published, data) in published.iter().zip(data) {
                if let (Some(position), false) = (published.position.clone(), published.is_suppressed) {
                    kept.lock().push(Kept { channel: name.clone(), position, data });
                }
            }
            Ok(published)
        };
        self.call(channel, effect).await
    }

    async fn announce(&self, channel: &Channel, notice: Notice) -> Result<(), BrokerError> {
        let (inner, name) = (Arc::clone(&self.inner), channel.clone());
        self.call(channel, async move { inner.announce(&name, notice).await }).await
    }

    async fn history(
        &self,
        channel: &Channel,
        range: Range,
        meta_ttl: Duration,
    ) -> Result<History, BrokerError> {
        let (inner, name) = (Arc::clone(&self.inner), channel.clone());
        self.call(channel, async move { inner.history(&name, range, meta_ttl).await }).await
    }

    async fn remove_history(&self, channel: &Channel) -> Result<(), BrokerError> {
        let (inner, name) = (Arc::clone(&self.inner), channel.clone());
        self.call(channel, async move { inner.remove_history(&name).await }).await
    }
}

/// What the broker beneath delivered and is not passed on.
struct Held {
    receiver: Arc<dyn Receiver>,
    holding: Mutex<Holding>,
}

#[derive(Default)]
struct Holding {
    holds_back: bool,
    subscribed: HashSet<Channel>,
    waiting: HashMap<Channel, VecDeque<Parcel>>,
    /// The channels of `waiting`, in an order that is the same in each run.
    channels: Vec<Channel>,
}

enum Parcel {
    Publications(Option<Epoch>, Vec<Arc<Publication>>),
    Notice(Notice),
    Loss(Position),
}

impl Holding {
    fn put(&mut self, channel: &Channel, parcel: Parcel) {
        if !self.waiting.contains_key(channel) {
            self.channels.push(channel.clone());
        }
        self.waiting.entry(channel.clone()).or_default().push_back(parcel);
    }

    fn take(&mut self, random: &mut Random) -> Option<(Channel, Parcel)> {
        if self.channels.is_empty() {
            return None;
        }
        let channel = self.channels[random.below(self.channels.len())].clone();
        let waiting = self.waiting.get_mut(&channel)?;
        let parcel = waiting.pop_front()?;
        if waiting.is_empty() {
            self.drop_waiting(&channel);
        }
        Some((channel, parcel))
    }

    fn drop_waiting(&mut self, channel: &Channel) {
        self.waiting.remove(channel);
        self.channels.retain(|known| known != channel);
    }

    /// Nothing of `channel` is delivered any more.
    fn forget(&mut self, channel: &Channel) {
        self.subscribed.remove(channel);
        self.drop_waiting(channel);
    }
}

impl Receiver for Held {
    fn deliver(&self, channel: &Channel, epoch: Option<&Epoch>, publications: &[Arc<Publication>]) {
        let mut holding = self.holding.lock();
        if holding.holds_back {
            return holding.put(channel, Parcel::Publications(epoch.cloned(), publications.to_vec()));
        }
        self.receiver.deliver(channel, epoch, publications);
    }

    fn announce(&self, channel: &Channel, notice: &Notice) {
        let mut holding = self.holding.lock();
        if holding.holds_back {
            return holding.put(channel, Parcel::Notice(notice.clone()));
        }
        self.receiver.announce(channel, notice);
    }

    fn lose(&self, channel: &Channel, top: &Position) {
        let mut holding = self.holding.lock();
        if holding.holds_back {
            return holding.put(channel, Parcel::Loss(top.clone()));
        }
        self.receiver.lose(channel, top);
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;
    use crate::broker::MemoryBroker;
    use crate::model::chance::any_seed;

    contract::suite!(|receiver: Arc<contract::Record>| async move {
        let seed = any_seed();
        let manners = Manners { turns_max: 20, failures_percent: 0, holds_back: true };
        let broker = Unruly::new(seed, manners, receiver, MemoryBroker::new);
        broker.drive();
        broker
    });
}
