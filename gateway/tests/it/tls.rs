//! TLS on the listeners: what is shown, what is refused, and that whoever is through notices nothing of it.

use std::time::Duration;

use clarion::config::Config;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{
    API_KEY, Authority, Client, Files, Gateway, Process, Raw, Shown, bare_path, eventually, frame, namespace,
    upgrade_request, within,
};

/// Never reached in a test.
const NEVER: Duration = Duration::from_secs(600);
/// The handshakes by TLS that came to nothing.
const REJECTED: &str = "clarion_handshakes_rejected_total{reason=\"tls\"}";
const EXPIRY: &str = "clarion_tls_cert_expiry_timestamp_seconds{listener=\"public\"}";
const REFUSED: &str = "clarion_tls_reloads_total{listener=\"public\",outcome=\"refused\"}";
const USED: &str = "clarion_tls_reloads_total{listener=\"public\",outcome=\"used\"}";

/// A gateway whose clients speak TLS.
struct Stage {
    gateway: Gateway,
    authority: Authority,
    files: Files,
    shown: Shown,
}

impl Stage {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let authority = Authority::new();
        let shown = authority.sign(2100);
        let files = Files::new(&shown);
        let gateway = Gateway::start_with(|config| {
            (config.public.tls.cert_file, config.public.tls.key_file) =
                (Some(files.cert()), Some(files.key()));
            change(config);
        })
        .await;
        Self { gateway, authority, files, shown }
    }

    /// A client of the native protocol, connected as `user`.
    async fn connect(&self, user: &str) -> Client {
        let stream = self.authority.connect(self.gateway.public()).await;
        Client::native(stream, &self.gateway.token(user)).await
    }

    /// The same with a kernel that takes little for it.
    async fn connect_narrow(&self, user: &str) -> Client {
        let stream = self.authority.connect_narrow(self.gateway.public()).await;
        Client::native(stream, &self.gateway.token(user)).await
    }

    /// Whether new clients see `shown`.
    async fn shows(&self, shown: &Shown) -> bool {
        let stream = self.authority.connect(self.gateway.public()).await;
        let seen = stream.get_ref().1.peer_certificates().expect("there is one")[0].clone();
        seen == der(shown)
    }
}

fn der(shown: &Shown) -> rustls::pki_types::CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateDer::from_pem_slice(shown.cert.as_bytes()).expect("it is PEM")
}

#[tokio::test]
async fn a_thousand_publications_come_in_order_in_both_versions() {
    let stage = Stage::start(|_| {}).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stream = TcpStream::connect(stage.gateway.public()).await.unwrap();
        let stream = stage.authority.protect(stream, None, &[version]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]), "and not h2");
        let client = Client::native(stream, &stage.gateway.token("alice")).await;
        let mut client = client.subscribe("news").await;
        client.publish("news", "from the client").await;
        assert_eq!(client.next_publication().await.data, "from the client");
        for batch in 0..10 {
            let commands: Vec<Value> = (0..100)
                .map(|index| json!({"publish": {"channel": "news", "data": batch * 100 + index}}))
                .collect();
            stage.gateway.api("batch", json!({"commands": commands})).await;
        }
        for expected in 0..1_000 {
            assert_eq!(client.next_publication().await.data, expected);
        }
        client.leave().await;
    }
    stage.gateway.metric_is("clarion_outbox_bytes", 0.0).await;
    stage.gateway.metric_is("clarion_connections", 0.0).await;
}

#[tokio::test]
async fn what_comes_with_the_request_is_not_lost() {
    let stage = Stage::start(|_| {}).await;
    let path = bare_path(&stage.gateway, "&publish=news");
    let mut sent = upgrade_request(&path, "").into_bytes();
    // More than is read of a request at once, and still one record: nothing comes after it that would wake a reader.
    for index in 0..10 {
        sent.extend_from_slice(&frame(0x81, json!([index, "x".repeat(1_400)]).to_string().as_bytes()));
    }
    let mut stream = stage.authority.connect(stage.gateway.public()).await;
    stream.write_all(&sent).await.unwrap();
    stage.gateway.metric_is("clarion_publications_received_total", 10.0).await;
}

#[tokio::test]
async fn what_is_read_goes_on_while_nothing_is_taken() {
    let stage = Stage::start(|config| {
        config.client.send_buffer_bytes = 16 << 10;
        config.client.write_timeout = NEVER;
        (config.client.ping_interval, config.client.pong_timeout) = (NEVER, NEVER / 2);
    })
    .await;
    let mut stalled = stage.connect_narrow("stalled").await.subscribe("hot").await;
    let filler = "x".repeat(60_000);
    for index in 0..8 {
        stage.gateway.api("publish", json!({"channel": "hot", "data": [index, filler]})).await;
    }
    stage.gateway.metric_is("clarion_publications_delivered_total", 8.0).await;
    assert!(stage.gateway.metric("clarion_outbox_bytes").await > 0.0);
    for id in 101..105 {
        let command = json!({"id": id, "publish": {"channel": "cold", "data": id}});
        stalled.send(command.to_string()).await;
    }
    // What it asked for waits until it has taken something, and then comes in its order.
    for index in 0..8 {
        assert_eq!(stalled.next_publication().await.data[0], index);
    }
    for id in 101..105 {
        assert_eq!(stalled.next_message().await["id"], id);
    }
    stage.gateway.metric_is("clarion_outbox_bytes", 0.0).await;
}

#[tokio::test]
async fn a_large_presence_is_drawn_and_large_messages_come_whole() {
    let stage = Stage::start(|config| {
        config.client.outbox_bytes_max = 64 << 10;
        config.client.send_buffer_bytes = 16 << 10;
        let crowd = json!({
            "presence": true, "allow_subscribe_for_client": true, "allow_publish_for_client": true,
            "allow_presence_for_client": true,
        });
        config.channel.namespaces.push(namespace("crowd", crowd));
    })
    .await;
    let mut crowd = Vec::new();
    for index in 0..300 {
        let claims = json!({"sub": format!("user-{index}"), "info": "x".repeat(1_000)});
        let stream = stage.authority.connect(stage.gateway.public()).await;
        let client = Client::native(stream, &stage.gateway.good(claims)).await;
        crowd.push(client.subscribe("crowd:a").await);
    }
    let mut asking = stage.connect_narrow("asking").await.subscribe("crowd:b").await;
    let reply = asking.call(json!({"presence": {"channel": "crowd:a"}})).await;
    assert_eq!(reply["presence"]["presence"].as_object().map(|all| all.len()), Some(300));
    // More than one record, more than the socket takes at once, and more than an outbox may hold.
    let large = "y".repeat(60_000);
    for index in 0..20 {
        crowd[0].publish("crowd:b", json!([index, large])).await;
        assert_eq!(asking.next_publication().await.data, json!([index, large]));
    }
    let larger = "z".repeat(100_000);
    let request = json!({"channel": "crowd:b", "data": larger});
    stage.gateway.api("publish", request).await;
    assert_eq!(asking.next_publication().await.data, larger.as_str());
}

#[tokio::test]
async fn a_slow_reader_is_closed_with_3008_and_others_keep_receiving() {
    let stage = Stage::start(|config| {
        config.client.send_buffer_bytes = 16 << 10;
        config.client.outbox_bytes_max = 128 << 10;
        config.client.write_timeout = NEVER;
        (config.client.ping_interval, config.client.pong_timeout) = (NEVER, NEVER / 2);
    })
    .await;
    let mut healthy = stage.connect("healthy").await.subscribe("hot").await;
    let mut slow = stage.connect_narrow("slow").await.subscribe("hot").await;
    let filler = "x".repeat(8 << 10);
    let mut index = 0;
    eventually("the slow one to be noticed", async || {
        healthy.publish("hot", json!([index, filler])).await;
        assert_eq!(healthy.next_publication().await.data[0], index);
        index += 1;
        let metrics = stage.gateway.metrics().await;
        // An outbox, the record that is on its way, and a publication.
        assert!(metrics.get("clarion_outbox_bytes") <= ((128 + 16 + 8) << 10) as f64);
        metrics.get("clarion_slow_consumers_total") == 1.0
    })
    .await;
    assert_eq!(slow.closed().await.0, 3008);
    slow.ends().await;
    stage.gateway.metric_is("clarion_outbox_bytes", 0.0).await;
    healthy.publish("hot", "after").await;
    assert_eq!(healthy.next_publication().await.data, "after");
}

#[tokio::test]
async fn hundreds_that_keep_up_spend_nothing_of_the_budget_that_one_that_stalls_exhausts() {
    const CLIENTS: usize = 300;
    let stage = Stage::start(|config| {
        config.shards = clarion::config::Auto::Fixed(1);
        config.client.send_buffer_bytes = 16 << 10;
        // What one publication is for eight of them.
        config.client.outbox_bytes_total_max = clarion::config::Auto::Fixed(64 << 10);
        config.client.write_timeout = NEVER;
        (config.client.ping_interval, config.client.pong_timeout) = (NEVER, NEVER / 2);
    })
    .await;
    let mut clients = Vec::new();
    for index in 0..CLIENTS {
        let client = stage.connect(&format!("user-{index}")).await;
        clients.push(client.subscribe("left").await.subscribe("right").await);
    }
    let stalled = stage.connect_narrow("stalled").await.subscribe("left").await;
    let mut stalled = stalled.subscribe("right").await;
    let data = "x".repeat(8 << 10);
    // Two channels in one request: what comes second comes before anybody else has had a turn.
    let publish = |channel| json!({"publish": {"channel": channel, "data": data}});
    let request = json!({"commands": [publish("left"), publish("right")]});
    eventually("the stalled one to be noticed", async || {
        stage.gateway.api("batch", request.clone()).await;
        for client in &mut clients {
            let came = [client.next_publication().await.channel, client.next_publication().await.channel];
            assert!(came.contains(&"left".into()) && came.contains(&"right".into()), "{came:?}");
        }
        stage.gateway.metric("clarion_slow_consumers_total").await > 0.0
    })
    .await;
    assert_eq!(stalled.closed().await.0, 3008);
    stage.gateway.metric_is("clarion_connections", CLIENTS as f64).await;
    assert_eq!(stage.gateway.metric("clarion_slow_consumers_total").await, 1.0);
    stage.gateway.metric_is("clarion_outbox_bytes", 0.0).await;
}

#[tokio::test]
async fn who_resets_its_connection_while_it_is_closed_holds_up_nobody_on_its_shard() {
    let stage = Stage::start(|config| {
        config.shards = clarion::config::Auto::Fixed(1);
        config.client.send_buffer_bytes = 16 << 10;
        config.client.outbox_bytes_max = 128 << 10;
        config.client.write_timeout = NEVER;
        (config.client.ping_interval, config.client.pong_timeout) = (NEVER, NEVER / 2);
    })
    .await;
    let slow = stage.connect_narrow("slow").await.subscribe("hot").await;
    let filler = "x".repeat(8 << 10);
    eventually("the slow one to be noticed", async || {
        stage.gateway.api("publish", json!({"channel": "hot", "data": filler})).await;
        stage.gateway.metric("clarion_slow_consumers_total").await == 1.0
    })
    .await;
    // What it has not read makes a reset of it.
    drop(slow);
    stage.gateway.metric_is("clarion_connections", 0.0).await;
    stage.connect("honest").await.leave().await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn who_takes_nothing_is_closed_when_the_write_timeout_is_over() {
    let stage = Stage::start(|config| {
        config.client.send_buffer_bytes = 16 << 10;
        config.client.write_timeout = Duration::from_millis(300);
        (config.client.ping_interval, config.client.pong_timeout) = (NEVER, NEVER / 2);
    })
    .await;
    let stalled = stage.connect_narrow("stalled").await.subscribe("hot").await;
    for _ in 0..8 {
        let request = json!({"channel": "hot", "data": "x".repeat(60_000)});
        stage.gateway.api("publish", request).await;
    }
    stage.gateway.metric_is("clarion_connections", 0.0).await;
    assert_eq!(stage.gateway.metric("clarion_connections_closed_total{reason=\"write_timeout\"}").await, 1.0);
    stage.gateway.metric_is("clarion_outbox_bytes", 0.0).await;
    drop(stalled);
}

#[tokio::test]
async fn a_drain_closes_with_3001_after_what_waits_and_says_that_nothing_follows() {
    let stage = Stage::start(|_| {}).await;
    let mut client = stage.connect("alice").await.subscribe("news").await;
    let large = "x".repeat(60_000);
    for index in 0..10 {
        stage.gateway.api("publish", json!({"channel": "news", "data": [index, large]})).await;
    }
    let Stage { gateway, .. } = stage;
    let hearing = async {
        for index in 0..10 {
            assert_eq!(client.next_publication().await.data[0], index);
        }
        assert_eq!(client.closed().await, (3001, "shutdown".into()));
        client.ends().await;
    };
    tokio::join!(gateway.stop(), hearing);
}

#[tokio::test]
async fn pings_are_answered_and_who_does_not_is_closed() {
    let stage = Stage::start(|config| {
        config.client.ping_interval = Duration::from_secs(1);
        config.client.pong_timeout = Duration::from_millis(900);
    })
    .await;
    let mut lively = stage.connect("lively").await.subscribe("news").await;
    let mut silent = stage.connect("silent").await;
    silent.answers_pings = false;
    let going = async {
        assert_eq!(silent.closed().await.0, 3012);
        stage.gateway.api("publish", json!({"channel": "news", "data": "still here"})).await;
    };
    let staying = async { assert_eq!(lively.next_publication().await.data, "still here") };
    tokio::join!(going, staying);
    assert!(lively.pings > 0);
    stage.gateway.metric_is("clarion_connections", 1.0).await;
}

#[tokio::test]
async fn who_does_not_speak_tls_hears_so_and_costs_nothing() {
    let stage = Stage::start(|config| config.public.header_timeout = Duration::from_millis(500)).await;
    let plain = crate::support::get(stage.gateway.public(), "/connection/websocket").await;
    assert_eq!((plain.status, plain.code().as_str()), (400, "tls"));
    assert_eq!(plain.header("retry-after"), None);
    // What begins as a handshake and is none.
    let mut garbage = TcpStream::connect(stage.gateway.public()).await.unwrap();
    garbage.write_all(&[22, 3, 1, 0, 4, 99, 0, 0, 0]).await.unwrap();
    let mut alert = Vec::new();
    within("the alert", garbage.read_to_end(&mut alert)).await.unwrap();
    assert_eq!(alert.first(), Some(&21), "{alert:?}");
    // Whoever says nothing, or half of something, is not waited for.
    let mut silent = TcpStream::connect(stage.gateway.public()).await.unwrap();
    let mut slow = TcpStream::connect(stage.gateway.public()).await.unwrap();
    slow.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    for stream in [&mut silent, &mut slow] {
        assert_eq!(within("the end", stream.read(&mut [0])).await.unwrap(), 0);
    }
    stage.gateway.metric_is(REJECTED, 4.0).await;
    assert_eq!(stage.gateway.metric("clarion_connections").await, 0.0);
    stage.connect("honest").await.leave().await;
}

#[tokio::test]
async fn who_is_refused_at_the_door_costs_no_handshake() {
    let stage = Stage::start(|config| {
        config.client.connections_max = clarion::config::Auto::Fixed(1);
    })
    .await;
    let first = stage.connect("first").await;
    let stream = TcpStream::connect(stage.gateway.public()).await.unwrap();
    assert!(stage.authority.protect(stream, None, rustls::DEFAULT_VERSIONS).await.is_err());
    let mut silent = TcpStream::connect(stage.gateway.public()).await.unwrap();
    let mut alert = Vec::new();
    within("the alert", silent.read_to_end(&mut alert)).await.unwrap();
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 80], "a fatal alert, and at once");
    let refused = "clarion_handshakes_rejected_total{reason=\"connections_max\"}";
    stage.gateway.metric_is(refused, 2.0).await;
    assert_eq!(stage.gateway.metric(REJECTED).await, 0.0, "it did not come to a handshake");
    first.leave().await;
    eventually("the place to be free", async || {
        let stream = TcpStream::connect(stage.gateway.public()).await.unwrap();
        stage.authority.protect(stream, None, rustls::DEFAULT_VERSIONS).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn f45_an_expired_certificate_refuses_the_start() {
    let expired = Authority::new().sign(2021);
    let files = Files::new(&expired);
    let (cert, key) = (files.cert(), files.key());
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let variables = [
        ("CLARION__PUBLIC__TLS__CERT_FILE", cert),
        ("CLARION__PUBLIC__TLS__KEY_FILE", key),
        ("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", crate::support::SECRET),
        ("CLARION__PUBLIC__PORT", "0"),
        ("CLARION__INTERNAL__PORT", "0"),
    ];
    for command in ["serve", "checkconfig"] {
        let mut process = Process::start(&[command], &variables);
        assert_eq!(process.ended().await.code(), Some(2), "{command}: {}", process.output());
        let said = "public.tls.cert_file: has expired: it was good until 2021-01-01T00:00:00Z";
        assert!(process.output().contains(said), "{command}: {}", process.output());
    }
}

#[tokio::test]
async fn f45_a_rotated_certificate_is_shown_to_who_comes_and_who_is_there_stays() {
    let stage = Stage::start(|_| {}).await;
    let mut early = stage.connect("early").await.subscribe("news").await;
    assert_eq!(stage.gateway.metric(EXPIRY).await, stage.shown.expires_at as f64);
    assert!(stage.shows(&stage.shown).await);
    let fresh = stage.authority.sign(2101);
    stage.files.put(&fresh);
    eventually("the new certificate to be shown", async || stage.shows(&fresh).await).await;
    assert_eq!(stage.gateway.metric(EXPIRY).await, fresh.expires_at as f64);
    assert_eq!(stage.gateway.metric(USED).await, 1.0);
    assert_eq!(stage.gateway.metric(REFUSED).await, 0.0, "between two renames the files do not fit");
    let mut late = stage.connect("late").await.subscribe("news").await;
    late.publish("news", "to both").await;
    assert_eq!(early.next_publication().await.data, "to both");
    assert_eq!(late.next_publication().await.data, "to both");
}

#[tokio::test]
async fn f45_files_that_cannot_be_used_change_nothing_and_are_counted_once() {
    let stage = Stage::start(|_| {}).await;
    let mut early = stage.connect("early").await.subscribe("news").await;
    let unfit = stage.authority.sign(2101);
    stage.files.write("key.pem", &unfit.key);
    stage.gateway.metric_is(REFUSED, 1.0).await;
    assert!(stage.shows(&stage.shown).await);
    stage.files.put(&stage.authority.sign(2021));
    stage.gateway.metric_is(REFUSED, 2.0).await;
    assert!(stage.shows(&stage.shown).await, "one that has expired is no better");
    std::fs::remove_file(stage.files.cert()).unwrap();
    stage.gateway.metric_is(REFUSED, 3.0).await;
    assert_eq!(stage.gateway.metric(EXPIRY).await, stage.shown.expires_at as f64);
    assert!(stage.shows(&stage.shown).await);
    stage.files.put(&unfit);
    eventually("the good one to be shown", async || stage.shows(&unfit).await).await;
    assert_eq!(stage.gateway.metric(REFUSED).await, 3.0);
    stage.gateway.api("publish", json!({"channel": "news", "data": "hi"})).await;
    assert_eq!(early.next_publication().await.data, "hi");
}

#[tokio::test]
async fn a_configuration_says_what_is_wrong_with_its_files() {
    let authority = Authority::new();
    let (one, other) = (authority.sign(2100), authority.sign(2100));
    let files = Files::new(&one);
    let mut config = crate::support::config();
    let mut said = |cert: &std::path::Path, key: &std::path::Path| {
        config.internal.tls.cert_file = Some(cert.into());
        config.internal.tls.key_file = Some(key.into());
        config.check_certificates().unwrap_err().to_string()
    };
    let (cert, key) = (files.cert(), files.key());
    let missing = said(&files.write("x", "").with_extension("none"), &key);
    assert!(
        missing.starts_with("internal.tls.cert_file: ") && missing.contains("cannot be read"),
        "{missing}"
    );
    let no_cert = said(&key, &key);
    assert!(no_cert.contains("internal.tls.cert_file: there is no certificate in it"), "{no_cert}");
    let no_key = said(&cert, &cert);
    assert!(no_key.contains("internal.tls.key_file: there is no private key in it"), "{no_key}");
    let unfit = said(&cert, &files.write("other.pem", &other.key));
    assert_eq!(unfit, "internal.tls.key_file: is not the key of the certificate in cert_file");
}

#[tokio::test]
async fn a_proxy_has_to_say_that_its_client_came_with_tls() {
    let gateway = Gateway::start_with(|config| {
        config.public.trusted_proxies = vec!["127.0.0.0/8".into()];
        config.public.tls.required = true;
    })
    .await;
    let status = async |header: &str| {
        let mut raw = Raw::open(gateway.public()).await;
        let path = bare_path(&gateway, "");
        raw.send(upgrade_request(&path, header)).await;
        raw.answer().await
    };
    for header in
        ["", "x-forwarded-proto: http\r\n", "x-forwarded-proto: https, http\r\n", "x-forwarded-proto: \r\n"]
    {
        let answer = status(header).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "tls_required"), "{header}");
    }
    for header in ["x-forwarded-proto: https\r\n", "X-Forwarded-Proto: WSS\r\n"] {
        assert_eq!(status(header).await.status, 101, "{header}");
    }
    gateway.metric_is("clarion_handshakes_rejected_total{reason=\"tls_required\"}", 4.0).await;
}

#[tokio::test]
async fn the_word_of_somebody_else_on_tls_is_not_taken() {
    let gateway = Gateway::start_with(|config| {
        config.public.trusted_proxies = vec!["192.0.2.1".into()];
        config.public.tls.required = true;
    })
    .await;
    let mut raw = Raw::open(gateway.public()).await;
    let path = bare_path(&gateway, "");
    raw.send(upgrade_request(&path, "x-forwarded-proto: https\r\n")).await;
    assert_eq!(raw.answer().await.status, 403);
}

#[tokio::test]
async fn tls_that_nobody_could_use_is_refused() {
    let refusal = |change: fn(&mut Config)| {
        let mut config = crate::support::config();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    };
    let said = refusal(|config| config.public.tls.required = true);
    assert!(said.starts_with("public.tls.required: would refuse everybody"), "{said}");
    let said = refusal(|config| config.public.tls.cert_file = Some("a.pem".into()));
    assert_eq!(said, "public.tls.key_file: is missing: cert_file is given");
    let said = refusal(|config| config.internal.tls.key_file = Some("a.pem".into()));
    assert_eq!(said, "internal.tls.cert_file: is missing: key_file is given");
    let said = refusal(|config| config.internal.tls.client_ca_file = Some("a.pem".into()));
    assert!(said.starts_with("internal.tls.client_ca_file: is given without"), "{said}");
}

#[tokio::test]
async fn the_internal_listener_asks_for_a_certificate_and_our_own_commands_show_one() {
    let authority = Authority::new();
    let shown = authority.sign(2100);
    let files = Files::new(&shown);
    let ca = files.write("ca.pem", authority.pem());
    let (cert, key) = (files.cert(), files.key());
    let texts = [&cert, &key, &ca].map(|path| path.to_str().unwrap().to_owned());
    let keys = json!([{"key": API_KEY}]).to_string();
    let mut variables = vec![
        ("CLARION__INTERNAL__TLS__CERT_FILE", texts[0].as_str()),
        ("CLARION__INTERNAL__TLS__KEY_FILE", texts[1].as_str()),
        ("CLARION__INTERNAL__TLS__CLIENT_CA_FILE", texts[2].as_str()),
        ("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", crate::support::SECRET),
        ("CLARION__API__KEYS", keys.as_str()),
        ("CLARION__PUBLIC__PORT", "0"),
        ("CLARION__INTERNAL__PORT", "0"),
        ("CLARION__DRAIN__DELAY", "0s"),
    ];
    let mut node = Process::start(&["serve"], &variables);
    let (_, internal) = node.addresses().await;
    let answer = authority.get(internal, Some(&shown), "/livez").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(authority.get(internal, None, "/livez").await.is_err());
    let stranger = Authority::new().sign(2100);
    assert!(authority.get(internal, Some(&stranger), "/livez").await.is_err());
    let port = internal.port().to_string();
    variables.retain(|(name, _)| *name != "CLARION__INTERNAL__PORT");
    variables.push(("CLARION__INTERNAL__PORT", &port));
    for command in [&["health"][..], &["health", "--ready"], &["info"], &["pub", "news", "hi"]] {
        let mut process = Process::start(command, &variables);
        assert_eq!(process.ended().await.code(), Some(0), "{command:?}: {}", process.output());
    }
    // What is on the disk says nothing about the node: it lives, but is not who would get the API key.
    files.put(&authority.sign(2100));
    let mut health = Process::start(&["health"], &variables);
    assert_eq!(health.ended().await.code(), Some(0), "{}", health.output());
}
