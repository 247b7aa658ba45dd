//! How much memory histories take, and whether anybody else notices that they end.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::json;

use super::delivery::warm_up;
use crate::api::Api;
use crate::clients::{Clients, Lateness, Start};
use crate::frame::DATA_BYTES;
use crate::options::{Options, Question};
use crate::report::{Figure, median};
use crate::server::Server;

const CHANNELS: u32 = 10_000;
/// Publications kept of each.
const KEPT: u32 = 100;
/// Most bytes of memory per publication: a share of its data, and what does not depend on that.
const BYTES_MAX: f64 = 1.3 * DATA_BYTES as f64 + 150.0;

const SUBSCRIBERS: u32 = 1_000;
/// How long a history is kept after its last publication, where it is to expire.
const TTL: Duration = Duration::from_secs(6);
/// How long deliveries are timed; all histories expire within it.
const WINDOW: Duration = Duration::from_secs(2);
/// From one delivery to the next: enough for the clients to have read it.
const PAUSE: Duration = Duration::from_millis(10);

/// Fills histories, and weighs the gateway before and after.
pub(super) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let server = start(options, "1h")?;
    let (api, channels) = (server.api(), channels(options));
    let before = server.quiet_bytes()?;
    fill(&api, &channels)?;
    let after = server.quiet_bytes()?;
    check(&api, &channels, KEPT as usize)?;
    server.stop()?;
    let publications = f64::from(KEPT) * channels.len() as f64;
    let each = (after as f64 - before as f64) / publications;
    Ok(vec![Figure {
        question: Question::History,
        name: format!(
            "RSS per kept publication of {DATA_BYTES} bytes, {publications} in {} channels",
            channels.len()
        ),
        unit: "bytes",
        measured: each,
        reach: Some(BYTES_MAX),
        details: json!({
            "before_bytes": before, "filled_bytes": after, "beyond_data_bytes": each - DATA_BYTES as f64,
        }),
    }])
}

/// How late deliveries are, in microseconds.
#[derive(Debug, Serialize)]
struct Round {
    quiet: Lateness,
    expiring: Lateness,
    filled_bytes: u64,
    expired_bytes: u64,
}

/// Times deliveries in a busy channel while nothing expires and while all histories do, in turns.
pub(super) fn measure_expiry(options: &Options) -> Result<Vec<Figure>> {
    let server = start(options, &format!("{}s", TTL.as_secs()))?;
    let (api, channels) = (server.api(), channels(options));
    let timed = Start { timed: true, ..Start::default() };
    let mut clients = Clients::begin(&server, options.connections.min(SUBSCRIBERS), timed)?;
    warm_up(&mut clients, |numbers| api.publish(numbers))?;
    let mut rounds = Vec::new();
    for _ in 0..options.long_rounds() {
        let last_filled = fill(&api, &channels)?;
        check(&api, &channels, KEPT as usize)?;
        let filled_bytes = server.resident_bytes()?;
        let quiet = deliver(&api, &mut clients)?;
        ensure!(last_filled.elapsed() < TTL, "the histories expired before their turn");
        thread::sleep(TTL.saturating_sub(last_filled.elapsed()));
        let expiring = deliver(&api, &mut clients)?;
        rounds.push(Round { quiet, expiring, filled_bytes, expired_bytes: server.resident_bytes()? });
        check(&api, &channels, 0)?;
    }
    drop(clients);
    server.stop()?;
    Ok(figures(channels.len(), &rounds))
}

fn start(options: &Options, ttl: &str) -> Result<Server> {
    let kept = json!({"name": "kept", "history_size": KEPT, "history_ttl": ttl, "history_meta_ttl": ttl});
    Server::start_with(options, &json!({"channel": {"namespaces": [kept]}}))
}

fn channels(options: &Options) -> Vec<String> {
    let count = if options.quick { CHANNELS / 10 } else { CHANNELS };
    (0..count).map(|index| format!("kept:{index}")).collect()
}

/// Publishes to all channels in turn until each keeps all it may. Returns when the last turn began: before that
/// moment and its history's time, nothing expires.
fn fill(api: &Api, channels: &[String]) -> Result<Instant> {
    let mut last = Instant::now();
    for number in 1..=u64::from(KEPT) {
        last = Instant::now();
        api.publish_each(channels, number)?;
    }
    Ok(last)
}

/// Looks whether the first and the last channel keep that many publications.
fn check(api: &Api, channels: &[String], expected: usize) -> Result<()> {
    for channel in channels.iter().take(1).chain(channels.last()) {
        let kept = api.kept(channel)?;
        ensure!(kept == expected, "{channel} keeps {kept} publications where {expected} were expected");
    }
    Ok(())
}

/// Delivers one publication after another for as long as the window lasts.
fn deliver(api: &Api, clients: &mut Clients) -> Result<Lateness> {
    let end = Instant::now() + WINDOW;
    while Instant::now() < end {
        let next = Instant::now() + PAUSE;
        api.publish(clients.expect(1)?)?;
        clients.received()?;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(clients.status()?.lateness)
}

fn figures(channels: usize, rounds: &[Round]) -> Vec<Figure> {
    let quiet = median(rounds.iter().map(|round| round.quiet.p99_us as f64));
    let expiring = median(rounds.iter().map(|round| round.expiring.p99_us as f64));
    let worst = |of: fn(&Round) -> Lateness| median(rounds.iter().map(|round| of(round).max_us as f64));
    let (quiet_max, expiring_max) = (worst(|round| round.quiet), worst(|round| round.expiring));
    let publications = channels * KEPT as usize;
    let figure = |name, unit, measured, reach| Figure {
        question: Question::Expiry,
        name,
        unit,
        measured,
        reach,
        details: json!({"rounds": rounds}),
    };
    vec![
        figure("p99 from publishing to reading, while nothing expires".to_owned(), "µs", quiet, None),
        figure(format!("the same while {publications} publications expire"), "µs", expiring, None),
        figure("the latest of all, while nothing expires".to_owned(), "µs", quiet_max, None),
        figure("the same while they expire".to_owned(), "µs", expiring_max, None),
        figure("p99 while they expire, by p99 without".to_owned(), "×", expiring / quiet, Some(1.1)),
    ]
}
