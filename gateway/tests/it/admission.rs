//! Who is let in, who waits, and who is sent away and told when to come again.

use std::net::SocketAddr;
use std::time::Instant;

use clarion::config::{Auto, Config};
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Answer, Gateway, Raw, bare_path, eventually, upgrade_request, within};

const NATIVE: &str = "/connection/websocket";

/// Asks for a WebSocket; `headers` are whole lines.
async fn ask(address: SocketAddr, path: &str, headers: &str) -> (Answer, Raw) {
    let mut raw = Raw::open(address).await;
    raw.send(upgrade_request(path, headers)).await;
    (raw.answer().await, raw)
}

/// The same, forwarded for a client.
async fn ask_for(gateway: &Gateway, client: &str) -> (Answer, Raw) {
    ask(gateway.public(), NATIVE, &format!("x-forwarded-for: {client}\r\n")).await
}

/// How many were sent away for this reason.
async fn refused(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric(&format!("clarion_handshakes_rejected_total{{reason=\"{reason}\"}}")).await
}

#[track_caller]
fn advice(answer: &Answer) -> u64 {
    let seconds = answer.header("retry-after").expect("it is told when to come again");
    seconds.parse().expect("in seconds")
}

fn trusting(config: &mut Config) {
    config.public.trusted_proxies = vec!["127.0.0.0/8".into()];
    config.client.address_connections_max = 1;
}

#[tokio::test]
async fn who_comes_in_a_crowd_waits_or_is_told_when_to_come_again_and_nobody_else_notices() {
    const CROWD: usize = 60;
    let gateway =
        Gateway::start_with(|config| config.admission.handshakes_per_second = Auto::Fixed(10)).await;
    let mut bob = gateway.connect("bob").await.subscribe("news").await;
    let start = Instant::now();
    let answers = join_all((0..CROWD).map(|_| ask(gateway.public(), NATIVE, ""))).await;
    let seconds = start.elapsed().as_secs() as usize + 1;
    let entered = answers.iter().filter(|(answer, _)| answer.status == 101).count();
    assert!((10..=1 + 10 * seconds).contains(&entered), "{entered} in {seconds} s");
    let away: Vec<&Answer> =
        answers.iter().map(|(answer, _)| answer).filter(|one| one.status == 503).collect();
    assert_eq!(away.len(), CROWD - entered);
    assert!(away.iter().all(|answer| (1..=10).contains(&advice(answer)) && answer.code() == "rate"));
    let later = away.iter().filter(|answer| advice(answer) > 2).count();
    assert!(later >= away.len() / 4, "not all at the same time: {later} of {}", away.len());
    assert_eq!(refused(&gateway, "rate").await, away.len() as f64);
    assert_eq!(gateway.metric("clarion_handshakes_waiting").await, 0.0);
    gateway.api("publish", json!({"channel": "news", "data": 1})).await;
    assert_eq!(bob.next_publication().await.data, 1);
    assert_eq!(gateway.metric("clarion_connections_closed_total").await, 0.0);
}

/// Sends the pieces, each once `go_on` is through, and reads until the end; a reset would be an error.
async fn ask_in_pieces(address: SocketAddr, pieces: &[&str], go_on: impl AsyncFn()) -> String {
    let mut stream = within("a connection", TcpStream::connect(address)).await.expect("somebody listens");
    for piece in pieces {
        go_on().await;
        stream.write_all(piece.as_bytes()).await.expect("the gateway takes bytes");
    }
    let mut answer = String::new();
    within("the end", stream.read_to_string(&mut answer)).await.expect("it is not reset");
    answer
}

#[tokio::test]
async fn a_refusal_arrives_however_late_the_request_comes() {
    let gateway = Gateway::start_with(|config| config.client.connections_max = Auto::Fixed(1)).await;
    let _alice = gateway.connect("alice").await;
    let request = upgrade_request(NATIVE, "x-filler: 0123456789\r\n");
    let (first, second) = request.split_at(request.len() - 3);
    let body = "x".repeat(4096);
    for (count, pieces) in [&[&request[..]][..], &[first, second], &[&request, &body]].into_iter().enumerate()
    {
        // By then it was decided, and an answer that does not wait for the request would be on its way.
        let go_on = async || {
            eventually("to be refused", async || {
                refused(&gateway, "connections_max").await == count as f64 + 1.0
            })
            .await;
        };
        let answer = ask_in_pieces(gateway.public(), pieces, go_on).await;
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\nretry-after: "), "{answer}");
    }
    assert_eq!(gateway.metric("clarion_connections_limit").await, 1.0);
}

#[tokio::test]
async fn the_internal_listener_answers_when_the_public_one_is_full() {
    let gateway = Gateway::start_with(|config| config.client.connections_max = Auto::Fixed(1)).await;
    let mut alice = gateway.connect("alice").await.subscribe("news").await;
    let held = join_all((0..40).map(|_| Raw::open(gateway.public()))).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(gateway.get(path).await.status, 200, "{path}");
    }
    gateway.api("publish", json!({"channel": "news", "data": 1})).await;
    assert_eq!(alice.next_publication().await.data, 1);
    drop(held);
}

#[tokio::test]
async fn an_address_is_what_a_trusted_proxy_says() {
    let gateway = Gateway::start_with(trusting).await;
    let (answer, _first) = ask_for(&gateway, "203.0.113.1").await;
    assert_eq!(answer.status, 101);
    for list in ["203.0.113.1", "198.51.100.9, 203.0.113.1", "203.0.113.1, 127.0.0.7"] {
        let (answer, _) = ask_for(&gateway, list).await;
        assert_eq!((answer.status, answer.code().as_str()), (429, "address_connections_max"), "{list}");
        assert!((1..=60).contains(&advice(&answer)));
    }
    let (answer, _second) = ask_for(&gateway, "203.0.113.1, 203.0.113.2").await;
    assert_eq!(answer.status, 101, "what the client wrote itself is not believed");
    let (answer, _third) = ask(gateway.public(), NATIVE, "forwarded: for=\"[2001:db8::1]:99\"\r\n").await;
    assert_eq!(answer.status, 101);
    let (answer, _) = ask_for(&gateway, "2001:db8::ffff").await;
    assert_eq!(answer.status, 429, "the same network");
    assert_eq!(refused(&gateway, "address_connections_max").await, 4.0);
}

#[tokio::test]
async fn an_address_is_the_peers_if_it_is_no_trusted_proxy() {
    for proxies in [&[][..], &["10.0.0.0/8"]] {
        let gateway = Gateway::start_with(|config| {
            trusting(config);
            config.public.trusted_proxies = proxies.iter().map(|proxy| (*proxy).to_owned()).collect();
        })
        .await;
        let (answer, _first) = ask_for(&gateway, "203.0.113.1").await;
        assert_eq!(answer.status, 101);
        let (answer, _) = ask_for(&gateway, "203.0.113.2").await;
        assert_eq!((answer.status, answer.code().as_str()), (429, "address_connections_max"));
    }
}

#[tokio::test]
async fn an_address_is_looked_at_before_origin_and_token() {
    let gateway = Gateway::start_with(trusting).await;
    let (_, _first) = ask_for(&gateway, "203.0.113.1").await;
    let bad = |client: &str| format!("x-forwarded-for: {client}\r\norigin: https://evil.example\r\n");
    let path = "/ws?token=nonsense";
    assert_eq!(ask(gateway.public(), path, &bad("203.0.113.1")).await.0.status, 429);
    assert_eq!(ask(gateway.public(), path, &bad("203.0.113.2")).await.0.status, 403);
}

#[tokio::test]
async fn an_address_that_comes_too_often_is_told_when_to_come_again() {
    let gateway = Gateway::start_with(|config| {
        config.public.trusted_proxies = vec!["127.0.0.1".into()];
        config.admission.address_handshakes_per_second = 3;
    })
    .await;
    let (mut attempts, mut last) = (0, None);
    eventually("to be refused", async || {
        let (answer, _) = ask_for(&gateway, "203.0.113.1").await;
        attempts += 1;
        last = (answer.status == 429).then_some(answer);
        last.is_some()
    })
    .await;
    let answer = last.expect("it was waited for");
    assert!(attempts > 3, "{attempts}");
    assert_eq!((answer.code().as_str(), (1..=3).contains(&advice(&answer))), ("address_rate", true));
    assert_eq!(ask_for(&gateway, "203.0.113.2").await.0.status, 101, "others may");
    eventually("to be let in again", async || ask_for(&gateway, "203.0.113.1").await.0.status == 101).await;
}

#[tokio::test]
async fn the_place_of_an_address_is_given_back_whatever_way_its_connection_ends() {
    for proxies in [vec![], vec!["127.0.0.1".to_owned()]] {
        let gateway = Gateway::start_with(|config| {
            config.client.address_connections_max = 1;
            config.public.trusted_proxies = proxies;
        })
        .await;
        let is_free = async |after: &str| {
            let what = format!("a place after {after}");
            eventually(&what, async || ask(gateway.public(), NATIVE, "").await.0.status == 101).await;
        };
        gateway.connect("alice").await.leave().await;
        is_free("a client that left").await;
        eventually("a socket to reset", async || {
            let (answer, raw) = ask(gateway.public(), NATIVE, "").await;
            raw.reset();
            answer.status == 101
        })
        .await;
        is_free("a reset").await;
        eventually("a token to be refused", async || {
            ask(gateway.public(), "/ws?token=nonsense", "").await.0.status == 401
        })
        .await;
        is_free("a refused token").await;
        drop(Raw::open(gateway.public()).await);
        is_free("a client that said nothing").await;
        let mut half = Raw::open(gateway.public()).await;
        drop(half.try_send("GET /ws HT").await);
        half.reset();
        is_free("half a request").await;
        eventually("nobody to be there", async || gateway.metric("clarion_connections").await == 0.0).await;
    }
}

#[tokio::test]
async fn with_too_many_connections_a_node_keeps_them_and_is_not_ready() {
    let gateway = Gateway::start_with(|config| config.client.connections_soft_max = 2).await;
    let is_ready = async |ready: bool| {
        let status = if ready { 200 } else { 503 };
        eventually("readiness", async || gateway.get("/readyz").await.status == status).await;
    };
    let one = gateway.connect("one").await;
    let two = gateway.connect("two").await;
    is_ready(true).await;
    let mut three = gateway.connect("three").await.subscribe("news").await;
    is_ready(false).await;
    let verbose = gateway.get("/readyz?verbose").await.body;
    assert!(verbose.contains("[-] connections_soft_max\n") && verbose.contains("[+] started\n"), "{verbose}");
    let path = bare_path(&gateway, "");
    assert_eq!(ask(gateway.public(), &path, "").await.0.status, 101, "who comes all the same is let in");
    gateway.metric_is("clarion_connections", 3.0).await;
    one.leave().await;
    gateway.metric_is("clarion_connections", 2.0).await;
    assert_eq!(gateway.get("/readyz").await.status, 503, "one more would be too many again");
    two.leave().await;
    is_ready(true).await;
    three.publish("news", 1).await;
    assert_eq!(three.next_publication().await.data, 1);
}
