//! F44: a configuration that cannot be used is refused before anything is started, with where it says what is wrong.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Process, SECRET};

const KEY: &str = "CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY";
/// Part of whatever must not be seen.
const CANARY: &str = "canary-9cQ2";

/// A directory with a file, for as long as the test.
struct Mounted(PathBuf);

impl Mounted {
    fn new(test: &str, file: &str, text: &str) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("mounted-{test}"));
        fs::create_dir_all(&directory).expect("the directory of tests is writable");
        fs::write(directory.join(file), text).expect("the directory of tests is writable");
        Self(directory)
    }

    fn path(&self, file: &str) -> String {
        self.0.join(file).to_str().expect("it is text").to_owned()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Runs `arguments` to their end: the exit code and the lines that begin with `error: `.
async fn errors(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, Vec<String>, String) {
    let mut process = Process::start(arguments, variables);
    let code = process.ended().await.code();
    let output = process.output();
    assert!(!output.contains(CANARY), "{output}");
    let lines = output.lines().filter(|line| line.starts_with("error: ")).map(str::to_owned);
    (code, lines.collect(), output)
}

/// Asserts that `serve`, `checkconfig` and `doctor` refuse it alike: with one error that holds these words.
async fn is_refused(arguments: &[&str], variables: &[(&str, &str)], words: &[&str]) {
    let mut said = Vec::new();
    for command in ["serve", "checkconfig", "doctor"] {
        let (code, lines, output) = errors(&[&[command], arguments].concat(), variables).await;
        assert_eq!((code, lines.len()), (Some(2), 1), "{command}: {output}");
        for word in words {
            assert!(lines[0].contains(word), "{command}: {} lacks {word}", lines[0]);
        }
        said.extend(lines);
    }
    assert!(said.iter().all(|line| *line == said[0]), "{said:?}");
    let (code, _, output) =
        errors(&[&["checkconfig", "--output", "json"], arguments].concat(), variables).await;
    let json: Value = serde_json::from_str(&output).expect("it is JSON");
    assert_eq!((code, json["errors"].as_array().map(Vec::len)), (Some(2), Some(1)), "{output}");
}

/// The same for what a file and variables say; `KEY` is good unless one of them says otherwise.
async fn file_is_refused(test: &str, yaml: &str, words: &[&str]) {
    let mounted = Mounted::new(test, "clarion.yaml", yaml);
    is_refused(&["--config", &mounted.path("clarion.yaml")], &[(KEY, SECRET)], words).await;
}

#[tokio::test]
async fn f44_an_unknown_key() {
    let yaml = "log:\n  level: info\nclient:\n  ping_intervall: 10s\n";
    file_is_refused(
        "unknown",
        yaml,
        &["client.ping_intervall: unknown key", "client.ping_interval`", "clarion.yaml, line 4)"],
    )
    .await;
    let variable = [(KEY, SECRET), ("CLARION__CLIENT__PING_INTERVALL", "10s")];
    is_refused(&[], &variable, &["client.ping_intervall", "(CLARION__CLIENT__PING_INTERVALL)"]).await;
}

#[tokio::test]
async fn f44_a_value_of_a_wrong_type() {
    file_is_refused("type", "public:\n  port: eight\n", &["public.port: must be a whole number", "line 2)"])
        .await;
    let variable = [(KEY, SECRET), ("CLARION__CLIENT__ANONYMOUS", "perhaps")];
    is_refused(&[], &variable, &["client.anonymous: must be true or false", "(CLARION__CLIENT__ANONYMOUS)"])
        .await;
}

#[tokio::test]
async fn f44_a_value_out_of_range() {
    file_is_refused("range", "\nshards: 0\n", &["shards: must be `auto` or from 1 to 1024", "line 2)"]).await;
    file_is_refused("port", "public: {port: 70000}\n", &["public.port: ", "0 to 65535", "line 1)"]).await;
    let variable = [(KEY, SECRET), ("CLARION__API__BATCH_MAX", "0")];
    is_refused(&[], &variable, &["api.batch_max: must be at least 1", "(CLARION__API__BATCH_MAX)"]).await;
}

#[tokio::test]
async fn f44_a_secret_that_is_missing_or_too_short() {
    is_refused(&[], &[], &["client.token.hmac_secret_key: is missing"]).await;
    let words = [
        "client.token.hmac_secret_key: is shorter than 32 bytes",
        "(CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY)",
    ];
    is_refused(&[], &[(KEY, "canary-9cQ2-of-31-bytes-012345")], &words).await;
    let file = Mounted::new("short", "key", "canary-9cQ2-short\n");
    let variable = [("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY_FILE", file.path("key"))];
    let variable = [(variable[0].0, variable[0].1.as_str())];
    is_refused(&[], &variable, &["client.token.hmac_secret_key: is shorter than 32 bytes"]).await;
    let file = Mounted::new("void", "key", "\n");
    let path = file.path("key");
    let variable = [("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY_FILE", path.as_str())];
    is_refused(&[], &variable, &["client.token.hmac_secret_key_file: the file is empty"]).await;
}

#[tokio::test]
async fn f44_two_listeners_on_one_port() {
    let yaml = "public:\n  address: 0.0.0.0\n  port: 8000\ninternal:\n  address: 127.0.0.1\n  port: 8000\n";
    file_is_refused("listeners", yaml, &["internal.port: is that of `public.port` too", "line 6)"]).await;
}

#[tokio::test]
async fn f44_no_origin_is_allowed_with_a_warning() {
    let mut process = Process::start(&["checkconfig"], &[(KEY, SECRET)]);
    assert_eq!(process.ended().await.code(), Some(0));
    let warning = "client.allowed_origins is empty: browsers will be refused";
    assert!(process.output().contains(warning), "{}", process.output());
    let ports = [("CLARION__PUBLIC__PORT", "0"), ("CLARION__INTERNAL__PORT", "0")];
    let mut process = Process::start(&["serve"], &[&[(KEY, SECRET)], &ports[..]].concat());
    process.addresses().await;
    assert!(process.output().contains(warning), "{}", process.output());
}

#[tokio::test]
async fn f44_a_file_that_is_empty_or_a_directory_or_not_there() {
    file_is_refused("empty", "", &["clarion.yaml: is empty: give the file that was meant"]).await;
    file_is_refused("blank", "\n\n", &["clarion.yaml: is empty"]).await;
    let mounted = Mounted::new("directory", "x", "");
    fs::create_dir_all(mounted.0.join("clarion.yaml")).expect("the directory of tests is writable");
    let path = mounted.path("clarion.yaml");
    let words = ["clarion.yaml: is a directory: there may be no such file"];
    is_refused(&["--config", &path], &[(KEY, SECRET)], &words).await;
    let path = mounted.path("absent.yaml");
    is_refused(&["--config", &path], &[(KEY, SECRET)], &["absent.yaml: cannot be read: No such file"]).await;
    let broken = "client:\n  token: {hmac_secret_key: canary-9cQ2\n";
    file_is_refused("broken", broken, &["clarion.yaml: ", "line 3"]).await;
}

#[tokio::test]
async fn f44_a_file_of_comments_says_that_defaults_are_in_effect() {
    let mounted = Mounted::new("comments", "clarion.yaml", "# log:\n#   level: debug\n");
    let path = mounted.path("clarion.yaml");
    let mut process = Process::start(&["checkconfig", "--config", &path], &[(KEY, SECRET)]);
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.output());
    let output = process.output();
    assert!(
        output.contains("holds no setting: everything is as by default, but for CLARION__ variables"),
        "{output}"
    );
}

#[tokio::test]
async fn s61_a_secret_is_given_by_a_file_or_a_variable_and_not_by_an_argument() {
    for command in ["serve", "dev", "checkconfig", "doctor", "genconfig"] {
        let mut process = Process::start(&[command, "--help"], &[]);
        assert_eq!(process.ended().await.code(), Some(0));
        let help = process.output().to_lowercase();
        for word in ["secret <", "password", "--key", "--token", "--api-key"] {
            assert!(!help.contains(word), "{command}: {help}");
        }
    }
    // Where a tool takes one, a variable or a file will do, and help shows no value.
    let variables = [("CLARION_API_KEY", "canary-9cQ2"), ("CLARION_TOKEN", "canary-9cQ2")];
    for command in ["pub", "sub", "info", "test"] {
        let mut process = Process::start(&[command, "--help"], &variables);
        assert_eq!(process.ended().await.code(), Some(0));
        let help = process.output();
        assert!(!help.contains(CANARY), "{help}");
        assert!(help.contains("[env: CLARION_"), "{help}");
    }
}

#[tokio::test]
async fn s61_the_password_of_redis_is_in_no_error() {
    let address =
        [(KEY, SECRET), ("CLARION__BROKER__REDIS__ADDRESS", "redis://clarion:canary-9cQ2@redis:6379")];
    let words =
        ["broker.redis.address: must hold no user and no password", "(CLARION__BROKER__REDIS__ADDRESS)"];
    is_refused(&[], &address, &words).await;
}
