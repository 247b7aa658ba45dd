//! The server API of the gateway under test.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::frame::{self, CHANNEL};

pub(crate) const API_KEY: &str = "bench-key";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The gateway's default of `api.batch_max`.
const BATCH_MAX: usize = 1_000;

/// The server API, over one connection that is kept.
#[derive(Debug)]
pub(crate) struct Api {
    agent: ureq::Agent,
    base: String,
}

impl Api {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { agent: agent(), base: format!("http://{address}/api") }
    }

    /// Publishes what `numbers` stand for: one by a call of its own, several as one batch.
    ///
    /// # Errors
    /// The gateway refused a publication.
    pub(crate) fn publish(&self, numbers: Range<u64>) -> Result<()> {
        let mut publications: Vec<Value> =
            numbers.map(|number| publication(CHANNEL, number)).collect::<Result<_>>()?;
        if publications.len() == 1 {
            let answer = self.call("publish", &publications.remove(0))?;
            ensure!(answer.get("result").is_some(), "a publication was answered with {answer}");
            return Ok(());
        }
        self.publish_batch(&publications)
    }

    /// Publishes once to each of `channels`, in as few calls as it takes.
    pub(crate) fn publish_each(&self, channels: &[String], number: u64) -> Result<()> {
        for channels in channels.chunks(BATCH_MAX) {
            let publications: Vec<Value> =
                channels.iter().map(|channel| publication(channel, number)).collect::<Result<_>>()?;
            self.publish_batch(&publications)?;
        }
        Ok(())
    }

    /// How many publications `channel` keeps.
    pub(crate) fn kept(&self, channel: &str) -> Result<usize> {
        let answer = self.call("history", &json!({"channel": channel, "limit": -1}))?;
        let publications = answer["result"]["publications"].as_array();
        publications.map(Vec::len).with_context(|| format!("a history was answered with {answer}"))
    }

    fn publish_batch(&self, publications: &[Value]) -> Result<()> {
        let commands: Vec<Value> =
            publications.iter().map(|publication| json!({"publish": publication})).collect();
        let answer = self.call("batch", &json!({"commands": commands}))?;
        let replies = answer["replies"].as_array().map_or(&[][..], Vec::as_slice);
        let published = replies.iter().filter(|reply| reply.get("publish").is_some()).count();
        ensure!(published == commands.len(), "a batch was answered with {answer}");
        Ok(())
    }

    fn call(&self, method: &str, body: &Value) -> Result<Value> {
        let request = self.agent.post(format!("{}/{method}", self.base)).header("X-API-Key", API_KEY);
        let mut response = request.send(body.to_string()).with_context(|| format!("calling {method}"))?;
        let text = response.body_mut().read_to_string()?;
        ensure!(response.status() == 200, "{method} was answered with {}", response.status());
        serde_json::from_str(&text).with_context(|| format!("the answer to {method} is not JSON"))
    }
}

fn publication(channel: &str, sequence: u64) -> Result<Value> {
    let data: Value = serde_json::from_str(&frame::data(sequence))?;
    Ok(json!({"channel": channel, "data": data}))
}

/// No proxy: an environment that has one for the world must not get between the bench and loopback.
pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(REQUEST_TIMEOUT))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into()
}
