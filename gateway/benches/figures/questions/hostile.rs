//! Whether clients that stop reading make deliveries to others late.
//!
//! One in twenty stops reading as soon as it is subscribed, the others are timed. The same number of publications goes
//! to the same number of clients with and without that, in turns, each of which has clients and channels of its own.
//! Buffers are small, so that in each turn they fill, something waits, and who does not read is closed.

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::clients::{Clients, Lateness};
use crate::load::Load;
use crate::options::{Options, Question, Spread};
use crate::report::{Figure, median};
use crate::server::Server;
use crate::visitor::Visitor;

const CHANNELS: u32 = 20;
/// Clients of each channel that are timed, and those of which one question is whether they read: one in twenty.
const TIMED: u32 = 57;
const DOUBTFUL: u32 = 3;
/// What users those are that do not read: nobody of a swarm.
const FIRST_STALLED: u32 = 1_000_000;
/// Connections of the publisher.
const CONNECTIONS: u32 = 10;
/// Publications per second, in all channels together.
const RATE: f64 = 1_000.0;
/// Publications per channel before anything is timed.
const LEAD_IN: u32 = 10;
/// What others may be later, at the 99th percentile.
const LATER_MAX: f64 = 1.10;

/// How late the others were.
#[derive(Debug, Serialize)]
struct Round {
    calm: Lateness,
    hostile: Lateness,
}

pub(super) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let settings = json!({"client": {"send_buffer_bytes": 4096, "outbox_bytes_max": 8192}});
    let server = Server::start_with(options, &settings)?;
    let publications = if options.quick { 150 } else { 300 };
    let mut rounds = Vec::new();
    for index in 0..options.long_rounds() {
        // Whoever goes first is not always the same.
        let is_first = index % 2 == 0;
        let first = turn(&server, publications, is_first)?;
        let second = turn(&server, publications, !is_first)?;
        let (hostile, calm) = if is_first { (first, second) } else { (second, first) };
        rounds.push(Round { calm, hostile });
    }
    server.stop()?;
    Ok(figures(&rounds))
}

/// Publishes for a while; answers how late those were who read.
fn turn(server: &Server, publications: u32, is_hostile: bool) -> Result<Lateness> {
    let spread = Spread { prefix: format!("hostile-{}-", Uuid::new_v4().simple()), count: CHANNELS };
    let mut swarms = vec![Clients::spread(server, &spread, TIMED, true)?];
    let mut stalled = Vec::new();
    match is_hostile {
        true => stalled = self::stalled(server, &spread)?,
        false => swarms.push(Clients::spread(server, &spread, DOUBTFUL, false)?),
    }
    let closed = server.metric("clarion_slow_consumers_total")?;
    publish(server, &spread, &mut swarms, LEAD_IN).context("leading in")?;
    // What is late in the lead-in does not count.
    swarms[0].status()?;
    publish(server, &spread, &mut swarms, publications)?;
    let lateness = swarms[0].status()?.lateness;
    let closed = server.metric("clarion_slow_consumers_total")? - closed;
    let expected = stalled.len() as f64;
    ensure!(closed == expected, "{closed} clients were closed because they do not read, not {expected}");
    Ok(lateness)
}

fn stalled(server: &Server, spread: &Spread) -> Result<Vec<Visitor>> {
    let channels = spread.channels();
    let all = (FIRST_STALLED..FIRST_STALLED + CHANNELS * DOUBTFUL).zip(channels.iter().cycle());
    all.map(|(user, channel)| Visitor::subscribe_narrow(server, user, channel)).collect()
}

fn publish(server: &Server, spread: &Spread, swarms: &mut [Clients], publications: u32) -> Result<()> {
    let mut numbers = 0..0;
    for swarm in swarms.iter_mut() {
        numbers = swarm.expect(publications)?;
    }
    let (address, channels) = (server.internal(), spread.channels());
    Load { address, connections: CONNECTIONS, channels, numbers, rate: Some(RATE) }.publish()?;
    swarms.iter_mut().try_for_each(Clients::received)
}

fn figures(rounds: &[Round]) -> Vec<Figure> {
    let figure = |name: &str, unit, measured, reach| Figure {
        question: Question::Hostile,
        name: name.to_owned(),
        unit,
        measured,
        reach,
        details: json!({"rounds": rounds}),
    };
    let p99_ms =
        |late: fn(&Round) -> Lateness| median(rounds.iter().map(|round| late(round).p99_us as f64 / 1e3));
    let later = median(rounds.iter().map(|round| round.hostile.p99_us as f64 / round.calm.p99_us as f64));
    vec![
        figure("delivery while everybody reads, p99", "ms", p99_ms(|round| round.calm), None),
        figure("the same to others while 5 % do not read", "ms", p99_ms(|round| round.hostile), None),
        figure("later by", "×", later, Some(LATER_MAX)),
    ]
}
