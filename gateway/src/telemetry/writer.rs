//! A thread that writes what others log, and a queue in front of it that is bounded and never waits.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Most lines that wait to be written. A line has a few hundred bytes, as nothing of a client's choice gets into it.
const LINES_MAX: usize = 8_192;
/// How long the end of the process waits for what is not written yet.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// That of this process.
static RUNNING: Mutex<Option<Running>> = Mutex::new(None);
static QUEUE_ERRORS: OnceLock<ErrorCounter> = OnceLock::new();
/// Lines that could not be written.
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);

/// The thread at work.
struct Running {
    guard: WorkerGuard,
    /// Ends when all is written.
    end: Receiver<Infallible>,
}

/// Starts to write to `output`; `None` if this process has started that before.
pub(super) fn open(output: impl Write + Send + 'static) -> Option<NonBlocking> {
    let mut running = RUNNING.lock();
    if QUEUE_ERRORS.get().is_some() {
        return None;
    }
    let (writer, begun) = begin(output, LINES_MAX);
    QUEUE_ERRORS.get_or_init(|| writer.error_counter());
    *running = Some(begun);
    Some(writer)
}

fn begin(output: impl Write + Send + 'static, lines_max: usize) -> (NonBlocking, Running) {
    let (ending, end) = sync_channel(1);
    let output = Output { output, _ending: ending };
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(lines_max);
    let (writer, guard) = builder.thread_name("logs").finish(output);
    (writer, Running { guard, end })
}

/// Lines that were logged and not written since the process began, because they came too fast or could not be written.
pub fn dropped_lines() -> u64 {
    let queued = QUEUE_ERRORS.get().map_or(0, |errors| errors.dropped_lines() as u64);
    queued + UNWRITTEN.load(Ordering::Relaxed)
}

/// Writes what was logged, and nothing from then on: to be called before the process ends. `false` if that took too long, as
/// when nobody reads standard error. Waits for two seconds at most.
pub fn finish() -> bool {
    let running = RUNNING.lock().take();
    running.is_none_or(|running| running.finish(FINISH_MAX))
}

impl Running {
    fn finish(self, limit: Duration) -> bool {
        let Self { guard, end } = self;
        // Dropping it may wait for the thread, and says so on standard output, which may be as stuck.
        thread::spawn(|| drop(guard));
        end.recv_timeout(limit) == Err(RecvTimeoutError::Disconnected)
    }
}

/// Counts what cannot be written, and goes on.
struct Output<W> {
    output: W,
    _ending: SyncSender<Infallible>,
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line).map(|()| line.len())
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        if self.output.write_all(line).is_err() {
            UNWRITTEN.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _is_counted = self.output.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read as _, pipe};

    use super::*;

    /// Logs lines until one was dropped; answers how many there were.
    fn fill(writer: &mut NonBlocking) -> usize {
        let errors = writer.error_counter();
        let line = [b'x'; 1_000];
        (1..).find(|_| writer.write_all(&line).is_err() || errors.dropped_lines() > 0).unwrap()
    }

    fn read_all(mut reader: PipeReader) -> usize {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        text.len()
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_is_too_much_is_dropped() {
        let (reader, output) = pipe().unwrap();
        let (mut writer, running) = begin(output, 100);
        let lines = fill(&mut writer);
        assert!(lines > 100, "{lines}");
        assert!(!running.finish(Duration::from_millis(300)), "nobody reads");
        drop(reader);
    }

    #[test]
    fn the_end_waits_until_all_is_written() {
        let (reader, output) = pipe().unwrap();
        let (mut writer, running) = begin(output, 200);
        (0..150).for_each(|_| writer.write_all(&[b'x'; 1_000]).unwrap());
        let reading = thread::spawn(|| read_all(reader));
        assert!(running.finish(FINISH_MAX));
        assert_eq!(reading.join().unwrap(), 150_000);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let (reader, output) = pipe().unwrap();
        drop(reader);
        let before = dropped_lines();
        let (mut writer, running) = begin(output, 10);
        writer.write_all(b"one\n").unwrap();
        assert!(running.finish(FINISH_MAX));
        assert!(dropped_lines() > before);
    }
}
