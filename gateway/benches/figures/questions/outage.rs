//! How soon nodes notice that Redis is gone, and hear one another again once it is back.
//!
//! Two ways to go: every connection is cut without a word, while new ones work; and Redis is killed, to come back
//! empty. Meanwhile something is published every few milliseconds, to a channel without a history, whose deliveries
//! tell when a node is heard again, and to one with a history, whose subscriber must get all that was published, or
//! be told that it cannot.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Serialize;
use serde_json::json;

use super::watch::Watch;
use crate::cluster::Cluster;
use crate::firewall::BlackHole;
use crate::options::{Options, Question};
use crate::redis_server::RedisServer;
use crate::report::Figure;
use crate::server::Server;

const POLL: Duration = Duration::from_millis(20);
/// How long Redis is gone.
const AWAY: Duration = Duration::from_secs(1);
/// How long everything works between two outages.
const STEADY: Duration = Duration::from_millis(500);
/// How long to wait for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);
const UP: &str = "clarion_broker_up";
const RECONNECTS: &str = "clarion_broker_reconnects_total";

type Nodes<'a> = [&'a Server; 3];

/// Seconds until every node has noticed, and until a publication is delivered on another node again: since the
/// connections were cut, or since Redis was back.
#[derive(Debug, Serialize)]
struct Outage {
    noticed: f64,
    delivered: f64,
}

pub(super) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let mut cluster = Cluster::start(options)?;
    let Cluster { publishing, receiving: [one, other], redis } = &mut cluster;
    let (publishing, one, other) = (&*publishing, &*one, &*other);
    let watch = Watch::default();
    let (cut, killed) = thread::scope(|scope| {
        let watching = watch.start(scope, publishing, one)?;
        let outages = outages(options, [publishing, one, other], redis, &watch);
        watch.end();
        watching.into_iter().try_for_each(join)?;
        outages
    })?;
    let verdict = watch.verdict();
    ensure!(
        (verdict.lost, verdict.repeated, verdict.late) == (0, 0, 0),
        "publications are lost, or came twice or out of order: {verdict:?}"
    );
    cluster.stop()?;
    let details = json!({"cut": cut, "killed": killed, "publications": verdict});
    let mut figures = figures(&cut, &killed, &details);
    figures.push(Figure::nothing_lost(Question::Outage, verdict.published as u64));
    Ok(figures)
}

fn join(thread: thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    thread.join().map_err(|_| anyhow!("a thread of the watch panicked"))?
}

fn outages(
    options: &Options,
    nodes: Nodes<'_>,
    redis: &mut RedisServer,
    watch: &Watch,
) -> Result<(Vec<Outage>, Vec<Outage>)> {
    let (mut cut, mut killed) = (Vec::new(), Vec::new());
    for _ in 0..options.outages() {
        if BlackHole::is_permitted() {
            cut.push(cut_all(nodes, redis, watch).context("after all connections were cut")?);
            recover(nodes, watch)?;
        }
        killed.push(kill(nodes, redis, watch).context("after Redis was killed")?);
        recover(nodes, watch)?;
    }
    Ok((cut, killed))
}

/// Cuts every connection of the nodes to Redis; new ones work.
fn cut_all(nodes: Nodes<'_>, redis: &RedisServer, watch: &Watch) -> Result<Outage> {
    let reconnects = nodes.iter().map(|node| node.metric(RECONNECTS)).collect::<Result<Vec<_>>>()?;
    let clients: String = redis.ask(&["CLIENT", "LIST"])?;
    // All but who asks.
    let clients = clients.lines().filter(|line| !line.contains("cmd=client|list"));
    let ports: Vec<u16> = clients.filter_map(port).collect();
    let start = Instant::now();
    let _hole = BlackHole::between(redis.address().port(), &ports)?;
    for (node, before) in nodes.iter().zip(reconnects) {
        until("noticed", || Ok(node.metric(RECONNECTS)? > before))?;
    }
    let noticed = start.elapsed();
    let delivered = watch.next_delivery(PATIENCE)?.duration_since(start);
    Ok(Outage { noticed: noticed.as_secs_f64(), delivered: delivered.as_secs_f64() })
}

/// The port of a client, by its line in `CLIENT LIST`.
fn port(client: &str) -> Option<u16> {
    let address = client.split(' ').find_map(|field| field.strip_prefix("addr="))?;
    address.rsplit(':').next()?.parse().ok()
}

fn kill(nodes: Nodes<'_>, redis: &mut RedisServer, watch: &Watch) -> Result<Outage> {
    let start = Instant::now();
    redis.kill();
    for node in nodes {
        until("noticed", || Ok(node.metric(UP)? == 0.0))?;
    }
    let noticed = start.elapsed();
    thread::sleep(AWAY.saturating_sub(start.elapsed()));
    redis.restart()?;
    let back = Instant::now();
    let delivered = watch.next_delivery(PATIENCE)?.duration_since(back);
    Ok(Outage { noticed: noticed.as_secs_f64(), delivered: delivered.as_secs_f64() })
}

/// Waits until every node hears Redis and both channels are delivered.
fn recover(nodes: Nodes<'_>, watch: &Watch) -> Result<()> {
    for node in nodes {
        until("heard again", || Ok(node.metric(UP)? == 1.0))?;
    }
    watch.next_kept_delivery(PATIENCE)?;
    thread::sleep(STEADY);
    Ok(())
}

fn until(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "it is not {what} within {} s", PATIENCE.as_secs());
        thread::sleep(POLL);
    }
    Ok(())
}

fn figures(cut: &[Outage], killed: &[Outage], details: &serde_json::Value) -> Vec<Figure> {
    let rows = [
        ("every connection cut: noticed by every node", cut, true, Some(5.0)),
        ("every connection cut: delivered on another node again", cut, false, None),
        ("Redis killed: noticed by every node", killed, true, Some(1.0)),
        ("Redis killed: delivered on another node again, after its return", killed, false, Some(3.0)),
    ];
    let mut figures = Vec::new();
    for (name, outages, is_notice, reach) in rows.into_iter().filter(|(_, outages, ..)| !outages.is_empty()) {
        let seconds = |outage: &Outage| if is_notice { outage.noticed } else { outage.delivered };
        let mut seconds: Vec<f64> = outages.iter().map(seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let of = outages.len();
        for (label, index) in [("p50", of / 2), ("p99", (of * 99 / 100).min(of - 1))] {
            figures.push(Figure {
                question: Question::Outage,
                name: format!("{name}, {label} of {of}"),
                unit: "s",
                measured: seconds[index],
                reach,
                details: details.clone(),
            });
        }
    }
    figures
}
