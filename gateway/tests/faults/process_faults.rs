//! A node dies, sleeps, or its clients come and go: F35, F36, F59.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::time::sleep;

use crate::catalogue::{Fault, fault};
use crate::journal::{End, Entry};
use crate::probe::Probe;
use crate::scenario::{Scene, Setup};
use crate::wait;

pub(crate) const FAULTS: &[Fault] = &[
    fault!("F35", SMOKE, "a node is killed", |_| seen(), killed),
    fault!("F36", FULL, "a node sleeps and wakes up", |_| seen(), asleep),
    fault!("F59", FULL, "clients come and go, and a node is killed", |_| seen(), churn),
];

/// Where everybody is seen.
const ROOM: &str = "both:room";

/// A dead node is noticed after its `node_ttl`, 2 s here; its clients are gone with that.
const GHOSTS: Duration = Duration::from_secs(4);

/// Everybody is in the room, and in some other channel.
fn seen() -> Setup {
    Setup { channels: vec![ROOM.into(), "kept:a".into()], channels_each: 2, ..Setup::default() }
}

/// The clients that are in the room, as a node says.
async fn present(scene: &Scene, node: usize) -> Result<BTreeSet<String>> {
    let answer = scene.nodes[node].api("presence", &json!({"channel": ROOM})).await?;
    let members = answer["presence"].as_object().context("presence is a map")?;
    Ok(members.keys().cloned().collect())
}

/// The clients that are connected, as they themselves know.
fn connected(scene: &Scene) -> BTreeSet<String> {
    let ids = scene.probes.iter().map(|probe| probe.journal().client.clone());
    ids.filter(|id| !id.is_empty()).collect()
}

/// Waits until the presence is who is there and nobody else; answers how long it took since `start`.
async fn no_ghosts(scene: &Scene, node: usize, start: Instant) -> Result<Duration> {
    let is_right = async || Ok(present(scene, node).await.is_ok_and(|present| present == connected(scene)));
    wait::until("the presence to be right", Duration::from_secs(20), is_right).await?;
    Ok(start.elapsed())
}

/// The probes whose connection is at `node` now, by their places, with the ids of the connections.
fn clients_of(scene: &Scene, node: usize) -> HashMap<usize, String> {
    let is_there = |journal: &crate::journal::Journal| {
        let last = journal.entries.iter().rev().find_map(|noted| match noted.entry {
            Entry::Connected(node) => Some(node),
            _ => None,
        });
        last == Some(node)
    };
    let probes = scene.probes.iter().enumerate();
    let there = probes.filter(|(_, probe)| is_there(&probe.journal()));
    there.map(|(place, probe)| (place, probe.journal().client.clone())).collect()
}

/// What one client saw of others: how often each came and went since the beginning, in order.
fn comings(scene: &Scene, probe: &Probe) -> HashMap<String, Vec<bool>> {
    let journal = probe.journal();
    let mut comings: HashMap<String, Vec<bool>> = HashMap::new();
    for noted in journal.entries.iter().filter(|noted| noted.at >= scene.begun_at()) {
        match &noted.entry {
            Entry::Joined(client) => comings.entry(client.clone()).or_default().push(true),
            Entry::Left(client) => comings.entry(client.clone()).or_default().push(false),
            _ => {}
        }
    }
    comings
}

/// Nobody may be seen to leave twice without having come in between, and everybody in `gone` once.
fn require_exact_leaves(scene: &mut Scene, gone: &[String], node: usize) {
    let mut problems = Vec::new();
    for (place, probe) in scene.probes.iter().enumerate() {
        // Whoever was away itself may have missed something: notices have no history.
        if probe.journal().count_since(scene.begun_at(), |entry| matches!(entry, Entry::Ended(_))) > 0 {
            continue;
        }
        let comings = comings(scene, probe);
        let twice = comings.iter().filter(|(_, seen)| seen.windows(2).any(|pair| pair == [false, false]));
        let twice = twice.count();
        let missing =
            gone.iter().filter(|client| comings.get(*client).is_none_or(|seen| !seen.contains(&false)));
        let missing = missing.count();
        if twice + missing > 0 {
            problems.push(format!(
                "user-{place} saw {twice} leave twice and {missing} of node {node} not at all"
            ));
        }
    }
    let what = problems.first().cloned().unwrap_or_default();
    scene.require(problems.is_empty(), format!("{} survivors: {what}", problems.len()));
}

async fn killed(scene: &mut Scene) -> Result<()> {
    let lost = clients_of(scene, 0);
    let gone: Vec<String> = lost.values().cloned().collect();
    scene.begins();
    scene.disturbs(0);
    scene.nodes[0].kill()?;
    scene.fleet.close(0);
    let ghosts = no_ghosts(scene, 1, scene.begun_at()).await;
    scene.heals();
    let mut times: Vec<Duration> =
        lost.keys().filter_map(|place| back(scene, &scene.probes[*place])).collect();
    times.sort_unstable();
    // It is needed for the end: everybody hears the broker.
    scene.nodes[0].restart().await?;
    scene.fleet.open(0);
    scene.settle().await?;
    scene.report.seconds("t_reconnect_p50", times.get(times.len() / 2).copied());
    scene.report.seconds("t_reconnect_p99", times.get(times.len() * 99 / 100).copied());
    scene.report.seconds("t_ghosts", ghosts.as_ref().ok().copied());
    scene.require(!lost.is_empty(), "no client was at the node: the fault had no effect");
    scene.require(times.len() == lost.len(), "not every client of the node came back");
    scene.require(ghosts.is_ok_and(|time| time <= GHOSTS), "clients of the dead node are still present");
    require_exact_leaves(scene, &gone, 0);
    let closes = scene.closes();
    scene.require(closes <= lost.len(), format!("{closes} connections ended, {} had to", lost.len()));
    Ok(())
}

/// How long a client was away.
fn back(scene: &Scene, probe: &Probe) -> Option<Duration> {
    let journal = probe.journal();
    let is_back = |entry: &Entry| matches!(entry, Entry::Connected(_));
    let noted = journal.entries.iter().find(|noted| noted.at >= scene.begun_at() && is_back(&noted.entry))?;
    Some(noted.at.duration_since(scene.begun_at()))
}

async fn asleep(scene: &mut Scene) -> Result<()> {
    let lost = clients_of(scene, 0);
    let gone: Vec<String> = lost.values().cloned().collect();
    scene.begins();
    scene.disturbs(0);
    scene.nodes[0].freeze()?;
    scene.fleet.close(0);
    sleep(scene.depth.pick(Duration::from_secs(8), Duration::from_secs(20))).await;
    let ghosts = present(scene, 1).await?.iter().filter(|client| gone.contains(client)).count();
    scene.nodes[0].thaw()?;
    scene.fleet.open(0);
    scene.heals();
    let right = no_ghosts(scene, 1, Instant::now()).await;
    scene.settle().await?;
    // What woke up must not bring anybody back.
    let right_after = no_ghosts(scene, 1, Instant::now()).await;
    scene.report.figure("ghosts", ghosts);
    scene.report.seconds("t_right", right.as_ref().ok().copied());
    scene.require(ghosts == 0, format!("{ghosts} clients of the node that sleeps are present"));
    scene.require(right.is_ok() && right_after.is_ok(), "the presence is not right after the node woke up");
    require_exact_leaves(scene, &gone, 0);
    Ok(())
}

async fn churn(scene: &mut Scene) -> Result<()> {
    let channels = [Arc::from(ROOM)];
    // The same user twice: one of them goes with the node.
    scene.add_client("twin", &channels, Some(0));
    scene.add_client("twin", &channels, Some(1));
    scene.everybody_is_live().await?;
    let survivor = scene.probes[scene.probes.len() - 1].journal().client.clone();
    scene.begins();
    scene.disturbs(0);
    let comers: Vec<usize> = (10..30).collect();
    let start = Instant::now();
    let mut turns = 0;
    let mut is_killed = false;
    while start.elapsed() < Duration::from_secs(10) {
        let place = comers[turns % comers.len()];
        scene.probes[place].leave();
        sleep(Duration::from_millis(5)).await;
        scene.probes[place].roam();
        turns += 1;
        if !is_killed && start.elapsed() > Duration::from_secs(5) {
            is_killed = true;
            scene.nodes[0].kill()?;
            scene.fleet.close(0);
        }
    }
    let calm_at = Instant::now();
    scene.heals();
    let ghosts = no_ghosts(scene, 1, calm_at).await;
    let stats = scene.nodes[1].api("presence_stats", &json!({"channel": ROOM})).await?;
    let users = usize::try_from(stats["num_users"].as_u64().unwrap_or(0))?;
    scene.nodes[0].restart().await?;
    scene.fleet.open(0);
    scene.settle().await?;
    scene.report.figure("turns", turns);
    scene.report.seconds("t_ghosts", ghosts.as_ref().ok().copied());
    scene.require(ghosts.is_ok_and(|time| time <= GHOSTS), "the presence is not right after the churn");
    scene.require(users == 31, format!("{users} users are counted instead of 31"));
    let wrong = scene.count(|entry| matches!(entry, Entry::Left(client) if *client == survivor));
    scene.require(wrong == 0, format!("{wrong} times the twin that stayed was said to leave"));
    let broken = scene.count(|entry| matches!(entry, Entry::Ended(End::Closed(_))));
    scene.require(broken == 0, format!("{broken} connections were closed by a node"));
    require_exact_leaves(scene, &[], 0);
    Ok(())
}
