//! What becomes of histories and subscribers when Redis, its data or the way to it is damaged.

use parking_lot::Mutex;
use tokio::sync::watch;

use super::*;
use crate::broker::Retention;
use crate::model::{Publication, RawJson};
use crate::redis::testing::{Anything, Server};

pub(super) const HOUR: Duration = Duration::from_secs(3600);

const KEEPING: PublishOptions = PublishOptions {
    retention: Some(Retention { size: 100, ttl: HOUR, meta_ttl: HOUR }),
    idempotency_ttl: HOUR,
};

/// Everything that was delivered, and whether something was lost.
#[derive(Default)]
pub(super) struct Log {
    told: Mutex<Vec<Told>>,
    changed: watch::Sender<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    Came(Option<Epoch>, u64),
    Lost(Position),
}

impl Log {
    fn write(&self, told: Told) {
        self.told.lock().push(told);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Waits until so much was told, then answers all of it.
    pub(super) async fn told(&self, count: usize) -> Vec<Told> {
        let mut waited = self.changed.subscribe();
        waited.wait_for(|told| *told >= count).await.unwrap();
        self.told.lock().clone()
    }

    /// The offsets that came, of which the last is `last`.
    pub(super) async fn offsets(&self, count: usize) -> Vec<u64> {
        let offset = |told| match told {
            Told::Came(_, offset) => offset,
            Told::Lost(top) => panic!("lost up to {top:?}"),
        };
        self.told(count).await.into_iter().map(offset).collect()
    }
}

impl Receiver for Log {
    fn deliver(&self, _: &Channel, epoch: Option<&Epoch>, publications: &[Arc<Publication>]) {
        publications.iter().for_each(|one| self.write(Told::Came(epoch.cloned(), one.offset)));
    }

    fn announce(&self, _: &Channel, _: &Notice) {}

    fn lose(&self, _: &Channel, top: &Position) {
        self.write(Told::Lost(top.clone()));
    }
}

/// A server of its own with a broker that holds the channel `a`.
pub(super) struct World {
    _server: Server,
    pub(super) redis: Arc<Redis>,
    pub(super) broker: Arc<RedisBroker>,
    pub(super) log: Arc<Log>,
    pub(super) a: Channel,
}

impl World {
    pub(super) async fn new() -> Self {
        let server = Server::start();
        let redis = testing::connect(&server).await;
        let (log, metrics) = (Arc::new(Log::default()), Arc::new(Metrics::new()));
        let broker = RedisBroker::new(Arc::clone(&redis), Arc::clone(&log) as _, metrics, &Handle::current());
        let a = Channel::parse("a", 255).unwrap();
        broker.subscribe(&a).await.unwrap();
        redis.home().hearing().wait_for(|hearing| hearing.is_heard()).await.unwrap();
        Self { _server: server, redis, broker, log, a }
    }

    pub(super) async fn publish(&self) -> Result<Position, BrokerError> {
        let draft = Draft::of(Publication::of(RawJson::string("x")));
        let published = self.broker.publish(&self.a, vec![draft], KEEPING).await?;
        Ok(published.into_iter().next().unwrap().position.unwrap())
    }

    pub(super) async fn history(&self) -> History {
        self.broker.history(&self.a, Range::default(), HOUR).await.unwrap()
    }

    /// The top, as a subscriber reads it that follows the history from there.
    async fn follow(&self) -> Position {
        let range = Range { limit: Some(0), ..Range::default() };
        self.broker.history(&self.a, range, HOUR).await.unwrap().top
    }

    pub(super) async fn command(&self, words: &[&str]) {
        let call =
            words[1..].iter().fold(Call::command(words[0].to_owned().leak()), |call, word| call.arg(*word));
        self.redis.home().call::<Anything>(call).await.unwrap();
    }

    pub(super) fn key(&self, kind: &str) -> String {
        self.redis.names().of_channel(kind, &self.a)
    }

    /// Cuts the connection of the subscriptions, and publishes in the same step.
    pub(super) async fn publish_unheard(&self, count: usize) {
        let kill = Call::command("CLIENT").arg("KILL").arg("TYPE").arg("pubsub");
        let names = self.redis.names();
        let keys = [names.of_channel("meta", &self.a), names.of_channel("stream", &self.a)];
        let publish = || {
            let publication = Publication::of(RawJson::string("x"));
            let call = Call::script(&PUBLISH, &[&keys[0], &keys[1]]).arg(names.relay(&self.a));
            let call = call
                .arg(envelope::head())
                .arg("epoch")
                .arg("")
                .arg(100)
                .arg(3_600_000)
                .arg(3_600_000)
                .arg(1)
                .arg("")
                .arg("");
            call.arg("").arg("").arg("").arg(envelope::publication(&publication))
        };
        let calls = std::iter::once(kill).chain((0..count).map(|_| publish())).collect();
        self.redis.home().pipeline::<Anything>(calls).await.unwrap();
    }
}

fn offset(position: &Position) -> u64 {
    position.offset
}

#[tokio::test]
async fn what_was_published_while_the_connection_was_gone_is_delivered_in_order_and_once() {
    let world = World::new().await;
    world.publish().await.unwrap();
    world.publish_unheard(20).await;
    assert_eq!(world.log.offsets(21).await, (1..=21).collect::<Vec<_>>());
    world.publish().await.unwrap();
    assert_eq!(world.log.offsets(22).await, (1..=22).collect::<Vec<_>>());
}

#[tokio::test]
async fn more_than_one_read_brings_is_delivered_too() {
    let world = World::new().await;
    world.publish().await.unwrap();
    for round in 1..=3 {
        world.publish_unheard(90).await;
        world.publish().await.unwrap();
        world.log.offsets(1 + round * 91).await;
    }
    assert_eq!(world.log.offsets(274).await, (1..=274).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_not_kept_any_more_is_told() {
    let world = World::new().await;
    world.publish().await.unwrap();
    world.publish_unheard(150).await;
    let told = world.log.told(102).await;
    let epoch = world.history().await.top.epoch;
    assert_eq!(told[1], Told::Lost(Position { epoch: epoch.clone(), offset: 51 }));
    let rest = (52..=151).map(|offset| Told::Came(Some(epoch.clone()), offset)).collect::<Vec<_>>();
    assert_eq!(told[2..], rest);
}

#[tokio::test]
async fn data_that_is_gone_begins_a_new_epoch_and_who_follows_is_told() {
    for keys in [&["meta"][..], &["meta", "stream"]] {
        let world = World::new().await;
        for _ in 0..3 {
            world.publish().await.unwrap();
        }
        let before = world.follow().await;
        for key in keys {
            world.command(&["DEL", &world.key(key)]).await;
        }
        // As the position check of a shard does.
        let after = world.follow().await;
        assert_ne!(after.epoch, before.epoch);
        assert_eq!(offset(&after), 0);
        assert_eq!(world.log.told(4).await[3], Told::Lost(after.clone()));
        assert_eq!(world.history().await.publications.len(), 0, "what is left of the old one is not in it");
        assert_eq!(world.publish().await.unwrap(), Position { offset: 1, ..after.clone() });
        assert_eq!(world.log.told(5).await[4], Told::Came(Some(after.epoch), 1));
    }
}

#[tokio::test]
async fn kept_publications_that_are_gone_do_not_touch_the_counter() {
    let world = World::new().await;
    let first = world.publish().await.unwrap();
    world.command(&["DEL", &world.key("stream")]).await;
    let history = world.history().await;
    assert_eq!((&history.top, history.publications.len()), (&first, 0));
    assert_eq!(world.publish().await.unwrap(), Position { offset: 2, ..first });
    assert_eq!(world.log.offsets(2).await, [1, 2]);
}

#[tokio::test]
async fn a_history_that_lost_its_end_begins_a_new_epoch() {
    let world = World::new().await;
    for _ in 0..5 {
        world.publish().await.unwrap();
    }
    let before = world.follow().await;
    assert_eq!(world.log.offsets(5).await.len(), 5);
    // As after a restart from an older copy of the data.
    world.command(&["HSET", &world.key("meta"), "o", "3"]).await;
    let after = world.follow().await;
    assert_ne!(after.epoch, before.epoch);
    assert_eq!(world.log.told(6).await[5], Told::Lost(after.clone()));
    assert_eq!(offset(&world.publish().await.unwrap()), 1);
}

#[tokio::test]
async fn a_counter_behind_its_stream_never_gives_an_offset_twice() {
    let world = World::new().await;
    for _ in 0..5 {
        world.publish().await.unwrap();
    }
    let before = world.follow().await;
    world.command(&["HSET", &world.key("meta"), "o", "3"]).await;
    let next = world.publish().await.unwrap();
    assert_ne!(next.epoch, before.epoch);
    assert_eq!(next.offset, 1);
}

#[tokio::test]
async fn something_else_in_the_place_of_a_history_makes_room_for_a_new_one() {
    for kind in ["meta", "stream"] {
        let world = World::new().await;
        let before = world.publish().await.unwrap();
        world.command(&["SET", &world.key(kind), "something else"]).await;
        let read = world.history().await;
        assert_eq!(read.publications.len(), 0);
        let next = world.publish().await.unwrap();
        assert_ne!(next.epoch, before.epoch);
        assert_eq!((next.offset, world.history().await.publications.len()), (1, 1));
    }
}

#[tokio::test]
async fn a_full_redis_keeps_nothing_half_and_still_relays() {
    let world = World::new().await;
    let before = world.publish().await.unwrap();
    world.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert_eq!(world.publish().await, Err(BrokerError::Full));
    let plain = vec![Draft::of(Publication::of(RawJson::string("x")))];
    world.broker.publish(&world.a, plain, PublishOptions::default()).await.unwrap();
    assert_eq!(world.follow().await, before);
    world.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(offset(&world.publish().await.unwrap()), 2);
    assert_eq!(world.log.offsets(3).await, [1, 0, 2]);
}

#[tokio::test]
async fn scripts_that_are_forgotten_are_told_again_and_nobody_hears_of_it() {
    let world = World::new().await;
    for expected in 1..=50 {
        world.command(&["SCRIPT", "FLUSH"]).await;
        let (published, history) = tokio::join!(world.publish(), world.follow());
        assert_eq!(offset(&published.unwrap()), expected);
        assert!(history.offset >= expected - 1);
    }
    assert_eq!(world.log.offsets(50).await, (1..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_no_envelope_is_counted_and_skipped() {
    let world = World::new().await;
    let relay = world.redis.names().relay(&world.a);
    for poison in [vec![], vec![0xff; 10_000_000], b"{}".to_vec(), vec![8, 99]] {
        world.redis.home().call::<u64>(Call::command("PUBLISH").arg(&relay).arg(poison)).await.unwrap();
    }
    world.publish().await.unwrap();
    assert_eq!(world.log.offsets(1).await, [1]);
}

#[tokio::test]
async fn many_who_read_a_channel_at_once_cost_few_reads() {
    let world = World::new().await;
    for _ in 0..10 {
        world.publish().await.unwrap();
    }
    world.command(&["CONFIG", "RESETSTAT"]).await;
    let read = |since: u64| {
        let range =
            Range { since: Some(since % 10), limit: Some(300), bytes_max: Some(1 << 20), reverse: false };
        world.broker.history(&world.a, range, HOUR)
    };
    let reads = futures_util::future::join_all((0..2_000).map(read)).await;
    for (since, history) in (0..2_000).zip(reads) {
        let offsets: Vec<_> = history.unwrap().publications.iter().map(|one| one.offset).collect();
        assert_eq!(offsets, (since % 10 + 1..=10).collect::<Vec<_>>());
    }
    let stats: String = world.redis.home().call(Call::command("INFO").arg("commandstats")).await.unwrap();
    let scripts = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap();
    let calls: usize = scripts.split(',').next().unwrap().parse().unwrap();
    assert!(calls <= 3, "{calls}");
}

/// How often Redis ran a command since its statistics were reset.
pub(super) async fn calls(world: &World, command: &str) -> usize {
    let stats: String = world.redis.home().call(Call::command("INFO").arg("commandstats")).await.unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_published_while_somebody_reads_the_history_is_delivered() {
    let world = World::new().await;
    let draft = || vec![Draft::of(Publication::of(RawJson::string("x")))];
    for number in 0..200 {
        let channel = Channel::parse(&format!("fresh{number}"), 255).unwrap();
        world.broker.subscribe(&channel).await.unwrap();
        let top = || Range { limit: Some(0), ..Range::default() };
        let (published, ..) = tokio::join!(
            world.broker.publish(&channel, draft(), KEEPING),
            world.broker.history(&channel, top(), HOUR),
            world.broker.history(&channel, top(), HOUR),
        );
        assert!(published.is_ok());
    }
    assert_eq!(world.log.offsets(200).await, [1; 200]);
}

#[tokio::test]
async fn a_connection_that_comes_back_looks_at_channels_and_reads_none_that_missed_nothing() {
    let world = World::new().await;
    for number in 0..500 {
        let channel = Channel::parse(&format!("quiet{number}"), 255).unwrap();
        world.broker.subscribe(&channel).await.unwrap();
        let range = Range { limit: Some(0), ..Range::default() };
        world.broker.history(&channel, range, HOUR).await.unwrap();
    }
    world.publish().await.unwrap();
    world.log.offsets(1).await;
    world.command(&["CONFIG", "RESETSTAT"]).await;
    world.publish_unheard(1).await;
    assert_eq!(world.log.offsets(2).await, [1, 2]);
    // What was published, and the read of the one channel that missed it.
    assert!(calls(&world, "evalsha").await <= 3, "{}", calls(&world, "evalsha").await);
}

#[tokio::test]
async fn a_publisher_that_knows_better_does_not_give_an_offset_twice() {
    let world = World::new().await;
    for _ in 0..5 {
        world.publish().await.unwrap();
    }
    assert_eq!(world.log.offsets(5).await.len(), 5);
    let before = world.follow().await;
    // As after a restart from an older copy of the data, in which the end of the stream is missing too.
    world.command(&["HSET", &world.key("meta"), "o", "3"]).await;
    world.command(&["XDEL", &world.key("stream"), "4-0", "5-0"]).await;
    world.command(&["XSETID", &world.key("stream"), "3-0"]).await;
    let next = world.publish().await.unwrap();
    assert_ne!(next.epoch, before.epoch);
    assert_eq!(world.log.told(6).await[5], Told::Came(Some(next.epoch), 1));
}

#[tokio::test]
async fn nobody_waits_for_a_history_for_longer_than_a_command_may_take() {
    let server = Server::start();
    let limit = Duration::from_millis(300);
    let settings = crate::config::Redis { command_timeout: limit, ..server.settings() };
    let metrics = Arc::new(Metrics::new());
    let redis = Redis::start(&settings, crate::model::NodeId::random(), &metrics).await.unwrap();
    let broker = RedisBroker::new(Arc::clone(&redis), Arc::new(Log::default()), metrics, &Handle::current());
    let a = Channel::parse("a", 255).unwrap();
    let pause = Call::command("CLIENT").arg("PAUSE").arg(20_000).arg("ALL");
    redis.home().call::<String>(pause).await.unwrap();
    let start = tokio::time::Instant::now();
    // Too far from one another to be read together.
    let read = |since: u64| {
        let range = Range { since: Some(since * 1_000), limit: Some(9), ..Range::default() };
        broker.history(&a, range, HOUR)
    };
    let reads = futures_util::future::join_all((0..50).map(read)).await;
    assert!(reads.iter().all(Result::is_err));
    assert!(start.elapsed() < limit * 20, "one after another they would take fifty times as long");
}
