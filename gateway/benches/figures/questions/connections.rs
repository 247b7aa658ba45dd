//! What a connection costs: to open, to keep, and to keep alive.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::clients::Clients;
use crate::options::{Options, Question};
use crate::report::Figure;
use crate::server::Server;

/// Two rounds of saying that somebody is still present, which is the default of every 27 s.
const PRESENT_WINDOW: Duration = Duration::from_secs(54);

/// How subscribers of the only channel are kept.
struct Kind {
    name: &'static str,
    /// The options of the channel.
    channel: Value,
    /// How long they are watched while they idle; `None` for not at all.
    window: Option<Duration>,
    /// Most KB, and most µs per second.
    reaches: [f64; 2],
}

/// Connects and subscribes the clients, then watches them idle: as they come, and with what a channel can add.
pub(super) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let kinds = [
        Kind { name: "", channel: json!({}), window: Some(options.idle_window()), reaches: [2.0, 0.8] },
        Kind {
            name: ", recoverable",
            channel: json!({"history_size": 100, "history_ttl": "1h", "force_recovery": true}),
            window: None,
            reaches: [3.0, 0.8],
        },
        Kind {
            name: ", present and announced",
            channel: json!({"presence": true, "join_leave": true}),
            window: Some(if options.quick { options.idle_window() } else { PRESENT_WINDOW }),
            reaches: [3.0, 0.8],
        },
    ];
    let mut figures = Vec::new();
    for kind in &kinds {
        figures.extend(measure_kind(options, kind)?);
    }
    Ok(figures)
}

fn measure_kind(options: &Options, kind: &Kind) -> Result<Vec<Figure>> {
    let server = Server::start_with(options, &json!({"channel": {"without_namespace": kind.channel}}))?;
    let (count, name) = (f64::from(options.connections), kind.name);
    let (cpu, resident) = (server.cpu().settled()?, server.resident_bytes()?);
    let mut clients = Clients::subscribe(&server, options.connections)?;
    let connecting = server.cpu().settled()?.since(&cpu);
    let quiet = server.quiet_bytes()?;

    let mut figures = vec![
        Figure {
            question: Question::Connections,
            name: format!("RSS per idle subscribed connection{name}, {} of them", options.connections),
            unit: "KB",
            measured: (quiet as f64 - resident as f64) / 1024.0 / count,
            reach: Some(kind.reaches[0]),
            details: json!({"before_bytes": resident, "connected_bytes": quiet}),
        },
        Figure {
            question: Question::Connections,
            name: format!("CPU per connect{name}: TCP, upgrade, token, connect, subscribe"),
            unit: "µs",
            measured: micros(connecting) / count,
            reach: Some(80.0),
            details: json!({"cpu_seconds": connecting.as_secs_f64()}),
        },
    ];
    if let Some(window) = kind.window {
        figures.push(watch(window, kind, &server, &mut clients)?);
    }
    // The figures are void if these were no live subscribers: one publication has to reach each.
    server.api().publish(clients.expect(1)?)?;
    clients.received().context("after the idle window")?;
    drop(clients);
    server.stop()?;
    Ok(figures)
}

/// Lets the connections idle for the window.
fn watch(window: Duration, kind: &Kind, server: &Server, clients: &mut Clients) -> Result<Figure> {
    let pings = clients.status()?.pings;
    let before = server.cpu().sample()?;
    thread::sleep(window);
    let used = server.cpu().sample()?.since(&before);
    let pings = clients.status()?.pings - pings;
    let count = f64::from(clients.count());
    Ok(Figure {
        question: Question::Connections,
        name: format!("CPU per second and idle connection{}, over {} s", kind.name, window.as_secs()),
        unit: "µs",
        measured: micros(used) / count / window.as_secs_f64(),
        reach: Some(kind.reaches[1]),
        details: json!({"cpu_seconds": used.as_secs_f64(), "pings_per_connection": pings as f64 / count}),
    })
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
