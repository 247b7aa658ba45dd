//! Whether memory returns after all clients were cut off and came back, again and again.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::clients::{Clients, Start};
use crate::options::{Options, Question};
use crate::report::Figure;
use crate::server::Server;

/// How often all are cut off.
const STORMS: u32 = 3;
/// After this the gateway has given back what it does not need.
const AFTERMATH: Duration = Duration::from_secs(30);
/// How much more it may need then than before.
const MORE_MAX: f64 = 1.2;

pub(super) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let server = Server::start(options)?;
    let empty = server.quiet_bytes()?;
    let mut clients =
        Clients::begin(&server, options.connections, Start { apart: true, ..Start::default() })?;
    clients.subscribe_all()?;
    let before = server.quiet_bytes()?;
    server.forget_peak()?;
    for _ in 0..STORMS {
        clients.leave()?;
        clients.come_back().context("after a storm")?;
        clients.subscribe_all()?;
    }
    thread::sleep(AFTERMATH);
    let after = server.resident_bytes()?;
    let peak = server.peak_bytes()?;
    // These are live subscribers, or the figures are void.
    server.api().publish(clients.expect(1)?)?;
    clients.received().context("after the storms")?;
    drop(clients);
    thread::sleep(AFTERMATH);
    let deserted = server.resident_bytes()?;
    server.stop()?;
    let details = json!({
        "empty_bytes": empty, "before_bytes": before, "peak_bytes": peak, "after_bytes": after,
        "deserted_bytes": deserted, "storms": STORMS,
    });
    let figure = |name: String, part: u64, whole: u64, reach| Figure {
        question: Question::Storm,
        name,
        unit: "×",
        measured: part as f64 / whole as f64,
        reach,
        details: details.clone(),
    };
    let count = options.connections;
    Ok(vec![
        figure(
            format!("RSS with {count} connections, 30 s after all came back, by before"),
            after,
            before,
            Some(MORE_MAX),
        ),
        // What a node keeps that has had clients once: tables as large as they were, which the next ones use.
        figure(format!("RSS 30 s after {count} connections left, by before any came"), deserted, empty, None),
    ])
}
