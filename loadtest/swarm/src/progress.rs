//! What a run says of itself while it runs, on standard error.
//!
//! Whoever makes the load writes into [`Live`] and never waits; a thread of its own reads it a few times a second. On a
//! terminal that is one line that changes, elsewhere a line every few seconds. Enter by [`Progress::start`].

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicU64, Ordering};
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

/// What is known of a run while it runs. All of it is for the eye: nothing is computed of it.
///
/// Counters may be written by any thread at any rate; one that counts many things at a time adds them in one go.
#[derive(Debug, Default)]
pub struct Live {
    phase: Mutex<String>,
    /// How many connections there are to be.
    pub wanted: Counter,
    /// How many connections there are now.
    pub connected: Counter,
    /// Publications that clients got so far.
    pub deliveries: Counter,
    /// What failed so far.
    pub errors: Counter,
    /// What was lost, repeated or out of order so far.
    pub wrong: Counter,
    /// The 99th percentile of the delay so far, in microseconds; 0 if there is none.
    pub p99_micros: Counter,
    /// Memory of the server in bytes; 0 if nobody looks.
    pub server_bytes: Counter,
}

/// A number that one thread writes and another one reads, in no order with anything else.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// It is this from now on.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// So much more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// So much less.
    pub fn sub(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    /// What it is now.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Live {
    /// The run goes on to something else, in a word or two: `connecting`, `2,000 clients`.
    pub fn phase(&self, phase: impl Into<String>) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase.into();
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            phase: self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            wanted: self.wanted.read(),
            connected: self.connected.read(),
            deliveries: self.deliveries.read(),
            errors: self.errors.read(),
            wrong: self.wrong.read(),
            p99_micros: self.p99_micros.read(),
            server_bytes: self.server_bytes.read(),
        }
    }
}

/// What was known at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Snapshot {
    phase: String,
    wanted: u64,
    connected: u64,
    deliveries: u64,
    errors: u64,
    wrong: u64,
    p99_micros: u64,
    server_bytes: u64,
}

impl Snapshot {
    /// In one line. What there is nothing to say of is left out.
    fn line(&self, deliveries_per_second: f64) -> String {
        let mut line = if self.phase.is_empty() { "starting".to_owned() } else { self.phase.clone() };
        let mut say = |words: &str| write!(line, " · {words}").expect("a string takes any text");
        say(&format!("{} of {} connected", grouped(self.connected), grouped(self.wanted)));
        if self.deliveries > 0 {
            say(&format!("{} deliveries/s", grouped(deliveries_per_second.round() as u64)));
        }
        if self.p99_micros > 0 {
            say(&format!("p99 {}", amount(self.p99_micros as f64, "µs")));
        }
        if self.server_bytes > 0 {
            say(&format!("server {}", amount(self.server_bytes as f64, "bytes")));
        }
        for (count, what) in [(self.errors, "errors"), (self.wrong, "LOST OR OUT OF ORDER")] {
            if count > 0 {
                say(&format!("{} {what}", grouped(count)));
            }
        }
        line
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

/// Shows what is live until it is dropped.
#[derive(Debug)]
pub struct Progress {
    /// Dropped to end the thread.
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins to show.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn start(live: Arc<Live>, shown: Shown) -> io::Result<Self> {
        if shown == Shown::Nowhere {
            return Ok(Self { end: None, thread: None });
        }
        let (end, ended) = mpsc::channel();
        let show = move || match shown {
            Shown::Terminal => terminal(&live, &ended),
            Shown::Lines | Shown::Nowhere => lines(&live, &ended, &mut io::stderr()),
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

fn terminal(live: &Live, ended: &mpsc::Receiver<()>) {
    let bar = ProgressBar::new(0).with_style(style());
    let mut speed = Speed::start();
    while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        let now = live.snapshot();
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

fn lines(live: &Live, ended: &mpsc::Receiver<()>, to: &mut impl io::Write) {
    let start = Instant::now();
    let mut speed = Speed::start();
    let mut said = (Instant::now(), String::new());
    while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        let now = live.snapshot();
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
        let mut now = Snapshot { wanted: 10_000, connected: 1234, ..Snapshot::default() };
        assert_eq!(now.line(0.0), "starting · 1,234 of 10,000 connected");
        now = Snapshot { phase: "fan".into(), deliveries: 9, p99_micros: 1500, server_bytes: 3 << 20, ..now };
        assert_eq!(
            now.line(25_000.4),
            "fan · 1,234 of 10,000 connected · 25,000 deliveries/s · p99 1.50 ms · server 3 MiB"
        );
        now = Snapshot { phase: "fan".into(), wanted: 1, errors: 2, wrong: 3, ..Snapshot::default() };
        assert_eq!(now.line(0.0), "fan · 0 of 1 connected · 2 errors · 3 LOST OR OUT OF ORDER");
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
        let live = Live::default();
        live.phase("connecting");
        let (end, ended) = mpsc::channel();
        let mut once = Once { end: Some(end), text: Vec::new() };
        lines(&live, &ended, &mut once);
        let text = String::from_utf8(once.text).unwrap();
        assert!(text.ends_with("s  connecting · 0 of 0 connected\n"), "{text}");
    }

    #[test]
    fn nothing_is_shown_where_a_program_reads() {
        let progress = Progress::start(Arc::default(), Shown::Nowhere).unwrap();
        assert!(progress.thread.is_none());
    }

    #[test]
    fn the_template_of_the_terminal_is_one() {
        style();
    }
}
