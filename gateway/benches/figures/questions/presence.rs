//! How long others of a shard wait while somebody asks who is in a large channel.
//!
//! The gateway has one shard. In another channel of it, one publication after another is delivered; the longest
//! silence there is what the question about the members costs others. Silences have other reasons too on a machine
//! that is not idle, so they are measured with and without the question, in turns.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::Api;
use crate::clients::Clients;
use crate::frame::CHANNEL;
use crate::options::{Options, Question};
use crate::report::{Figure, median};
use crate::server::Server;
use crate::visitor::Visitor;

/// The other channel.
const TICKING: &str = "tick:1";
/// What users the visitors are: nobody of the swarm.
const ASKER: u32 = 1_000_000;
const LISTENER: u32 = 1_000_001;
/// How long is waited for the answer, and as long without a question.
const WINDOW: Duration = Duration::from_millis(60);
/// Most milliseconds that others wait longer because of the question.
const LONGER_MS_MAX: f64 = 5.0;

/// The longest silence, in milliseconds.
#[derive(Debug, Serialize)]
struct Round {
    quiet_ms: f64,
    asked_ms: f64,
}

/// Asks who is present while another channel ticks.
pub(super) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let settings = json!({
        "shards": 1,
        "client": {"outbox_bytes_max": 16 << 20},
        "channel": {
            "without_namespace": {"presence": true, "allow_presence_for_subscriber": true},
            "namespaces": [{"name": "tick", "allow_subscribe_for_client": true}],
        },
    });
    let server = Server::start_with(options, &settings)?;
    let members = Clients::subscribe(&server, options.connections)?;
    let mut asker = Visitor::subscribe(&server, ASKER, CHANNEL)?;
    check(&ask(&mut asker)?, options.connections)?;

    let rounds = 5 * options.long_rounds();
    let before = server.cpu().settled()?;
    for _ in 0..rounds {
        asker.ask_text("presence", &request())?;
    }
    let used = server.cpu().settled()?.since(&before);
    let silences = silences(&server, &mut asker, rounds)?;
    check(&ask(&mut asker)?, options.connections)?;
    drop((members, asker));
    server.stop()?;
    Ok(figures(options.connections, used.as_secs_f64() * 1e3 / f64::from(rounds), &silences))
}

fn ask(asker: &mut Visitor) -> Result<Value> {
    asker.ask("presence", &request())
}

fn request() -> Value {
    json!({"channel": CHANNEL})
}

/// Every member of the swarm and the asker, once each.
fn check(presence: &Value, members: u32) -> Result<()> {
    let presence = presence["presence"].as_object().context("the reply holds no members")?;
    let users: HashSet<&str> = presence.values().filter_map(|member| member["user"].as_str()).collect();
    ensure!(presence.len() == members as usize + 1, "{} members in the reply", presence.len());
    let expected = (0..members).chain([ASKER]).all(|user| users.contains(format!("bench-{user}").as_str()));
    ensure!(expected, "a member is not in the reply");
    Ok(())
}

/// Measures the silences of a channel that ticks all the time.
fn silences(server: &Server, asker: &mut Visitor, rounds: u32) -> Result<Vec<Round>> {
    let (api, mut listener) = (server.api(), Visitor::subscribe(server, LISTENER, TICKING)?);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let ticks = scope.spawn(|| tick(&api, &is_over));
        let arrivals = scope.spawn(move || listen(&mut listener));
        let windows = ask_and_pause(asker, rounds);
        is_over.store(true, Ordering::Relaxed);
        ticks.join().map_err(|_| anyhow!("the publisher panicked"))??;
        let arrivals = arrivals.join().map_err(|_| anyhow!("the listener panicked"))??;
        let silence_ms = |window| longest(&arrivals, window).as_secs_f64() * 1e3;
        let rounds = windows?
            .into_iter()
            .map(|(quiet, asked)| Round { quiet_ms: silence_ms(quiet), asked_ms: silence_ms(asked) });
        Ok(rounds.collect())
    })
}

/// Publishes one after another, and last an empty object, which ends the listener.
fn tick(api: &Api, is_over: &AtomicBool) -> Result<()> {
    let channels = [TICKING.to_owned()];
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        number += 1;
        api.publish_each(&channels, number)?;
    }
    api.publish_each(&channels, LAST)
}

/// The number of the tick that ends the listener.
const LAST: u64 = 9_999_999_999;

/// When each tick arrived, which they do in order.
fn listen(listener: &mut Visitor) -> Result<Vec<Instant>> {
    let mut arrivals = Vec::new();
    loop {
        let push = listener.push()?;
        arrivals.push(Instant::now());
        let number: u64 = push["pub"]["data"]["seq"].as_str().context("a push that is no tick")?.parse()?;
        if number == LAST {
            return Ok(arrivals);
        }
        ensure!(number == arrivals.len() as u64, "tick {number} came as number {}", arrivals.len());
    }
}

type Window = (Instant, Instant);

/// Windows without and with a question.
fn ask_and_pause(asker: &mut Visitor, rounds: u32) -> Result<Vec<(Window, Window)>> {
    let mut windows = Vec::new();
    for _ in 0..rounds {
        thread::sleep(WINDOW);
        let begin = Instant::now();
        thread::sleep(WINDOW);
        let middle = Instant::now();
        asker.ask_text("presence", &request())?;
        thread::sleep(WINDOW.saturating_sub(middle.elapsed()));
        windows.push(((begin, middle), (middle, Instant::now())));
    }
    Ok(windows)
}

/// The longest time between two arrivals that has a part in `window`.
fn longest(arrivals: &[Instant], (begin, end): Window) -> Duration {
    let gaps = arrivals.windows(2).filter(|pair| pair[1] > begin && pair[0] < end);
    gaps.map(|pair| pair[1] - pair[0]).max().unwrap_or(Duration::MAX)
}

fn figures(members: u32, reply_ms: f64, rounds: &[Round]) -> Vec<Figure> {
    let quiet = median(rounds.iter().map(|round| round.quiet_ms));
    let asked = median(rounds.iter().map(|round| round.asked_ms));
    let figure = |name, measured, reach| Figure {
        question: Question::Presence,
        name,
        unit: "ms",
        measured,
        reach,
        details: json!({"rounds": rounds}),
    };
    vec![
        figure(format!("CPU per reply with {members} members"), reply_ms, None),
        figure("longest silence of another channel, nobody asking".to_owned(), quiet, None),
        figure("the same while somebody asks who is present".to_owned(), asked, None),
        figure("longer by".to_owned(), asked - quiet, Some(LONGER_MS_MAX)),
    ]
}
