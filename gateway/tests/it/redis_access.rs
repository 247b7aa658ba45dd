//! How a node may be let in by Redis: as a user with few rights, with a password that changes, over TLS.

use clarion::config::{self, Config};
use clarion::metrics::Metrics;
use clarion::model::{NodeId, Secret};
use serde_json::json;

use crate::support::{
    Gateway, Process, Redis, Server, TempDirectory, certificates, documented_redis_user, eventually,
    namespace,
};

const PASSWORD: &str = "canary-9cQ2";

/// What a node asks of Redis, all of it.
fn everything(config: &mut Config) {
    let options = json!({
        "history_size": 10, "history_ttl": "600s", "force_recovery": true, "presence": true, "join_leave": true,
        "allow_subscribe_for_client": true, "allow_publish_for_client": true,
    });
    config.channel.namespaces.push(namespace("all", options));
    config.client.user_connections_max = 5;
}

/// Asserts that two nodes that are let in by `access` do together what nodes do.
async fn works(redis: &Redis, access: impl Fn(&mut config::Redis)) {
    let [left, right] = Gateway::start_nodes(redis, |config| {
        everything(config);
        access(&mut config.broker.redis);
    })
    .await;
    let mut ann = left.connect("ann").await.subscribe("all:a").await.subscribe("news").await;
    let request = json!({"channel": "all:a", "data": 1, "idempotency_key": "k"});
    right.api("publish", request).await;
    right.api("publish", json!({"channel": "news", "data": 2})).await;
    let mut heard = [ann.next_publication().await.data, ann.next_publication().await.data];
    heard.sort_by_key(serde_json::Value::as_u64);
    assert_eq!(heard, [json!(1), json!(2)]);
    assert_eq!(left.api("presence_stats", json!({"channel": "all:a"})).await["num_clients"], 1);
    let present = left.api("presence", json!({"channel": "all:a"})).await;
    assert_eq!(present["presence"][ann.id()]["user"], "ann", "{present}");
    assert_eq!(right.api("history", json!({"channel": "all:a", "limit": 5})).await["offset"], 1);
    let newest = json!({"channel": "all:a", "limit": 5, "reverse": true});
    assert_eq!(right.api("history", newest).await["publications"][0]["data"], 1);
    right.api("history_remove", json!({"channel": "all:a"})).await;
    assert_eq!(
        right.api("channels", json!({"pattern": "all:*"})).await["channels"]["all:a"]["num_clients"],
        1
    );
    assert_eq!(right.revoke(&json!({"user": "ann"})).await.status, 201);
    assert_eq!(ann.closed().await.0, 3503);
    for gateway in [left, right] {
        assert_eq!(gateway.metric("clarion_broker_failures_total").await, 0.0);
        gateway.stop().await;
    }
}

fn as_clarion(settings: &mut config::Redis) {
    settings.prefix = "clarion".into();
    settings.username = "clarion".into();
    settings.password = Secret::new(PASSWORD);
}

#[tokio::test]
async fn the_rights_that_the_documentation_names_are_enough() {
    let server = Server::start(&["--requirepass", "of-the-default-user"]);
    server.ask::<()>(":of-the-default-user@", &documented_redis_user(PASSWORD)).await;
    works(&server.redis(), as_clarion).await;
}

/// Row S-62 of the security checklist.
#[tokio::test]
async fn s62_a_node_says_that_its_user_may_do_everything_in_redis() {
    const WARNING: &str = "this user may do everything in Redis";
    let server = Server::start(&[]);
    server.ask::<()>("", &documented_redis_user(PASSWORD)).await;
    let own =
        [("CLARION__BROKER__REDIS__USERNAME", "clarion"), ("CLARION__BROKER__REDIS__PASSWORD", PASSWORD)];
    for (access, warns) in [(&[][..], true), (&own[..], false)] {
        let common = [
            ("CLARION__LOG__FORMAT", "json"),
            ("CLARION__CLIENT__ANONYMOUS", "true"),
            ("CLARION__PUBLIC__PORT", "0"),
            ("CLARION__INTERNAL__PORT", "0"),
            ("CLARION__DRAIN__DELAY", "0s"),
            ("CLARION__BROKER__TYPE", "redis"),
            ("CLARION__BROKER__REDIS__ADDRESS", server.address()),
        ];
        let mut process = Process::start(&["serve"], &[&common[..], access].concat());
        process.addresses().await;
        if warns {
            eventually("the warning", async || process.output().contains(WARNING)).await;
        }
        process.send_signal(rustix::process::Signal::TERM);
        assert_eq!(process.ended().await.code(), Some(0));
        let output = process.output();
        assert_eq!(output.contains(WARNING), warns, "{output}");
        assert!(!output.contains(PASSWORD));
    }
}

#[tokio::test]
async fn none_of_the_rights_that_the_documentation_names_is_too_much() {
    let server = Server::start(&[]);
    let user = documented_redis_user(PASSWORD);
    let mut settings = config::Redis { address: server.address().into(), ..config::Redis::default() };
    as_clarion(&mut settings);
    for right in user.split(' ').filter(|word| word.starts_with('+')) {
        // Without the lineage of its data a Redis can be used.
        if right == "+info" {
            continue;
        }
        let lacking = right.replacen('+', "-", 1);
        server
            .ask::<()>("", &format!("{} {lacking}", user.replace("clarion on ", "clarion reset on ")))
            .await;
        let metrics = Metrics::new().into();
        let Err(error) = clarion::redis::Redis::start(&settings, NodeId::random(), &metrics).await else {
            panic!("{right} is not needed");
        };
        let name = right[1..].to_uppercase().replace('|', " ");
        assert!(error.to_string().contains(&name), "{right}: {error}");
    }
}

#[tokio::test]
async fn a_password_that_was_changed_is_picked_up_from_its_file() {
    let server = Server::start(&["--requirepass", "first"]);
    let file = TempDirectory::new("password");
    let password = file.path("password");
    std::fs::write(&password, "first\n").unwrap();
    let gateway = Gateway::start_node(&server.redis(), "one", |config| {
        everything(config);
        config.broker.redis.password_file = Some(password.clone());
    })
    .await;
    let mut ann = gateway.connect("ann").await.subscribe("all:a").await;
    gateway.api("history", json!({"channel": "all:a", "limit": 1})).await;
    server.ask::<()>(":first@", "CONFIG SET requirepass second").await;
    for kind in ["normal", "pubsub"] {
        server.ask::<u64>(":second@", &format!("CLIENT KILL TYPE {kind}")).await;
    }
    gateway.metric_is("clarion_broker_up", 0.0).await;
    assert_eq!(gateway.post_api("publish", &json!({"channel": "all:a", "data": 0})).await.status, 503);
    std::fs::write(&password, "second\n").unwrap();
    gateway.metric_is("clarion_broker_up", 1.0).await;
    eventually("the new password to be used", async || {
        gateway.post_api("publish", &json!({"channel": "all:a", "data": 1})).await.status == 200
    })
    .await;
    assert_eq!(ann.next_publication().await.data, 1);
    eventually("histories to be read", async || {
        gateway.post_api("history", &json!({"channel": "all:a", "limit": 1})).await.status == 200
    })
    .await;
}

fn start_with_tls(certificates: &TempDirectory, asks_clients: &str) -> Server {
    let [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| certificates.file(name));
    Server::start_with_tls(&[
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        asks_clients,
    ])
}

/// Why a node with these settings would not start.
async fn refused(settings: &config::Redis) -> String {
    let metrics = Metrics::new().into();
    match clarion::redis::Redis::start(settings, NodeId::random(), &metrics).await {
        Ok(_) => panic!("it starts"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn over_tls_redis_must_show_a_certificate_that_is_trusted() {
    let certificates = certificates();
    let server = start_with_tls(&certificates, "no");
    let trusts = |name: &str| {
        let ca_file = Some(certificates.path(name));
        move |settings: &mut config::Redis| settings.tls.ca_file.clone_from(&ca_file)
    };
    works(&server.redis(), trusts("ca.pem")).await;
    let mut settings = config::Redis { address: server.address().into(), ..config::Redis::default() };
    for name in ["", "other.pem"] {
        if !name.is_empty() {
            trusts(name)(&mut settings);
        }
        let error = refused(&settings).await;
        assert!(error.contains("TLS fails: invalid peer certificate"), "{error}");
    }
    trusts("absent.pem")(&mut settings);
    let error = refused(&settings).await;
    assert!(error.contains("broker.redis.tls.ca_file cannot be read"), "{error}");
    trusts("server.key")(&mut settings);
    assert!(refused(&settings).await.contains("certificate"));
}

#[tokio::test]
async fn tls_is_never_given_up_for_a_redis_without() {
    let server = Server::start(&[]);
    let address = server.address().replace("redis://", "rediss://");
    let error = refused(&config::Redis { address, ..config::Redis::default() }).await;
    assert!(error.contains("TLS"), "{error}");
}

#[tokio::test]
async fn a_node_shows_its_certificate_to_a_redis_that_asks_for_one() {
    let certificates = certificates();
    let server = start_with_tls(&certificates, "yes");
    let file = |name: &str| Some(certificates.path(name));
    let shows = |settings: &mut config::Redis| {
        settings.tls.ca_file = file("ca.pem");
        (settings.tls.cert_file, settings.tls.key_file) = (file("client.pem"), file("client.key"));
    };
    works(&server.redis(), shows).await;
    let mut settings = config::Redis { address: server.address().into(), ..config::Redis::default() };
    settings.tls.ca_file = file("ca.pem");
    let error = refused(&settings).await;
    assert!(error.contains("TLS fails"), "{error}");
}
