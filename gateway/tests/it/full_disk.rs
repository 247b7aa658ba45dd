//! Nobody takes the logs of a node: the disk is full, or the reader has gone. It costs lines and nothing else.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{API_KEY, Client, Process, SECRET, config, eventually, free_port, get, post, sign};

const PUBLICATIONS: usize = 200;
/// A thread that tries again and again would need thousands.
const WRITES_OF_A_LINE_MAX: u64 = 2;

/// A node that logs everything to `output`, on ports that were free.
async fn serve(output: Stdio) -> (Process, SocketAddr, SocketAddr) {
    let [public, internal] = [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let [public_port, internal_port] = [public, internal].map(|address| address.port().to_string());
    let keys = json!([API_KEY]).to_string();
    let process = Process::start_logging(
        output,
        &["serve"],
        &[
            ("CLARION__LOG__LEVEL", "trace"),
            ("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", SECRET),
            ("CLARION__API__KEYS", &keys),
            ("CLARION__PUBLIC__ADDRESS", "127.0.0.1"),
            ("CLARION__PUBLIC__PORT", &public_port),
            ("CLARION__INTERNAL__PORT", &internal_port),
            ("CLARION__DRAIN__DELAY", "0s"),
            ("CLARION__DRAIN__WINDOW", "0s"),
            ("CLARION__CHANNEL__WITHOUT_NAMESPACE__ALLOW_SUBSCRIBE_FOR_CLIENT", "true"),
        ],
    );
    eventually("the node to listen", async || tokio::net::TcpStream::connect(internal).await.is_ok()).await;
    eventually("the node to be ready", async || get(internal, "/readyz").await.status == 200).await;
    (process, public, internal)
}

async fn dropped(internal: SocketAddr) -> u64 {
    let metrics = get(internal, "/metrics").await.body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("clarion_logs_dropped_total "));
    line.and_then(|count| count.parse::<f64>().ok()).expect("there is such a metric") as u64
}

/// Calls that wrote something anywhere, which failed ones count among.
fn writes(process: &Process) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", process.id())).expect("it runs");
    let line = io.lines().find_map(|line| line.strip_prefix("syscw: "));
    line.and_then(|count| count.parse().ok()).expect("the system counts them")
}

/// Asserts that publications are delivered as ever, that what was not written is counted, and that nobody tries to write it
/// again.
async fn serves_as_ever(mut process: Process, public: SocketAddr, internal: SocketAddr) {
    let stream = tokio::net::TcpStream::connect(public).await.expect("it serves");
    let mut client = Client::native(stream, &sign(&config(), "bob")).await.subscribe("news").await;
    let (dropped_before, written_before) = (dropped(internal).await, writes(&process));
    for number in 0..PUBLICATIONS {
        let body = json!({"channel": "news", "data": number}).to_string();
        assert_eq!(post(internal, "/api/publish", &[("x-api-key", API_KEY)], &body).await.status, 200);
        assert_eq!(client.next_publication().await.data, number);
    }
    eventually("lines to be counted as dropped", async || {
        dropped(internal).await >= dropped_before + PUBLICATIONS as u64
    })
    .await;
    let (lost, written) = (dropped(internal).await - dropped_before, writes(&process) - written_before);
    // Sockets are written to by other calls.
    assert!(written <= lost * WRITES_OF_A_LINE_MAX + 1_000, "{written} writes for {lost} lines");
    assert_eq!(get(internal, "/livez").await.status, 200);
    process.send_signal(Signal::TERM);
    assert_eq!(client.closed().await.0, 3001);
    drop(client);
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_full_disk_under_the_log_costs_lines_and_nothing_else() {
    let full = File::options().write(true).open("/dev/full").expect("the system has one");
    let (process, public, internal) = serve(full.into()).await;
    serves_as_ever(process, public, internal).await;
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_any_more_costs_lines_and_nothing_else() {
    let (reader, writer) = std::io::pipe().expect("there are pipes");
    drop(reader);
    let (process, public, internal) = serve(OwnedFd::from(writer).into()).await;
    serves_as_ever(process, public, internal).await;
}
