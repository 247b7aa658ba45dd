//! What it costs when all subscribers lose their lines, come back at once and catch up.
//!
//! What is counted is the recovery alone: all are connected again before the first of them subscribes, so neither
//! TCP nor upgrades nor tokens are part of it. Reading the command and writing the reply are.

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::json;

use super::delivery::{turn, warm_up};
use crate::clients::Clients;
use crate::options::{Options, Question};
use crate::report::{Figure, median};
use crate::server::Server;

const SUBSCRIBERS: u32 = 1_000;
/// What each of them misses.
const MISSED: u32 = 100;

/// CPU per publication and subscriber, in nanoseconds.
#[derive(Debug, Serialize)]
struct Round {
    live_ns: f64,
    recovered_ns: f64,
}

/// Delivers the same number of publications live, one at a time, and by recovery, in turns.
pub(super) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let settings = json!({"history_size": 2 * MISSED, "history_ttl": "1h", "force_recovery": true});
    let server = Server::start_with(options, &json!({"channel": {"without_namespace": settings}}))?;
    let api = server.api();
    let mut clients = Clients::subscribe(&server, options.connections.min(SUBSCRIBERS))?;
    warm_up(&mut clients, |numbers| api.publish(numbers)).context("warming up")?;
    let mut rounds = Vec::new();
    for _ in 0..options.long_rounds() {
        let live_ns = turn(&server.cpu(), &mut clients, (MISSED, 1), |numbers| api.publish(numbers))?;
        rounds.push(Round { live_ns, recovered_ns: recover(&server, &mut clients)? });
    }
    // They have to be live again, and nothing may have come twice.
    api.publish(clients.expect(1)?)?;
    clients.received()?;
    clients.status()?;
    let subscribers = clients.count();
    drop(clients);
    server.stop()?;
    Ok(figures(subscribers, &rounds))
}

/// Lets all clients miss something and come back for it. The swarm checks what each of them gets.
fn recover(server: &Server, clients: &mut Clients) -> Result<f64> {
    clients.leave()?;
    server.cpu().settled()?;
    server.api().publish(clients.miss(MISSED))?;
    clients.come_back()?;
    let before = server.cpu().settled()?;
    clients.recover_all().context("catching up")?;
    let used = server.cpu().settled()?.since(&before);
    // All have all: what comes next is counted from here.
    clients.expect(0)?;
    clients.received()?;
    Ok(used.as_secs_f64() * 1e9 / (f64::from(MISSED) * f64::from(clients.count())))
}

fn figures(subscribers: u32, rounds: &[Round]) -> Vec<Figure> {
    let details = json!({"rounds": rounds});
    let ratio = Figure {
        question: Question::Recovery,
        name: format!(
            "CPU of {subscribers} recovering {MISSED} publications at once, by delivering them live"
        ),
        unit: "×",
        measured: median(rounds.iter().map(|round| round.recovered_ns / round.live_ns)),
        reach: Some(2.0),
        details: details.clone(),
    };
    let each = Figure {
        question: Question::Recovery,
        name: format!("CPU per subscriber that recovers {MISSED} publications, without connecting"),
        unit: "µs",
        measured: median(rounds.iter().map(|round| round.recovered_ns * f64::from(MISSED) / 1e3)),
        reach: None,
        details,
    };
    vec![ratio, each]
}
