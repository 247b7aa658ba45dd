//! The machine of a node is not as it should be: its processors, its logs, its clock: F40, F42, F43.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use crate::catalogue::{Fault, fault};
use crate::http::Http;
use crate::journal::End;
use crate::metrics::Samples;
use crate::node::{Environment, Log, call_api};
use crate::process::{Process, command};
use crate::scenario::{Scene, Setup};
use crate::{token, wait};

pub(crate) const FAULTS: &[Fault] = &[
    fault!("F40", FULL, "all nodes have one processor, which others use", |_| unhurried(), starved),
    fault!("F42", SMOKE, "nobody takes the logs", |_| chatty(), unheard),
    fault!("F43", FULL, "the clocks of nodes are wrong, and set", |_| timeless(), disagreeing),
];

/// What is asked of a node that is not held up is answered by then.
const PATIENCE: Duration = Duration::from_secs(5);

const PONG_TIMEOUT: Duration = Duration::from_secs(2);

/// Pongs may take a while: others may be busy on the processor of the clients too.
fn unhurried() -> Setup {
    let change = |config: &mut Value| {
        config["client"]["ping_interval"] = "3s".into();
        config["client"]["pong_timeout"] = format!("{PONG_TIMEOUT:?}").into();
    };
    Setup { change, ..Setup::default() }
}

/// Between two looks at a lag.
const LOOK: Duration = Duration::from_millis(20);

/// No pong came in time.
const NO_PONG: End = End::Closed(3012);

/// How many use the processor of the nodes, each at the highest priority: a node that runs for a moment waits for long.
const GREEDY: usize = 8;

/// Others that use the processors, one each, and those that are greedy; gone when they are dropped.
fn spinners(scene: &Scene) -> Result<Vec<Process>> {
    let spin = |(nice, processor): (&str, usize)| {
        let mut spinner = command("nice");
        spinner.args(["-n", nice, "taskset", "-c", &processor.to_string()]);
        spinner.args(["sh", "-c", "while :; do :; done"]);
        Process::start(&mut spinner, &scene.file("spinners.log"))
    };
    let each = (0..available_parallelism()?.get()).map(|processor| ("0", processor));
    each.chain([("-20", 0); GREEDY]).map(spin).collect()
}

/// Lets every thread of some processes run on these processors alone.
fn pin(processes: &[u32], processors: &str) -> Result<()> {
    for process in processes {
        let taskset = ["-a", "-c", "-p", processors, &process.to_string()];
        let pinned = Command::new("taskset").args(taskset).output().context("running taskset")?;
        ensure!(pinned.status.success(), "taskset: {}", String::from_utf8_lossy(&pinned.stderr));
    }
    Ok(())
}

/// How late the timers of any shard were at most, looking again and again for so long.
async fn lag(scene: &Scene, lasts: Duration) -> f64 {
    let start = Instant::now();
    let mut most: f64 = 0.0;
    while start.elapsed() < lasts {
        for node in &scene.nodes {
            let Ok(answer) = node.get("/metrics").await else { continue };
            let samples = Samples::parse(&answer.body);
            let lags =
                [0, 1].map(|shard| samples.get(&format!("clarion_shard_lag_seconds{{shard=\"{shard}\"}}")));
            most = lags.into_iter().fold(most, f64::max);
        }
        sleep(LOOK).await;
    }
    most
}

/// How late the clients run, which share a process with this.
struct Clients {
    latest: Arc<Mutex<Duration>>,
    task: AbortHandle,
}

impl Clients {
    fn watch() -> Self {
        let latest = Arc::new(Mutex::new(Duration::ZERO));
        let seen = Arc::clone(&latest);
        let looking = tokio::spawn(async move {
            loop {
                let start = Instant::now();
                sleep(LOOK).await;
                let late = start.elapsed().saturating_sub(LOOK);
                let mut most = seen.lock();
                *most = late.max(*most);
            }
        });
        Self { latest, task: looking.abort_handle() }
    }

    /// The most that was seen.
    fn end(self) -> Duration {
        self.task.abort();
        *self.latest.lock()
    }
}

async fn starved(scene: &mut Scene) -> Result<()> {
    let last = available_parallelism()?.get() - 1;
    ensure!(last > 0, "one processor is for the nodes, and another one for their clients");
    let nodes: Vec<u32> = scene.nodes.iter().map(|node| node.process().id()).collect();
    // Clients must answer, so that a node that closes one is wrong.
    let others = [std::process::id(), scene.redis()?.process_id()];
    let calm = lag(scene, Duration::from_secs(1)).await;
    scene.begins();
    (0..scene.nodes.len()).for_each(|node| scene.disturbs(node));
    pin(&nodes, "0")?;
    pin(&others, &format!("1-{last}"))?;
    let spinners = spinners(scene)?;
    let own = Clients::watch();
    let starved = lag(scene, scene.depth.pick(Duration::from_secs(5), Duration::from_secs(10))).await;
    let own = own.end();
    drop(spinners);
    pin(&[&nodes[..], &others].concat(), &format!("0-{last}"))?;
    scene.heals();
    scene.settle().await?;
    scene.report.figure("lag_calm", format!("{calm:.3}s"));
    scene.report.seconds("lag_clients", own);
    scene.report.figure("lag_starved", format!("{starved:.3}s"));
    let begun_at = scene.begun_at();
    let ended = |probe: &crate::probe::Probe| probe.journal().ends_since(begun_at);
    let blamed = scene.probes.iter().flat_map(ended).filter(|end| *end == NO_PONG).count();
    // Of clients that did not run themselves nothing can be said.
    let did_answer = own < PONG_TIMEOUT;
    scene.report.figure("closed_3012", blamed);
    scene.report.figure("judged", if did_answer { "yes" } else { "no" });
    let problem = format!("{blamed} clients that answer were closed because they did not");
    scene.require(blamed == 0 || !did_answer, problem);
    scene.require(starved > 2.0 * calm, "the metric of the lag does not show that nodes were starved");
    Ok(())
}

/// Everything is logged, however often it is said.
fn chatty() -> Setup {
    Setup { change: |config| config["log"] = json!({"level": "trace", "burst": 0}), ..Setup::default() }
}

/// The places of the nodes whose logs nobody takes, and why.
const UNHEARD: [(usize, Log); 2] = [(0, Log::Unread), (1, Log::Full)];

async fn unheard(scene: &mut Scene) -> Result<()> {
    for (place, log) in UNHEARD {
        scene.fleet.close(place);
        scene.nodes[place].stop().await?;
        scene.nodes[place].restart_logging(log).await?;
        wait::until("a node to be ready", PATIENCE, async || scene.nodes[place].is_ready().await).await?;
        scene.fleet.open(place);
        let channels = scene.channels.clone();
        (0..5).for_each(|client| scene.add_client(&format!("late-{place}-{client}"), &channels, Some(place)));
    }
    scene.everybody_is_live().await?;
    scene.begins();
    for (place, _) in UNHEARD {
        drop_lines(scene, place).await?;
    }
    // Every line is dropped by now.
    let mut slowest = Duration::ZERO;
    for (place, _) in UNHEARD.iter().cycle().take(200) {
        let start = Instant::now();
        scene.nodes[*place].api("publish", &json!({"channel": "plain:a", "data": 1})).await?;
        ensure!(scene.nodes[*place].is_ready().await?, "a node whose logs nobody takes is not ready");
        slowest = slowest.max(start.elapsed());
    }
    scene.heals();
    scene.settle().await?;
    for (place, _) in UNHEARD {
        let dropped = scene.nodes[place].metric("clarion_logs_dropped_total").await?;
        scene.report.figure("logs_dropped", dropped);
    }
    scene.report.seconds("slowest_call", slowest);
    scene.require_no_closes();
    scene.require_no_unavailability();
    for (place, _) in UNHEARD {
        scene.nodes[place].stop().await.context("whose logs nobody takes")?;
    }
    Ok(())
}

/// Calls the API of a node, each call of which is logged, until lines are dropped.
async fn drop_lines(scene: &Scene, place: usize) -> Result<()> {
    let mut calling = JoinSet::new();
    for _ in 0..8 {
        let mut http = scene.http(place);
        let request = json!({"channel": "plain:a", "data": 1});
        calling
            .spawn(async move { while call_api(&mut http, "publish", &request, PATIENCE).await.is_ok() {} });
    }
    let node = &scene.nodes[place];
    let drops = async || Ok(node.metric("clarion_logs_dropped_total").await? > 1_000.0);
    let dropped = wait::until("lines to be dropped", Duration::from_secs(60), drops).await;
    calling.shutdown().await;
    dropped.map(drop)
}

/// One node is an hour ahead, one an hour behind, and the clock of one is set while it runs.
fn timeless() -> Setup {
    Setup { environment: clock, ..Setup::default() }
}

const AHEAD: usize = 0;
const BEHIND: usize = 1;
/// Its clock is set while it runs.
const SET: usize = 2;

fn clock(place: usize, directory: &Path) -> Result<Environment> {
    // The kernel's monotonic clock is as it is: it is not set, and it does not know the time.
    let mut environment = vec![
        ("LD_PRELOAD", library()?.to_string_lossy().into_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    match place {
        AHEAD => environment.push(("FAKETIME", "+1h".to_owned())),
        BEHIND => environment.push(("FAKETIME", "-1h".to_owned())),
        SET.. => {
            let file = directory.join("clock");
            fs::write(&file, "+0")?;
            environment.push(("FAKETIME_NO_CACHE", "1".to_owned()));
            environment.push(("FAKETIME_TIMESTAMP_FILE", file.to_string_lossy().into_owned()));
        }
    }
    Ok(environment)
}

/// That of the package `faketime`, for programs with threads.
fn library() -> Result<PathBuf> {
    let folders = fs::read_dir("/usr/lib")?.filter_map(Result::ok);
    let mut files = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    files.find(|file| file.exists()).context("faketime is needed: tests/faults/install.sh")
}

async fn disagreeing(scene: &mut Scene) -> Result<()> {
    scene.begins();
    tokens_are_judged_by_the_clock(scene).await?;
    let step = scene.depth.pick(Duration::from_millis(500), Duration::from_secs(3));
    let fresh = json!({"sub": "ann", "iat": token::now(), "exp": token::now() + 3 * 3_600});
    for (time, code) in
        [("+1h", ""), ("-1h", "not_yet_valid"), ("+30d", "expired"), ("-30d", "not_yet_valid"), ("+0", "")]
    {
        fs::write(scene.file("clock"), time)?;
        sleep(step).await;
        let (_, found) = handshake(scene, SET, &fresh).await?;
        scene.require(found == code, format!("a token is `{found}` when the clock is set by {time}"));
    }
    let clocks: Vec<f64> = said_at(scene)?;
    scene.heals();
    scene.settle().await?;
    scene.report.figure("hours_apart", format!("{:.2}", (clocks[0] - clocks[1]) / 3600.0));
    let is_fooled = (7_100.0..7_300.0).contains(&(clocks[0] - clocks[1]));
    scene.require(is_fooled, "the clocks of the nodes are not two hours apart: the fault had no effect");
    for node in &scene.nodes {
        let nodes = node.metric("clarion_cluster_nodes").await?;
        scene.report.require(nodes == 3.0, format!("{} knows {nodes} nodes", node.name()));
    }
    scene.require_no_closes();
    scene.require_no_unavailability();
    Ok(())
}

/// When the first two nodes said that they serve, by their own clocks, in seconds.
fn said_at(scene: &Scene) -> Result<Vec<f64>> {
    let said = |place: usize| {
        let log = scene.nodes[place].log();
        let line = log.iter().find(|line| line["public"].is_string()).context("it serves")?;
        let time = line["timestamp"].as_str().context("a line has a time")?;
        Ok(humantime::parse_rfc3339(time)?.duration_since(UNIX_EPOCH)?.as_secs_f64())
    };
    [AHEAD, BEHIND].into_iter().map(said).collect()
}

/// Tokens from the future and from the past, at the nodes for which they are that.
async fn tokens_are_judged_by_the_clock(scene: &mut Scene) -> Result<()> {
    let now = token::now();
    let fresh = json!({"sub": "ann", "iat": now, "exp": now + 3 * 3_600});
    let short = json!({"sub": "ann", "exp": now + 1_800});
    let cases = [
        (AHEAD, &fresh, 101, ""),
        (BEHIND, &fresh, 401, "not_yet_valid"),
        (AHEAD, &short, 401, "expired"),
        (BEHIND, &short, 101, ""),
    ];
    for (place, claims, status, code) in cases {
        let found = handshake(scene, place, claims).await?;
        let expected = (status, code.to_owned());
        scene.require(found == expected, format!("{claims} is answered {found:?} by node {place}"));
    }
    for (place, reason) in [(BEHIND, "clock"), (AHEAD, "expired")] {
        let name = format!("clarion_handshakes_rejected_total{{reason=\"{reason}\"}}");
        let count = scene.nodes[place].metric(&name).await?;
        scene.require(count == 1.0, format!("{name} is {count} at node {place}"));
    }
    Ok(())
}

/// The status of a handshake with these claims, and the code of the error.
async fn handshake(scene: &Scene, place: usize, claims: &Value) -> Result<(u16, String)> {
    let path = format!("/ws?token={}", token::sign_claims(claims));
    let headers = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut http = Http::to(scene.nodes[place].public());
    let answer = http.get_with(&path, headers, PATIENCE).await?;
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    Ok((answer.status, body["code"].as_str().unwrap_or_default().to_owned()))
}
