//! Publishes as a back end under load does: over several connections that are kept, each publication a call of its
//! own. A channel belongs to one connection, so its publications have an order.
//!
//! This costs CPU in the bench's own process. It is not counted, but on a machine with few cores it takes them away
//! from what is measured: the gateway reaches more when the load comes from elsewhere.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep_until, timeout};

use super::api::API_KEY;
use super::frame;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const RESPONSE_BYTES_MAX: usize = 8 * 1024;

/// What is published.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Where the server API is.
    pub(crate) address: SocketAddr,
    pub(crate) connections: u32,
    pub(crate) channels: Vec<String>,
    /// Of the publications of each channel.
    pub(crate) numbers: Range<u64>,
    /// Publications per second, in all channels together; `None` for as many as go.
    pub(crate) rate: Option<f64>,
}

impl Load {
    /// Publishes all of it and waits for the answers.
    ///
    /// # Errors
    /// A publication was refused.
    pub(crate) fn publish(&self) -> Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let start = Instant::now();
        runtime.block_on(try_join_all((0..self.connections).map(|index| self.drive(index, start))))?;
        Ok(())
    }

    /// What connection `index` does: every so many-th channel is its own.
    async fn drive(&self, index: u32, start: Instant) -> Result<()> {
        let mut caller = Caller::connect(self.address).await?;
        let own = || self.channels.iter().skip(index as usize).step_by(self.connections as usize);
        let mut turn = index;
        for number in self.numbers.clone() {
            for channel in own() {
                if let Some(rate) = self.rate {
                    sleep_until(start + Duration::from_secs_f64(f64::from(turn) / rate)).await;
                }
                turn += self.connections;
                timeout(CALL_TIMEOUT, caller.publish(channel, number))
                    .await
                    .context("an API call hangs")??;
            }
        }
        Ok(())
    }
}

/// One connection.
struct Caller {
    stream: TcpStream,
    request: Vec<u8>,
    response: Vec<u8>,
}

impl Caller {
    async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request: Vec::new(), response: Vec::new() })
    }

    async fn publish(&mut self, channel: &str, number: u64) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let data = frame::data_at(number, u64::try_from(now.as_nanos())?);
        let body = format!(r#"{{"channel":"{channel}","data":{data}}}"#);
        let head = format!(
            "POST /api/publish HTTP/1.1\r\nHost: clarion\r\nX-API-Key: {API_KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.request.clear();
        self.request.extend(head.as_bytes());
        self.request.extend(body.as_bytes());
        self.stream.write_all(&self.request).await?;
        self.answer().await
    }

    /// Reads one response, which must be a result.
    async fn answer(&mut self) -> Result<()> {
        self.response.clear();
        let body = loop {
            ensure!(self.response.len() < RESPONSE_BYTES_MAX, "a response does not end");
            ensure!(self.stream.read_buf(&mut self.response).await? > 0, "the server API hung up");
            if let Some(body) = body(&self.response)? {
                break body;
            }
        };
        let is_result = self.response.starts_with(b"HTTP/1.1 200 ") && body.starts_with("{\"result\"");
        ensure!(is_result, "a publication was answered with {}", String::from_utf8_lossy(&self.response));
        Ok(())
    }
}

/// The body of a response, if all of it is there.
fn body(response: &[u8]) -> Result<Option<String>> {
    let text = String::from_utf8_lossy(response);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.context("a response of unknown length")?.1.parse()?;
    Ok((body.len() >= length).then(|| body.to_owned()))
}
