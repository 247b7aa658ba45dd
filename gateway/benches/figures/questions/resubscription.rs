//! How soon many channels are heard again when the connections on which nodes hear Redis are closed.
//!
//! Something is published to every channel at once after that, when none of them is heard: it is delivered only if
//! the nodes find out by themselves that they have missed it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::json;

use crate::clients::Clients;
use crate::cluster::{Cluster, KEPT};
use crate::options::{Options, Question, Spread};
use crate::report::{Figure, median};

const SUBSCRIBED_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);
/// Most seconds until all is as before.
const SECONDS_MAX: f64 = 3.0;

/// Seconds since the connections were closed.
#[derive(Debug, Serialize)]
struct Round {
    subscribed: f64,
    delivered: f64,
}

pub(super) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let cluster = Cluster::start(options)?;
    let spread = Spread { prefix: format!("{KEPT}many-"), count: options.connections };
    let mut clients = Clients::spread(&cluster.receiving[0], &spread, 1, false)?;
    let channels = spread.channels();
    let api = cluster.publishing.api();
    api.publish_each(&channels, clients.expect(1)?.start)?;
    clients.received().context("before anything is lost")?;
    let mut rounds = Vec::new();
    for _ in 0..options.long_rounds() {
        rounds.push(lose(&cluster, &mut clients, &channels)?);
    }
    // They have to be live again, and nothing may have come twice.
    api.publish_each(&channels, clients.expect(1)?.start)?;
    clients.received().context("afterwards")?;
    clients.status()?;
    drop(clients);
    cluster.stop()?;
    Ok(figures(channels.len(), &rounds))
}

fn lose(cluster: &Cluster, clients: &mut Clients, channels: &[String]) -> Result<Round> {
    let subscribed = subscriptions(cluster)?;
    let start = Instant::now();
    cluster.redis.ask::<u32>(&["CLIENT", "KILL", "TYPE", "pubsub"])?;
    let restored = thread::scope(|scope| {
        let restored = scope.spawn(|| wait_for(cluster, subscribed, start));
        let number = clients.expect(1)?.start;
        cluster.publishing.api().publish_each(channels, number)?;
        clients.received().context("published while nobody heard")?;
        let delivered = start.elapsed().as_secs_f64();
        let subscribed = restored.join().map_err(|_| anyhow::anyhow!("the watch panicked"))??;
        anyhow::Ok(Round { subscribed: subscribed.as_secs_f64(), delivered })
    })?;
    ensure!(nobody_is_missing(cluster, channels)?, "a channel is not subscribed");
    Ok(restored)
}

/// When as many channels as before are subscribed.
fn wait_for(cluster: &Cluster, subscribed: usize, start: Instant) -> Result<Duration> {
    while subscriptions(cluster)? < subscribed {
        ensure!(start.elapsed() < SUBSCRIBED_TIMEOUT, "not all channels are subscribed again");
        thread::sleep(POLL);
    }
    Ok(start.elapsed())
}

/// How many channels are subscribed at Redis: cheaper to ask than who they are.
fn subscriptions(cluster: &Cluster) -> Result<usize> {
    let stats: String = cluster.redis.ask(&["INFO", "stats"])?;
    let count = stats.lines().find_map(|line| line.strip_prefix("pubsub_channels:"));
    Ok(count.context("Redis does not count channels")?.trim().parse()?)
}

fn nobody_is_missing(cluster: &Cluster, channels: &[String]) -> Result<bool> {
    // Each name begins with what belongs to this cluster, and ends with the channel.
    let heard: Vec<String> = cluster.redis.ask(&["PUBSUB", "CHANNELS", &format!("*{KEPT}many-*")])?;
    Ok(heard.len() == channels.len())
}

fn figures(channels: usize, rounds: &[Round]) -> Vec<Figure> {
    let figure = |name: String, measured| Figure {
        question: Question::Resubscription,
        name,
        unit: "s",
        measured,
        reach: Some(SECONDS_MAX),
        details: json!({"rounds": rounds}),
    };
    let subscribed = median(rounds.iter().map(|round| round.subscribed));
    let delivered = median(rounds.iter().map(|round| round.delivered));
    let publications = channels * rounds.len();
    vec![
        figure(format!("connection closed: {channels} channels subscribed again"), subscribed),
        figure("the same: what was published to each meanwhile is delivered".to_owned(), delivered),
        Figure::nothing_lost(Question::Resubscription, publications as u64),
    ]
}
