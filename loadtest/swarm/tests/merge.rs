//! `swarm merge` as it is used: files and standard input in, a table, JSON and a page out, and exit codes.

#![expect(clippy::unwrap_used, reason = "what does not work here fails the test, as it should")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use swarm::outcome::distribution::Distribution;
use swarm::outcome::{Outcome, file};
use tempfile::TempDir;

/// What one process found: so many deliveries, each in so many microseconds.
fn found(deliveries: u64, micros: u64, lost: u64) -> String {
    let mut outcome = Outcome::new("fan", "9 clients on 1 channel", "swarm fan --clients 9");
    outcome.counts.insert("deliveries".into(), deliveries);
    outcome.verdict.lost = lost;
    let mut delay = Distribution::of_times();
    (0..deliveries).for_each(|_| delay.record(micros));
    outcome.distributions.insert("delay".into(), delay);
    serde_json::to_string(&outcome).unwrap() + "\n"
}

fn written(directory: &TempDir, name: &str, text: &str) -> String {
    let file = directory.path().join(name);
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn merge(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarm"));
    command.arg("merge").args(arguments);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut merge = pipes.spawn().unwrap();
    // It may have found something wrong before it reads.
    let _ = merge.stdin.take().unwrap().write_all(input.as_bytes());
    merge.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn files_become_one_table_and_one_page() {
    let directory = tempfile::tempdir().unwrap();
    let files = [found(990, 100, 0), found(10, 5000, 0)];
    let files = [written(&directory, "a.json", &files[0]), written(&directory, "b.json", &files[1])];
    let page = directory.path().join("both.html");
    let output = merge(&[&files[0], &files[1], "--report", page.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("each of 2 processes: 9 clients on 1 channel"), "{table}");
    assert!(table.lines().any(|line| line.starts_with("deliveries") && line.ends_with("1,000")), "{table}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("each of 2 processes") && page.ends_with("</html>\n"));
}

#[test]
fn the_logs_of_a_job_are_merged_and_can_be_merged_again() {
    let log = format!("a line of somebody else\n{}{}", found(990, 100, 0), found(10, 5000, 0));
    let output = merge(&["-", "--output", "json"], &log);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let merged = file::parse(text(&output.stdout)).unwrap().remove(0);
    assert_eq!((merged.processes, merged.counts["deliveries"]), (2, 1000));
    assert_eq!(merged.distributions["delay"].quantile(0.99), 100);
    assert_eq!(merged.distributions["delay"].quantile(0.991) / 1000, 5);
    let again = merge(&["-", "--output", "json"], &(text(&output.stdout).to_owned() + &found(1, 1, 0)));
    assert_eq!(file::parse(text(&again.stdout)).unwrap()[0].processes, 3);
}

#[test]
fn what_one_process_lost_fails_the_whole() {
    let output = merge(&["-"], &(found(9, 1, 0) + &found(9, 1, 2)));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).ends_with("Not everything is as it must be: publications lost 2.\n"));
}

#[test]
fn what_is_wrong_is_said_with_the_name_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let whole = written(&directory, "a.json", &found(9, 1, 0));
    let cut = written(&directory, "cut.json", &found(9, 1, 0)[..300]);
    let said = |arguments: &[&str], code: i32| {
        let output = merge(arguments, "");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        text(&output.stderr).to_owned()
    };
    let error = said(&[&whole, &cut], 1);
    assert!(error.contains("cut.json: line 1: it is cut off"), "{error}");
    let missing = directory.path().join("missing.json");
    let error = said(&[&whole, missing.to_str().unwrap()], 1);
    assert!(error.contains("missing.json"), "{error}");
    let error = said(&["-"], 1);
    assert!(error.contains("it is empty"), "{error}");
    assert!(!Path::new("both.pdf").exists());
    assert!(said(&[&whole, "--report", "both.pdf"], 2).contains("--report both.pdf"));
    assert!(said(&[], 2).contains("FILE.json"));
}

#[test]
fn a_process_that_is_missing_and_one_that_counts_twice_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (found(9, 1, 0), found(8, 1, 0));
    let files = [written(&directory, "a.json", &one), written(&directory, "b.json", &two)];
    assert_eq!(merge(&[&files[0], &files[1], "--processes", "2"], "").status.code(), Some(0));
    for (arguments, word) in [
        ([&files[0], &files[1], "--processes", "3"], "--processes 3: what was read is of 2"),
        ([&files[0], &files[0], "--processes", "2"], "a.json: this was read before"),
    ] {
        let output = merge(&arguments, "");
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(word), "{}", text(&output.stderr));
    }
}
