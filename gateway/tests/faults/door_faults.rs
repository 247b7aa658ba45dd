//! Clients that come and do not say what they want: F54, F55, F56.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::catalogue::{Fault, fault};
use crate::crowd::raise_open_files;
use crate::node::API_KEY;
use crate::raw::{FIN, PING, Raw, frame};
use crate::scenario::{Depth, Scene, Setup};
use crate::wait;

pub(crate) const FAULTS: &[Fault] = &[
    fault!("F54", SMOKE, "clients do not finish their requests", |depth| alone(depth), dripping),
    fault!("F55", FULL, "5,000 connections on which nothing is sent", |depth| alone(depth), idle),
    fault!("F56", SMOKE, "clients upgrade and say nothing", |depth| alone(depth), silent),
];

/// How long anything may take that is not measured.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much later than due somebody may be closed on a machine that is busy.
const SLACK: Duration = Duration::from_secs(3);
/// How many come in each way.
const EACH: usize = 100;
/// Most connections from one address.
const ADDRESS_CONNECTIONS_MAX: usize = 1_000;

/// What a node waits for: as short as it shows something, or as it comes.
fn patience(depth: Depth) -> (Duration, Duration) {
    depth.pick(
        (Duration::from_secs(1), Duration::from_secs(1)),
        (Duration::from_secs(5), Duration::from_secs(10)),
    )
}

/// A node alone, with its own memory.
fn alone(depth: Depth) -> Setup {
    Setup {
        clients: 10,
        change: match depth {
            Depth::Smoke => |config| patient(config, Depth::Smoke),
            Depth::Full => |config| patient(config, Depth::Full),
        },
        ..Setup::memory()
    }
}

fn patient(config: &mut Value, depth: Depth) {
    let (short, long) = patience(depth);
    config["public"]["header_timeout"] = json!(format!("{short:?}"));
    config["client"]["stale_close_delay"] = json!(format!("{long:?}"));
    config["client"]["address_connections_max"] = json!(ADDRESS_CONNECTIONS_MAX);
    config["api"]["timeout"] = json!(format!("{long:?}"));
    config["admission"] = json!({"handshakes_per_second": 20_000});
}

async fn rejected(scene: &Scene, reason: &str) -> Result<f64> {
    scene.nodes[0].metric(&format!("clarion_handshakes_rejected_total{{reason=\"{reason}\"}}")).await
}

/// Sends `begin`, then `drop` again and again with pauses, until the other side ends it; answers how long that took,
/// and what it said.
async fn drip(address: SocketAddr, begin: &str, drop: &str, pause: Duration) -> Result<(Duration, Vec<u8>)> {
    let start = Instant::now();
    let mut raw = Raw::open(address).await?;
    raw.send(begin.as_bytes()).await?;
    let said = loop {
        match tokio::time::timeout(pause, raw.rest()).await {
            Ok(said) => break said?,
            // Whoever is closed meanwhile reads so next.
            Err(_) if !drop.is_empty() => std::mem::drop(raw.send(drop.as_bytes()).await),
            Err(_) => {}
        }
    };
    Ok((start.elapsed(), said))
}

async fn dripping(scene: &mut Scene) -> Result<()> {
    let (header_timeout, body_timeout) = patience(scene.depth);
    let (public, internal) = (scene.nodes[0].public(), scene.nodes[0].internal());
    let files = files(scene).await?;
    scene.begins();
    let mut heads = JoinSet::new();
    for _ in 0..EACH {
        heads.spawn(drip(public, "GET /ws HTTP/1.1\r\nhost: te", "", header_timeout));
        heads.spawn(drip(public, "GET /ws HTTP/1.1\r\nx: ", "x", header_timeout / 5));
    }
    let no_body = format!(
        "POST /api/publish HTTP/1.1\r\nhost: test\r\nx-api-key: {API_KEY}\r\ncontent-type: application/json\r\n\
         content-length: 100\r\n\r\n"
    );
    let nobody = "POST /connection/websocket HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n";
    let mut bodies = JoinSet::new();
    for _ in 0..EACH / 10 {
        let no_body = no_body.clone();
        bodies.spawn(async move { drip(internal, &no_body, "", body_timeout).await });
        let no_body = format!("{nobody}x");
        heads.spawn(async move { drip(public, &no_body, "", header_timeout).await });
    }
    // Whoever says what it wants gets it meanwhile.
    Raw::native(public, "honest").await.context("while others drip")?;
    let mut closed = Duration::ZERO;
    while let Some(one) = heads.join_next().await {
        closed = closed.max(one??.0);
    }
    let mut refused = Duration::ZERO;
    while let Some(one) = bodies.join_next().await {
        let (took, said) = one??;
        refused = refused.max(took);
        let said = String::from_utf8_lossy(&said).into_owned();
        scene.require(said.starts_with("HTTP/1.1 408 "), format!("a body that does not come: {said:?}"));
    }
    // Who has its file back has been counted.
    files_are_back(scene, files).await?;
    let counted = rejected(scene, "header_timeout").await?;
    scene.heals();
    scene.settle().await?;
    scene.report.seconds("t_close", closed);
    scene.report.seconds("t_body", refused);
    scene.report.figure("header_timeouts", counted);
    scene.require(closed <= header_timeout + SLACK, format!("a head that does not end lives {closed:?}"));
    scene.require(refused <= body_timeout + SLACK, format!("a body that does not come lives {refused:?}"));
    scene.require(counted == 2.0 * EACH as f64, format!("{counted} heads that did not end are counted"));
    scene.require_no_closes();
    Ok(())
}

/// How many files the node holds, with those of all who publish.
async fn files(scene: &Scene) -> Result<usize> {
    scene.everybody_got(scene.desk.next_number() + 100, PATIENCE).await?;
    scene.nodes[0].process().files()
}

/// The node holds as many files as before, or fewer.
async fn files_are_back(scene: &Scene, before: usize) -> Result<()> {
    let process = scene.nodes[0].process();
    // The harness itself comes and goes.
    let are_back = async || Ok(process.files()? <= before + 2);
    wait::until("files to be free", PATIENCE, are_back).await.map(drop)
}

async fn idle(scene: &mut Scene) -> Result<()> {
    const CROWD: usize = 5_000;
    raise_open_files();
    let address = scene.nodes[0].public();
    let files = files(scene).await?;
    scene.begins();
    let mut idle = Vec::with_capacity(CROWD);
    for _ in 0..CROWD {
        idle.push(Raw::open(address).await?);
    }
    let (opened_in, opened_at) = (scene.begun_at().elapsed(), Instant::now());
    let most = scene.nodes[0].process().files()?;
    // Somebody from elsewhere is let in.
    Raw::open_narrow(address, 0).await?.upgrade("/connection/websocket").await.context("meanwhile")?;
    let mut told = 0;
    for raw in &mut idle {
        let said = raw.rest().await?;
        told += usize::from(said.starts_with(b"HTTP/1.1 429 "));
        ensure!(said.is_empty() || said.starts_with(b"HTTP/1.1 429 "), "told {:?}", String::from_utf8(said));
    }
    let closed = opened_at.elapsed();
    drop(idle);
    files_are_back(scene, files).await?;
    let (refused, timed_out) =
        (rejected(scene, "address_connections_max").await?, rejected(scene, "header_timeout").await?);
    scene.heals();
    scene.settle().await?;
    scene.report.seconds("t_open", opened_in);
    scene.report.seconds("t_close", closed);
    scene.report.figure("files_before", files);
    scene.report.figure("files_peak", most);
    scene.report.figure("refused", refused);
    scene.report.figure("told_429", told);
    scene.report.figure("header_timeouts", timed_out);
    let (header_timeout, _) = patience(scene.depth);
    scene.require(closed <= header_timeout + SLACK, format!("idle connections live {closed:?}"));
    let all = refused + timed_out;
    scene.require(all == CROWD as f64, format!("{refused} are refused, and {timed_out} closed"));
    scene.require(refused > 0.0, "nobody was refused for its address");
    let own = scene.probes.len();
    let within = most <= files + ADDRESS_CONNECTIONS_MAX + own + 1_500;
    scene.require(within, format!("{most} files, with {ADDRESS_CONNECTIONS_MAX} connections of an address"));
    scene.require_no_closes();
    Ok(())
}

async fn silent(scene: &mut Scene) -> Result<()> {
    let (_, stale_after) = patience(scene.depth);
    let address = scene.nodes[0].public();
    scene.begins();
    let mut waiting = JoinSet::new();
    for index in 0..2 * EACH {
        waiting.spawn(async move {
            let start = Instant::now();
            let mut raw = Raw::silent(address).await?;
            // A ping says that somebody is there, not who.
            let code = loop {
                match tokio::time::timeout(stale_after / 5, raw.close_code()).await {
                    Ok(code) => break code?,
                    Err(_) if index % 2 == 0 => raw.send(&frame(FIN | PING, b"")).await?,
                    Err(_) => {}
                }
            };
            anyhow::Ok((code, start.elapsed()))
        });
    }
    let (mut first, mut last) = (Duration::MAX, Duration::ZERO);
    while let Some(one) = waiting.join_next().await {
        let (code, took) = one??;
        (first, last) = (first.min(took), last.max(took));
        scene.require(code == 3502, format!("silence is answered by {code}"));
    }
    let counted = async || {
        let stale = "clarion_connections_closed_total{reason=\"stale\"}";
        Ok(scene.nodes[0].metric(stale).await? == 2.0 * EACH as f64)
    };
    wait::until("all ends to be counted", PATIENCE, counted).await?;
    scene.heals();
    scene.settle().await?;
    scene.report.seconds("t_first", first);
    scene.report.seconds("t_last", last);
    scene.require(first >= stale_after, format!("somebody was closed after {first:?}"));
    scene.require(last <= stale_after + SLACK, format!("somebody was closed after {last:?}"));
    scene.require_no_closes();
    Ok(())
}
