//! Random schedules of publish, deliver, subscribe, recover, disconnect, loss and repetition, checked against
//! what every client must have got: everything, once and in order, or the word that it has not.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::fanout::bench::{Bench, Random, received};
use super::link::Link;
use super::subscription::{self, Claim, Subscriber};
use super::table::{Entry, Key, Sink};
use crate::broker::{PublishOptions, Retention};
use crate::model::ClientId;
use crate::node::ShardId;
use crate::node::recovery::{Follow, Mode, Since};
use crate::protocol::{Encoding, SubscribeError, Wanted};

const SCHEDULES: u64 = 20_000;
const STEPS: usize = 60;
const CLIENTS: usize = 4;
/// Small, so that some come back too late.
const KEPT: usize = 6;

/// A client that reconnects with the position that it knows.
#[derive(Default)]
struct Client {
    epoch: String,
    /// The last publication that it has seen.
    seen: u64,
    has_position: bool,
    connection: Option<Connection>,
    recovered: usize,
    not_recovered: usize,
    lost: usize,
}

struct Connection {
    key: Key,
    link: Rc<Link>,
    stage: Stage,
}

enum Stage {
    /// Registered; the history is not read.
    Registered(Vec<Claim>),
    /// Read; not live.
    Read(Vec<Claim>),
    Live {
        /// How many frames were looked at.
        read: usize,
    },
}

struct World {
    bench: Bench,
    options: PublishOptions,
    clients: Vec<Client>,
}

impl World {
    fn new() -> Self {
        let retention =
            Retention { size: KEPT, ttl: Duration::from_secs(600), meta_ttl: Duration::from_secs(600) };
        let options = PublishOptions { retention: Some(retention), idempotency_ttl: Duration::from_secs(1) };
        let clients = (0..CLIENTS).map(|_| Client::default()).collect();
        Self { bench: Bench::new(), options, clients }
    }

    async fn step(&mut self, random: &mut Random) {
        let index = random.below(CLIENTS);
        match random.below(12) {
            0..=3 => self.bench.publish_kept(1 + random.below(2) as u64, self.options).await,
            4..=5 => self.bench.turn(),
            6 => self.bench.repeat(1 + random.below(8) as u64).await,
            7 if random.below(4) == 0 => self.bench.lose_what_waits(),
            8 if random.below(3) == 0 => self.disconnect(index),
            9 if random.below(3) == 0 => self.bench.shard.check_positions().await,
            _ => self.advance(index).await,
        }
        self.read_all();
    }

    /// Takes one client a step further on its way to being live.
    async fn advance(&mut self, index: usize) {
        let shard = Rc::clone(&self.bench.shard);
        let channel = self.bench.channel.clone();
        let client = &mut self.clients[index];
        let Some(Connection { key, link, stage }) = client.connection.take() else {
            let link = Rc::new(Link::new(ClientId::random()));
            let entry = Entry { sink: Sink::Queued, blocked: true.into(), link: Rc::clone(&link) };
            let key = shard.table.borrow_mut().insert(entry);
            let since =
                client.has_position.then(|| Since { epoch: client.epoch.clone(), offset: client.seen });
            let follow = Follow {
                since,
                mode: Mode::Stream,
                publications_max: 300,
                bytes_max: 1 << 20,
                meta_ttl: Duration::from_secs(600),
            };
            let wanted = vec![Wanted { follow: Some(follow), ..Wanted::live(channel) }];
            let mut claims = subscription::claim(Arc::clone(&shard.node), ShardId::new(0), wanted).await;
            let subscriber = Subscriber { shard: &shard, key, link: &link, encoding: Encoding::BareData };
            assert!(subscriber.register(&mut claims));
            client.connection = Some(Connection { key, link, stage: Stage::Registered(claims) });
            return;
        };
        let stage = match stage {
            Stage::Registered(claims) => {
                Stage::Read(subscription::read(Arc::clone(&shard.node), claims).await)
            }
            Stage::Read(claims) => {
                let encoding = Encoding::BareData;
                let subscriber = Subscriber { shard: &shard, key, link: &link, encoding };
                let result = subscriber.go_live(claims).pop().unwrap();
                match result {
                    Ok(start) => client.begin(&start.expect("it follows a history")),
                    // A loss between registration and reading: the connection begins anew.
                    Err(SubscribeError::Gap(_)) => {
                        client.lost += 1;
                        return shard.forget(key);
                    }
                    Err(error) => panic!("{error}"),
                }
                Stage::Live { read: 0 }
            }
            live @ Stage::Live { .. } => live,
        };
        client.connection = Some(Connection { key, link, stage });
    }

    fn disconnect(&mut self, index: usize) {
        if let Some(connection) = self.clients[index].connection.take() {
            self.bench.shard.forget(connection.key);
        }
    }

    /// Every live client reads what came, and reconnects if it is told that it missed something.
    fn read_all(&mut self) {
        for client in &mut self.clients {
            let Some(Connection { key, link, stage: Stage::Live { read } }) = &mut client.connection else {
                continue;
            };
            for number in received(link).into_iter().skip(*read) {
                assert_eq!(number, client.seen + 1, "a hole, a repeat or a swap");
                client.seen = number;
                *read += 1;
            }
            if link.has_lost() {
                client.lost += 1;
                let key = *key;
                client.connection = None;
                self.bench.shard.forget(key);
            }
        }
    }

    /// Everybody becomes live and gets everything, or the word that it has not.
    async fn finish(&mut self) {
        // Three rounds: what was lost at the end shows by the second look at the positions.
        for _ in 0..3 {
            self.bench.finish();
            self.bench.shard.check_positions().await;
            self.read_all();
            for index in 0..CLIENTS {
                while !matches!(
                    self.clients[index].connection,
                    Some(Connection { stage: Stage::Live { .. }, .. })
                ) {
                    self.advance(index).await;
                }
            }
            self.read_all();
        }
        for client in &self.clients {
            assert_eq!(client.seen, self.bench.published, "missed the end");
        }
        assert_eq!(self.bench.shard.inbox().held_bytes(), 0);
    }
}

impl Client {
    fn begin(&mut self, start: &crate::node::recovery::Start) {
        let offsets: Vec<u64> = start.publications.iter().map(|publication| publication.offset).collect();
        match start.recovered {
            Some(true) => {
                let missing: Vec<u64> = (self.seen + 1..=start.position.offset).collect();
                assert_eq!(offsets, missing, "recovered is exactly what was missed");
                self.recovered += 1;
            }
            verdict => {
                assert_eq!(offsets, [0; 0]);
                self.not_recovered += usize::from(verdict == Some(false));
            }
        }
        self.seen = start.position.offset;
        self.epoch = start.position.epoch.as_str().to_owned();
        self.has_position = true;
    }
}

#[tokio::test]
async fn every_schedule_ends_with_everything_delivered_once_or_told() {
    let (mut recovered, mut not_recovered, mut lost) = (0, 0, 0);
    for seed in 1..=SCHEDULES {
        let mut random = Random::new(seed);
        let mut world = World::new();
        let _seed = SeedOnPanic(seed);
        for _ in 0..STEPS {
            world.step(&mut random).await;
        }
        world.finish().await;
        for client in &world.clients {
            recovered += client.recovered;
            not_recovered += client.not_recovered;
            lost += client.lost;
        }
    }
    // The schedules are worth nothing if they do not reach all of it.
    assert!(recovered > 1_000 && not_recovered > 100 && lost > 100, "{recovered} {not_recovered} {lost}");
}

/// Says which seed it was, so that the schedule can be run again alone.
struct SeedOnPanic(u64);

impl Drop for SeedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed was {}", self.0);
        }
    }
}
