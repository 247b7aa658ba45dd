//! The back end of an application: it publishes, over a few connections that are kept.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::secret::Secret;
use super::stamp::Stamp;
use super::target::Api;

/// Calls the server API: `publish`, `batch`, `info`. What its key is, is never printed.
///
/// Calls that are made at once share its connections, of which there are so many at most; who finds none waits.
#[derive(Debug)]
pub struct BackEnd {
    api: Api,
    key: Option<Secret>,
    data_bytes: usize,
    http: reqwest::Client,
    connections: Semaphore,
}

#[derive(Deserialize)]
struct Answer {
    error: Option<Value>,
    /// Of a batch: one for each of its commands.
    #[serde(default)]
    replies: Vec<Reply>,
}

#[derive(Deserialize)]
struct Reply {
    error: Option<Value>,
}

impl BackEnd {
    /// One with at most so many connections, whose publications have so many bytes of data.
    pub fn new(
        api: Api,
        key: Option<Secret>,
        connections: usize,
        data_bytes: usize,
        patience: Duration,
    ) -> Self {
        let http = reqwest::Client::builder()
            .timeout(patience)
            .no_proxy()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(connections)
            .build()
            .expect("a client without TLS needs nothing that can be missing");
        Self { api, key, data_bytes, http, connections: Semaphore::new(connections) }
    }

    /// Asks whether it is let in, before there is a load that would be in vain.
    ///
    /// # Errors
    /// The API is not there, or does not take the key.
    pub async fn check(&self) -> Result<()> {
        self.call("info", "{}".to_owned()).await.map(|_| ())
    }

    /// Publishes to one channel and waits for the answer. Not cancel safe: dropped before, it may have published or not.
    ///
    /// # Errors
    /// It was refused, or nobody knows.
    pub async fn publish(&self, channel: &str, stamp: Stamp) -> Result<()> {
        self.call("publish", self.request(channel, stamp)).await.map(|_| ())
    }

    /// Publishes all of `stamps` in one call, in their order.
    ///
    /// # Errors
    /// One of them was refused, or nobody knows.
    pub async fn publish_all(&self, channel: &str, stamps: &[Stamp]) -> Result<()> {
        let commands =
            stamps.iter().map(|stamp| format!(r#"{{"publish":{}}}"#, self.request(channel, *stamp)));
        let commands = commands.collect::<Vec<_>>().join(",");
        let answer = self.call("batch", format!(r#"{{"commands":[{commands}]}}"#)).await?;
        let count = answer.replies.len();
        ensure!(count == stamps.len(), "{} publications of a batch have {count} replies", stamps.len());
        match answer.replies.into_iter().find_map(|reply| reply.error) {
            Some(error) => bail!("a publication of a batch was answered with the error {error}"),
            None => Ok(()),
        }
    }

    fn request(&self, channel: &str, stamp: Stamp) -> String {
        let channel = Value::from(channel);
        format!(r#"{{"channel":{channel},"data":{}}}"#, stamp.data(self.data_bytes))
    }

    async fn call(&self, method: &str, body: String) -> Result<Answer> {
        let _permit = self.connections.acquire().await.expect("nobody closes it");
        let mut request =
            self.http.post(self.api.method(method)).header("Content-Type", "application/json").body(body);
        if let Some(key) = &self.key {
            request = request.header("X-API-Key", key.expose());
        }
        let response = request.send().await.with_context(|| format!("calling {method} of {}", self.api))?;
        let status = response.status();
        ensure!(
            !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN),
            "{} does not let this key in ({status}): it is that of --api-key or SWARM_API_KEY",
            self.api
        );
        ensure!(status == StatusCode::OK, "{method} of {} was answered with {status}", self.api);
        let body = response.bytes().await.with_context(|| format!("the answer of {method}"))?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| {
            anyhow!("{method} of {} was not answered with JSON of the API: {error}", self.api)
        })?;
        match answer.error {
            Some(error) => bail!("{method} was answered with the error {error}"),
            None => Ok(answer),
        }
    }
}
