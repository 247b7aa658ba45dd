//! What joins and leaves cost in a channel where everybody hears of everybody.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::delivery::{turn, warm_up};
use crate::clients::{Clients, Start};
use crate::options::{Options, Question, publications};
use crate::report::Figure;
use crate::server::Server;

/// Who joins and leaves while all others listen.
const VISITORS: u32 = 200;
/// Who joins at once; their notices are up to the square of it.
const STORM: u32 = 3_000;
const POLL: Duration = Duration::from_millis(100);
/// No notice for so long: all have come.
const SILENCE: Duration = Duration::from_secs(1);
const NOTICES_TIMEOUT: Duration = Duration::from_secs(60);

const HEARING: Start = Start { apart: false, hearing: true, timed: false };

/// Lets some come and go among many, then many at once.
pub(super) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let mut figures = come_and_go(options).context("some come and go")?;
    figures.push(storm(options).context("all join at once")?);
    Ok(figures)
}

fn start(options: &Options) -> Result<Server> {
    Server::start_with(options, &json!({"channel": {"without_namespace": {"join_leave": true}}}))
}

fn come_and_go(options: &Options) -> Result<Vec<Figure>> {
    let server = start(options)?;
    let api = server.api();
    let mut members = Clients::begin(&server, options.connections, HEARING)?;
    let heard = silence(&mut members).context("the members join")?;
    warm_up(&mut members, |numbers| api.publish(numbers)).context("warming up")?;
    let times = publications(members.count());
    let single_ns = turn(&server.cpu(), &mut members, (times, 1), |numbers| api.publish(numbers))?;

    let before = server.quiet_bytes()?;
    server.forget_peak()?;
    let cpu = server.cpu().settled()?;
    let each = u64::from(VISITORS) * u64::from(members.count());
    // The visitors do not listen themselves, so that it is known how many notices there are.
    let visitors = Clients::subscribe(&server, VISITORS)?;
    hear(&mut members, heard + each).context("visitors join")?;
    drop(visitors);
    hear(&mut members, heard + 2 * each).context("visitors leave")?;
    let used = server.cpu().settled()?.since(&cpu);
    let (peak, after) = (server.peak_bytes()?, server.quiet_bytes()?);
    ensure!(silence(&mut members)? == heard + 2 * each, "notices came twice");
    drop(members);
    server.stop()?;

    let notice_ns = used.as_secs_f64() * 1e9 / (2 * each) as f64;
    let details = json!({
        "notice_ns": notice_ns, "publication_ns": single_ns, "notices": 2 * each,
        "before_bytes": before, "peak_bytes": peak, "after_bytes": after,
    });
    let count = options.connections;
    let per_connection = |bytes: u64| (bytes as f64 - before as f64) / 1024.0 / f64::from(count);
    let figure = |name, unit, measured| Figure {
        question: Question::Notices,
        name,
        unit,
        measured,
        reach: None,
        details: details.clone(),
    };
    Ok(vec![
        figure(
            format!("CPU per notice to {count}, {VISITORS} come and go, connecting included"),
            "µs",
            notice_ns / 1e3,
        ),
        figure("the same, by a publication alone".to_owned(), "×", notice_ns / single_ns),
        figure("RSS per connection on top, at its peak meanwhile".to_owned(), "KB", per_connection(peak)),
        figure("RSS per connection on top, afterwards".to_owned(), "KB", per_connection(after)),
    ])
}

fn storm(options: &Options) -> Result<Figure> {
    let server = start(options)?;
    let count = options.connections.min(STORM);
    let mut members = Clients::begin(&server, count, Start { apart: true, ..HEARING })?;
    let before = server.quiet_bytes()?;
    server.forget_peak()?;
    members.subscribe_all()?;
    let heard = silence(&mut members)?;
    // Each hears of itself and of all who come later: at least half of the square.
    let least = u64::from(count) * u64::from(count + 1) / 2;
    ensure!(heard >= least, "{heard} notices of at least {least} have come");
    let (peak, after) = (server.peak_bytes()?, server.quiet_bytes()?);
    drop(members);
    server.stop()?;
    Ok(Figure {
        question: Question::Notices,
        name: format!("RSS per connection on top, at its peak while {count} join at once"),
        unit: "KB",
        measured: (peak as f64 - before as f64) / 1024.0 / f64::from(count),
        reach: None,
        details: json!({
            "before_bytes": before, "peak_bytes": peak, "after_bytes": after, "notices": heard,
        }),
    })
}

/// Waits until all members together have heard that many notices.
fn hear(members: &mut Clients, notices: u64) -> Result<()> {
    let deadline = Instant::now() + NOTICES_TIMEOUT;
    loop {
        let heard = members.status()?.notices;
        if heard >= notices {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{} notices are lost", notices - heard);
        thread::sleep(POLL);
    }
}

/// Waits until no more notices come, and returns how many there were.
fn silence(members: &mut Clients) -> Result<u64> {
    let deadline = Instant::now() + NOTICES_TIMEOUT;
    let (mut heard, mut since) = (members.status()?.notices, Instant::now());
    while Instant::now() < deadline {
        thread::sleep(POLL);
        let now = members.status()?.notices;
        if now != heard {
            (heard, since) = (now, Instant::now());
        } else if since.elapsed() > SILENCE {
            return Ok(heard);
        }
    }
    bail!("notices do not end")
}
