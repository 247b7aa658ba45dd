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
/// Who joins and leaves one after another.
const SINGLES: u32 = 20;
/// Who joins at once; their notices are up to the square of it.
const STORM: u32 = 3_000;
const POLL: Duration = Duration::from_millis(5);
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
    // Who may see who is present may ask to hear who joins.
    let channel = json!({"join_leave": true, "allow_presence_for_subscriber": true});
    Server::start_with(options, &json!({"channel": {"without_namespace": channel}}))
}

fn come_and_go(options: &Options) -> Result<Vec<Figure>> {
    let server = start(options)?;
    let api = server.api();
    let mut members = Clients::begin(&server, options.connections, HEARING)?;
    silence(&mut members).context("the members join")?;
    warm_up(&mut members, |numbers| api.publish(numbers)).context("warming up")?;
    let times = publications(members.count());
    let single_ns = turn(&server.cpu(), &mut members, (times, 1), |numbers| api.publish(numbers))?;

    let single_notice_ns = one_by_one(&server, &mut members)? / f64::from(members.count());
    let before = server.quiet_bytes()?;
    server.forget_peak()?;
    let heard = members.status()?.notices;
    let cpu = server.cpu().settled()?;
    visit(&server, &mut members, VISITORS)?;
    let used = server.cpu().settled()?.since(&cpu);
    let (peak, after) = (server.peak_bytes()?, server.quiet_bytes()?);
    let notices = 2 * u64::from(VISITORS) * u64::from(members.count());
    ensure!(silence(&mut members)? == heard + notices, "notices came twice");
    drop(members);
    server.stop()?;

    let (count, notice_ns) = (options.connections, used.as_secs_f64() * 1e9 / notices as f64);
    let details = json!({
        "single_notice_ns": single_notice_ns, "notice_ns": notice_ns, "publication_ns": single_ns,
        "notices": notices, "before_bytes": before, "peak_bytes": peak, "after_bytes": after,
    });
    let growth = |bytes: u64| (bytes as f64 - before as f64) / 1024.0 / f64::from(count);
    let figure = |name, unit, measured, reach| Figure {
        question: Question::Notices,
        name,
        unit,
        measured,
        reach,
        details: details.clone(),
    };
    let alone = format!("CPU per notice to {count}, one at a time, connecting included");
    let together = format!("CPU per notice to {count}, {VISITORS} come and go at once");
    Ok(vec![
        figure(alone, "µs", single_notice_ns / 1e3, None),
        figure("the same, by a publication".to_owned(), "×", single_notice_ns / single_ns, Some(1.25)),
        figure(together, "µs", notice_ns / 1e3, None),
        figure("RSS per connection on top, at its peak meanwhile".to_owned(), "KB", growth(peak), Some(1.0)),
        figure("RSS per connection on top, afterwards".to_owned(), "KB", growth(after), Some(0.1)),
    ])
}

/// CPU of one notice to all members, in nanoseconds.
fn one_by_one(server: &Server, members: &mut Clients) -> Result<f64> {
    let before = server.cpu().settled()?;
    for _ in 0..SINGLES {
        visit(server, members, 1)?;
    }
    let used = server.cpu().settled()?.since(&before);
    Ok(used.as_secs_f64() * 1e9 / f64::from(2 * SINGLES))
}

/// Lets visitors come, then go. They do not listen themselves, so that it is known how many notices there are.
fn visit(server: &Server, members: &mut Clients, visitors: u32) -> Result<()> {
    let (heard, each) = (members.status()?.notices, u64::from(visitors) * u64::from(members.count()));
    let visitors = Clients::subscribe(server, visitors)?;
    hear(members, heard + each).context("visitors join")?;
    drop(visitors);
    hear(members, heard + 2 * each).context("visitors leave")
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
        // What each hears is half a megabyte: that must be shared, not be kept for each.
        reach: Some(16.0),
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
