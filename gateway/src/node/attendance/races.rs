//! Random schedules of subscribers that come, are announced, give up and go, over a presence and a broker that are
//! late and failing: one leave follows each join, and nobody stays listed for longer than a lease.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::tests::{OPEN, SETTINGS, channel, entrant};
use super::{Backends, Entrant, Roll, Seat};
use crate::broker::{Broker, BrokerError, Draft, History, MemoryBroker, PublishOptions, Published, Range};
use crate::broker::{Receiver, unruly::Unruly};
use crate::model::chance::{Manners, Random, Seed, seeds};
use crate::model::{Channel, ClientId, Epoch, Notice, Position, Publication};
use crate::presence::unruly::UnrulyPresence;
use crate::presence::{Presence, PresenceError};

const SCHEDULES: u64 = 1_500;
const STEPS: usize = 150;
const CLIENTS: usize = 4;

struct Nobody;

impl Receiver for Nobody {
    fn deliver(&self, _: &Channel, _: Option<&Epoch>, _: &[Arc<Publication>]) {}
    fn announce(&self, _: &Channel, _: &Notice) {}

    fn lose(&self, _: &Channel, _: &Position) {
        panic!("nothing is lost");
    }
}

/// Follows what is announced, when each call begins and ends, whatever comes of it.
pub(super) struct Announcements {
    pub(super) broker: Arc<Unruly>,
    pub(super) presence: Arc<UnrulyPresence>,
    pub(super) clients: Mutex<HashMap<ClientId, Announced>>,
    /// A node that dies may have put somebody in and not announced it yet: the leave is announced all the same.
    pub(super) nodes_die: bool,
}

impl Announcements {
    pub(super) fn new(seed: u64, manners: Manners, nodes_die: bool) -> Arc<Self> {
        Arc::new(Self {
            broker: Unruly::new(seed, manners, Arc::new(Nobody), MemoryBroker::new),
            presence: Arc::new(UnrulyPresence::new(seed, manners)),
            clients: Mutex::default(),
            nodes_die,
        })
    }

    /// How many joins there were, each with its leave.
    fn joins(&self) -> usize {
        let clients = self.clients.lock();
        assert!(
            clients.values().all(|client| !client.is_there && !client.is_under_way),
            "a leave is missing"
        );
        clients.values().map(|client| client.joins).sum()
    }
}

#[derive(Default)]
pub(super) struct Announced {
    pub(super) is_there: bool,
    is_under_way: bool,
    pub(super) joins: usize,
}

#[async_trait]
impl Broker for Announcements {
    async fn announce(&self, channel: &Channel, notice: Notice) -> Result<(), BrokerError> {
        let client = notice.info().client;
        let is_join = matches!(notice, Notice::Join(_));
        {
            let mut clients = self.clients.lock();
            let announced = clients.entry(client).or_default();
            assert!(!std::mem::replace(&mut announced.is_under_way, true), "a notice overtakes another");
            let is_idle_leave = !is_join && !announced.is_there;
            let is_next = announced.is_there != is_join || is_idle_leave && self.nodes_die;
            assert!(is_next, "a leave without a join, or twice the same");
            announced.is_there = is_join;
            announced.joins += usize::from(is_join);
        }
        let result = self.broker.announce(channel, notice).await;
        self.clients.lock().entry(client).or_default().is_under_way = false;
        result
    }

    async fn subscribe(&self, _: &Channel) -> Result<(), BrokerError> {
        unreachable!("a roll only announces");
    }

    async fn unsubscribe(&self, _: &Channel) -> Result<(), BrokerError> {
        unreachable!("a roll only announces");
    }

    async fn publish(
        &self,
        _: &Channel,
        _: Vec<Draft>,
        _: PublishOptions,
    ) -> Result<Vec<Published>, BrokerError> {
        unreachable!("a roll only announces");
    }

    async fn history(&self, _: &Channel, _: Range, _: std::time::Duration) -> Result<History, BrokerError> {
        unreachable!("a roll only announces");
    }

    async fn remove_history(&self, _: &Channel) -> Result<(), BrokerError> {
        unreachable!("a roll only announces");
    }
}

/// What a client does in the channel; it never waits for a leave before it comes again.
enum Stage {
    Away,
    Entering(Pin<Box<dyn Future<Output = Result<Seat, PresenceError>>>>),
    Seated(Seat),
}

struct World {
    roll: Arc<Roll>,
    announcements: Arc<Announcements>,
    clients: Vec<(Entrant, Stage)>,
    failed: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let failures_percent = [0, 10, 40][seed as usize % 3];
        let manners = Manners { turns_max: 8, failures_percent, holds_back: false };
        let announcements = Announcements::new(seed, manners, false);
        let backends = Backends {
            broker: Arc::clone(&announcements) as _,
            presence: Arc::clone(&announcements.presence) as _,
            presence_settings: SETTINGS,
            cluster: crate::cluster::Options::alone(Arc::default()),
        };
        let roll = Arc::new(Roll::open(&backends, &Handle::current()));
        let clients = (0..CLIENTS).map(|_| (entrant(OPEN), Stage::Away)).collect();
        Self { roll, announcements, clients, failed: 0 }
    }

    async fn step(&mut self, random: &mut Random) {
        match random.below(8) {
            0..=2 => tokio::task::yield_now().await,
            // Long enough for a refresh, which may fail many times before it does not.
            3 if random.below(8) == 0 => tokio::time::sleep(SETTINGS.update_interval / 2).await,
            _ => self.act(random).await,
        }
    }

    async fn act(&mut self, random: &mut Random) {
        let (entrant, stage) = &mut self.clients[random.below(CLIENTS)];
        *stage = match std::mem::replace(stage, Stage::Away) {
            Stage::Away => {
                let (roll, entrant) = (Arc::clone(&self.roll), entrant.clone());
                Stage::Entering(Box::pin(async move { roll.enter(channel("a"), entrant).await }))
            }
            // Gives up.
            Stage::Entering(_) if random.below(16) == 0 => Stage::Away,
            Stage::Entering(mut entering) => {
                match entering.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Pending => Stage::Entering(entering),
                    Poll::Ready(Err(PresenceError::Refused)) => unreachable!("it is only unavailable"),
                    Poll::Ready(Err(PresenceError::Unavailable)) => {
                        self.failed += 1;
                        Stage::Away
                    }
                    Poll::Ready(Ok(seat)) => {
                        let members = self.announcements.presence.memory().members(&channel("a")).await;
                        assert!(members.unwrap().contains(&entrant.info), "who has a seat is not listed");
                        Stage::Seated(seat)
                    }
                }
            }
            Stage::Seated(mut seat) => {
                if random.below(2) == 0 {
                    seat.announce();
                }
                if random.below(3) == 0 { Stage::Away } else { Stage::Seated(seat) }
            }
        };
    }

    /// Everybody goes; answers how many joins there were.
    async fn close(mut self) -> usize {
        self.clients.clear();
        self.announcements.presence.calm();
        self.roll.settled().await;
        let joins = self.announcements.joins();
        // From here on nothing is renewed, so a removal that failed is made up for by the lease.
        tokio::time::sleep(SETTINGS.ttl).await;
        let presence = self.announcements.presence.memory();
        assert_eq!(presence.stats(&channel("a")).await.unwrap().clients, 0, "a ghost");
        joins
    }
}

#[tokio::test(start_paused = true)]
async fn every_join_is_followed_by_one_leave_however_the_backends_behave() {
    let (mut joins, mut failed) = (0, 0);
    let seeds = seeds(1..=SCHEDULES);
    for seed in &seeds {
        let _seed = Seed(*seed);
        let mut random = Random::new(*seed);
        let mut world = World::new(*seed);
        for _ in 0..STEPS {
            world.step(&mut random).await;
        }
        failed += world.failed;
        joins += world.close().await;
    }
    assert!(seeds.len() < 1_000 || joins > 1_000 && failed > 500, "{joins} {failed}");
}
