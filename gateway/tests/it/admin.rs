//! What the people ask of a node who run it: which lines it logs, and where its time goes.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::{
    API_KEY, Answer, Client, Process, SECRET, TempDirectory, config, eventually, get, post, request, sign,
};

const JSON: (&str, &str) = ("content-type", "application/json");
const LEVEL: &str = "/admin/log-level";
const CLOSED: &str = r#""message":"connection closed""#;

/// A node on its own, and what is asked of it.
struct Node {
    process: Process,
    public: SocketAddr,
    internal: SocketAddr,
}

impl Node {
    /// With keys called `ops`, who may do everything, and `shop`, who may publish; the rest as `variables` say.
    async fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let keys =
            json!([{"name": "ops", "key": API_KEY}, {"name": "shop", "key": "shop", "scopes": ["publish"]}]);
        let keys = keys.to_string();
        let all = [
            ("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", SECRET),
            ("CLARION__API__KEYS", &keys),
            ("CLARION__PUBLIC__ADDRESS", "127.0.0.1"),
            ("CLARION__PUBLIC__PORT", "0"),
            ("CLARION__INTERNAL__PORT", "0"),
            ("CLARION__DRAIN__DELAY", "0s"),
            ("CLARION__DRAIN__WINDOW", "0s"),
            ("CLARION__CHANNEL__WITHOUT_NAMESPACE__ALLOW_SUBSCRIBE_FOR_CLIENT", "true"),
        ];
        let mut process = Process::start(&[&["serve"], arguments].concat(), &[&all[..], variables].concat());
        let (public, internal) = process.addresses().await;
        Self { process, public, internal }
    }

    async fn ask(&self, line: &str, key: &str, body: &str) -> Answer {
        request(self.internal, line, &[("x-api-key", key), JSON], body).await
    }

    /// What is in force.
    async fn level(&self) -> Value {
        let answer = self.ask(&format!("GET {LEVEL}"), API_KEY, "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).expect("the answer is JSON")
    }

    /// Changes it, and answers what is in force then.
    async fn change(&self, body: Value) -> Value {
        let answer = self.ask(&format!("PUT {LEVEL}"), API_KEY, &body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).expect("the answer is JSON")
    }

    async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.public).await.expect("it serves");
        Client::native(stream, &sign(&config(), "bob")).await
    }

    /// How many lines of the log contain `text`.
    fn count(&self, text: &str) -> usize {
        self.process.output().lines().filter(|line| line.contains(text)).count()
    }

    async fn has_logged(&self, text: &str, times: usize) {
        eventually(text, async || self.count(text) >= times).await;
        assert_eq!(self.count(text), times, "{}", self.process.output());
    }

    async fn metric(&self, name: &str) -> f64 {
        let metrics = get(self.internal, "/metrics").await.body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).expect("there is such a metric")
    }

    async fn stop(mut self) {
        self.process.send_signal(Signal::TERM);
        assert_eq!(self.process.ended().await.code(), Some(0));
    }
}

#[tokio::test]
async fn the_level_of_the_log_is_changed_while_the_node_serves() {
    let node = Node::start(&[], &[]).await;
    assert_eq!(node.level().await, json!({"level": "info", "configured": "info"}));
    node.connect().await.leave().await;
    let part = node.change(json!({"level": "info,clarion::shard=debug"})).await;
    assert_eq!(part, json!({"level": "info,clarion::shard=debug", "configured": "info"}));
    node.connect().await.leave().await;
    node.has_logged(CLOSED, 1).await;
    node.change(json!({"level": "warn"})).await;
    node.connect().await.leave().await;
    node.change(json!({"level": "trace", "for": "10m"})).await;
    let level = node.level().await;
    assert_eq!((&level["level"], &level["configured"]), (&json!("trace"), &json!("info")));
    assert!(level["for"].as_str().is_some_and(|time| time.starts_with("9m")), "{level}");
    node.connect().await.leave().await;
    node.has_logged(CLOSED, 2).await;
    let changed = r#""message":"the level of the log is changed""#;
    node.has_logged(changed, 3).await;
    let output = node.process.output();
    for line in output.lines().filter(|line| line.contains(changed)) {
        assert!(line.contains(r#""api.key":"ops""#) && line.contains(r#""level":"INFO""#), "{line}");
    }
    assert!(!output.contains(API_KEY), "{output}");
    assert_eq!(node.metric(r#"clarion_api_requests_total{method="log_level",outcome="ok"}"#).await, 5.0);
    node.stop().await;
}

#[tokio::test]
async fn a_level_for_some_time_goes_back_by_itself() {
    let node = Node::start(&[], &[]).await;
    node.change(json!({"level": "debug", "for": "1s"})).await;
    let as_configured = json!({"level": "info", "configured": "info"});
    eventually("the level of the configuration", async || node.level().await == as_configured).await;
    node.stop().await;
}

#[tokio::test]
async fn who_may_not_change_the_level_and_what_is_no_level_is_told() {
    let node = Node::start(&[], &[]).await;
    let debug = json!({"level": "debug"}).to_string();
    let [get, put] = ["GET", "PUT"].map(|method| format!("{method} {LEVEL}"));
    for line in [&get, &put] {
        assert_eq!(node.ask(line, "wrong", &debug).await.status, 401);
        assert_eq!(node.ask(line, "shop", &debug).await.status, 403);
        assert_eq!(node.ask(&format!("{line}?api_key={API_KEY}"), "", &debug).await.status, 401);
    }
    let other = node.ask(&format!("POST {LEVEL}"), API_KEY, &debug).await;
    assert_eq!((other.status, other.header("allow")), (405, Some("GET, PUT")));
    let text = request(node.internal, &put, &[("x-api-key", API_KEY)], &debug).await;
    assert_eq!(text.status, 415);
    for (body, part) in [
        (json!({"level": "verbose"}), "`verbose` is no level"),
        (json!({"level": "debug,hyper=trace"}), "`hyper` is no part of the gateway"),
        (json!({"level": "debug", "for": "0s"}), "`for` must be a time from 1s to 24h"),
        (json!({"level": "debug", "for": "25h"}), "`for` must be a time from 1s to 24h"),
        (json!({"level": "debug", "until": "10m"}), "unknown field `until`; known are `level` and `for`"),
        (json!({"for": "10m"}), "`level` is missing"),
        (json!({"level": 5}), "`level` has a value of the wrong type"),
    ] {
        let answer = node.ask(&put, API_KEY, &body.to_string()).await;
        assert_eq!(answer.status, 400, "{body}");
        let problem: Value = serde_json::from_str(&answer.body).expect("it is a problem");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(part), "{body}: {detail}");
    }
    assert_eq!(node.level().await, json!({"level": "info", "configured": "info"}));
    node.stop().await;
}

#[tokio::test]
async fn sighup_reads_the_level_again_and_touches_no_connection() {
    let directory = TempDirectory::new("sighup");
    let file = directory.path("clarion.yaml");
    let write = |text: &str| fs::write(&file, text).expect("the directory is writable");
    write("log: {level: info, format: json}");
    let node = Node::start(&["--config", file.to_str().expect("it is text")], &[]).await;
    let mut client = node.connect().await.subscribe("news").await;
    node.change(json!({"level": "trace"})).await;
    write("log: {level: debug, format: json}");
    node.process.send_signal(Signal::HUP);
    let as_configured = json!({"level": "debug", "configured": "debug"});
    eventually("the level of the file", async || node.level().await == as_configured).await;
    write("log: {level: loud}");
    node.process.send_signal(Signal::HUP);
    node.has_logged("the configuration cannot be read again; the level of the log stays", 1).await;
    assert_eq!(node.level().await, as_configured);
    let body = json!({"channel": "news", "data": 1}).to_string();
    assert_eq!(post(node.internal, "/api/publish", &[("x-api-key", API_KEY)], &body).await.status, 200);
    assert_eq!(client.next_publication().await.data, 1);
    client.leave().await;
    node.stop().await;
}

#[tokio::test]
async fn what_is_said_too_often_is_left_out_and_counted() {
    let node = Node::start(&[], &[("CLARION__LOG__BURST", "3")]).await;
    for _ in 0..10 {
        node.change(json!({"level": "info"})).await;
    }
    node.has_logged("the level of the log is changed", 3).await;
    assert_eq!(node.metric("clarion_log_lines_suppressed_total").await, 7.0);
    assert_eq!(node.metric("clarion_logs_dropped_total").await, 0.0);
    node.stop().await;
}

const PROFILE: &str = "GET /debug/pprof/profile";
/// Far more than a refusal takes.
const A_MOMENT: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_profile_shows_what_a_busy_node_does_and_it_serves_meanwhile() {
    let node = Node::start(&[], &[("CLARION__DEBUG__PPROF", "true")]).await;
    let mut client = node.connect().await.subscribe("news").await;
    let mut publishing = JoinSet::new();
    let internal = node.internal;
    publishing.spawn(async move {
        let body = json!({"channel": "busy", "data": 1}).to_string();
        while post(internal, "/api/publish", &[("x-api-key", API_KEY)], &body).await.status == 200 {}
    });
    let line = format!("{PROFILE}?seconds=2");
    let profiling = node.ask(&line, API_KEY, "");
    let meanwhile = async {
        let body = json!({"channel": "news", "data": 1}).to_string();
        assert_eq!(post(internal, "/api/publish", &[("x-api-key", API_KEY)], &body).await.status, 200);
        assert_eq!(client.next_publication().await.data, 1);
    };
    let (profile, ()) = tokio::join!(profiling, meanwhile);
    assert_eq!(profile.status, 200, "{}", profile.body);
    assert_eq!(profile.header("content-type"), Some("application/octet-stream"));
    for name in ["clarion::server::", "tokio::runtime::", "backbone", "nanoseconds"] {
        assert!(profile.body.contains(name), "{name}");
    }
    publishing.shutdown().await;
    client.leave().await;
    node.stop().await;
}

#[tokio::test]
async fn a_profile_wants_a_key_and_seconds_within_bounds_and_is_off_by_default() {
    let node = Node::start(&[], &[("CLARION__DEBUG__PPROF", "true")]).await;
    assert_eq!(node.ask(PROFILE, "wrong", "").await.status, 401);
    assert_eq!(node.ask(PROFILE, "shop", "").await.status, 403);
    for seconds in ["0", "61", "1.5", "-1", "", "all"] {
        let answer = node.ask(&format!("{PROFILE}?seconds={seconds}"), API_KEY, "").await;
        assert_eq!(answer.status, 400, "{seconds}");
        assert!(answer.body.contains("`seconds` must be"), "{}", answer.body);
    }
    node.stop().await;
    let node = Node::start(&[], &[]).await;
    assert_eq!(node.ask(PROFILE, API_KEY, "").await.status, 404);
    node.stop().await;
}

#[tokio::test]
async fn profiles_are_one_at_a_time_and_who_leaves_does_not_keep_it() {
    let node = Node::start(&[], &[("CLARION__DEBUG__PPROF", "true")]).await;
    let line = format!("{PROFILE}?seconds=60");
    // Either it is refused at once, or it is under way when its client leaves.
    let ask = async || tokio::time::timeout(A_MOMENT, node.ask(&line, API_KEY, "")).await;
    let long = async {
        // The other may have been first.
        loop {
            let answer = node.ask(&line, API_KEY, "").await;
            if answer.status != 409 {
                break format!("{} {}", answer.status, answer.body);
            }
        }
    };
    let other =
        eventually("another to be refused", async || ask().await.is_ok_and(|answer| answer.status == 409));
    tokio::select! {
        answer = long => panic!("nobody waits for a minute: {answer}"),
        () = other => {}
    }
    eventually("the next one to be taken", async || ask().await.is_err()).await;
    node.stop().await;
}
