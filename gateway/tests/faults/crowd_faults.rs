//! More clients come than a node can take: F38, F39, F53.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use anyhow::{Context as _, Result, ensure};
use futures_util::SinkExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::catalogue::{Fault, fault};
use crate::crowd::{Guests, Socket, Told, knock, knock_together, raise_open_files};
use crate::http::Http;
use crate::redis::Redis;
use crate::scenario::{Depth, Scene, Setup};
use crate::wait;

pub(crate) const FAULTS: &[Fault] = &[
    fault!("F38", SMOKE, "clients take every open file", |_| few_files(), out_of_files),
    fault!("F39", FULL, "clients take all memory", |_| little_memory(), out_of_memory),
    fault!("F53", SMOKE, "all clients of a node come back at the same moment", storm_setup, storm),
];

/// After files are free, somebody is let in within this.
const REOPENS: Duration = Duration::from_secs(2);
/// Health says so within this, whatever clients do.
const HEALTH: Duration = Duration::from_secs(1);
/// Everybody is back within this after a storm.
const ALL_BACK: Duration = Duration::from_secs(30);
/// How often the history of a channel is read by all nodes together, however many come back to it.
const READS_OF_A_CHANNEL: u64 = 10;
/// How long things are looked at before the storm, to compare.
const STEADY: Duration = Duration::from_secs(4);

/// A node alone with its Redis.
fn alone(limits: &'static [&'static str]) -> Setup {
    let channels = vec!["kept:a".into(), "kept:b".into()];
    Setup { nodes: 1, clients: 10, channels, channels_each: 1, per_second: 20, limits, ..Setup::default() }
}

fn few_files() -> Setup {
    alone(&["--nofile=256:256"])
}

/// What a crowd was told.
#[derive(Debug, Default)]
struct Answers {
    welcome: Vec<Socket>,
    later: usize,
    unadvised: usize,
    unanswered: usize,
}

impl Answers {
    fn add(&mut self, told: Vec<Told>) {
        for one in told {
            match one {
                Told::Welcome(socket) => self.welcome.push(*socket),
                Told::Later(503, Some(_)) => self.later += 1,
                Told::Later(..) => self.unadvised += 1,
                Told::Nothing => self.unanswered += 1,
            }
        }
    }

    fn record(&self, scene: &mut Scene) {
        scene.report.figure("entered", self.welcome.len());
        scene.report.figure("refused", self.later);
        scene.require(self.later > 0, "nobody was refused: the fault had no effect");
        scene.require(self.unadvised == 0, format!("{} were not told when to come again", self.unadvised));
        scene.require(self.unanswered == 0, format!("{} were told nothing", self.unanswered));
    }
}

/// How long the slowest of some questions about health took, each on a connection of its own.
async fn health(scene: &Scene) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for path in ["/livez", "/readyz", "/metrics"].repeat(5) {
        let start = Instant::now();
        let answer = Http::to(scene.nodes[0].internal()).get(path, HEALTH * 5).await?;
        ensure!(answer.status == 200, "{path} is answered {}: {}", answer.status, answer.body);
        slowest = slowest.max(start.elapsed());
    }
    Ok(slowest)
}

/// Waits until somebody is let in again.
async fn reopens(scene: &Scene, patience: Duration) -> Result<Duration> {
    let address = scene.nodes[0].public();
    let enters = async || Ok(matches!(knock(address).await, Told::Welcome(_)));
    wait::until("somebody to be let in", patience, enters).await
}

async fn rejected(scene: &Scene, reason: &str) -> Result<f64> {
    scene.nodes[0].metric(&format!("clarion_handshakes_rejected_total{{reason=\"{reason}\"}}")).await
}

/// How often the log says this.
fn said(scene: &Scene, what: &str) -> usize {
    scene.nodes[0]
        .log()
        .iter()
        .filter(|line| line["message"].as_str().is_some_and(|text| text.contains(what)))
        .count()
}

async fn out_of_files(scene: &mut Scene) -> Result<()> {
    scene.begins();
    let mut answers = Answers::default();
    answers.add(knock_together(scene.nodes[0].public(), 1_000).await);
    let full = rejected(scene, "connections_max").await?;
    let files = scene.nodes[0].process().files()?;
    let slowest = health(scene).await.context("while there are as many clients as there may be");
    // It has files for its Redis as well.
    for kind in ["pubsub", "normal"] {
        scene.redis()?.command::<u64>(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).await?;
    }
    scene.all_notice(Duration::from_secs(5)).await?;
    scene.all_hear(true, Duration::from_secs(5)).await.context("with as many clients as there may be")?;
    answers.record(scene);
    drop(answers);
    let reopened = reopens(scene, REOPENS * 5).await;
    let without = no_file_is_left(scene).await?;
    scene.heals();
    scene.settle().await?;
    scene.report.figure("files", files);
    scene.report.figure("refused_without_a_file", without);
    scene.report.seconds("t_health", slowest.as_ref().ok().copied());
    scene.report.seconds("t_reopen", reopened.as_ref().ok().copied());
    scene.require(full > 0.0, "nobody was refused for connections_max");
    scene.require(files < 256, "there was no file left");
    scene.require(without > 0.0, "nobody was refused for want of a file");
    scene.require(said(scene, "the door is closed") >= 1, "the log does not say that the door is closed");
    scene.require(
        said(scene, "the door is closed") <= 2,
        "the log says of every client that the door is closed",
    );
    match slowest {
        Ok(slowest) => scene.require(slowest <= HEALTH, "health is slow when the node is full"),
        Err(error) => scene.report.failed(&error),
    }
    scene.require(reopened.is_ok_and(|time| time <= REOPENS), "nobody is let in after files are free");
    scene.require_no_closes();
    Ok(())
}

/// Somebody else takes what the node has kept for itself: there is no file for the next client.
async fn no_file_is_left(scene: &mut Scene) -> Result<f64> {
    let limit = |soft: usize| {
        let process = scene.nodes[0].process().id().to_string();
        let status =
            Command::new("prlimit").args(["--pid", &process, &format!("--nofile={soft}:256")]).status()?;
        ensure!(status.success(), "prlimit ended with {status}");
        Ok(())
    };
    limit(scene.nodes[0].process().files()? + 4)?;
    let mut answers = Answers::default();
    answers.add(knock_together(scene.nodes[0].public(), 60).await);
    let told = answers.unadvised == 0 && answers.later > 0;
    limit(256)?;
    // Not before: whoever asks for it needs a file as well.
    let without = rejected(scene, "files").await;
    drop(answers);
    let reopened = reopens(scene, REOPENS * 5).await?;
    scene.require(told, "without a file left, somebody was refused without advice");
    scene.require(reopened <= REOPENS, "nobody is let in after there are files again");
    without
}

/// The address space of an idle node, and room for some hundred clients that send large messages halfway.
fn little_memory() -> Setup {
    Setup {
        change: |config: &mut Value| {
            config["client"]["message_bytes_max"] = json!(1 << 20);
            config["admission"] = json!({"handshakes_per_second": 300});
        },
        ..alone(&["--as=734003200"])
    }
}

/// What [`little_memory`] allows.
const ADDRESS_SPACE_BYTES: u64 = 734_003_200;

async fn out_of_memory(scene: &mut Scene) -> Result<()> {
    scene.begins();
    let start = Instant::now();
    let mut answers = Answers::default();
    let mut sent_by = 0;
    while start.elapsed() < Duration::from_secs(20) && rejected(scene, "memory").await? < 50.0 {
        answers.add(knock_together(scene.nodes[0].public(), 100).await);
        for socket in &mut answers.welcome[sent_by..] {
            send_half(socket).await;
        }
        sent_by = answers.welcome.len();
    }
    let refused = rejected(scene, "memory").await?;
    // Who is in goes on, and a hot channel is published to though there is little left.
    let (number, channel) = (scene.desk.next_number(), scene.channels[0].clone());
    let mut http = scene.http(0);
    for _ in 0..200 {
        let number = scene.desk.draw();
        scene.desk.send(&mut http, &channel, number, 16 << 10, Instant::now()).await;
    }
    scene.everybody_got(number, Duration::from_secs(10)).await.context("while memory is short")?;
    let peak = address_space_peak(scene)?;
    answers.record(scene);
    drop(answers);
    let reopened = reopens(scene, Duration::from_secs(60)).await;
    scene.heals();
    scene.settle().await?;
    scene.report.figure("refused_for_memory", refused);
    scene.report.figure("address_space_peak", format!("{}MB", peak >> 20));
    scene.report.seconds("t_reopen", reopened.as_ref().ok().copied());
    scene.require(refused >= 50.0, "nobody was refused for memory");
    scene.require(peak <= ADDRESS_SPACE_BYTES, "more address space than there is");
    scene.require(reopened.is_ok(), "nobody is let in after memory is free");
    scene.require_no_closes();
    Ok(())
}

/// The beginning of a large message: the node keeps it until the rest comes.
async fn send_half(socket: &mut Socket) {
    let fragment = Frame::message(vec![b'x'; 256 << 10], OpCode::Data(Data::Text), false);
    // Who was closed meanwhile is not the one that fills the memory.
    drop(tokio::time::timeout(Duration::from_secs(5), socket.send(Message::Frame(fragment))).await);
}

fn address_space_peak(scene: &Scene) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", scene.nodes[0].process().id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).context("there is a peak")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

fn storm_setup(depth: Depth) -> Setup {
    let change: fn(&mut Value) = match depth {
        Depth::Smoke => |config| calm_clients(config, handshakes_per_second(Depth::Smoke)),
        Depth::Full => |config| calm_clients(config, handshakes_per_second(Depth::Full)),
    };
    Setup { clients: 6, per_second: 20, change, ..Setup::default() }
}

/// What the door of each node lets in.
fn handshakes_per_second(depth: Depth) -> usize {
    depth.pick(150, 300)
}

/// Pings and looks at positions of a crowd are no part of a storm.
fn calm_clients(config: &mut Value, handshakes_per_second: usize) {
    config["client"]["ping_interval"] = json!("3s");
    config["client"]["pong_timeout"] = json!("2s");
    config["client"]["position_check_interval"] = json!("60s");
    config["admission"] = json!({"handshakes_per_second": handshakes_per_second});
}

/// How many commands a Redis has carried out, looked at until this is dropped.
struct Meter {
    samples: Arc<Mutex<Vec<(Instant, u64)>>>,
    task: AbortHandle,
}

impl Meter {
    const PERIOD: Duration = Duration::from_millis(100);
    const SAMPLES_IN_A_SECOND: usize = 10;

    async fn start(redis: &Redis) -> Result<Self> {
        let mut connection = redis.connect().await?;
        let samples: Arc<Mutex<Vec<_>>> = Arc::default();
        let noted = Arc::clone(&samples);
        let looking = async move {
            loop {
                if let Ok(count) = commands(&mut connection).await {
                    noted.lock().push((Instant::now(), count));
                }
                sleep(Self::PERIOD).await;
            }
        };
        Ok(Self { samples, task: tokio::spawn(looking).abort_handle() })
    }

    /// Commands in a second: on average until `moment`, and in the busiest second after it.
    fn rates(&self, moment: Instant) -> Result<(f64, f64)> {
        let samples = self.samples.lock();
        let rate = |(from, first): (Instant, u64), (until, last): (Instant, u64)| {
            (last - first) as f64 / until.duration_since(from).as_secs_f64()
        };
        let split = samples.partition_point(|(at, _)| *at < moment);
        ensure!(split >= 2 && samples.len() > split + Self::SAMPLES_IN_A_SECOND, "there are too few samples");
        let seconds = samples[split - 1..].windows(Self::SAMPLES_IN_A_SECOND + 1);
        let peak =
            seconds.map(|second| rate(second[0], second[Self::SAMPLES_IN_A_SECOND])).fold(0.0, f64::max);
        Ok((rate(samples[0], samples[split - 1]), peak))
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn commands(connection: &mut MultiplexedConnection) -> Result<u64> {
    let info: String = ::redis::cmd("INFO").arg("stats").query_async(connection).await?;
    let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    Ok(line.context("there is such a line")?.trim().parse()?)
}

async fn storm(scene: &mut Scene) -> Result<()> {
    raise_open_files();
    let count = scene.depth.pick(1_200, 6_000);
    (1..scene.nodes.len()).for_each(|node| scene.fleet.close(node));
    let guests = Guests::invite(&scene.fleet, count, &scene.channels);
    let all_live = async || Ok(guests.tally.lock().live == count);
    wait::until("all guests to be there", Duration::from_secs(120), all_live).await?;
    guests.forget();
    (1..scene.nodes.len()).for_each(|node| scene.fleet.open(node));
    let meter = Meter::start(scene.redis()?).await?;
    let reads = scene.redis()?.calls("xrange").await?;
    sleep(STEADY).await;
    scene.begins();
    scene.disturbs(0);
    scene.fleet.close(0);
    scene.nodes[0].kill()?;
    wait::until(
        "the guests to notice",
        Duration::from_secs(5),
        async || Ok(guests.tally.lock().live < count),
    )
    .await?;
    let back = wait::until("all guests to be back", ALL_BACK * 2, all_live).await;
    let reads = scene.redis()?.calls("xrange").await? - reads;
    let (steady, peak) = meter.rates(scene.begun_at())?;
    drop(meter);
    scene.heals();
    let waiting = scene.nodes[1].metric("clarion_handshakes_waiting").await?;
    record_storm(scene, &guests, count);
    drop(guests);
    scene.nodes[0].restart().await?;
    scene.fleet.open(0);
    scene.settle().await?;
    scene.report.seconds("t_all_back", back.as_ref().ok().copied());
    scene.report.figure("redis_steady", format!("{steady:.0}/s"));
    scene.report.figure("redis_peak", format!("{peak:.0}/s"));
    scene.require(back.is_ok_and(|time| time <= ALL_BACK), "not everybody came back in time");
    scene.require(waiting == 0.0, format!("{waiting} wait, and nobody comes"));
    scene.report.figure("history_reads", reads);
    scene.require(peak <= 3.0 * steady, "Redis has more than three times as much to do");
    let most = READS_OF_A_CHANNEL * u64::try_from(scene.channels.len())?;
    scene.require(reads <= most, format!("{reads} reads of histories for {count} who come back"));
    Ok(())
}

fn record_storm(scene: &mut Scene, guests: &Guests, count: usize) {
    let tally = guests.tally.lock();
    let mut times: Vec<Duration> =
        tally.subscribed_at.iter().map(|at| at.into_std().duration_since(scene.begun_at())).collect();
    times.sort_unstable();
    let advised = tally.advice.iter().max().copied().unwrap_or_default();
    let (recovered, unadvised, unanswered) = (tally.recovered, tally.unadvised, tally.unanswered);
    scene.report.seconds("t_back_p50", times.get(times.len() / 2).copied());
    scene.report.seconds("t_back_p99", times.get(times.len() * 99 / 100).copied());
    scene.report.figure("guests", count);
    scene.report.figure("refused", tally.advice.len());
    scene.report.figure("advised_max", format!("{advised}s"));
    drop(tally);
    scene.require(advised > 0, "nobody was refused: the fault had no effect");
    scene.require(unadvised == 0, format!("{unadvised} were refused without advice"));
    scene.require(unanswered == 0, format!("{unanswered} were told nothing"));
    scene.require(recovered >= count, format!("{recovered} of {count} got what they had missed"));
}
