//! What may break while everybody is there.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{sleep, sleep_until};

use super::scene::{API_KEY, Scene};
use super::settings::Fault;
use super::{presence, roll};
use crate::mark::MarkKind;

/// From the death of a node until nobody may be present any more who was there.
const GHOSTS_GONE: Duration = Duration::from_secs(30);
/// How long Redis is away when it is killed.
const REDIS_AWAY: Duration = Duration::from_secs(2);
/// How long Redis is stopped.
const REDIS_STOPPED: Duration = Duration::from_secs(8);
/// How long it is watched what a fault does after what had broken is there again.
const AFTERMATH: Duration = Duration::from_secs(10);
/// Every how often, and how many times, subscription connections are dropped.
const PUBSUB_KILLS: (Duration, u32) = (Duration::from_secs(5), 6);

/// Breaks something, mends it, and waits until what it does is done.
pub(super) async fn play(fault: Fault, scene: &mut Scene<'_>) -> Result<()> {
    match fault {
        Fault::KillNode => kill_node(scene).await,
        Fault::RedisRestart => restart_redis(scene).await,
        Fault::RedisStop => stop_redis(scene).await,
        Fault::PubsubKill => kill_subscriptions(scene).await,
        Fault::Storm => storm(scene).await,
    }
}

async fn kill_node(scene: &mut Scene<'_>) -> Result<()> {
    let mut dead = scene.members.remove(0);
    scene.journal.mark(MarkKind::Fault, format!("SIGKILL {}", dead.endpoint.name));
    let ghosts_gone = tokio::time::Instant::now() + GHOSTS_GONE;
    dead.node.kill()?;
    scene.has_ended(&dead.endpoint.name);
    roll::take_out_late(scene, &dead.endpoint).await?;
    scene.stage.discard(dead);
    scene.bring_in().await?;
    sleep_until(ghosts_gone).await;
    let internal = scene.members[0].endpoint.internal;
    let present = presence::check(internal, API_KEY, &scene.crowd.present()).await?;
    scene.facts.presence = Some(present);
    Ok(())
}

async fn restart_redis(scene: &mut Scene<'_>) -> Result<()> {
    scene.journal.mark(MarkKind::Fault, "SIGKILL Redis");
    scene.stage.redis().kill()?;
    sleep(REDIS_AWAY).await;
    scene.stage.redis().restart().await?;
    heal(scene, "Redis is back, empty").await;
    Ok(())
}

async fn stop_redis(scene: &mut Scene<'_>) -> Result<()> {
    scene.journal.mark(MarkKind::Fault, "SIGSTOP Redis");
    scene.stage.redis().freeze()?;
    sleep(REDIS_STOPPED).await;
    scene.stage.redis().thaw()?;
    heal(scene, "SIGCONT Redis").await;
    Ok(())
}

/// What had broken is there again: waits for what that does.
async fn heal(scene: &mut Scene<'_>, text: &str) {
    scene.facts.healed_at = Some(scene.journal.mark(MarkKind::Healed, text));
    sleep(AFTERMATH).await;
}

async fn kill_subscriptions(scene: &mut Scene<'_>) -> Result<()> {
    let (interval, times) = PUBSUB_KILLS;
    for _ in 0..times {
        scene.journal.mark(MarkKind::Fault, "subscriptions killed");
        scene.stage.redis().command("CLIENT KILL TYPE pubsub").await?;
        sleep(interval).await;
    }
    Ok(())
}

/// The last node gets no more clients, as if it was about to go, and then everybody comes at once.
async fn storm(scene: &mut Scene<'_>) -> Result<()> {
    if let [_, .., last] = &scene.members[..] {
        scene.take_out(&last.endpoint).await?;
    }
    scene.journal.mark(MarkKind::Fault, format!("{} clients cut", scene.settings.clients));
    scene.crowd.cut_all();
    // A moment in which they notice: until then they are live still.
    sleep(AFTERMATH).await;
    Ok(())
}
