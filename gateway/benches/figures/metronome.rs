//! Publishes in time, whatever the server does: an open loop.
//!
//! A runtime's timers are good to a millisecond, which is more than what is measured here. So one thread sleeps by the
//! system's clock and writes, and another reads the answers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::api::API_KEY;
use super::frame;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Before the first publication is due.
const LEAD: Duration = Duration::from_millis(50);

/// A publisher that keeps time, over one connection: the order of a channel is that of the calls.
#[derive(Clone, Debug)]
pub(crate) struct Metronome {
    /// Where the server API is.
    pub(crate) address: SocketAddr,
    /// Published to in turns.
    pub(crate) channels: Vec<String>,
    /// Publications per second, in all channels together.
    pub(crate) rate: u32,
}

impl Metronome {
    /// Publishes `numbers` to each channel and waits for the answers. Each publication says when it was due.
    ///
    /// # Errors
    /// A publication was refused.
    pub(crate) fn publish(&self, numbers: Range<u64>) -> Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let answers = BufReader::new(stream.try_clone()?);
        let count = (numbers.end - numbers.start) * self.channels.len() as u64;
        let reader = thread::spawn(move || read_answers(answers, count));
        let (start, started) = (Instant::now() + LEAD, SystemTime::now() + LEAD);
        let calls = numbers.flat_map(|number| self.channels.iter().map(move |channel| (number, channel)));
        for (turn, (number, channel)) in calls.enumerate() {
            let due = Duration::from_secs_f64(turn as f64 / f64::from(self.rate));
            thread::sleep((start + due).saturating_duration_since(Instant::now()));
            let due_ns = (started + due).duration_since(UNIX_EPOCH)?.as_nanos();
            stream.write_all(&request(channel, number, u64::try_from(due_ns)?))?;
        }
        reader.join().map_err(|_| anyhow!("the reader of answers panicked"))?
    }
}

fn request(channel: &str, number: u64, due_ns: u64) -> Vec<u8> {
    let body = format!(r#"{{"channel":"{channel}","data":{}}}"#, frame::data_at(number, due_ns));
    format!(
        "POST /api/publish HTTP/1.1\r\nHost: clarion\r\nX-API-Key: {API_KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Reads `count` answers, each of which must be a result.
fn read_answers(mut stream: BufReader<TcpStream>, count: u64) -> Result<()> {
    for _ in 0..count {
        let mut length = None;
        let mut status = String::new();
        stream.read_line(&mut status).context("an API call hangs")?;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = Some(value.parse::<usize>()?);
            }
        }
        let mut body = vec![0; length.context("an answer of unknown length")?];
        stream.read_exact(&mut body)?;
        let is_result = status.starts_with("HTTP/1.1 200 ") && body.starts_with(b"{\"result\"");
        ensure!(is_result, "a publication was answered with {status:?} {}", String::from_utf8_lossy(&body));
    }
    Ok(())
}
