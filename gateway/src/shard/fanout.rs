//! Encode once, send to all, wait for nobody.
//!
//! A walk takes what is queued for a channel, encodes it once per form, and offers the same bytes to every
//! subscriber. After some sends it is suspended, so that reads, accepts and other channels have their turn.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use smallvec::SmallVec;

use super::hub::{ChannelKey, Share, Subscriber, Tracking};
use super::link::Link;
use super::run::{Run, Selection};
use super::slow::{Cut, Policy};
use super::table::{Entry, Key};
use super::{Offer, Shard};
use crate::config::NamespaceId;
use crate::metrics::DropReason;
use crate::model::{ClientId, CloseReason};
use crate::node::Delivery;
use crate::protocol::{Encoding, Inappropriate};
use crate::telemetry::traces::Reach;

/// Most deliveries taken from the inbox at once.
const DRAIN_MAX: usize = 64;
/// Sends between two looks at everything else.
const SENDS_PER_TURN: usize = 512;
/// Most bytes of publications that go out in one piece. Bounded, because a piece that a healthy socket cannot
/// take at once must still fit into its outbox.
const BATCH_BYTES_MAX: usize = 64 << 10;

/// One pass over the subscribers of a channel with one batch.
struct Walk {
    channel: ChannelKey,
    namespace: NamespaceId,
    begun_at: Instant,
    batch: Vec<Delivery>,
    /// First and last offset of the batch; `None` if it is in no history.
    offsets: Option<(u64, u64)>,
    policy: Policy,
    /// The connections that do not get all of the batch.
    excluded: SmallVec<[ClientId; 1]>,
    /// By form; `None` if the data of a publication has no place in it.
    runs: SmallVec<[(Encoding, Option<Run>); 2]>,
    /// Who got something of it.
    recipients: usize,
    next: usize,
    /// Who is at or after this joined later: the batch is not for them.
    end: usize,
    /// Whether something in the batch is traced.
    is_traced: bool,
}

/// What a turn of a walk did.
#[derive(Default)]
struct Tally {
    publications: usize,
    bytes: usize,
    dropped: usize,
    /// By a policy other than closing the connection.
    cut: usize,
}

/// Delivers what comes into the shard's inbox, for ever.
pub(super) async fn run(shard: Rc<Shard>) {
    let mut walks = VecDeque::new();
    let mut drained = Vec::with_capacity(DRAIN_MAX);
    let mut may_have_more = false;
    loop {
        if walks.is_empty() && !may_have_more {
            shard.inbox().queued().await;
        } else {
            tokio::task::yield_now().await;
        }
        while let Some(control) = shard.inbox().next_control() {
            shard.on_control(control);
        }
        shard.inbox().drain(DRAIN_MAX, &mut drained);
        may_have_more = drained.len() == DRAIN_MAX;
        queue(&shard, &mut drained, &mut walks);
        turn(&shard, &mut walks);
    }
}

/// Sorts deliveries by channel; a channel without a walk gets one.
fn queue(shard: &Shard, drained: &mut Vec<Delivery>, walks: &mut VecDeque<Walk>) {
    let mut begun = SmallVec::<[ChannelKey; 8]>::new();
    for delivery in drained.drain(..) {
        let mut hub = shard.hub.borrow_mut();
        let Some(key) = hub.find(&delivery.channel) else {
            // The last subscriber left while the delivery waited.
            shard.inbox().release(delivery.cost_bytes);
            continue;
        };
        if delivery.is_notice() && !hub.has_hearers(key) {
            shard.inbox().release(delivery.cost_bytes);
            continue;
        }
        if hub.queue(key, delivery) {
            begun.push(key);
        }
    }
    walks.extend(begun.into_iter().filter_map(|key| Walk::begin(shard, key)));
}

/// Spends a turn's sends on the walks, in rotation.
fn turn(shard: &Shard, walks: &mut VecDeque<Walk>) {
    let mut sends = SENDS_PER_TURN;
    while sends > 0
        && let Some(mut walk) = walks.pop_front()
    {
        if walk.step(shard, &mut sends) {
            let channel = walk.channel;
            walk.finish(shard);
            walks.extend(Walk::begin(shard, channel));
        } else {
            walks.push_back(walk);
        }
    }
}

impl Walk {
    fn begin(shard: &Shard, channel: ChannelKey) -> Option<Self> {
        let mut hub = shard.hub.borrow_mut();
        let (batch, end) = hub.begin_walk(channel, BATCH_BYTES_MAX)?;
        if let Some(epoch) = batch[0].epoch() {
            hub.observe(channel, epoch, |key| shard.lose(key, channel));
        }
        let first = batch.iter().find_map(Delivery::offsets);
        let last = batch.iter().rev().find_map(Delivery::offsets);
        let offsets = first.zip(last).map(|((first, _), (_, last))| (first, last));
        let policy = Policy { channel, kind: hub.slow_consumer(channel) };
        let publications = batch.iter().flat_map(|delivery| delivery.publications());
        let excluded =
            publications.filter_map(|publication| publication.exclude.as_deref().copied()).collect();
        let is_traced = batch.iter().any(|delivery| delivery.processing.is_some());
        Some(Self {
            channel,
            namespace: hub.namespace(channel),
            begun_at: Instant::now(),
            batch,
            offsets,
            policy,
            excluded,
            runs: SmallVec::new(),
            recipients: 0,
            next: 0,
            end,
            is_traced,
        })
    }

    /// Goes on with the walk; `true` when it is at its end.
    fn step(&mut self, shard: &Shard, sends: &mut usize) -> bool {
        let (table, mut hub) = (shard.table.borrow(), shard.hub.borrow_mut());
        let is_current = hub.is_at(self.channel, self.batch[0].epoch());
        let subscribers = hub.subscribers_mut(self.channel);
        let (policy, is_notice) = (self.policy, self.batch[0].is_notice());
        let (mut tally, mut recipients) = (Tally::default(), 0);
        while self.next < self.end && *sends > 0 {
            let subscriber = &mut subscribers[self.next];
            self.next += 1;
            let Some(key) = subscriber.connection else { continue };
            let Some(entry) = table.get(key) else { continue };
            *sends -= 1;
            let after = match self.share(subscriber, is_current) {
                Share::All => 0,
                Share::After(offset) => offset,
                Share::Later => {
                    self.set_aside(&entry.link, shard.settings.outbox_bytes_max / 2);
                    continue;
                }
                Share::Gap => {
                    entry.link.lose(self.channel);
                    continue;
                }
                Share::Nothing => continue,
            };
            let client = self.excludes(entry).then_some(entry.link.client);
            let selection = Selection { after, client };
            let partial;
            let run = if selection.is_all() {
                self.run(subscriber.encoding, shard)
            } else {
                partial = self.encode(subscriber.encoding, selection, shard).ok();
                partial.as_ref()
            };
            let Some(run) = run else {
                entry.link.close(CloseReason::InappropriateProtocol);
                continue;
            };
            if run.bytes.is_empty() {
                continue;
            }
            let (offer, cut) = if policy.drops() && !is_notice {
                shard.offer_run((key, entry), run, policy, &mut subscriber.tracking)
            } else {
                (shard.offer_to(entry, key, &run.bytes), Cut::default())
            };
            *sends = sends.saturating_sub(cut.sends);
            let reach = tally.add(run, offer, cut, &entry.link);
            if self.is_traced {
                self.trace(selection, reach);
            }
            recipients += usize::from(reach == Reach::Reached);
        }
        self.recipients += recipients;
        shard.count(&tally, policy);
        self.next >= self.end
    }

    /// Whether the batch holds something that is not for the connection.
    fn excludes(&self, entry: &Entry) -> bool {
        !self.excluded.is_empty() && self.excluded.contains(&entry.link.client)
    }

    /// What a subscriber gets of the batch. While the walk was suspended the channel may have got a new epoch: then
    /// its offsets mean nothing to whoever is there already.
    fn share(&self, subscriber: &mut Subscriber, is_current: bool) -> Share {
        if let Some(top) = self.batch[0].loss() {
            return subscriber.tracking.survive(is_current.then_some(top.offset));
        }
        match (self.offsets, &subscriber.tracking) {
            (Some(_), Tracking::At(_)) if !is_current => Share::Nothing,
            (Some((first, last)), _) => subscriber.tracking.advance(first, last),
            // A walk brings notices or publications, never both.
            (None, _) if self.batch[0].is_notice() && !subscriber.hears_notices => Share::Nothing,
            // In no history, so it cannot be joined with one; nor is it missed. A notice waits for the reply as well.
            (None, Tracking::Buffering | Tracking::Lost) => Share::Nothing,
            (None, _) => Share::All,
        }
    }

    fn set_aside(&self, link: &Link, bytes_max: usize) {
        for delivery in &self.batch {
            if let Some(top) = delivery.loss() {
                link.set_loss_aside(self.channel, top);
            } else if let Some(epoch) = delivery.epoch() {
                link.set_aside(self.channel, epoch, delivery.publications(), bytes_max);
            }
        }
    }

    /// The whole batch in this form; `None` if the data of a publication has no place in it.
    fn run(&mut self, encoding: Encoding, shard: &Shard) -> Option<&Run> {
        let known = self.runs.iter().position(|(known, _)| *known == encoding);
        let index = known.unwrap_or_else(|| {
            let run = self.encode(encoding, Selection { after: 0, client: None }, shard);
            self.runs.push((encoding, run.ok()));
            self.runs.len() - 1
        });
        self.runs[index].1.as_ref()
    }

    fn encode(&self, encoding: Encoding, selection: Selection, shard: &Shard) -> Result<Run, Inappropriate> {
        let slots = self.policy.drops().then_some(&shard.slots);
        Run::encode(encoding, &self.batch, selection, slots)
    }

    /// A subscriber was offered what `selection` says of the batch.
    fn trace(&self, selection: Selection, reach: Reach) {
        for delivery in &self.batch {
            if let Some(processing) = &delivery.processing {
                processing.offered(reach, |index| selection.covers(&delivery.publications()[index]));
            }
        }
    }

    fn finish(self, shard: &Shard) {
        let now = Instant::now();
        for delivery in &self.batch {
            if !delivery.is_notice() {
                let after = now.saturating_duration_since(delivery.accepted_at);
                shard.metrics.delivery_completed(self.namespace, after);
            }
            shard.inbox().release(delivery.cost_bytes);
        }
        if !self.batch[0].publications().is_empty() {
            let after = now.saturating_duration_since(self.begun_at);
            shard.metrics.fanned_out(self.recipients, after);
        }
        let mut moved = Vec::new();
        shard.hub.borrow_mut().end_walk(self.channel, |change| moved.push(change));
        for change in &moved {
            shard.apply(change);
        }
    }
}

impl Shard {
    /// The connection missed something of `channel`.
    pub(super) fn lose(&self, key: Key, channel: ChannelKey) {
        if let Some(entry) = self.table.borrow().get(key) {
            entry.link.lose(channel);
        }
    }

    fn count(&self, tally: &Tally, policy: Policy) {
        self.metrics.publications_delivered(tally.publications, tally.bytes);
        if tally.dropped > 0 {
            self.metrics.publications_dropped(DropReason::SlowConsumer, tally.dropped);
        }
        if tally.cut > 0 {
            self.metrics.publications_dropped(policy.reason(), tally.cut);
        }
    }
}

impl Tally {
    /// `run` was offered, and `cut` was taken out of it and of what waited before.
    fn add(&mut self, run: &Run, offer: Offer, cut: Cut, link: &Link) -> Reach {
        match offer {
            Offer::Sent | Offer::Queued => {
                self.publications += run.count - cut.new;
                self.bytes += run.bytes.len() - cut.new_bytes;
                self.cut += cut.old + cut.new;
                if run.count > 0 && cut.new == run.count { Reach::Dropped } else { Reach::Reached }
            }
            Offer::SlowConsumer => {
                self.dropped += run.count;
                Reach::Dropped
            }
            Offer::Closed if link.closing() == Some(&CloseReason::SlowConsumer) => {
                self.dropped += run.count;
                Reach::Dropped
            }
            Offer::Closed => Reach::Gone,
        }
    }
}

/// A shard without sockets, for tests.
#[cfg(test)]
pub(super) mod bench {
    use std::sync::Arc;

    use super::super::{Budget, Settings};
    use super::*;
    use crate::broker::{Broker, Draft, MemoryBroker, PublishOptions, Receiver};
    use crate::metrics::Metrics;
    pub(in crate::shard) use crate::model::chance::Random;
    use crate::model::{Channel, Epoch, Publication, RawJson};
    use crate::node::{Backends, Dispatch, Node, PresenceSettings, ShardId};
    use crate::presence::{MemoryPresence, Presence};
    use crate::telemetry::traces::Traces;
    use crate::wire::{Decoder, Event, Role};

    /// What is offered stays in the outboxes, where the test reads it.
    pub(in crate::shard) struct Bench {
        pub(in crate::shard) shard: Rc<Shard>,
        pub(in crate::shard) channel: Channel,
        pub(super) walks: VecDeque<Walk>,
        pub(in crate::shard) published: u64,
        pub(super) broker: Arc<dyn Broker>,
        dispatch: Arc<Dispatch>,
    }

    impl Bench {
        pub(in crate::shard) fn new() -> Self {
            Self::with(Arc::new(MemoryPresence::new()), 1 << 20)
        }

        pub(in crate::shard) fn with_outboxes(outbox_bytes_max: usize) -> Self {
            Self::with(Arc::new(MemoryPresence::new()), outbox_bytes_max)
        }

        pub(in crate::shard) fn with(presence: Arc<dyn Presence>, outbox_bytes_max: usize) -> Self {
            let make = |receiver| Arc::new(MemoryBroker::new(receiver)) as _;
            Self::over(make, presence, outbox_bytes_max, Arc::new(Metrics::new()))
        }

        /// With the broker that `make` builds from a receiver.
        pub(in crate::shard) fn over(
            make: impl FnOnce(Arc<dyn Receiver>) -> Arc<dyn Broker>,
            presence: Arc<dyn Presence>,
            outbox_bytes_max: usize,
            metrics: Arc<Metrics>,
        ) -> Self {
            let dispatch = Dispatch::new(1, usize::MAX / 2, Arc::clone(&metrics));
            Self::on(dispatch, make, presence, outbox_bytes_max, metrics)
        }

        pub(super) fn traced(outbox_bytes_max: usize, traces: Traces) -> Self {
            let metrics = Arc::new(Metrics::new());
            let dispatch = Dispatch::traced(1, usize::MAX / 2, Arc::clone(&metrics), traces);
            let make = |receiver| Arc::new(MemoryBroker::new(receiver)) as _;
            Self::on(dispatch, make, Arc::new(MemoryPresence::new()), outbox_bytes_max, metrics)
        }

        fn on(
            dispatch: Arc<Dispatch>,
            make: impl FnOnce(Arc<dyn Receiver>) -> Arc<dyn Broker>,
            presence: Arc<dyn Presence>,
            outbox_bytes_max: usize,
            metrics: Arc<Metrics>,
        ) -> Self {
            let broker = make(Arc::clone(&dispatch) as _);
            let backbone = tokio::runtime::Handle::current();
            let backends = Backends {
                broker: Arc::clone(&broker),
                presence,
                presence_settings: PresenceSettings::default(),
                cluster: crate::cluster::Options::alone(Arc::default()),
            };
            let node = Node::new("test".into(), Arc::clone(&dispatch), backends, metrics, backbone);
            let second = std::time::Duration::from_secs(1);
            let settings = Settings {
                ping_interval: second,
                pong_timeout: second,
                stale_close_delay: second,
                expired_close_delay: second,
                user_connections_max: 0,
                message_bytes_max: 1 << 16,
                frames_per_second_max: 0,
                outbox_bytes_max,
                write_timeout: second,
                position_check_interval: second,
                lifetime_max: std::time::Duration::ZERO,
                idle_after: second,
            };
            let shard = Shard::new(ShardId::new(0), node, settings, Arc::new(Budget::new(usize::MAX / 2)));
            let channel = Channel::parse("a", 255).unwrap();
            Self { shard, channel, walks: VecDeque::new(), published: 0, broker, dispatch }
        }

        pub(in crate::shard) async fn publish(&mut self, count: u64) {
            let number = |number: u64| {
                Draft::of(Publication::of(RawJson::parse(number.to_string().as_bytes()).unwrap()))
            };
            let run = (self.published..self.published + count).map(number).collect();
            self.published += count;
            self.shard.node.publish(&self.channel, run, PublishOptions::default()).await.unwrap();
        }

        /// One turn of the delivery task.
        pub(in crate::shard) fn turn(&mut self) {
            let mut drained = Vec::new();
            self.shard.inbox().drain(DRAIN_MAX, &mut drained);
            queue(&self.shard, &mut drained, &mut self.walks);
            turn(&self.shard, &mut self.walks);
        }

        pub(in crate::shard) fn finish(&mut self) {
            self.turn();
            while !self.walks.is_empty() {
                self.turn();
            }
        }

        /// The broker delivers `publications`, whatever it delivered before.
        pub(in crate::shard) fn deliver(
            &self,
            channel: &Channel,
            epoch: &Epoch,
            publications: &[Arc<Publication>],
        ) {
            self.dispatch.deliver(channel, Some(epoch), publications);
        }

        /// What waits in the inbox is lost.
        pub(in crate::shard) fn lose_what_waits(&self) {
            let mut drained = Vec::new();
            self.shard.inbox().drain(DRAIN_MAX, &mut drained);
            for delivery in drained {
                self.shard.inbox().release(delivery.cost_bytes);
            }
        }
    }

    /// The numbers that were offered to a connection.
    pub(in crate::shard) fn received(link: &Link) -> Vec<u64> {
        said(link).iter().map(|text| text.parse().unwrap()).collect()
    }

    /// The messages that were offered to a connection.
    pub(in crate::shard) fn said(link: &Link) -> Vec<String> {
        let mut bytes: Vec<u8> = Vec::new();
        link.outbox.borrow().for_each(|frame| bytes.extend_from_slice(frame));
        texts(&mut bytes)
    }

    /// The numbers in these frames.
    pub(in crate::shard) fn numbers(bytes: &mut [u8]) -> Vec<u64> {
        texts(bytes).iter().map(|text| text.parse().unwrap()).collect()
    }

    fn texts(bytes: &mut [u8]) -> Vec<String> {
        let mut decoder = Decoder::new(Role::Client, 1 << 16);
        let mut input = bytes;
        let mut texts = Vec::new();
        while !input.is_empty() {
            let decoded = decoder.decode(input).unwrap();
            if let Some(Event::Text(text)) = &decoded.event {
                texts.push(text.to_string());
            }
            let consumed = decoded.consumed;
            drop(decoded);
            input = &mut input[consumed..];
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::sync::Arc;

    use super::super::hub::Form;
    use super::super::table::{Entry, Sink};
    use super::bench::{Bench, Random, received, said};
    use super::*;
    use crate::broker::{Draft, PublishOptions};
    use crate::model::{Channel, ClientId, ClientInfo, Notice, Publication, RawJson, UserId};
    use crate::node::{Control, Order, ShardId, Target};
    use crate::presence::MemoryPresence;
    use crate::telemetry::traces::Traces;

    /// Who hears notices and publications alike.
    const HEARER: Form =
        Form { encoding: Encoding::CentrifugeJson, tracking: Tracking::Free, hears_notices: true };

    /// A subscriber with what must and what may have reached it.
    struct Witness {
        key: Key,
        link: Rc<Link>,
        /// Everything published from here on must arrive…
        joined_at: u64,
        /// … up to here; later nothing may.
        left_at: Option<u64>,
    }

    impl Bench {
        async fn join(&self) -> Witness {
            let encoding = Encoding::BareData;
            self.join_as(Form { encoding, tracking: Tracking::Free, hears_notices: false }).await
        }

        async fn join_as(&self, form: Form) -> Witness {
            let link = Rc::new(Link::new(ClientId::random()));
            let entry = Entry { sink: Sink::Protected, blocked: true.into(), link: Rc::clone(&link) };
            let key = self.shard.table.borrow_mut().insert(entry);
            let (shard, channel) = (ShardId::new(0), self.channel.clone());
            let interest = self.shard.node.subscribe(shard, channel, NamespaceId::NONE).await.unwrap();
            self.shard.subscribe(&self.channel, key, &link, form, interest);
            Witness { key, link, joined_at: self.published, left_at: None }
        }

        async fn announce(&self, user: &str) {
            let user = UserId::parse(user).unwrap();
            let client = ClientId::random();
            let info = ClientInfo { user, client, conn_info: None, chan_info: None };
            self.broker.announce(&self.channel, Notice::Join(Arc::new(info))).await.unwrap();
        }

        fn unsubscribe(&self, witness: &mut Witness) {
            self.shard.unsubscribe(&self.channel, &witness.link);
            witness.left_at = Some(self.published);
        }

        fn close(&self, witness: &mut Witness) {
            self.shard.forget(witness.key, &CloseReason::ByClient { code: None });
            witness.left_at = Some(self.published);
        }
    }

    impl Witness {
        fn check(&self, published: u64) {
            let received = received(&self.link);
            let end = self.left_at.unwrap_or(published);
            for pair in received.windows(2) {
                assert_eq!(pair[1], pair[0] + 1, "a hole, a repeat or a swap: {received:?}");
            }
            if self.left_at.is_none() && self.joined_at < end {
                assert!(received[0] <= self.joined_at, "missed what came after it joined: {received:?}");
                assert_eq!(received.last(), Some(&(end - 1)), "missed the end");
            }
            assert!(received.iter().all(|number| *number < end), "got something after it left: {received:?}");
        }
    }

    #[tokio::test]
    async fn a_span_says_how_many_got_a_publication_and_how_many_are_too_slow() {
        let (traces, recorded) = Traces::recording(1.0);
        // Three frames of a digit fit into an outbox.
        let mut bench = Bench::traced(10, traces);
        let mut witnesses = Vec::new();
        for _ in 0..3 {
            witnesses.push(bench.join().await);
        }
        let digit = || Publication::of(RawJson::parse(b"1").unwrap());
        let exclude = Some(Box::new(witnesses[0].link.client));
        let run = vec![digit(), Publication { exclude, ..digit() }].into_iter().map(Draft::of).collect();
        bench.shard.node.publish(&bench.channel, run, PublishOptions::default()).await.unwrap();
        bench.finish();
        for _ in 0..2 {
            bench.publish(1).await;
            bench.finish();
        }
        let told: Vec<_> = recorded
            .called("process")
            .iter()
            .map(|span| (span["clarion.recipients"].clone(), span["clarion.dropped"].clone()))
            .collect();
        let expected = [("3", "0"), ("2", "0"), ("3", "0"), ("1", "2")];
        assert_eq!(told, expected.map(|(got, dropped)| (got.to_owned(), dropped.to_owned())));
    }

    #[tokio::test]
    async fn who_joins_leaves_or_closes_in_the_middle_of_a_walk_hurts_nobody() {
        for seed in 1..=4 {
            let mut random = Random::new(seed);
            let mut bench = Bench::new();
            let mut witnesses = Vec::new();
            for _ in 0..10_000 {
                witnesses.push(bench.join().await);
            }
            for _ in 0..120 {
                for _ in 0..random.below(40) {
                    let index = random.below(witnesses.len());
                    let witness = &mut witnesses[index];
                    match (witness.left_at, random.below(3)) {
                        (None, 0) => bench.unsubscribe(witness),
                        (None, 1) => bench.close(witness),
                        _ => witnesses.push(bench.join().await),
                    }
                }
                if random.below(4) == 0 {
                    bench.publish(1 + random.below(3) as u64).await;
                }
                bench.turn();
            }
            bench.finish();
            assert!(bench.published > 20, "seed {seed}");
            for witness in &witnesses {
                witness.check(bench.published);
            }
            let live = witnesses.iter().filter(|witness| witness.left_at.is_none()).count();
            assert_eq!(bench.shard.node.subscription_count(), live, "seed {seed}");
            for witness in &mut witnesses {
                bench.close(witness);
            }
            assert_eq!(bench.shard.hub.borrow().len(), 0);
            assert_eq!(bench.shard.table.borrow().len(), 0);
        }
    }

    #[tokio::test]
    async fn a_walk_over_many_is_suspended_and_other_channels_have_their_turn() {
        let mut bench = Bench::new();
        let mut crowd = Vec::new();
        for _ in 0..SENDS_PER_TURN * 4 {
            crowd.push(bench.join().await);
        }
        let channel = std::mem::replace(&mut bench.channel, Channel::parse("b", 255).unwrap());
        let alone = bench.join().await;
        let zero = Draft::of(Publication::of(RawJson::parse(b"0").unwrap()));
        bench.shard.node.publish(&channel, vec![zero], PublishOptions::default()).await.unwrap();
        bench.publish(1).await;
        bench.turn();
        assert!(crowd.iter().any(|witness| received(&witness.link).is_empty()), "the first turn has an end");
        bench.turn();
        assert_eq!(received(&alone.link), [0], "a small channel does not wait for a large one");
        bench.finish();
        assert!(crowd.iter().all(|witness| received(&witness.link) == [0]));
    }

    #[tokio::test]
    async fn who_is_expelled_gets_nothing_more_before_its_conversation_has_heard_of_it() {
        let mut bench = Bench::new();
        let (mut expelled, other) = (bench.join().await, bench.join().await);
        let user = UserId::parse("42").unwrap();
        *expelled.link.user.borrow_mut() = Some(user.clone());
        assert!(bench.shard.node.client_opened(&user, ClientId::random(), 0));
        bench.shard.add_user(&user, expelled.key);
        bench.publish(1).await;
        bench.finish();
        let order = Order::Unsubscribe { channel: bench.channel.clone() };
        bench.shard.on_control(Control::Order { target: Target { user, client: None }, order });
        bench.publish(1).await;
        bench.finish();
        assert!(expelled.link.has_orders() && !expelled.link.has_lost());
        bench.unsubscribe(&mut expelled);
        bench.publish(1).await;
        bench.finish();
        assert_eq!((received(&expelled.link), received(&other.link)), (vec![0], vec![0, 1, 2]));
    }

    #[tokio::test]
    async fn a_burst_goes_out_in_one_piece_encoded_once() {
        let mut bench = Bench::new();
        let witnesses = [bench.join().await, bench.join().await];
        bench.publish(16).await;
        bench.finish();
        let mut buffers = HashSet::new();
        for witness in &witnesses {
            let mut frames = 0;
            witness.link.outbox.borrow().for_each(|frame| {
                frames += 1;
                buffers.insert(frame.as_ptr());
            });
            assert_eq!(frames, 1, "one offer for sixteen publications");
            assert_eq!(received(&witness.link).len(), 16);
        }
        assert_eq!(buffers.len(), 1, "subscribers share the bytes");
    }

    #[tokio::test]
    async fn the_inbox_is_free_again_after_delivery_or_when_nobody_is_there() {
        let mut bench = Bench::new();
        let mut witness = bench.join().await;
        bench.publish(3).await;
        bench.finish();
        bench.publish(1).await;
        bench.close(&mut witness);
        bench.finish();
        assert_eq!(bench.shard.inbox().held_bytes(), 0);
    }

    /// The users that a connection was told of, and the publications, in order.
    fn told(witness: &Witness) -> Vec<String> {
        let said = said(&witness.link);
        let pushes = said.iter().map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap());
        let told = |push: serde_json::Value| match &push["push"]["join"]["info"]["user"] {
            serde_json::Value::String(user) => user.clone(),
            _ => push["push"]["pub"]["data"].to_string(),
        };
        pushes.map(told).collect()
    }

    #[tokio::test]
    async fn notices_and_publications_arrive_in_their_order() {
        let mut bench = Bench::new();
        let hearer = bench.join_as(HEARER).await;
        bench.announce("ann").await;
        bench.announce("bob").await;
        bench.publish(2).await;
        bench.announce("carl").await;
        bench.publish(1).await;
        bench.finish();
        assert_eq!(told(&hearer), ["ann", "bob", "0", "1", "carl", "2"]);
        let mut frames = 0;
        hearer.link.outbox.borrow().for_each(|_| frames += 1);
        assert_eq!(frames, 4, "what follows one another and is of a kind goes out in one piece");
    }

    #[tokio::test]
    async fn who_does_not_hear_notices_or_is_not_live_gets_none() {
        let mut bench = Bench::new();
        let live = [HEARER, Form { tracking: Tracking::At(0), ..HEARER }];
        let deaf = [
            Form { hears_notices: false, ..HEARER },
            Form { encoding: Encoding::BareData, ..HEARER },
            Form { tracking: Tracking::Buffering, ..HEARER },
            Form { tracking: Tracking::Lost, ..HEARER },
        ];
        let mut told_of = Vec::new();
        for form in live.into_iter().chain(deaf) {
            told_of.push(bench.join_as(form).await);
        }
        bench.announce("ann").await;
        bench.finish();
        let told_of: Vec<_> = told_of.iter().map(|witness| said(&witness.link).len()).collect();
        assert_eq!(told_of, [1, 1, 0, 0, 0, 0]);
        assert_eq!(bench.shard.inbox().held_bytes(), 0);
        let metrics = String::from_utf8(bench.shard.metrics.render(0)).unwrap();
        assert!(metrics.contains("clarion_publications_delivered_total{transport=\"websocket\"} 0"));
        assert!(metrics.contains("clarion_fanout_duration_seconds_count 0"));
        assert!(
            metrics.contains(
                "clarion_delivery_duration_seconds_count{channel_namespace=\"without_namespace\"} 0"
            )
        );
    }

    #[tokio::test]
    async fn a_channel_whose_last_hearer_left_is_not_walked_for_notices() {
        let mut bench = Bench::new();
        let _deaf = bench.join().await;
        let mut hearers = [bench.join_as(HEARER).await, bench.join_as(HEARER).await];
        let key = bench.shard.hub.borrow().find(&bench.channel).unwrap();
        bench.unsubscribe(&mut hearers[0]);
        assert!(bench.shard.hub.borrow().has_hearers(key));
        bench.publish(1).await;
        bench.turn();
        bench.close(&mut hearers[1]);
        assert!(!bench.shard.hub.borrow().has_hearers(key));
        bench.announce("ann").await;
        bench.turn();
        assert!(bench.walks.is_empty());
        assert_eq!(bench.shard.inbox().held_bytes(), 0);
    }

    #[tokio::test]
    async fn ten_thousand_joins_of_ten_thousand_share_their_bytes() {
        const CROWD: usize = 10_000;
        let mut bench = Bench::with(Arc::new(MemoryPresence::new()), 8 << 20);
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            crowd.push(bench.join_as(HEARER).await);
        }
        for number in 0..CROWD {
            bench.announce(&number.to_string()).await;
        }
        while bench.shard.inbox().has_undelivered() {
            bench.turn();
        }
        let mut buffers = HashMap::new();
        let mut references = 0;
        for witness in &crowd {
            witness.link.outbox.borrow().for_each(|frame| {
                references += 1;
                buffers.insert(frame.as_ptr(), frame.len());
            });
        }
        assert!(told(&crowd[0]).into_iter().eq((0..CROWD).map(|number| number.to_string())));
        let bytes: usize = buffers.values().sum();
        assert!(bytes < CROWD * 256, "{bytes} bytes");
        assert!(buffers.len() < 100, "{} buffers", buffers.len());
        assert_eq!(references, buffers.len() * CROWD);
        assert!(buffers.values().all(|bytes| *bytes <= 2 * BATCH_BYTES_MAX));
    }
}
