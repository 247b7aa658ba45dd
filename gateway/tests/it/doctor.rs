//! `clarion doctor` on a machine and before a Redis that are not as they should be.

use serde_json::Value;

use crate::support::{Process, Proxy, SECRET, Server, documented_redis_user};

/// Must not be seen anywhere.
const PASSWORD: &str = "canary-9cQ2vT7xLw4mZ8pR";
const API_KEY: &str = "canary-5e884898da28047151d0e56f8dc6";

/// All is well with it.
const GOOD: [(&str, &str); 3] = [
    ("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", SECRET),
    ("CLARION__CLIENT__ALLOWED_ORIGINS", r#"["https://app.example.com"]"#),
    ("CLARION__API__KEYS", r#"["canary-5e884898da28047151d0e56f8dc6"]"#),
];

/// What the doctor said.
struct Report {
    code: Option<i32>,
    json: Value,
}

impl Report {
    /// Calls the doctor under `limits`, with `GOOD` and further `variables`.
    async fn of(limits: &[&str], arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let arguments = [&["doctor", "--output", "json"], arguments].concat();
        let mut process = Process::start_limited(limits, &arguments, &[&GOOD, variables].concat());
        let code = process.ended().await.code();
        let output = process.output();
        for secret in [SECRET, PASSWORD, API_KEY] {
            assert!(!output.contains(secret), "{output}");
        }
        Self { code, json: serde_json::from_str(&process.stdout()).expect("it is JSON") }
    }

    /// That of a node that shares `server`.
    async fn before(server: &Server, variables: &[(&str, &str)]) -> Self {
        let redis =
            [("CLARION__BROKER__TYPE", "redis"), ("CLARION__BROKER__REDIS__ADDRESS", server.address())];
        Self::of(&[], &[], &[&redis, variables].concat()).await
    }

    /// Asserts the level of a line, and that it holds `words`.
    #[track_caller]
    fn says(&self, name: &str, level: &str, words: &[&str]) {
        let findings = self.json["findings"].as_array().expect("there are findings");
        let finding = findings.iter().find(|finding| finding["name"] == name);
        let finding = finding.unwrap_or_else(|| panic!("no {name} in {}", self.json));
        assert_eq!(finding["level"], level, "{finding}");
        for word in words {
            assert!(finding.to_string().contains(word), "{finding} lacks {word}");
        }
        let is_bad = level == "problem" || level == "warning";
        assert_eq!(
            finding["remedies"].as_array().is_some_and(|remedies| !remedies.is_empty()),
            is_bad,
            "{finding}"
        );
    }
}

#[tokio::test]
async fn a_node_with_which_all_is_well_has_no_problem() {
    let report = Report::of(&["--nofile=20000:20000"], &["--grace", "35s"], &[]).await;
    assert_eq!((report.code, &report.json["ok"]), (Some(0), &true.into()), "{}", report.json);
    for name in
        ["open_files", "clock", "origins", "insecure", "token_keys", "api_keys", "ping", "drain", "redis"]
    {
        report.says(name, "ok", &[]);
    }
}

#[tokio::test]
async fn too_few_open_files_are_a_problem_that_says_how_many() {
    let wanted = ("CLARION__CLIENT__CONNECTIONS_MAX", "5000");
    let report = Report::of(&["--nofile=256:1024"], &[], &[wanted]).await;
    assert_eq!(report.code, Some(1), "{}", report.json);
    report.says("open_files", "problem", &["limit 1024 (now 256)", "LimitNOFILE=6024"]);
    let report = Report::of(&["--nofile=256:20000"], &[], &[wanted]).await;
    report.says("open_files", "ok", &["limit 20000 (now 256)"]);
}

#[tokio::test]
async fn a_limit_of_memory_counts() {
    let outboxes = ("CLARION__CLIENT__OUTBOX_BYTES_TOTAL_MAX", "3000000000");
    let report = Report::of(&["--as=4294967296"], &[], &[outboxes]).await;
    report.says("memory", "warning", &["4096 MiB for this process, 2862 MiB"]);
}

#[tokio::test]
async fn the_grace_of_the_platform_comes_from_a_variable_or_an_argument() {
    let variable = [("CLARION_TERMINATION_GRACE", "30")];
    let report = Report::of(&[], &[], &variable).await;
    assert_eq!(report.code, Some(1));
    report.says("drain", "problem", &["terminationGracePeriodSeconds: 35"]);
    Report::of(&[], &["--grace", "35s"], &variable).await.says("drain", "ok", &[]);
    Report::of(&[], &[], &[]).await.says("drain", "unknown", &["--grace"]);
    let report = Report::of(&[], &["--proxy-idle-timeout", "20s"], &[]).await;
    report.says("ping", "problem", &["client.ping_interval: 10s"]);
}

#[tokio::test]
async fn a_configuration_that_is_bad_exits_with_2_and_is_not_looked_at() {
    let report = Report::of(&[], &[], &[("CLARION__PUBLIC__PORT", "eight")]).await;
    assert_eq!((report.code, &report.json["errors"][0]["path"]), (Some(2), &"public.port".into()));
    let mut process = Process::start(&["doctor"], &[]);
    assert_eq!(process.ended().await.code(), Some(2));
    assert!(process.output().contains("error: client.token.hmac_secret_key"), "{}", process.output());
    assert_eq!(process.stdout(), "");
}

#[tokio::test]
async fn people_get_lines_without_colours_where_there_is_no_terminal() {
    let mut process = Process::start(&["doctor", "--grace", "1s"], &GOOD);
    assert_eq!(process.ended().await.code(), Some(1));
    let output = process.stdout();
    assert!(output.contains("\nproblem  drain "), "{output}");
    assert!(output.contains("> pod: terminationGracePeriodSeconds: 35\n"), "{output}");
    assert!(!output.contains('\x1b'), "{output}");
}

#[tokio::test]
async fn s62_a_redis_as_it_comes_is_warned_about_and_can_be_used() {
    let server = Server::start(&[]);
    let report = Report::before(&server, &[]).await;
    assert_eq!(report.code, Some(0), "{}", report.json);
    report.says("redis", "ok", &[server.address()]);
    report.says("redis_version", "ok", &[]);
    report.says("redis_role", "ok", &["master"]);
    report.says("redis_rights", "ok", &[]);
    report.says("redis_user", "warning", &["default: +@all", "broker.redis.username: clarion"]);
    report.says("redis_subscriber_limit", "ok", &["33554432 at once, 8388608 for 60s"]);
    report.says("redis_eviction", "ok", &["noeviction"]);
    report.says("redis_memory", "warning", &["no limit"]);
    report.says("redis_persistence", "warning", &["appendonly yes"]);
    report.says("redis_clock", "ok", &[]);
}

#[tokio::test]
async fn settings_of_redis_that_lose_data_or_subscribers() {
    let options = ["--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru"];
    let limit = ["--client-output-buffer-limit", "pubsub 1mb 512kb 10"];
    let server = Server::start(&[&options[..], &limit].concat());
    let report = Report::before(&server, &[]).await;
    assert_eq!(report.code, Some(1));
    report.says("redis_eviction", "problem", &["CONFIG SET maxmemory-policy noeviction"]);
    report.says("redis_memory", "ok", &["of 8388608 bytes"]);
    report.says("redis_subscriber_limit", "warning", &["1048576 at once, 524288 for 10s"]);
    let server = Server::start(&["--appendonly", "yes", "--dir", env!("CARGO_TARGET_TMPDIR")]);
    Report::before(&server, &[]).await.says("redis_persistence", "ok", &["appendonly yes"]);
    let server = Server::start(&["--save", "3600 1"]);
    Report::before(&server, &[]).await.says("redis_persistence", "ok", &["snapshots", "3600 1"]);
}

#[tokio::test]
async fn the_user_of_the_documentation_is_good_and_may_not_look_everywhere() {
    let server = Server::start(&[]);
    server.ask::<()>("", &documented_redis_user(PASSWORD)).await;
    let access =
        [("CLARION__BROKER__REDIS__USERNAME", "clarion"), ("CLARION__BROKER__REDIS__PASSWORD", PASSWORD)];
    let report = Report::before(&server, &access).await;
    assert_eq!(report.code, Some(0), "{}", report.json);
    report.says("redis_rights", "ok", &[]);
    report.says("redis_user", "ok", &["may not do everything"]);
    report.says("redis_subscriber_limit", "unknown", &["not allowed to look"]);
    report.says("redis_persistence", "unknown", &["not allowed to look"]);
    // What INFO and TIME say needs no further right.
    report.says("redis_eviction", "ok", &["noeviction"]);
    report.says("redis_memory", "warning", &["no limit"]);
    report.says("redis_clock", "ok", &[]);
    report.says("redis_password", "ok", &[]);
    server.ask::<()>("", "ACL SETUSER clarion -xadd -publish").await;
    let report = Report::before(&server, &access).await;
    assert_eq!(report.code, Some(1));
    report.says("redis_rights", "problem", &["missing: XADD, PUBLISH", "+xadd +publish"]);
    server.ask::<()>("", "ACL SETUSER clarion -info").await;
    let report = Report::before(&server, &access).await;
    report.says("redis_eviction", "unknown", &["not allowed to look"]);
    report.says("redis_memory", "unknown", &["not allowed to look"]);
}

#[tokio::test]
async fn a_replica_is_a_problem_that_names_the_master() {
    let server = Server::start(&["--replicaof", "127.0.0.1", "1"]);
    let report = Report::before(&server, &[]).await;
    assert_eq!(report.code, Some(1));
    report.says("redis_role", "problem", &["broker.redis.address: redis://127.0.0.1:1"]);
    report.says("redis_rights", "unknown", &[]);
}

#[tokio::test]
async fn a_redis_that_is_away_or_refuses_us_is_one_line() {
    let server = Server::start(&["--requirepass", "right"]);
    let password = ("CLARION__BROKER__REDIS__PASSWORD", PASSWORD);
    let report = Report::before(&server, &[password]).await;
    assert_eq!(report.code, Some(1));
    report.says("redis", "problem", &["refuses the user or the password"]);
    let target = server.address().trim_start_matches("redis://").parse().expect("it is an address");
    let proxy = Proxy::start(target).await;
    proxy.cut();
    let address = format!("redis://{}", proxy.address());
    let report = Report::before(&server, &[("CLARION__BROKER__REDIS__ADDRESS", &address)]).await;
    assert_eq!(report.code, Some(1));
    report.says("redis", "problem", &["cannot be reached", "PING", "NetworkPolicy"]);
}
