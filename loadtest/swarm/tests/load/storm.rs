//! Clients that all lose their line, and what a server may do to them when they come back.

use std::time::Duration;

use swarm::outcome::Outcome;
use swarm::plays::storm::{Backoff, Storm};
use swarm::plays::{Play, play};

use super::server::{Fault, Server};
use super::{CLIENTS, figure, said, settings};

const STORM: Storm = Storm {
    rounds: 1,
    rate: 200.0,
    backoff: Backoff::None,
    calm: Duration::from_millis(200),
    within: Duration::from_secs(10),
    settle: Duration::ZERO,
};

async fn storm(fault: Fault, storm: Storm) -> Outcome {
    let server = Server::start(fault).await;
    play(&Play::Storm(storm), settings(&server, 2)).await.unwrap()
}

#[tokio::test]
async fn everybody_comes_back_and_has_what_was_missed() {
    let outcome = storm(Fault::Nothing, Storm { rounds: 2, ..STORM }).await;
    assert!(outcome.passed(), "{:?} {:?}", outcome.verdict, outcome.wrong);
    assert_eq!(outcome.counts["recovered"], 2 * u64::from(CLIENTS));
    assert_eq!(outcome.distributions["time until back"].len(), 2 * u64::from(CLIENTS));
    assert_eq!(figure(&outcome, "subscriptions that had all they missed"), Some(100.0));
    assert!(figure(&outcome, "memory of the server 0s after, against before").is_some());
    let rounds = outcome.marks.iter().filter(|mark| mark.text.contains("5 back")).count();
    assert_eq!(rounds, 2, "{:?}", outcome.marks);
}

/// The SDKs wait for half a second at least, in which a hundred things are published.
#[tokio::test]
async fn what_recovery_leaves_out_in_silence_is_lost() {
    let outcome = storm(Fault::Forget(70), Storm { backoff: Backoff::Sdk, ..STORM }).await;
    assert!(!outcome.passed() && outcome.verdict.lost >= 1, "{:?} {:?}", outcome.verdict, outcome.counts);
    assert!(said(&outcome, "was due"), "{:?}", outcome.wrong);
}

#[tokio::test]
async fn who_is_told_that_it_cannot_recover_has_lost_nothing_in_silence() {
    let outcome = storm(Fault::Unrecoverable, Storm { backoff: Backoff::Sdk, ..STORM }).await;
    assert!(outcome.passed(), "{:?} {:?}", outcome.verdict, outcome.wrong);
    assert_eq!(outcome.counts["unrecovered"], u64::from(CLIENTS));
    assert_eq!(figure(&outcome, "subscriptions that had all they missed"), Some(0.0));
}

#[tokio::test]
async fn without_a_history_there_is_nothing_to_play() {
    let outcome = storm(Fault::Unpositioned, STORM).await;
    assert!(!outcome.passed());
    assert!(said(&outcome, "swarm-0 has no history"), "{:?}", outcome.wrong);
}

#[tokio::test]
async fn refusals_are_counted_by_whether_they_say_when_to_come_back() {
    let first = u64::from(CLIENTS);
    let outcome = storm(Fault::Busy(first, 3, Some(1)), Storm { backoff: Backoff::Sdk, ..STORM }).await;
    assert!(outcome.passed(), "{:?} {:?}", outcome.verdict, outcome.wrong);
    assert_eq!(outcome.counts["returns refused with Retry-After"], 3);
    assert_eq!(outcome.counts["returns tried"], first + 3);
    // After half a second at least they are told to wait for another one.
    assert!(outcome.distributions["time until back"].max() >= 1_500_000);
    let outcome = storm(Fault::Busy(first, 4, None), STORM).await;
    assert!(outcome.passed(), "{:?} {:?}", outcome.verdict, outcome.wrong);
    assert_eq!(outcome.counts["returns refused without Retry-After"], 4);
}

#[tokio::test]
async fn who_does_not_come_back_is_counted_and_not_as_a_loss() {
    let within = Duration::from_secs(1);
    let outcome = storm(
        Fault::Busy(u64::from(CLIENTS), 1_000_000, Some(60)),
        Storm { backoff: Backoff::Sdk, rounds: 3, within, ..STORM },
    )
    .await;
    assert_eq!(outcome.verdict.others["clients not back"], u64::from(CLIENTS));
    assert_eq!((outcome.passed(), outcome.verdict.lost), (false, 0));
}

#[tokio::test]
async fn who_is_gone_before_the_storm_is_not_back_after_it() {
    let calm = Duration::from_secs(1);
    let outcome = storm(Fault::Close(5, 3500), Storm { calm, ..STORM }).await;
    assert!(!outcome.passed(), "{:?}", outcome.counts);
    assert_eq!(outcome.verdict.others["clients not back"], u64::from(CLIENTS));
    assert!(said(&outcome, "nobody was there to be cut off"), "{:?}", outcome.wrong);
    assert!(!outcome.figures.iter().any(|figure| figure.name == "everybody back after"));
}

#[tokio::test]
async fn a_storm_in_which_nothing_was_published_says_nothing() {
    let outcome = storm(Fault::DenyAll, STORM).await;
    assert!(!outcome.passed(), "{:?}", outcome.counts);
    assert!(said(&outcome, "nothing was delivered"), "{:?}", outcome.wrong);
}
