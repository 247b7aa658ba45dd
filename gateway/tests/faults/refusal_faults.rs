//! The server answers, and refuses: F28, F29, F31.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use crate::catalogue::{Fault, fault};
use crate::certificates::EXPIRES;
use crate::oracle::Verdict;
use crate::scenario::{Scene, Setup};
use crate::wait;

pub(crate) const FAULTS: &[Fault] = &[
    fault!("F28", FULL, "the password of Redis changes, and a right is taken away", |_| guarded(), rotated),
    fault!("F29", FULL, "the certificate of Redis expires, and its authority changes", |_| sealed(), expired),
    fault!("F31", FULL, "Redis takes no more clients, and is a replica", |_| Setup::default(), crowded_out),
];

/// Service resumes within this after the broker answers again.
const RESUMES: Duration = Duration::from_secs(3);
/// How long a refusal lasts.
const LASTS: Duration = Duration::from_secs(5);

fn guarded() -> Setup {
    Setup { password: Some("the-first-password"), ..Setup::default() }
}

fn sealed() -> Setup {
    Setup { is_tls: true, ..Setup::default() }
}

/// Everybody's connections to Redis end; new ones are as the server takes them.
async fn hang_up(scene: &Scene) -> Result<()> {
    for kind in ["pubsub", "normal"] {
        scene.redis()?.command::<u64>(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).await?;
    }
    Ok(())
}

async fn rotated(scene: &mut Scene) -> Result<()> {
    let second = "the-second-password";
    scene.begins();
    scene.redis()?.set("requirepass", second).await?;
    scene.redis_mut()?.password = Some(second.to_owned());
    hang_up(scene).await?;
    scene.all_notice(Duration::from_secs(5)).await?;
    let before = scene.redis()?.info("total_connections_received").await?;
    let start = Instant::now();
    let all_unready =
        async || Ok(scene.watches.iter().all(|watch| watch.sighting().ready.now() == Some(false)));
    let unready = wait::until("all nodes to be unready", Duration::from_secs(15), all_unready).await;
    sleep(LASTS.saturating_sub(start.elapsed())).await;
    let attempts = (scene.redis()?.info("total_connections_received").await? - before) as f64;
    let attempts = attempts / start.elapsed().as_secs_f64();
    fs::write(scene.password_file(), second)?;
    scene.all_hear(true, RESUMES).await.context("after the new password was in its file")?;
    scene.redis()?.command::<()>(&["ACL", "SETUSER", "default", "-publish"]).await?;
    sleep(LASTS).await;
    scene.redis()?.command::<()>(&["ACL", "SETUSER", "default", "+publish"]).await?;
    scene.heals();
    scene.settle().await?;
    scene.report.figure("attempts_per_s", format!("{attempts:.1}"));
    scene.require(unready.is_ok(), "a node whose password is refused says that it is ready");
    scene.require(attempts <= 10.0 * scene.nodes.len() as f64, "the nodes try too often");
    let shown = scene.nodes.iter().any(|node| node.process().output().contains("-password\""));
    scene.require(!shown, "a password is in a log");
    scene.require_no_closes();
    scene.require_recovery(RESUMES);
    Ok(())
}

async fn expired(scene: &mut Scene) -> Result<()> {
    let certificates = scene.certificates()?;
    certificates.sign("expired", 0)?;
    sleep(EXPIRES).await;
    scene.begins();
    let certificates = scene.certificates()?;
    scene.redis()?.show_certificate(certificates, "expired").await?;
    hang_up(scene).await?;
    scene.all_notice(Duration::from_secs(5)).await?;
    // A node repeats every 10 s what keeps it from Redis.
    sleep(Duration::from_secs(12)).await;
    let in_words = |node: &crate::node::Node| node.process().output().to_lowercase().contains("certificate");
    let said = scene.nodes.iter().filter(|node| in_words(node)).count();
    let connected = scene.redis()?.clients().await?.len();
    // Another authority signs from now on, and its certificate is in the file that the nodes know.
    let certificates = scene.certificates()?;
    certificates.renew_authority()?;
    certificates.sign("renewed", 30)?;
    scene.redis()?.show_certificate(certificates, "renewed").await?;
    scene.heals();
    scene.all_hear(true, RESUMES).await.context("after the certificates were renewed")?;
    scene.settle().await?;
    scene.require(said == scene.nodes.len(), format!("{said} nodes say that it is the certificate"));
    scene.require(connected == 0, format!("{connected} connections in spite of an expired certificate"));
    scene.require_no_closes();
    scene.require_recovery(RESUMES);
    Ok(())
}

async fn crowded_out(scene: &mut Scene) -> Result<()> {
    scene.begins();
    let mut held = scene.redis()?.connect().await?;
    let mut ask = async |words: &[&str]| -> Result<()> {
        let mut command = ::redis::Cmd::new();
        Ok(command.arg(words).query_async(&mut held).await?)
    };
    let rejected = scene.redis()?.info("rejected_connections").await?;
    ask(&["CONFIG", "SET", "maxclients", "3"]).await?;
    ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await?;
    ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await?;
    sleep(LASTS).await;
    ask(&["CONFIG", "SET", "maxclients", "10000"]).await?;
    let rejected = scene.redis()?.info("rejected_connections").await? - rejected;
    let rejected = rejected as f64 / LASTS.as_secs_f64();
    scene.all_hear(true, RESUMES).await.context("after there was room for clients")?;
    let calls = scene.redis()?.calls("evalsha").await?;
    let start = Instant::now();
    // Of a master that is not there: it refuses to be written to, and keeps its data.
    ask(&["REPLICAOF", "127.0.0.1", "1"]).await?;
    sleep(LASTS).await;
    ask(&["REPLICAOF", "NO", "ONE"]).await?;
    scene.heals();
    let calls = scene.redis()?.calls("evalsha").await? - calls;
    let attempts = u64::try_from(scene.desk.attempts_since(start).len())?;
    scene.settle().await?;
    scene.report.figure("rejected_per_s", format!("{rejected:.1}"));
    scene.report.figure("evalsha", calls);
    scene.require(rejected <= 20.0 * scene.nodes.len() as f64, "the nodes try too often to connect");
    scene.require(calls <= 3 * attempts + 500, format!("{calls} scripts for {attempts} publishes: a storm"));
    let lost = scene.verdicts(Verdict::NotRecovered);
    scene.require(lost == 0, format!("{lost} subscriptions were not recovered, and nothing was lost"));
    scene.require_no_closes();
    scene.require_unavailability();
    scene.require_recovery(RESUMES);
    Ok(())
}
