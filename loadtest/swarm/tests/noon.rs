//! The whole of `swarm noon`, in small: a faithful gateway passes, and whatever is planted is found in its row.
//!
//! `make noon-small` runs this. It needs `redis-server`, `haproxy` (`loadtest/install.sh`) and a gateway: where
//! `CLARION_BIN` says, or beside `swarm`.

#![expect(clippy::unwrap_used, reason = "what does not work here fails the test, as it should")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A small run with these further arguments. What it leaves behind if it fails is in `directory`.
fn noon(directory: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarm"));
    command.args(["noon", "--short"]).args(arguments).env("TMPDIR", directory.path());
    command
}

/// Plays a run to its end; answers with its exit code and what it says in JSON.
fn play(arguments: &[&str]) -> (Option<i32>, Value) {
    let directory = tempfile::tempdir().unwrap();
    let output = noon(&directory, arguments).args(["--output", "json"]).output().unwrap();
    let Output { status, stdout, stderr } = output;
    let errors = String::from_utf8_lossy(&stderr);
    let report = serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {errors}"));
    (status.code(), report)
}

/// The promises that do not hold.
fn broken(report: &Value) -> Vec<&str> {
    let rows = report["rows"].as_array().unwrap().iter();
    let broken = rows.filter(|row| row["kind"] == "promise" && row["holds"] == false);
    broken.map(|row| row["what"].as_str().unwrap()).collect()
}

/// Asserts that a run with this planted fails, and that this row is the reason or one of them.
#[track_caller]
fn is_found(plant: &str, row: &str) {
    let (code, report) = play(&["--plant", plant, "--nodes", "2", "--window", "1s"]);
    let broken = broken(&report);
    assert!(broken.contains(&row), "{broken:?}");
    assert_eq!(code, Some(1));
    assert_eq!(report["passed"], false);
}

#[test]
fn a_faithful_gateway_keeps_every_promise_and_the_page_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("noon.html");
    let (code, report) = play(&["--report", page.to_str().unwrap()]);
    assert_eq!(broken(&report), [""; 0], "{:#}", report["facts"]["crowd"]["verdict"]);
    assert_eq!(code, Some(0));
    let facts = &report["facts"];
    assert_eq!(facts["ends"].as_array().unwrap().len(), 3, "every node was replaced");
    assert!(facts["crowd"]["notices"]["recovered"].as_u64().unwrap() >= 300, "everybody was moved");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("Every promise holds") && page.contains("</html>"));
}

#[test]
fn nodes_that_do_not_know_of_each_other_lose_publications() {
    is_found("islands", "publications lost silently");
}

#[test]
fn clients_that_do_not_recover_lose_publications() {
    is_found("forget", "publications lost silently");
}

#[test]
fn a_publication_that_is_shown_twice_is_a_duplicate() {
    is_found("repeat", "publications duplicated");
}

#[test]
fn an_interrupted_run_leaves_no_process_behind() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = noon(&directory, &[]).stderr(Stdio::piped()).spawn().unwrap();
    await_word(&mut run, "calm");
    let children = children(run.id());
    assert_eq!(children.len(), 5, "Redis, the load balancer and three nodes");
    assert!(Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap().success());
    assert_eq!(run.wait().unwrap().code(), Some(1));
    let left: Vec<&PathBuf> = children.iter().filter(|process| process.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "and no file");
}

/// Waits until a run says `word`.
fn await_word(run: &mut Child, word: &str) {
    use std::io::{BufRead as _, BufReader};
    let mut lines = BufReader::new(run.stderr.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(word)), "it ended before it said {word}");
}

/// The processes that `parent` has started, as directories of `/proc`.
fn children(parent: u32) -> Vec<PathBuf> {
    let is_child = |process: &Path| {
        let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{parent}"))
    };
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    processes.filter(|process| is_child(process)).collect()
}

#[test]
fn what_is_missing_or_wrong_is_said_with_code_2() {
    let directory = tempfile::tempdir().unwrap();
    let failure = |arguments: &[&str]| {
        let output = noon(&directory, arguments).env_remove("CLARION_BIN").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let said = failure(&["--gateway", "/nowhere/clarion"]);
    assert!(said.contains("/nowhere/clarion") && said.contains("cargo build"), "{said}");
    let said = failure(&["--clients", "0"]);
    assert!(said.contains("--clients"), "{said}");
    let said = failure(&["--channels", "400"]);
    assert!(said.contains("--channels 400"), "{said}");
}
