//! What a delivery costs, next to a bare `send` of the same bytes, and what an API call costs by itself.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::json;

use crate::bare_loop::BareLoop;
use crate::clients::Clients;
use crate::frame;
use crate::options::{BURST, Options, Question, bursts, publications};
use crate::process::CpuMeter;
use crate::report::{Figure, median};
use crate::server::Server;

/// Who acknowledges, and when, decides who pays for it: an acknowledgement that the receiver's kernel sends at once is
/// made on the sender's CPU time. These two bring the clients of both servers into the same state before anything is
/// counted; it shows nowhere that could be waited for.
///
/// A socket that has just conversed delays its acknowledgements until it misses one of its timers (40 ms, at most
/// 200). Only one side has had a handshake, so both get a few publications with pauses first.
const WARM_UPS: u32 = 5;
const WARM_UP_PAUSE: Duration = Duration::from_millis(250);
/// A socket that was silent for some 200 ms, as each is while the others have their turn, acknowledges the next 16
/// segments at once. So many, and a few more, go before each turn.
const LEAD_IN: u32 = 20;

/// CPU per delivery of one turn of each kind, in nanoseconds.
#[derive(Debug, Serialize)]
pub(super) struct Round {
    pub(super) gateway_ns: f64,
    pub(super) burst_ns: f64,
    pub(super) bare_ns: f64,
}

/// Delivers to channels of several sizes.
pub(super) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for subscribers in options.subscribers() {
        let (frame_bytes, rounds) = deliver(options, subscribers)?;
        figures.extend(self::figures(subscribers, frame_bytes, &rounds));
    }
    Ok(figures)
}

/// Delivers to `subscribers` of one channel: one at a time, in bursts, and by the bare loop, in turns. Answers how long a
/// frame is, in bytes, too.
pub(super) fn deliver(options: &Options, subscribers: u32) -> Result<(usize, Vec<Round>)> {
    take_turns(options, subscribers).with_context(|| format!("delivering to {subscribers} subscribers"))
}

fn take_turns(options: &Options, subscribers: u32) -> Result<(usize, Vec<Round>)> {
    let server = Server::start(options)?;
    let api = server.api();
    let mut gateway = Clients::subscribe(&server, subscribers)?;
    warm_up(&mut gateway, |numbers| api.publish(numbers)).context("warming up the gateway")?;
    let sample = gateway.status()?.sample;
    ensure!(!sample.is_empty(), "no publication came in a frame of its own");

    let mut bare = Bare::start(subscribers, sample)?;
    let (publications, bursts) = (publications(subscribers), bursts(subscribers));
    let mut rounds = Vec::new();
    for _ in 0..options.rounds() {
        rounds.push(Round {
            gateway_ns: turn(&server.cpu(), &mut gateway, (publications, 1), |numbers| api.publish(numbers))?,
            bare_ns: bare.turn(publications)?,
            burst_ns: turn(&server.cpu(), &mut gateway, (bursts, BURST), |numbers| api.publish(numbers))?,
        });
    }
    // Anything that came twice after its turn was over is found here.
    gateway.status()?;
    drop(gateway);
    server.stop()?;
    Ok((bare.sample.len(), rounds))
}

/// What an API call costs that reaches nobody: the part of a publication that does not grow with its subscribers.
pub(super) fn measure_api(options: &Options) -> Result<Figure> {
    let server = Server::start(options)?;
    let api = server.api();
    let calls = u64::from(options.api_calls());
    let warm_ups = calls / 10;
    for number in 0..warm_ups {
        api.publish(number..number + 1)?;
    }
    let before = server.cpu().settled()?;
    for number in warm_ups..warm_ups + calls {
        api.publish(number..number + 1)?;
    }
    let used = server.cpu().settled()?.since(&before);
    server.stop()?;
    Ok(Figure {
        question: Question::Api,
        name: "CPU per publish call, 0 subscribers".to_owned(),
        unit: "µs",
        measured: used.as_secs_f64() * 1e6 / calls as f64,
        // 60,000 a second and core.
        reach: Some(16.67),
        details: json!({"calls": calls}),
    })
}

/// The bare loop with its clients.
struct Bare {
    bare_loop: BareLoop,
    clients: Clients,
    /// A publication as the gateway puts it on the wire; what is sent differs in its number only.
    sample: Vec<u8>,
}

impl Bare {
    fn start(subscribers: u32, sample: Vec<u8>) -> Result<Self> {
        let mut bare_loop = BareLoop::start(subscribers)?;
        let mut clients = Clients::open(bare_loop.address(), subscribers)?;
        bare_loop.accepted()?;
        warm_up(&mut clients, |numbers| send(&mut bare_loop, &sample, numbers))
            .context("warming up the bare loop")?;
        Ok(Self { bare_loop, clients, sample })
    }

    fn turn(&mut self, publications: u32) -> Result<f64> {
        let cpu = self.bare_loop.cpu();
        turn(&cpu, &mut self.clients, (publications, 1), |numbers| {
            send(&mut self.bare_loop, &self.sample, numbers)
        })
    }
}

fn send(bare_loop: &mut BareLoop, sample: &[u8], numbers: Range<u64>) -> Result<()> {
    let mut frame = sample.to_vec();
    for number in numbers {
        frame::renumber(&mut frame, number)?;
        bare_loop.send(&frame)?;
    }
    Ok(())
}

/// Publishes a few times, with pauses.
pub(super) fn warm_up(
    clients: &mut Clients,
    mut publish: impl FnMut(Range<u64>) -> Result<()>,
) -> Result<()> {
    for _ in 0..WARM_UPS {
        publish(clients.expect(1)?)?;
        clients.received()?;
        thread::sleep(WARM_UP_PAUSE);
    }
    Ok(())
}

/// After a lead-in, publishes `times` bursts of `size`, each once all clients have the one before. Returns the CPU
/// time that the process of `cpu` used per delivery, in nanoseconds.
pub(super) fn turn(
    cpu: &CpuMeter,
    clients: &mut Clients,
    (times, size): (u32, u32),
    mut publish: impl FnMut(Range<u64>) -> Result<()>,
) -> Result<f64> {
    for _ in 0..LEAD_IN {
        publish(clients.expect(1)?)?;
        clients.received()?;
    }
    let before = cpu.settled()?;
    for _ in 0..times {
        publish(clients.expect(size)?)?;
        clients.received()?;
    }
    let used = cpu.settled()?.since(&before);
    Ok(used.as_secs_f64() * 1e9 / (f64::from(times) * f64::from(size) * f64::from(clients.count())))
}

fn figures(subscribers: u32, frame_bytes: usize, rounds: &[Round]) -> [Figure; 2] {
    let details = json!({"frame_bytes": frame_bytes, "rounds": rounds});
    let delivery = Figure {
        question: Question::Delivery,
        name: format!("CPU per delivery to {subscribers} subscribers, one at a time, by bare send"),
        unit: "×",
        measured: median(rounds.iter().map(|round| round.gateway_ns / round.bare_ns)),
        reach: Some(1.2),
        details: details.clone(),
    };
    let burst = Figure {
        question: Question::Delivery,
        name: format!("CPU per delivery to {subscribers} subscribers, {BURST} at once, by one at a time"),
        unit: "×",
        measured: median(rounds.iter().map(|round| round.burst_ns / round.gateway_ns)),
        reach: Some(0.15),
        details,
    };
    [delivery, burst]
}
