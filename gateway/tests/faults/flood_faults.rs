//! Clients that send what nobody should send, or too much of it: F57, F58.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::catalogue::{Fault, fault};
use crate::raw::{BINARY, CLOSE, CONTINUATION, FIN, PING, Raw, TEXT, bare_path, close, frame};
use crate::scenario::{Scene, Setup};
use crate::{token, wait};

pub(crate) const FAULTS: &[Fault] = &[
    fault!(
        "F57",
        SMOKE,
        "clients break the rules of frames, and send millions of them",
        |_| framed(),
        frames
    ),
    fault!(
        "F58",
        SMOKE,
        "clients subscribe to everything, and go in the middle of it",
        |_| shared(),
        subscriptions
    ),
];

/// How long anything may take that is not measured.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of the second node: most frames of a client in a second.
const FRAMES_MAX: usize = 1_000;
/// The default of `client.message_bytes_max`.
const MESSAGE_BYTES_MAX: usize = 65_536;
/// The default of `client.channels_max`.
const CHANNELS_MAX: usize = 128;
/// So many errors end a connection, whatever the commands were.
const ERRORS_MAX: usize = 500;

/// Two nodes that share a Redis: the first takes any number of frames, the second one does not.
fn framed() -> Setup {
    Setup {
        nodes: 2,
        clients: 10,
        change: |config| {
            admit_all(config);
            if config["node"]["name"] == "node-1" {
                config["client"]["frames_per_second_max"] = json!(FRAMES_MAX);
            }
        },
        ..Setup::default()
    }
}

fn shared() -> Setup {
    Setup { nodes: 2, clients: 10, change: admit_all, ..Setup::default() }
}

fn admit_all(config: &mut Value) {
    config["admission"] = json!({"handshakes_per_second": 20_000});
    // Whoever floods answers no pings, and that is not what it is closed for.
    config["client"]["ping_interval"] = json!("60s");
    config["client"]["pong_timeout"] = json!("30s");
    let namespaces = config["channel"]["namespaces"].as_array_mut();
    let plain = namespaces.and_then(|all| all.iter_mut().find(|namespace| namespace["name"] == "plain"));
    if let Some(plain) = plain {
        plain["allow_publish_for_client"] = json!(true);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Native,
    Bare,
}

async fn open(address: SocketAddr, form: Form) -> Result<Raw> {
    match form {
        Form::Native => Ok(Raw::native(address, "hostile").await?.0),
        Form::Bare => Raw::open(address).await?.upgrade(&bare_path("hostile", "plain:a")).await,
    }
}

/// The rows of broken frames, each with what it is closed with: on a native connection, and on a bare one.
fn broken() -> Vec<(&'static str, Vec<u8>, [u16; 2])> {
    let same = |what, bytes, code| (what, bytes, [code, code]);
    let half = vec![b' '; MESSAGE_BYTES_MAX / 2];
    let announced = |length: u64| [&[FIN | TEXT, 0x80 | 127][..], &length.to_be_bytes(), &[0; 4]].concat();
    let long_control = [&[FIN | PING, 0x80 | 126, 0, 126][..], &[0; 4 + 126]].concat();
    let fragments =
        [frame(TEXT, &half), frame(CONTINUATION, &half), frame(FIN | CONTINUATION, b" ")].concat();
    let text = |text: &str| frame(FIN | TEXT, text.as_bytes());
    let deep = format!(r#"{{"id":1,"subscribe":{}{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
    let mut rows = vec![
        same("a frame above the limit", frame(FIN | TEXT, &[b' '; MESSAGE_BYTES_MAX + 1]), 1009),
        same("fragments above the limit", fragments, 1009),
        same("2^62 bytes announced", announced(1 << 62), 1009),
        same("no UTF-8 in a text", frame(FIN | TEXT, b"\xff"), 1007),
        same("no UTF-8 in a reason", frame(FIN | CLOSE, b"\x03\xe8\xff"), 1007),
        same("unmasked", vec![FIN | TEXT, 2, b'{', b'}'], 1002),
        same("RSV1 without an extension", frame(FIN | 0x40 | TEXT, b"{}"), 1002),
        same("a reserved opcode", frame(FIN | 0x3, b""), 1002),
        same("a fragmented control frame", frame(PING, b""), 1002),
        same("a control frame of 126 bytes", long_control, 1002),
        same("nothing to continue", frame(FIN | CONTINUATION, b""), 1002),
        same("a message within a message", [frame(TEXT, b"{"), text("{}")].concat(), 1002),
        same("a close of one byte", frame(FIN | CLOSE, b"x"), 1002),
        ("binary where text is spoken", frame(FIN | BINARY, b"\xff"), [3501, 1003]),
        same("no JSON", text("hello"), 3501),
        same("an unknown method", text(r#"{"id":5,"dance":{}}"#), 3501),
        same("1,000 levels deep", text(&deep), 3501),
        same(
            "a key twice",
            text(r#"{"id":5,"subscribe":{"channel":"a"},"subscribe":{"channel":"b"}}"#),
            3501,
        ),
        same("half a surrogate pair", text(r#"{"id":5,"subscribe":{"channel":"\ud800"}}"#), 3501),
    ];
    rows.extend(
        [1004, 1005, 1006, 1015, 999, 5000].map(|code| same("a reserved close code", close(code), 1002)),
    );
    rows.extend([1000, 3000, 4999].map(|code| same("a good close", close(code), code)));
    rows
}

async fn frames(scene: &mut Scene) -> Result<()> {
    let all = Instant::now();
    scene.begins();
    let rows = broken_rows(scene).await?;
    names_are_refused_and_the_connection_stays(scene).await?;
    compression_is_not_negotiated(scene).await?;
    let count = scene.depth.pick(100_000, 1_000_000);
    floods(scene, count).await?;
    scene.heals();
    scene.settle().await?;
    scene.report.figure("rows", rows);
    scene.report.seconds("t_all", all.elapsed());
    scene.require_no_closes();
    scene.require_no_unavailability();
    Ok(())
}

/// Sends every row in both forms, all at the same time; answers how many connections that were.
async fn broken_rows(scene: &mut Scene) -> Result<usize> {
    let address = scene.nodes[0].public();
    let mut sending = JoinSet::new();
    for (what, bytes, codes) in broken() {
        for (form, expected) in [Form::Native, Form::Bare].into_iter().zip(codes) {
            let bytes = bytes.clone();
            sending.spawn(async move {
                let code = breaks(address, form, &bytes).await;
                (what, form, expected, code)
            });
        }
    }
    let count = sending.len();
    while let Some(one) = sending.join_next().await {
        let (what, form, expected, code) = one?;
        let code = code.with_context(|| format!("{what}, {form:?}"))?;
        scene.require(code == expected, format!("{what}, {form:?}: closed with {code}"));
    }
    Ok(count)
}

/// Sends `bytes` on a connection of its own; answers what it is closed with, after its end.
async fn breaks(address: SocketAddr, form: Form, bytes: &[u8]) -> Result<u16> {
    let mut raw = open(address, form).await?;
    raw.send(bytes).await?;
    let code = raw.close_code().await?;
    // Who breaks the framing may have been disconnected without being waited for.
    drop(raw.send(&close(1000)).await);
    raw.rest().await?;
    Ok(code)
}

/// Odd names get an error, numbers and NULs of JSON are taken as they are, and the connection can be used.
async fn names_are_refused_and_the_connection_stays(scene: &mut Scene) -> Result<()> {
    let (mut raw, _) = Raw::native(scene.nodes[0].public(), "hostile").await?;
    let long = "x".repeat(256);
    for name in ["plain:a\0b", "plain:a\u{2028}b", "plain:a b", "plain:\u{9f}", &long] {
        raw.say(&json!({"id": 2, "subscribe": {"channel": name}})).await?;
        let reply = raw.json().await?;
        scene.require(reply["error"]["code"] == 107, format!("{name:?} is answered {reply}"));
    }
    raw.say(&json!({"id": 3, "subscribe": {"channel": "plain:a"}})).await?;
    ensure!(raw.json().await?["subscribe"].is_object(), "a connection cannot be used after errors");
    let publish = r#"{"id":4,"publish":{"channel":"plain:a","data":9007199254740993}}"#;
    raw.send(&frame(FIN | TEXT, publish.as_bytes())).await?;
    while let Some(frame) = raw.frame().await? {
        let text = String::from_utf8(frame.payload)?;
        if text.contains("push") {
            scene.require(text.contains("9007199254740993"), format!("a number became {text}"));
            return Ok(());
        }
    }
    anyhow::bail!("the connection ended before its publication came")
}

async fn compression_is_not_negotiated(scene: &mut Scene) -> Result<()> {
    let mut raw = Raw::open(scene.nodes[0].public()).await?;
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
         sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
        bare_path("hostile", "plain:a")
    );
    raw.send(request.as_bytes()).await?;
    let head = raw.head().await?.to_lowercase();
    let is_plain = head.starts_with("http/1.1 101 ") && !head.contains("sec-websocket-extensions");
    scene.require(is_plain, format!("an offer to compress is answered {head}"));
    Ok(())
}

/// Frames that come over and over.
struct Flood {
    name: &'static str,
    form: Form,
    /// What it begins with.
    begin: Vec<u8>,
    /// So many of them at a time, so often, with so long between.
    chunk: Vec<u8>,
    times: usize,
    pause: Duration,
}

impl Flood {
    const TOGETHER: usize = 1_000;

    /// `count` times this frame.
    fn of(name: &'static str, form: Form, begin: Vec<u8>, frame: &[u8], count: usize) -> Self {
        let (chunk, times) = (frame.repeat(Self::TOGETHER), count / Self::TOGETHER);
        Self { name, form, begin, chunk, times, pause: Duration::ZERO }
    }

    /// So many pings, 10,000 in a second: they are answered, and faster than that a client may not read.
    fn of_pings(count: usize) -> Self {
        let pings = Self::of("cpu_pings", Form::Bare, Vec::new(), &frame(FIN | PING, b"x"), count);
        Self { pause: Duration::from_millis(100), ..pings }
    }
}

/// Frames in millions: taken where there is no limit, and the end of the connection where there is one.
async fn floods(scene: &mut Scene, count: usize) -> Result<()> {
    /// Most that a node may grow by for a client that floods.
    const GROWTH_BYTES_MAX: u64 = 16 << 20;
    let fragment = frame(CONTINUATION, b"");
    let kinds = [
        Flood::of("cpu_fragments", Form::Bare, frame(TEXT, b"{"), &fragment, count),
        Flood::of("cpu_messages", Form::Native, Vec::new(), &frame(FIN | TEXT, b"{}"), count),
        Flood::of_pings(count / 20),
    ];
    for kind in &kinds {
        let name = kind.name;
        let (used, grown, code) = flood(scene, 0, kind).await?;
        scene.report.seconds(name, used);
        scene.require(code == Some(1000), format!("{name}: a flood that is allowed ends with {code:?}"));
        scene.require(grown <= GROWTH_BYTES_MAX, format!("{name}: {grown} bytes more"));
        let (used, _, code) = flood(scene, 1, kind).await?;
        scene.require(code == Some(3013), format!("{name}: a flood that is not allowed ends with {code:?}"));
        // What is above the limit is not worked on.
        let within = used <= Duration::from_secs(1);
        scene.require(within, format!("{name}: {used:?} of CPU until it is closed"));
    }
    let closed = "clarion_connections_closed_total{reason=\"too_many_requests\"}";
    let all = async || Ok(scene.nodes[1].metric(closed).await? == kinds.len() as f64);
    wait::until("floods to be counted", PATIENCE, all).await.map(drop)
}

/// Floods a node; answers its CPU time, by how much it has grown meanwhile, and what it closes with.
async fn flood(scene: &Scene, node: usize, flood: &Flood) -> Result<(Duration, u64, Option<u16>)> {
    let process = scene.nodes[node].process();
    let mut raw = open(scene.nodes[node].public(), flood.form).await?;
    raw.send(&flood.begin).await?;
    let (cpu, resident) = (process.cpu()?, process.resident_bytes()?);
    let peak = Cell::new(resident);
    let watching = async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            peak.set(peak.get().max(process.resident_bytes().unwrap_or(0)));
        }
    };
    let end = close(1000);
    let all = std::iter::repeat_n(&flood.chunk[..], flood.times).chain([&end[..]]);
    let code = tokio::select! {
        code = raw.flood(all, flood.pause, |_| {}) => code?,
        () = watching => None,
    };
    Ok((process.cpu()?.saturating_sub(cpu), peak.get() - resident, code))
}

/// What nodes and Redis hold of subscriptions.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Holdings {
    subscriptions: f64,
    channels: f64,
    in_redis: u64,
}

async fn holdings(scene: &Scene) -> Result<Holdings> {
    Ok(Holdings {
        subscriptions: scene.metric("clarion_subscriptions").await,
        channels: scene.metric("clarion_channels").await,
        in_redis: scene.redis()?.subscriptions().await?,
    })
}

async fn subscriptions(scene: &mut Scene) -> Result<()> {
    let before = holdings(scene).await?;
    scene.begins();
    everything(scene).await?;
    let rounds = scene.depth.pick(200, 400);
    let racing = (0..4).map(|racer| race(scene.nodes[racer % 2].public(), racer, rounds));
    let raced = Instant::now();
    wait::within("races to end", PATIENCE * 3, futures_util::future::try_join_all(racing)).await?;
    let raced = raced.elapsed();
    let broken_off = scene.depth.pick(200, 1_000);
    break_off(scene, broken_off).await?;
    let are_back = async || Ok(holdings(scene).await? == before);
    let returned = wait::until("subscriptions to be gone", PATIENCE, are_back).await;
    let after = holdings(scene).await?;
    let present = present(scene).await?;
    scene.heals();
    scene.settle().await?;
    let leaks = after.subscriptions - before.subscriptions + after.channels - before.channels;
    scene.report.figure("leaks", leaks + present as f64);
    scene.report.seconds("t_race", raced);
    scene.report.seconds("t_empty", returned.as_ref().ok().copied());
    scene.require(returned.is_ok(), format!("{after:?} is left, and {before:?} was there"));
    scene.require(present == 0, format!("{present} are still present"));
    scene.require_no_closes();
    scene.require_no_unavailability();
    Ok(())
}

/// The commands that ask for `both:flood-N`, some in each frame.
fn wishes(count: usize) -> Vec<Vec<u8>> {
    const TOGETHER: usize = 100;
    let wish = |index: usize| {
        json!({"id": index + 2, "subscribe": {"channel": format!("both:flood-{index}")}}).to_string()
    };
    let wishes: Vec<String> = (0..count).map(wish).collect();
    wishes.chunks(TOGETHER).map(|chunk| frame(FIN | TEXT, chunk.join("\n").as_bytes())).collect()
}

/// One client wants every channel there is.
async fn everything(scene: &mut Scene) -> Result<()> {
    let wishes = wishes(scene.depth.pick(10_000, 100_000));
    let (raw, _) = Raw::native(scene.nodes[0].public(), "greedy").await?;
    let (mut subscribed, mut limited, mut otherwise) = (0, 0, 0);
    let hear = |payload: &[u8]| {
        for line in payload.split(|byte| *byte == b'\n') {
            let reply: Value = serde_json::from_slice(line).unwrap_or_default();
            subscribed += usize::from(reply["subscribe"].is_object());
            limited += usize::from(reply["error"]["code"] == 106);
            otherwise += usize::from(reply["error"].is_object() && reply["error"]["code"] != 106);
        }
    };
    let code = raw.flood(wishes.iter().map(Vec::as_slice), Duration::ZERO, hear).await?;
    scene.report.figure("subscribed", subscribed);
    scene.report.figure("refused_106", limited);
    scene.require(subscribed == CHANNELS_MAX, format!("{subscribed} channels for one client"));
    scene.require((ERRORS_MAX..=ERRORS_MAX + 1).contains(&limited), format!("{limited} errors 106"));
    scene.require(otherwise == 0, format!("{otherwise} other errors"));
    scene.require(code == Some(3509), format!("who wants everything is closed with {code:?}"));
    Ok(())
}

/// The channel that racers subscribe to and leave, again and again, each in its own time.
const RACE: &str = "both:race";

async fn race(address: SocketAddr, racer: usize, rounds: usize) -> Result<()> {
    let (mut raw, _) = Raw::native(address, &format!("racer-{racer}")).await?;
    for round in 0..rounds {
        let id = 2 * round + 2;
        let subscribe = json!({"id": id, "subscribe": {"channel": RACE}});
        let unsubscribe = json!({"id": id + 1, "unsubscribe": {"channel": RACE}});
        raw.send(&frame(FIN | TEXT, format!("{subscribe}\n{unsubscribe}").as_bytes())).await?;
        for (id, done) in [(id, "subscribe"), (id + 1, "unsubscribe")] {
            let reply = raw.reply(id).await?;
            ensure!(reply[done].is_object(), "in round {round} {racer} is answered {reply}");
        }
    }
    Ok(())
}

/// Clients that are gone before they are told that they are subscribed.
async fn break_off(scene: &Scene, count: usize) -> Result<()> {
    const TOGETHER: usize = 20;
    let mut breaking = JoinSet::new();
    for index in 0..count {
        if breaking.len() == TOGETHER {
            breaking.join_next().await.context("somebody breaks off")???;
        }
        let address = scene.nodes[index % scene.nodes.len()].public();
        breaking.spawn(async move {
            let mut raw = Raw::silent(address).await?;
            let connect = json!({"id": 1, "connect": {"token": token::sign(&format!("gone-{index}"))}});
            let channels = [RACE.to_owned(), format!("both:gone-{}", index % GONE)];
            let subscribe =
                |channel: &String| json!({"id": 2, "subscribe": {"channel": channel}}).to_string();
            let subscribes = channels.iter().map(subscribe).collect::<Vec<_>>().join("\n");
            raw.send(&frame(FIN | TEXT, format!("{connect}\n{subscribes}").as_bytes())).await?;
            // At any moment of what it asked for.
            tokio::time::sleep(Duration::from_micros(rand::random_range(0..5_000))).await;
            if index % 2 == 0 { raw.reset() } else { Ok(()) }
        });
    }
    while let Some(one) = breaking.join_next().await {
        one??;
    }
    Ok(())
}

/// How many channels clients break off in.
const GONE: usize = 50;

/// How many clients are in channels that nobody is in.
async fn present(scene: &Scene) -> Result<u64> {
    let flooded = (0..CHANNELS_MAX).map(|index| format!("both:flood-{index}"));
    let gone = (0..GONE).map(|index| format!("both:gone-{index}"));
    let mut present = 0;
    for channel in flooded.chain(gone).chain([RACE.to_owned()]) {
        let node = &scene.nodes[0];
        let mut count = 0;
        let is_empty = async || {
            let stats = node.api("presence_stats", &json!({"channel": channel})).await?;
            count = stats["num_clients"].as_u64().unwrap_or(0);
            Ok(count == 0)
        };
        // Who is still there by then is counted.
        drop(wait::until("a channel to be empty", PATIENCE, is_empty).await);
        present += count;
    }
    Ok(present)
}
