//! The programs that a stage consists of, and where they are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// How to get HAProxy and Redis.
const INSTALL: &str = "on Debian `loadtest/install.sh` installs it";
/// How to get a gateway.
const BUILD: &str =
    "build it with `cargo build --release --package clarion`, or say where it is with --gateway";

/// Where each program is.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The gateway.
    pub gateway: PathBuf,
    /// Redis 7.0 or newer.
    pub redis_server: PathBuf,
    /// HAProxy 2.4 or newer.
    pub haproxy: PathBuf,
}

impl Programs {
    /// Looks for them: the gateway where `gateway` says or beside this program, the others on the path.
    ///
    /// # Errors
    /// One is missing; which one, and how to get it.
    pub fn find(gateway: Option<&Path>) -> Result<Self> {
        let gateway = match gateway {
            Some(path) => given(path)?,
            None => beside_us().with_context(|| format!("there is no gateway (`clarion`) here: {BUILD}"))?,
        };
        let path = search_path();
        Ok(Self { gateway, redis_server: on(&path, "redis-server")?, haproxy: on(&path, "haproxy")? })
    }

    /// What each says of its version, for a report.
    pub fn versions(&self) -> Vec<String> {
        [(&self.gateway, "--version"), (&self.redis_server, "--version"), (&self.haproxy, "-v")]
            .into_iter()
            .filter_map(|(program, flag)| first_line(Command::new(program).arg(flag)))
            .collect()
    }
}

/// The first line that a command prints, if it succeeds.
pub fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

fn given(path: &Path) -> Result<PathBuf> {
    ensure!(path.is_file(), "there is no gateway at {}: {BUILD}", path.display());
    // A node is started in another directory.
    Ok(path.canonicalize()?)
}

fn beside_us() -> Option<PathBuf> {
    let beside = env::current_exe().ok()?.with_file_name("clarion");
    beside.is_file().then_some(beside)
}

/// Daemons are in directories that are not in everybody's path.
fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect()
}

fn on(path: &[PathBuf], program: &str) -> Result<PathBuf> {
    match path.iter().map(|directory| directory.join(program)).find(|file| file.is_file()) {
        Some(file) => Ok(file),
        None => bail!("`{program}` is needed and not on the path: {INSTALL}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_how_to_get_it() {
        let empty = tempfile::tempdir().unwrap();
        let error = on(&[empty.path().to_owned()], "haproxy").unwrap_err().to_string();
        assert!(error.contains("`haproxy`") && error.contains("loadtest/install.sh"), "{error}");
    }

    #[test]
    fn a_missing_gateway_is_named_with_its_place_and_how_to_build_it() {
        let error = Programs::find(Some(Path::new("/nowhere/clarion"))).unwrap_err().to_string();
        assert!(error.contains("/nowhere/clarion") && error.contains("cargo build"), "{error}");
    }

    #[test]
    fn the_first_line_is_that_of_a_command_that_succeeds() {
        assert_eq!(first_line(Command::new("printf").arg("a 1\\nb\\n")).as_deref(), Some("a 1"));
        assert_eq!(first_line(&mut Command::new("false")), None);
        assert_eq!(first_line(&mut Command::new("true")), None);
    }
}
