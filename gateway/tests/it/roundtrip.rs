//! `clarion test`: the whole way of a publication, and what is said where it ends.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{API_KEY, Gateway, Process, Redis, SECRET, config, namespace, sign};

/// Must not be seen anywhere.
const WRONG: &str = "canary-5e884898da28047151d0e56f8dc6292";

/// What a command said, in which there is no secret.
pub(super) struct Report {
    pub(super) code: Option<i32>,
    pub(super) json: Value,
    pub(super) output: String,
}

impl Report {
    /// By `clarion test`.
    pub(super) async fn of(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::by(&[&["test", "--output", "json"], arguments].concat(), variables).await
    }

    pub(super) async fn by(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut process = Process::start(arguments, variables);
        let code = process.ended().await.code();
        let output = process.output();
        // The last is how every token begins.
        for secret in [SECRET, API_KEY, WRONG, "eyJ"] {
            assert!(!output.contains(secret), "{output}");
        }
        Self { code, json: serde_json::from_str(&process.stdout()).unwrap_or_default(), output }
    }

    /// From `url` by way of `publish`, with the secret and the key of the nodes unless `variables` say otherwise.
    async fn between(
        url: SocketAddr,
        publish: SocketAddr,
        more: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let (url, publish) = (format!("ws://{url}"), format!("http://{publish}"));
        let addresses = ["--url", &url, "--publish", &publish];
        let secrets = [("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", SECRET), ("CLARION_API_KEY", API_KEY)];
        Self::of(&[&addresses, more].concat(), &[&secrets, variables].concat()).await
    }

    /// Asserts that it came back, after so many publications.
    #[track_caller]
    fn came_back(&self, rounds: usize) {
        let way = ["reach", "upgrade", "connect", "subscribe"];
        self.came_by(&[&way[..], &["publish", "receive"].repeat(rounds)].concat());
    }

    /// Asserts that it came back, by these steps.
    #[track_caller]
    pub(super) fn came_by(&self, expected: &[&str]) {
        let steps = self.json["steps"].as_array().into_iter().flatten();
        let steps: Vec<_> = steps.map(|step| step["step"].as_str().unwrap_or_default()).collect();
        assert_eq!((self.code, &steps[..]), (Some(0), expected), "{}", self.output);
    }

    /// Asserts that it failed at `step` with what was heard and an advice that hold these words.
    #[track_caller]
    pub(super) fn failed(&self, step: &str, heard: &str, advice: &str) {
        let failed = &self.json["failed"];
        assert_eq!((self.code, &failed["step"]), (Some(1), &json!(step)), "{}", self.output);
        assert!(
            failed["heard"].as_str().is_some_and(|words| words.contains(heard)),
            "{failed} lacks {heard}"
        );
        assert!(failed["look_at"].to_string().contains(advice), "{failed} lacks {advice}");
    }
}

/// A file with a secret, for as long as the test.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new(name: &str, secret: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("roundtrip-{name}"));
        std::fs::write(&path, format!("{secret}\n")).expect("the directory of tests is writable");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("it is text")
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

#[tokio::test]
async fn a_publication_goes_the_whole_way_though_clients_may_not_subscribe() {
    let strict = |config: &mut clarion::config::Config| {
        config.channel.without_namespace.allow_subscribe_for_client = false;
        config.channel.namespaces.push(namespace("strict", json!({})));
    };
    let gateway = Gateway::start_with(strict).await;
    let (public, internal) = (gateway.public(), gateway.internal());
    Report::between(public, internal, &[], &[]).await.came_back(1);
    Report::between(public, internal, &["--count", "3", "--channel", "strict:a"], &[]).await.came_back(3);
    let (token, key) = (SecretFile::new("token", SECRET), SecretFile::new("key", API_KEY));
    let files = ["--token-secret-file", token.path(), "--api-key-file", key.path()];
    let wrong = [("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", WRONG), ("CLARION_API_KEY", WRONG)];
    // What a file says goes before variables.
    Report::between(public, internal, &files, &wrong).await.came_back(1);
}

#[tokio::test]
async fn a_publication_goes_from_one_node_to_another() {
    let [left, right] = Gateway::start_nodes(&Redis::shared(), |_| {}).await;
    Report::between(left.public(), right.internal(), &["--count", "2"], &[]).await.came_back(2);
}

#[tokio::test]
async fn people_read_how_long_each_step_took() {
    let gateway = Gateway::start().await;
    let (url, publish) = (format!("ws://{}", gateway.public()), format!("http://{}", gateway.internal()));
    let secrets = [("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", SECRET), ("CLARION_API_KEY", API_KEY)];
    let mut process = Process::start(&["test", "--url", &url, "--publish", &publish], &secrets);
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.output());
    let output = process.stdout();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!((lines.len(), lines.last()), (7, Some(&"ok")), "{output}");
    assert!(lines[..6].iter().all(|line| line.ends_with(" ms")), "{output}");
}

#[tokio::test]
async fn it_is_said_at_which_step_it_ended_and_what_to_look_at() {
    let gateway = Gateway::start().await;
    let (public, internal) = (gateway.public(), gateway.internal());
    let report =
        Report::between(public, internal, &[], &[("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", WRONG)]);
    report.await.failed("connect", "closed with 3500", "the secret");
    let report = Report::between(public, internal, &[], &[("CLARION_API_KEY", WRONG)]).await;
    report.failed("publish", "HTTP status 401", "API key");
    let report = Report::between(internal, internal, &[], &[]).await;
    report.failed("upgrade", "HTTP status 404", "the internal one has no WebSocket");
    Report::between(public, public, &[], &[]).await.failed("publish", "HTTP status 404", "internal.port");
    let report = Report::between(public, internal, &["--channel", "nobody:knows"], &[]).await;
    report.failed("subscribe", "error 102", "channel.namespaces");
    let report = Report::between(public, internal, &["--channel", "$private"], &[]).await;
    report.failed("subscribe", "error 103", "caps");
    let expired = crate::support::sign_claims(&config(), &json!({"sub": "ann", "exp": 1_000_000_000}));
    let report = Report::between(public, internal, &[], &[("CLARION_TOKEN", &expired)]).await;
    report.failed("connect", "error 109", "clock");
}

#[tokio::test]
async fn a_token_of_ones_own_has_the_rights_that_it_has() {
    let denies = |config: &mut clarion::config::Config| {
        config.channel.without_namespace.allow_subscribe_for_client = false;
    };
    let gateway = Gateway::start_with(denies).await;
    let token = sign(&config(), "ann");
    let report =
        Report::between(gateway.public(), gateway.internal(), &[], &[("CLARION_TOKEN", &token)]).await;
    report.failed("subscribe", "error 103", "allow_subscribe_for_client");
    assert!(!report.output.contains(&token), "{}", report.output);
}

#[tokio::test]
async fn nodes_that_share_nothing_are_found_out_though_others_publish() {
    let (left, right) = (Gateway::start().await, Gateway::start().await);
    let others = async {
        loop {
            left.api("publish", json!({"channel": "clarion-test", "data": {"number": 1}})).await;
        }
    };
    let testing = Report::between(left.public(), right.internal(), &["--timeout", "500ms"], &[]);
    let report = tokio::select! {
        report = testing => report,
        () = others => unreachable!("they never stop"),
    };
    report.failed("receive", "no answer in time", "broker.type: memory");
}

#[tokio::test]
async fn nobody_there_and_nobody_who_speaks() {
    let gateway = Gateway::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (silent_at, closed_at) = (silent.local_addr().unwrap(), closed.local_addr().unwrap());
    drop(closed);
    let patience = ["--timeout", "500ms"];
    let report = Report::between(closed_at, gateway.internal(), &patience, &[]).await;
    report.failed("reach", "connection refused", "whether the node runs");
    let report = Report::between(silent_at, gateway.internal(), &patience, &[]).await;
    report.failed("upgrade", "no answer in time", "says nothing");
    let report = Report::between(gateway.public(), closed_at, &patience, &[]).await;
    report.failed("publish", "connection refused", "internal.address");
    let report = Report::between(gateway.public(), silent_at, &patience, &[]).await;
    report.failed("publish", "no answer in time", "NetworkPolicy");
    let here = format!("http://{}", gateway.internal());
    let nowhere = ["--url", "ws://nobody.invalid:8000", "--publish", &here];
    let secret = [("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", SECRET)];
    Report::of(&nowhere, &secret).await.failed("reach", "no host of that name", "Service");
}

#[tokio::test]
async fn what_is_used_wrongly_exits_with_2() {
    let secret = [("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", SECRET)];
    for (arguments, variables, word) in [
        (&["--url", "https://localhost:8000"][..], &secret[..], "must be ws://HOST:PORT or wss://"),
        (&["--publish", "ws://localhost:9000"], &secret, "must be http://HOST:PORT or https://"),
        (&["--url", "localhost:8000"], &secret, "must be ws://HOST:PORT"),
        (
            &["--url", "wss://h", "--ca-file", "/nonexistent/ca"],
            &secret,
            "--ca-file: /nonexistent/ca cannot be",
        ),
        (&[], &[], "no token: give --token-secret-file"),
        (&["--api-key-file", "/nonexistent/key"], &secret, "/nonexistent/key cannot be read"),
        (&["--count", "0"], &secret, "--count"),
        (&[], &[("CLARION__PUBLIC__PORT", "eight")], "public.port"),
    ] {
        let report = Report::of(arguments, variables).await;
        assert_eq!(report.code, Some(2), "{}", report.output);
        assert!(report.output.contains(word), "{} lacks {word}", report.output);
    }
}
