//! Thousands who come back to a channel at once, and what is answered without Redis.

use futures_util::future::{FutureExt as _, join_all};

use super::damage::{HOUR, Log, World, calls};
use super::*;
use crate::redis::testing::Server;

fn after(since: u64) -> Range {
    Range { since: Some(since), limit: Some(300), bytes_max: Some(1 << 20), ..Range::default() }
}

fn offsets(history: &History) -> Vec<u64> {
    history.publications.iter().map(|publication| publication.offset).collect()
}

impl World {
    async fn catch_up(&self, since: u64) -> History {
        self.broker.catch_up(&self.a, "", after(since), HOUR).await.unwrap()
    }

    /// So many publications were delivered, and somebody caught up with them.
    async fn with(count: u64) -> Self {
        let world = Self::new().await;
        for _ in 0..count {
            world.publish().await.unwrap();
        }
        world.log.offsets(usize::try_from(count).unwrap()).await;
        assert_eq!(offsets(&world.catch_up(0).await), (1..=count).collect::<Vec<_>>());
        world.command(&["CONFIG", "RESETSTAT"]).await;
        world
    }
}

/// Nothing but a read of the history runs this.
async fn reads(world: &World) -> usize {
    calls(world, "xrange").await + calls(world, "xrevrange").await
}

#[tokio::test]
async fn ten_thousand_who_come_back_while_publications_go_on_cost_a_handful_of_reads() {
    const WAVES: u64 = 100;
    const WAVE: u64 = 100;
    let world = World::new().await;
    for _ in 0..40 {
        world.publish().await.unwrap();
    }
    world.log.offsets(40).await;
    world.command(&["CONFIG", "RESETSTAT"]).await;
    let publish = async {
        for _ in 0..60 {
            world.publish().await.unwrap();
        }
    };
    let come_back = async {
        for wave in 0..WAVES {
            let since = |number| (wave + number) % 40;
            let answers = join_all((0..WAVE).map(|number| world.catch_up(since(number)))).await;
            for (number, answer) in (0..).zip(&answers) {
                assert_eq!(offsets(answer), (since(number) + 1..=answer.top.offset).collect::<Vec<_>>());
            }
        }
    };
    tokio::join!(publish, come_back);
    assert_eq!(world.log.offsets(100).await, (1..=100).collect::<Vec<_>>());
    let reads = reads(&world).await;
    assert!((1..=5).contains(&reads), "{reads}");
}

#[tokio::test]
async fn who_asks_for_the_history_is_answered_by_redis() {
    let world = World::with(3).await;
    for _ in 0..3 {
        assert_eq!(offsets(&world.catch_up(1).await), [2, 3]);
    }
    assert_eq!(reads(&world).await, 0);
    let history = world.broker.history(&world.a, after(1), HOUR).await.unwrap();
    assert_eq!((offsets(&history), reads(&world).await), (vec![2, 3], 1));
}

#[tokio::test]
async fn who_starts_at_the_top_is_told_where_that_is_and_who_wants_the_newest_gets_it() {
    let world = World::with(3).await;
    let catch_up = |range| world.broker.catch_up(&world.a, "", range, HOUR);
    let top = catch_up(Range { limit: Some(0), ..Range::default() }).await.unwrap();
    assert_eq!((top.top.offset, top.publications.len()), (3, 0));
    let newest = catch_up(Range { limit: Some(1), reverse: true, ..Range::default() }).await.unwrap();
    assert_eq!((&newest.top, offsets(&newest)), (&top.top, vec![3]));
    assert_eq!(calls(&world, "evalsha").await, 0);
}

#[tokio::test]
async fn what_was_removed_here_is_not_answered_any_more() {
    let world = World::with(3).await;
    world.broker.remove_history(&world.a).await.unwrap();
    let answer = world.catch_up(1).await;
    assert_eq!((answer.top.offset, offsets(&answer)), (3, vec![]));
    world.publish().await.unwrap();
    world.log.offsets(4).await;
    assert_eq!(offsets(&world.catch_up(2).await), [4], "3 is gone, as the subscriber sees");
    world.command(&["CONFIG", "RESETSTAT"]).await;
    assert_eq!(offsets(&world.catch_up(3).await), [4]);
    assert_eq!(reads(&world).await, 0, "what came after is remembered");
}

#[tokio::test]
async fn what_somebody_began_to_remove_and_gave_up_is_asked_of_redis() {
    let world = World::with(3).await;
    assert!(world.broker.remove_history(&world.a).now_or_never().is_none(), "Redis has not answered yet");
    world.catch_up(1).await;
    assert_eq!(reads(&world).await, 1);
}

#[tokio::test]
async fn data_that_are_found_gone_are_not_answered_any_more() {
    let world = World::with(3).await;
    world.command(&["DEL", &world.key("meta"), &world.key("stream")]).await;
    // As the position check of a shard does.
    let after = world.history().await.top;
    world.log.told(4).await;
    let answer = world.catch_up(1).await;
    assert_eq!((&answer.top, offsets(&answer)), (&after, vec![]));
}

#[tokio::test]
async fn what_was_missed_is_in_the_next_answer() {
    let world = World::with(3).await;
    world.publish_unheard(20).await;
    world.log.offsets(23).await;
    assert_eq!(offsets(&world.catch_up(1).await), (2..=23).collect::<Vec<_>>());
}

#[tokio::test]
async fn nothing_is_answered_while_redis_is_not_heard() {
    let server = Server::start();
    let settings = crate::config::Redis { command_timeout: Duration::from_millis(300), ..server.settings() };
    let metrics = Arc::new(Metrics::new());
    let redis = Redis::start(&settings, crate::model::NodeId::random(), &metrics).await.unwrap();
    let broker = RedisBroker::new(Arc::clone(&redis), Arc::new(Log::default()), metrics, &Handle::current());
    let a = Channel::parse("a", 255).unwrap();
    broker.subscribe(&a).await.unwrap();
    let mut hearing = redis.home().hearing();
    hearing.wait_for(|hearing| hearing.is_heard()).await.unwrap();
    let top = || broker.catch_up(&a, "", Range { limit: Some(0), ..Range::default() }, HOUR);
    top().await.unwrap();
    drop(server);
    hearing.wait_for(|hearing| !hearing.is_heard()).await.unwrap();
    assert_eq!(top().await.map(|history| history.top), Err(BrokerError::Unavailable));
}

#[tokio::test]
async fn an_epoch_that_does_not_stay_for_long_is_asked_for_in_time() {
    let world = World::with(3).await;
    world.broker.catch_up(&world.a, "", after(1), Duration::ZERO).await.unwrap();
    assert_eq!(reads(&world).await, 1);
}
