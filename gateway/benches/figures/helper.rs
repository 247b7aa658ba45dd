//! Another process of this binary, told what to do on its standard input and answering by lines on its output.
//!
//! A helper ends when its input does, so none outlives the bench, however that ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A running helper; killed when dropped.
#[derive(Debug)]
pub(crate) struct Helper {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts this binary again with `arguments`.
    pub(crate) fn start(arguments: &[String]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a helper process")?;
        let orders = child.stdin.take().context("the helper has no input")?;
        let answers = BufReader::new(child.stdout.take().context("the helper has no output")?);
        Ok(Self { child, orders, answers })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends `order` in one write.
    pub(crate) fn order(&mut self, order: &[u8]) -> Result<()> {
        self.orders.write_all(order).context("a helper process has ended")
    }

    /// The next line of the helper, without its line break. Blocks; helpers bound what they wait for themselves.
    pub(crate) fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("a helper process has ended, see its error above");
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended by itself; in any case nothing is left to be told.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes one line of a helper to its output.
pub(crate) fn say(line: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush().context("the bench has ended")
}
