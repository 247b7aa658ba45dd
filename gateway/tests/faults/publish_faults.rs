//! Whoever publishes does not know, tries again, or is not alone: F60–F63.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use crate::catalogue::{Fault, fault};
use crate::http::Http;
use crate::journal::Entry;
use crate::oracle::{Position, Verdict};
use crate::probe::Probe;
use crate::publisher::Answered;
use crate::scenario::{Scene, Setup};
use crate::wait;

pub(crate) const FAULTS: &[Fault] = &[
    fault!("F60", SMOKE, "a publication is published again with its key", |_| persistent(), repeated),
    fault!("F61", SMOKE, "the reply of Redis to a publish is lost", |_| proxied(), ambiguous),
    fault!("F62", FULL, "two hundred publishers share a channel", |_| shared(), concurrent),
    fault!(
        "F63",
        SMOKE,
        "many clients come back at once",
        |depth| Setup {
            clients: depth.pick(200, 2000),
            channels_each: 1,
            per_second: 0,
            change: |config| config["client"]["recovery_publications_max"] = 2000.into(),
            ..Setup::default()
        },
        storm
    ),
];

fn persistent() -> Setup {
    Setup { redis: Some(&["--appendonly", "yes"]), per_second: 50, ..Setup::default() }
}

fn proxied() -> Setup {
    Setup { proxied: true, per_second: 50, ..Setup::default() }
}

fn shared() -> Setup {
    let channels = vec!["kept:shared".into()];
    Setup { channels, channels_each: 1, per_second: 0, ..Setup::default() }
}

/// Sends the publication `number` until its place is known.
async fn place(scene: &Scene, http: &mut Http, channel: &Arc<str>, number: u64) -> Result<Position> {
    let mut place = None;
    wait::until("a publish to be accepted", Duration::from_secs(10), async || {
        let answered = scene.desk.send(http, channel, number, 0, Instant::now()).await;
        if let Answered::Done(position) = answered {
            place = position;
        }
        Ok(place.is_some())
    })
    .await?;
    place.context("it was waited for")
}

async fn repeated(scene: &mut Scene) -> Result<()> {
    let channel = Arc::clone(&scene.channels[0]);
    scene.begins();
    let number = scene.desk.draw();
    let first = place(scene, &mut scene.http(0), &channel, number).await?;
    let mut places = HashSet::from([first.clone()]);
    // One after another, and on another node.
    for node in [0, 0, 1, 2] {
        places.insert(place(scene, &mut scene.http(node), &channel, number).await?);
    }
    scene.require(places.len() == 1, format!("one after another: {places:?}"));
    let at_once = fifty_at_once(scene, &channel).await?;
    scene.require(at_once.len() == 1, format!("fifty at once: {at_once:?}"));
    // After a timeout.
    let late = scene.desk.draw();
    scene.redis()?.freeze()?;
    let answered = scene.desk.send(&mut scene.http(0), &channel, late, 0, Instant::now()).await;
    scene.redis()?.thaw()?;
    let is_unknown = matches!(answered, Answered::Unavailable { .. });
    scene.require(is_unknown, format!("while Redis was stopped: {answered:?}"));
    let places: HashSet<Position> = HashSet::from([
        place(scene, &mut scene.http(0), &channel, late).await?,
        place(scene, &mut scene.http(1), &channel, late).await?,
    ]);
    scene.require(places.len() == 1, format!("after a timeout: {places:?}"));
    // Across a restart that loses nothing.
    scene.redis_mut()?.kill()?;
    scene.redis_mut()?.restart().await?;
    let again = place(scene, &mut scene.http(2), &channel, number).await?;
    scene.require(again == first, format!("after a restart: {again:?} instead of {first:?}"));
    scene.heals();
    scene.settle().await?;
    scene.require_no_closes();
    Ok(())
}

/// The same publication fifty times at the same time, over all nodes; answers every place it was said to have.
async fn fifty_at_once(scene: &Scene, channel: &Arc<str>) -> Result<HashSet<Position>> {
    let number = scene.desk.draw();
    let mut sending = JoinSet::new();
    for index in 0..50 {
        let (desk, channel) = (Arc::clone(&scene.desk), Arc::clone(channel));
        let mut http = scene.http(index % scene.nodes.len());
        sending.spawn(async move { desk.send(&mut http, &channel, number, 0, Instant::now()).await });
    }
    let mut places = HashSet::new();
    while let Some(answered) = sending.join_next().await {
        match answered? {
            Answered::Done(Some(position)) => drop(places.insert(position)),
            other => anyhow::bail!("one of fifty is answered {other:?}"),
        }
    }
    Ok(places)
}

async fn ambiguous(scene: &mut Scene) -> Result<()> {
    let channel = Arc::clone(&scene.channels[0]);
    let (mut told_unknown, mut told_done) = (0, 0);
    scene.begins();
    for _ in 0..10 {
        let number = scene.desk.draw();
        // The key of the publication is in the command, so that no other command is meant.
        scene.proxies[0].cut_reply_of(&format!("publication-{number}"));
        let answered = scene.desk.send(&mut scene.http(0), &channel, number, 0, Instant::now()).await;
        scene.require(scene.proxies[0].has_cut(), "the command was not seen: the fault had no effect");
        match answered {
            Answered::Unavailable { .. } => told_unknown += 1,
            // The node may ask again by itself: it has the key as well.
            Answered::Done(_) => told_done += 1,
            other => scene.require(false, format!("a publish whose reply is lost is answered {other:?}")),
        }
        place(scene, &mut scene.http(0), &channel, number).await?;
        place(scene, &mut scene.http(1), &channel, number).await?;
    }
    scene.heals();
    scene.settle().await?;
    scene.report.figure("unknown", told_unknown);
    scene.report.figure("done", told_done);
    scene.require_no_closes();
    Ok(())
}

async fn concurrent(scene: &mut Scene) -> Result<()> {
    const PUBLICATIONS: u64 = 20_000;
    scene.begins();
    scene.publish(1_000_000, 200, 0);
    let start = Instant::now();
    let desk = Arc::clone(&scene.desk);
    let all = async || Ok(desk.next_number() > PUBLICATIONS);
    wait::until("20,000 publications", Duration::from_secs(180), all).await?;
    scene.stop_publishing().await?;
    let rate = PUBLICATIONS as f64 / start.elapsed().as_secs_f64();
    scene.heals();
    scene.settle().await?;
    let mut offsets: Vec<u64> = scene.desk.book().acks.iter().map(|ack| ack.position.offset).collect();
    offsets.sort_unstable();
    let contiguous = offsets.iter().zip(1..).all(|(offset, expected)| *offset == expected);
    scene.report.figure("publishes_per_s", format!("{rate:.0}"));
    scene.require(contiguous, "offsets are not 1, 2, 3…");
    scene.require_no_unavailability();
    scene.require_no_closes();
    Ok(())
}

/// How many publications of its channel each client misses.
const MISSED: u32 = 250;

async fn storm(scene: &mut Scene) -> Result<()> {
    let per_second = scene.depth.pick(200, 1000);
    scene.probes.iter().for_each(Probe::leave);
    let all_gone = async || Ok(scene.metric("clarion_connections").await == 0.0);
    wait::until("all clients to be gone", Duration::from_secs(20), all_gone).await?;
    let missed = u64::from(MISSED) * u64::try_from(scene.channels.len())?;
    let number = scene.desk.next_number();
    scene.publish(100_000, 64, 0);
    let desk = Arc::clone(&scene.desk);
    let published = async || Ok(desk.next_number() >= number + missed);
    wait::until("publications that everybody misses", Duration::from_secs(60), published).await?;
    scene.stop_publishing().await?;
    scene.publish(per_second, 40, 0);
    let reads = reads(scene).await?;
    scene.begins();
    scene.probes.iter().for_each(Probe::roam);
    scene.heals();
    scene.everybody_is_live().await?;
    scene.settle().await?;
    let reads = self::reads(scene).await? - reads;
    let mut times: Vec<Duration> = scene.probes.iter().filter_map(|probe| subscribed(scene, probe)).collect();
    times.sort_unstable();
    let recovered = scene.verdicts(Verdict::Recovered);
    scene.report.figure("recovered", recovered);
    scene.report.figure("history_reads", reads);
    scene.report.seconds("subscribed_p99", times.get(times.len() * 99 / 100).copied());
    let lost = scene.verdicts(Verdict::NotRecovered);
    scene.require(lost == 0, format!("{lost} subscriptions were not recovered, and all was there"));
    // Of each channel, on each node, one for who comes first, and one for those who come meanwhile.
    let few = u64::try_from(2 * scene.channels.len() * scene.nodes.len())?;
    scene.require(
        reads <= few,
        format!("histories were read {reads} times: who comes back is answered from what was just delivered"),
    );
    scene.require(recovered >= scene.probes.len(), format!("only {recovered} subscriptions recovered"));
    Ok(())
}

/// How long it took from the beginning until a client was subscribed again.
fn subscribed(scene: &Scene, probe: &Probe) -> Option<Duration> {
    let journal = probe.journal();
    let is_meant = |entry: &Entry| matches!(entry, Entry::Subscribed(_));
    let noted =
        journal.entries.iter().find(|noted| noted.at >= scene.begun_at() && is_meant(&noted.entry))?;
    Some(noted.at.duration_since(scene.begun_at()))
}

/// How often histories were read so far, those of scripts included.
async fn reads(scene: &Scene) -> Result<u64> {
    let redis = scene.redis()?;
    Ok(redis.calls("xrange").await? + redis.calls("xrevrange").await?)
}
