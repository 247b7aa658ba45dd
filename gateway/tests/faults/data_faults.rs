//! The server forgets, is full, or holds what does not belong there: F13–F17, F30.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::time::sleep;

use crate::catalogue::{Fault, fault};
use crate::journal::{End, Entry};
use crate::oracle::Verdict;
use crate::publisher::Answered;
use crate::scenario::{Scene, Setup};
use crate::wait;

pub(crate) const FAULTS: &[Fault] = &[
    fault!("F13", FULL, "the memory of Redis is full", |_| Setup::default(), full),
    fault!("F14", SMOKE, "Redis evicts keys", |_| Setup::default(), evicting),
    fault!("F15", SMOKE, "all keys are deleted", |_| Setup::default(), flushed),
    fault!("F16", SMOKE, "single keys are deleted or replaced", |_| Setup::default(), damaged),
    fault!("F17", SMOKE, "scripts are forgotten all the time", |_| scripted(), forgetful),
    fault!("F30", SMOKE, "others publish to the channels of the gateway", |_| Setup::default(), poisoned),
];

/// How long a subscriber may not know that it missed something: twice the probe and the position check.
const TOLD: Duration = Duration::from_secs(3);

/// A history that ends while somebody subscribes to it leaves a hole, for which the protocol has this alone.
const INSUFFICIENT_STATE: End = End::Closed(3010);

fn scripted() -> Setup {
    Setup { per_second: 300, workers: 40, ..Setup::default() }
}

async fn full(scene: &mut Scene) -> Result<()> {
    scene.stop_publishing().await?;
    let kept = Arc::clone(&scene.channels[0]);
    let plain: Arc<str> = "plain:room-for-this".into();
    let before = scene.top(&kept).await?;
    scene.begins();
    scene.redis()?.set("maxmemory", "100kb").await?;
    let mut http = scene.http(0);
    for _ in 0..20 {
        let number = scene.desk.draw();
        let answered = scene.desk.send(&mut http, &kept, number, 0, Instant::now()).await;
        let is_refused = matches!(answered, Answered::Full | Answered::Unavailable { .. });
        scene.require(is_refused, format!("a publish with history is answered {answered:?}"));
        let number = scene.desk.draw();
        let answered = scene.desk.send(&mut http, &plain, number, 0, Instant::now()).await;
        scene.require(answered == Answered::Done(None), format!("one without is answered {answered:?}"));
    }
    scene.redis()?.set("maxmemory", "0").await?;
    let after = scene.top(&kept).await?;
    scene.require(before == after, format!("the counter went from {before:?} to {after:?}"));
    scene.publish(100, 20, 0);
    scene.heals();
    scene.settle().await?;
    scene.require_no_closes();
    Ok(())
}

/// Keys of somebody else, and large ones.
const FILLER: &str = "for i = 1, 200 do redis.call('SET', KEYS[1] .. i, string.rep('x', 5000)) end";

async fn evicting(scene: &mut Scene) -> Result<()> {
    scene.begins();
    let redis = scene.redis()?;
    let used = redis.info("used_memory").await?;
    redis.set("maxmemory-policy", "allkeys-lru").await?;
    redis.set("maxmemory", &(used + (3 << 20)).to_string()).await?;
    let kept_before = redis.keys("stream", "kept:").await?.len();
    // What is idle goes first.
    scene.publishers.iter().for_each(crate::publisher::Publisher::pause);
    let mut round = 0;
    let redis = scene.redis()?;
    let has_evicted = async || {
        round += 1;
        redis.command::<()>(&["EVAL", FILLER, "1", &format!("filler:{round}:")]).await?;
        Ok(redis.keys("stream", "kept:").await?.len() < kept_before)
    };
    wait::until("a history to be evicted", Duration::from_secs(20), has_evicted).await?;
    scene.publishers.iter().for_each(crate::publisher::Publisher::resume);
    sleep(Duration::from_secs(3)).await;
    let evicted = scene.redis()?.info("evicted_keys").await?;
    scene.redis()?.set("maxmemory", "0").await?;
    scene.heals();
    scene.settle().await?;
    scene.report.figure("evicted", evicted);
    // An entry that is not above the last one is refused: whoever goes on in an orphaned history meets that.
    let refused = scene.redis()?.info("errorstat_ERR:count").await?;
    scene.require(refused == 0, format!("Redis refused {refused} commands"));
    scene.require_no_unavailability();
    scene.require_no_closes_but(&[INSUFFICIENT_STATE]);
    Ok(())
}

async fn flushed(scene: &mut Scene) -> Result<()> {
    scene.begins();
    scene.redis()?.command::<()>(&["FLUSHALL"]).await?;
    scene.heals();
    let all = scene.subscriptions();
    let told = async || Ok(scene.verdicts(Verdict::NotRecovered) >= all);
    let told = wait::until("every subscriber to be told", Duration::from_secs(10), told).await;
    scene.settle().await?;
    scene.report.seconds("t_told", told.as_ref().ok().copied());
    scene.require(told.is_ok_and(|time| time <= TOLD), "not every subscriber was told in time");
    starts_anew(scene);
    scene.require_no_unavailability();
    scene.require_no_closes_but(&[INSUFFICIENT_STATE]);
    Ok(())
}

/// The epochs of each channel that began since the beginning begin with the offset 1.
fn starts_anew(scene: &mut Scene) {
    let book = scene.desk.book();
    let begun_at = scene.begun_at();
    let mut bad = Vec::new();
    for channel in &scene.channels {
        let acks = || book.acks.iter().filter(|ack| ack.channel == *channel);
        let is_old =
            |epoch: &Arc<str>| acks().any(|ack| ack.position.epoch == *epoch && ack.acked_at < begun_at);
        let new: Vec<_> = acks().filter(|ack| !is_old(&ack.position.epoch)).collect();
        if !new.iter().any(|ack| ack.position.offset == 1) {
            bad.push(Arc::clone(channel));
        }
    }
    drop(book);
    scene.require(bad.is_empty(), format!("no publication has the offset 1 in a new epoch of {bad:?}"));
}

async fn damaged(scene: &mut Scene) -> Result<()> {
    let names: Vec<Arc<str>> = scene.channels[..3].to_vec();
    scene.begins();
    // The counter is gone, the entries are there.
    let meta = key(scene, "hash", &names[0]).await?;
    scene.redis()?.command::<()>(&["DEL", &meta]).await?;
    // The entries are gone, the counter is there.
    let stream = key(scene, "stream", &names[1]).await?;
    scene.redis()?.command::<()>(&["DEL", &stream]).await?;
    // Something else has the name of the entries.
    let stream = key(scene, "stream", &names[2]).await?;
    let before = scene.top(&names[2]).await?;
    scene.redis()?.command::<()>(&["SET", &stream, "not a stream"]).await?;
    sleep(Duration::from_secs(3)).await;
    let kind: String = scene.redis()?.command(&["TYPE", &stream]).await?;
    if kind == "string" {
        let meta = key(scene, "hash", &names[2]).await?;
        let fields: Vec<String> = scene.redis()?.command(&["HVALS", &meta]).await?;
        let stayed = fields.contains(&before.offset.to_string());
        scene.require(stayed, format!("the counter went on from {}: {fields:?}", before.offset));
        scene.redis()?.command::<()>(&["DEL", &stream]).await?;
    }
    scene.heals();
    scene.settle().await?;
    scene.report.figure("wrong_type", kind);
    scene.require_no_closes_but(&[INSUFFICIENT_STATE]);
    Ok(())
}

/// The one key of a type that belongs to a channel.
async fn key(scene: &Scene, kind: &str, channel: &str) -> Result<String> {
    // Asking makes what is made when somebody asks.
    scene.top(channel).await?;
    let keys = scene.redis()?.keys(kind, channel).await?;
    keys.into_iter().next().with_context(|| format!("{channel} has no {kind}"))
}

async fn forgetful(scene: &mut Scene) -> Result<()> {
    scene.begins();
    let mut held = scene.redis()?.connect().await?;
    let flushing = tokio::spawn(async move {
        loop {
            ::redis::cmd("SCRIPT").arg("FLUSH").query_async::<()>(&mut held).await?;
            sleep(Duration::from_millis(5)).await;
        }
        #[expect(unreachable_code, reason = "names the type of the error")]
        Ok::<(), ::redis::RedisError>(())
    });
    let mut failed = 0;
    for _ in 0..100 {
        failed += publish_in_one_request(scene).await?;
        sleep(Duration::from_millis(50)).await;
    }
    flushing.abort();
    scene.heals();
    scene.settle().await?;
    scene.report.figure("batch_errors", failed);
    scene.require(failed == 0, format!("{failed} publications of batches failed"));
    scene.require_no_unavailability();
    scene.require_no_closes();
    Ok(())
}

/// Several channels in one request, which may go to Redis in one piece; answers how many failed.
///
/// The channels are others than those of the oracle, since nobody enters where these publications are.
async fn publish_in_one_request(scene: &Scene) -> Result<usize> {
    let command = |index: usize| {
        let number = scene.desk.draw();
        json!({"publish": {"channel": format!("kept:batch-{index}"), "data": {"number": number}}})
    };
    let commands: Vec<_> = (0..10).map(command).collect();
    let request = json!({"commands": commands});
    let answer = crate::node::call_api(&mut scene.http(0), "batch", &request, Duration::from_secs(5)).await?;
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let replies = body["replies"].as_array().map_or(&[][..], Vec::as_slice);
    Ok(10 - replies.iter().filter(|reply| reply["publish"]["offset"].is_u64()).count())
}

async fn poisoned(scene: &mut Scene) -> Result<()> {
    let channels: Vec<String> = scene.redis()?.command(&["PUBSUB", "CHANNELS", "*"]).await?;
    anyhow::ensure!(!channels.is_empty(), "nothing is subscribed at Redis");
    let bad_before = scene.metric("clarion_broker_bad_messages_total").await;
    let large = vec![0xFF; 10 << 20];
    // Nothing, no text, a number of a field that nobody knows, a length that lies, a JSON text, an end too early.
    let poisons: [&[u8]; 6] =
        [b"", b"\xFF\xFE\xFD", b"\xF8\x7F\x63", b"\x0A\xFF\xFF\xFF\xFF\x0F", b"{\"v\":99}", b"\x0A\x05ab"];
    scene.begins();
    let mut count = 0;
    for channel in &channels {
        for poison in poisons {
            scene.redis()?.command_bytes::<()>(&[b"PUBLISH", channel.as_bytes(), poison]).await?;
            count += 1;
        }
    }
    for channel in channels.iter().take(3) {
        scene.redis()?.command_bytes::<()>(&[b"PUBLISH", channel.as_bytes(), &large]).await?;
        count += 1;
    }
    sleep(Duration::from_secs(2)).await;
    scene.heals();
    scene.settle().await?;
    let bad = scene.metric("clarion_broker_bad_messages_total").await - bad_before;
    scene.report.figure("poisons", count);
    scene.report.figure("bad_messages", bad);
    scene.require(bad >= f64::from(count) / 2.0, "bad messages are not counted");
    let told = scene.count(|entry| matches!(entry, Entry::Unsubscribed(_)));
    scene.require(told == 0, format!("{told} subscriptions ended because of it"));
    scene.require_no_unavailability();
    scene.require_no_closes();
    Ok(())
}
