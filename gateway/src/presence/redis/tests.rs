use std::time::Duration;

use super::super::contract::{self, channel, departed, holding, lease, listed, member, owner};
use super::room::{Receipts, Ticket};
use super::*;
use crate::config;
use crate::metrics::Metrics;
use crate::model::NodeId;
use crate::redis::{death, testing};

/// Those that were named are dead.
#[derive(Default)]
struct Graves(Mutex<Vec<NodeEpoch>>);

#[async_trait]
impl Owners for Graves {
    async fn dead(&self, owners: &[NodeEpoch]) -> Vec<NodeEpoch> {
        let dead = self.0.lock();
        owners.iter().filter(|owner| dead.contains(owner)).copied().collect()
    }
}

contract::suite!(|| async { RedisPresence::new(testing::redis().await, Arc::new(Graves::default())) });

const TTL: Duration = Duration::from_secs(600);

/// A presence with a look behind it.
struct Bench {
    redis: Arc<Redis>,
    graves: Arc<Graves>,
    presence: RedisPresence,
}

impl Bench {
    async fn new() -> Self {
        let (redis, graves) = (testing::redis().await, Arc::new(Graves::default()));
        let presence = RedisPresence::new(Arc::clone(&redis), Arc::clone(&graves) as _);
        Self { redis, graves, presence }
    }

    /// The same Redis, as another node sees it.
    fn neighbour(&self) -> RedisPresence {
        RedisPresence::new(Arc::clone(&self.redis), Arc::clone(&self.graves) as _)
    }

    async fn add(&self, name: &str, info: &Arc<ClientInfo>, number: u8) -> bool {
        let lease = Lease { owner: owner(number), ttl: TTL };
        self.presence.add(&channel(name), listed(info), lease).await.unwrap()
    }

    async fn stats(&self, name: &str) -> (usize, usize) {
        let stats = self.presence.stats(&channel(name)).await.unwrap();
        (stats.clients, stats.users)
    }

    /// As when an owner has not renewed its lease on a channel.
    async fn silence(&self, name: &str, number: u8) {
        let owners = self.key("owners", name);
        let call = Call::command("HGET").arg(&owners).arg(owner(number).as_bytes().as_slice());
        let record: String = self.redis.home().call(call).await.unwrap();
        let (tally, _lapse) = record.rsplit_once(' ').unwrap();
        let call = Call::command("HSET").arg(owners).arg(owner(number).as_bytes().as_slice());
        let _: u8 = self.redis.home().call(call.arg(format!("{tally} 1"))).await.unwrap();
    }

    async fn command<T: Reply>(&self, words: &[&str]) -> T {
        let call = Call::command(words[0].to_owned().leak());
        let call = words[1..].iter().fold(call, |call, word| call.arg(*word));
        self.redis.home().call(call).await.unwrap()
    }

    /// The keys of the presence.
    async fn keys(&self) -> Vec<String> {
        let keys: Vec<String> = self
            .command(&["KEYS", &format!("{}*", self.redis.names().of("", "").trim_end_matches(':'))])
            .await;
        // What Redis is tried out with at the start.
        keys.into_iter().filter(|key| !key.contains(":trial:")).collect()
    }

    fn key(&self, kind: &str, name: &str) -> String {
        self.redis.names().of_channel(kind, &channel(name))
    }
}

#[tokio::test]
async fn who_is_dead_is_seen_by_nobody_and_departs_once_whoever_looks_first() {
    let bench = Bench::new().await;
    let others = [bench.neighbour(), bench.neighbour()];
    let (ann, ann_too, bob) = (member("ann"), member("ann"), member("bob"));
    bench.add("a", &ann, 0).await;
    bench.add("a", &ann_too, 1).await;
    bench.add("a", &bob, 1).await;
    bench.graves.0.lock().push(owner(1));
    // Not even before anything was cleared away.
    assert_eq!(bench.presence.members(&channel("a")).await.unwrap(), [Arc::clone(&ann)]);
    let name = channel("a");
    let (first, second) = tokio::join!(others[0].stats(&name), others[1].stats(&name));
    for stats in [first, second] {
        assert_eq!(stats.unwrap(), PresenceStats { clients: 1, users: 1 });
    }
    let mut clients = HashSet::new();
    while clients.len() < 2 {
        let [first, second] = &others;
        let departed = tokio::select! {
            departed = bench.presence.departed() => departed,
            departed = first.departed() => departed,
            departed = second.departed() => departed,
        };
        departed.into_iter().for_each(|departed| assert!(clients.insert(departed.info.client)));
    }
    assert_eq!(clients, HashSet::from([ann_too.client, bob.client]));
}

#[tokio::test]
async fn three_nodes_that_reap_at_once_announce_each_leave_once() {
    let bench = Bench::new().await;
    const MEMBERS: usize = 600;
    for number in 0..MEMBERS {
        bench.add(&format!("c{}", number % 200), &member("bob"), 1).await;
    }
    let nodes = [bench.neighbour(), bench.neighbour(), bench.neighbour()];
    let [first, second, third] = &nodes;
    let reaped = tokio::join!(first.reap(owner(1)), second.reap(owner(1)), third.reap(owner(1)));
    assert_eq!(reaped, (Ok(()), Ok(()), Ok(())));
    let mut clients = HashSet::new();
    for node in &nodes {
        while let Ok(departed) = tokio::time::timeout(Duration::ZERO, node.departed()).await {
            departed.into_iter().for_each(|departed| assert!(clients.insert(departed.info.client)));
        }
    }
    assert_eq!(clients.len(), MEMBERS);
    assert_eq!(bench.keys().await, Vec::<String>::new(), "nothing is left of it");
}

#[tokio::test]
async fn nothing_is_kept_for_ever_and_nothing_of_who_has_left() {
    let bench = Bench::new().await;
    let (ann, bob) = (member("ann"), member("bob"));
    bench.add("a", &ann, 0).await;
    let hidden = Member { is_listed: false, ..listed(&bob) };
    bench.presence.add(&channel("a"), hidden, lease()).await.unwrap();
    let keys = bench.keys().await;
    assert_eq!(keys.len(), 5, "{keys:?}");
    for key in keys {
        let left: i64 = bench.command(&["PTTL", &key]).await;
        assert!(left > 0 && left <= 4 * 600_000, "{key} is kept for {left} ms");
    }
    for info in [&ann, &bob] {
        assert!(bench.presence.remove(&channel("a"), info.client, owner(0)).await.unwrap());
    }
    assert_eq!(bench.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_a_living_owner_forgot_ends_with_its_lease() {
    let bench = Bench::new().await;
    let (forgotten, other) = (member("ann"), member("bob"));
    bench.add("a", &other, 1).await;
    let lease = Lease { owner: owner(0), ttl: Duration::ZERO };
    bench.presence.add(&channel("a"), listed(&forgotten), lease).await.unwrap();
    // With this lease all keys ended at once: they are there again by the other's.
    bench.presence.refresh(&[holding("a", &[&other])], Lease { owner: owner(1), ttl: TTL }).await.unwrap();
    assert_eq!(bench.stats("a").await, (1, 1));

    bench.add("a", &forgotten, 0).await;
    bench.silence("a", 0).await;
    assert_eq!(bench.presence.members(&channel("a")).await.unwrap(), [Arc::clone(&other)]);
    assert_eq!(bench.stats("a").await, (1, 1));
}

#[tokio::test]
async fn who_was_silent_and_lives_is_back_without_a_word_and_departs_when_it_is_dead() {
    let bench = Bench::new().await;
    let (ann, bob) = (member("ann"), member("bob"));
    bench.add("a", &ann, 0).await;
    bench.add("a", &bob, 1).await;
    let back = Lease { owner: owner(0), ttl: TTL };
    for _ in 0..2 {
        bench.silence("a", 0).await;
        assert_eq!(bench.presence.members(&channel("a")).await.unwrap(), [Arc::clone(&bob)]);
        assert_eq!(bench.stats("a").await, (1, 1));
        bench.presence.refresh(&[holding("a", &[&ann])], back).await.unwrap();
        assert_eq!(bench.stats("a").await, (2, 2));
    }
    assert!(!bench.add("a", &ann, 0).await, "it was there all the time");
    departed(&bench.presence, 0).await;
    bench.silence("a", 0).await;
    bench.graves.0.lock().push(owner(0));
    assert_eq!(bench.stats("a").await, (1, 1));
    assert_eq!(departed(&bench.presence, 1).await[0].info, ann);
}

#[tokio::test]
async fn while_redis_is_full_leases_are_renewed() {
    // One of its own: it is full for all.
    let server = testing::Server::start();
    let redis = testing::connect(&server).await;
    let presence = RedisPresence::new(Arc::clone(&redis), Arc::new(Graves::default()));
    let (ann, bob) = (member("ann"), member("bob"));
    presence.refresh(&[holding("a", &[&ann])], lease()).await.unwrap();
    let full = Call::command("CONFIG").arg("SET").arg("maxmemory").arg(1);
    let _: String = redis.home().call(full).await.unwrap();
    let added = presence.add(&channel("a"), listed(&bob), lease()).await;
    assert_eq!(added, Err(PresenceError::Unavailable));
    presence.refresh(&[holding("a", &[&ann])], lease()).await.unwrap();
    assert!(presence.remove(&channel("a"), ann.client, owner(0)).await.unwrap());
}

#[tokio::test]
async fn whichever_key_is_lost_the_owners_bring_everything_back() {
    let bench = Bench::new().await;
    let (ann, ann_too, bob) = (member("ann"), member("ann"), member("bob"));
    for lost in ["members", "users", "owners"] {
        bench.presence.refresh(&[holding(lost, &[&ann, &ann_too])], lease()).await.unwrap();
        bench.add(lost, &bob, 1).await;
        assert_eq!(bench.stats(lost).await, (3, 2));
        let _: u8 = bench.command(&["DEL", &bench.key(lost, lost)]).await;
        for _ in 0..2 {
            bench.presence.refresh(&[holding(lost, &[&ann, &ann_too])], lease()).await.unwrap();
            let other = Lease { owner: owner(1), ttl: TTL };
            bench.presence.refresh(&[holding(lost, &[&bob])], other).await.unwrap();
        }
        assert_eq!(bench.stats(lost).await, (3, 2), "{lost} was lost");
        assert_eq!(bench.presence.members(&channel(lost)).await.unwrap().len(), 3);
    }
    let more = tokio::time::timeout(Duration::ZERO, bench.presence.departed()).await;
    assert!(more.is_err(), "nobody departed: {more:?}");
}

#[tokio::test]
async fn a_key_that_holds_something_else_is_an_error_for_its_channel_alone() {
    let bench = Bench::new().await;
    let (ann, bob) = (member("ann"), member("bob"));
    for kind in ["members", "hidden", "users", "owners"] {
        let _: String = bench.command(&["SET", &bench.key(kind, kind), "garbage"]).await;
        let bad = channel(kind);
        let added = bench.presence.add(&bad, listed(&ann), lease()).await;
        assert_eq!(added, Err(PresenceError::Refused), "{kind}");
        let removed = bench.presence.remove(&bad, ann.client, owner(0)).await;
        assert_eq!(removed, Err(PresenceError::Refused), "{kind}");
        let holdings = [holding("good", &[&bob]), holding(kind, &[&ann]), holding("fine", &[&bob])];
        assert_eq!(bench.presence.refresh(&holdings, lease()).await, Err(PresenceError::Refused));
        for good in ["good", "fine"] {
            assert_eq!(bench.stats(good).await, (1, 1), "{kind}");
            bench.presence.refresh(&[holding(good, &[])], lease()).await.unwrap();
        }
        // Nothing was half done.
        for other in ["members", "hidden", "users", "owners"].iter().filter(|other| **other != kind) {
            assert_eq!(bench.command::<u8>(&["EXISTS", &bench.key(other, kind)]).await, 0, "{kind} {other}");
        }
    }
    assert_eq!(bench.presence.members(&channel("members")).await, Err(PresenceError::Refused));
    assert_eq!(bench.presence.stats(&channel("owners")).await, Err(PresenceError::Refused));
}

#[tokio::test]
async fn who_died_is_reaped_even_if_one_of_its_channels_holds_something_else() {
    let bench = Bench::new().await;
    for name in ["a", "b", "c"] {
        bench.add(name, &member("bob"), 1).await;
    }
    let _: String = bench.command(&["SET", &bench.key("members", "b"), "garbage"]).await;
    bench.presence.reap(owner(1)).await.unwrap();
    departed(&bench.presence, 2).await;
    assert_eq!((bench.stats("a").await, bench.stats("c").await), ((0, 0), (0, 0)));
}

#[tokio::test]
async fn an_entry_that_is_none_is_an_error_and_no_panic() {
    let bench = Bench::new().await;
    bench.add("a", &member("ann"), 0).await;
    for (field, garbage) in
        [("short", ""), ("0123456789abcdef", "garbage"), ("0123456789abcdef", "0123456789abcdef\n\x0f")]
    {
        let _: u8 = bench.command(&["HSET", &bench.key("members", "a"), field, garbage]).await;
        assert_eq!(bench.presence.members(&channel("a")).await, Err(PresenceError::Refused));
        // The next refresh makes good what was written there.
        bench.presence.refresh(&[holding("a", &[&member("bob")])], lease()).await.unwrap();
        assert_eq!(bench.stats("a").await, (1, 1));
    }
    for record in ["", "x y z", "1 2"] {
        let call = Call::command("HSET").arg(bench.key("owners", "a")).arg(owner(0).as_bytes().as_slice());
        let _: u8 = bench.redis.home().call(call.arg(record)).await.unwrap();
        assert_eq!(bench.presence.stats(&channel("a")).await, Err(PresenceError::Refused));
        bench.presence.refresh(&[holding("a", &[&member("bob")])], lease()).await.unwrap();
        assert_eq!(bench.stats("a").await, (1, 1));
    }
}

#[tokio::test]
async fn dead_is_who_was_declared_so_and_nobody_else() {
    let bench = Bench::new().await;
    let lease = |number| bench.redis.names().of("node", &owner(number).to_string());
    let _: String = bench.command(&["SET", &lease(0), "1"]).await;
    let heartbeats = Heartbeats::new(Arc::clone(&bench.redis));
    assert_eq!(heartbeats.dead(&[owner(0), owner(1)]).await, []);
    // Redis may have lost it: whoever lives takes it up again.
    for number in [0, 1] {
        assert_eq!(bench.command::<u8>(&["EXISTS", &lease(number)]).await, u8::from(number == 0));
    }
    assert!(bench.redis.home().call::<bool>(death(&lease(1))).await.unwrap());
    while heartbeats.dead(&[owner(0), owner(1)]).await != [owner(1)] {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_moved_between_a_look_and_a_hand_is_left_alone() {
    let bench = Bench::new().await;
    let ann = member("ann");
    bench.add("a", &ann, 0).await;
    let (name, client) = (channel("a"), ann.client.as_bytes().to_vec());
    let take = Room::new(bench.redis.names(), &name).take(&[client], owner(1), None);
    assert_eq!(bench.redis.home().call::<Entries>(take).await, Ok(Vec::new()));
    assert_eq!(bench.stats("a").await, (1, 1));
}

#[tokio::test]
async fn whose_taking_out_was_not_answered_departs_all_the_same_and_once() {
    const EACH: usize = 500;
    // One of its own: it is kept busy.
    let server = testing::Server::start();
    let (settings, metrics) = (server.settings(), Arc::new(Metrics::new()));
    let hasty = config::Redis { command_timeout: Duration::from_millis(200), ..settings.clone() };
    let patient = Redis::start(&settings, NodeId::random(), &metrics).await.unwrap();
    let hasty = Redis::start(&hasty, NodeId::random(), &metrics).await.unwrap();
    let other = RedisPresence::new(Arc::clone(&patient), Arc::new(Graves::default()));
    let presence = RedisPresence::new(hasty, Arc::new(Graves::default()));
    for name in ["a", "b"] {
        let crowd: Vec<_> = (0..EACH).map(|_| member("ann")).collect();
        let members: Vec<_> = crowd.iter().collect();
        other.refresh(&[holding(name, &members)], lease()).await.unwrap();
        let clients = crowd.iter().map(|info| info.client.as_bytes().to_vec()).collect();
        let busy = "local sum = 0 for i = 1, 60000000 do sum = sum + i % 7 end return 0";
        let busy = patient.home().call::<u8>(Call::command("EVAL").arg(busy).arg(0));
        let taken = async {
            // The other call is there by then; if not, this one is answered, and nothing is tried.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let batch = vec![(channel(name), clients)];
            presence.inner.take(presence.inner.redis.home(), batch, owner(0)).await
        };
        let (_busy, _taken_or_not) = tokio::join!(busy, taken);
    }
    // Whom nobody took out is taken out now.
    other.reap(owner(0)).await.unwrap();
    let mut clients = HashSet::new();
    while clients.len() < EACH * 2 {
        let departed = tokio::select! {
            departed = presence.departed() => departed,
            departed = other.departed() => departed,
            () = tokio::time::sleep(Duration::from_secs(10)) => panic!("{} departed", clients.len()),
        };
        departed.into_iter().for_each(|departed| assert!(clients.insert(departed.info.client), "twice"));
    }
}

#[tokio::test]
async fn a_call_that_comes_after_its_ticket_ended_takes_out_nobody() {
    let bench = Bench::new().await;
    let (ann, bob) = (member("ann"), member("bob"));
    bench.add("a", &ann, 0).await;
    bench.add("a", &bob, 0).await;
    let (names, home, name) = (bench.redis.names(), bench.redis.home(), channel("a"));
    let ticket = Ticket::new(names);
    let take = |info: &Arc<ClientInfo>| {
        Room::new(names, &name).take(&[info.client.as_bytes().to_vec()], owner(0), Some(&ticket))
    };
    let taken = home.call::<Entries>(take(&ann)).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(home.call::<Receipts>(ticket.end()).await, Ok(vec![("a".to_owned(), taken)]));
    assert_eq!(home.call::<Entries>(take(&bob)).await, Ok(Vec::new()));
    assert_eq!(bench.stats("a").await, (1, 1));
}

/// The connection of a client of this owner is lost.
async fn lose(
    presence: &RedisPresence,
    name: &Channel,
    info: &Arc<ClientInfo>,
    number: u8,
    lasts: Duration,
) -> Result<bool, PresenceError> {
    let leaving = [(listed(info), Grace { lasts, is_known: true })];
    Ok(presence.linger(name, &leaving, owner(number)).await? == [true])
}

#[tokio::test]
async fn who_lingers_is_seen_though_its_node_is_dead_and_leaves_nothing_behind() {
    let bench = Bench::new().await;
    let (ann, bob, back) = (member("ann"), member("bob"), member("ann"));
    for info in [&ann, &bob] {
        bench.add("a", info, 1).await;
    }
    let name = channel("a");
    assert!(lose(&bench.presence, &name, &ann, 1, TTL).await.unwrap());
    bench.graves.0.lock().push(owner(1));
    assert_eq!(bench.presence.members(&name).await.unwrap(), [Arc::clone(&ann)]);
    assert_eq!(bench.stats("a").await, (1, 1));
    departed(&bench.presence, 1).await;
    let entered = bench.neighbour().enter(&name, listed(&back), lease()).await.unwrap();
    assert_eq!(entered, Added::Returned);
    assert_eq!(bench.stats("a").await, (1, 1));
    let lingering = bench.key("lingering", "a");
    assert_eq!(bench.command::<u8>(&["EXISTS", &lingering]).await, 0);
    assert!(bench.presence.remove(&name, back.client, owner(0)).await.unwrap());
    let keys = bench.keys().await;
    assert_eq!(keys.len(), 1, "whose grace it was, until that is over: {keys:?}");
    let left: i64 = bench.command(&["PTTL", &keys[0]]).await;
    assert!(left > 0, "{left}");
}

#[tokio::test]
async fn who_lingers_is_kept_longer_than_it_is_seen_whatever_others_renew() {
    let bench = Bench::new().await;
    let (ann, bob) = (member("ann"), member("bob"));
    let (name, short) = (channel("a"), Lease { owner: owner(0), ttl: Duration::from_secs(1) });
    for info in [&ann, &bob] {
        bench.presence.add(&name, listed(info), short).await.unwrap();
    }
    assert!(lose(&bench.presence, &name, &ann, 0, Duration::from_secs(60)).await.unwrap());
    bench.presence.refresh(&[holding("a", &[&bob])], short).await.unwrap();
    for kind in ["members", "owners", "lingering"] {
        let left: i64 = bench.command(&["PTTL", &bench.key(kind, "a")]).await;
        assert!((600_000..700_000).contains(&left), "{kind} is kept for {left} ms");
    }
    // As when nobody took it out in time.
    let call = Call::command("HSET").arg(bench.key("owners", "a")).arg([0u8; 16].as_slice()).arg("1 0 1");
    let _: u8 = bench.redis.home().call(call).await.unwrap();
    assert_eq!(bench.presence.members(&name).await.unwrap(), [Arc::clone(&bob)]);
    assert_eq!(bench.stats("a").await, (1, 1));
}

#[tokio::test]
async fn whoever_did_not_return_is_announced_though_one_channel_holds_something_else() {
    let bench = Bench::new().await;
    for name in ["a", "b", "c"] {
        let ann = member("ann");
        bench.add(name, &ann, 1).await;
        assert!(lose(&bench.presence, &channel(name), &ann, 1, Duration::ZERO).await.unwrap());
    }
    let _: String = bench.command(&["SET", &bench.key("lingering", "b"), "garbage"]).await;
    assert_eq!(bench.presence.expire(owner(1)).await, Ok(None));
    departed(&bench.presence, 2).await;
    let graces = bench.redis.names().of("graces", &owner(2).to_string());
    let _: String = bench.command(&["SET", &graces, "garbage"]).await;
    let ann = member("ann");
    bench.add("a", &ann, 2).await;
    let refused = lose(&bench.presence, &channel("a"), &ann, 2, TTL).await;
    assert_eq!(refused, Err(PresenceError::Refused));
    assert_eq!(bench.stats("a").await, (1, 1), "nothing was half done");
}

#[tokio::test]
async fn while_redis_is_full_who_lost_its_connection_lingers_and_departs() {
    // One of its own: it is full for all.
    let server = testing::Server::start();
    let redis = testing::connect(&server).await;
    let presence = RedisPresence::new(Arc::clone(&redis), Arc::new(Graves::default()));
    let (ann, name) = (member("ann"), channel("a"));
    presence.add(&name, listed(&ann), lease()).await.unwrap();
    let full = Call::command("CONFIG").arg("SET").arg("maxmemory").arg(1);
    let _: String = redis.home().call(full).await.unwrap();
    assert_eq!(lose(&presence, &name, &ann, 0, Duration::ZERO).await, Ok(true));
    assert_eq!(presence.members(&name).await.unwrap(), [Arc::clone(&ann)]);
    assert_eq!(presence.expire(owner(0)).await, Ok(None));
    departed(&presence, 1).await;
}
