//! The shape of the gateway, checked on its source text: who may use whom, and where each crate is at home.
//!
//! A text is read with its comments and literals blanked. Two habits of the code keep that enough, and are
//! checked too: a layer is named right after `crate::`, and imports do not group layers.

#![expect(clippy::unwrap_used, reason = "an expression that does not compile fails the test, as it should")]

use std::collections::HashSet;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

/// From the top down: a layer may use those below it. Layers side by side do not know each other.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["app"],
    &["server"],
    &["transport"],
    &["shard"],
    &["protocol"],
    &["node"],
    &["cluster"],
    &["auth"],
    &["broker", "presence"],
    &["redis"],
    &["tls"],
    &["wire"],
    // Leaves: anyone may use them.
    &["telemetry"],
    &["metrics"],
    &["config"],
    &["model"],
];

/// External crates, and the folders and files under `src` that may use them.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["server", "transport"]),
    ("hyper", &["server", "transport"]),
    ("hyper_util", &["server", "transport"]),
    ("redis", &["redis"]),
    ("deadpool_redis", &["redis"]),
    ("rustls", &["redis", "telemetry", "tls", "shard/socket", "config/tls", "cli/protected"]),
    ("rustls_native_certs", &["telemetry", "tls"]),
    ("tokio_rustls", &["tls", "server/accept", "transport/websocket/upgrade"]),
    ("x509_parser", &["config/tls"]),
    ("ureq", &["cli", "telemetry"]),
    ("jsonwebtoken", &["auth"]),
    ("procfs", &["metrics"]),
    ("pprof", &["telemetry"]),
    ("prometheus", &["metrics"]),
    (
        "prost",
        &[
            "protocol/centrifuge/codec/protobuf",
            "broker/redis/envelope",
            "presence/redis",
            "cluster/codec",
            "telemetry/profile",
        ],
    ),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_http", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("tracing_appender", &["telemetry"]),
    ("rustix", &["shard", "transport"]),
    ("anyhow", &["cli", "main"]),
    ("clap", &["cli", "main"]),
    ("config", &["config"]),
    ("toml", &["config"]),
    ("yaml_rust2", &["config"]),
];

/// What the code does without, and what it has instead.
const FORBIDDEN: &[(&str, &str)] =
    &[("unbounded_channel", "every queue has a limit"), ("unsafe", "safe code will do")];

/// Comments, strings and characters. A lifetime is none of them.
static NO_CODE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?s)//[^\n]*|/\*.*?\*/",
        r####"|\bb?r"[^"]*"|\bb?r#".*?"#|\bb?r##".*?"##|\bb?r###".*?"###"####,
        r#"|"(?:\\.|[^"\\])*"|'(?:\\.[^']*|[^'\\])'"#,
    ))
    .unwrap()
});

/// A module of the crate named from its root; `clarion` is how `main` names it.
static FROM_ROOT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b(?:crate|clarion)::(\w+|\{)").unwrap());

/// A module named from above.
static FROM_ABOVE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b((?:super::)+)(\w+)").unwrap());

/// Where a path begins with something that may be a crate: after `use`, absolute, or in the code.
static PATH_START: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"\buse (?<absolute>::)?(?<name>\w+)|(?:^|[^\w:>])::(?<root>\w+)|(?:^|[^\w:.])(?<first>\w+)(?:::|!)",
    )
    .unwrap()
});

/// A path to something of ours, or a module's declaration.
static OURS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(?:crate|super|self)(?:::\w+)+|\bmod \w+").unwrap());

static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\w+").unwrap());

/// One file under `src`.
struct Source<'a> {
    /// As `shard/hub` for `src/shard/hub.rs`.
    module: &'a str,
    /// Its text without comments and literals, of the same number of lines.
    code: String,
}

impl<'a> Source<'a> {
    fn new(path: &'a str, text: &str) -> Self {
        let module = path.strip_suffix(".rs").unwrap_or(path);
        let module = module.strip_suffix("/mod").unwrap_or(module);
        let blank = |found: &regex::Captures<'_>| format!(" {}", "\n".repeat(found[0].matches('\n').count()));
        Self { module, code: NO_CODE.replace_all(text, blank).into_owned() }
    }

    /// Everything in it that breaks a rule, with its line.
    fn violations(&self) -> Vec<String> {
        let mut violations = self.layer_violations();
        for (range, name) in self.crates_used() {
            let home = HOMES.iter().find(|(known, _)| *known == name);
            if home.is_some_and(|(_, homes)| !homes.iter().any(|home| self.is_in(home))) {
                violations.push(self.at(&range, &format!("{name} is not at home here")));
            }
        }
        for word in WORD.find_iter(&self.code) {
            let forbidden = FORBIDDEN.iter().find(|(forbidden, _)| *forbidden == word.as_str());
            violations.extend(forbidden.map(|(_, instead)| self.at(&word.range(), instead)));
        }
        violations
    }

    fn layer_violations(&self) -> Vec<String> {
        if self.module == "lib" {
            return Vec::new();
        }
        let Some(own) = rank(self.layer()) else {
            return vec![format!("src/{}: `{}` is no layer", self.module, self.layer())];
        };
        let is_allowed = |name: &str| name == self.layer() || rank(name).is_some_and(|rank| rank > own);
        let uses = self.layers_used().into_iter().filter(|(_, name)| !is_allowed(name));
        uses.map(|(range, name)| self.at(&range, &format!("`{}` must not use `{name}`", self.layer())))
            .collect()
    }

    /// The modules of the crate's root that are named in it.
    fn layers_used(&self) -> Vec<(Range<usize>, &str)> {
        let depth = self.module.split('/').count();
        let from_root = FROM_ROOT.captures_iter(&self.code);
        let from_root = from_root.map(|found| found.get(1).expect("it is not optional"));
        let from_above = FROM_ABOVE.captures_iter(&self.code);
        let from_above = from_above.filter(|found| found[1].matches("super").count() >= depth);
        // In a module inside of the file the same path ends lower, at something that is no layer.
        let from_above = from_above.map(|found| found.get(2).expect("it is not optional"));
        let from_above = from_above.filter(|found| rank(found.as_str()).is_some());
        from_root.chain(from_above).map(|found| (found.range(), found.as_str())).collect()
    }

    /// The external crates that are named in it, and much else. A module of ours may have the same name.
    fn crates_used(&self) -> Vec<(Range<usize>, &str)> {
        let ours = OURS.find_iter(&self.code).flat_map(|found| found.as_str().split([':', ' ']));
        let ours: HashSet<_> = ours.collect();
        let mut used = Vec::new();
        for found in PATH_START.captures_iter(&self.code) {
            let is_absolute = found.name("absolute").or(found.name("root")).is_some();
            let name = found.name("name").or(found.name("root")).or(found.name("first"));
            let name = name.expect("each branch has a name");
            if is_absolute || !ours.contains(name.as_str()) {
                used.push((name.range(), name.as_str()));
            }
        }
        used
    }

    fn layer(&self) -> &str {
        self.module.split('/').next().unwrap_or_default()
    }

    fn is_in(&self, home: &str) -> bool {
        self.module.strip_prefix(home).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn at(&self, range: &Range<usize>, message: &str) -> String {
        let line = self.code[..range.end].matches('\n').count() + 1;
        format!("src/{}, line {line}: {message}", self.module)
    }
}

/// How far from the top a layer is; `None` for what is no layer.
fn rank(name: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.contains(&name))
}

/// The path below `root` and the text of every Rust file there.
fn rust_files(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn the_gateway_keeps_its_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &root, &mut files);
    assert!(files.iter().any(|(path, _)| path == "shard/hub.rs"), "{} files", files.len());
    let violations = files.iter().flat_map(|(path, text)| Source::new(path, text).violations());
    let violations: Vec<_> = violations.collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn what_reaches_upward_is_found() {
    for (path, text, found) in [
        ("model/channel.rs", "use crate::config::Config;", "line 1: `model` must not use `config`"),
        ("node/mod.rs", "\n\nfn f(_: &crate::shard::Shard) {}", "line 3: `node` must not use `shard`"),
        ("broker/redis.rs", "use crate::presence::Presence;", "line 1: `broker` must not use `presence`"),
        ("metrics.rs", "pub(crate) use crate::node::Node;", "line 1: `metrics` must not use `node`"),
        ("node/mod.rs", "use super::shard::Shard;", "line 1: `node` must not use `shard`"),
        ("node/inbox.rs", "use super::super::shard::Shard;", "line 1: `node` must not use `shard`"),
        ("cli/mod.rs", "use crate::{app, server};", "line 1: `cli` must not use `{`"),
        ("shard/mod.rs", "use crate::utils::twice;", "line 1: `shard` must not use `utils`"),
        ("utils.rs", "", "`utils` is no layer"),
    ] {
        let violations = Source::new(path, text).violations();
        assert_eq!(violations.len(), 1, "{path}: {violations:?}");
        assert!(violations[0].ends_with(found), "{violations:?}");
    }
}

#[test]
fn a_crate_far_from_home_is_found() {
    for (path, text) in [
        ("shard/mod.rs", "use axum::Router;"),
        ("node/mod.rs", "fn f() -> redis::RedisResult<()> { Ok(()) }"),
        ("broker/redis.rs", "use crate::redis::Pool; fn f(_: ::redis::Value) {}"),
        ("auth/mod.rs", "use ::config::File;"),
        ("auth/mod.rs", "use config::File;"),
        ("server/ops.rs", "use rustix::io::Errno;"),
        ("app/mod.rs", "fn f() { anyhow::bail!(1) }"),
        ("shard/mod.rs", "type G = std::vec::Vec<prometheus::Gauge>;"),
    ] {
        let violations = Source::new(path, text).violations();
        assert_eq!(violations.len(), 1, "{path}: {text}: {violations:?}");
        assert!(violations[0].ends_with("is not at home here"), "{violations:?}");
    }
}

#[test]
fn a_queue_without_a_limit_and_unsafe_code_are_found() {
    for text in ["let (tx, rx) = mpsc::unbounded_channel();", "let x = unsafe { y() };"] {
        assert_eq!(Source::new("node/mod.rs", text).violations().len(), 1, "{text}");
    }
}

#[test]
fn what_is_allowed_is_not_found() {
    let text = r##"
        //! Not `unsafe`, and no crate::shard::Shard.
        use std::collections::HashMap; // crate::server
        use super::hub::Hub;
        use crate::redis::{self, Pool};
        use crate::config::Config;
        #![forbid(unsafe_code)]
        /* use axum::Router; /* */
        const A: &str = "crate::shard \" unsafe"; const B: &str = r#"axum::"#; const C: char = '"';
        fn f<'a>(_: &'a redis::Pool, _: &'a Config, _: config::Broker) -> self::config::X {}
    "##;
    assert_eq!(Source::new("broker/redis.rs", text).violations(), Vec::<String>::new());
    let inside = "mod tests { use super::super::auth::X; }";
    assert!(Source::new("cli/auth/x.rs", inside).violations().is_empty());
}

/// Row S-65 of the security checklist.
#[test]
fn s65_no_unsafe_code_no_silent_overflow_and_no_panic_where_bytes_of_strangers_come() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = fs::read_to_string(root.join("../Cargo.toml")).unwrap();
    assert!(workspace.contains("\nunsafe_code = \"forbid\"\n"));
    let release = workspace.split("[profile.release]").nth(1).unwrap().split("\n[").next().unwrap();
    assert!(release.contains("\noverflow-checks = true\n"));
    let denied = "deny(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)";
    for module in ["wire", "protocol", "transport", "auth", "server/admission"] {
        let text = fs::read_to_string(root.join("src").join(module).join("mod.rs")).unwrap();
        assert!(text.contains(denied), "{module}");
    }
    for member in [root.to_owned(), root.join("../loadtest/swarm")] {
        let manifest = fs::read_to_string(member.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true\n"), "{}", member.display());
    }
}
