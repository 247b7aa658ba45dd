//! Clients that do not take what they are sent, or are not there any more: F50, F51, F52, P8.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::catalogue::{Fault, fault};
use crate::crowd::raise_open_files;
use crate::firewall::Rules;
use crate::journal::Entry;
use crate::raw::{Raw, bare_path};
use crate::scenario::{Depth, Scene, Setup};
use crate::{token, wait};

pub(crate) const FAULTS: &[Fault] = &[
    fault!("F50", SMOKE, "clients stop reading", |_| hot(), deaf),
    fault!("F51", FULL, "a client reads a tenth of what it is sent", |_| unhurried(), slow),
    fault!("F52", FULL, "a client is cut off, and nobody is told", half_open_setup, half_open),
    fault!("P8", FULL, "15,000 clients never read a hot channel", |_| crowded(), budget),
];

/// How long anything may take that is not measured.
const PATIENCE: Duration = Duration::from_secs(20);
/// The channel that all are subscribed to, those who read included.
const HOT: &str = "kept:hot";
/// The default of `client.outbox_bytes_max`.
const OUTBOX_BYTES_MAX: usize = 1 << 20;
/// What the kernel may hold for a client beside its outbox: twice `client.send_buffer_bytes` for the sender's side, and
/// what the receiver has room for.
const KERNEL_BYTES_MAX: usize = 192 << 10;
/// The default of `client.write_timeout`.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// A node as it comes, with a hot channel; nobody is closed for a ping that waits.
fn hot() -> Setup {
    Setup {
        clients: 10,
        channels: vec![HOT.into(), "kept:calm".into()],
        channels_each: 2,
        per_second: 50,
        workers: 5,
        change: patient,
        ..Setup::memory()
    }
}

/// The same, where bytes alone decide: what a slow reader has taken is not seen at once.
fn unhurried() -> Setup {
    let change = |config: &mut Value| {
        patient(config);
        config["client"]["write_timeout"] = json!("300s");
    };
    Setup { change, ..hot() }
}

fn patient(config: &mut Value) {
    config["client"]["ping_interval"] = json!("600s");
    config["client"]["pong_timeout"] = json!("300s");
}

/// The nth client that subscribes to the hot channel and will not read.
async fn stalled(scene: &Scene, index: usize) -> Result<Raw> {
    let path = bare_path(&format!("deaf-{index}"), HOT);
    Raw::open_narrow(scene.nodes[0].public(), index).await?.upgrade(&path).await
}

/// Several of them.
async fn several_stalled(scene: &Scene) -> Result<Vec<Raw>> {
    let mut deaf = Vec::new();
    for index in 0..DEAF {
        deaf.push(stalled(scene, index).await?);
    }
    subscribed(scene, DEAF).await?;
    Ok(deaf)
}

const DEAF: usize = 5;

/// Waits until there are so many subscriptions beside those of the clients that read.
async fn subscribed(scene: &Scene, count: usize) -> Result<()> {
    let all = (scene.subscriptions() + count) as f64;
    let node = &scene.nodes[0];
    let are_there = async || Ok(node.metric("clarion_subscriptions").await? == all);
    wait::until("clients to be subscribed", PATIENCE * 4, are_there).await.map(drop)
}

/// Publishes to the hot channel so many times; everybody who reads has it when this ends.
async fn publish(scene: &Scene, times: usize, bytes: usize) -> Result<()> {
    let (hot, mut http, mut number) = (Arc::clone(&scene.channels[0]), scene.http(0), 0);
    for _ in 0..times {
        number = scene.desk.draw();
        scene.desk.send(&mut http, &hot, number, bytes, Instant::now()).await;
    }
    let all_have = async || {
        let has = |probe: &crate::probe::Probe| probe.journal().standings[HOT].number_max >= number;
        Ok(scene.probes.iter().all(has))
    };
    wait::until("a publication to reach all who read", PATIENCE, all_have).await.map(drop)
}

/// Waits until so many connections have ended with this label.
async fn are_closed(scene: &Scene, label: &str, count: usize) -> Result<()> {
    let name = format!("clarion_connections_closed_total{{{label}}}");
    let all = async || Ok(scene.nodes[0].metric(&name).await? == count as f64);
    wait::until(&format!("{count} clients to be closed: {label}"), PATIENCE, all).await.map(drop)
}

/// Nothing of those who are gone is left.
async fn nothing_is_left(scene: &mut Scene) -> Result<()> {
    let own = scene.probes.len() as f64;
    for (name, expected) in [("clarion_outbox_bytes", 0.0), ("clarion_connections", own)] {
        let node = &scene.nodes[0];
        let is_so = async || Ok(node.metric(name).await? == expected);
        wait::until(&format!("{name} to be {expected}"), PATIENCE, is_so).await?;
    }
    scene.require_no_closes();
    scene.require_no_unavailability();
    Ok(())
}

async fn deaf(scene: &mut Scene) -> Result<()> {
    const PUBLICATION_BYTES: usize = 16 << 10;
    const TOGETHER: usize = 4;
    let calm_since = calm(scene).await?;
    let overflowing = several_stalled(scene).await?;
    scene.begins();
    let mut bytes = 0;
    while scene.nodes[0].metric("clarion_slow_consumers_total").await? < DEAF as f64 {
        ensure!(bytes < 4 * OUTBOX_BYTES_MAX, "{bytes} bytes wait for each, and nobody is closed");
        publish(scene, TOGETHER, PUBLICATION_BYTES).await?;
        bytes += TOGETHER * PUBLICATION_BYTES;
    }
    // On a machine on which it took longer somebody may have been closed for the time before it was for the bytes.
    let is_judged = scene.begun_at().elapsed() < WRITE_TIMEOUT;
    are_closed(scene, "code=\"3008\"", DEAF).await?;
    let overflowed = scene.begun_at().elapsed();
    // These have room left, and do not get on.
    let stuck = several_stalled(scene).await?;
    let stuck_at = Instant::now();
    publish(scene, OUTBOX_BYTES_MAX / 2 / PUBLICATION_BYTES, PUBLICATION_BYTES).await?;
    are_closed(scene, "code=\"3008\"", 2 * DEAF).await?;
    let stuck_for = stuck_at.elapsed();
    for mut raw in overflowing.into_iter().chain(stuck) {
        raw.rest().await.context("the end of a connection that was given up")?;
    }
    nothing_is_left(scene).await?;
    scene.heals();
    scene.settle().await?;
    scene.report.seconds("t_close", overflowed);
    scene.report.seconds("t_close_stuck", stuck_for);
    scene.report.figure("bytes", bytes);
    record_delays(scene, calm_since);
    let most = OUTBOX_BYTES_MAX + KERNEL_BYTES_MAX + 2 * TOGETHER * PUBLICATION_BYTES;
    let is_enough = (OUTBOX_BYTES_MAX..most).contains(&(bytes + TOGETHER * PUBLICATION_BYTES));
    scene.report.figure("judged", if is_judged { "yes" } else { "no" });
    scene.require(is_enough || !is_judged, format!("closed after {bytes} bytes"));
    scene.require(stuck_for >= WRITE_TIMEOUT, "who did not get on was closed too early");
    Ok(())
}

/// Some publications while nothing is wrong, to compare with; answers when they began.
async fn calm(scene: &Scene) -> Result<Instant> {
    let since = Instant::now();
    scene.everybody_got(scene.desk.next_number() + 50, PATIENCE).await?;
    Ok(since)
}

/// How late those who read got what was published before and during the fault; for comparison, no requirement.
fn record_delays(scene: &mut Scene, calm_since: Instant) {
    let begun_at = scene.begun_at();
    let calm = scene.delay_p99(calm_since, begun_at);
    let hostile = scene.delay_p99(begun_at, Instant::now());
    scene.report.seconds("p99_before", calm);
    scene.report.seconds("p99_during", hostile);
}

async fn slow(scene: &mut Scene) -> Result<()> {
    /// What it reads of what it is sent.
    const SHARE: usize = 10;
    /// After so much it reads.
    const STEP_BYTES: usize = 16 << 10;
    let calm_since = calm(scene).await?;
    scene.begins();
    let (mut offered, mut counts) = (Vec::new(), Vec::new());
    for (index, publication_bytes) in [1 << 10, 16 << 10].into_iter().enumerate() {
        let mut reader = stalled(scene, index).await?;
        subscribed(scene, 1).await?;
        let (before, mut count) = (scene.nodes[0].metric("clarion_slow_consumers_total").await?, 0);
        while scene.nodes[0].metric("clarion_slow_consumers_total").await? == before {
            ensure!(count * publication_bytes < 4 * OUTBOX_BYTES_MAX, "nobody is closed");
            publish(scene, STEP_BYTES / publication_bytes, publication_bytes).await?;
            count += STEP_BYTES / publication_bytes;
            reader.take(STEP_BYTES / SHARE).await?;
        }
        // What is left is little, and at its end there is why.
        let code = reader.close_code().await?;
        scene.require(code == 3008, format!("a slow reader is closed with {code}"));
        are_closed(scene, "reason=\"slow\"", index + 1).await?;
        offered.push(count * publication_bytes);
        counts.push(count);
    }
    let took = scene.begun_at().elapsed();
    nothing_is_left(scene).await?;
    scene.heals();
    scene.settle().await?;
    scene.report.seconds("t_close", took);
    scene.report.figure("bytes_in_small", offered[0]);
    scene.report.figure("bytes_in_large", offered[1]);
    scene.report.figure("publications", format!("{counts:?}"));
    record_delays(scene, calm_since);
    let ratio = offered[0] as f64 / offered[1] as f64;
    scene.require((0.8..=1.25).contains(&ratio), format!("closed after {offered:?} bytes in {counts:?}"));
    Ok(())
}

/// The clocks of a fault: as short as others have them, or as they come.
fn half_open_setup(depth: Depth) -> Setup {
    Setup {
        nodes: 2,
        clients: 4,
        channels: vec!["room:half".into()],
        channels_each: 1,
        per_second: 10,
        workers: 2,
        change: match depth {
            Depth::Smoke => |_| {},
            Depth::Full => |config| {
                config["client"]["ping_interval"] = json!("25s");
                config["client"]["pong_timeout"] = json!("8s");
            },
        },
        ..Setup::default()
    }
}

async fn half_open(scene: &mut Scene) -> Result<()> {
    let deadline = scene.depth.pick(Duration::from_secs(3), Duration::from_secs(33));
    let node = scene.nodes[0].public();
    let (mut lost, client) = Raw::native(node, "lost").await?;
    lost.say(&json!({"id": 2, "subscribe": {"channel": "room:half"}})).await?;
    let noticed = |is_meant: fn(&Entry, &str) -> bool| {
        let notices = scene.probes.iter().filter(|probe| {
            let journal = probe.journal();
            journal.entries.iter().any(|noted| is_meant(&noted.entry, &client))
        });
        notices.count()
    };
    let joined = |entry: &Entry, client: &str| matches!(entry, Entry::Joined(its_id) if its_id == client);
    let left = |entry: &Entry, client: &str| matches!(entry, Entry::Left(its_id) if its_id == client);
    let all = scene.probes.len();
    wait::until("all to hear of it", PATIENCE, async || Ok(noticed(joined) == all)).await?;
    let rules = Rules::black_hole(node.port(), &[lost.port()?])?;
    let cut_at = Instant::now();
    let leave =
        wait::until("all to hear that it left", deadline * 2, async || Ok(noticed(left) == all)).await;
    let code = "clarion_connections_closed_total{code=\"3012\"}";
    wait::until("its end", deadline * 2, async || Ok(scene.nodes[0].metric(code).await? == 1.0)).await?;
    let ended = cut_at.elapsed();
    let present = scene.nodes[1].api("presence", &json!({"channel": "room:half"})).await?;
    drop(rules);
    drop(lost);
    scene.fault_at = cut_at;
    scene.heals();
    scene.settle().await?;
    let is_present = present["presence"].get(&client).is_some();
    scene.require(!is_present, "who is cut off is still present");
    scene.report.seconds("t_leave", leave.as_ref().ok().copied());
    scene.report.seconds("t_close", ended);
    let leave = leave?;
    let slack = Duration::from_secs(2);
    scene.require(leave <= deadline + slack, format!("its leave came after {leave:?}"));
    scene.require_no_closes();
    Ok(())
}

/// What all outboxes of the node may hold together.
const BUDGET_BYTES: usize = 128 << 20;
/// What a node may need beside what its outboxes hold: the places of what waits in them, and the allocator's own.
const SLACK_BYTES: u64 = 64 << 20;

fn crowded() -> Setup {
    let change = |config: &mut Value| {
        patient(config);
        config["client"]["outbox_bytes_total_max"] = json!(BUDGET_BYTES);
        // The kernel's part is not what this is about, and it is of all processes of the machine.
        config["client"]["send_buffer_bytes"] = json!(4096);
        config["client"]["write_timeout"] = json!("300s");
        config["client"]["position_check_interval"] = json!("600s");
        config["admission"] = json!({"handshakes_per_second": 20_000});
    };
    Setup { change, ..hot() }
}

async fn budget(scene: &mut Scene) -> Result<()> {
    const CROWD: usize = 15_000;
    const ENOUGH: f64 = 5_000.0;
    /// Of each connection that was there: places in tables, which the next ones use.
    const KEPT_BYTES_MAX: u64 = 512;
    const PUBLICATION_BYTES: usize = 1 << 10;
    raise_open_files();
    let before = scene.nodes[0].process().resident_bytes()?;
    let deaf = crowd(scene, CROWD).await?;
    subscribed(scene, CROWD).await?;
    let base = scene.nodes[0].process().resident_bytes()?;
    scene.begins();
    let mut count = 0;
    while scene.nodes[0].metric("clarion_slow_consumers_total").await? < ENOUGH {
        ensure!(count < 1_000, "{count} publications, and nobody is closed");
        publish(scene, 1, PUBLICATION_BYTES).await?;
        count += 1;
    }
    let took = scene.begun_at().elapsed();
    let (held, peak) = {
        let sighting = scene.watches[0].sighting();
        (sighting.outbox_bytes_max, sighting.resident_bytes_max)
    };
    drop(deaf);
    nothing_is_left(scene).await?;
    let codes = scene.nodes[0].metric("clarion_connections_closed_total{code=\"3008\"}").await?;
    let process = scene.nodes[0].process();
    let kept = KEPT_BYTES_MAX * CROWD as u64;
    let is_back = async || Ok(process.resident_bytes()? <= before * 12 / 10 + kept);
    let returned = wait::until("memory to return", Duration::from_secs(30), is_back).await;
    let after = process.resident_bytes()?;
    scene.heals();
    scene.settle().await?;
    scene.report.figure("publications", count);
    scene.report.figure("closed_3008", codes);
    scene.report.seconds("t_publish", took);
    let megabytes = |bytes: u64| format!("{}MB", bytes >> 20);
    scene.report.figure("outbox_peak", megabytes(held));
    scene.report.figure("rss_before", megabytes(before));
    scene.report.figure("rss_connected", megabytes(base));
    scene.report.figure("rss_after", megabytes(after));
    scene.report.seconds("t_memory", returned.as_ref().ok().copied());
    scene.require(codes >= ENOUGH, format!("{codes} connections ended with 3008"));
    scene.require(held <= BUDGET_BYTES as u64, format!("outboxes held {held} bytes"));
    let most = base + BUDGET_BYTES as u64 + SLACK_BYTES;
    scene.require(peak <= most, format!("{peak} bytes of memory, and {most} are enough"));
    scene.require(returned.is_ok(), format!("{after} bytes of memory after {before}"));
    Ok(())
}

/// So many who never read, subscribed to the hot channel.
async fn crowd(scene: &Scene, count: usize) -> Result<Vec<Raw>> {
    const TOGETHER: usize = 100;
    let address = scene.nodes[0].public();
    let mut coming = JoinSet::new();
    let mut deaf = Vec::with_capacity(count);
    let path: Arc<str> = format!("/ws?token={}&channels={HOT}", token::sign("deaf")).into();
    for index in 0..count {
        if coming.len() == TOGETHER {
            deaf.push(coming.join_next().await.context("somebody comes")???);
        }
        let path = Arc::clone(&path);
        coming.spawn(async move { Raw::open_narrow(address, index).await?.upgrade(&path).await });
    }
    while let Some(one) = coming.join_next().await {
        deaf.push(one??);
    }
    Ok(deaf)
}
