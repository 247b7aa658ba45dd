use super::*;
use crate::cluster::roster::Load;
use crate::model::{NodeId, Whose};
use crate::redis::testing;

const TTL: Duration = Duration::from_secs(60);

async fn registry() -> RedisRegistry {
    let redis = testing::redis().await;
    redis.home().hearing().wait_for(|hearing| hearing.is_heard()).await.unwrap();
    RedisRegistry::new(redis, Duration::ZERO)
}

fn report(name: &str) -> Report {
    Report {
        id: NodeId::random(),
        epoch: NodeEpoch::random(),
        name: name.into(),
        release: "1".into(),
        address: String::new(),
        uptime: Duration::ZERO,
        load: Load::default(),
        process: None,
        is_draining: false,
        handshakes_per_second: 0,
    }
}

impl Heard {
    fn is_empty(&self) -> bool {
        self.others.is_empty() && self.dead.is_empty()
    }
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

async fn heard(registry: &RedisRegistry, report: &Report) -> Heard {
    registry.beat(report, TTL).await.unwrap().unwrap()
}

/// As if nobody had heard of it for longer than it may be silent.
async fn let_die(registry: &RedisRegistry, report: &Report) {
    let ended = Call::command("DEL").arg(registry.lease(report.epoch));
    let unseen = Call::command("HSET").arg(registry.roster()).arg(report.epoch.to_string()).arg("1:0:x");
    registry.home().pipeline::<i64>(vec![ended, unseen]).await.unwrap();
}

#[tokio::test]
async fn nodes_hear_of_one_another_and_of_who_leaves() {
    let registry = registry().await;
    let (one, two) = (report("one"), report("two"));
    assert!(heard(&registry, &one).await.is_empty());
    assert_eq!(heard(&registry, &two).await.others, std::slice::from_ref(&one));
    assert_eq!(heard(&registry, &one).await.others, std::slice::from_ref(&two));
    registry.leave(two.epoch).await.unwrap();
    let Heard { others, dead, .. } = heard(&registry, &one).await;
    assert_eq!((others, dead), (Vec::new(), vec![two.epoch]));
    registry.bury(two.epoch).await.unwrap();
    assert!(heard(&registry, &one).await.is_empty());
}

#[tokio::test]
async fn a_dead_node_is_given_to_one_survivor_until_it_is_buried() {
    let registry = registry().await;
    let (one, two, dead) = (report("one"), report("two"), report("dead"));
    for report in [&dead, &one, &two] {
        heard(&registry, report).await;
    }
    let_die(&registry, &dead).await;
    assert_eq!(heard(&registry, &one).await.dead, [dead.epoch]);
    assert_eq!(heard(&registry, &two).await.dead, []);
    assert_eq!(heard(&registry, &one).await.dead, [], "it is at it");
    // Its claim has run out.
    let claim = Call::command("HSET").arg(registry.roster()).arg(dead.epoch.to_string()).arg("1:1:x");
    let _changed: i64 = registry.home().call(claim).await.unwrap();
    assert_eq!(heard(&registry, &two).await.dead, [dead.epoch]);
}

#[tokio::test]
async fn who_is_silent_in_the_roster_and_has_a_lease_is_not_dead() {
    let registry = registry().await;
    let (one, slow) = (report("one"), report("slow"));
    heard(&registry, &slow).await;
    let unseen = Call::command("HSET").arg(registry.roster()).arg(slow.epoch.to_string()).arg("1:0:x");
    let _changed: i64 = registry.home().call(unseen).await.unwrap();
    assert!(heard(&registry, &one).await.is_empty());
}

#[tokio::test]
async fn a_tenure_that_ended_is_not_taken_up_again() {
    let registry = registry().await;
    let mut one = report("one");
    heard(&registry, &one).await;
    let_die(&registry, &one).await;
    // Nobody has noticed.
    assert!(registry.beat(&one, TTL).await.unwrap().is_ok());
    let_die(&registry, &one).await;
    let other = report("other");
    assert_eq!(heard(&registry, &other).await.dead, [one.epoch]);
    assert_eq!(registry.beat(&one, TTL).await.unwrap(), Err(Lapsed));
    one.epoch = NodeEpoch::random();
    assert_eq!(heard(&registry, &one).await.others, [other]);
}

#[tokio::test]
async fn nobody_is_declared_dead_before_redis_was_heard_for_long_enough() {
    let hasty = registry().await;
    let cautious = RedisRegistry::new(Arc::clone(&hasty.redis), TTL);
    let (one, late) = (report("one"), report("late"));
    heard(&hasty, &late).await;
    let_die(&hasty, &late).await;
    assert_eq!(heard(&cautious, &one).await.dead, []);
    assert_eq!(heard(&hasty, &one).await.dead, [late.epoch], "nor is it claimed meanwhile");
}

#[tokio::test]
async fn a_node_hears_that_the_registry_has_forgotten_it() {
    let registry = registry().await;
    let one = report("one");
    let is_new = async || heard(&registry, &one).await.is_new;
    assert!(is_new().await);
    assert!(!is_new().await);
    let _gone: i64 = registry.home().call(Call::command("DEL").arg(registry.roster())).await.unwrap();
    assert!(is_new().await);
}

#[tokio::test]
async fn garbage_in_the_roster_disturbs_nobody() {
    let registry = registry().await;
    let (one, two) = (report("one"), report("two"));
    heard(&registry, &one).await;
    for (tenure, value) in [("x", "y"), ("", ""), ("z", "9999999999999999:0:\u{1}"), ("dead", "1:0:")] {
        let garbage = Call::command("HSET").arg(registry.roster()).arg(tenure).arg(value);
        let _changed: i64 = registry.home().call(garbage).await.unwrap();
    }
    assert_eq!(
        heard(&registry, &two).await,
        Heard { others: vec![one.clone()], dead: Vec::new(), is_new: true }
    );
    let _gone: i64 = registry.home().call(Call::command("DEL").arg(registry.roster())).await.unwrap();
    let _set: String =
        registry.home().call(Call::command("SET").arg(registry.roster()).arg("x")).await.unwrap();
    assert_eq!(registry.beat(&one, TTL).await, Err(RegistryError::Unavailable));
}

#[tokio::test]
async fn revocations_are_remembered_until_their_time_and_known_once() {
    let registry = registry().await;
    assert_eq!(registry.revocations().await.unwrap(), []);
    let in_seconds = |seconds| codec::time(codec::millis(SystemTime::now() + Duration::from_secs(seconds)));
    let (near, far) = (in_seconds(60), in_seconds(3_600));
    let of = |whose: &Whose, forget_at| Revocation { whose: whose.clone(), forget_at };
    let token = Whose::Token("t".into());
    let ann = Whose::User { user: user("ann"), issued_before: None };
    let past = SystemTime::now() - Duration::from_secs(1);
    registry.remember(&of(&token, far)).await.unwrap();
    registry.remember_all(&[of(&token, near), of(&ann, near)]).await.unwrap();
    registry.remember(&of(&Whose::Everybody { issued_before: near }, past)).await.unwrap();
    let known = registry.revocations().await.unwrap();
    assert_eq!(known, [of(&ann, near), of(&token, far)], "the later time of two counts");
}

#[tokio::test]
async fn too_many_revocations_are_refused() {
    let registry = registry().await;
    let whose = Whose::Token("t".into());
    let forget_at = SystemTime::now() + Duration::from_secs(60);
    let call = |id: &str, most: u64| {
        let call = Call::script(&REMEMBER, &[&registry.revoked()]).arg(id);
        registry.home().call::<bool>(call.arg(codec::millis(forget_at)).arg(most))
    };
    assert!(call("a", 2).await.unwrap() && call("b", 2).await.unwrap());
    assert!(!call("c", 2).await.unwrap());
    assert!(call("b", 2).await.unwrap(), "what is known needs no room");
    registry.remember(&Revocation { whose, forget_at }).await.unwrap();
}

#[tokio::test]
async fn connections_of_a_user_are_added_up_over_the_nodes_that_live() {
    let registry = registry().await;
    let (one, two, dead) = (NodeEpoch::random(), NodeEpoch::random(), NodeEpoch::random());
    let count = async |epoch, alive: &[NodeEpoch], counts: &[(&str, usize)]| {
        let counts: Vec<_> = counts.iter().map(|(id, count)| (user(id), *count)).collect();
        registry.count(epoch, alive, &counts).await.unwrap()
    };
    assert_eq!(count(dead, &[], &[("ann", 5)]).await, [5]);
    assert_eq!(count(one, &[two], &[("ann", 1), ("bob", 2)]).await, [1, 2]);
    assert_eq!(count(two, &[one], &[("bob", 3), ("ann", 1)]).await, [5, 2]);
    assert_eq!(count(one, &[two], &[("bob", 0)]).await, [3]);
    assert_eq!(count(two, &[one], &[("bob", 0)]).await, [0]);
    let left: bool = {
        let key = registry.redis.names().of("user", "bob");
        registry.home().call(Call::command("EXISTS").arg(key)).await.unwrap()
    };
    assert!(!left, "who is gone takes no memory");
}

#[tokio::test]
async fn one_whose_lease_outlives_its_word_is_asked_for_again_at_once() {
    let registry = registry().await;
    let (one, two) = (report("one"), report("two"));
    heard(&registry, &one).await;
    heard(&registry, &two).await;
    let unseen = Call::command("HSET").arg(registry.roster()).arg(two.epoch.to_string()).arg("1:0:x");
    registry.home().call::<i64>(unseen).await.unwrap();
    assert!(heard(&registry, &one).await.dead.is_empty(), "its lease lives");
    let ended = Call::command("DEL").arg(registry.lease(two.epoch));
    registry.home().call::<i64>(ended).await.unwrap();
    assert_eq!(heard(&registry, &one).await.dead, [two.epoch]);
}
