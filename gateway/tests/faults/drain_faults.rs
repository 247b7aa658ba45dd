//! A node is told to stop: F33, F34, F37.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use crate::catalogue::{Fault, fault};
use crate::journal::{End, Entry};
use crate::scenario::{Depth, Scene, Setup};
use crate::{token, wait};

pub(crate) const FAULTS: &[Fault] = &[
    fault!("F33", SMOKE, "every node is told to stop, one after another", rolling, roll),
    fault!("F34", SMOKE, "a node is told to stop whose clients do not read", |_| deaf(), unread),
    fault!("F37", SMOKE, "a node is told to stop twice", |_| hurried(), twice),
];

/// How long the load balancer goes on sending clients to a node that was told to stop.
const LAG: Duration = Duration::from_secs(1);
/// How much longer than its drain a node may take until the platform kills it.
const SLACK: Duration = Duration::from_secs(10);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// In seconds: a delay above the lag, and a window in which there are many closes to compare.
const DELAY: u64 = 2;

fn window(depth: Depth) -> u64 {
    depth.pick(4, 10)
}

fn rolling(depth: Depth) -> Setup {
    Setup {
        clients: depth.pick(120, 900),
        channels_each: 2,
        per_second: depth.pick(100, 300),
        change: match depth {
            Depth::Smoke => |config| drains(config, Depth::Smoke),
            Depth::Full => |config| drains(config, Depth::Full),
        },
        ..Setup::default()
    }
}

fn drains(config: &mut Value, depth: Depth) {
    config["drain"] = json!({"delay": format!("{DELAY}s"), "window": format!("{}s", window(depth))});
}

fn deaf() -> Setup {
    let change = |config: &mut Value| {
        config["drain"] = json!({"delay": "0s", "window": "1s"});
        config["client"]["send_buffer_bytes"] = json!(4096);
        config["client"]["write_timeout"] = json!("60s");
        config["client"]["ping_interval"] = json!("60s");
    };
    Setup { change, ..Setup::default() }
}

fn hurried() -> Setup {
    Setup {
        change: |config| config["drain"] = json!({"delay": "1s", "window": "60s"}),
        channels: vec!["both:room".into(), "kept:a".into()],
        channels_each: 2,
        ..Setup::default()
    }
}

/// What one stop showed.
struct Stop {
    /// How long connections were being closed, and how often at the most in a second of that.
    spread: Duration,
    busiest: usize,
    closed: usize,
    exit: Duration,
}

async fn roll(scene: &mut Scene) -> Result<()> {
    scene.begins();
    let mut stops = Vec::new();
    for node in 0..scene.nodes.len() {
        scene.disturbs(node);
        stops.push(stop(scene, node).await?);
        scene.nodes[node].restart().await?;
        let restarted = &scene.nodes[node];
        wait::until("the node to be ready again", PATIENCE, async || restarted.is_ready().await).await?;
        scene.fleet.open(node);
    }
    scene.heals();
    scene.settle().await?;
    let abnormal = scene.count(
        |entry| matches!(entry, Entry::Ended(end) if !matches!(end, End::Closed(3001) | End::Unreachable)),
    );
    scene.require(abnormal == 0, format!("{abnormal} connections ended without the word to come again"));
    let window = window(scene.depth);
    for (node, Stop { spread, busiest, closed, exit }) in stops.iter().enumerate() {
        scene.require(*closed > 20, format!("node {node} had but {closed} clients: that shows nothing"));
        let even = *closed as f64 / window as f64;
        let allowed = even.mul_add(1.5, 3.0);
        let too_many = format!("node {node} closed {busiest} of {closed} in its busiest second");
        scene.require(*busiest as f64 <= allowed, too_many);
        // As late as possible but not later; that it is no earlier is what counts.
        let most_of_it = Duration::from_secs(window).mul_f64(0.75);
        scene.require(*spread >= most_of_it, format!("node {node} closed all its clients in {spread:?}"));
        let deadline = Duration::from_secs(DELAY + window) + SLACK;
        scene.require(*exit <= deadline, format!("node {node} took {exit:?} to end"));
    }
    let busiest = stops.iter().map(|stop| stop.busiest).max();
    scene.report.figure("busiest_second", busiest.unwrap_or(0));
    scene.report.seconds("spread_min", stops.iter().map(|stop| stop.spread).min());
    scene.report.seconds("t_exit_max", stops.iter().map(|stop| stop.exit).max());
    Ok(())
}

/// Stops a node as a platform does: clients are still sent to it for a moment.
async fn stop(scene: &mut Scene, node: usize) -> Result<Stop> {
    let told_at = Instant::now();
    scene.nodes[node].process().signal(Signal::TERM)?;
    let told = &scene.nodes[node];
    wait::until("the node not to be ready", PATIENCE, async || Ok(!told.is_ready().await?)).await?;
    let alive = told.get("/livez").await?.status;
    let draining = told.metric("clarion_draining").await?;
    let is_in_delay = told_at.elapsed() < Duration::from_secs(DELAY) - LAG / 2;
    let is_accepted = upgrade(TcpStream::connect(told.public()).await?).await?.1 == 101;
    scene.require(alive == 200 && draining == 1.0, "a node that stops does not say that it lives and drains");
    scene.require(is_accepted || !is_in_delay, "a node that was just told to stop lets nobody in");
    sleep(LAG).await;
    scene.fleet.close(node);
    let status =
        scene.nodes[node].exit_after(Duration::from_secs(DELAY + window(scene.depth)) + SLACK).await?;
    let exit = told_at.elapsed();
    scene.require(status.code() == Some(0), format!("node {node} ended with {status}"));
    let mut closes = closes_since(scene, told_at);
    closes.sort_unstable();
    let busiest = closes.iter().enumerate().map(|(index, first)| {
        closes[index..].iter().take_while(|at| at.duration_since(*first) < Duration::from_secs(1)).count()
    });
    let busiest = busiest.max().unwrap_or(0);
    let spread = closes.first().zip(closes.last()).map(|(first, last)| last.duration_since(*first));
    Ok(Stop { spread: spread.unwrap_or_default(), busiest, closed: closes.len(), exit })
}

/// When clients were asked to come again since `start`.
fn closes_since(scene: &Scene, start: Instant) -> Vec<Instant> {
    let closes = |probe: &crate::probe::Probe| -> Vec<Instant> {
        let journal = probe.journal();
        let noted = journal.entries.iter().filter(|noted| noted.at >= start);
        let closed = noted.filter(|noted| matches!(noted.entry, Entry::Ended(End::Closed(3001))));
        closed.map(|noted| noted.at).collect()
    };
    scene.probes.iter().flat_map(closes).collect()
}

/// Asks for the bare form, subscribed to `plain:hot`; answers with what.
async fn upgrade(mut stream: TcpStream) -> Result<(TcpStream, u16)> {
    let request = format!(
        "GET /ws?token={}&channels=plain:hot HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        token::sign("reader")
    );
    stream.write_all(request.as_bytes()).await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    let status = std::str::from_utf8(&status[9..])?.parse()?;
    Ok((stream, status))
}

async fn unread(scene: &mut Scene) -> Result<()> {
    const READERS: usize = 100;
    let mut readers = Vec::with_capacity(READERS);
    for _ in 0..READERS {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        readers.push(upgrade(socket.connect(scene.nodes[0].public()).await?).await?.0);
    }
    // More than the kernel takes for each, and less than a connection may have waiting.
    let request = json!({"channel": "plain:hot", "data": "x".repeat(64 << 10)});
    for _ in 0..8 {
        scene.nodes[0].api("publish", &request).await?;
    }
    let node = &scene.nodes[0];
    let are_behind = async || Ok(node.metric("clarion_outbox_bytes").await? > (READERS * (64 << 10)) as f64);
    wait::until("readers to be behind", PATIENCE, are_behind).await?;
    scene.begins();
    scene.disturbs(0);
    let told_at = Instant::now();
    scene.nodes[0].process().signal(Signal::TERM)?;
    scene.fleet.close(0);
    let status = scene.nodes[0].exit_after(Duration::from_secs(1) + SLACK).await?;
    scene.report.seconds("t_exit", told_at.elapsed());
    scene.require(status.code() == Some(0), format!("it ended with {status}"));
    let last = scene.nodes[0].log().pop().context("it says something last")?;
    let cut = last["cut"].as_u64().unwrap_or(0);
    scene.report.figure("cut", cut);
    scene.require(cut == READERS as u64, format!("its last word is {last}"));
    drop(readers);
    scene.nodes[0].restart().await?;
    scene.fleet.open(0);
    scene.heals();
    scene.settle().await
}

async fn twice(scene: &mut Scene) -> Result<()> {
    scene.begins();
    for (node, signal, code) in [(0, Signal::TERM, 143), (1, Signal::INT, 130)] {
        scene.disturbs(node);
        scene.nodes[node].process().signal(Signal::TERM)?;
        let told = &scene.nodes[node];
        wait::until("the node not to be ready", PATIENCE, async || Ok(!told.is_ready().await?)).await?;
        scene.fleet.close(node);
        scene.nodes[node].process().signal(signal)?;
        let status = scene.nodes[node].exit_after(PATIENCE).await?;
        let is_right = status.code() == Some(code) && status.signal().is_none();
        scene.require(is_right, format!("told to stop twice, a node ended with {status} instead of {code}"));
        scene.nodes[node].restart().await?;
        scene.fleet.open(node);
    }
    scene.heals();
    scene.settle().await?;
    // Who came back is there once, and nobody else.
    let connected = scene.probes.len();
    let node = &scene.nodes[2];
    wait::until("the presence to be right", PATIENCE, async || {
        let stats = node.api("presence_stats", &json!({"channel": "both:room"})).await?;
        Ok(stats["num_clients"].as_u64() == Some(connected as u64))
    })
    .await?;
    Ok(())
}
