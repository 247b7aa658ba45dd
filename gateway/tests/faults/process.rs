//! A child process: signals by its own id, what the kernel knows of it, its end.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{PipeReader, pipe};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::cleanup::Undo;
use crate::wait;

/// Runs until it is killed, or until this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    undo: Option<Undo>,
    output: PathBuf,
    /// What it says and nobody reads.
    _unread: Option<PipeReader>,
}

/// A command with nothing in its environment.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    command
}

impl Process {
    /// Starts `command`; what it says is appended to the file `output`.
    pub(crate) fn start(command: &mut Command, output: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(output)?;
        let child = command.stdout(file.try_clone()?).stderr(file);
        Self::launch(child, output, None)
    }

    /// The same, but what it says goes where there is little room and nobody reads; the file `output` is what was said
    /// before.
    pub(crate) fn start_unread(command: &mut Command, output: &Path) -> Result<Self> {
        let (unread, writer) = pipe()?;
        let child = command.stdout(writer.try_clone()?).stderr(writer);
        Self::launch(child, output, Some(unread))
    }

    /// The same, but what it says goes to a disk that has no room.
    pub(crate) fn start_full(command: &mut Command, output: &Path) -> Result<Self> {
        let full = File::options().append(true).open("/dev/full")?;
        let child = command.stdout(full.try_clone()?).stderr(full);
        Self::launch(child, output, None)
    }

    fn launch(command: &mut Command, output: &Path, unread: Option<PipeReader>) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {:?}", command.get_program()))?;
        let pid = Pid::from_child(&child);
        let undo = Undo::by(move || {
            // An error means that it has ended.
            let _: rustix::io::Result<()> = kill_process(pid, Signal::KILL);
        });
        Ok(Self { child, undo: Some(undo), output: output.to_owned(), _unread: unread })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far, and whoever wrote to the same file before.
    pub(crate) fn output(&self) -> String {
        fs::read(&self.output).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let running = self.undo.is_some();
        anyhow::ensure!(running, "process {} has ended", self.id());
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Kills it and waits for its end.
    pub(crate) fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        let status = self.child.wait()?;
        self.has_ended();
        Ok(status)
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.has_ended();
        }
        Ok(status)
    }

    /// Waits for its end, which somebody has asked it for.
    pub(crate) async fn exit(&mut self, patience: Duration) -> Result<ExitStatus> {
        let mut status = None;
        wait::until("the process to end", patience, async || {
            status = self.ended()?;
            Ok(status.is_some())
        })
        .await?;
        status.context("it has ended")
    }

    /// Its id may belong to somebody else by now.
    fn has_ended(&mut self) {
        if let Some(undo) = self.undo.take() {
            undo.forget();
        }
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        resident_bytes(self.id())
    }

    /// Processor time that it has used, to a hundredth of a second.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = procfs::process::Process::new(i32::try_from(self.id())?)?.stat()?;
        Ok(Duration::from_secs_f64((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64))
    }

    pub(crate) fn threads(&self) -> Result<u64> {
        status_field(self.id(), "Threads:")
    }

    /// Open files.
    pub(crate) fn files(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.id()))?.count())
    }
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident_bytes(process: u32) -> Result<u64> {
    status_field(process, "VmRSS:").map(|kib| kib * 1024)
}

fn status_field(process: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    let value = value.with_context(|| format!("no {field} in the status of process {process}"))?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.undo.is_some() {
            drop(self.kill());
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cleanup::Directory;

    crate::own::tests!(; a_process_is_seen_stopped_and_ended);

    async fn a_process_is_seen_stopped_and_ended() {
        let directory = Directory::make("own-process").unwrap();
        let output = directory.join("sleep.log");
        let mut process = Process::start(command("/bin/sleep").arg("60"), &output).unwrap();
        assert!(process.resident_bytes().unwrap() > 0);
        assert!(process.files().unwrap() >= 3);
        assert_eq!(process.threads().unwrap(), 1);
        assert_eq!(process.ended().unwrap(), None);
        process.signal(Signal::TERM).unwrap();
        assert!(!process.exit(Duration::from_secs(5)).await.unwrap().success());
        assert!(process.signal(Signal::TERM).is_err(), "its id is nobody's");
    }
}
