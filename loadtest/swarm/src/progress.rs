//! What a run says of itself while it runs, on standard error.
//!
//! Whoever makes the load counts for itself and never waits; a thread of its own looks a few times a second. On a
//! terminal that is one line that changes, elsewhere a line every few seconds. Enter by [`Progress::start`].

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::number::{amount, grouped};

/// How often the line of a terminal changes: fast enough to look alive, rare enough to cost nothing.
const TICK: Duration = Duration::from_millis(250);
/// How often a line is written elsewhere.
const LINE: Duration = Duration::from_secs(5);

/// What is known of a run at some moment. It is for the eye: nothing is computed of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// What the run is at, in a word or two: `connecting`, `2,000 clients`.
    pub phase: String,
    /// How many connections there are to be.
    pub wanted: u64,
    /// How many connections there are.
    pub connected: u64,
    /// Publications that clients got so far.
    pub deliveries: u64,
    /// What failed so far.
    pub errors: u64,
    /// What was lost, repeated or out of order so far.
    pub wrong: u64,
    /// The 99th percentile of the delay so far, in microseconds; `None` if it is not known.
    pub p99_micros: Option<u64>,
    /// Memory of the server; `None` if nobody looks.
    pub server_bytes: Option<u64>,
}

impl Now {
    /// In one line. What there is nothing to say of is left out.
    fn line(&self, deliveries_per_second: f64) -> String {
        let mut line = if self.phase.is_empty() { "starting".to_owned() } else { self.phase.clone() };
        let mut say = |words: &str| write!(line, " · {words}").expect("a string takes any text");
        say(&format!("{} of {} connected", grouped(self.connected), grouped(self.wanted)));
        if self.deliveries > 0 {
            say(&format!("{} deliveries/s", grouped(deliveries_per_second.round() as u64)));
        }
        if let Some(micros) = self.p99_micros {
            say(&format!("p99 {}", amount(micros as f64, "µs")));
        }
        if let Some(bytes) = self.server_bytes {
            say(&format!("server {}", amount(bytes as f64, "bytes")));
        }
        for (count, what) in [(self.errors, "errors"), (self.wrong, "LOST OR OUT OF ORDER")] {
            if count > 0 {
                say(&format!("{} {what}", grouped(count)));
            }
        }
        line
    }
}

/// What a run is at: said by the play, read by the display. Copies say the same.
#[derive(Clone, Debug, Default)]
pub struct Phase(Arc<Mutex<String>>);

impl Phase {
    /// The run goes on to something else.
    pub fn set(&self, phase: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = phase.into();
    }

    /// What it is at.
    pub fn read(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// As one line of a terminal, which changes.
    Terminal,
    /// As a line every few seconds.
    Lines,
    /// Not at all.
    Nowhere,
}

impl Shown {
    /// What suits standard error, for a run whose output is for a program or not.
    pub fn choose(is_for_program: bool) -> Self {
        match (io::stderr().is_terminal(), is_for_program) {
            (true, _) => Self::Terminal,
            (false, false) => Self::Lines,
            // Collected with the output, as Kubernetes does, lines would only be in the way.
            (false, true) => Self::Nowhere,
        }
    }
}

/// Shows how a run goes until it is dropped.
#[derive(Debug)]
pub struct Progress {
    /// Dropped to end the thread.
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins to show what `look` sees, which is asked four times a second, on another thread. It should only read.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn start(look: impl Fn() -> Now + Send + 'static, shown: Shown) -> io::Result<Self> {
        let (end, ended) = mpsc::channel();
        let show = move || match shown {
            Shown::Terminal => terminal(look, &ended),
            Shown::Lines => lines(look, &ended, &mut io::stderr()),
            Shown::Nowhere => {}
        };
        let thread = thread::Builder::new().name("progress".into()).spawn(show)?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A display that failed is no reason to fail, and has said so.
            let _: thread::Result<()> = thread.join();
        }
    }
}

/// Deliveries per second between two looks.
#[derive(Debug)]
struct Speed {
    at: Instant,
    deliveries: u64,
}

impl Speed {
    fn start() -> Self {
        Self { at: Instant::now(), deliveries: 0 }
    }

    fn next(&mut self, deliveries: u64) -> f64 {
        let seconds = self.at.elapsed().as_secs_f64().max(1e-3);
        let speed = deliveries.saturating_sub(self.deliveries) as f64 / seconds;
        *self = Self { at: Instant::now(), deliveries };
        speed
    }
}

fn terminal(look: impl Fn() -> Now, ended: &mpsc::Receiver<()>) {
    let bar = ProgressBar::new(0).with_style(style());
    let mut speed = Speed::start();
    while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        let now = look();
        bar.set_length(now.wanted);
        bar.set_position(now.connected);
        bar.set_message(now.line(speed.next(now.deliveries)));
        bar.tick();
    }
    bar.finish_and_clear();
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{elapsed_precise} [{bar:20}] {wide_msg}")
        .expect("the template is one")
        .progress_chars("=> ")
}

fn lines(look: impl Fn() -> Now, ended: &mpsc::Receiver<()>, to: &mut impl io::Write) {
    let start = Instant::now();
    let mut speed = Speed::start();
    let mut said = (Instant::now(), String::new());
    while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        let now = look();
        // A step of the play is worth a line of its own at once.
        if now.phase == said.1 && said.0.elapsed() < LINE {
            continue;
        }
        said = (Instant::now(), now.phase.clone());
        let line = now.line(speed.next(now.deliveries));
        // Whoever closed standard error does not want to know.
        let _: io::Result<()> = writeln!(to, "{:7.1} s  {line}", start.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_there_is_to_say() {
        let mut now = Now { wanted: 10_000, connected: 1234, ..Now::default() };
        assert_eq!(now.line(0.0), "starting · 1,234 of 10,000 connected");
        (now.phase, now.deliveries) = ("fan".into(), 9);
        (now.p99_micros, now.server_bytes) = (Some(1500), Some(3 << 20));
        let all = "fan · 1,234 of 10,000 connected · 25,000 deliveries/s · p99 1.50 ms · server 3 MiB";
        assert_eq!(now.line(25_000.4), all);
        now = Now { wanted: 1, errors: 2, wrong: 3, ..Now::default() };
        assert_eq!(now.line(0.0), "starting · 0 of 1 connected · 2 errors · 3 LOST OR OUT OF ORDER");
    }

    /// Keeps what is written, and ends the progress with the first line.
    struct Once {
        end: Option<mpsc::Sender<()>>,
        text: Vec<u8>,
    }

    impl io::Write for Once {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if bytes.contains(&b'\n') {
                self.end = None;
            }
            self.text.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_phase_has_a_line_at_once_and_the_end_ends_it() {
        let phase = Phase::default();
        phase.set("connecting");
        let (end, ended) = mpsc::channel();
        let mut once = Once { end: Some(end), text: Vec::new() };
        lines(|| Now { phase: phase.read(), ..Now::default() }, &ended, &mut once);
        let text = String::from_utf8(once.text).unwrap();
        assert!(text.ends_with("s  connecting · 0 of 0 connected\n"), "{text}");
    }

    #[test]
    fn the_template_of_the_terminal_is_one() {
        style();
    }
}
