//! A client that reconnects with the positions that it knows, as its connection's task would serve it.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Tally;
use super::world::{Bed, Truth};
use crate::model::{Channel, ClientId, ClientInfo, CloseReason, UserId};
use crate::node::recovery::{Follow, Mode, Since, Start};
use crate::node::{Attendance, Entrant, ShardId};
use crate::protocol::{Encoding, SubscribeError, Wanted};
use crate::shard::fanout::bench::{Random, received};
use crate::shard::link::Link;
use crate::shard::subscription::{self, Claim, Subscriber};
use crate::shard::table::{Entry, Key, Sink};

const ENCODING: Encoding = Encoding::BareData;

/// What a client knows of a channel.
#[derive(Default)]
pub(super) struct Place {
    epoch: String,
    /// The last publication that it has seen.
    seen: u64,
    has_position: bool,
    pub(super) is_live: bool,
}

pub(super) struct Client {
    pub(super) places: Vec<Place>,
    connection: Option<Connection>,
}

struct Connection {
    key: Key,
    link: Rc<Link>,
    /// One at a time: further commands wait.
    operation: Option<Operation>,
}

struct Operation {
    /// The channels that it is about.
    channels: Vec<usize>,
    is_registered: bool,
    claims: Pin<Box<dyn Future<Output = Vec<Claim>>>>,
}

/// What an operation came to.
pub(super) struct Finished {
    channels: Vec<usize>,
    is_registered: bool,
    claims: Vec<Claim>,
}

impl Client {
    pub(super) fn new(channels: usize) -> Self {
        Self { places: (0..channels).map(|_| Place::default()).collect(), connection: None }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.operation.is_some())
    }

    /// Whether it is subscribed to everything.
    pub(super) fn is_live(&self) -> bool {
        self.places.iter().all(|place| place.is_live)
    }

    fn connect(bed: &Bed) -> Connection {
        let link = Rc::new(Link::new(ClientId::random()));
        let entry = Entry { sink: Sink::Protected, blocked: true.into(), link: Rc::clone(&link) };
        let key = bed.shard().table.borrow_mut().insert(entry);
        Connection { key, link, operation: None }
    }

    /// Begins to subscribe to those of `channels` that it is not subscribed to.
    pub(super) fn subscribe(&mut self, bed: &Bed, mut channels: Vec<usize>) {
        channels.retain(|index| !self.places[*index].is_live);
        if self.is_busy() || channels.is_empty() {
            return;
        }
        let connection = self.connection.get_or_insert_with(|| Self::connect(bed));
        let wanted = channels.iter().map(|index| {
            let place = &self.places[*index];
            place.wanted(bed.channels[*index].clone(), connection.link.client, bed.is_seen)
        });
        let claims = subscription::claim(Arc::clone(&bed.shard().node), ShardId::new(0), wanted.collect());
        connection.operation = Some(Operation { channels, is_registered: false, claims: Box::pin(claims) });
    }

    /// Polls what is under way; says what it came to, which is to be [settled](Self::settle) in the same step.
    pub(super) fn poll(&mut self) -> Option<Finished> {
        let operation = &mut self.connection.as_mut()?.operation;
        let mut going = operation.take()?;
        let mut ctx = Context::from_waker(Waker::noop());
        let Poll::Ready(claims) = going.claims.as_mut().poll(&mut ctx) else {
            *operation = Some(going);
            return None;
        };
        Some(Finished { channels: going.channels, is_registered: going.is_registered, claims })
    }

    pub(super) fn settle(&mut self, bed: &Bed, finished: Finished, tally: &mut Tally) {
        let Finished { channels, is_registered, mut claims } = finished;
        let Some(Connection { key, link, operation }) = &mut self.connection else { return };
        let subscriber = Subscriber { shard: bed.shard(), key: *key, link, encoding: ENCODING };
        if !is_registered {
            subscriber.register(&mut claims);
            if claims.iter().any(Claim::has_to_prepare) {
                let prepared = subscription::prepare(Arc::clone(&bed.shard().node), claims);
                *operation = Some(Operation { channels, is_registered: true, claims: Box::pin(prepared) });
                return;
            }
        }
        let results = subscriber.go_live(claims);
        self.begin(bed, &channels, results, tally);
    }

    fn begin(
        &mut self,
        bed: &Bed,
        channels: &[usize],
        results: Vec<Result<Option<Start>, SubscribeError>>,
        tally: &mut Tally,
    ) {
        let mut has_gap = false;
        for (index, result) in channels.iter().zip(results) {
            match result {
                Ok(start) => {
                    self.places[*index].begin(
                        *index,
                        &start.expect("it follows a history"),
                        &bed.truth,
                        tally,
                    );
                }
                Err(SubscribeError::Gap(_)) => has_gap = true,
                Err(_) => {
                    tally.failed += 1;
                    assert!(!self.holds(bed, *index), "a subscription that failed is left behind");
                }
            }
        }
        if has_gap {
            // Told with 3010: the connection begins anew.
            tally.gaps += 1;
            self.disconnect(bed, tally);
        }
    }

    fn holds(&self, bed: &Bed, index: usize) -> bool {
        let Some(connection) = &self.connection else { return false };
        let held = connection.link.subscriptions.borrow();
        bed.shard().hub.borrow().position(&bed.channels[index], &held).is_some()
    }

    pub(super) fn unsubscribe(&mut self, bed: &Bed, index: usize) {
        if let Some(connection) = &self.connection
            && connection.operation.is_none()
            && std::mem::take(&mut self.places[index].is_live)
        {
            bed.shard().unsubscribe(&bed.channels[index], &connection.link);
        }
    }

    pub(super) fn disconnect(&mut self, bed: &Bed, tally: &mut Tally) {
        let Some(Connection { key, operation, .. }) = self.connection.take() else { return };
        tally.abandoned += usize::from(operation.is_some());
        drop(operation);
        bed.shard().forget(key, &CloseReason::ByClient { code: None });
        self.places.iter_mut().for_each(|place| place.is_live = false);
    }

    /// Reads what came, and is told of what was lost once no command is under way.
    pub(super) fn read(&mut self, bed: &Bed, tally: &mut Tally) {
        let Some(Connection { link, operation, .. }) = &self.connection else { return };
        assert!(!link.is_closing(), "{:?}", link.closing());
        for number in received(link) {
            let (index, epoch, offset) = &bed.truth.numbers[&number];
            self.places[*index].see(epoch, *offset);
        }
        link.outbox.borrow_mut().clear(&bed.shard().budget);
        if operation.is_some() || !link.has_lost() {
            return;
        }
        for key in link.take_lost() {
            let channel = {
                let subscriptions = link.subscriptions.borrow();
                let held = subscriptions.iter().find(|held| held.channel == key);
                held.and_then(|held| bed.shard().hub.borrow().lost(held))
            };
            let Some(channel) = channel else { continue };
            tally.lost += 1;
            let index = bed.channels.iter().position(|known| *known == channel).unwrap();
            assert!(std::mem::take(&mut self.places[index].is_live), "told twice");
            bed.shard().unsubscribe(&channel, link);
        }
    }
}

impl Place {
    fn wanted(&self, channel: Channel, client: ClientId, is_seen: bool) -> Wanted {
        let since = self.has_position.then(|| Since { epoch: self.epoch.clone(), offset: self.seen });
        let follow = Follow {
            since,
            mode: Mode::Stream,
            // Less than is kept: the limit cuts some off.
            publications_max: 6,
            bytes_max: 1 << 20,
            meta_ttl: super::world::META_TTL,
        };
        let info = ClientInfo { user: UserId::ANONYMOUS, client, conn_info: None, chan_info: None };
        let attendance = Attendance { is_listed: true, is_announced: true };
        let entrant =
            is_seen.then(|| Entrant { info: Arc::new(info), attendance, leave_grace: Duration::ZERO });
        Wanted { follow: Some(follow), entrant, ..Wanted::live(channel) }
    }

    fn begin(&mut self, index: usize, start: &Start, truth: &Truth, tally: &mut Tally) {
        assert!(!std::mem::replace(&mut self.is_live, true));
        let epoch = start.position.epoch.as_str();
        let given: Vec<(u64, u64)> = start
            .publications
            .iter()
            .map(|one| (one.offset, std::str::from_utf8(one.data.as_bytes()).unwrap().parse().unwrap()))
            .collect();
        match start.recovered {
            Some(true) => {
                assert!(self.epoch == epoch, "recovered from another epoch");
                let missing: Vec<(u64, u64)> = (self.seen + 1..=start.position.offset)
                    .map(|offset| (offset, truth.at(index, epoch, offset)))
                    .collect();
                assert_eq!(given, missing, "recovered is exactly what was missed");
                tally.recovered += 1;
            }
            verdict => {
                assert_eq!(given, []);
                assert_eq!(verdict, self.has_position.then_some(false));
                tally.not_recovered += usize::from(self.has_position);
            }
        }
        self.seen = start.position.offset;
        self.epoch = epoch.to_owned();
        self.has_position = true;
    }

    fn see(&mut self, epoch: &str, offset: u64) {
        assert!(self.is_live, "something for who is not subscribed");
        assert_eq!((epoch, offset), (self.epoch.as_str(), self.seen + 1), "a hole, a repeat or a swap");
        self.seen = offset;
    }

    /// Whether it has everything of its channel.
    pub(super) fn is_at(&self, epoch: &str, offset: u64) -> bool {
        self.is_live && self.epoch == epoch && self.seen == offset
    }
}

/// One or both channels.
pub(super) fn some_of(channels: usize, random: &mut Random) -> Vec<usize> {
    let first = random.below(channels);
    let mut some = vec![first];
    some.extend((0..channels).filter(|index| *index != first && random.below(3) == 0));
    some
}
