//! The real binary: what it says and how it exits.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Client, Gateway, Process, SECRET, config, get, sign};

/// A node on any port.
const NODE: [(&str, &str); 7] = [
    ("CLARION__DRAIN__DELAY", "0s"),
    ("CLARION__DRAIN__WINDOW", "0s"),
    ("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", SECRET),
    ("CLARION__PUBLIC__ADDRESS", "127.0.0.1"),
    ("CLARION__PUBLIC__PORT", "0"),
    ("CLARION__INTERNAL__PORT", "0"),
    ("CLARION__CHANNEL__WITHOUT_NAMESPACE__ALLOW_SUBSCRIBE_FOR_CLIENT", "true"),
];

fn serve(further: &[(&str, &str)]) -> Process {
    Process::start(&["serve"], &[&NODE, further].concat())
}

#[tokio::test]
async fn an_unknown_setting_exits_with_2_and_names_the_nearest() {
    let mut process = serve(&[("CLARION__CLIENT__PING_INTERVALL", "10s")]);
    assert_eq!(process.ended().await.code(), Some(2));
    let output = process.output();
    assert!(output.to_lowercase().contains("ping_intervall"), "{output}");
    assert!(output.contains("client.ping_interval"), "{output}");
}

#[tokio::test]
async fn a_node_without_a_key_refuses_to_start() {
    let mut process = Process::start(&["serve"], &[]);
    assert_eq!(process.ended().await.code(), Some(2));
    let output = process.output();
    assert!(output.contains("client.token.hmac_secret_key"), "{output}");
}

#[tokio::test]
async fn a_port_in_use_exits_with_1_and_one_sentence() {
    let gateway = Gateway::start().await;
    let port = gateway.public().port().to_string();
    let mut process = serve(&[("CLARION__PUBLIC__PORT", &port)]);
    assert_eq!(process.ended().await.code(), Some(1));
    let output = process.output();
    let errors: Vec<_> = output.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("{output}") };
    assert!(error.contains(&gateway.public().to_string()) && error.contains("public.port"), "{error}");
}

#[tokio::test]
async fn sigterm_closes_clients_and_exits_with_0() {
    let mut process = serve(&[]);
    let (public, internal) = process.addresses().await;
    assert_eq!(get(internal, "/readyz").await.status, 200);
    let stream = tokio::net::TcpStream::connect(public).await.unwrap();
    let mut client = Client::native(stream, &sign(&config(), "bob")).await.subscribe("news").await;
    let started_at = Instant::now();
    process.send_signal(Signal::TERM);
    assert_eq!(client.closed().await.0, 3001);
    drop(client);
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(started_at.elapsed() < Duration::from_secs(5), "{:?}", started_at.elapsed());
}
