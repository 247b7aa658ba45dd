//! How a gateway starts and stops, and how connections end by time.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use clarion::app::StartError;
use clarion::config::{Auto, Config};
use serde_json::json;

use crate::support::{Client, Gateway, Raw, bare_path, config, eventually, get, now, upgrade_request};

const NATIVE: &str = "/connection/websocket";

/// An address that is free now.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are free ports");
    listener.local_addr().expect("it is bound")
}

fn impatient(config: &mut Config) {
    config.client.ping_interval = Duration::from_millis(400);
    config.client.pong_timeout = Duration::from_millis(200);
}

/// Talks to itself until it was pinged twice: reading is what answers.
async fn answer_pings(client: &mut Client) {
    eventually("two pings", async || {
        client.publish("news", "tick").await;
        client.next_publication().await;
        client.pings >= 2
    })
    .await;
}

#[tokio::test]
async fn clients_that_answer_pings_stay() {
    let gateway = Gateway::start_with(|config| {
        config.client.ping_interval = Duration::from_secs(1);
        config.client.pong_timeout = Duration::from_millis(900);
    })
    .await;
    let mut native = gateway.connect("alice").await.subscribe("news").await;
    let mut bare = gateway.bare("bob", "channels=news").await;
    assert_eq!((&native.welcome["ping"], &native.welcome["pong"]), (&json!(1), &json!(true)));
    tokio::join!(answer_pings(&mut native), answer_pings(&mut bare));
    assert_eq!(gateway.metric("clarion_connections").await, 2.0);
}

#[tokio::test]
async fn clients_that_do_not_answer_pings_are_closed_with_3012() {
    let gateway = Gateway::start_with(impatient).await;
    let mut native = gateway.connect("alice").await;
    native.answers_pings = false;
    let mut bare = Raw::bare(&gateway).await;
    let ping = bare.next_frame().await.unwrap();
    assert_eq!((ping.opcode, ping.payload.len()), (0x9, 0));
    assert_eq!(bare.close_code().await, 3012);
    assert_eq!(native.closed().await, (3012, "no pong".into()));
    gateway.metric_is("clarion_connections_closed_total{reason=\"no_pong\"}", 2.0).await;
}

#[tokio::test]
async fn a_pong_of_the_transport_is_none_of_the_native_protocol() {
    let gateway = Gateway::start_with(impatient).await;
    let mut raw = Raw::native(&gateway).await;
    raw.send_text(&json!({"id": 1, "connect": {"token": gateway.token("bob")}}).to_string()).await;
    assert_eq!(raw.next_json().await["id"], 1);
    assert_eq!(raw.next_json().await, json!({}), "a ping");
    raw.send_frame(0x8A, b"").await;
    assert_eq!(raw.close_code().await, 3012);
}

#[tokio::test]
async fn a_client_that_never_connects_is_closed_with_3502() {
    let delay = Duration::from_millis(300);
    let gateway = Gateway::start_with(|config| config.client.stale_close_delay = delay).await;
    let started_at = Instant::now();
    let mut raw = Raw::native(&gateway).await;
    assert_eq!(raw.close_code().await, 3502);
    assert!(started_at.elapsed() >= delay);
    let mut authenticated = gateway.connect("bob").await.subscribe("news").await;
    let mut bare = gateway.bare("eve", "channels=news").await;
    // A later stale client is closed after these two would have been.
    let mut raw = Raw::native(&gateway).await;
    assert_eq!(raw.close_code().await, 3502);
    authenticated.publish("news", 1).await;
    assert_eq!(bare.next_publication().await.data, 1);
}

#[tokio::test]
async fn a_refreshed_connection_outlives_its_first_token() {
    let delay = Duration::from_millis(300);
    let gateway = Gateway::start_with(|config| config.client.expired_close_delay = delay).await;
    let short = gateway.sign(&json!({"sub": "bob", "exp": now() + 1}));
    let connect = json!({"id": 1, "connect": {"token": short}}).to_string();
    let mut refreshed = Raw::native(&gateway).await;
    refreshed.send_text(&connect).await;
    assert_eq!(refreshed.next_json().await["connect"]["expires"], true);
    let longer = gateway.sign(&json!({"sub": "bob", "exp": now() + 3_600}));
    refreshed.send_text(&json!({"id": 2, "refresh": {"token": longer}}).to_string()).await;
    assert_eq!(refreshed.next_json().await["refresh"]["expires"], true);
    let mut other = Raw::native(&gateway).await;
    other.send_text(&connect).await;
    assert_eq!(other.close_code().await, 3005);
    refreshed.send_text(r#"{"id":3,"unsubscribe":{"channel":"news"}}"#).await;
    assert_eq!(refreshed.next_json().await, json!({"id": 3, "unsubscribe": {}}));
}

#[tokio::test]
async fn a_connection_ends_with_its_token_and_a_delay_with_3005() {
    let delay = Duration::from_millis(300);
    let gateway = Gateway::start_with(|config| config.client.expired_close_delay = delay).await;
    let expires = json!({"sub": "bob", "exp": now() + 1});
    let path = format!("/ws?token={}", gateway.sign(&expires));
    let mut bare = Raw::open(gateway.public()).await.upgrade(&path).await;
    let mut native = Raw::native(&gateway).await;
    native.send_text(&json!({"id": 1, "connect": {"token": gateway.sign(&expires)}}).to_string()).await;
    let mut lasting = gateway.connect("eve").await.subscribe("news").await;
    assert_eq!(bare.close_code().await, 3005);
    assert_eq!(native.close_code().await, 3005);
    assert!(now() >= expires["exp"].as_u64().unwrap());
    lasting.publish("news", 1).await;
    assert_eq!(lasting.next_publication().await.data, 1);
}

#[tokio::test]
async fn stopping_tells_everybody_in_their_words() {
    let gateway = Gateway::start().await;
    let public = gateway.public();
    let mut native = gateway.connect("alice").await.subscribe("news").await;
    let mut bare = gateway.bare("bob", "channels=news").await;
    let mut undecided = Raw::native(&gateway).await;
    let listening = async { (native.closed().await.0, bare.closed().await.0, undecided.close_code().await) };
    let ((), codes) = tokio::join!(gateway.stop(), listening);
    assert_eq!(codes, (3001, 1012, 3001));
    assert!(tokio::net::TcpStream::connect(public).await.is_err());
}

#[tokio::test]
async fn while_stopping_a_node_is_not_ready_and_waits_for_nobody_too_long() {
    let gateway = Gateway::start_with(|config| config.client.send_buffer_bytes = 4096).await;
    let (public, internal) = (gateway.public(), gateway.internal());
    assert_eq!(gateway.get("/readyz").await.status, 200);
    assert_eq!(gateway.get("/livez").await.status, 200);
    // Neither answers a close frame; one does not even read.
    let _silent = Raw::bare(&gateway).await;
    let _deaf = Raw::open_narrow(public).await.upgrade(&bare_path(&gateway, "&channels=hot")).await;
    let mut speaker = gateway.connect("speaker").await;
    eventually("the deaf client to be blocked", async || {
        speaker.publish("hot", "x".repeat(16 << 10)).await;
        gateway.metric("clarion_outbox_bytes").await > 0.0
    })
    .await;
    let started_at = Instant::now();
    let watching = async {
        eventually("not to be ready", async || get(internal, "/readyz").await.status == 503).await;
        let verbose = get(internal, "/readyz?verbose").await.body;
        assert!(verbose.contains("[-] not_stopping\n"), "{verbose}");
        assert_eq!(get(internal, "/livez").await.status, 200);
    };
    tokio::join!(gateway.stop(), watching);
    assert!(started_at.elapsed() < Duration::from_secs(5), "{:?}", started_at.elapsed());
}

#[tokio::test]
async fn while_stopping_every_comer_is_refused_at_once() {
    let gateway = Gateway::start().await;
    let (public, internal) = (gateway.public(), gateway.internal());
    // Its shard waits for it to close; the other one has nobody to wait for.
    let _silent = Raw::bare(&gateway).await;
    let come = async || {
        let mut late = Raw::open(public).await;
        drop(late.try_send(upgrade_request(NATIVE, "")).await);
        late.answer().await
    };
    let watching = async {
        eventually("not to be ready", async || get(internal, "/readyz").await.status == 503).await;
        // Who comes in the moment in between is let in and told to go.
        eventually("to be refused", async || come().await.status == 503).await;
        for _ in 0..16 {
            let answer = come().await;
            assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true));
        }
    };
    tokio::join!(gateway.stop(), watching);
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_setting() {
    let running = Gateway::start().await;
    for (setting, taken) in [("public.port", running.public()), ("internal.port", running.internal())] {
        let mut config = config();
        match setting {
            "public.port" => config.public.port = taken.port(),
            _ => config.internal.port = taken.port(),
        }
        let error = Gateway::try_start(config).await.err().expect("the port is taken");
        assert!(error.to_string().contains(setting), "{error}");
        assert!(matches!(error, StartError::PortInUse { address, .. } if address == taken), "{error:?}");
    }
    running.serves_honest_clients().await;
}

#[tokio::test]
async fn a_port_is_free_again_after_the_stop() {
    let gateway = Gateway::start().await;
    let address = gateway.public();
    let _client = gateway.connect("bob").await;
    gateway.stop().await;
    let mut config = config();
    config.public.port = address.port();
    let gateway = Gateway::try_start(config).await.expect("the port is free");
    assert_eq!(gateway.public(), address);
    gateway.serves_honest_clients().await;
}

#[tokio::test]
async fn two_gateways_in_one_process_know_nothing_of_each_other() {
    let (left, right) = tokio::join!(Gateway::start(), Gateway::start());
    let mut bob = left.connect("bob").await.subscribe("news").await;
    right.connect("alice").await.publish("news", "right").await;
    left.connect("alice").await.publish("news", "left").await;
    assert_eq!(bob.next_publication().await.data, "left");
    assert_eq!(right.metric("clarion_subscriptions").await, 0.0);
}

#[tokio::test]
async fn one_listener_serves_both_faces_if_their_addresses_are_one() {
    let address = free_address();
    let gateway = Gateway::start_with(|config| {
        config.public.port = address.port();
        config.internal.port = address.port();
    })
    .await;
    assert_eq!((gateway.public(), gateway.internal()), (address, address));
    let mut bob = gateway.connect("bob").await.subscribe("news").await;
    gateway.api("publish", json!({"channel": "news", "data": 1})).await;
    assert_eq!(bob.next_publication().await.data, 1);
    assert_eq!(gateway.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn each_face_has_its_own_routes() {
    let gateway = Gateway::start().await;
    for path in
        ["/metrics", "/livez", "/readyz", "/api/publish", "/api/info", "/debug/pprof", "/", "/metrics/"]
    {
        assert_eq!(get(gateway.public(), path).await.status, 404, "{path} on the public listener");
    }
    for path in ["/ws", NATIVE, "/", "/debug/pprof", "/api"] {
        assert_eq!(get(gateway.internal(), path).await.status, 404, "{path} on the internal listener");
    }
    let mut raw = Raw::open(gateway.internal()).await;
    raw.send(upgrade_request(&bare_path(&gateway, ""), "")).await;
    assert_eq!(raw.answer().await.status, 404);
}

#[tokio::test]
async fn connections_above_the_limit_are_told_when_to_come_back() {
    let gateway = Gateway::start_with(|config| config.client.connections_max = Auto::Fixed(2)).await;
    let first = gateway.connect("alice").await;
    let mut second = gateway.connect("bob").await.subscribe("news").await;
    for _ in 0..3 {
        let refusal = Raw::open(gateway.public()).await.answer().await;
        assert_eq!(refusal.status, 503);
        let seconds: u32 = refusal.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=5).contains(&seconds));
    }
    let refused = gateway.metric("clarion_handshakes_rejected_total{reason=\"connections_max\"}").await;
    assert_eq!(refused, 3.0);
    first.leave().await;
    gateway.metric_is("clarion_connections", 1.0).await;
    // The place is free once the socket is closed, a moment after it was counted.
    eventually("a place", async || {
        let mut raw = Raw::open(gateway.public()).await;
        raw.try_send(upgrade_request(NATIVE, "")).await.is_ok() && raw.answer().await.status == 101
    })
    .await;
    second.publish("news", 1).await;
    assert_eq!(second.next_publication().await.data, 1);
}
