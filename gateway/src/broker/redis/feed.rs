//! What comes from Redis, through the flows of the channels, to the receiver.
//!
//! A task for each worker's queue takes what was heard, under the lock of that worker's flows: that lock is the order
//! of its channels. Whatever may have been missed is read by other tasks, some at once; what comes meanwhile waits in
//! its flow.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::envelope::{self, Parcel};
use super::flow::{Flow, Next};
use super::history;
use super::reads::{self, Party, Reader, Reads};
use crate::broker::{BrokerError, History, Range, Receiver};
use crate::metrics::Metrics;
use crate::model::{Channel, Epoch, Position};
use crate::redis::{Call, Failure, Instance, Item, Redis, WORKERS, vital, worker_of};

/// How many channels are read at once to heal them.
const READS_AT_ONCE: usize = 16;
/// Tops that are compared by one round trip.
const TOPS_PER_CALL: usize = 512;
/// Most publications that are read at once for a channel that missed some, and most bytes of them.
const PUBLICATIONS_PER_READ: usize = 512;
const BYTES_PER_READ: usize = 1 << 20;
/// How soon a read that failed is tried again. When the connection is lost, all are read again as soon as it is back.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// How long a publication may be on its way, from Redis to here, before its channel is suspected.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// While a crowd comes back to a channel, those who come within so long are read for together.
const GATHERING: Duration = Duration::from_millis(50);

/// See the module's doc. Its tasks end with it.
pub(super) struct Feed {
    redis: Arc<Redis>,
    receiver: Arc<dyn Receiver>,
    metrics: Arc<Metrics>,
    runtime: Handle,
    /// By worker, and by the name of the Redis channel.
    flows: [Mutex<HashMap<Box<[u8]>, Flow>>; WORKERS],
    reads: Reads,
    /// How often something may have been missed on all channels.
    interruptions: AtomicU64,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Feed {
    pub(super) fn start(
        redis: Arc<Redis>,
        receiver: Arc<dyn Receiver>,
        metrics: Arc<Metrics>,
        runtime: &Handle,
    ) -> Arc<Self> {
        let feed = Arc::new(Self {
            redis,
            receiver,
            metrics,
            runtime: runtime.clone(),
            flows: Default::default(),
            reads: Reads::default(),
            interruptions: AtomicU64::new(0),
            tasks: Mutex::default(),
        });
        let _entered = runtime.enter();
        for instance in feed.redis.instances() {
            for worker in 0..instance.queues().len() {
                let task = tokio::spawn(listen(Arc::downgrade(&feed), Arc::clone(instance), worker));
                feed.tasks.lock().push(vital(task));
            }
        }
        feed
    }

    /// What comes on `channel` is delivered from now on.
    pub(super) fn open(&self, channel: &Channel) {
        let name = self.redis.names().relay(channel).into_bytes().into_boxed_slice();
        self.flows_of(&name).lock().entry(name).or_insert_with(|| Flow::new(channel.clone()));
    }

    /// Nothing of `channel` is delivered any more.
    pub(super) fn close(&self, channel: &Channel) {
        let name = self.redis.names().relay(channel).into_bytes();
        self.flows_of(&name).lock().remove(&*name);
    }

    fn flows_of(&self, name: &[u8]) -> &Mutex<HashMap<Box<[u8]>, Flow>> {
        &self.flows[worker_of(name)]
    }

    /// Up to where nothing is missing of `channel`; `None` if this node does not follow its history.
    pub(super) fn position(&self, channel: &Channel) -> Option<Position> {
        let name = self.redis.names().relay(channel).into_bytes();
        self.flows_of(&name).lock().get(&*name).and_then(|flow| flow.position().cloned())
    }

    /// Reads a history, for somebody who may follow it from there.
    pub(super) async fn history(
        self: &Arc<Self>,
        channel: &Channel,
        range: &Range,
        meta_ttl: Duration,
    ) -> Result<History, BrokerError> {
        let name = self.redis.names().relay(channel);
        let before = self.interruptions.load(Ordering::Acquire);
        let (answer, answered) = oneshot::channel();
        let reader = Reader { range: range.clone(), meta_ttl, answer };
        if self.reads.enter(channel, reader) {
            // In a task of its own: who asked first may give up, and others wait too.
            self.runtime.spawn(read_for_all(Arc::clone(self), channel.clone()));
        }
        let answered = tokio::time::timeout(self.redis.instance_of(channel).deadline(), answered).await;
        let history = answered.map_or(Err(BrokerError::Unavailable), |answered| {
            // Whoever read is gone.
            answered.unwrap_or(Err(BrokerError::Unavailable))
        })?;
        let is_old = self.interruptions.load(Ordering::Acquire) != before;
        let mut flows = self.flows_of(name.as_bytes()).lock();
        let Some(flow) = flows.get_mut(name.as_bytes()) else { return Ok(history) };
        if flow.observe(&history.top, is_old) == Next::Read {
            self.heal(vec![name.into_bytes().into()]);
        } else if flow.lags(&history.top) {
            self.runtime.spawn(suspect_later(Arc::downgrade(self), name, history.top.clone()));
        }
        Ok(history)
    }

    /// Reads a history for those who wait for it together.
    async fn read_for(&self, channel: &Channel, mut party: Party) -> Result<(), BrokerError> {
        let readers = std::mem::take(&mut party.readers);
        let read = async |range: &Range, meta_ttl| {
            let known = self.position(channel);
            history::read(&self.redis, channel, range, Some(meta_ttl), known.as_ref()).await
        };
        let found = read(&party.range, party.meta_ttl).await;
        let mut failure = found.as_ref().err().copied();
        for reader in readers {
            let shared = found.as_ref().ok().and_then(|found| party.share(found, &reader.range));
            let answer = match (shared, failure) {
                (Some(share), _) => Ok(share),
                (None, Some(error)) => Err(error),
                (None, None) if reader.answer.is_closed() => continue,
                // What was read for all was too little for this one.
                (None, None) => read(&reader.range, reader.meta_ttl).await,
            };
            failure = failure.or(answer.as_ref().err().copied());
            reader.answer(answer);
        }
        failure.map_or(Ok(()), Err)
    }

    /// Takes what was heard on one Redis channel; says whether it has to be read.
    fn take(&self, name: &[u8], payload: Vec<u8>) -> Next {
        let opened = envelope::open(Bytes::from(payload));
        let mut flows = self.flows_of(name).lock();
        // Else it was unsubscribed while this was on its way.
        let Some(flow) = flows.get_mut(name) else { return Next::Nothing };
        match opened {
            Ok(Parcel::Publications(Some(epoch), publications)) => {
                // Each node holds an epoch once for each channel, not once for each publication.
                let epoch = known(flow, epoch);
                flow.arrive(epoch, publications, &*self.receiver)
            }
            Ok(Parcel::Publications(None, publications)) => {
                flow.pass(&publications, &*self.receiver);
                Next::Nothing
            }
            Ok(Parcel::Notice(notice)) => {
                flow.notice(&notice, &*self.receiver);
                Next::Nothing
            }
            Err(_) => {
                self.metrics.broker_message_was_bad();
                // It may have been one of a newer version.
                flow.suspect()
            }
        }
    }

    /// Something may have been missed of each channel of `worker`.
    fn suspect_all(&self, instance: &Arc<Instance>, worker: usize) -> Vec<Box<[u8]>> {
        self.interruptions.fetch_add(1, Ordering::AcqRel);
        let mut flows = self.flows[worker].lock();
        let is_here = |flow: &Flow| Arc::ptr_eq(self.redis.instance_of(flow.channel()), instance);
        let here = flows.iter_mut().filter(|(_, flow)| is_here(flow));
        here.filter_map(|(name, flow)| (flow.suspect() == Next::Read).then(|| name.clone())).collect()
    }

    /// Sees to it that what is missing of these channels is read and delivered.
    fn heal(self: &Arc<Self>, names: Vec<Box<[u8]>>) {
        if !names.is_empty() {
            self.runtime.spawn(heal(Arc::downgrade(self), names));
        }
    }

    /// The tops of these channels, as far as they are known; `None` for one that has to be read.
    async fn tops(&self, names: &[Box<[u8]>]) -> Result<Vec<Option<Position>>, Failure> {
        let channel = |name: &[u8]| self.flows_of(name).lock().get(name).map(|flow| flow.channel().clone());
        let channels: Vec<_> = names.iter().map(|name| channel(name)).collect();
        let mut tops = vec![None; names.len()];
        for instance in self.redis.instances() {
            let is_here = |channel: &&Channel| Arc::ptr_eq(self.redis.instance_of(channel), instance);
            let here = channels.iter().enumerate();
            let here = here.filter_map(|(index, channel)| Some((index, channel.as_ref().filter(is_here)?)));
            let (indices, calls): (Vec<_>, Vec<_>) = here
                .map(|(index, channel)| {
                    let meta = self.redis.names().of_channel("meta", channel);
                    (index, Call::command("HMGET").arg(meta).arg("e").arg("o"))
                })
                .unzip();
            let answers = instance.pipeline::<(Option<String>, Option<u64>)>(calls).await?;
            for (index, answer) in indices.into_iter().zip(answers) {
                if let Ok((Some(epoch), Some(offset))) = answer {
                    tops[index] = Some(Position { epoch: Epoch::new(&epoch), offset });
                }
            }
        }
        Ok(tops)
    }

    /// Which of these channels have to be read: the others missed nothing.
    async fn compare(&self, names: Vec<Box<[u8]>>) -> Vec<Box<[u8]>> {
        let Ok(tops) = self.tops(&names).await else { return names };
        let mut differ = Vec::new();
        for (name, top) in names.into_iter().zip(tops) {
            let mut flows = self.flows_of(&name).lock();
            let Some(flow) = flows.get_mut(&name) else { continue };
            let compared = top.and_then(|top| flow.compare(&top, &*self.receiver));
            drop(flows);
            if compared != Some(Next::Nothing) {
                differ.push(name);
            }
        }
        differ
    }

    /// Reads what is missing of a channel until it is whole, or closed.
    async fn make_whole(&self, name: Box<[u8]>) {
        loop {
            let place = {
                let flows = self.flows_of(&name).lock();
                let flow = flows.get(&name).filter(|flow| flow.is_healing());
                flow.and_then(|flow| Some((flow.channel().clone(), flow.position()?.clone())))
            };
            let Some((channel, position)) = place else { return };
            let range = Range {
                since: Some(position.offset),
                reverse: false,
                limit: Some(PUBLICATIONS_PER_READ),
                bytes_max: Some(BYTES_PER_READ),
            };
            match history::read(&self.redis, &channel, &range, None, Some(&position)).await {
                Ok(found) => match self.tell(&name, &position, found) {
                    Next::Nothing => return,
                    Next::Read => {}
                },
                Err(_) => tokio::time::sleep(RETRY_DELAY).await,
            }
        }
    }

    /// Tells a flow what was read for it after `position`.
    fn tell(&self, name: &[u8], position: &Position, found: History) -> Next {
        let mut flows = self.flows_of(name).lock();
        let Some(flow) = flows.get_mut(name) else { return Next::Nothing };
        let (healed, next) = flow.found(position, found, &*self.receiver);
        self.metrics.publications_healed(healed.publications);
        if healed.is_lost {
            self.metrics.broker_lost();
        }
        next
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.tasks.get_mut().drain(..).for_each(|task| task.abort());
    }
}

/// The epoch that the flow has already, if it is this one.
fn known(flow: &Flow, epoch: Epoch) -> Epoch {
    let known = flow.position().map(|position| &position.epoch);
    known.filter(|known| **known == epoch).cloned().unwrap_or(epoch)
}

/// Reads a channel until nobody waits for that any more.
async fn read_for_all(feed: Arc<Feed>, channel: Channel) {
    let mut turn = Turn { feed: &feed, channel: &channel, is_over: false };
    while let Some(readers) = feed.reads.next(&channel) {
        let mut failure = None;
        for party in reads::parties(readers) {
            match failure {
                None => failure = feed.read_for(&channel, party).await.err(),
                // Nobody waits for longer than a command: what failed for one is not tried for the others.
                Some(error) => party.readers.into_iter().for_each(|reader| reader.answer(Err(error))),
            }
        }
        if let Some(error) = failure {
            feed.reads.waiting(&channel).into_iter().for_each(|reader| reader.answer(Err(error)));
        }
        if feed.reads.is_crowded(&channel) {
            tokio::time::sleep(GATHERING).await;
        }
    }
    turn.is_over = true;
}

/// Somebody reads a channel. Should that end before its time, nobody waits for it.
struct Turn<'a> {
    feed: &'a Feed,
    channel: &'a Channel,
    is_over: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.feed.reads.abandon(self.channel);
        }
    }
}

/// Works on one queue, for ever.
async fn listen(feed: Weak<Feed>, instance: Arc<Instance>, worker: usize) {
    let queue = Arc::clone(&instance.queues()[worker]);
    let (mut items, mut dropped) = (VecDeque::new(), Vec::new());
    loop {
        queue.take(&mut items, &mut dropped).await;
        let Some(feed) = feed.upgrade() else { return };
        let mut to_read = Vec::new();
        for item in items.drain(..) {
            match item {
                Item::Message { name, payload } => {
                    if feed.take(&name, payload) == Next::Read {
                        to_read.push(name.into());
                    }
                }
                Item::Restored => to_read.extend(feed.suspect_all(&instance, worker)),
            }
        }
        for name in dropped.drain(..) {
            if feed.flows_of(&name).lock().get_mut(&*name).is_some_and(|flow| flow.suspect() == Next::Read) {
                to_read.push(name.into());
            }
        }
        feed.heal(to_read);
        // Nothing above waits when much has come.
        tokio::task::yield_now().await;
    }
}

/// Makes these channels whole again.
async fn heal(feed: Weak<Feed>, names: Vec<Box<[u8]>>) {
    for names in names.chunks(TOPS_PER_CALL) {
        let Some(feed) = feed.upgrade() else { return };
        let differ = feed.compare(names.to_vec()).await;
        stream::iter(differ).for_each_concurrent(READS_AT_ONCE, |name| feed.make_whole(name)).await;
    }
}

/// Suspects a channel if it has not come up to `top` by then.
async fn suspect_later(feed: Weak<Feed>, name: String, top: Position) {
    tokio::time::sleep(ON_ITS_WAY).await;
    let Some(feed) = feed.upgrade() else { return };
    let next = {
        let mut flows = feed.flows_of(name.as_bytes()).lock();
        let lagging = flows.get_mut(name.as_bytes()).filter(|flow| flow.lags(&top));
        lagging.map(Flow::suspect)
    };
    if next == Some(Next::Read) {
        feed.heal(vec![name.into_bytes().into()]);
    }
}
