//! What becomes of a publication, as a collector of traces hears it.

use std::collections::{BTreeMap, BTreeSet};

use clarion::config::Config;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

use crate::support::{
    API_KEY, Answer, Collector, Gateway, Process, Raw, Redis, SECRET, Span, certificates, eventually,
    namespace, post, upgrade_request,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
/// Nothing of it may be in a span.
const CANARY: &str = "LEAKCANARY";

/// Traces to `collector` what it is told to, and nothing else.
fn traced(collector: &Collector) -> impl Fn(&mut Config) {
    let endpoint = collector.endpoint();
    move |config| {
        (config.otlp.endpoint, config.otlp.sample_ratio) = (endpoint.clone(), 0.0);
        let kept = json!({"allow_subscribe_for_client": true, "history_size": 10, "history_ttl": "1m"});
        config.channel.namespaces.push(namespace("kept", kept));
    }
}

/// Calls the server API as a back end does that traces, or decided not to.
async fn call(node: &Gateway, method: &str, body: &Value, is_sampled: bool) -> Answer {
    let parent = format!("00-{TRACE}-{CALLER}-0{}", u8::from(is_sampled));
    let headers = [("x-api-key", API_KEY), ("traceparent", &*parent)];
    let path = format!("/api/{method}?{CANARY}=query");
    let answer = post(node.internal(), &path, &headers, &body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

/// Those of a kind.
fn of(spans: &[Span], kind: SpanKind) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind == kind).collect()
}

fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_publication_is_one_trace_over_all_nodes() {
    let collector = Collector::start().await;
    let [left, right] = Gateway::start_nodes(&Redis::shared(), traced(&collector)).await;
    let channel = format!("kept:{CANARY}");
    let mut clients = Vec::new();
    for node in [&left, &left, &right] {
        clients.push(node.connect(&format!("{CANARY}-user")).await.subscribe(&channel).await);
    }
    let body = json!({"channel": channel, "data": CANARY, "tags": {"k": CANARY}, "idempotency_key": CANARY});
    call(&left, "publish", &body, true).await;
    for client in &mut clients {
        assert_eq!(client.next_publication().await.data, CANARY);
    }
    left.stop().await;
    right.stop().await;
    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.trace == TRACE && !span.is_error), "{spans:#?}");
    let (server, producer) = (of(&spans, SpanKind::Server), of(&spans, SpanKind::Producer));
    let ([server], [producer]) = (&server[..], &producer[..]) else { panic!("{spans:#?}") };
    assert_eq!((&*server.name, &*server.parent, server.node()), ("POST /api/publish", CALLER, "node-0"));
    let expected = attributes(&[
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("http.route", "/api/publish"),
        ("url.path", "/api/publish"),
    ]);
    assert_eq!(server.attributes, expected);
    assert_eq!(
        (&*producer.name, &*producer.parent, producer.node()),
        ("publish kept", &*server.id, "node-0")
    );
    let id = producer.attributes["messaging.message.id"].clone();
    assert!(id.ends_with(":1") && id.len() > 2, "{id}");
    let message = [
        ("messaging.system", "clarion"),
        ("messaging.destination.template", "kept"),
        ("messaging.message.body.size", "12"),
    ];
    let mut expected = attributes(&message);
    expected.extend(attributes(&[
        ("messaging.operation.name", "publish"),
        ("messaging.operation.type", "send"),
        ("messaging.message.id", &id),
    ]));
    assert_eq!(producer.attributes, expected);
    let [command] = of(&spans, SpanKind::Client)[..] else { panic!("{spans:#?}") };
    assert_eq!((&*command.name, &command.parent, command.node()), ("EVALSHA", &producer.id, "node-0"));
    let expected = attributes(&[("db.system.name", "redis"), ("db.operation.name", "EVALSHA")]);
    assert_eq!(command.attributes, expected);
    let consumers = of(&spans, SpanKind::Consumer);
    let nodes: BTreeSet<_> = consumers.iter().map(|span| span.node()).collect();
    assert_eq!(
        (consumers.len(), nodes),
        (2, ["node-0", "node-1"].into()),
        "one for each node, not for each socket"
    );
    for consumer in consumers {
        assert_eq!((&*consumer.name, &consumer.parent), ("process kept", &producer.id));
        let mut expected = attributes(&message);
        let recipients = if consumer.node() == "node-0" { "2" } else { "1" };
        expected.extend(attributes(&[
            ("messaging.operation.name", "process"),
            ("messaging.operation.type", "process"),
            ("clarion.recipients", recipients),
            ("clarion.dropped", "0"),
        ]));
        assert_eq!(consumer.attributes, expected);
    }
    assert!(!collector.has_seen(CANARY) && !collector.has_seen(API_KEY));
}

#[tokio::test]
async fn what_the_back_end_does_not_trace_is_not_traced_and_what_nobody_decided_is_drawn_by_lot() {
    let (collector, redis) = (Collector::start().await, Redis::shared());
    let node = Gateway::start_node(&redis, "node", |config| {
        traced(&collector)(config);
        config.otlp.sample_ratio = 1.0;
    })
    .await;
    let mut ann = node.connect("ann").await.subscribe("news").await;
    let mut tap = redis.tap("news").await;
    call(&node, "publish", &json!({"channel": "news", "data": 1}), false).await;
    let untraced = tap.next().await;
    node.api("publish", json!({"channel": "news", "data": 2})).await;
    let traced = tap.next().await;
    assert_eq!(traced.len() - untraced.len(), 26, "what is not traced is sent without a word of traces");
    for data in 1..=2 {
        assert_eq!(ann.next_publication().await.data, data);
    }
    node.stop().await;
    let spans = collector.spans();
    let names: BTreeSet<_> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!((spans.len(), names), (4, ["POST /api/publish", "publish", "PUBLISH", "process"].into()));
    let server = of(&spans, SpanKind::Server)[0];
    assert_eq!(server.parent, "");
    assert!(server.trace != TRACE && spans.iter().all(|span| span.trace == server.trace), "{spans:#?}");
}

#[tokio::test]
async fn of_what_is_not_traced_the_collector_hears_nothing() {
    let collector = Collector::start().await;
    let [left, right] = Gateway::start_nodes(&Redis::shared(), traced(&collector)).await;
    let mut ann = right.connect("ann").await.subscribe("news").await;
    left.api("publish", json!({"channel": "news", "data": 1})).await;
    let mut bob = left.connect("bob").await;
    bob.publish("news", 2).await;
    for data in 1..=2 {
        assert_eq!(ann.next_publication().await.data, data);
    }
    left.stop().await;
    right.stop().await;
    assert_eq!(collector.requests(), 0, "the share is 0");
}

#[tokio::test]
async fn a_node_that_does_not_trace_passes_on_nothing_and_delivers_what_others_trace() {
    let (collector, redis) = (Collector::start().await, Redis::shared());
    let tracing = Gateway::start_node(&redis, "tracing", traced(&collector)).await;
    let silent = Gateway::start_node(&redis, "silent", |_| {}).await;
    let mut ann = silent.connect("ann").await.subscribe("news").await;
    let mut bob = tracing.connect("bob").await.subscribe("news").await;
    let mut tap = redis.tap("news").await;
    let body = |data: u64| json!({"channel": "news", "data": data});
    call(&silent, "publish", &body(1), true).await;
    let untraced = tap.next().await;
    call(&tracing, "publish", &body(2), true).await;
    assert_eq!(tap.next().await.len() - untraced.len(), 26);
    for data in 1..=2 {
        assert_eq!(ann.next_publication().await.data, data);
        assert_eq!(bob.next_publication().await.data, data);
    }
    silent.stop().await;
    tracing.stop().await;
    let spans = collector.spans();
    assert!(spans.len() == 4 && spans.iter().all(|span| span.node() == "tracing"), "{spans:#?}");
}

#[tokio::test]
async fn a_clients_own_publication_is_traced_and_its_word_on_traces_is_not_believed() {
    let collector = Collector::start().await;
    let gateway = Gateway::start_with(|config| {
        traced(&collector)(config);
        config.otlp.sample_ratio = 1.0;
    })
    .await;
    let path = format!("/ws?token={}&channels=news", gateway.token("ann"));
    let mut raw = Raw::open(gateway.public()).await;
    raw.send(upgrade_request(&path, &format!("traceparent: 00-{TRACE}-{CALLER}-01\r\n"))).await;
    assert_eq!(raw.answer().await.status, 101);
    raw.next_json().await;
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let publish = json!({"publish": {"channel": "news", "data": 1}, "traceparent": parent});
    raw.send_text(&publish.to_string()).await;
    assert!(raw.next_json().await["push"]["pub"].is_object());
    gateway.stop().await;
    let spans = collector.spans();
    let [producer] = of(&spans, SpanKind::Producer)[..] else { panic!("{spans:#?}") };
    let [consumer] = of(&spans, SpanKind::Consumer)[..] else { panic!("{spans:#?}") };
    assert_eq!((spans.len(), &*producer.parent), (2, ""));
    assert_ne!(producer.trace, TRACE);
    assert_eq!((&consumer.trace, &consumer.parent), (&producer.trace, &producer.id));
    assert!(!collector.has_seen("ann") && !collector.has_seen("news"));
}

#[tokio::test]
async fn who_may_not_publish_is_not_traced() {
    let collector = Collector::start().await;
    let gateway = Gateway::start_with(traced(&collector)).await;
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let body = json!({"channel": "news", "data": 1}).to_string();
    for key in ["wrong", ""] {
        let headers = [("x-api-key", key), ("traceparent", &*parent)];
        assert_eq!(post(gateway.internal(), "/api/publish", &headers, &body).await.status, 401);
    }
    gateway.stop().await;
    assert_eq!(collector.requests(), 0);
}

#[tokio::test]
async fn each_publication_of_a_request_has_its_span_and_says_what_became_of_it() {
    let collector = Collector::start().await;
    let gateway = Gateway::start_with(traced(&collector)).await;
    let publish = |data: u64, key: &str| json!({"publish": {"channel": "kept:a", "data": data, "idempotency_key": key}});
    call(&gateway, "batch", &json!({"commands": [publish(1, ""), publish(2, "k"), publish(3, "k")]}), true)
        .await;
    call(&gateway, "broadcast", &json!({"channels": ["kept:b", "read:c", "unknown:d"], "data": 1}), true)
        .await;
    call(&gateway, "publish", &json!({"channel": "unknown:d", "data": 1}), true).await;
    // Nobody is subscribed, so that no node has to deliver anything.
    gateway.stop().await;
    let spans = collector.spans();
    assert!(of(&spans, SpanKind::Consumer).is_empty(), "{spans:#?}");
    let servers = of(&spans, SpanKind::Server);
    let outcome = |name: &str| {
        let span = servers.iter().find(|span| span.name == name).expect("it was called");
        (span.attributes.get("error.type").cloned().unwrap_or_default(), span.is_error)
    };
    assert_eq!(outcome("POST /api/batch"), (String::new(), false));
    assert_eq!(outcome("POST /api/broadcast"), (String::new(), false));
    assert_eq!(outcome("POST /api/publish"), ("102".to_owned(), false), "the caller was wrong");
    let mut producers: Vec<_> = of(&spans, SpanKind::Producer)
        .into_iter()
        .map(|span| {
            let parent =
                servers.iter().find(|server| server.id == span.parent).expect("a request asked for it");
            let is_suppressed = span.attributes.contains_key("clarion.suppressed");
            (&*parent.name, &*span.name, is_suppressed)
        })
        .collect();
    producers.sort_unstable();
    let expected = [
        ("POST /api/batch", "publish kept", false),
        ("POST /api/batch", "publish kept", false),
        ("POST /api/batch", "publish kept", true),
        ("POST /api/broadcast", "publish kept", false),
        ("POST /api/broadcast", "publish read", false),
    ];
    assert_eq!(producers, expected);
}

/// The real binary, which sends what is traced to `endpoint` at once, with more variables in its environment.
fn serve(endpoint: &str, more: &[(&str, &str)]) -> Process {
    let keys = json!([API_KEY]).to_string();
    let variables = [
        ("CLARION__LOG__LEVEL", "trace"),
        ("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", SECRET),
        ("CLARION__API__KEYS", &keys),
        ("CLARION__PUBLIC__ADDRESS", "127.0.0.1"),
        ("CLARION__PUBLIC__PORT", "0"),
        ("CLARION__INTERNAL__PORT", "0"),
        ("CLARION__NODE__NAME", "one"),
        ("CLARION__OTLP__ENDPOINT", endpoint),
        ("CLARION__OTLP__SAMPLE_RATIO", "0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    Process::start(&["serve"], &[&variables, more].concat())
}

async fn publish_traced(process: &mut Process) {
    let (_, internal) = process.addresses().await;
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let headers = [("x-api-key", API_KEY), ("traceparent", &*parent)];
    let body = json!({"channel": "news", "data": 1}).to_string();
    assert_eq!(post(internal, "/api/publish", &headers, &body).await.status, 200);
}

#[tokio::test]
async fn over_tls_a_collector_must_show_a_certificate_that_is_trusted_and_gets_the_key() {
    let (collector, certificates) = (Collector::start().await, certificates());
    let endpoint = collector.tls_endpoint(&certificates).await;
    let trusts = certificates.file("other.pem");
    let mut distrustful = serve(&endpoint, &[("SSL_CERT_FILE", &trusts)]);
    publish_traced(&mut distrustful).await;
    let says_so = "invalid peer certificate";
    eventually("it to say so", async || distrustful.output().contains(says_so)).await;
    assert_eq!(collector.requests(), 0);
    let trusts = certificates.file("ca.pem");
    let key = format!("x-key={CANARY}");
    let variables = [("SSL_CERT_FILE", &*trusts), ("OTEL_EXPORTER_OTLP_HEADERS", &*key)];
    let mut trusting = serve(&endpoint, &variables);
    publish_traced(&mut trusting).await;
    assert_eq!(of(&collector.has(2).await, SpanKind::Server).len(), 1);
    assert_eq!(collector.keys(), [CANARY]);
    assert!(!trusting.output().contains(CANARY));
}

#[tokio::test]
async fn spans_come_while_a_node_runs_and_logs_say_of_which_trace_they_are() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let attributes = "service.name=renamed,k8s.pod.name=pod-1";
    let mut process = serve(&endpoint, &[("OTEL_RESOURCE_ATTRIBUTES", attributes)]);
    publish_traced(&mut process).await;
    let spans = collector.has(2).await;
    let server = of(&spans, SpanKind::Server)[0];
    let expected = [("service.name", "renamed"), ("service.instance.id", "one"), ("k8s.pod.name", "pod-1")];
    for (name, value) in expected {
        assert_eq!(server.resource[name], value, "{:?}", server.resource);
    }
    assert_eq!(server.resource["service.version"], env!("CARGO_PKG_VERSION"));
    let output = process.output();
    let line = output.lines().find(|line| line.contains("server API is called")).expect("it is logged");
    let line: Value = serde_json::from_str(line).expect("logs are JSON");
    assert_eq!(
        (&line["span"]["trace_id"], &line["span"]["span_id"]),
        (&json!(TRACE), &json!(server.id)),
        "{line}"
    );
    process.send_signal(rustix::process::Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(0));
}
