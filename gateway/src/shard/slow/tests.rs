//! Subscribers that do not take what they are sent, or that are left out.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::super::fanout::bench::{Bench, Random, numbers, received};
use super::super::link::Link;
use super::super::subscription::{self, Claim, Subscriber};
use super::super::table::{Entry, Key, Sink};
use super::*;
use crate::broker::{Draft, PublishOptions, Retention};
use crate::model::{Channel, ClientId, CloseReason, Publication, RawJson};
use crate::node::ShardId;
use crate::node::recovery::{Follow, Mode, Since, Start};
use crate::protocol::{Encoding, Heartbeat, Wanted};

/// Room for seven frames of three digits beside the reserve.
const NARROW: usize = 40;

struct Peer {
    key: Key,
    link: Rc<Link>,
    /// What the socket took.
    taken: Vec<u8>,
}

impl Peer {
    fn new(bench: &Bench) -> Self {
        Self::with(bench, Sink::Protected)
    }

    fn with(bench: &Bench, sink: Sink) -> Self {
        let link = Rc::new(Link::new(ClientId::random()));
        let blocked = matches!(sink, Sink::Protected).into();
        let key = bench.shard.table.borrow_mut().insert(Entry { sink, blocked, link: Rc::clone(&link) });
        Self { key, link, taken: Vec::new() }
    }

    fn subscriber<'a>(&'a self, bench: &'a Bench) -> Subscriber<'a> {
        Subscriber { shard: &bench.shard, key: self.key, link: &self.link, encoding: Encoding::BareData }
    }

    async fn register(&self, bench: &Bench, wanted: Wanted) -> Vec<Claim> {
        let node = Arc::clone(&bench.shard.node);
        let mut claims = subscription::claim(node, ShardId::new(0), vec![wanted]).await;
        self.subscriber(bench).register(&mut claims);
        claims
    }

    async fn go_live(&self, bench: &Bench, claims: Vec<Claim>) -> Option<Start> {
        let claims = subscription::prepare(Arc::clone(&bench.shard.node), claims).await;
        self.subscriber(bench).go_live(claims).pop().unwrap().unwrap()
    }

    async fn join(self, bench: &Bench, wanted: Wanted) -> Self {
        let claims = self.register(bench, wanted).await;
        self.go_live(bench, claims).await;
        self
    }

    /// The socket takes `bytes` at most.
    fn take(&mut self, bench: &Bench, bytes: usize) {
        let mut outbox = self.link.outbox.borrow_mut();
        let waiting: Vec<u8> = outbox.slices().iter().flat_map(|slice| slice.to_vec()).collect();
        let taken = &waiting[..waiting.len().min(bytes)];
        self.taken.extend_from_slice(taken);
        outbox.advance(taken.len(), &bench.shard.budget);
    }

    /// All that it got, once the socket took everything.
    fn got(&mut self, bench: &Bench) -> Vec<u64> {
        while !self.link.outbox.borrow().is_empty() {
            self.take(bench, usize::MAX);
        }
        numbers(&mut self.taken)
    }
}

fn channel(name: &str) -> Channel {
    Channel::parse(name, 255).unwrap()
}

fn live(name: &str, slow_consumer: SlowConsumer) -> Wanted {
    Wanted { slow_consumer, ..Wanted::live(channel(name)) }
}

fn following(since: Option<Since>, slow_consumer: SlowConsumer) -> Wanted {
    let follow = Follow {
        since,
        mode: Mode::Stream,
        publications_max: 300,
        bytes_max: 1 << 20,
        meta_ttl: Duration::from_secs(600),
    };
    Wanted { follow: Some(follow), ..live("a", slow_consumer) }
}

/// Publishes `count` numbers to a channel that keeps them; each is its offset.
async fn publish_kept(bench: &mut Bench, count: u64) {
    let number =
        |number: u64| Draft::of(Publication::of(RawJson::parse(number.to_string().as_bytes()).unwrap()));
    let run = (bench.published + 1..=bench.published + count).map(number).collect();
    bench.published += count;
    let published = bench.shard.node.publish(&bench.channel, run, kept()).await.unwrap();
    assert_eq!(published.last().unwrap().position.as_ref().unwrap().offset, bench.published);
}

fn kept() -> PublishOptions {
    let retention =
        Retention { size: 10_000, ttl: Duration::from_secs(600), meta_ttl: Duration::from_secs(600) };
    PublishOptions { retention: Some(retention), ..PublishOptions::default() }
}

fn publication(number: u64) -> Publication {
    Publication::of(RawJson::parse(number.to_string().as_bytes()).unwrap())
}

fn keyed(number: u64, key: &str) -> Publication {
    Publication { tags: [("key".to_owned(), key.to_owned())].into(), ..publication(number) }
}

fn excluding(number: u64, peer: &Peer) -> Publication {
    Publication { exclude: Some(Box::new(peer.link.client)), ..publication(number) }
}

/// Publishes in one piece, and delivers it.
async fn publish(bench: &mut Bench, name: &str, publications: impl IntoIterator<Item = Publication>) {
    publish_with(bench, name, publications, PublishOptions::default()).await;
}

async fn publish_with(
    bench: &mut Bench,
    name: &str,
    publications: impl IntoIterator<Item = Publication>,
    options: PublishOptions,
) {
    let drafts = publications.into_iter().map(Draft::of).collect();
    bench.shard.node.publish(&channel(name), drafts, options).await.unwrap();
    bench.finish();
}

fn metric(bench: &Bench, name: &str) -> usize {
    let text = String::from_utf8(bench.shard.metrics.render(0)).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("clarion_{name} "))).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn dropped(bench: &Bench, reason: &str) -> usize {
    metric(bench, &format!("publications_dropped_total{{reason=\"{reason}\"}}"))
}

fn slow(bench: &Bench, policy: &str) -> usize {
    metric(bench, &format!("slow_consumers_total{{policy=\"{policy}\"}}"))
}

#[tokio::test]
async fn drop_oldest_keeps_exactly_the_newest_that_fit_and_others_get_all() {
    let mut bench = Bench::with_outboxes(NARROW);
    let mut blocked = Peer::new(&bench).join(&bench, live("a", SlowConsumer::DropOldest)).await;
    let mut healthy = Peer::new(&bench).join(&bench, live("a", SlowConsumer::DropOldest)).await;
    for first in (100..160).step_by(3) {
        publish(&mut bench, "a", (first..first + 3).map(publication)).await;
        healthy.take(&bench, usize::MAX);
    }
    assert_eq!(healthy.got(&bench), (100..160).collect::<Vec<_>>());
    assert_eq!(blocked.got(&bench), (153..160).collect::<Vec<_>>());
    assert_eq!((dropped(&bench, "drop_oldest"), dropped(&bench, "slow")), (53, 0));
    assert_eq!((slow(&bench, "drop_oldest"), slow(&bench, "disconnect")), (1, 0), "one episode");
    assert!(!blocked.link.is_closing());
    // What is more than ever fits leaves its newest; what is too large alone costs nothing else.
    publish(&mut bench, "a", (200..220).map(publication)).await;
    publish(&mut bench, "a", [Publication::of(RawJson::string(&"x".repeat(50)))]).await;
    assert_eq!(received(&blocked.link), (213..220).collect::<Vec<_>>());
    assert_eq!(slow(&bench, "drop_oldest"), 3, "both fell behind");
    assert_eq!(bench.shard.budget.used_bytes(), 2 * 35);
}

#[tokio::test]
async fn latest_keeps_the_newest_of_each_key_in_order() {
    let mut bench = Bench::with_outboxes(NARROW);
    let mut blocked = Peer::new(&bench).join(&bench, live("a", SlowConsumer::Latest)).await;
    for (number, key) in [(100, "x"), (101, "y"), (102, "x"), (103, "z"), (104, "y"), (105, "x")] {
        publish(&mut bench, "a", [keyed(number, key)]).await;
    }
    publish(&mut bench, "a", [publication(106)]).await;
    assert_eq!(received(&blocked.link).len(), 7, "all of it fits");
    publish(&mut bench, "a", [publication(107), keyed(108, "x"), publication(109), keyed(110, "x")]).await;
    assert_eq!(received(&blocked.link), [103, 104, 109, 110]);
    assert_eq!(dropped(&bench, "latest"), 7);
    // Keys that are all different leave the newest.
    publish(&mut bench, "a", (200..206).map(|number| keyed(number, &number.to_string()))).await;
    assert_eq!(blocked.got(&bench), [110, 200, 201, 202, 203, 204, 205]);
    assert_eq!(dropped(&bench, "latest"), 10);
    assert_eq!(slow(&bench, "latest"), 1);
}

#[tokio::test]
async fn who_follows_the_history_gets_a_prefix_and_is_told() {
    for policy in [SlowConsumer::DropOldest, SlowConsumer::Latest] {
        let mut bench = Bench::with_outboxes(NARROW);
        let mut peer = Peer::new(&bench).join(&bench, following(None, policy)).await;
        publish_with(&mut bench, "a", (101..107).map(publication), kept()).await;
        // Two are taken, and a part of the third.
        peer.take(&bench, 12);
        publish_with(&mut bench, "a", (107..112).map(publication), kept()).await;
        assert!(peer.link.has_lost(), "{policy:?}");
        publish_with(&mut bench, "a", (112..120).map(publication), kept()).await;
        assert_eq!(peer.got(&bench), [101, 102, 103]);
        assert_eq!(dropped(&bench, policy_name(policy)), 8, "what comes after the loss is not for it");
        assert!(!peer.link.is_closing());
        assert_eq!(bench.shard.budget.used_bytes(), 0);
    }
}

fn policy_name(policy: SlowConsumer) -> &'static str {
    if policy == SlowConsumer::Latest { "latest" } else { "drop_oldest" }
}

#[tokio::test]
async fn what_is_not_of_the_channel_stays_and_closes_the_connection_if_it_does_not_fit() {
    let mut bench = Bench::with_outboxes(NARROW);
    let peer = Peer::new(&bench).join(&bench, live("a", SlowConsumer::DropOldest)).await;
    let peer = peer.join(&bench, live("b", SlowConsumer::Disconnect)).await;
    publish(&mut bench, "b", [publication(1)]).await;
    publish(&mut bench, "a", (100..110).map(publication)).await;
    publish(&mut bench, "b", [publication(2)]).await;
    publish(&mut bench, "a", (110..113).map(publication)).await;
    assert_eq!(received(&peer.link), [1, 108, 109, 2, 110, 111, 112]);
    // The reserve is for what is not dropped.
    for _ in 0..2 {
        assert_eq!(bench.shard.offer(peer.key, &bench.shard.ping(Heartbeat::Text("{}"))), Offer::Queued);
    }
    publish(&mut bench, "b", (500..520).map(publication)).await;
    assert_eq!(peer.link.closing(), Some(&CloseReason::SlowConsumer));
}

#[tokio::test]
async fn what_came_for_a_subscription_that_has_ended_is_not_dropped_for_the_next() {
    let mut bench = Bench::with_outboxes(NARROW);
    let peer = Peer::new(&bench).join(&bench, live("a", SlowConsumer::DropOldest)).await;
    publish(&mut bench, "a", (100..103).map(publication)).await;
    bench.shard.unsubscribe(&channel("a"), &peer.link);
    let peer = peer.join(&bench, live("b", SlowConsumer::DropOldest)).await;
    publish(&mut bench, "b", (200..210).map(publication)).await;
    assert_eq!(received(&peer.link), [100, 101, 102, 206, 207, 208, 209]);
}

#[tokio::test]
async fn a_socket_that_takes_a_part_gets_whole_frames_in_order() {
    use tokio::io::AsyncReadExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let stream = Rc::new(listener.accept().await.unwrap().0);
    stream.writable().await.unwrap();
    let mut bench = Bench::with_outboxes(256 << 10);
    let sink = Sink::Direct(Rc::clone(&stream));
    let peer = Peer::with(&bench, sink).join(&bench, live("a", SlowConsumer::DropOldest)).await;
    let mut number = 0_u64;
    while dropped(&bench, "drop_oldest") < 10_000 {
        publish(&mut bench, "a", (number..number + 1_000).map(publication)).await;
        number += 1_000;
    }
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    let expected = usize::try_from(number).unwrap() - dropped(&bench, "drop_oldest");
    let flush = || {
        let mut outbox = peer.link.outbox.borrow_mut();
        if let Ok(written) = stream.try_write_vectored(&outbox.slices()) {
            outbox.advance(written, &bench.shard.budget);
        }
    };
    while !peer.link.outbox.borrow().is_empty() {
        flush();
        if let Ok(count) = client.try_read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..count]);
        }
        tokio::task::yield_now().await;
    }
    drop(stream);
    bench.shard.table.borrow_mut().remove(peer.key);
    client.read_to_end(&mut bytes).await.unwrap();
    let numbers = numbers(&mut bytes);
    assert_eq!(numbers.len(), expected, "published = received + dropped");
    assert!(numbers.is_sorted() && numbers.last() == Some(&(number - 1)));
}

#[tokio::test]
async fn a_frame_of_which_a_part_is_written_is_finished_although_the_connection_closes() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let stream = Rc::new(listener.accept().await.unwrap().0);
    rustix::net::sockopt::set_socket_send_buffer_size(&*stream, 4096).unwrap();
    stream.writable().await.unwrap();
    let mut bench = Bench::with_outboxes(1 << 20);
    let peer =
        Peer::with(&bench, Sink::Direct(stream)).join(&bench, live("a", SlowConsumer::DropOldest)).await;
    // Its task has not noticed yet.
    peer.link.close(CloseReason::Expired);
    for first in (0..500_000).step_by(1_000) {
        publish(&mut bench, "a", (first..first + 1_000).map(publication)).await;
        if !peer.link.outbox.borrow().is_empty() {
            return;
        }
    }
    panic!("the socket has taken a part of something, and nobody knows the rest");
}

#[tokio::test]
async fn any_interleaving_keeps_frames_whole_in_order_and_counted() {
    const OUTBOX: usize = 600;
    let mut overflows = 0;
    for seed in 1..=300 {
        let mut random = Random::new(seed);
        let mut bench = Bench::with_outboxes(OUTBOX);
        let mut peer = Peer::new(&bench);
        let policies = [SlowConsumer::DropOldest, SlowConsumer::Latest, SlowConsumer::Disconnect];
        for (name, policy) in ["a", "b", "c"].into_iter().zip(policies) {
            peer = peer.join(&bench, live(name, policy)).await;
        }
        let mut published = [0_u64; 3];
        for _ in 0..200 {
            let which = random.below(4);
            match which {
                3 => peer.take(&bench, random.below(80)),
                // Never so much that the connection would be closed.
                2 if peer.link.outbox.borrow().bytes() > OUTBOX / 2 => {}
                _ => {
                    let (base, count) = (published[which], 1 + random.below(6) as u64);
                    let number = |index| (which as u64 + 1) * 1_000_000 + base + index;
                    let run: Vec<_> =
                        (0..count).map(|at| keyed(number(at), &random.below(9).to_string())).collect();
                    publish(&mut bench, ["a", "b", "c"][which], run).await;
                    published[which] += count;
                }
            }
            assert_eq!(bench.shard.budget.used_bytes(), peer.link.outbox.borrow().bytes());
        }
        let got = peer.got(&bench);
        let of =
            |which: u64| got.iter().filter(move |number| **number / 1_000_000 == which).collect::<Vec<_>>();
        let dropped = [dropped(&bench, "drop_oldest"), dropped(&bench, "latest"), 0];
        for which in 0..3 {
            let got = of(which as u64 + 1);
            assert!(got.is_sorted(), "seed {seed}: {got:?}");
            assert_eq!(got.len() + dropped[which], published[which] as usize, "seed {seed}");
            let last = (published[which] > 0).then(|| (which as u64 + 1) * 1_000_000 + published[which] - 1);
            assert_eq!(got.last().map(|last| **last), last, "seed {seed}: the newest is never dropped");
        }
        assert!(!peer.link.is_closing());
        overflows += dropped.iter().sum::<usize>();
    }
    assert!(overflows > 10_000, "{overflows}");
}

#[tokio::test]
async fn a_follower_that_is_slow_at_random_has_everything_in_the_end() {
    let mut losses = 0;
    for seed in 1..=200 {
        let mut random = Random::new(seed);
        let mut bench = Bench::with_outboxes(60);
        let policy = if seed % 2 == 0 { SlowConsumer::DropOldest } else { SlowConsumer::Latest };
        let mut seen = 0;
        let mut peer = Peer::new(&bench).join(&bench, following(None, policy)).await;
        for step in 0..=150 {
            match random.below(3) {
                _ if step == 150 => {}
                0 => peer.take(&bench, random.below(40)),
                _ => {
                    publish_kept(&mut bench, 1 + random.below(3) as u64).await;
                    bench.finish();
                }
            }
            if !peer.link.has_lost() && step < 150 {
                continue;
            }
            // It reads what waits, then comes back with what it has.
            for number in peer.got(&bench) {
                seen += 1;
                assert_eq!(number, seen, "seed {seed}");
            }
            losses += usize::from(peer.link.has_lost());
            bench.shard.forget(peer.key, &CloseReason::ByClient { code: None });
            peer = Peer::new(&bench);
            let since = Since { epoch: String::new(), offset: seen };
            let claims = peer.register(&bench, following(Some(since), policy)).await;
            let start = peer.go_live(&bench, claims).await.unwrap();
            assert_eq!(start.recovered, Some(true));
            assert_eq!(start.publications.len() as u64, bench.published - seen);
            seen = start.position.offset;
        }
        assert_eq!(seen, bench.published);
    }
    assert!(losses > 1_000, "{losses}");
}

#[tokio::test]
async fn who_is_excluded_gets_the_rest_and_counts_it_as_seen() {
    let mut bench = Bench::new();
    let free = Peer::new(&bench).join(&bench, live("a", SlowConsumer::Disconnect)).await;
    let other = Peer::new(&bench).join(&bench, live("a", SlowConsumer::Disconnect)).await;
    let tracked = Peer::new(&bench).join(&bench, following(None, SlowConsumer::Disconnect)).await;
    let run = [excluding(1, &free), publication(2), excluding(3, &tracked), excluding(4, &free)];
    publish_with(&mut bench, "a", run, kept()).await;
    publish_with(&mut bench, "a", [excluding(5, &tracked)], kept()).await;
    publish_with(&mut bench, "a", [publication(6)], kept()).await;
    assert_eq!(received(&free.link), [2, 3, 5, 6]);
    assert_eq!(received(&other.link), [1, 2, 3, 4, 5, 6]);
    assert_eq!(received(&tracked.link), [1, 2, 4, 6]);
    bench.shard.check_positions().await;
    bench.shard.check_positions().await;
    assert!(!tracked.link.has_lost(), "nothing is missing");
    assert_eq!(metric(&bench, "publications_delivered_total{transport=\"websocket\"}"), 14);
}

#[tokio::test]
async fn what_is_recovered_leaves_out_what_is_not_for_the_connection() {
    let mut bench = Bench::new();
    let (peer, other) = (Peer::new(&bench), Peer::new(&bench));
    publish_with(&mut bench, "a", [excluding(1, &peer), publication(2)], kept()).await;
    let since = || Some(Since { epoch: String::new(), offset: 0 });
    let claims = peer.register(&bench, following(since(), SlowConsumer::Disconnect)).await;
    let others = other.register(&bench, following(since(), SlowConsumer::Disconnect)).await;
    // These are set aside, and the last of them is live.
    publish_with(&mut bench, "a", [publication(3), excluding(4, &peer)], kept()).await;
    let start = peer.go_live(&bench, claims).await.unwrap();
    let offsets = |start: &Start| start.publications.iter().map(|one| one.offset).collect::<Vec<_>>();
    assert_eq!((offsets(&start), start.position.offset, start.recovered), (vec![2, 3], 4, Some(true)));
    assert_eq!(offsets(&other.go_live(&bench, others).await.unwrap()), [1, 2, 3, 4]);
    publish_with(&mut bench, "a", [publication(5)], kept()).await;
    assert_eq!((received(&peer.link), peer.link.has_lost()), (vec![5], false));
}
