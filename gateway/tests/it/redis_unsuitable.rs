//! A Redis that cannot be used is refused at the start, in one sentence; one that is away is waited for.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{Process, Proxy, SECRET, Server, eventually, get};

/// Must not be seen anywhere.
const CANARY: &str = "canary-9cQ2";
/// While Redis is away, it is said again after this.
const COMPLAIN_INTERVAL: Duration = Duration::from_secs(10);

fn serve(address: &str, further: &[(&str, &str)]) -> Process {
    let node = [
        ("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", SECRET),
        ("CLARION__PUBLIC__ADDRESS", "127.0.0.1"),
        ("CLARION__PUBLIC__PORT", "0"),
        ("CLARION__INTERNAL__PORT", "0"),
        ("CLARION__BROKER__TYPE", "redis"),
        ("CLARION__BROKER__REDIS__ADDRESS", address),
    ];
    Process::start(&["serve"], &[&node, further].concat())
}

/// Asserts that a node refuses to start with one sentence, and that it holds `words`.
async fn is_refused(address: &str, further: &[(&str, &str)], words: &[&str]) {
    let mut process = serve(address, further);
    let code = process.ended().await.code();
    let output = process.output();
    assert_eq!(code, Some(1), "{output}");
    let errors: Vec<_> = output.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("{output}") };
    assert!(error.contains(&format!("Redis at {address} cannot be used")), "{error}");
    for word in words {
        assert!(error.contains(word), "{error} lacks {word}");
    }
    assert!(!output.contains(CANARY), "{output}");
    let others: Vec<_> = output.lines().filter(|line| line.contains("Redis") && *line != error).collect();
    assert!(others.is_empty(), "it is said once: {others:?}");
}

#[tokio::test]
async fn a_password_that_is_wrong_or_missing() {
    let server = Server::start(&["--requirepass", "right"]);
    let words = ["refuses the user or the password", "broker.redis.password"];
    is_refused(server.address(), &[], &words).await;
    let password = ("CLARION__BROKER__REDIS__PASSWORD", CANARY);
    is_refused(server.address(), &[password], &words).await;
    let user = ("CLARION__BROKER__REDIS__USERNAME", "nobody");
    is_refused(server.address(), &[user, password], &words).await;
}

#[tokio::test]
async fn a_user_that_lacks_a_right() {
    let server = Server::start(&[]);
    for (rules, words) in [
        ("~* &* +@all -publish", ["PUBLISH", "`clarion:`"]),
        ("~* &* +@all -xadd -subscribe", ["XADD, SUBSCRIBE", "`clarion:`"]),
        ("~* &* +@all -@scripting", ["SCRIPT LOAD, EVALSHA", "`clarion:`"]),
        ("~other:* &* +@all", ["EVALSHA", "`clarion:`"]),
        ("~* resetchannels &other:* +@all", ["SUBSCRIBE", "`clarion:`"]),
        ("~* &* -@all", ["SCRIPT LOAD", "SUBSCRIBE"]),
    ] {
        let command = format!("ACL SETUSER poor reset on >{CANARY} {rules}");
        server.ask::<()>("", &command).await;
        let access =
            [("CLARION__BROKER__REDIS__USERNAME", "poor"), ("CLARION__BROKER__REDIS__PASSWORD", CANARY)];
        is_refused(server.address(), &access, &words).await;
    }
}

#[tokio::test]
async fn a_replica() {
    let server = Server::start(&["--replicaof", "127.0.0.1", "1"]);
    is_refused(server.address(), &[], &["it is a replica", "master"]).await;
}

/// Something that takes connections and answers each piece that comes by `answer`, if at all.
async fn pretender(answer: impl Fn(&str) -> String + Clone + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are ports");
    let address = format!("redis://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut piece = vec![0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut piece).await {
                    let answer = answer(&String::from_utf8_lossy(&piece[..count]));
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Answers each command of `asked`: the first by `hello`, the others by "OK".
fn answers(hello: &str, asked: &str) -> String {
    let commands = asked.split('*').skip(1).filter_map(|command| command.split("\r\n").nth(2));
    commands.map(|command| if command == "HELLO" { hello } else { "+OK\r\n" }).collect()
}

#[tokio::test]
async fn a_version_before_7() {
    let old = "%2\r\n$7\r\nversion\r\n+6.2.14\r\n$4\r\nrole\r\n+master\r\n";
    let address = pretender(|asked| answers(old, asked)).await;
    is_refused(&address, &[], &["its version is 6.2.14, and 7.0 or newer is needed"]).await;
    for unknown in ["-ERR unknown command `HELLO`, with args\r\n", "-ERR unknown command 'HELLO'\r\n"] {
        let address = pretender(|asked| answers(unknown, asked)).await;
        is_refused(&address, &[], &["7.0 or newer is needed"]).await;
    }
}

#[tokio::test]
async fn no_redis_at_all() {
    let http = |_: &str| "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_owned();
    is_refused(&pretender(http).await, &[], &["is not Redis"]).await;
    let silent = |_: &str| String::new();
    is_refused(&pretender(silent).await, &[], &["says nothing", "not Redis"]).await;
}

#[tokio::test]
async fn one_that_is_away_is_waited_for_without_many_words() {
    const ATTEMPTS: usize = 40;
    let server = Server::start(&[]);
    let target = server.address().trim_start_matches("redis://").parse().expect("it is an address");
    let proxy = Proxy::start(target).await;
    proxy.cut();
    let started_at = Instant::now();
    let mut process = serve(&format!("redis://{}", proxy.address()), &[]);
    let (_, internal) = process.addresses().await;
    eventually("it to try again and again", async || proxy.attempts() > ATTEMPTS).await;
    assert_eq!(get(internal, "/livez").await.status, 200);
    assert_eq!(get(internal, "/readyz").await.status, 503);
    let output = process.output();
    let said = output.lines().filter(|line| line.contains("Redis is away")).count();
    let allowed = 1 + (started_at.elapsed().as_secs() / COMPLAIN_INTERVAL.as_secs()) as usize;
    assert!((1..=allowed).contains(&said), "{said} times in {:?}: {output}", started_at.elapsed());
    proxy.mend();
    eventually("it to be ready", async || get(internal, "/readyz").await.status == 200).await;
    assert!(process.output().contains("hearing from Redis"));
}
