//! The server stops, hangs, or cuts its clients off: F1–F3, F9–F12, F18, F19, F32.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::catalogue::{Fault, fault};
use crate::oracle::Verdict;
use crate::scenario::{Scene, Setup};
use crate::wait;

pub(crate) const FAULTS: &[Fault] = &[
    fault!("F1", SMOKE, "Redis is killed and comes back empty", |_| Setup::default(), killed),
    fault!("F2", SMOKE, "Redis is away for long, and nobody asks for anything", |_| quiet(), away),
    fault!("F3", SMOKE, "Redis is stopped and goes on", |_| Setup::patient(), stopped),
    fault!(
        "F9",
        SMOKE,
        "subscription connections are killed again and again",
        |depth| Setup { per_second: depth.pick(300, 1000), workers: 40, ..Setup::patient() },
        cut_off
    ),
    fault!("F10", FULL, "a node reads nothing while much is published", |_| Setup::default(), overrun),
    fault!("F11", FULL, "a node delivers more slowly than Redis", |_| crowd(), outrun),
    fault!("F12", FULL, "clients of Redis are paused", |_| Setup::patient(), paused),
    fault!("F18", FULL, "a script of somebody else keeps Redis busy", |_| Setup::default(), busy),
    fault!("F19", FULL, "Redis restarts and loads its data", |_| persistent(), loading),
    fault!("F32", FULL, "Redis restarts again and again", |_| Setup::default(), crash_loop),
];

/// The limit of the nodes for a command, and what a busy machine adds.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(1500);
/// Service resumes within this after the broker answers again.
const RESUMES: Duration = Duration::from_secs(3);

/// Nobody publishes.
fn quiet() -> Setup {
    Setup { per_second: 0, ..Setup::default() }
}

/// Many subscribers of one channel, and little room for what they do not take at once.
fn crowd() -> Setup {
    Setup {
        clients: 300,
        channels: vec!["kept:hot".into()],
        channels_each: 1,
        per_second: 10,
        change: |config| {
            config["broker"]["redis"]["inbox_bytes_max"] = (1 << 20).into();
            config["client"]["outbox_bytes_total_max"] = (32 << 20).into();
        },
        ..Setup::default()
    }
}

/// What was written before a kill is there after it. Each key takes long to load.
fn persistent() -> Setup {
    Setup { redis: Some(&["--appendonly", "yes", "--key-load-delay", "100"]), ..Setup::default() }
}

async fn killed(scene: &mut Scene) -> Result<()> {
    scene.begins();
    scene.redis_mut()?.kill()?;
    sleep(Duration::from_secs(2)).await;
    scene.redis_mut()?.restart().await?;
    scene.heals();
    scene.settle().await?;
    scene.require_no_closes();
    scene.require_unavailability();
    scene.require_detection(COMMAND_TIMEOUT);
    scene.require_recovery(RESUMES);
    let (told, all) = (scene.verdicts(Verdict::NotRecovered), scene.subscriptions());
    scene.require(told == all, format!("{told} of {all} subscriptions were told of the loss"));
    Ok(())
}

async fn away(scene: &mut Scene) -> Result<()> {
    let lasts = scene.depth.pick(Duration::from_secs(15), Duration::from_secs(60));
    let subscriptions = scene.redis()?.subscriptions().await?;
    let said_before: usize = scene.nodes.iter().map(|node| node.complaints()).sum();
    scene.begins();
    scene.redis_mut()?.kill()?;
    sleep(lasts / 3).await;
    let attempts = attempts_per_second(scene.redis()?.port(), lasts / 3).await?;
    sleep(lasts / 3).await;
    scene.redis_mut()?.restart().await?;
    scene.heals();
    let redis = scene.redis()?;
    let all_are_back = async || Ok(redis.subscriptions().await? >= subscriptions);
    let resubscribed =
        wait::until("all subscriptions at Redis", Duration::from_secs(10), all_are_back).await?;
    scene.all_hear(true, RESUMES).await?;
    let said: usize = scene.nodes.iter().map(|node| node.complaints()).sum();
    // When it is gone, and again every 10 s: by each of the two that talk to it, the subscriptions and the beat.
    let said_max = scene.nodes.len() * (4 + usize::try_from(lasts.as_secs() / 10)?);
    let said = said - said_before;
    scene.publish(100, 20, 0);
    scene.settle().await?;
    scene.report.seconds("t_resub", resubscribed);
    scene.report.figure("attempts_per_s", format!("{attempts:.1}"));
    scene.report.figure("log_lines", said);
    scene.require(resubscribed <= RESUMES, "subscriptions were not back within 3 s");
    scene.require(attempts <= 10.0 * scene.nodes.len() as f64, "the nodes tried to connect too often");
    scene.require(said <= said_max, format!("{said} complaints were logged: one per change would do"));
    scene.require_no_closes();
    scene.require_detection(COMMAND_TIMEOUT);
    Ok(())
}

/// Takes the place of a dead server for a while: how often do its clients try to connect?
async fn attempts_per_second(port: u16, lasts: Duration) -> Result<f64> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let mut attempts = 0.0;
    let counting = async {
        loop {
            drop(listener.accept().await);
            attempts += 1.0;
        }
    };
    // It counts until then.
    let _: Result<(), _> = tokio::time::timeout(lasts, counting).await;
    Ok(attempts / lasts.as_secs_f64())
}

async fn stopped(scene: &mut Scene) -> Result<()> {
    scene.begins();
    scene.redis()?.freeze()?;
    sleep(Duration::from_secs(10)).await;
    scene.redis()?.thaw()?;
    scene.heals();
    scene.settle().await?;
    is_like_a_stop(scene)
}

/// No request hangs, nobody is closed, everybody notices, service resumes.
fn is_like_a_stop(scene: &mut Scene) -> Result<()> {
    scene.require_no_closes();
    scene.require_unavailability();
    scene.require_answers_within(COMMAND_TIMEOUT);
    scene.require_detection(Duration::from_secs(4));
    scene.require_recovery(RESUMES);
    scene.require_healing_by_nodes();
    Ok(())
}

async fn cut_off(scene: &mut Scene) -> Result<()> {
    let rounds = scene.depth.pick(4, 12);
    let connections = scene.redis()?.subscription_connections().await?;
    let healed_before = scene.metric("clarion_publications_healed_total").await;
    let mut slowest = Duration::ZERO;
    scene.begins();
    for _ in 0..rounds {
        let redis = scene.redis()?;
        redis.command::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await?;
        let are_back = async || Ok(redis.subscription_connections().await? >= connections);
        let back = wait::until("subscription connections", Duration::from_secs(10), are_back).await?;
        slowest = slowest.max(back);
        sleep(Duration::from_secs(5).saturating_sub(back)).await;
    }
    scene.heals();
    scene.settle().await?;
    let healed = scene.metric("clarion_publications_healed_total").await - healed_before;
    scene.report.seconds("t_resub_max", slowest);
    scene.report.figure("healed", healed);
    scene.require(slowest <= RESUMES, "a subscription connection was not back within 3 s");
    scene.require(healed > 0.0, "nothing was healed: the fault had no effect");
    scene.require_no_closes();
    scene.require_healing_by_nodes();
    Ok(())
}

/// What is published to the channel of the flood, in the words of the plan: 200 MB.
const FLOOD_PIECE_BYTES: usize = 500_000;
const FLOOD_PIECES: u64 = 400;

async fn overrun(scene: &mut Scene) -> Result<()> {
    scene.redis()?.set("client-output-buffer-limit", "pubsub 1mb 0 0").await?;
    let flooded: Arc<str> = "plain:flood".into();
    scene.add_client("flooded", std::slice::from_ref(&flooded), Some(0));
    scene.everybody_is_live().await?;
    let base = scene.nodes[0].process().resident_bytes()?;
    let reconnects = scene.nodes[0].metric("clarion_broker_reconnects_total").await?;
    scene.begins();
    scene.disturbs(0);
    scene.fleet.close(0);
    scene.nodes[0].freeze()?;
    let mut http = scene.http(1);
    let start = Instant::now();
    for _ in 0..FLOOD_PIECES {
        let number = scene.desk.draw();
        scene.desk.send(&mut http, &flooded, number, FLOOD_PIECE_BYTES, Instant::now()).await;
    }
    sleep(Duration::from_secs(5).saturating_sub(start.elapsed())).await;
    scene.nodes[0].thaw()?;
    scene.fleet.open(0);
    scene.heals();
    scene.settle().await?;
    let reconnects = scene.nodes[0].metric("clarion_broker_reconnects_total").await? - reconnects;
    let peak = scene.watches[0].sighting().resident_bytes_max;
    scene.report.figure("rss_growth", format!("{}MB", peak.saturating_sub(base) >> 20));
    scene.require(reconnects > 0.0, "Redis did not cut the node off: the fault had no effect");
    scene.require(peak < base + (128 << 20), "the node took too much memory");
    Ok(())
}

async fn outrun(scene: &mut Scene) -> Result<()> {
    let base = memory(scene)?;
    scene.begins();
    scene.publish(100_000, 64, 2000);
    sleep(Duration::from_secs(10)).await;
    scene.stop_publishing().await?;
    scene.publish(10, 2, 0);
    scene.heals();
    scene.settle().await?;
    let growth = scene.watches.iter().map(|watch| watch.sighting().resident_bytes_max).max().unwrap_or(0);
    let growth = growth.saturating_sub(base);
    scene.report.figure("rss_growth", format!("{}MB", growth >> 20));
    scene.require(growth < 128 << 20, "a node took too much memory");
    Ok(())
}

/// Most resident memory of a node now.
fn memory(scene: &Scene) -> Result<u64> {
    let each = scene.nodes.iter().map(|node| node.process().resident_bytes());
    Ok(each.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0))
}

async fn paused(scene: &mut Scene) -> Result<()> {
    scene.begins();
    for what in ["ALL", "WRITE"] {
        scene.redis()?.command::<()>(&["CLIENT", "PAUSE", "5000", what]).await?;
        sleep(Duration::from_secs(5)).await;
        scene.all_hear(true, RESUMES).await?;
    }
    scene.heals();
    scene.settle().await?;
    is_like_a_stop(scene)
}

async fn busy(scene: &mut Scene) -> Result<()> {
    let redis = scene.redis()?;
    redis.set("busy-reply-threshold", "500").await?;
    let calls = redis.calls("evalsha").await?;
    let mut held = redis.connect().await?;
    let mut killer = redis.connect().await?;
    scene.begins();
    let script = tokio::spawn(async move {
        let mut script = ::redis::cmd("EVAL");
        let ended: ::redis::RedisResult<()> =
            script.arg("while true do end").arg(0).query_async(&mut held).await;
        ended
    });
    sleep(Duration::from_secs(6)).await;
    ::redis::cmd("SCRIPT").arg("KILL").query_async::<()>(&mut killer).await?;
    scene.heals();
    // It ends with the error that it was killed.
    let ended = script.await?;
    let attempts = u64::try_from(scene.desk.attempts_since(scene.begun_at()).len())?;
    let calls = scene.redis()?.calls("evalsha").await? - calls;
    scene.settle().await?;
    scene.report.figure("evalsha", calls);
    scene.require(ended.is_err(), "the script was not killed");
    scene.require(calls <= 3 * attempts + 500, format!("{calls} scripts for {attempts} publishes: a storm"));
    scene.require_no_closes();
    scene.require_unavailability();
    scene.require_answers_within(COMMAND_TIMEOUT);
    scene.require_recovery(RESUMES);
    Ok(())
}

/// Something to load: 125 MB in keys of 2.5 kB.
const FILLER: &str = "for i = 1, 50000 do redis.call('SET', 'filler:' .. i, string.rep('x', 2500)) end";

async fn loading(scene: &mut Scene) -> Result<()> {
    scene.redis()?.command::<()>(&["EVAL", FILLER, "0"]).await?;
    scene.all_hear(true, RESUMES).await?;
    let channel = Arc::clone(&scene.channels[0]);
    let epoch = scene.top(&channel).await?.epoch;
    scene.begins();
    scene.redis_mut()?.kill()?;
    scene.redis_mut()?.restart().await?;
    let redis = scene.redis()?;
    let was_loading = redis.info("loading").await? == 1;
    let has_loaded = async || Ok(redis.info("loading").await? == 0);
    let took = wait::until("Redis to load its data", Duration::from_secs(60), has_loaded).await?;
    scene.heals();
    scene.settle().await?;
    let same = scene.top(&channel).await?.epoch == epoch;
    scene.report.seconds("t_loading", took);
    scene.require(was_loading, "there was nothing to load: the fault had no effect");
    scene.require(same, "a restart that lost nothing made a new epoch");
    let lost = scene.verdicts(Verdict::NotRecovered);
    scene.require(lost == 0, format!("{lost} subscriptions were not recovered, and nothing was lost"));
    scene.require_no_closes();
    scene.require_unavailability();
    scene.require_recovery(RESUMES);
    Ok(())
}

async fn crash_loop(scene: &mut Scene) -> Result<()> {
    let rounds = scene.depth.pick(5, 20);
    scene.begins();
    // After the first time everything is open that is ever needed.
    crash(scene).await?;
    scene.everybody_got(scene.desk.next_number(), Duration::from_secs(10)).await?;
    scene.stop_publishing().await?;
    let before = holdings(scene)?;
    scene.publish(50, 5, 0);
    for _ in 0..rounds {
        crash(scene).await?;
    }
    scene.heals();
    scene.settle().await?;
    let is_as_before = async || {
        let now = holdings(scene)?;
        let grew =
            |(now, before): (&(usize, u64), &(usize, u64))| now.0 > before.0 + 2 || now.1 > before.1 + 2;
        Ok(!now.iter().zip(&before).any(grew))
    };
    let back = wait::until("files and threads to be as before", Duration::from_secs(20), is_as_before).await;
    let now = holdings(scene)?;
    scene.report.figure("files_threads_before", format!("{before:?}").replace(' ', ""));
    scene.report.figure("files_threads_after", format!("{now:?}").replace(' ', ""));
    scene.require(back.is_ok(), "a node holds more files or threads than before");
    scene.require_no_closes();
    Ok(())
}

/// Redis is away for two seconds, and then there for two.
async fn crash(scene: &mut Scene) -> Result<()> {
    scene.redis_mut()?.kill()?;
    sleep(Duration::from_secs(2)).await;
    scene.redis_mut()?.restart().await?;
    sleep(Duration::from_secs(2)).await;
    Ok(())
}

/// Open files and threads of each node.
fn holdings(scene: &Scene) -> Result<Vec<(usize, u64)>> {
    let held = |node: &crate::node::Node| Ok((node.process().files()?, node.process().threads()?));
    scene.nodes.iter().map(held).collect()
}
