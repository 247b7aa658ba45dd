//! What comes from Redis, through the flows of the channels, to the receiver.
//!
//! A task for each worker's queue takes what was heard, under the lock of that worker's flows: that lock is the order
//! of its channels. Whatever may have been missed is read by other tasks, some at once; what comes meanwhile waits in
//! its flow.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::envelope::{self, Parcel};
use super::flow::{Confirmation, Flow, Next};
use super::flows::Flows;
use super::history;
use super::reads::{self, Party, Reader, Reads};
use crate::broker::{BrokerError, History, Range, Receiver};
use crate::metrics::{HistorySource, Metrics};
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
/// How often it is looked for what is remembered for too long.
const FORGET_INTERVAL: Duration = Duration::from_secs(5);

/// See the module's doc. Its tasks end with it.
pub(super) struct Feed {
    redis: Arc<Redis>,
    receiver: Arc<dyn Receiver>,
    metrics: Arc<Metrics>,
    runtime: Handle,
    /// By worker.
    flows: [Mutex<Flows>; WORKERS],
    reads: Reads,
    /// How often something may have been missed on all channels.
    interruptions: AtomicU64,
    /// How often a subscription became live.
    confirmations: AtomicU64,
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
            confirmations: AtomicU64::new(0),
            tasks: Mutex::default(),
        });
        let _entered = runtime.enter();
        feed.tasks.lock().push(vital(tokio::spawn(forget_old(Arc::downgrade(&feed)))));
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
        self.flows_of(&name).lock().open(name, channel);
    }

    /// The subscription to `channel` is live.
    pub(super) fn confirm(&self, channel: &Channel) {
        let confirmation = Confirmation(self.confirmations.fetch_add(1, Ordering::Relaxed));
        self.change(channel, |flow| flow.confirm(confirmation));
    }

    /// Nothing of `channel` is delivered any more.
    pub(super) fn close(&self, channel: &Channel) {
        let name = self.redis.names().relay(channel).into_bytes();
        self.flows_of(&name).lock().close(&name);
    }

    fn flows_of(&self, name: &[u8]) -> &Mutex<Flows> {
        &self.flows[worker_of(name)]
    }

    fn change<T>(&self, channel: &Channel, act: impl FnOnce(&mut Flow) -> T) -> Option<T> {
        let name = self.redis.names().relay(channel);
        self.flows_of(name.as_bytes()).lock().change(name.as_bytes(), act)
    }

    /// Up to where nothing is missing of `channel`; `None` if this node does not follow its history.
    pub(super) fn position(&self, channel: &Channel) -> Option<Position> {
        let name = self.redis.names().relay(channel).into_bytes();
        self.flows_of(&name).lock().get(&name).and_then(|flow| flow.position().cloned())
    }

    /// Reads a history for a subscriber that is registered: from what is remembered, if that is enough. See
    /// [`Flow::answer`].
    pub(super) async fn catch_up(
        self: &Arc<Self>,
        channel: &Channel,
        epoch: &str,
        range: &Range,
        meta_ttl: Duration,
    ) -> Result<History, BrokerError> {
        if let Some(history) = self.remembered(channel, epoch, range, meta_ttl) {
            self.metrics.history_read(HistorySource::Window);
            return Ok(history);
        }
        self.history(channel, range, meta_ttl).await
    }

    fn remembered(
        &self,
        channel: &Channel,
        epoch: &str,
        range: &Range,
        meta_ttl: Duration,
    ) -> Option<History> {
        // While Redis is not heard nobody knows how old an answer is.
        let is_heard = self.redis.instance_of(channel).hearing().borrow().is_heard();
        // An answer does not make the epoch stay, so it must be sure to be there for some more time.
        let answer = |flow: &mut Flow| flow.answer(epoch, range, meta_ttl / 2, Instant::now());
        is_heard.then(|| self.change(channel, answer)).flatten().flatten()
    }

    /// The history of `channel` is about to be removed: nothing of it is remembered until [`removed`](Self::removed) is
    /// told. Should that not happen, reading is all that is left.
    pub(super) fn removing(&self, channel: &Channel) {
        self.change(channel, |flow| flow.remove(None));
    }

    /// The history of `channel` was removed. What is above its top, as it is now, is remembered again: what is not may
    /// be on its way here, and was removed.
    pub(super) async fn removed(&self, channel: &Channel) {
        let name = self.redis.names().relay(channel).into_bytes().into_boxed_slice();
        if self.flows_of(&name).lock().get(&name).is_none() {
            return;
        }
        if let Ok([Some(top)]) = self.tops(&[name]).await.as_deref() {
            self.change(channel, |flow| flow.remove(Some(top)));
        }
    }

    /// Reads a history.
    pub(super) async fn history(
        self: &Arc<Self>,
        channel: &Channel,
        range: &Range,
        meta_ttl: Duration,
    ) -> Result<History, BrokerError> {
        let (answer, answered) = oneshot::channel();
        let reader = Reader { range: range.clone(), meta_ttl, answer };
        if self.reads.enter(channel, reader) {
            // In a task of its own: who asked first may give up, and others wait too.
            self.runtime.spawn(read_for_all(Arc::clone(self), channel.clone()));
        }
        let answered = tokio::time::timeout(self.redis.instance_of(channel).deadline(), answered).await;
        answered.map_or(Err(BrokerError::Unavailable), |answered| {
            // Whoever read is gone.
            answered.unwrap_or(Err(BrokerError::Unavailable))
        })
    }

    /// Reads a history for somebody who may follow it from there, and tells its flow.
    async fn read(
        self: &Arc<Self>,
        channel: &Channel,
        range: &Range,
        meta_ttl: Duration,
    ) -> Result<History, BrokerError> {
        let interruptions = self.interruptions.load(Ordering::Acquire);
        let asked = self.change(channel, |flow| (flow.position().cloned(), flow.confirmation()));
        let (known, confirmation) = asked.unwrap_or_default();
        self.metrics.history_read(HistorySource::Redis);
        let found = history::read(&self.redis, channel, range, Some(meta_ttl), known.as_ref()).await?;
        let is_old = self.interruptions.load(Ordering::Acquire) != interruptions;
        let noted = self.change(channel, |flow| {
            let next = flow.observe(&found.top, is_old);
            flow.learn(confirmation, range, &found, Instant::now());
            (next, flow.lags(&found.top))
        });
        let name = self.redis.names().relay(channel);
        match noted {
            Some((Next::Read, _)) => self.heal(vec![name.into_bytes().into()]),
            Some((Next::Nothing, true)) => {
                self.runtime.spawn(suspect_later(Arc::downgrade(self), name, found.top.clone()));
            }
            Some((Next::Nothing, false)) | None => {}
        }
        Ok(found)
    }

    /// Reads a history for those who wait for it together.
    async fn read_for(self: &Arc<Self>, channel: &Channel, mut party: Party) -> Result<(), BrokerError> {
        let readers = std::mem::take(&mut party.readers);
        let found = self.read(channel, &party.range, party.meta_ttl).await;
        let mut failure = found.as_ref().err().copied();
        for (index, reader) in readers.into_iter().enumerate() {
            let shared = found.as_ref().ok().and_then(|found| party.share(found, &reader.range));
            let answer = match (shared, failure) {
                (Some(share), _) => {
                    if index > 0 {
                        self.metrics.history_read(HistorySource::Shared);
                    }
                    Ok(share)
                }
                (None, Some(error)) => Err(error),
                (None, None) if reader.answer.is_closed() => continue,
                // What was read for all was too little for this one.
                (None, None) => self.read(channel, &reader.range, reader.meta_ttl).await,
            };
            failure = failure.or(answer.as_ref().err().copied());
            reader.answer(answer);
        }
        failure.map_or(Ok(()), Err)
    }

    /// Takes what was heard on one Redis channel; says whether it has to be read.
    fn take(&self, name: &[u8], payload: Vec<u8>) -> Next {
        let opened = envelope::open(Bytes::from(payload));
        let take = |flow: &mut Flow| match opened {
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
        };
        // Else it was unsubscribed while this was on its way.
        self.flows_of(name).lock().change(name, take).unwrap_or(Next::Nothing)
    }

    /// Something may have been missed of each channel of `worker`.
    fn suspect_all(&self, instance: &Arc<Instance>, worker: usize) -> Vec<Box<[u8]>> {
        self.interruptions.fetch_add(1, Ordering::AcqRel);
        let is_here = |flow: &Flow| Arc::ptr_eq(self.redis.instance_of(flow.channel()), instance);
        self.flows[worker].lock().change_all(|name, flow| {
            (is_here(flow) && flow.suspect() == Next::Read).then(|| name.to_vec().into_boxed_slice())
        })
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
            let compare = |flow: &mut Flow| top.and_then(|top| flow.compare(&top, &*self.receiver));
            let compared = self.flows_of(&name).lock().change(&name, compare);
            // Else it was closed.
            if compared.is_some_and(|compared| compared != Some(Next::Nothing)) {
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
        let find = |flow: &mut Flow| flow.found(position, found, &*self.receiver);
        let Some((healed, next)) = self.flows_of(name).lock().change(name, find) else {
            return Next::Nothing;
        };
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
            if feed.flows_of(&name).lock().change(&name, Flow::suspect) == Some(Next::Read) {
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
    let suspect = |flow: &mut Flow| if flow.lags(&top) { flow.suspect() } else { Next::Nothing };
    let next = feed.flows_of(name.as_bytes()).lock().change(name.as_bytes(), suspect);
    if next == Some(Next::Read) {
        feed.heal(vec![name.into_bytes().into()]);
    }
}

/// Sees to it that nothing is remembered for too long, for ever.
async fn forget_old(feed: Weak<Feed>) {
    let mut looks = tokio::time::interval(FORGET_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(feed) = feed.upgrade() else { return };
        feed.flows.iter().for_each(|flows| flows.lock().forget_old(Instant::now()));
    }
}
