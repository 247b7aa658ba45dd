//! The server is well, the way to it is not: F4–F8.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::sleep;

use crate::catalogue::{Fault, fault};
use crate::firewall::Rules;
use crate::publisher::Answered;
use crate::scenario::{Scene, Setup};
use crate::wait;

pub(crate) const FAULTS: &[Fault] = &[
    fault!(
        "F4",
        SMOKE,
        "established connections to Redis are black-holed",
        |_| Setup::patient(),
        black_holed
    ),
    fault!("F5", FULL, "nothing reaches Redis for a while", |_| Setup::patient(), dropped),
    fault!("F6", FULL, "one node of three is cut off from Redis", |_| proxied(), partitioned),
    fault!("F7", FULL, "packets to and from Redis are lost", |_| Setup::default(), lossy),
    fault!("F8", FULL, "Redis is far away", |_| proxied(), far),
];

/// A dead connection is noticed within this.
const NOTICED: Duration = Duration::from_secs(5);
/// Service resumes within this after the broker answers again.
const RESUMES: Duration = Duration::from_secs(3);

fn proxied() -> Setup {
    Setup { proxied: true, ..Setup::patient() }
}

async fn black_holed(scene: &mut Scene) -> Result<()> {
    let redis = scene.redis()?;
    let (port, clients) = (redis.port(), redis.client_ports().await?);
    scene.begins();
    let rules = Rules::black_hole(port, &clients)?;
    scene.all_notice(NOTICED).await?;
    // New connections work, so that it is up to the nodes.
    scene.all_hear(true, RESUMES).await?;
    scene.heals();
    scene.settle().await?;
    drop(rules);
    scene.report.figure("connections", clients.len());
    scene.require_detection(NOTICED);
    scene.require_recovery(RESUMES);
    scene.require_no_closes();
    scene.require_healing_by_nodes();
    Ok(())
}

async fn dropped(scene: &mut Scene) -> Result<()> {
    let before = scene.redis()?.subscription_connections().await?;
    let lasts = scene.depth.pick(8, 30);
    scene.begins();
    let rules = Rules::drop_port(scene.redis()?.port())?;
    sleep(Duration::from_secs(lasts)).await;
    drop(rules);
    scene.heals();
    scene.settle().await?;
    let redis = scene.redis()?;
    let none_leaked = async || Ok(redis.subscription_connections().await? == before);
    let back = wait::until("old connections to be gone", Duration::from_secs(15), none_leaked).await;
    let after = scene.redis()?.subscription_connections().await?;
    scene.report.figure("connections_before", before);
    scene.report.figure("connections_after", after);
    scene.require(back.is_ok(), "subscription connections are left over");
    scene.require_no_closes();
    scene.require_unavailability();
    scene.require_answers_within(Duration::from_millis(1500));
    scene.require_detection(NOTICED);
    scene.require_recovery(RESUMES);
    scene.require_healing_by_nodes();
    Ok(())
}

async fn partitioned(scene: &mut Scene) -> Result<()> {
    scene.begins();
    scene.proxies[0].freeze();
    let watch = &scene.watches[0];
    let is_unready = async || Ok(watch.sighting().ready.now() == Some(false));
    let unready = wait::until("the node to be unready", Duration::from_secs(20), is_unready).await;
    let begun_at = scene.begun_at();
    for index in [1, 2] {
        let sighting = scene.watches[index].sighting();
        let disturbed = sighting.broker_up.became(false, begun_at).is_some()
            || sighting.ready.became(false, begun_at).is_some();
        drop(sighting);
        scene.require(!disturbed, format!("node {index} was not cut off and says so"));
    }
    let detected = scene.detections()[0];
    scene.require(detected.is_some_and(|time| time <= NOTICED), "the node did not notice");
    scene.proxies[0].clear();
    scene.heals();
    let watch = &scene.watches[0];
    let is_ready = async || Ok(watch.sighting().ready.now() == Some(true));
    let ready = wait::until("the node to be ready", Duration::from_secs(10), is_ready).await;
    scene.settle().await?;
    scene.report.seconds("t_unready", unready.as_ref().ok().copied());
    scene.report.seconds("t_ready", ready.as_ref().ok().copied());
    let in_time = unready.is_ok_and(|time| time >= Duration::from_secs(8));
    scene.require(in_time, "the node was not unready after 10 s, or too early");
    scene.require(ready.is_ok(), "the node did not become ready again");
    scene.require_no_closes();
    scene.require_recovery(RESUMES);
    scene.require_healing_by_nodes();
    Ok(())
}

async fn lossy(scene: &mut Scene) -> Result<()> {
    let lasts = scene.depth.pick(15, 60);
    scene.begins();
    let rules = Rules::lose_some(scene.redis()?.port(), 0.05)?;
    sleep(Duration::from_secs(lasts)).await;
    drop(rules);
    scene.heals();
    let attempts = scene.desk.attempts_since(scene.begun_at());
    let mut times: Vec<Duration> = attempts.iter().map(|attempt| attempt.took).collect();
    times.sort_unstable();
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    let flaps: usize =
        scene.watches.iter().map(|watch| watch.sighting().ready.count_since(scene.begun_at())).sum();
    scene.settle().await?;
    scene.report.seconds("p99", p99);
    scene.report.figure("flaps", flaps);
    scene.require(p99 < Duration::from_secs(1), "publishing is slow");
    scene.require(flaps == 0, "readiness flaps");
    scene.require_no_closes();
    Ok(())
}

/// Publishers at the same time, each with one request under way.
const PUBLISHERS: u32 = 64;
/// There and back.
const ROUND_TRIP: Duration = Duration::from_millis(200);
/// The channels of a storm of subscriptions. Those of one client are subscribed one after another.
const STORM_CHANNELS: usize = 10_000;
const CHANNELS_EACH: usize = 10;

async fn far(scene: &mut Scene) -> Result<()> {
    scene.stop_publishing().await?;
    scene.begins();
    scene.proxies.iter().for_each(|proxy| proxy.change(|weather| weather.latency = ROUND_TRIP / 2));
    let start = Instant::now();
    scene.publish(100_000, PUBLISHERS, 0);
    sleep(Duration::from_secs(5)).await;
    scene.stop_publishing().await?;
    let attempts = scene.desk.attempts_since(start);
    let done = attempts.iter().filter(|attempt| matches!(attempt.answered, Answered::Done(_))).count();
    let rate = done as f64 / start.elapsed().as_secs_f64();
    let ideal = f64::from(PUBLISHERS) / ROUND_TRIP.as_secs_f64();
    let calls = scene.redis()?.calls("subscribe").await? + scene.redis()?.calls("ssubscribe").await?;
    for client in 0..STORM_CHANNELS / CHANNELS_EACH {
        let channel = |index| Arc::from(format!("plain:{}", client * CHANNELS_EACH + index));
        let channels: Vec<Arc<str>> = (0..CHANNELS_EACH).map(channel).collect();
        scene.add_client(&format!("storm-{client}"), &channels, None);
    }
    let storm = scene.everybody_is_live().await?;
    let redis = scene.redis()?;
    let calls = redis.calls("subscribe").await? + redis.calls("ssubscribe").await? - calls;
    scene.proxies.iter().for_each(crate::proxy::Proxy::clear);
    scene.publish(100, 20, 0);
    scene.heals();
    scene.settle().await?;
    scene.report.figure("publishes_per_s", format!("{rate:.0}"));
    scene.report.figure("ideal_per_s", format!("{ideal:.0}"));
    scene.report.seconds("t_subscribed", storm);
    scene.report.figure("subscribe_commands", calls);
    scene.require(rate >= ideal / 2.0, "publishers wait for one another");
    scene.require(storm < Duration::from_secs(5), "10,000 subscriptions take too long");
    scene.require(calls < 1000, "subscriptions are not sent in batches");
    scene.require_no_closes();
    Ok(())
}
