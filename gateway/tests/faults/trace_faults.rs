//! Whoever collects traces is not as it should be: F46.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::catalogue::{Fault, fault};
use crate::node::call_api;
use crate::scenario::{Scene, Setup};
use crate::wait;

pub(crate) const FAULTS: &[Fault] = &[fault!(
    "F46",
    SMOKE,
    "the collectors of traces are gone, hang, and are slow",
    |_| traced(),
    uncollected
)];

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The places of the nodes whose collectors are so.
const GONE: usize = 0;
const HANGING: usize = 1;
const SLOW: usize = 2;

/// How much later a slow collector hears and is heard: together less than the exporter waits, which is 10 s.
const LATENCY: Duration = Duration::from_secs(2);

/// How long a node whose collector hangs may take to end. Spans hold it up for 2 s; without that limit four batches would,
/// for 10 s each.
const EXIT_MAX: Duration = Duration::from_secs(6);

/// Publications in one request; the queue of spans has room for 2,048.
const FLOOD: usize = 500;

/// Everything is traced, and sent without delay.
fn traced() -> Setup {
    Setup {
        is_traced: true,
        environment: |_, _| Ok(vec![("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned())]),
        ..Setup::default()
    }
}

async fn uncollected(scene: &mut Scene) -> Result<()> {
    for (node, collector) in scene.nodes.iter().zip(&scene.collectors) {
        wait::until("spans to be collected", PATIENCE, async || Ok(collector.batches() > 0)).await?;
        ensure!(
            lost(scene, node.name(), "").await? == 0.0,
            "spans of {} are lost before the fault",
            node.name()
        );
    }
    let calm = p99(scene, Instant::now() - Duration::from_secs(60));
    scene.begins();
    scene.collectors[GONE].proxy.change(|weather| weather.refuses = true);
    scene.collectors[GONE].proxy.reset();
    scene.collectors[HANGING].proxy.freeze();
    scene.collectors[SLOW].proxy.change(|weather| weather.latency = LATENCY);
    for node in 0..scene.nodes.len() {
        flood_until_spans_are_lost(scene, node).await.with_context(|| format!("node {node}"))?;
    }
    let under_fault = p99(scene, scene.begun_at());
    scene.heals();
    scene.settle().await?;
    scene.report.seconds("p99_calm", calm);
    scene.report.seconds("p99", under_fault);
    scene.require_no_closes();
    scene.require_no_unavailability();
    scene.require_healing_by_nodes();
    is_back(scene).await?;
    ends_in_time(scene).await
}

/// Spans of a node that were lost for this reason; of all reasons if it is empty.
async fn lost(scene: &Scene, name: &str, reason: &str) -> Result<f64> {
    let node = scene.nodes.iter().find(|node| node.name() == name).context("there is such a node")?;
    let mut sum = 0.0;
    for known in ["queue_full", "not_taken"] {
        if reason.is_empty() || reason == known {
            sum += node.metric(&format!("clarion_spans_dropped_total{{reason=\"{known}\"}}")).await?;
        }
    }
    Ok(sum)
}

/// Publishes at a node, in large requests, until it has lost spans as one does whose collector is so.
async fn flood_until_spans_are_lost(scene: &Scene, place: usize) -> Result<()> {
    let reason = if place == GONE { "not_taken" } else { "queue_full" };
    let publish = json!({"publish": {"channel": "plain:flood", "data": 1}});
    let request = json!({"commands": vec![publish; FLOOD]});
    let mut http = scene.http(place);
    wait::until("spans to be lost", PATIENCE, async || {
        let answer = call_api(&mut http, "batch", &request, PATIENCE).await?;
        ensure!(answer.status == 200, "a batch is answered {}", answer.status);
        Ok(lost(scene, scene.nodes[place].name(), reason).await? > 0.0)
    })
    .await
    .map(drop)
}

/// The 99th percentile of publishing since `start`.
fn p99(scene: &Scene, start: Instant) -> Option<Duration> {
    let attempts = scene.desk.attempts_since(start);
    let mut times: Vec<Duration> = attempts.iter().map(|attempt| attempt.took).collect();
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied()
}

/// The collector that was gone is back, and gets spans; the node has said both, once.
async fn is_back(scene: &mut Scene) -> Result<()> {
    let collector = &scene.collectors[GONE];
    let before = collector.batches();
    collector.proxy.clear();
    let request = json!({"channel": "plain:flood", "data": 1});
    wait::until("spans to be collected again", PATIENCE, async || {
        scene.nodes[GONE].api("publish", &request).await?;
        Ok(collector.batches() > before)
    })
    .await?;
    let log = scene.nodes[GONE].log();
    let said = |level: &str, words: &str| {
        let is_it = |line: &&Value| {
            line["level"] == level && line["message"].as_str().is_some_and(|text| text.contains(words))
        };
        log.iter().filter(is_it).count()
    };
    let (bad, good) = (said("WARN", "takes no spans"), said("INFO", "takes spans again"));
    scene.require(
        (bad, good) == (1, 1),
        format!("it was said {bad} times that spans are lost, {good} times not"),
    );
    Ok(())
}

/// The node whose collector hangs is told to stop.
async fn ends_in_time(scene: &mut Scene) -> Result<()> {
    scene.disturbs(HANGING);
    let start = Instant::now();
    scene.nodes[HANGING].stop().await?;
    let took = start.elapsed();
    scene.report.seconds("t_exit", took);
    scene.require(took < EXIT_MAX, format!("a node whose collector hangs ended after {took:?}"));
    Ok(())
}
