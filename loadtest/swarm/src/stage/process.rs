//! A child process that ends with its guard.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::wait;

/// Runs until it ends, or until this is dropped, which kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: PathBuf,
    /// How it ended. From then on its id may be somebody else's.
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`; what it says is appended to the file `name.log` in `directory`.
    ///
    /// It has a process group of its own, so that Ctrl-C in a terminal does not reach it before its guard does.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, command: &mut Command, directory: &Path) -> Result<Self> {
        let output = directory.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&output)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Self { name: name.to_owned(), child, output, ended: None })
    }

    /// What it is called in this run.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file with what it says.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        ensure!(self.ended.is_none(), "{} has ended", self.name);
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("sending a signal to {}", self.name))
    }

    /// Kills it, be it stopped or not, and waits for its end.
    ///
    /// # Errors
    /// The kernel does not say how it ended.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended.is_none() {
            // An error means that it has ended by itself.
            let _: std::io::Result<()> = self.child.kill();
            self.ended = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Waits until it ends, which somebody has asked it to do. `None` if it does not within `patience`.
    pub async fn exit(&mut self, patience: Duration) -> Option<ExitStatus> {
        let what = format!("the end of {}", self.name);
        // Nothing but patience running out is an error here, and then there is no status to answer with.
        let _: Result<()> = wait::until(&what, patience, async || matches!(self.ended(), Ok(Some(_)))).await;
        self.ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _: Result<()> = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleep(directory: &Path) -> Process {
        Process::start("sleep", Command::new("sleep").arg("600"), directory).unwrap()
    }

    fn is_running(id: u32) -> bool {
        Path::new(&format!("/proc/{id}")).exists()
    }

    #[tokio::test]
    async fn a_process_ends_when_it_is_told_to_and_its_id_is_nobodys_then() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = sleep(directory.path());
        assert_eq!(process.ended().unwrap(), None);
        process.signal(Signal::TERM).unwrap();
        let status = process.exit(Duration::from_secs(10)).await.unwrap();
        assert!(!status.success());
        assert!(process.signal(Signal::TERM).is_err());
    }

    #[tokio::test]
    async fn who_does_not_end_in_time_runs_on() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = sleep(directory.path());
        assert_eq!(process.exit(Duration::from_millis(30)).await, None);
        assert_eq!(process.ended().unwrap(), None);
    }

    #[test]
    fn a_process_ends_with_its_guard_even_while_it_is_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let process = sleep(directory.path());
        let id = process.child.id();
        process.signal(Signal::STOP).unwrap();
        assert!(is_running(id));
        drop(process);
        assert!(!is_running(id));
    }
}
