//! What the gate on instruction counts makes of them: `benches/instructions/gate`, tested here because a bench without a
//! harness has no tests.

#[path = "../benches/instructions/gate/mod.rs"]
mod gate;

use std::error::Error as _;

use gate::baselines::{Baselines, BaselinesError, Machine, Toolchain};
use gate::counts::{self, Counts, CountsError};
use gate::verdict::{REFERENCE, Standing, Verdict, judge};
use serde_json::{Value, json};

const COMMITTED: &str = include_str!("../benches/instructions/baselines.json");

fn toolchain() -> Toolchain {
    Toolchain { rustc: "rustc 1.2.3".into(), target: "x86_64-linux-gnu".into() }
}

fn machine() -> Machine {
    Machine { valgrind: "valgrind-3.4.5".into(), libc: "glibc 2.3".into(), cc: "cc 4.5.6".into() }
}

fn counts<const N: usize>(counts: [(&str, u64); N]) -> Counts {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

fn baselines(instructions: Counts) -> Baselines {
    Baselines { reason: "a test".into(), toolchain: toolchain(), machine: machine(), instructions }
}

/// What the runner writes of a figure, or as much of it as is looked at.
fn summary(function: &str, instructions: &Value) -> Value {
    let parts = json!([{ "metrics": { "Ir": { "values": { "new": 1 } } } }]);
    let total = json!({ "metrics": { "Ir": { "values": { "new": instructions } }, "Dr": { "values": {} } } });
    json!({
        "version": "7",
        "function_name": function,
        "id": "a_hundred",
        "kind": "LibraryBenchmark",
        "profiles": [{ "tool": "Callgrind", "data": { "parts": parts, "total": total } }],
    })
}

/// How a count stands against a baseline.
fn standing(baseline: u64, count: u64) -> Standing {
    match judge(&baselines(counts([("a", baseline)])), &toolchain(), &machine(), &counts([("a", count)])) {
        Verdict::Judged(lines) => lines[0].standing(),
        other => panic!("{other}"),
    }
}

#[test]
fn every_figure_is_read_from_its_total() {
    let output = format!("{}\n\n{}\n", summary("decode_it", &json!(7)), summary("verify", &json!(u64::MAX)));
    let expected = counts([("decode it a hundred", 7), ("verify a hundred", u64::MAX)]);
    assert_eq!(counts::parse(&output).unwrap(), expected);
}

#[test]
fn a_run_before_does_not_matter() {
    let mut compared = summary("decode", &json!(7));
    let metric = &mut compared["profiles"][0]["data"]["total"]["metrics"]["Ir"];
    *metric =
        json!({ "values": { "new": 7, "old": 9 }, "change": { "diff_pct": "-22.2", "factor": "-1.3" } });
    assert_eq!(counts::parse(&compared.to_string()).unwrap(), counts([("decode a hundred", 7)]));
}

#[test]
fn output_that_is_no_count_is_refused_in_words() {
    let mut no_instructions = summary("decode", &json!(7));
    no_instructions["profiles"][0]["data"]["total"]["metrics"] = json!({});
    let mut other_tool = summary("decode", &json!(7));
    other_tool["profiles"][0]["tool"] = json!("DHAT");
    let mut next_version = summary("decode", &json!(7));
    next_version["version"] = json!("8");
    let twice = format!("{0}\n{0}", summary("decode", &json!(7)));
    let cases = [
        (String::new(), "nothing was counted"),
        ("\n \n".into(), "nothing was counted"),
        ("valgrind: not found".into(), "line 1 is no summary of gungraun"),
        ("{}".into(), "line 1 is no summary of gungraun"),
        (format!("{}\n{{", summary("a", &json!(7))), "line 2 is no summary of gungraun"),
        (no_instructions.to_string(), "there is no count of decode a hundred"),
        (other_tool.to_string(), "there is no count of decode a hundred"),
        (summary("decode", &json!(-1)).to_string(), "there is no count of decode a hundred"),
        (summary("decode", &json!(1.5)).to_string(), "there is no count of decode a hundred"),
        (summary("decode", &Value::Null).to_string(), "there is no count of decode a hundred"),
        (summary("decode", &json!(0)).to_string(), "decode a hundred took no instructions"),
        (next_version.to_string(), "the summary has version 8, and version 7 can be read"),
        (twice, "decode a hundred was counted twice"),
    ];
    for (output, expected) in cases {
        assert_eq!(counts::parse(&output).unwrap_err().to_string(), expected, "{output}");
    }
    let error = counts::parse("{").unwrap_err();
    assert!(matches!(error, CountsError::Malformed { line: 1, .. }) && error.source().is_some());
}

#[test]
fn of_several_runs_the_least_counts() {
    let runs = [counts([("a", 3), ("b", 5)]), counts([("a", 2), ("b", 6)]), counts([("a", 4), ("b", 5)])];
    assert_eq!(counts::least(runs), counts([("a", 2), ("b", 5)]));
}

#[test]
fn up_to_five_percent_either_way_is_good() {
    let standings = [(1000, 1000), (1000, 1050), (1000, 1051), (1000, 950), (1000, 949)]
        .map(|(baseline, count)| standing(baseline, count));
    let expected = [Standing::Good, Standing::Good, Standing::Over, Standing::Good, Standing::Under];
    assert_eq!(standings, expected);
    assert_eq!(standing(u64::MAX, u64::MAX), Standing::Good);
    assert_eq!(standing(1, u64::MAX), Standing::Over);
}

#[test]
fn more_fails_and_less_only_says_so() {
    let known = baselines(counts([("a", 1000), ("b", 1000)]));
    let verdict = |here| judge(&known, &toolchain(), &machine(), &here);
    let (over, under) =
        (verdict(counts([("a", 1100), ("b", 900)])), verdict(counts([("a", 1000), ("b", 900)])));
    assert!(over.is_failure() && !under.is_failure());
    assert!(over.is_over() && !under.is_over());
    let (over, under) = (over.to_string(), under.to_string());
    assert!(over.contains("+10.00 %  TOO MANY") && over.contains("-10.00 %  less"), "{over}");
    assert!(over.contains("make gate args='--bless") && under.contains("Keep what was gained"), "{under}");
    let good = verdict(counts([("a", 1000), ("b", 1000)]));
    assert!(!good.is_failure() && !good.to_string().contains("--bless"));
}

#[test]
fn a_figure_without_baseline_and_one_that_is_not_counted_fail() {
    let known = baselines(counts([("old", 1000)]));
    let verdict = judge(&known, &toolchain(), &machine(), &counts([("new", 1000)]));
    assert!(verdict.is_failure());
    let Verdict::Judged(lines) = &verdict else { panic!("{verdict}") };
    let standings: Vec<_> = lines.iter().map(|line| (line.name.as_str(), line.standing())).collect();
    assert_eq!(standings, [("new", Standing::Unknown), ("old", Standing::Gone)]);
    for here in [counts([("old", 1000), ("new", 1000)]), counts([])] {
        let verdict = judge(&known, &toolchain(), &machine(), &here);
        assert!(verdict.is_failure() && !verdict.is_over(), "{here:?}");
    }
    let text = verdict.to_string();
    assert!(text.contains("NO BASELINE") && text.contains("NOT COUNTED"), "{text}");
}

#[test]
fn baselines_of_another_toolchain_fail_and_say_what_to_do() {
    let known = baselines(counts([("a", 1000), (REFERENCE, 1000)]));
    let here = known.instructions.clone();
    let others = [
        Toolchain { rustc: "rustc 1.2.4".into(), ..toolchain() },
        Toolchain { target: "aarch64-linux-gnu".into(), ..toolchain() },
    ];
    for other in others {
        let verdict = judge(&known, &other, &machine(), &here);
        assert!(verdict.is_failure());
        let text = verdict.to_string();
        assert!(
            text.contains("rustc 1.2.3 for x86_64-linux-gnu") && text.contains(&other.to_string()),
            "{text}"
        );
        assert!(text.contains("make gate args='--bless"), "{text}");
    }
}

#[test]
fn another_machine_is_judged_if_the_reference_agrees() {
    let known = baselines(counts([("a", 1000), (REFERENCE, 1000)]));
    let other = Machine { libc: "glibc 2.4".into(), ..machine() };
    let verdict = |machine, reference: u64| {
        judge(&known, &toolchain(), machine, &counts([("a", 2000), (REFERENCE, reference)]))
    };
    for reference in [990, 1000, 1010] {
        assert!(verdict(&other, reference).is_failure(), "{reference}");
    }
    for reference in [989, 1011] {
        let verdict = verdict(&other, reference);
        assert!(!verdict.is_failure());
        let text = verdict.to_string();
        assert!(
            text.starts_with("NOT RUN") && text.contains("glibc 2.3") && text.contains("glibc 2.4"),
            "{text}"
        );
    }
    // The same machine: then it is our doing, by a dependency, say.
    assert!(verdict(&machine(), 1011).is_failure());
    let none = judge(&known, &toolchain(), &other, &counts([("a", 2000)]));
    assert!(matches!(none, Verdict::OtherMachine { .. }));
}

#[test]
fn baselines_are_read_as_they_are_written() {
    let written = baselines(counts([("a", 1000), (REFERENCE, u64::MAX)]));
    assert_eq!(Baselines::parse(&written.to_json()).unwrap(), written);
}

#[test]
fn baselines_that_are_none_are_refused() {
    let good: Value = serde_json::from_str(&baselines(counts([("a", 1000)])).to_json()).unwrap();
    let with = |pointer: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        bad.to_string()
    };
    let mut unknown = good.clone();
    unknown["tolerance"] = json!(50);
    let malformed = [
        String::new(),
        "<<<<<<< HEAD".into(),
        "{}".into(),
        unknown.to_string(),
        with("/toolchain", Value::Null),
        with("/machine/libc", json!(2)),
        with("/instructions/a", json!(-1)),
        with("/instructions/a", json!("1000")),
    ];
    for text in malformed {
        assert!(matches!(Baselines::parse(&text), Err(BaselinesError::Malformed(_))), "{text}");
    }
    let zero = Baselines::parse(&with("/instructions/a", json!(0))).unwrap_err();
    assert_eq!(zero.to_string(), "the baseline of a is zero");
}

#[test]
fn the_committed_baselines_are_of_the_pinned_toolchain_and_give_a_reason() {
    let committed = Baselines::parse(COMMITTED).unwrap();
    let pinned = include_str!("../../rust-toolchain.toml");
    let version = committed.toolchain.rustc.split_whitespace().nth(1).unwrap();
    assert!(pinned.contains(&format!("channel = \"{version}\"")), "{version} is not what is pinned");
    assert!(!committed.reason.trim().is_empty());
    assert!(committed.instructions.contains_key(REFERENCE));
    assert_eq!(committed.to_json(), COMMITTED, "written by `make gate`, not by hand");
}
