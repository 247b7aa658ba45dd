//! Random schedules of users who lose their connections and come back, on this node or another, in time or not, over a
//! presence that is late and failing: what others were told of each user is true in the end, and never less than that.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::tests::{OPEN, SETTINGS, channel};
use super::{Attendance, Backends, Entrant, Roll, Seat};
use crate::broker::{Broker, MemoryBroker, Receiver};
use crate::model::chance::{Manners, Random, Seed, seeds};
use crate::model::{Channel, ClientId, ClientInfo, Epoch, Notice, Position, Publication, UserId};
use crate::presence::unruly::UnrulyPresence;
use crate::presence::{Presence, PresenceError};

const SCHEDULES: u64 = 600;
const STEPS: usize = 150;
const NODES: usize = 3;
const USERS: usize = 4;
const GRACE: Duration = Duration::from_secs(5);

/// How many more joins than leaves there were of each user.
#[derive(Default)]
struct Told {
    users: Mutex<HashMap<UserId, usize>>,
    joins: AtomicUsize,
}

impl Receiver for Told {
    fn deliver(&self, _: &Channel, _: Option<&Epoch>, _: &[Arc<Publication>]) {}

    fn announce(&self, _: &Channel, notice: &Notice) {
        let mut users = self.users.lock();
        let count = users.entry(notice.info().user.clone()).or_default();
        match notice {
            Notice::Join(_) => {
                *count += 1;
                self.joins.fetch_add(1, Ordering::SeqCst);
            }
            Notice::Leave(_) => *count = count.checked_sub(1).expect("a leave without a join"),
        }
    }

    fn lose(&self, _: &Channel, _: &Position) {
        panic!("nothing is lost");
    }
}

enum Stage {
    Away,
    Entering(Pin<Box<dyn Future<Output = Result<Seat, PresenceError>>>>),
    Seated(Seat),
}

struct World {
    rolls: Vec<Arc<Roll>>,
    told: Arc<Told>,
    presence: Arc<UnrulyPresence>,
    users: Vec<Stage>,
    attendance: Attendance,
    visits: usize,
}

impl World {
    async fn new(seed: u64, manners: Manners) -> Self {
        let told = Arc::new(Told::default());
        let broker = Arc::new(MemoryBroker::new(Arc::clone(&told) as _));
        broker.subscribe(&channel("a")).await.unwrap();
        let presence = Arc::new(UnrulyPresence::new(seed, manners));
        let open = |_| {
            let backends = Backends {
                broker: Arc::clone(&broker) as _,
                presence: Arc::clone(&presence) as _,
                presence_settings: SETTINGS,
                cluster: crate::cluster::Options::alone(Arc::default()),
            };
            Arc::new(Roll::open(&backends, &Handle::current()))
        };
        let rolls = (0..NODES).map(open).collect();
        let attendance = Attendance { is_listed: !seed.is_multiple_of(4), ..OPEN };
        let users = (0..USERS).map(|_| Stage::Away).collect();
        Self { rolls, told, presence, users, attendance, visits: 0 }
    }

    /// Somebody's connection to any node, for the channel.
    fn enter(&self, user: usize, random: &mut Random) -> Stage {
        let user = UserId::parse(&user.to_string()).unwrap();
        let info = ClientInfo { user, client: ClientId::random(), conn_info: None, chan_info: None };
        let entrant = Entrant { info: Arc::new(info), attendance: self.attendance, leave_grace: GRACE };
        let roll = Arc::clone(&self.rolls[random.below(NODES)]);
        Stage::Entering(Box::pin(async move { roll.enter(channel("a"), entrant).await }))
    }

    fn act(&mut self, random: &mut Random) {
        let user = random.below(USERS);
        self.users[user] = match std::mem::replace(&mut self.users[user], Stage::Away) {
            Stage::Away => self.enter(user, random),
            // Gives up.
            Stage::Entering(_) if random.below(16) == 0 => Stage::Away,
            Stage::Entering(mut entering) => {
                match entering.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Pending => Stage::Entering(entering),
                    Poll::Ready(seat) => seat.map_or(Stage::Away, Stage::Seated),
                }
            }
            Stage::Seated(mut seat) => {
                self.visits += 1;
                // Now and then its history could not be read.
                if random.below(8) > 0 {
                    seat.announce();
                }
                match random.below(8) {
                    0 => drop(seat),
                    1..=5 => drop(seat.lose()),
                    _ => return self.users[user] = Stage::Seated(seat),
                }
                Stage::Away
            }
        };
    }

    async fn step(&mut self, random: &mut Random) {
        match random.below(40) {
            0..=12 => tokio::task::yield_now().await,
            // Some graces are over by then, or a round of refreshes comes.
            13..=14 => tokio::time::sleep(Duration::from_secs(2)).await,
            15 => tokio::time::sleep(SETTINGS.update_interval / 2).await,
            _ => self.act(random),
        }
    }

    /// Everybody goes, in one way or the other.
    async fn close(mut self) -> (usize, usize) {
        for (number, stage) in self.users.drain(..).enumerate() {
            if let Stage::Seated(seat) = stage
                && number % 2 == 0
            {
                drop(seat.lose());
            }
        }
        self.presence.calm();
        for roll in &self.rolls {
            roll.settled().await;
        }
        tokio::time::sleep(GRACE * 2).await;
        let stats = self.presence.memory().stats(&channel("a")).await.unwrap();
        assert_eq!(stats.clients, 0, "a ghost");
        let there: Vec<_> = self.told.users.lock().values().copied().collect();
        assert!(there.iter().all(|count| *count == 0), "a leave is missing: {there:?}");
        (self.visits, self.told.joins.load(Ordering::SeqCst))
    }
}

#[tokio::test(start_paused = true)]
async fn however_users_come_and_go_each_join_is_followed_by_one_leave() {
    let (mut visits, mut joins) = (0, 0);
    let seeds = seeds(1..=SCHEDULES);
    for seed in &seeds {
        let _seed = Seed(*seed);
        let mut random = Random::new(*seed);
        let failures_percent = [0, 10, 40][*seed as usize % 3];
        let manners = Manners { turns_max: 8, failures_percent, holds_back: false };
        let mut world = World::new(*seed, manners).await;
        for _ in 0..STEPS {
            world.step(&mut random).await;
        }
        let (more_visits, more_joins) = world.close().await;
        visits += more_visits;
        joins += more_joins;
    }
    // Most come back in time.
    assert!(seeds.len() < 100 || joins > 1_000 && visits > joins * 2, "{visits} visits, {joins} joins");
}
