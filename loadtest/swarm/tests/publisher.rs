//! A publisher against nodes that answer as they are told.

#![expect(clippy::unwrap_used, reason = "what does not work here fails the test, as it should")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use serde_json::{Value, json};
use swarm::clock::Clock;
use swarm::findings::PublishFindings;
use swarm::published::Published;
use swarm::publisher::{Publisher, PublisherSettings};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a node answers to the request with this body.
type Answer = Box<dyn Fn(&Value) -> (u16, String) + Send + Sync>;

/// A node that notes every request.
#[derive(Clone)]
struct Node {
    address: SocketAddr,
    heard: watch::Sender<Vec<Value>>,
    heads: Arc<Mutex<Vec<String>>>,
    answer: Arc<Answer>,
}

impl Node {
    async fn start(answer: impl Fn(&Value) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Answer = Box::new(answer);
        let heard = watch::Sender::new(Vec::new());
        let node = Self { address, heard, heads: Arc::default(), answer: Arc::new(answer) };
        let accepting = node.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        node
    }

    async fn serve(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while let Some((head, body)) = request(&mut stream).await {
            self.heads.lock().unwrap().push(head);
            let (status, answer) = (self.answer)(&body);
            self.heard.send_modify(|heard| heard.push(body));
            let length = answer.len();
            let response = format!("HTTP/1.1 {status} So\r\ncontent-length: {length}\r\n\r\n{answer}");
            if stream.write_all(response.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    /// Waits for so many requests, and answers all there were.
    async fn heard(&self, count: usize) -> Vec<Value> {
        let mut heard = self.heard.subscribe();
        let waiting = time::timeout(PATIENCE, heard.wait_for(|heard| heard.len() >= count)).await;
        waiting.expect("the publisher sends").unwrap().clone()
    }
}

/// The head and the body of the next request; `None` at the end.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, serde_json::from_slice(&body).unwrap()))
}

/// Answers with the next place of each channel.
fn faithful() -> impl Fn(&Value) -> (u16, String) + Send + Sync + 'static {
    let tops = Mutex::new(HashMap::new());
    move |body| {
        let channel = body["channel"].as_str().unwrap().to_owned();
        let mut tops = tops.lock().unwrap();
        let offset: &mut u64 = tops.entry(channel).or_default();
        *offset += 1;
        (200, json!({"result": {"offset": *offset, "epoch": "e"}}).to_string())
    }
}

fn unavailable(_: &Value) -> (u16, String) {
    (503, String::new())
}

fn settings(nodes: &[&Node]) -> PublisherSettings {
    PublisherSettings {
        nodes: Arc::new(RwLock::new(nodes.iter().map(|node| node.address).collect())),
        api_key: "the-key".to_owned(),
        channels: vec!["noon:0".to_owned(), "noon:1".to_owned()],
        rate: 200,
        payload_bytes: 10,
        patience: Duration::ZERO,
    }
}

fn start(settings: PublisherSettings) -> (Publisher, Arc<Published>) {
    let published = Arc::new(Published::new(&settings.channels));
    (Publisher::start(settings, Clock::start(), Arc::clone(&published)), published)
}

fn keys(requests: &[Value]) -> Vec<(String, String)> {
    let key = |request: &Value, field: &str| request[field].as_str().unwrap().to_owned();
    requests.iter().map(|request| (key(request, "channel"), key(request, "idempotency_key"))).collect()
}

fn counts(findings: &PublishFindings) -> [u64; 3] {
    assert_eq!(findings.unacknowledged, findings.sent - findings.acknowledged);
    [findings.sent - findings.acknowledged, findings.failed_after_one_retry, findings.skipped]
}

#[tokio::test]
async fn what_is_published_is_written_down_where_it_is() {
    let node = Node::start(faithful()).await;
    let (publisher, published) = start(settings(&[&node]));
    let requests = node.heard(6).await;
    let findings = publisher.stop().await;
    assert_eq!((counts(&findings), findings.retries), ([0; 3], 0), "{findings:?}");
    let per_tenth: u32 = findings.acknowledged_per_tenth.iter().sum();
    assert_eq!(u64::from(per_tenth), findings.acknowledged);
    let acknowledged: usize = (0..2).map(|channel| published.log(channel).acknowledged().count()).sum();
    assert_eq!(acknowledged as u64, findings.acknowledged);
    assert!(published.verdict().is_clean());
    assert!(node.heads.lock().unwrap()[0].to_ascii_lowercase().contains("x-api-key: the-key"));
    let first = &requests[0];
    assert_eq!((&first["data"]["seq"], &first["data"]["pad"]), (&json!(0), &json!("xxxxxxxxxx")));
    assert!(first["data"]["at"].as_u64().is_some());
    let mut channels: Vec<_> = keys(&requests).into_iter().map(|(channel, _)| channel).collect();
    channels.sort();
    channels.dedup();
    assert_eq!(channels, ["noon:0", "noon:1"]);
}

#[tokio::test]
async fn a_failure_is_tried_again_with_the_same_key_on_another_node() {
    let (good, bad) = (Node::start(faithful()).await, Node::start(unavailable).await);
    let (publisher, _) = start(settings(&[&bad, &good]));
    let failed = keys(&bad.heard(3).await);
    good.heard(6).await;
    let findings = publisher.stop().await;
    assert_eq!((counts(&findings), findings.outages.len()), ([0; 3], 0), "{findings:?}");
    assert_eq!(findings.retries as usize, bad.heard(0).await.len(), "one for each failure");
    let arrived = keys(&good.heard(0).await);
    for key in failed {
        assert_eq!(arrived.iter().filter(|arrived| **arrived == key).count(), 1, "{key:?}");
    }
    assert!(findings.failures[0].contains("status 503"), "{:?}", findings.failures);
}

#[tokio::test]
async fn a_plain_back_end_gives_up_after_one_retry() {
    let (first, second) = (Node::start(unavailable).await, Node::start(unavailable).await);
    let (publisher, published) = start(settings(&[&first, &second]));
    first.heard(3).await;
    second.heard(3).await;
    let findings = publisher.stop().await;
    assert_eq!(counts(&findings), [findings.sent, findings.sent, 0]);
    assert_eq!(findings.retries, findings.sent);
    let [outage] = findings.outages[..] else { panic!("one outage: {findings:?}") };
    assert_eq!(outage.until, None, "that did not end");
    assert_eq!(published.log(0).top(), None);
}

#[tokio::test]
async fn a_patient_one_tries_until_it_is_acknowledged() {
    let faithful = faithful();
    let tries = Mutex::new(HashMap::new());
    // Every publication fails three times.
    let node = Node::start(move |body| {
        let key = keys(std::slice::from_ref(body)).remove(0);
        let mut tries = tries.lock().unwrap();
        let count: &mut u32 = tries.entry(key).or_default();
        *count += 1;
        if *count <= 3 { unavailable(body) } else { faithful(body) }
    });
    let node = node.await;
    let (publisher, published) = start(PublisherSettings { patience: PATIENCE, ..settings(&[&node]) });
    node.heard(4).await;
    let findings = publisher.stop().await;
    assert_eq!(counts(&findings), [0, findings.sent, 0], "{findings:?}");
    assert_eq!(findings.retries, 3 * findings.sent);
    assert!(findings.outages.iter().all(|outage| outage.until.is_some()) && !findings.outages.is_empty());
    assert!(published.verdict().is_clean());
}

#[tokio::test]
async fn an_error_of_the_operation_is_a_failure_too() {
    let error = json!({"error": {"code": 100, "message": "internal server error"}}).to_string();
    let (good, bad) = (Node::start(faithful()).await, Node::start(move |_| (200, error.clone())).await);
    let (publisher, _) = start(settings(&[&bad, &good]));
    good.heard(4).await;
    let findings = publisher.stop().await;
    assert_eq!(counts(&findings), [0; 3]);
    assert!(findings.failures[0].contains("internal server error"), "{:?}", findings.failures);
}

#[tokio::test]
async fn nodes_are_looked_up_for_each_request() {
    let (old, new) = (Node::start(faithful()).await, Node::start(faithful()).await);
    let settings = settings(&[&old]);
    let nodes = Arc::clone(&settings.nodes);
    let (publisher, _) = start(settings);
    old.heard(1).await;
    *nodes.write().unwrap() = vec![new.address];
    new.heard(2).await;
    let findings = publisher.stop().await;
    assert_eq!((counts(&findings), findings.retries), ([0; 3], 0));
}
