//! Plays with a load, against a server that does something wrong: it must be found.

#![expect(clippy::unwrap_used, reason = "what does not work here fails the test, as it should")]

mod capacity;
mod chat;
mod server;
mod storm;

use std::process::Output;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use swarm::load::stamp::Stamp;
use swarm::load::tally::Event;
use swarm::load::tokens::{TokenPlace, Tokens};
use swarm::load::{BackEnd, DELAY, Load, LoadSettings, Numbering, Published, Thread};
use swarm::outcome::Outcome;
use swarm::plays::{Play, Settings, burst, connect, fan, idle, play, rate};
use swarm::progress::Shown;
use tokio::process::Command;
use tokio::time::Instant;

use self::server::{API_KEY, Fault, Server};

/// Of which there are several on each thread.
const CLIENTS: u32 = 5;
/// How long a test waits for what does not come. It says nothing about what does.
const PATIENCE: Duration = Duration::from_secs(3);

fn settings(server: &Server, channels: u32) -> Settings {
    let load = LoadSettings {
        targets: vec![format!("ws://{}/connection/websocket", server.clients).parse().unwrap()],
        sources: Vec::new(),
        tokens: Tokens::None,
        token_place: TokenPlace::Query,
        channels: (0..channels).map(|channel| format!("swarm-{channel}")).collect(),
        is_recoverable: false,
        is_hearing: false,
        numbering: Numbering::Channel,
        data_bytes: 128,
        threads: 2,
        handshakes_max: 4,
        connects_per_second: None,
        patience: PATIENCE,
        nap: Duration::ZERO,
    };
    Settings {
        load,
        clients: CLIENTS,
        api: Some(format!("http://{}", server.api).parse().unwrap()),
        api_key: Some(API_KEY.parse().unwrap()),
        api_connections: 4,
        data_bytes: 128,
        pids: vec![std::process::id()],
        shown: Shown::Nowhere,
        command: "swarm".to_owned(),
    }
}

/// Twelve publications in a fraction of a second, to one channel.
const FEW: Play = Play::Rate(rate::Rate { rate: 60.0, time: Duration::from_millis(200) });

async fn few(fault: Fault) -> Outcome {
    let server = Server::start(fault).await;
    play(&FEW, settings(&server, 1)).await.unwrap()
}

fn said(outcome: &Outcome, words: &str) -> bool {
    outcome.wrong.first.iter().any(|sentence| sentence.contains(words))
}

fn figure(outcome: &Outcome, name: &str) -> Option<f64> {
    outcome.figures.iter().find(|figure| figure.name == name)?.value
}

#[tokio::test]
async fn a_faithful_server_passes_every_play() {
    let plays = [
        (Play::Connect(connect::Connect), 0),
        (Play::Fan(fan::Fan { publications: 3 }), 28),
        (Play::Burst(burst::Burst { bursts: 2, size: 16 }), 57),
        (FEW, 12),
    ];
    for (play, publications) in plays {
        let server = Server::start(Fault::Nothing).await;
        let outcome = swarm::plays::play(&play, settings(&server, 1)).await.unwrap();
        assert!(
            outcome.passed() && outcome.wrong.total == 0,
            "{play:?}: {:?} {:?}",
            outcome.verdict,
            outcome.wrong
        );
        let count = |name: &str| outcome.counts.get(name).copied().unwrap_or(0);
        assert_eq!(count("connected"), u64::from(CLIENTS));
        assert_eq!(count("publications"), publications, "{play:?}");
        assert_eq!(count("deliveries"), publications * u64::from(CLIENTS), "{play:?}");
        assert!(outcome.series.iter().any(|series| series.name == "memory of the server"));
        if publications > 0 {
            assert!(figure(&outcome, "CPU of the server per delivery").unwrap() > 0.0, "{play:?}");
            assert_eq!(outcome.distributions[DELAY].len(), count("deliveries"), "{play:?}");
            assert_eq!(server.pongs(), u64::from(CLIENTS), "{play:?}");
        }
    }
}

#[tokio::test]
async fn clients_are_spread_over_channels() {
    let server = Server::start(Fault::Nothing).await;
    let outcome = play(&FEW, settings(&server, 3)).await.unwrap();
    assert!(outcome.passed(), "{:?} {:?}", outcome.verdict, outcome.wrong);
    // Four publications to each: two channels have two clients, and one has one.
    assert_eq!(outcome.counts["deliveries"], 4 * u64::from(CLIENTS));
}

#[tokio::test]
async fn a_publication_that_is_lost_is_found() {
    let outcome = few(Fault::Lose(5)).await;
    assert!(!outcome.passed());
    assert_eq!(outcome.verdict.lost, u64::from(CLIENTS));
    assert!(said(&outcome, "swarm-0: publication 6 came where 5 was due"), "{:?}", outcome.wrong);
    assert!(said(&outcome, "was not given publication 5 of swarm-0"), "{:?}", outcome.wrong);
}

#[tokio::test]
async fn the_last_publication_is_missed_as_any_other() {
    let outcome = few(Fault::Lose(12)).await;
    assert_eq!((outcome.passed(), outcome.verdict.lost), (false, u64::from(CLIENTS)));
    let server = Server::start(Fault::Lose(27)).await;
    let fan = Play::Fan(fan::Fan { publications: 9 });
    let outcome = play(&fan, settings(&server, 1)).await.unwrap();
    assert_eq!((outcome.passed(), outcome.verdict.lost), (false, u64::from(CLIENTS)));
    assert!(
        said(&outcome, "after publication 27: 5 deliveries did not come within 3s"),
        "{:?}",
        outcome.wrong
    );
}

#[tokio::test]
async fn a_repeat_is_found() {
    let outcome = few(Fault::Repeat(5)).await;
    assert_eq!((outcome.verdict.repeated, outcome.verdict.lost), (u64::from(CLIENTS), 0));
    assert!(!outcome.passed() && said(&outcome, "publication 5 came again"), "{:?}", outcome.wrong);
}

#[tokio::test]
async fn disorder_is_found_and_is_no_loss() {
    let outcome = few(Fault::Swap(5)).await;
    assert_eq!((outcome.verdict.reordered, outcome.verdict.lost), (u64::from(CLIENTS), 0));
    assert!(
        !outcome.passed() && said(&outcome, "publication 5 came after later ones"),
        "{:?}",
        outcome.wrong
    );
}

#[tokio::test]
async fn offsets_that_do_not_go_on_are_found_though_numbers_do() {
    let outcome = few(Fault::Skip(5)).await;
    assert_eq!(outcome.verdict.others["offsets broken"], u64::from(CLIENTS));
    assert_eq!((outcome.passed(), outcome.verdict.lost), (false, 0));
    assert!(said(&outcome, "offset 6 came where 5 was due"), "{:?}", outcome.wrong);
}

#[tokio::test]
async fn connections_that_end_are_counted_by_how_they_ended() {
    let outcome = few(Fault::Close(5, 3001)).await;
    assert_eq!(outcome.closings["close 3001"], u64::from(CLIENTS));
    assert!(
        !outcome.passed() && said(&outcome, "closed by the server with 3001 (told to)"),
        "{:?}",
        outcome.wrong
    );
    assert_eq!(outcome.verdict.lost, 8 * u64::from(CLIENTS));
    let outcome = few(Fault::Drop(5)).await;
    assert_eq!(outcome.closings["the server hung up without a close frame"], u64::from(CLIENTS));
    assert!(!outcome.passed());
}

#[tokio::test]
async fn a_call_that_failed_is_told_and_owes_nobody_anything() {
    let outcome = few(Fault::Deny(5)).await;
    assert_eq!(outcome.verdict.others["publications failed"], 1);
    assert_eq!((outcome.passed(), outcome.verdict.lost), (false, 0));
    assert!(said(&outcome, "internal server error"), "{:?}", outcome.wrong);
}

/// A server that stands still for half a second is late for everything that is due meanwhile, although it was asked for
/// only as many things at a time as there are connections. Without the correction one publication would be late.
#[tokio::test]
async fn a_server_that_stands_still_shows_in_every_publication_that_was_due() {
    let server = Server::start(Fault::Stall(50, Duration::from_millis(500))).await;
    let steady = Play::Rate(rate::Rate { rate: 200.0, time: Duration::from_secs(2) });
    let outcome = play(&steady, settings(&server, 1)).await.unwrap();
    assert!(outcome.passed(), "{:?} {:?}", outcome.verdict, outcome.wrong);
    let delay = &outcome.distributions[DELAY];
    assert_eq!(delay.len(), 400 * u64::from(CLIENTS));
    // Those due in the first 400 ms of the stall are more than 100 ms late: 80 of 400. One is enough for the maximum.
    let late = delay.quantile(1.0 - 75.0 / 400.0);
    assert!(late >= 100_000, "of 400 publications 75 are at least {late} µs late");
    assert!(outcome.distributions["publishing late"].max() >= 100_000);
}

#[tokio::test]
async fn who_is_not_let_in_says_by_whom_and_why() {
    for (fault, words) in [
        (Fault::Refuse(401), "the upgrade was answered with 401"),
        (Fault::Forbid(103), "error 103 (permission denied)"),
    ] {
        let server = Server::start(fault).await;
        let error = play(&Play::Connect(connect::Connect), settings(&server, 1)).await.unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(words) && error.contains(&server.clients.to_string()), "{error}");
    }
}

#[tokio::test]
async fn who_never_got_in_is_counted_and_owed_nothing() {
    let outcome = few(Fault::Full(3)).await;
    assert_eq!((outcome.verdict.others["connects failed"], outcome.verdict.lost), (2, 0));
    assert_eq!(outcome.errors["the upgrade was answered with 503"], 2);
    assert_eq!((outcome.passed(), outcome.counts["deliveries"]), (false, 12 * 3));
    assert!(!outcome.verdict.others.contains_key("plays broken off"), "{:?}", outcome.wrong);
}

#[tokio::test]
async fn idle_clients_are_live_subscribers_at_the_end() {
    let idle = Play::Idle(idle::Idle { time: Duration::from_millis(50) });
    // Nobody waits for the memory of a server that is not known to be quiet.
    let unwatched = |server: &Server| Settings { pids: Vec::new(), ..settings(server, 3) };
    let server = Server::start(Fault::Nothing).await;
    let outcome = play(&idle, unwatched(&server)).await.unwrap();
    assert!(outcome.passed(), "{:?} {:?}", outcome.verdict, outcome.wrong);
    assert_eq!((outcome.counts["publications"], outcome.counts["deliveries"]), (3, u64::from(CLIENTS)));
    let server = Server::start(Fault::Lose(2)).await;
    let outcome = play(&idle, unwatched(&server)).await.unwrap();
    assert_eq!((outcome.passed(), outcome.verdict.lost), (false, 2), "{:?}", outcome.wrong);
}

#[tokio::test]
async fn tokens_are_shown_where_they_are_wanted() {
    for (place, in_query, in_command) in [(TokenPlace::Query, 1, 0), (TokenPlace::Command, 0, 1)] {
        let server = Server::start(Fault::Nothing).await;
        let mut settings = settings(&server, 1);
        settings.load.tokens = Tokens::listed("first\nsecond").unwrap();
        settings.load.token_place = place;
        play(&Play::Connect(connect::Connect), settings).await.unwrap();
        let firsts = |texts: Vec<String>| texts.iter().filter(|text| text.contains("first")).count();
        // Clients 0, 2 and 4 of five.
        assert_eq!(firsts(server.targets()), 3 * in_query);
        assert_eq!(firsts(server.tokens()), 3 * in_command);
    }
}

#[tokio::test]
async fn clients_have_their_turn_at_targets_and_sources() {
    let servers = [Server::start(Fault::Nothing).await, Server::start(Fault::Nothing).await];
    let mut settings = settings(&servers[0], 1);
    settings.load.targets.push(format!("ws://{}/c", servers[1].clients).parse().unwrap());
    settings.load.sources = ["127.0.0.2", "127.0.0.3"].map(|address| address.parse().unwrap()).to_vec();
    settings.clients = 8;
    play(&Play::Connect(connect::Connect), settings).await.unwrap();
    for server in servers {
        let mut sources: Vec<String> = server.sources().iter().map(ToString::to_string).collect();
        sources.sort_unstable();
        assert_eq!(sources, ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"]);
    }
}

#[tokio::test]
async fn connects_keep_to_their_pace() {
    let server = Server::start(Fault::Nothing).await;
    let mut settings = settings(&server, 1);
    settings.load.connects_per_second = Some(20.0);
    settings.pids = Vec::new();
    let outcome = play(&Play::Connect(connect::Connect), settings).await.unwrap();
    // The first goes alone, and of the other four the last is due 150 ms after the first.
    assert!(outcome.seconds >= 0.15, "{}", outcome.seconds);
    assert_eq!(outcome.counts["connected"], u64::from(CLIENTS));
}

/// What plays do with clients themselves.
#[tokio::test]
async fn clients_come_and_go_and_change_what_they_listen_to() {
    let server = Server::start(Fault::Nothing).await;
    let settings = settings(&server, 2);
    let load = Load::start(settings.load).unwrap();
    load.open(4).await.unwrap();
    let again = |thread: Rc<Thread>| async move {
        for client in thread.clients() {
            client.leave();
            assert!(!client.is_connected());
            thread.admit(client, Instant::now()).await.unwrap();
        }
    };
    load.on_each(again).await.unwrap();
    let counts = load.counts();
    assert_eq!((counts.get(Event::Connected), counts.get(Event::Left), counts.open()), (8, 4, 4));
    assert_eq!((counts.get(Event::Ended), counts.get(Event::Failed)), (0, 0));

    // Everybody listens to the second channel instead, some of them already did.
    let change = |thread: Rc<Thread>| async move {
        for client in thread.clients() {
            client.unsubscribe(client.number() % 2).unwrap();
            client.subscribe(1).unwrap();
        }
    };
    load.on_each(change).await.unwrap();
    while load.counts().get(Event::Subscribed) < 12 {
        tokio::task::yield_now().await;
    }
    load.publishing();
    let back_end = BackEnd::new(settings.api.unwrap(), settings.api_key, 1, 128, PATIENCE);
    let mut published = Published::new(2);
    for channel in [0, 1, 1] {
        let stamp = Stamp { run: load.run(), number: published.next(channel), at_ns: load.clock().now_ns() };
        back_end.publish(&format!("swarm-{channel}"), stamp).await.unwrap();
    }
    load.wait_delivered(8).await.unwrap();
    let findings = load.finish(published).await.unwrap();
    assert_eq!((findings.lost, findings.wrong.total), (0, 0), "{:?}", findings.wrong);
}

/// Runs the program itself.
async fn swarm(words: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarm"));
    command.args(words).env_remove("SWARM_SECRET").env_remove("SWARM_API_KEY");
    command.output().await.unwrap()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_exit_code_tells_success_from_loss_from_wrong_use() {
    let (good, bad) = (Server::start(Fault::Nothing).await, Server::start(Fault::Repeat(4)).await);
    let arguments = |server: &Server| {
        let (clients, api) = (server.clients, server.api);
        words(&format!(
            "fan --url ws://{clients}/c --api http://{api} --api-key {API_KEY} --clients 3 --publications 2 --secret CANARY \
             --output json"
        ))
    };
    let passed = swarm(&arguments(&good)).await;
    assert_eq!(passed.status.code(), Some(0), "{passed:?}");
    let outcome: Value = serde_json::from_slice(&passed.stdout).unwrap();
    assert_eq!(outcome["play"], "fan");
    let failed = swarm(&arguments(&bad)).await;
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    for output in [passed, failed] {
        let all = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!all.contains("CANARY") && !all.contains(API_KEY), "{all}");
    }
}

#[tokio::test]
async fn bad_input_is_told_by_its_name_and_shows_no_secret() {
    let server = Server::start(Fault::Nothing).await;
    let (clients, api) = (server.clients, server.api);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (line, code, expected) in [
        ("fan".to_owned(), 2, "--url"),
        (format!("storm --url ws://{clients}/c"), 2, "--api"),
        (format!("storm --url ws://{clients}/c --api http://{api} --backoff gentle"), 2, "--backoff"),
        (format!("storm --url ws://{clients}/c --api http://{api} --rate 0.5"), 2, "--rate"),
        (format!("chat --url ws://{clients}/c --through api"), 2, "--api"),
        (format!("chat --url ws://{clients}/c --rooms 99999 --members 99999"), 2, "--members 99999"),
        (
            format!("capacity --url ws://{clients}/c --api http://{api} --ramp rate --from 9 --to 1"),
            2,
            "--from 9",
        ),
        (
            format!("capacity --url ws://{clients}/c --api http://{api} --ramp up --from 1 --to 9"),
            2,
            "--ramp",
        ),
        (format!("fan --url ws://{clients}/c"), 2, "--api"),
        (format!("connect --url http://{clients}/?token=CANARY"), 2, "ws://"),
        (format!("connect --url {clients}/?token=CANARY"), 2, "ws://"),
        (format!("connect --url wss://me:CANARY@{clients}/"), 2, "wss"),
        ("connect --url ws://no-such-host.invalid/".to_owned(), 2, "no-such-host.invalid"),
        (format!("connect --url ws://{clients}/ --token /no/such/file"), 2, "/no/such/file"),
        (format!("connect --url ws://{clients}/ --pid 4194305"), 2, "4194305"),
        (format!("connect --url ws://{clients}/ --source 127.0.0.9-127.0.0.2"), 2, "range"),
        (format!("connect --url ws://{clients}/ --clients 0"), 2, "--clients"),
        (format!("fan --url ws://{clients}/ --api http://{api} --payload-bytes 5"), 2, "--payload-bytes"),
        (format!("connect --url ws://{free}/c --secret CANARY"), 1, "Connection refused"),
        (format!("fan --url ws://{clients}/c --api http://{api} --api-key CANARY"), 1, "--api-key"),
        (format!("fan --url ws://{clients}/c --api http://{free} --api-key CANARY"), 1, &free.to_string()),
        (format!("connect --url ws://{clients}/c --source 192.0.2.1"), 1, "assign requested address"),
    ] {
        let output = swarm(&words(&line)).await;
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(said.contains(expected), "{line}: {said}");
        assert!(!said.contains("CANARY"), "{line}: {said}");
    }
}

/// The environment has the secret for all runs.
#[tokio::test]
async fn tokens_in_a_file_go_before_a_secret_in_the_environment() {
    let server = Server::start(Fault::Nothing).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "one.of.these").unwrap();
    let (clients, file, pid) = (server.clients, file.path().display(), std::process::id());
    let line = format!("connect --url ws://{clients}/c --clients 1 --token {file} --pid {pid} {pid}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarm"));
    let output = command.args(words(&line)).env("SWARM_SECRET", "CANARY").output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(server.targets()[0].ends_with("token=one.of.these"), "{:?}", server.targets());
}

#[tokio::test]
async fn what_is_later_than_patience_is_not_sent() {
    // The fifth of twelve holds up the server for longer than all that follow may be late.
    let server = Server::start(Fault::Stall(5, Duration::from_secs(4))).await;
    let mut settings = settings(&server, 1);
    settings.load.patience = Duration::from_secs(1);
    let outcome = play(&FEW, settings).await.unwrap();
    assert_eq!(outcome.verdict.others["publications failed"], 8, "{:?}", outcome.wrong);
    assert!(said(&outcome, "was not sent"), "{:?}", outcome.wrong);
}

/// 10,000 clients in 150 MB: what one takes is what 900 more take, a ninehundredth each.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_clients_fit_into_150_megabytes() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let mut peaks = Vec::new();
    for clients in [100, 1_000] {
        let server = Server::start(Fault::Nothing).await;
        let line = format!("connect --url ws://{}/c --clients {clients} --output json", server.clients);
        let output = swarm(&words(&line)).await;
        assert!(output.status.success(), "{output:?}");
        let outcome: Outcome = serde_json::from_slice(&output.stdout).unwrap();
        peaks.push(figure(&outcome, "memory of swarm at its peak").unwrap());
    }
    let each = (peaks[1] - peaks[0]) / 900.0;
    assert!(peaks[0] + 9_900.0 * each <= 150.0, "{peaks:?} MB");
    assert!(each > 0.0, "{peaks:?} MB");
}
