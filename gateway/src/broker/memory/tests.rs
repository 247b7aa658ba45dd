use super::super::contract;
use super::*;
use crate::broker::Retention;
use crate::model::{Epoch, Notice, Position, Publication, RawJson};

contract::suite!(|receiver| async move { Arc::new(MemoryBroker::new(receiver)) });

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(60);
const META_TTL: Duration = Duration::from_secs(720 * 3600);
const KEY_TTL: Duration = Duration::from_secs(300);
const OPTIONS: PublishOptions = PublishOptions {
    retention: Some(Retention { size: 100, ttl: TTL, meta_ttl: META_TTL }),
    idempotency_ttl: KEY_TTL,
};

struct Nobody;

impl Receiver for Nobody {
    fn deliver(&self, _: &Channel, _: Option<&Epoch>, _: &[Arc<Publication>]) {
        panic!("nobody is subscribed");
    }

    fn announce(&self, _: &Channel, _: &Notice) {
        panic!("nobody is subscribed");
    }

    fn lose(&self, _: &Channel, _: &Position) {
        panic!("nothing is lost");
    }
}

/// A broker whose time the test moves.
struct Bench(MemoryBroker);

impl Bench {
    fn new() -> Self {
        Self(MemoryBroker::new(Arc::new(Nobody)))
    }

    async fn publish(&self, name: &str, key: Option<&str>) -> Published {
        let publication = Publication::of(RawJson::string("x"));
        let draft = Draft { idempotency_key: key.map(str::to_owned), ..Draft::of(publication) };
        self.0.publish(&channel(name), vec![draft], OPTIONS).await.unwrap().remove(0)
    }

    /// The top, and how many publications are kept.
    async fn look(&self, name: &str) -> (Position, usize) {
        let history = self.0.history(&channel(name), Range::default(), META_TTL).await.unwrap();
        (history.top, history.publications.len())
    }

    /// Streams, kept publications and keys in memory.
    fn weight(&self) -> (usize, usize, usize) {
        let all = self.0.stripes.iter().map(|stripe| stripe.lock().weight());
        all.fold((0, 0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1, sum.2 + one.2))
    }
}

fn channel(name: &str) -> Channel {
    Channel::parse(name, 255).unwrap()
}

async fn pass(duration: Duration) {
    tokio::time::advance(duration).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_goes_when_nothing_was_published_for_the_ttl() {
    let bench = Bench::new();
    let first = bench.publish("a", None).await.position.unwrap();
    pass(TTL - SECOND).await;
    bench.publish("a", None).await;
    pass(TTL - Duration::from_millis(1)).await;
    let top = Position { offset: 2, ..first };
    assert_eq!(bench.look("a").await, (top.clone(), 2));
    pass(Duration::from_millis(1)).await;
    assert_eq!(bench.look("a").await, (top.clone(), 0));
    assert_eq!(bench.publish("a", None).await.position, Some(Position { offset: 3, ..top.clone() }));
    assert_eq!(bench.look("a").await, (Position { offset: 3, ..top }, 1));
}

#[tokio::test(start_paused = true)]
async fn an_epoch_ends_when_nobody_needed_it_for_the_meta_ttl() {
    let bench = Bench::new();
    let first = bench.publish("a", None).await.position.unwrap();
    pass(META_TTL - Duration::from_millis(1)).await;
    assert_eq!(bench.look("a").await, (first.clone(), 0));
    pass(META_TTL - Duration::from_millis(1)).await;
    let second = bench.publish("a", None).await.position.unwrap();
    assert_eq!(second, Position { offset: 2, ..first.clone() }, "reading keeps an epoch as well");
    pass(META_TTL).await;
    let third = bench.publish("a", None).await.position.unwrap();
    assert_ne!(third.epoch, first.epoch);
    assert_eq!(third.offset, 1);
    pass(META_TTL).await;
    let (fourth, kept) = bench.look("a").await;
    assert_ne!(fourth.epoch, third.epoch);
    assert_eq!((fourth.offset, kept), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_key_is_forgotten_in_time_after_its_first_use() {
    let bench = Bench::new();
    bench.publish("a", Some("k")).await;
    pass(KEY_TTL - Duration::from_millis(1)).await;
    assert!(bench.publish("a", Some("k")).await.is_suppressed);
    pass(Duration::from_millis(1)).await;
    let again = bench.publish("a", Some("k")).await;
    assert!(!again.is_suppressed);
    assert_eq!(again.position.unwrap().offset, 2);
    pass(KEY_TTL / 2).await;
    assert!(bench.publish("a", Some("k")).await.is_suppressed, "the second use counts from its own time");
}

#[tokio::test(start_paused = true)]
async fn sweeping_gives_back_what_nobody_uses_any_more() {
    let bench = Bench::new();
    for number in 0..1_000 {
        // The epoch is asked for first, so what is kept is due long before what was filed for the epoch.
        bench.look(&number.to_string()).await;
        bench.publish(&number.to_string(), Some("k")).await;
    }
    assert_eq!(bench.weight(), (1_000, 1_000, 1_000));
    pass(TTL - SECOND).await;
    bench.0.sweep().await;
    assert_eq!(bench.weight(), (1_000, 1_000, 1_000));
    pass(2 * SECOND).await;
    bench.0.sweep().await;
    assert_eq!(bench.weight(), (1_000, 0, 1_000));
    pass(KEY_TTL).await;
    bench.0.sweep().await;
    assert_eq!(bench.weight(), (1_000, 0, 0));
    pass(META_TTL - KEY_TTL).await;
    bench.0.sweep().await;
    assert_eq!(bench.weight(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn sweeping_leaves_what_is_in_use() {
    let bench = Bench::new();
    let epoch = bench.publish("a", None).await.position.unwrap().epoch;
    for second in 1..=1_000 {
        pass(SECOND).await;
        bench.0.sweep().await;
        if second % 50 == 0 {
            bench.publish("a", None).await;
        }
        assert!(bench.weight().1 > 0, "after {second} s");
    }
    assert_eq!(bench.look("a").await, (Position { epoch, offset: 21 }, 21));
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_filed_a_few_times_however_long_it_is_used() {
    let bench = Bench::new();
    for _ in 0..100 {
        bench.publish("a", None).await;
        pass(TTL + 2 * SECOND).await;
        bench.0.sweep().await;
    }
    let filed: usize = bench.0.stripes.iter().map(|stripe| stripe.lock().filed()).sum();
    // Once for each time that it went quiet within a turn of the wheel.
    assert!(filed <= 6, "{filed}");
}

#[tokio::test(start_paused = true)]
async fn use_gives_back_what_others_left_in_the_same_stripe() {
    let bench = Bench::new();
    for number in 0..1_000 {
        bench.publish(&number.to_string(), Some("k")).await;
    }
    pass(META_TTL * 2).await;
    for number in 0..10_000 {
        bench.publish(&format!("other{number}"), None).await;
    }
    assert_eq!(bench.weight(), (10_000, 10_000, 0));
}

#[test]
fn a_kept_publication_is_small() {
    // With two counts it is 112 bytes, and allocators serve all from 97 on from that.
    assert!(size_of::<Publication>() <= 96);
}
