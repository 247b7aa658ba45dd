//! What a connection costs: to open, to keep, and to keep alive.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::clients::Clients;
use super::options::{Options, Row};
use super::report::Figure;
use super::server::Server;

/// Memory counts as quiet when it has moved by less than this for `QUIET_SECONDS`, after at most `SECONDS_MAX`: the
/// allocator gives back what the handshakes needed for a moment over some ten seconds.
const QUIET_BYTES: u64 = 64 * 1024;
const QUIET_SECONDS: u32 = 3;
const SECONDS_MAX: u32 = 20;

/// Connects and subscribes the clients, then watches them idle.
pub(crate) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let server = Server::start(options)?;
    let count = f64::from(options.connections);
    let (cpu, resident) = (server.cpu().settled()?, server.resident_bytes()?);
    let mut clients = Clients::subscribe(server.public(), options.connections, server.secret())?;
    let connecting = server.cpu().settled()?.since(&cpu);
    let quiet = quiet_bytes(&server)?;

    let mut figures = vec![
        Figure {
            row: Row::Memory,
            name: format!("RSS per idle subscribed connection, {} of them", options.connections),
            unit: "KB",
            measured: (quiet as f64 - resident as f64) / 1024.0 / count,
            reach: Some(3.0),
            details: json!({"before_bytes": resident, "connected_bytes": quiet}),
        },
        Figure {
            row: Row::Connect,
            name: "CPU per connect: TCP, upgrade, token, connect, subscribe".to_owned(),
            unit: "µs",
            measured: micros(connecting) / count,
            reach: Some(120.0),
            details: json!({"cpu_seconds": connecting.as_secs_f64()}),
        },
    ];
    if options.wants(Row::Idle) {
        figures.push(watch(options, &server, &mut clients)?);
    }
    // The figures are void if these were no live subscribers: one publication has to reach each.
    server.api().publish(clients.expect(1)?)?;
    clients.received().context("after the idle window")?;
    drop(clients);
    server.stop()?;
    Ok(figures)
}

/// Lets the connections idle for the window.
fn watch(options: &Options, server: &Server, clients: &mut Clients) -> Result<Figure> {
    let window = options.idle_window();
    let pings = clients.status()?.pings;
    let before = server.cpu().sample()?;
    thread::sleep(window);
    let used = server.cpu().sample()?.since(&before);
    let pings = clients.status()?.pings - pings;
    let count = f64::from(options.connections);
    Ok(Figure {
        row: Row::Idle,
        name: format!("CPU per idle connection and second, over {} s", window.as_secs()),
        unit: "µs",
        measured: micros(used) / count / window.as_secs_f64(),
        reach: Some(1.5),
        details: json!({"cpu_seconds": used.as_secs_f64(), "pings_per_connection": pings as f64 / count}),
    })
}

/// Resident memory once it no longer moves.
fn quiet_bytes(server: &Server) -> Result<u64> {
    let mut bytes = server.resident_bytes()?;
    let mut quiet_seconds = 0;
    for _ in 0..SECONDS_MAX {
        thread::sleep(Duration::from_secs(1));
        let now = server.resident_bytes()?;
        quiet_seconds = if now.abs_diff(bytes) < QUIET_BYTES { quiet_seconds + 1 } else { 0 };
        bytes = now;
        if quiet_seconds == QUIET_SECONDS {
            break;
        }
    }
    Ok(bytes)
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
