//! Random schedules of nodes that are taken for dead, by several others at once, and live on under another epoch, while
//! subscribers come and go: what others were told of each is true in the end, and never twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::races::Announcements;
use super::tests::{OPEN, SETTINGS, channel, entrant};
use super::{Backends, Entrant, Roll, Seat};
use crate::model::chance::{Manners, Random, Seed, seeds};
use crate::model::{ClientId, Tenure};
use crate::presence::Presence;

const SCHEDULES: u64 = 200;
const STEPS: usize = 80;
const NODES: usize = 3;
const CLIENTS: usize = 9;

struct Machine {
    roll: Roll,
    tenure: watch::Sender<Tenure>,
    is_asleep: bool,
    is_reaped: bool,
}

struct Fleet {
    machines: Vec<Machine>,
    announcements: Arc<Announcements>,
    /// Each at the node of its number, seated or not.
    clients: Vec<(Entrant, Option<Seat>)>,
    deaths: usize,
}

impl Fleet {
    fn new(seed: u64) -> Self {
        let manners = Manners { turns_max: 8, ..Manners::CALM };
        let announcements = Announcements::new(seed, manners, true);
        let start = |_| {
            let cluster = crate::cluster::Options::alone(Arc::default());
            let tenure = cluster.tenure.clone();
            let backends = Backends {
                broker: Arc::clone(&announcements) as _,
                presence: Arc::clone(&announcements.presence) as _,
                presence_settings: SETTINGS,
                cluster,
            };
            let roll = Roll::open(&backends, &Handle::current());
            Machine { roll, tenure, is_asleep: false, is_reaped: false }
        };
        let machines = (0..NODES).map(start).collect();
        let clients = (0..CLIENTS).map(|_| (entrant(OPEN), None)).collect();
        Self { machines, announcements, clients, deaths: 0 }
    }

    async fn step(&mut self, random: &mut Random) {
        match random.below(10) {
            0 => tokio::time::sleep(Duration::from_millis(700)).await,
            1 | 2 => self.change(random.below(NODES)).await,
            _ => self.act(random).await,
        }
    }

    /// A node falls asleep, is reaped, or wakes.
    async fn change(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let epoch = machine.tenure.borrow().epoch;
        match (machine.is_asleep, machine.is_reaped) {
            (false, _) => {
                machine.tenure.send_modify(|tenure| tenure.until = std::time::Instant::now());
                // What is under way is done in far less time than a tenure is given up before its end.
                machine.roll.settled().await;
                machine.is_asleep = true;
            }
            (true, false) => {
                let presence = &self.announcements.presence;
                let (one, other) = tokio::join!(presence.reap(epoch), presence.reap(epoch));
                one.and(other).unwrap();
                machine.is_reaped = true;
                self.deaths += 1;
                // Leaves are announced long before it wakes.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            (true, true) => {
                machine.tenure.send_replace(Tenure::endless());
                (machine.is_asleep, machine.is_reaped) = (false, false);
            }
        }
    }

    async fn act(&mut self, random: &mut Random) {
        let number = random.below(CLIENTS);
        let machine = &self.machines[number % NODES];
        let (entrant, seat) = &mut self.clients[number];
        match seat {
            Some(_) if random.below(3) == 0 => *seat = None,
            Some(seat) => seat.announce(),
            None => *seat = machine.roll.enter(channel("a"), entrant.clone()).await.ok(),
        }
    }

    /// All wake, and what is left is told.
    async fn close(mut self) -> usize {
        for node in 0..NODES {
            while self.machines[node].is_asleep {
                self.change(node).await;
            }
        }
        for (_, seat) in &mut self.clients {
            seat.iter_mut().for_each(Seat::announce);
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        for machine in &self.machines {
            machine.roll.settled().await;
        }
        let memory = self.announcements.presence.memory();
        let members: Vec<_> = memory.members(&channel("a")).await.unwrap();
        let told: HashMap<ClientId, bool> = self
            .announcements
            .clients
            .lock()
            .iter()
            .map(|(client, announced)| (*client, announced.is_there))
            .collect();
        for (entrant, seat) in &self.clients {
            assert_eq!(members.contains(&entrant.info), seat.is_some(), "a ghost, or somebody is missing");
            let is_there = told.get(&entrant.info.client).copied().unwrap_or_default();
            assert_eq!(is_there, seat.is_some(), "what was told is not true");
        }
        self.deaths
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_taken_for_dead_what_was_told_is_true_in_the_end() {
    let mut deaths = 0;
    let seeds = seeds(1..=SCHEDULES);
    for seed in &seeds {
        let _seed = Seed(*seed);
        let mut random = Random::new(*seed);
        let mut fleet = Fleet::new(*seed);
        for _ in 0..STEPS {
            fleet.step(&mut random).await;
        }
        deaths += fleet.close().await;
    }
    assert!(seeds.len() < 100 || deaths > 300, "{deaths}");
}
