//! What becomes dearer when there is more of everything: subscribers, channels, shards, connections.
//!
//! Nothing should. A delivery is compared with a bare `send` to as many sockets, since that one does become dearer: the
//! kernel's own memory no longer fits into the caches of a processor.

use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::delivery::{deliver, measure_api, turn, warm_up};
use crate::clients::{Clients, Start};
use crate::load::Load;
use crate::options::{Options, Question, Spread, publications};
use crate::report::{Figure, median};
use crate::server::Server;

/// Subscribers of the smallest channel.
const FEW: u32 = 100;
/// Subscribers of the largest one, and connections among which somebody connects: one file each, in two processes.
const MANY: u32 = 15_000;
/// Who connects beside them.
const NEWCOMERS: u32 = 1_000;
/// How long a node is watched while nobody connects.
const IDLE: Duration = Duration::from_secs(2);
/// Channels that are published to, one and so many.
const CHANNELS: u64 = 100_000;
/// Calls of a turn of either.
const CALLS: u64 = 5_000;
/// What a second shard may add to a delivery.
const SHARDS_REACH: f64 = 1.18;

pub(super) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let mut figures = deliveries(options)?;
    figures.push(shards(options).context("comparing one shard with two")?);
    figures.push(channels(options).context("publishing to many channels")?);
    figures.extend(memory(options).context("looking at memory")?);
    figures.push(connects(options).context("connecting to a node that is full")?);
    Ok(figures)
}

/// Delivers to few and to many. A publication of its own for a hundred subscribers is in a good part the API call, which
/// has a figure of its own and does not grow; so it is left out.
fn deliveries(options: &Options) -> Result<Vec<Figure>> {
    let call_us = measure_api(options)?.measured;
    let mut figures = Vec::new();
    for subscribers in [FEW, MANY] {
        let (_, rounds) = deliver(options, subscribers)?;
        let call_ns = call_us * 1e3 / f64::from(subscribers);
        figures.push(figure(
            format!("CPU per delivery to {subscribers} subscribers, without the API call, by bare send"),
            "×",
            median(rounds.iter().map(|round| (round.gateway_ns - call_ns) / round.bare_ns)),
            Some(1.2),
            json!({"call_us": call_us, "rounds": rounds}),
        ));
    }
    Ok(figures)
}

fn figure(name: String, unit: &'static str, measured: f64, reach: Option<f64>, details: Value) -> Figure {
    Figure { question: Question::Growth, name, unit, measured, reach, details }
}

/// Delivers to the subscribers of one channel, on a gateway with one shard and on one with two, in turns.
fn shards(options: &Options) -> Result<Figure> {
    let mut worlds = Vec::new();
    for shards in [1, 2] {
        let server = Server::start_with(options, &json!({"shards": shards}))?;
        let mut clients = Clients::subscribe(&server, options.connections)?;
        let api = server.api();
        warm_up(&mut clients, |numbers| api.publish(numbers))?;
        worlds.push((server, clients, api));
    }
    let mut rounds = Vec::new();
    for _ in 0..options.rounds() {
        let mut round = Vec::new();
        for (server, clients, api) in &mut worlds {
            let publish = |numbers: Range<u64>| api.publish(numbers);
            round.push(turn(&server.cpu(), clients, (publications(options.connections), 1), publish)?);
        }
        rounds.push((round[0], round[1]));
    }
    for (server, clients, _) in worlds {
        drop(clients);
        server.stop()?;
    }
    let name = format!("CPU per delivery to {} subscribers, two shards by one", options.connections);
    let ratio = median(rounds.iter().map(|(one, two)| two / one));
    Ok(figure(name, "×", ratio, Some(SHARDS_REACH), json!({"rounds_ns": rounds})))
}

/// Publishes with a history to one channel, and to very many that are all there.
fn channels(options: &Options) -> Result<Figure> {
    let history = json!({"history_size": 10, "history_ttl": "10m"});
    let server = Server::start_with(options, &json!({"channel": {"without_namespace": history}}))?;
    let many: Vec<String> = (0..CHANNELS).map(|number| format!("c{number}")).collect();
    server.api().publish_each(&many, 0)?;
    let cpu = |channels: &[String], numbers: Range<u64>| {
        let count = channels.len() as u64 * (numbers.end - numbers.start);
        let channels = channels.to_vec();
        let load = Load { address: server.internal(), connections: 1, channels, numbers, rate: None };
        let before = server.cpu().settled()?;
        load.publish()?;
        Ok::<_, anyhow::Error>(server.cpu().settled()?.since(&before).as_secs_f64() * 1e6 / count as f64)
    };
    let mut rounds = Vec::new();
    for round in 1..=u64::from(options.long_rounds()) {
        let others = (round * CALLS % CHANNELS) as usize;
        let one = cpu(&many[..1], round * CALLS..(round + 1) * CALLS)?;
        rounds.push((one, cpu(&many[others..others + CALLS as usize], round..round + 1)?));
    }
    server.stop()?;
    let name = format!("CPU per publish with a history, to {CHANNELS} channels in turn by to one");
    let ratio = median(rounds.iter().map(|(one, many)| many / one));
    Ok(figure(name, "×", ratio, Some(1.2), json!({"rounds_us": rounds})))
}

/// What a subscription takes, and what a channel of its own for it takes on top.
fn memory(options: &Options) -> Result<[Figure; 2]> {
    let count = f64::from(options.connections);
    let server = Server::start(options)?;
    let mut clients =
        Clients::begin(&server, options.connections, Start { apart: true, ..Start::default() })?;
    let connected = server.quiet_bytes()?;
    clients.subscribe_all()?;
    let subscribed = server.quiet_bytes()?;
    drop(clients);
    server.stop()?;
    let subscription = (subscribed as f64 - connected as f64) / count;

    let mut kept = Vec::new();
    for channels in [1, options.connections] {
        let server = Server::start(options)?;
        let before = server.resident_bytes()?;
        let spread = Spread { prefix: "c".to_owned(), count: channels };
        let clients = Clients::spread(&server, &spread, options.connections / channels, false)?;
        kept.push(server.quiet_bytes()? as f64 - before as f64);
        drop(clients);
        server.stop()?;
    }
    let channel = (kept[1] - kept[0]) / count;
    Ok([
        figure(
            "RSS per subscription of a connection".to_owned(),
            "bytes",
            subscription,
            None,
            json!({"connected_bytes": connected, "subscribed_bytes": subscribed}),
        ),
        figure(
            "RSS per channel with a subscriber, on top of that".to_owned(),
            "bytes",
            channel,
            None,
            json!({"one_channel_bytes": kept[0], "each_its_own_bytes": kept[1]}),
        ),
    ])
}

/// Connects some clients to a node that is empty, and as many to one that holds very many.
fn connects(options: &Options) -> Result<Figure> {
    // Those who are there already are pinged meanwhile, which is not what is asked here.
    let cost = |server: &Server| {
        let (idle, connecting) = (Instant::now(), server.cpu().settled()?);
        thread::sleep(IDLE);
        let (start, before) = (Instant::now(), server.cpu().settled()?);
        let idle_share = before.since(&connecting).as_secs_f64() / (start - idle).as_secs_f64();
        let clients = Clients::subscribe(server, NEWCOMERS)?;
        let used = server.cpu().settled()?.since(&before).as_secs_f64();
        let used = used - idle_share * start.elapsed().as_secs_f64();
        Ok::<_, anyhow::Error>((used * 1e6 / f64::from(NEWCOMERS), clients))
    };
    let (empty, full) = (Server::start(options)?, Server::start(options)?);
    let crowd = Clients::subscribe(&full, MANY)?;
    // What the first clients of a process cost is about the process.
    drop((cost(&empty)?, cost(&full)?));
    let mut rounds = Vec::new();
    for _ in 0..options.long_rounds() {
        let ((few, clients), (many, others)) = (cost(&empty)?, cost(&full)?);
        rounds.push((few, many));
        drop((clients, others));
    }
    drop(crowd);
    empty.stop()?;
    full.stop()?;
    let name = format!("CPU per connect while {MANY} are connected, by while nobody is");
    let ratio = median(rounds.iter().map(|(few, many)| many / few));
    Ok(figure(name, "×", ratio, Some(1.15), json!({"rounds_us": rounds})))
}
