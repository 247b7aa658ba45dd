//! What was promised of a run, and whether it holds. No I/O, no clock: facts in, rows out.
//!
//! A **promise** is a matter of counts and decides always. A **figure** is a matter of time, which depends on the
//! machine: it is shown, and decides only for who asks for it.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::facts::{Facts, Span};
use super::settings::{Fault, Play, Settings};
use crate::findings::{CrowdFindings, Verdict};

/// One thing that is asked of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What is asked.
    pub what: &'static str,
    /// What came of it.
    pub measured: String,
    /// What it should be.
    pub reach: String,
    /// Whether it decides.
    pub kind: Kind,
    /// Whether it is as it should be.
    pub holds: bool,
}

/// What a row is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Decides always.
    Promise,
    /// Decides if asked to.
    Figure,
}

/// How much slower deliveries to others may be while nodes are replaced.
const DELAY_GROWTH_MAX: f64 = 1.5;
/// The same while everybody comes at once.
const STORM_GROWTH_MAX: f64 = 3.0;
/// How much more reconnects there may be in the busiest second than with a perfect pace.
const PACE_MAX: f64 = 1.5;
/// And on top of that, for whoever is busy for another reason.
const PACE_EXTRA: f64 = 20.0;
/// How long a client that is moved may be away beyond its own waiting.
const BLACKOUT_MAX: Duration = Duration::from_secs(1);
/// Reconnects beyond one of each client, as a share of clients.
const RECONNECTS_EXTRA_MAX: f64 = 0.10;
/// How far connections of a node may be from the mean.
const IMBALANCE_MAX: f64 = 0.10;
/// How long a node may live without a connection, once it is to end.
const EXIT_MAX: Duration = Duration::from_secs(1);
/// How long publishing may take to resume.
const RESUME_MAX: Duration = Duration::from_secs(3);

/// Everything that is asked of this run.
pub fn rows(settings: &Settings, facts: &Facts) -> Vec<Row> {
    let mut rows = delivery(facts).to_vec();
    rows.push(judged(facts));
    rows.push(all_back(facts));
    match settings.play {
        Play::Roll => rows.extend(roll(settings, facts)),
        Play::Fault(Fault::KillNode) => rows.extend(dead_node(facts)),
        Play::Fault(Fault::RedisRestart | Fault::RedisStop) => {
            rows.extend([unacknowledged(facts), closes(facts), resumed(facts)]);
        }
        Play::Fault(Fault::PubsubKill) => rows.extend([publish_errors(facts), closes(facts)]),
        Play::Fault(Fault::Storm) => rows.extend([refused_in_silence(facts), storm_delay(facts)]),
    }
    rows
}

/// Whether a run with these rows is a success; figures count if `strict`.
pub fn passes(rows: &[Row], strict: bool) -> bool {
    rows.iter().all(|row| row.holds || (row.kind == Kind::Figure && !strict))
}

fn delivery(facts: &Facts) -> [Row; 5] {
    let sum = |count: fn(&Verdict) -> u64| -> u64 { crowds(facts).map(|crowd| count(&crowd.verdict)).sum() };
    let lost = sum(|verdict| verdict.lost_silent);
    let declared = sum(|verdict| verdict.lost_declared);
    let measured =
        if declared == 0 { lost.to_string() } else { format!("{lost}; {declared} were declared lost") };
    [
        promise("publications lost silently", measured, "0", lost == 0),
        zero("publications duplicated", sum(|verdict| verdict.duplicated)),
        zero("publications reordered", sum(|verdict| verdict.reordered)),
        zero("histories forked", sum(|verdict| verdict.forked)),
        zero("clients without everything at the end", sum(|verdict| verdict.behind_at_end)),
    ]
}

/// A run in which nothing was delivered breaks no promise, and proves none.
fn judged(facts: &Facts) -> Row {
    let delivered: u64 = delays(&facts.crowd).map(|second| second.len()).sum();
    let acknowledged = facts.publish.acknowledged;
    // Events for which there was no room are events that nobody judges.
    let unrecorded: u64 = crowds(facts).map(|crowd| crowd.unrecorded).sum();
    let measured =
        format!("{acknowledged} published, {delivered} live deliveries, {unrecorded} events missed");
    let holds = acknowledged > 0 && delivered > 0 && unrecorded == 0;
    promise("something to judge", measured, "some, some, 0", holds)
}

fn delays(crowd: &CrowdFindings) -> impl Iterator<Item = &hdrhistogram::Histogram<u64>> {
    crowd.delays.seconds.iter().map(|second| &second.micros)
}

fn all_back(facts: &Facts) -> Row {
    let CrowdFindings { live_at_end, clients, .. } = facts.crowd;
    let measured = format!("{live_at_end} of {clients}");
    promise("clients live at the end", measured, "all", live_at_end == clients)
}

fn roll(settings: &Settings, facts: &Facts) -> Vec<Row> {
    vec![
        abnormal_closes(facts),
        publish_errors(facts),
        failed_commands(facts),
        exit_codes(settings, facts),
        reconnects(facts),
        balance(facts),
        busiest_second(settings, facts),
        roll_delay(facts),
        blackout(facts),
        exit_times(facts),
    ]
}

fn dead_node(facts: &Facts) -> [Row; 3] {
    let (measured, holds) = match facts.presence {
        Some(check) => {
            (format!("{} ghosts, {} missing", check.ghosts, check.missing), check == Default::default())
        }
        None => ("not asked".into(), false),
    };
    [
        promise("presence 30 s after the death of a node", measured, "0, 0", holds),
        zero("leaves sent twice", facts.crowd.notices.leaves_twice),
        blackout(facts),
    ]
}

fn abnormal_closes(facts: &Facts) -> Row {
    let abnormal = facts.crowd.closed.iter().filter(|closing| matches!(closing.code, None | Some(1006)));
    zero("connections lost without a close frame", abnormal.count() as u64)
}

fn closes(facts: &Facts) -> Row {
    zero("connections closed", facts.crowd.closed.len() as u64)
}

fn publish_errors(facts: &Facts) -> Row {
    let publish = &facts.publish;
    let measured =
        format!("{} of {}, {} never tried", publish.failed_after_one_retry, publish.sent, publish.skipped);
    let holds = publish.failed_after_one_retry == 0 && publish.skipped == 0;
    promise("publish errors after one retry", measured, "0", holds)
}

fn unacknowledged(facts: &Facts) -> Row {
    zero("publications never acknowledged", facts.publish.unacknowledged + facts.publish.skipped)
}

fn failed_commands(facts: &Facts) -> Row {
    zero("commands of clients that failed", facts.crowd.failures_total)
}

fn exit_codes(settings: &Settings, facts: &Facts) -> Row {
    let code = |code: Option<i32>| code.map_or_else(|| "killed".into(), |code| code.to_string());
    let codes: Vec<String> = facts.ends.iter().map(|end| code(end.code)).collect();
    let holds = facts.ends.len() == settings.nodes && facts.ends.iter().all(|end| end.code == Some(0));
    promise("exit codes of nodes", codes.join(", "), "0", holds)
}

fn reconnects(facts: &Facts) -> Row {
    let mut per_client = HashMap::<usize, u64>::new();
    for opening in facts.crowd.opened.iter().filter(|opening| opening.was_return) {
        *per_client.entry(opening.client).or_default() += 1;
    }
    let extra: u64 = per_client.values().map(|returns| returns - 1).sum();
    let share = ratio(extra, facts.crowd.clients as u64);
    let measured = format!("{extra} ({})", percent(share));
    let reach = format!("≤ {} of clients", percent(RECONNECTS_EXTRA_MAX));
    promise("reconnects beyond one of each client", measured, reach, share <= RECONNECTS_EXTRA_MAX)
}

fn balance(facts: &Facts) -> Row {
    let counts: Vec<u64> = facts.connections_at_end.iter().map(|(_, count)| *count).collect();
    let mean = ratio(counts.iter().sum(), counts.len() as u64);
    let off = |count: &u64| (*count as f64 - mean).abs() / mean;
    let holds = mean > 0.0 && counts.iter().all(|count| off(count) <= IMBALANCE_MAX);
    let texts: Vec<String> = counts.iter().map(u64::to_string).collect();
    let reach = format!("mean ± {}", percent(IMBALANCE_MAX));
    promise("connections of nodes at the end", texts.join(", "), reach, holds)
}

fn busiest_second(settings: &Settings, facts: &Facts) -> Row {
    let busiest = busiest(&facts.crowd.returns_per_tenth());
    let window = settings.window.as_secs_f64().max(1.0);
    let reach = (PACE_MAX * settings.clients_per_node() / window + PACE_EXTRA).floor();
    let holds = f64::from(busiest) <= reach;
    figure("reconnects in the busiest second", busiest.to_string(), format!("≤ {reach}"), holds)
}

/// The most in any ten tenths of a second in a row.
fn busiest(per_tenth: &[u32]) -> u32 {
    let first = per_tenth.iter().take(10).sum();
    per_tenth.windows(10).map(|second| second.iter().sum()).max().unwrap_or(first)
}

fn roll_delay(facts: &Facts) -> Row {
    let what = "p99 delay to clients that stay, against calm";
    growth(what, &facts.crowd, facts, DELAY_GROWTH_MAX)
}

fn storm_delay(facts: &Facts) -> Row {
    let nobody = CrowdFindings::default();
    let witnesses = facts.witnesses.as_ref().unwrap_or(&nobody);
    growth("p99 delay to clients that stay, against calm", witnesses, facts, STORM_GROWTH_MAX)
}

fn growth(what: &'static str, crowd: &CrowdFindings, facts: &Facts, growth_max: f64) -> Row {
    let p99 = |span: Span| crowd.delays.between(span.from, span.until).value_at_quantile(0.99);
    let (calm, trouble) = (p99(facts.calm), p99(facts.trouble));
    // Without a delay in the calm time there is nothing to compare with.
    let holds = calm > 0 && ratio(trouble, calm) <= growth_max;
    let text = |micros: u64| time(Duration::from_micros(micros));
    let measured = format!("{} after {} ({:.2} ×)", text(trouble), text(calm), ratio(trouble, calm));
    figure(what, measured, format!("≤ {growth_max} ×"), holds)
}

fn blackout(facts: &Facts) -> Row {
    let mut beyond: Vec<Duration> = facts.crowd.blackouts.iter().map(|away| away.beyond_backoff()).collect();
    beyond.sort_unstable();
    let p99 = quantile(&beyond, 0.99);
    let measured = p99.map_or_else(|| "nobody was away".into(), time);
    let holds = p99.is_some_and(|p99| p99 <= BLACKOUT_MAX);
    figure(
        "p99 blackout beyond a client's own back-off",
        measured,
        format!("≤ {}", time(BLACKOUT_MAX)),
        holds,
    )
}

/// The smallest of `sorted` that at least this share of them does not exceed; `None` if there are none.
fn quantile(sorted: &[Duration], share: f64) -> Option<Duration> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

fn exit_times(facts: &Facts) -> Row {
    let times: Vec<Duration> =
        facts.ends.iter().map(|end| end.ended_at - last_connection(facts, end)).collect();
    let slowest = times.into_iter().max();
    let holds = slowest.is_some_and(|slowest| slowest <= EXIT_MAX);
    let measured = slowest.map_or_else(|| "no node ended".into(), time);
    figure("exit of a node after its last connection", measured, format!("≤ {}", time(EXIT_MAX)), holds)
}

/// When the last connection of a node closed, or when it was told to end, if it had none. Nodes end one after another,
/// so whoever is closed meanwhile was there.
fn last_connection(facts: &Facts, end: &super::facts::NodeEnd) -> Duration {
    let dying = Span { from: end.told_at, until: end.ended_at };
    let closings = facts.crowd.closed.iter().map(|closing| closing.at).filter(|&at| dying.contains(at));
    closings.max().unwrap_or(end.told_at)
}

fn resumed(facts: &Facts) -> Row {
    let resumed = resumption(facts);
    let measured = resumed.map_or_else(|| "never".into(), time);
    let holds = resumed.is_some_and(|resumed| resumed <= RESUME_MAX);
    figure("publishing resumes after the return of Redis", measured, format!("≤ {}", time(RESUME_MAX)), holds)
}

/// How long after the return of what was away publications failed still; `None` if they do for ever.
fn resumption(facts: &Facts) -> Option<Duration> {
    let healed_at = facts.healed_at?;
    let outages = facts.publish.outages.iter();
    let late = outages.map(|outage| outage.until.map(|until| until.saturating_sub(healed_at)));
    late.collect::<Option<Vec<_>>>().map(|late| late.into_iter().max().unwrap_or_default())
}

fn refused_in_silence(facts: &Facts) -> Row {
    let refused = &facts.crowd.refused;
    let silent = refused.iter().filter(|refused| refused.retry_after.is_none()).count();
    let measured = format!("{silent} of {} refusals", refused.len());
    promise("refused without Retry-After", measured, "0", silent == 0)
}

/// Everybody who listened.
fn crowds(facts: &Facts) -> impl Iterator<Item = &CrowdFindings> {
    std::iter::once(&facts.crowd).chain(&facts.witnesses)
}

fn zero(what: &'static str, count: u64) -> Row {
    promise(what, count.to_string(), "0", count == 0)
}

fn promise(what: &'static str, measured: String, reach: impl Into<String>, holds: bool) -> Row {
    Row { what, measured, reach: reach.into(), kind: Kind::Promise, holds }
}

fn figure(what: &'static str, measured: String, reach: String, holds: bool) -> Row {
    Row { what, measured, reach, kind: Kind::Figure, holds }
}

/// 0 of nothing is 0.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A time in words, with a precision that fits it.
fn time(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1000.0)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests;
