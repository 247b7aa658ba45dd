//! What a run was run on: figures without it mean nothing.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::stage::programs::{Programs, first_line};

/// A machine, and the versions of what ran there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Environment {
    /// When the run began, in UTC.
    pub started: String,
    /// CPUs that may be used.
    pub cpus: usize,
    /// What they are called.
    pub cpu_model: String,
    /// Memory of the machine in bytes; 0 if it is not known.
    pub memory_bytes: u64,
    /// The kernel.
    pub kernel: String,
    /// What the programs say of themselves, this one first.
    pub versions: Vec<String>,
    /// The commit that is checked out where this was run; `None` if nothing is.
    pub commit: Option<String>,
}

impl Environment {
    /// Here and now, with these programs.
    pub fn of(programs: &Programs) -> Self {
        let mut environment = Self::here();
        environment.versions.extend(programs.versions());
        environment
    }

    /// Here and now, with nothing but this program.
    pub fn here() -> Self {
        let ours = concat!("swarm ", env!("CARGO_PKG_VERSION")).to_owned();
        Self {
            started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            cpus: thread::available_parallelism().map_or(0, usize::from),
            cpu_model: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into()),
            memory_bytes: field("/proc/meminfo", "MemTotal").as_deref().and_then(kib).unwrap_or(0),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            versions: vec![ours],
            commit: first_line(Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"])),
        }
    }

    /// The machine in one line.
    pub fn machine(&self) -> String {
        let gib = self.memory_bytes as f64 / f64::from(1 << 30);
        format!("{} CPUs ({}), {gib:.1} GiB, Linux {}", self.cpus, self.cpu_model, self.kernel)
    }
}

/// The value of the first line of `file` that begins with `name`, up to a colon.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn kib(text: &str) -> Option<u64> {
    Some(text.strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
