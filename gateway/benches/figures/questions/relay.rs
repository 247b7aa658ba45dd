//! What a publication costs that goes through Redis to other nodes, and how long that takes.
//!
//! Three nodes and their Redis; one node is published at, over the server API, and has no subscribers. The second has
//! one subscriber per channel, the third has two: what the third uses more is what a delivery costs once the
//! publication has reached the node, and the second without that is what hearing the publication costs. It is an
//! estimate: waking a shard is in the first of two deliveries and not in the second if both are on one shard.
//!
//! All of it, the load and the clients too, shares the cores of one machine.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::json;

use crate::clients::{Clients, Lateness};
use crate::cluster::{Cluster, KEPT, PLAIN};
use crate::load::Load;
use crate::options::{Options, Question, Spread};
use crate::process::CpuMeter;
use crate::report::{Figure, median};

const CHANNELS: u32 = 200;
/// Connections of the publisher: enough that each node has something to do while others wait.
const CONNECTIONS: u32 = 40;
/// Subscribers of a channel on the second and the third node.
const SUBSCRIBERS: [u32; 2] = [1, 2];
/// Publications per channel before anything is counted.
const LEAD_IN: u32 = 10;
/// The rate of a cluster that has time: publications per second.
const CALM_RATE: f64 = 1_000.0;
/// By how much the rate is below the most that goes when deliveries are timed.
const TIMED_SHARE: f64 = 0.1;

/// What is done to the cluster for a while.
#[derive(Clone, Copy, Debug)]
struct Plan {
    namespace: &'static str,
    /// Publications per channel.
    publications: u32,
    rate: Option<f64>,
    is_timed: bool,
}

/// What came of it. CPU is per publication, in microseconds.
#[derive(Debug, Serialize)]
struct Round {
    seconds: f64,
    publications: u32,
    publishing_us: f64,
    receiving_us: [f64; 2],
    redis_us: f64,
    /// Of this process, which publishes; the clients are another.
    load_us: f64,
    lateness: Lateness,
}

impl Round {
    fn rate(&self) -> f64 {
        f64::from(self.publications) / self.seconds
    }

    /// CPU of the node with one subscriber per channel, less that of one delivery.
    fn hearing_us(&self) -> f64 {
        let [one, two] = self.receiving_us;
        2.0 * one - two
    }
}

pub(super) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let cluster = Cluster::start(options)?;
    let (mut figures, mut publications) = (Vec::new(), 0);
    for (namespace, label) in [(PLAIN, "no history"), (KEPT, "history")] {
        let (mut saturated, mut calm) = (Vec::new(), Vec::new());
        let (saturated_size, calm_size) = if options.quick { (50, 10) } else { (200, 50) };
        let plan = Plan { namespace, publications: saturated_size, rate: None, is_timed: false };
        for _ in 0..options.long_rounds() {
            saturated.push(round(&cluster, &plan).with_context(|| format!("as fast as it goes, {label}"))?);
            let plan = Plan { publications: calm_size, rate: Some(CALM_RATE), ..plan };
            calm.push(round(&cluster, &plan).with_context(|| format!("at {CALM_RATE}/s, {label}"))?);
        }
        let rate = TIMED_SHARE * median(saturated.iter().map(Round::rate));
        let plan = Plan {
            publications: (5.0 * rate) as u32 / CHANNELS + 1,
            rate: Some(rate),
            is_timed: true,
            ..plan
        };
        let timed = round(&cluster, &plan).with_context(|| format!("timed, {label}"))?;
        let rounds = saturated.iter().chain(&calm).chain([&timed]);
        publications += rounds.map(|round| u64::from(round.publications)).sum::<u64>();
        figures.extend(self::figures(label, &saturated, &calm, &timed));
    }
    cluster.stop()?;
    figures.push(Figure::nothing_lost(Question::Relay, publications));
    Ok(figures)
}

/// Publishes to fresh channels and waits until every subscriber has all, once and in order.
fn round(cluster: &Cluster, plan: &Plan) -> Result<Round> {
    let spread = channels(plan.namespace);
    let mut swarms = Vec::new();
    for (node, subscribers) in cluster.receiving.iter().zip(SUBSCRIBERS) {
        swarms.push(Clients::spread(node, &spread, subscribers, plan.is_timed)?);
    }
    publish(cluster, &spread, &mut swarms, LEAD_IN, None).context("leading in")?;
    for swarm in &mut swarms {
        // What is late in the lead-in does not count.
        swarm.status()?;
    }

    let Cluster { publishing, receiving: [one, two], redis } = cluster;
    let own = CpuMeter::new(std::process::id());
    let meters = [publishing.cpu(), one.cpu(), two.cpu(), redis.cpu(), own];
    let before = meters.iter().map(CpuMeter::settled).collect::<Result<Vec<_>>>()?;
    let took = publish(cluster, &spread, &mut swarms, plan.publications, plan.rate)?;
    let after = meters.iter().map(CpuMeter::settled).collect::<Result<Vec<_>>>()?;
    let publications = plan.publications * CHANNELS;
    let used =
        |index: usize| after[index].since(&before[index]).as_secs_f64() * 1e6 / f64::from(publications);
    Ok(Round {
        seconds: took.as_secs_f64(),
        publications,
        publishing_us: used(0),
        receiving_us: [used(1), used(2)],
        redis_us: used(3),
        load_us: used(4),
        lateness: swarms[0].status()?.lateness,
    })
}

fn publish(
    cluster: &Cluster,
    spread: &Spread,
    swarms: &mut [Clients],
    publications: u32,
    rate: Option<f64>,
) -> Result<Duration> {
    let mut numbers = 0..0;
    for swarm in swarms.iter_mut() {
        numbers = swarm.expect(publications)?;
    }
    let (address, channels) = (cluster.publishing.internal(), spread.channels());
    let start = Instant::now();
    Load { address, connections: CONNECTIONS, channels, numbers, rate }.publish()?;
    for swarm in swarms {
        swarm.received()?;
    }
    Ok(start.elapsed())
}

/// Names that no round has used.
fn channels(namespace: &str) -> Spread {
    Spread { prefix: format!("{namespace}{}-", uuid::Uuid::new_v4().simple()), count: CHANNELS }
}

fn figures(label: &str, saturated: &[Round], calm: &[Round], timed: &Round) -> Vec<Figure> {
    let details = json!({"saturated": saturated, "calm": calm, "timed": timed});
    let figure = |name: &str, unit, measured, reach| Figure {
        question: Question::Relay,
        name: format!("{label}: {name}"),
        unit,
        measured,
        reach,
        details: details.clone(),
    };
    let full = |value: fn(&Round) -> f64| median(saturated.iter().map(value));
    let idle = |value: fn(&Round) -> f64| median(calm.iter().map(value));
    let deliveries = f64::from(SUBSCRIBERS.iter().sum::<u32>());
    let late_ms = |late_us: u64| late_us as f64 / 1e3;
    vec![
        figure("publications per second, all nodes on this machine", "/s", full(Round::rate), None),
        figure("deliveries per second meanwhile", "/s", full(Round::rate) * deliveries, None),
        figure("CPU per publication meanwhile, publishing node", "µs", full(|r| r.publishing_us), Some(40.0)),
        figure("the same, receiving node without delivery", "µs", full(Round::hearing_us), Some(12.0)),
        figure("the same, receiving node, 1 subscriber", "µs", full(|r| r.receiving_us[0]), None),
        figure("the same, Redis", "µs", full(|r| r.redis_us), None),
        figure(
            "CPU per publication at 1,000/s, publishing node",
            "µs",
            idle(|r| r.publishing_us),
            Some(70.0),
        ),
        figure("the same, receiving node, 1 subscriber", "µs", idle(|r| r.receiving_us[0]), Some(40.0)),
        figure("the same, receiving node without delivery", "µs", idle(Round::hearing_us), None),
        figure("the same, Redis", "µs", idle(|r| r.redis_us), None),
        figure(
            "delivery on another node at a tenth of the rate, p50",
            "ms",
            late_ms(timed.lateness.p50_us),
            None,
        ),
        figure("the same, p99", "ms", late_ms(timed.lateness.p99_us), None),
    ]
}
