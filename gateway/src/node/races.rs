//! Random schedules of subscribers that come, give up and go, over a broker that is late and failing: who holds a
//! channel is never without the broker's subscription, and nobody's channel is held in the end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{Backends, Dispatch, Interest, LEAVING_MAX, Node, PresenceSettings, ShardId, UNSUBSCRIBE_GRACE};
use crate::broker::unruly::Unruly;
use crate::broker::{Broker, BrokerError, MemoryBroker};
use crate::config::NamespaceId;
use crate::metrics::Metrics;
use crate::model::Channel;
use crate::model::chance::{Manners, Random, Seed, seeds};
use crate::presence::MemoryPresence;

const SCHEDULES: u64 = 2_000;
const STEPS: usize = 200;
const SUBSCRIBERS_MAX: usize = 6;

type Subscribing = Pin<Box<dyn Future<Output = Result<Interest, BrokerError>>>>;

struct World {
    node: Arc<Node>,
    broker: Arc<Unruly>,
    channels: [Channel; 2],
    subscribing: Vec<Subscribing>,
    held: Vec<Interest>,
    failed: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let manners =
            Manners { turns_max: 8, failures_percent: [0, 10, 40][seed as usize % 3], holds_back: false };
        let metrics = Arc::new(Metrics::new());
        let dispatch = Dispatch::new(2, usize::MAX / 2, Arc::clone(&metrics));
        let broker = Unruly::new(seed, manners, Arc::clone(&dispatch) as _, MemoryBroker::new);
        let backends = Backends {
            broker: Arc::clone(&broker) as Arc<dyn Broker>,
            presence: Arc::new(MemoryPresence::new()),
            presence_settings: PresenceSettings::default(),
            cluster: crate::cluster::Options::alone(Arc::default()),
        };
        let backbone = tokio::runtime::Handle::current();
        let node = Node::new("test".into(), dispatch, backends, metrics, backbone);
        let channels = ["a", "b"].map(|name| Channel::parse(name, 255).unwrap());
        Self { node, broker, channels, subscribing: Vec::new(), held: Vec::new(), failed: 0 }
    }

    async fn step(&mut self, random: &mut Random) {
        match random.below(16) {
            0..=2 if self.subscribing.len() < SUBSCRIBERS_MAX => {
                let (node, shard) = (Arc::clone(&self.node), ShardId::new(random.below(2)));
                let channel = self.channels[random.below(2)].clone();
                self.subscribing
                    .push(Box::pin(async move { node.subscribe(shard, channel, NamespaceId::NONE).await }));
            }
            3..=4 if !self.held.is_empty() => drop(self.held.swap_remove(random.below(self.held.len()))),
            5 if !self.subscribing.is_empty() && random.below(4) == 0 => {
                drop(self.subscribing.swap_remove(random.below(self.subscribing.len())));
            }
            6 if random.below(4) == 0 => self.held.clear(),
            7 => tokio::time::advance(UNSUBSCRIBE_GRACE / 2).await,
            8..=9 => tokio::task::yield_now().await,
            _ => self.poll_one(random),
        }
        for interest in &self.held {
            assert!(self.broker.is_subscribed(&interest.channel), "a subscriber whom nothing reaches");
        }
    }

    fn poll_one(&mut self, random: &mut Random) {
        if self.subscribing.is_empty() {
            return;
        }
        let index = random.below(self.subscribing.len());
        let mut ctx = Context::from_waker(Waker::noop());
        let Poll::Ready(result) = self.subscribing[index].as_mut().poll(&mut ctx) else { return };
        drop(self.subscribing.swap_remove(index));
        match result {
            Ok(interest) => self.held.push(interest),
            Err(_) => self.failed += 1,
        }
    }

    async fn close(mut self) {
        self.broker.calm();
        self.subscribing.clear();
        self.held.clear();
        assert_eq!((self.node.channel_count(), self.node.subscription_count()), (0, 0));
        tokio::time::sleep(UNSUBSCRIBE_GRACE * 4).await;
        assert_eq!(self.broker.subscribed(), 0, "the broker holds what nobody wants");
        assert_eq!(self.node.known_channels(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn who_holds_a_channel_is_reached_and_what_nobody_holds_is_let_go() {
    let mut failed = 0;
    let seeds = seeds(1..=SCHEDULES);
    for seed in &seeds {
        let _seed = Seed(*seed);
        let mut random = Random::new(*seed);
        let mut world = World::new(*seed);
        for _ in 0..STEPS {
            world.step(&mut random).await;
        }
        failed += world.failed;
        world.close().await;
    }
    assert!(seeds.len() < 1_000 || failed > 500, "{failed}");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_never_unsubscribes_does_not_fill_the_memory() {
    let mut world = World::new(3);
    world.broker.behave(Manners { failures_percent: 100, ..Manners::CALM });
    for index in 0..LEAVING_MAX + 500 {
        let channel = Channel::parse(&index.to_string(), 255).unwrap();
        world.failed +=
            usize::from(world.node.subscribe(ShardId::new(0), channel, NamespaceId::NONE).await.is_err());
    }
    assert_eq!(world.failed, LEAVING_MAX + 500);
    for _ in 0..3 {
        tokio::time::sleep(UNSUBSCRIBE_GRACE * 2).await;
        assert!((1..=LEAVING_MAX + 1).contains(&world.node.known_channels()));
    }
    world.broker.calm();
    tokio::time::sleep(UNSUBSCRIBE_GRACE * 2).await;
    assert_eq!(world.node.known_channels(), 0, "it is tried again");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_could_not_say_that_it_unsubscribed_is_subscribed_again() {
    let mut world = World::new(3);
    let subscribe = |world: &World| {
        let (node, channel) = (Arc::clone(&world.node), world.channels[0].clone());
        async move { node.subscribe(ShardId::new(0), channel, NamespaceId::NONE).await }
    };
    world.broker.calm();
    drop(subscribe(&world).await.unwrap());
    world.broker.fail_next_after_effect();
    tokio::time::sleep(UNSUBSCRIBE_GRACE + Duration::from_secs(1)).await;
    assert!(!world.broker.is_subscribed(&world.channels[0]));
    world.held.push(subscribe(&world).await.unwrap());
    assert!(world.broker.is_subscribed(&world.channels[0]));
    world.close().await;
}
