//! Nodes that miss something because their connections to Redis break.

use super::*;
use crate::broker::RedisBroker;
use crate::redis::{Call, Redis, testing};

/// A node whose broker and registry are in a Redis.
struct Distant {
    member: Member,
    redis: Arc<Redis>,
    _everybody: Arc<Everybody>,
}

/// Ends what every node hears by.
fn deafening() -> Call {
    Call::command("CLIENT").arg("KILL").arg("TYPE").arg("pubsub")
}

impl Distant {
    /// It has joined.
    async fn join(settings: &crate::config::Redis, name: &str) -> Self {
        let (id, metrics) = (NodeId::random(), Arc::new(Metrics::new()));
        let redis = Redis::start(settings, id, &metrics).await.unwrap();
        let everybody = Arc::new(Everybody::default());
        let receiver = Arc::clone(&everybody) as Arc<dyn Receiver>;
        let broker = RedisBroker::new(Arc::clone(&redis), receiver, Arc::clone(&metrics), &Handle::current());
        let options = Options {
            id,
            registry: Arc::new(RedisRegistry::new(Arc::clone(&redis), Duration::ZERO)),
            tenure: watch::Sender::new(Tenure::unheard()),
            hearing: Some(redis.home().hearing()),
            // What is missed is not to be found by chance.
            heartbeat_interval: Duration::from_secs(60),
            node_ttl: Duration::from_secs(300),
            ..Options::alone(Arc::default())
        };
        let (witness, tenure) = (Arc::new(Witness::default()), options.tenure.subscribe());
        let local: Weak<dyn Local> = Arc::downgrade(&witness) as _;
        let cluster = Cluster::new(name.into(), options, broker, local, metrics, Handle::current());
        everybody.0.lock().push(Arc::downgrade(&cluster));
        let distant = Self { member: Member { cluster, witness, tenure }, redis, _everybody: everybody };
        distant.hears().await;
        distant.member.cluster.join(String::new()).await;
        distant
    }

    async fn hears(&self) {
        let mut hearing = self.redis.home().hearing();
        hearing.wait_for(|hearing| hearing.is_heard()).await.unwrap();
    }
}

#[tokio::test]
async fn what_came_while_nobody_heard_is_carried_out_though_it_was_the_first_command() {
    let server = testing::Server::start();
    let settings = server.settings();
    let (one, two) = (Distant::join(&settings, "one").await, Distant::join(&settings, "two").await);
    // Together, so that nobody is back before the command is there.
    let killing = one.redis.home().call::<i64>(deafening());
    let sending = one.member.cluster.send(unsubscribe());
    let (killed, sent) = tokio::join!(killing, sending);
    assert!(killed.unwrap() >= 2);
    sent.unwrap();
    for node in [&one, &two] {
        // They are back after 100 ms at the most.
        let done = tokio::time::timeout(Duration::from_millis(1_100), node.member.does()).await;
        assert_eq!(done.expect("it is carried out").len(), 1);
    }
}

#[tokio::test]
async fn what_was_revoked_while_nobody_heard_and_redis_was_full_is_known_when_they_hear_again() {
    let server = testing::Server::start();
    let settings = server.settings();
    let (one, two) = (Distant::join(&settings, "one").await, Distant::join(&settings, "two").await);
    let home = one.redis.home();
    let full = Call::command("CONFIG").arg("SET").arg("maxmemory").arg("1");
    home.call::<String>(full).await.unwrap();
    let (killed, revoked) =
        tokio::join!(home.call::<i64>(deafening()), one.member.cluster.revoke(revocation()));
    assert!(killed.unwrap() >= 2);
    revoked.unwrap();
    for node in [&one, &two] {
        tokio::time::timeout(Duration::from_millis(1_100), node.member.does()).await.expect("it refuses");
        assert!(node.member.cluster.revocations().include(&ann().user, TokenMark::default()));
    }
}
