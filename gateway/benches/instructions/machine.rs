//! What this build was made by, and what the machine has.

use std::env::consts::{ARCH, OS};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::gate::baselines::{Machine, Toolchain};

/// The compiler of this binary.
pub(crate) fn toolchain() -> Toolchain {
    let abi = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    Toolchain { rustc: env!("CLARION_RUSTC").into(), target: format!("{ARCH}-{OS}-{abi}") }
}

/// What else counts depend on.
///
/// # Errors
/// One of the programs is not there.
pub(crate) fn machine() -> Result<Machine> {
    Ok(Machine {
        valgrind: first_line("valgrind", "--version")?,
        libc: first_line("getconf", "GNU_LIBC_VERSION")?,
        cc: first_line("cc", "--version")?,
    })
}

/// What `program` says of itself.
fn first_line(program: &str, argument: &str) -> Result<String> {
    let output = Command::new(program)
        .arg(argument)
        .output()
        .with_context(|| format!("{program} is needed; `make gate` installs it"))?;
    ensure!(output.status.success(), "{program} {argument}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
