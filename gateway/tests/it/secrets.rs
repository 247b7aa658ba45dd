//! What must not be seen: tokens and payloads, in anything that the node writes or answers.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{
    Collector, Process, Raw, SECRET, Server, TempDirectory, config, encode, eventually, forge, get, now,
    sign_claims, upgrade_request,
};

const CANARY: &str = "LEAKCANARY";
const API_KEY: &str = "LEAKCANARY-api-key-of-the-node";

/// A node that writes everything it ever would.
fn talkative() -> Process {
    Process::start(
        &["serve"],
        &[
            ("CLARION__LOG__LEVEL", "trace"),
            ("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", SECRET),
            ("CLARION__API__KEYS", &json!([API_KEY]).to_string()),
            ("CLARION__PUBLIC__ADDRESS", "127.0.0.1"),
            ("CLARION__PUBLIC__PORT", "0"),
            ("CLARION__INTERNAL__PORT", "0"),
            ("CLARION__CHANNEL__WITHOUT_NAMESPACE__ALLOW_SUBSCRIBE_FOR_CLIENT", "true"),
            ("CLARION__CHANNEL__WITHOUT_NAMESPACE__ALLOW_PUBLISH_FOR_CLIENT", "true"),
        ],
    )
}

fn assert_clean(what: &str, text: &str) {
    let at = text.find(CANARY).or_else(|| text.find(&encode(CANARY)));
    assert_eq!(at, None, "{what}: {text}");
}

#[tokio::test]
async fn bad_tokens_are_seen_nowhere() {
    let mut process = talkative();
    let (public, internal) = process.addresses().await;
    let exp = now() + 60;
    let tokens = [
        format!("{CANARY}-token"),
        format!("{CANARY}.{CANARY}.{CANARY}"),
        forge(&json!({"alg": "HS256", "kid": format!("{CANARY}!")}), &format!(r#"{{"exp":{exp}}}"#), SECRET),
        forge(&json!({"alg": CANARY}), "{}", SECRET),
        forge(&json!({"alg": "HS256"}), &format!(r#"{{"sub":"{CANARY}\n","exp":{exp}}}"#), SECRET),
        forge(&json!({"alg": "HS256"}), &format!(r#"{{"sub":"{CANARY}","exp":1}}"#), SECRET),
        forge(&json!({"alg": "HS256"}), &format!(r#"{{"sub":"{CANARY}","exp":{exp}}}"#), CANARY),
    ];
    for token in &tokens {
        for (path, headers) in [
            (format!("/connection/websocket?token={token}"), String::new()),
            (format!("/ws?token={token}&channels={CANARY}"), String::new()),
            ("/ws".into(), format!("authorization: Bearer {token}\r\n")),
            ("/ws".into(), format!("sec-websocket-protocol: bearer.{token}\r\n")),
            (format!("/ws?token={token}&token={token}"), String::new()),
        ] {
            let mut raw = Raw::open(public).await;
            raw.send(upgrade_request(&path, &headers)).await;
            let answer = raw.answer().await;
            assert!(answer.status == 401 || answer.status == 400, "{}", answer.head);
            assert_clean("refusal", &format!("{answer:?}"));
        }
        let mut raw = Raw::open(public).await.upgrade("/connection/websocket").await;
        raw.send_text(&json!({"id": 1, "connect": {"token": token}}).to_string()).await;
        let close = raw.next_frame().await.expect("it is told why");
        assert_clean("close", &String::from_utf8_lossy(&close.payload));
    }
    assert_clean("metrics", &get(internal, "/metrics").await.body);
    assert_clean("logs", &process.output());
    process.send_signal(rustix::process::Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(0));
    assert_clean("logs", &process.output());
}

#[tokio::test]
async fn good_tokens_payloads_and_keys_are_not_written() {
    let mut process = talkative();
    let (public, internal) = process.addresses().await;
    let claims = json!({"sub": format!("{CANARY}-user"), "info": {"name": CANARY}, "exp": now() + 60});
    let token = sign_claims(&config(), &claims);
    let path = format!("/ws?token={token}&channels={CANARY}-channel");
    let mut raw = Raw::open(public).await.upgrade(&path).await;
    raw.next_json().await;
    let publish = json!({"publish": {"channel": format!("{CANARY}-channel"), "data": CANARY}});
    raw.send_text(&publish.to_string()).await;
    assert!(raw.next_json().await["push"]["pub"].is_object());
    let body = json!({"channel": format!("{CANARY}-channel"), "data": CANARY}).to_string();
    let answer = crate::support::post(internal, "/api/publish", &[("x-api-key", API_KEY)], &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_clean("answer of the API", &format!("{answer:?}"));
    raw.next_json().await;
    for (header, key) in
        [("x-api-key", format!("{CANARY}-wrong")), ("authorization", format!("apikey {CANARY}"))]
    {
        let answer = crate::support::post(internal, "/api/publish", &[(header, &key)], &body).await;
        assert_eq!(answer.status, 401);
        assert_clean("refusal of the API", &format!("{answer:?}"));
    }
    raw.send_frame(0x88, [&1000u16.to_be_bytes()[..], CANARY.as_bytes()].concat()).await;
    raw.rest().await;
    assert_clean("metrics", &get(internal, "/metrics").await.body);
    process.send_signal(rustix::process::Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(0));
    let output = process.output();
    assert!(output.contains("connection closed"), "the node writes at `trace`: {output}");
    assert_clean("logs", &output);
}

/// All that Redis is told, as it says itself. Ends with the value.
struct Monitor {
    told: Arc<Mutex<Vec<u8>>>,
    listening: tokio::task::JoinHandle<()>,
}

impl Monitor {
    async fn start(server: &Server, password: &str) -> Self {
        let address = server.address().trim_start_matches("redis://");
        let mut stream = TcpStream::connect(address).await.expect("it runs");
        stream.write_all(format!("AUTH {password}\r\nMONITOR\r\n").as_bytes()).await.expect("it reads");
        let told = Arc::<Mutex<Vec<u8>>>::default();
        let heard = Arc::clone(&told);
        let listening = tokio::spawn(async move {
            let mut piece = [0; 4096];
            while let Ok(bytes @ 1..) = stream.read(&mut piece).await {
                heard.lock().extend_from_slice(&piece[..bytes]);
            }
        });
        let monitor = Self { told, listening };
        eventually("Redis to tell what it is told", async || monitor.text().matches("+OK").count() == 2)
            .await;
        monitor
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.told.lock()).into_owned()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Row S-38 of the security checklist: with everything switched on that writes or sends.
#[tokio::test]
async fn s38_no_secret_leaves_the_node_by_logs_metrics_traces_redis_or_the_process_table() {
    const PASSWORD: &str = "LEAKCANARY-password-of-redis";
    const KEY: &str = "LEAKCANARY-key-of-the-signature-of-tokens";
    const PAYLOAD: &str = "LEAKCANARY-payload";
    let server = Server::start(&["--requirepass", PASSWORD]);
    let monitor = Monitor::start(&server, PASSWORD).await;
    let collector = Collector::start().await;
    let files = TempDirectory::new("secrets");
    let file = |name: &str, content: &str| {
        std::fs::write(files.path(name), content).expect("it is ours");
        files.file(name)
    };
    let keys = json!([{"name": "shop", "key_file": file("api.key", API_KEY)}]).to_string();
    let mut process = Process::start(
        &["serve"],
        &[
            ("CLARION__LOG__LEVEL", "trace"),
            ("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY_FILE", &file("token.key", KEY)),
            ("CLARION__API__KEYS", &keys),
            ("CLARION__PUBLIC__PORT", "0"),
            ("CLARION__INTERNAL__PORT", "0"),
            ("CLARION__DRAIN__DELAY", "0s"),
            ("CLARION__BROKER__TYPE", "redis"),
            ("CLARION__BROKER__REDIS__ADDRESS", server.address()),
            ("CLARION__BROKER__REDIS__PASSWORD_FILE", &file("redis.password", PASSWORD)),
            ("CLARION__OTLP__ENDPOINT", &collector.endpoint()),
            ("CLARION__OTLP__SAMPLE_RATIO", "1"),
            (
                "CLARION__CHANNEL__NAMESPACES",
                r#"[{"name": "ns", "allow_subscribe_for_client": true, "allow_publish_for_client": true,
                    "presence": true, "join_leave": true, "history_size": 9, "history_ttl": "60s"}]"#,
            ),
        ],
    );
    let (public, internal) = process.addresses().await;
    let token = forge(&json!({"alg": "HS256"}), &format!(r#"{{"sub":"ann","exp":{}}}"#, now() + 60), KEY);
    let mut raw = Raw::open(public).await.upgrade(&format!("/ws?token={token}&channels=ns:a")).await;
    raw.next_json().await;
    raw.send_text(&json!({"publish": {"channel": "ns:a", "data": PAYLOAD}}).to_string()).await;
    assert!(raw.next_json().await["push"]["pub"].is_object());
    let mut native = Raw::open(public).await.upgrade("/connection/websocket").await;
    native.send_text(&json!({"id": 1, "connect": {"token": token}}).to_string()).await;
    native.next_json().await;
    let body = json!({"channel": "ns:a", "data": PAYLOAD}).to_string();
    for path in ["/api/publish", "/api/publish?api_key=LEAKCANARY-in-the-query"] {
        let answer = crate::support::post(internal, path, &[("x-api-key", API_KEY)], &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    collector.has(3).await;
    let table = ["cmdline", "environ"]
        .map(|name| std::fs::read_to_string(format!("/proc/{}/{name}", process.id())).expect("it runs"));
    assert_clean("process table", &table.concat());
    assert_clean("metrics", &get(internal, "/metrics").await.body);
    process.send_signal(rustix::process::Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(0));

    let told = monitor.text();
    assert!(told.contains(PAYLOAD), "what was published is what goes to Redis: {told}");
    for secret in [PASSWORD, KEY, API_KEY, &token, token.rsplit('.').next().expect("it has a signature")] {
        assert!(!told.contains(secret), "Redis: {told}");
        assert!(!collector.has_seen(secret));
        assert!(!process.output().contains(secret));
    }
    assert!(!collector.has_seen(CANARY) && !collector.has_seen(&encode(CANARY)));
    assert_clean("logs", &process.output());
}
