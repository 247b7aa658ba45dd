use super::*;
use crate::findings::{Blackout, Closing, Notices, Opening, Outage, PublishFindings, Refused, Second};
use crate::noon::facts::{NodeEnd, PresenceCheck};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn settings(play: Play) -> Settings {
    Settings {
        play,
        clients: 300,
        rate: 60,
        channels: 10,
        nodes: 3,
        window: seconds(20),
        delay: seconds(5),
        calm: seconds(10),
        plant: None,
    }
}

/// What keeps every promise and reaches every figure, in any play.
fn faithful() -> Facts {
    let calm = Span { from: seconds(0), until: seconds(10) };
    let trouble = Span { from: seconds(10), until: seconds(20) };
    let crowd = CrowdFindings {
        clients: 300,
        live_at_end: 300,
        delays: delays_of(1000, 1000),
        blackouts: vec![away(millis(900), millis(700))],
        notices: Notices::default(),
        ..CrowdFindings::default()
    };
    Facts {
        calm,
        trouble,
        witnesses: Some(crowd.clone()),
        crowd,
        publish: PublishFindings { sent: 1200, acknowledged: 1200, ..PublishFindings::default() },
        ends: (0..3).map(|index| end(seconds(12 + 2 * index), millis(500), Some(0))).collect(),
        connections_at_end: [("a", 100), ("b", 100), ("c", 100)]
            .map(|(name, count)| (name.into(), count))
            .into(),
        presence: Some(PresenceCheck::default()),
        healed_at: Some(seconds(12)),
        ..Facts::default()
    }
}

/// Ten deliveries in each second, in microseconds: ten seconds of calm, ten of trouble.
fn delays_of(calm: u64, trouble: u64) -> crate::findings::Delays {
    let second = |micros: u64| {
        let mut second = Second::default();
        second.micros.record_n(micros, 10).unwrap();
        second
    };
    let seconds = (0..20).map(|index| second(if index < 10 { calm } else { trouble })).collect();
    crate::findings::Delays { seconds }
}

fn away(whole: Duration, own_backoff: Duration) -> Blackout {
    Blackout { client: 0, closed_at: seconds(12), live_at: seconds(12) + whole, own_backoff }
}

fn end(told_at: Duration, after: Duration, code: Option<i32>) -> NodeEnd {
    NodeEnd { node: "node-1".into(), told_at, ended_at: told_at + after, code }
}

fn closing(at: Duration, code: Option<u16>) -> Closing {
    Closing { at, client: 0, code }
}

fn return_of(client: usize, at: Duration) -> Opening {
    Opening { at, client, attempt: 1, was_return: true }
}

const PLAYS: [Play; 6] = [
    Play::Roll,
    Play::Fault(Fault::KillNode),
    Play::Fault(Fault::RedisRestart),
    Play::Fault(Fault::RedisStop),
    Play::Fault(Fault::PubsubKill),
    Play::Fault(Fault::Storm),
];

/// The rows that do not hold, after `change` to what is faithful.
fn broken(play: Play, change: impl FnOnce(&mut Facts)) -> Vec<Row> {
    let mut facts = faithful();
    change(&mut facts);
    rows(&settings(play), &facts).into_iter().filter(|row| !row.holds).collect()
}

/// Asserts that `change` breaks the one row `what`, which is of this kind.
#[track_caller]
fn breaks(play: Play, what: &str, kind: Kind, change: impl FnOnce(&mut Facts)) {
    let broken = broken(play, change);
    let found: Vec<(&str, Kind)> = broken.iter().map(|row| (row.what, row.kind)).collect();
    assert_eq!(found, [(what, kind)], "{broken:?}");
}

/// Asserts that `change` breaks nothing.
#[track_caller]
fn holds(play: Play, change: impl FnOnce(&mut Facts)) {
    assert_eq!(broken(play, change), []);
}

#[test]
fn a_faithful_run_holds_in_every_play() {
    for play in PLAYS {
        holds(play, |_| {});
    }
}

#[test]
fn what_the_oracle_finds_is_a_broken_promise_in_every_play() {
    type Change = fn(&mut Verdict);
    let found: [(&str, Change); 5] = [
        ("publications lost silently", |verdict| verdict.lost_silent = 1),
        ("clients without everything at the end", |verdict| verdict.behind_at_end = 1),
        ("publications duplicated", |verdict| verdict.duplicated = 1),
        ("publications reordered", |verdict| verdict.reordered = 1),
        ("histories forked", |verdict| verdict.forked = 1),
    ];
    for play in PLAYS {
        for (what, change) in found {
            breaks(play, what, Kind::Promise, |facts| change(&mut facts.crowd.verdict));
        }
        let mut facts = faithful();
        facts.crowd.verdict.lost_declared = 9;
        let lost = &rows(&settings(play), &facts)[0];
        assert_eq!((lost.measured.as_str(), lost.holds), ("0; 9 were declared lost", true));
    }
}

#[test]
fn what_witnesses_of_a_storm_lose_counts_too() {
    let storm = Play::Fault(Fault::Storm);
    breaks(storm, "publications lost silently", Kind::Promise, |facts| {
        facts.witnesses.as_mut().unwrap().verdict.lost_silent = 1;
    });
}

#[test]
fn a_run_in_which_nothing_happened_proves_nothing() {
    for play in PLAYS {
        breaks(play, "something to judge", Kind::Promise, |facts| facts.publish.acknowledged = 0);
        breaks(play, "something to judge", Kind::Promise, |facts| facts.crowd.unrecorded = 1);
    }
    assert!(!passes(&rows(&settings(Play::Roll), &Facts::default()), false));
}

#[test]
fn who_does_not_come_back_breaks_a_promise() {
    for play in PLAYS {
        breaks(play, "clients live at the end", Kind::Promise, |facts| facts.crowd.live_at_end = 299);
    }
}

#[test]
fn a_connection_without_a_close_frame_breaks_a_roll_and_no_death() {
    let lost = |facts: &mut Facts| facts.crowd.closed.push(closing(millis(12_100), None));
    breaks(Play::Roll, "connections lost without a close frame", Kind::Promise, lost);
    holds(Play::Fault(Fault::KillNode), lost);
    holds(Play::Fault(Fault::Storm), lost);
    holds(Play::Roll, |facts| facts.crowd.closed.push(closing(millis(12_100), Some(3001))));
}

#[test]
fn an_outage_of_redis_closes_nobody() {
    for fault in [Fault::RedisRestart, Fault::RedisStop, Fault::PubsubKill] {
        breaks(Play::Fault(fault), "connections closed", Kind::Promise, |facts| {
            facts.crowd.closed.push(closing(seconds(13), Some(3001)));
        });
    }
}

#[test]
fn a_back_end_that_fails_after_its_retry_breaks_a_roll() {
    let what = "publish errors after one retry";
    breaks(Play::Roll, what, Kind::Promise, |facts| facts.publish.failed_after_one_retry = 1);
    breaks(Play::Roll, what, Kind::Promise, |facts| facts.publish.skipped = 1);
    holds(Play::Roll, |facts| facts.publish.retries = 50);
    let restart = Play::Fault(Fault::RedisRestart);
    holds(restart, |facts| facts.publish.failed_after_one_retry = 50);
    breaks(restart, "publications never acknowledged", Kind::Promise, |facts| {
        facts.publish.unacknowledged = 1;
    });
}

#[test]
fn a_command_that_fails_breaks_a_roll() {
    let what = "commands of clients that failed";
    breaks(Play::Roll, what, Kind::Promise, |facts| facts.crowd.failures_total = 1);
}

#[test]
fn every_node_ends_with_code_0() {
    let what = "exit codes of nodes";
    breaks(Play::Roll, what, Kind::Promise, |facts| facts.ends[1].code = Some(1));
    breaks(Play::Roll, what, Kind::Promise, |facts| facts.ends[1].code = None);
    breaks(Play::Roll, what, Kind::Promise, |facts| drop(facts.ends.pop()));
}

#[test]
fn a_tenth_of_the_clients_may_come_back_twice_and_not_more() {
    let returns = |twice: usize| {
        move |facts: &mut Facts| {
            // Spread out, so that no second is busy.
            let at = |index: usize| millis(10_000 + 100 * index as u64);
            let all = (0..300).map(|client| return_of(client, at(client)));
            let again = (0..twice).map(|client| return_of(client, at(client + 300)));
            facts.crowd.opened = all.chain(again).collect();
        }
    };
    holds(Play::Roll, returns(30));
    breaks(Play::Roll, "reconnects beyond one of each client", Kind::Promise, returns(31));
}

#[test]
fn nodes_end_up_within_a_tenth_of_the_mean() {
    let counts = |counts: [u64; 3]| {
        move |facts: &mut Facts| {
            facts.connections_at_end = counts.map(|count| (String::from("a"), count)).into();
        }
    };
    holds(Play::Roll, counts([90, 100, 110]));
    let what = "connections of nodes at the end";
    breaks(Play::Roll, what, Kind::Promise, counts([89, 100, 111]));
    breaks(Play::Roll, what, Kind::Promise, |facts| facts.connections_at_end.clear());
}

#[test]
fn the_busiest_second_may_have_half_more_than_a_perfect_pace_and_twenty() {
    // 1.5 × 100 ÷ 20 + 20 = 27.5; from the middle of one second to the middle of the next.
    let returns = |count: usize| {
        move |facts: &mut Facts| {
            let at = |index: usize| millis(12_500 + 900 * index as u64 / count as u64);
            facts.crowd.opened = (0..count).map(|index| return_of(index, at(index))).collect();
        }
    };
    holds(Play::Roll, returns(27));
    breaks(Play::Roll, "reconnects in the busiest second", Kind::Figure, returns(28));
}

#[test]
fn a_run_of_less_than_a_second_has_a_busiest_second_too() {
    assert_eq!(busiest(&[1, 2]), 3);
    assert_eq!(busiest(&[]), 0);
}

#[test]
fn who_stays_may_wait_half_longer_than_in_the_calm_time() {
    let what = "p99 delay to clients that stay, against calm";
    holds(Play::Roll, |facts| facts.crowd.delays = delays_of(100, 150));
    breaks(Play::Roll, what, Kind::Figure, |facts| facts.crowd.delays = delays_of(100, 152));
    breaks(Play::Roll, what, Kind::Figure, |facts| facts.calm = facts.trouble_before());
}

impl Facts {
    /// A time of which nothing is known.
    fn trouble_before(&self) -> Span {
        Span { from: self.trouble.until, until: self.trouble.until }
    }
}

#[test]
fn who_stays_in_a_storm_may_wait_three_times_as_long() {
    let storm = Play::Fault(Fault::Storm);
    let delays =
        |facts: &mut Facts, trouble| facts.witnesses.as_mut().unwrap().delays = delays_of(100, trouble);
    holds(storm, |facts| delays(facts, 298)); // Two digits are kept.
    let what = "p99 delay to clients that stay, against calm";
    breaks(storm, what, Kind::Figure, |facts| delays(facts, 304));
    breaks(storm, what, Kind::Figure, |facts| facts.witnesses = None);
}

#[test]
fn a_client_may_be_away_for_a_second_beyond_its_own_waiting() {
    let what = "p99 blackout beyond a client's own back-off";
    holds(Play::Roll, |facts| facts.crowd.blackouts = vec![away(millis(1700), millis(700)); 100]);
    let slow = away(millis(1701), millis(700));
    holds(Play::Roll, |facts| {
        facts.crowd.blackouts = vec![away(millis(800), millis(700)); 99];
        facts.crowd.blackouts.push(slow);
    });
    breaks(Play::Roll, what, Kind::Figure, |facts| facts.crowd.blackouts = vec![slow; 2]);
    breaks(Play::Roll, what, Kind::Figure, |facts| facts.crowd.blackouts.clear());
}

#[test]
fn a_node_ends_within_a_second_of_its_last_connection() {
    let what = "exit of a node after its last connection";
    holds(Play::Roll, |facts| {
        facts.ends[1] = end(seconds(14), millis(1900), Some(0));
        facts.crowd.closed.push(closing(millis(14_900), Some(3001)));
    });
    breaks(Play::Roll, what, Kind::Figure, |facts| {
        facts.ends[1] = end(seconds(14), millis(1901), Some(0));
        facts.crowd.closed.push(closing(millis(14_900), Some(3001)));
    });
    breaks(Play::Roll, what, Kind::Figure, |facts| facts.ends[1] = end(seconds(14), millis(1001), Some(0)));
}

#[test]
fn nobody_is_present_who_is_not_there_and_nobody_leaves_twice() {
    let kill = Play::Fault(Fault::KillNode);
    let what = "presence 30 s after the death of a node";
    breaks(kill, what, Kind::Promise, |facts| facts.presence.as_mut().unwrap().ghosts = 1);
    breaks(kill, what, Kind::Promise, |facts| facts.presence.as_mut().unwrap().missing = 1);
    breaks(kill, what, Kind::Promise, |facts| facts.presence = None);
    breaks(kill, "leaves sent twice", Kind::Promise, |facts| facts.crowd.notices.leaves_twice = 1);
}

#[test]
fn publishing_resumes_within_three_seconds_of_the_return_of_redis() {
    let stop = Play::Fault(Fault::RedisStop);
    let what = "publishing resumes after the return of Redis";
    let outage = |until: Option<Duration>| {
        move |facts: &mut Facts| facts.publish.outages.push(Outage { from: seconds(11), until })
    };
    holds(stop, outage(Some(seconds(15))));
    breaks(stop, what, Kind::Figure, outage(Some(millis(15_001))));
    breaks(stop, what, Kind::Figure, outage(None));
    breaks(stop, what, Kind::Figure, |facts| facts.healed_at = None);
}

#[test]
fn who_is_refused_is_told_when_to_come_again() {
    let storm = Play::Fault(Fault::Storm);
    let refused = |status, retry_after| {
        move |facts: &mut Facts| {
            facts.crowd.refused.push(Refused { at: seconds(13), client: 1, status, retry_after });
        }
    };
    holds(storm, refused(Some(503), Some(2)));
    breaks(storm, "refused without Retry-After", Kind::Promise, refused(Some(503), None));
    breaks(storm, "refused without Retry-After", Kind::Promise, refused(None, None));
}

#[test]
fn figures_decide_only_for_who_is_strict() {
    let row = |kind, holds| Row { what: "", measured: String::new(), reach: String::new(), kind, holds };
    let good = [row(Kind::Promise, true), row(Kind::Figure, true)];
    assert!(passes(&good, true));
    let slow = [row(Kind::Promise, true), row(Kind::Figure, false)];
    assert!(passes(&slow, false) && !passes(&slow, true));
    let broken = [row(Kind::Promise, false), row(Kind::Figure, true)];
    assert!(!passes(&broken, false));
}

#[test]
fn times_are_written_with_a_precision_that_fits() {
    assert_eq!(time(Duration::from_micros(850)), "0.8 ms");
    assert_eq!(time(millis(999)), "999.0 ms");
    assert_eq!(time(millis(1250)), "1.25 s");
}
