//! Ramps, up to a server that is slow or loses something on purpose.

use std::time::Duration;

use swarm::outcome::Outcome;
use swarm::plays::capacity::ladder::{Climb, Stride};
use swarm::plays::capacity::{Capacity, Grows};
use swarm::plays::{Play, play};

use super::server::{Fault, Server};
use super::{CLIENTS, settings};

fn capacity(grows: Grows, to: u64, slos: &[&str]) -> Capacity {
    Capacity {
        grows,
        climb: Climb { from: 20, to, stride: Stride::By(20), refine: 0 },
        slos: slos.iter().map(|slo| slo.parse().unwrap()).collect(),
        hold: Duration::from_secs(1),
        rate: 20.0,
        limit: Duration::from_secs(60),
        // Other tests are of the same process.
        own_busy_max: f64::INFINITY,
    }
}

/// So long a test waits for what does not come.
const SOON: Duration = Duration::from_secs(1);
/// Longer than the server of a test stands still.
const LATE: Duration = Duration::from_secs(8);
/// So long it stands still: twice what is asked for, which is more than a busy machine takes.
const STALL: Duration = Duration::from_secs(3);

async fn climbed(fault: Fault, capacity: Capacity, patience: Duration) -> Outcome {
    let server = Server::start(fault).await;
    let mut settings = settings(&server, 2);
    settings.load.patience = patience;
    play(&Play::Capacity(capacity), settings).await.unwrap()
}

fn loads(outcome: &Outcome) -> Vec<u64> {
    outcome.ramp.as_ref().unwrap().steps.iter().map(|step| step.load as u64).collect()
}

#[tokio::test]
async fn a_server_that_stands_still_is_found_at_its_knee() {
    // 20 in the first step; the 30th holds everything up.
    let fault = Fault::Stall(30, STALL);
    let outcome = climbed(fault, capacity(Grows::Rate, 100, &["p90=1500ms", "loss=0"]), LATE).await;
    assert!(outcome.passed(), "{:?} {:?}", outcome.verdict, outcome.wrong);
    let ramp = outcome.ramp.as_ref().unwrap();
    assert_eq!((loads(&outcome), ramp.knee()), (vec![20, 40], Some(20.0)));
    assert!(ramp.steps[1].broken.as_ref().unwrap().contains("delay p90 was"), "{:?}", ramp.steps[1].broken);
    assert_eq!(ramp.steps[0].deliveries, 20 * u64::from(CLIENTS) / 2);
    assert!(ramp.at_limit.is_some());
    let knee = outcome.figures.iter().find(|figure| figure.name == "knee").unwrap();
    assert_eq!((knee.value, knee.unit.as_str()), (Some(20.0), "publications/s"));
}

#[tokio::test]
async fn a_loss_ends_the_ramp_and_fails_the_run() {
    let outcome = climbed(Fault::Lose(30), capacity(Grows::Rate, 100, &["loss=0"]), SOON).await;
    assert!(!outcome.passed() && outcome.verdict.lost > 0);
    let ramp = outcome.ramp.as_ref().unwrap();
    assert_eq!((loads(&outcome), ramp.knee()), (vec![20, 40], Some(20.0)));
    assert!(ramp.steps[1].broken.as_ref().unwrap().contains("lost"));
    assert_eq!(ramp.steps[1].lost, outcome.verdict.lost);
}

/// What never comes is later than any limit, whether loss is asked for or not.
#[tokio::test]
async fn what_never_comes_is_later_than_anything() {
    let outcome = climbed(Fault::Lose(30), capacity(Grows::Rate, 60, &["max=1h"]), SOON).await;
    let broken = outcome.ramp.as_ref().unwrap().steps[1].broken.clone().unwrap();
    assert!(broken.contains("did not come"), "{broken}");
}

#[tokio::test]
async fn connections_grow_and_shrink_as_the_steps_want() {
    // 20 publications in each step: in the third everything is held up.
    let fault = Fault::Stall(45, STALL);
    let mut capacity = capacity(Grows::Connections, 100, &["p90=1500ms", "errors=0"]);
    capacity.climb.refine = 1;
    let outcome = climbed(fault, capacity, LATE).await;
    assert!(outcome.passed(), "{:?} {:?}", outcome.verdict, outcome.wrong);
    let ramp = outcome.ramp.as_ref().unwrap();
    assert_eq!((loads(&outcome), ramp.knee()), (vec![20, 40, 50, 60], Some(50.0)));
    let connections: Vec<u64> = ramp.steps.iter().map(|step| step.connections).collect();
    assert_eq!(connections, [20, 40, 50, 60]);
    let deliveries: Vec<u64> = ramp.steps.iter().map(|step| step.deliveries).collect();
    // Each publication goes to one of two channels.
    assert_eq!(deliveries, [200, 400, 500, 600]);
}

#[tokio::test]
async fn a_server_that_refuses_is_found_at_its_knee() {
    // From the 41st upgrade on: with 40 all is well, and with more it is not, however many more.
    let refuses = Fault::Busy(40, 1_000_000, None);
    let mut capacity = capacity(Grows::Connections, 100, &["errors=0", "connect_p99=10s"]);
    capacity.climb.refine = 2;
    let outcome = climbed(refuses, capacity, SOON).await;
    assert!(outcome.passed(), "{:?} {:?}", outcome.verdict, outcome.wrong);
    let ramp = outcome.ramp.as_ref().unwrap();
    assert_eq!((loads(&outcome), ramp.knee()), (vec![20, 40, 45, 50, 60], Some(40.0)));
    assert_eq!((ramp.steps[4].errors, ramp.steps[4].connections), (20, 40));
    assert!(!ramp.steps[1].connect.is_empty() && ramp.steps[4].connect.is_empty());
}

#[tokio::test]
async fn a_swarm_without_cpu_ends_the_ramp_and_is_no_knee() {
    let busy = Capacity { own_busy_max: 0.0, ..capacity(Grows::Rate, 100, &["p50=0s"]) };
    let outcome = climbed(Fault::Nothing, busy, SOON).await;
    assert!(outcome.passed(), "{:?} {:?}", outcome.verdict, outcome.wrong);
    let ramp = outcome.ramp.as_ref().unwrap();
    assert_eq!((loads(&outcome), ramp.knee()), (vec![20], None));
    assert!(ramp.steps[0].own_limit.is_some() && ramp.first_broken().is_none());
    assert!(outcome.warnings.first[0].starts_with("the clients are the limit"), "{:?}", outcome.warnings);
}

#[tokio::test]
async fn a_ramp_without_a_knee_says_so_and_a_limit_ends_it() {
    let outcome = climbed(Fault::Nothing, capacity(Grows::Rate, 40, &["loss=0"]), SOON).await;
    assert_eq!((loads(&outcome), outcome.ramp.as_ref().unwrap().knee()), (vec![20, 40], None));
    let mut short = capacity(Grows::Rate, 40, &["loss=0"]);
    short.limit = Duration::from_millis(500);
    let outcome = climbed(Fault::Nothing, short, SOON).await;
    assert_eq!(loads(&outcome), [20]);
    assert!(outcome.warnings.first[0].contains("before 40 publications/s"), "{:?}", outcome.warnings);
}

#[tokio::test]
async fn a_step_in_which_nothing_is_delivered_does_not_hold() {
    let outcome = climbed(Fault::DenyAll, capacity(Grows::Rate, 60, &["loss=0"]), SOON).await;
    let ramp = outcome.ramp.as_ref().unwrap();
    assert_eq!((loads(&outcome), ramp.knee()), (vec![20], None));
    assert!(ramp.steps[0].broken.as_ref().unwrap().contains("nothing was delivered"));
}

#[tokio::test]
async fn who_comes_in_a_later_step_and_is_given_nothing_is_missed() {
    let outcome = climbed(Fault::Deaf(20), capacity(Grows::Connections, 60, &["loss=0"]), SOON).await;
    let ramp = outcome.ramp.as_ref().unwrap();
    assert_eq!((loads(&outcome), ramp.knee()), (vec![20, 40], Some(20.0)));
    // Ten publications to each of two channels, and ten clients more in each.
    assert_eq!((ramp.steps[1].lost, outcome.verdict.lost), (200, 200));
}

#[tokio::test]
async fn what_those_have_lost_who_are_sent_away_is_lost_once() {
    // The 30th comes in the second step, the 60th in the third, for which ten of the forty leave.
    let mut capacity = capacity(Grows::Connections, 40, &["loss=0"]);
    capacity.climb.refine = 1;
    let outcome = climbed(Fault::LoseEvery(30), capacity, SOON).await;
    let lost: Vec<u64> = outcome.ramp.as_ref().unwrap().steps.iter().map(|step| step.lost).collect();
    assert_eq!((loads(&outcome), lost), (vec![20, 30, 40], vec![0, 15, 20]));
    assert_eq!(outcome.verdict.lost, 35);
}
