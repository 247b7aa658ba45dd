use anyhow::{Context as _, anyhow};
use clap::Args;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio_tungstenite::tungstenite::{self, Message};

use super::{ConfigFile, Failure, call, output};
use crate::auth;
use crate::config::Config;

/// Subscribe to channels and print what is published, until the connection ends
#[derive(Args)]
#[command(after_help = "Example:\n  clarion sub chat --config clarion.yaml --user 42\n  \
    clarion sub chat news --url ws://127.0.0.1:8000/ws --token TOKEN --output json")]
pub(super) struct Subscribe {
    /// The channels.
    #[arg(required = true)]
    channels: Vec<String>,
    /// Where the bare WebSocket is; by default where the configuration says.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A connection token; without it one is signed with the key of the configuration.
    #[arg(long, env = "CLARION_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The user of the signed token.
    #[arg(long, default_value = "clarion-sub", value_name = "ID")]
    user: String,
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: output::Output,
}

impl Subscribe {
    pub(super) fn run(self) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(anyhow::Error::from)?;
        runtime.block_on(self.listen())
    }

    async fn listen(&self) -> Result<(), Failure> {
        let (base, url) = self.address()?;
        let connected = tokio_tungstenite::connect_async(url).await;
        let (mut socket, _) = connected.map_err(|error| explain(error, &base))?;
        while let Some(message) = socket.next().await {
            match message.map_err(|error| explain(error, &base))? {
                Message::Text(text) => self.show(&text)?,
                Message::Close(frame) => {
                    let frame = frame.map(|frame| format!("{} {}", frame.code, frame.reason));
                    return Err(anyhow!("closed: {}", frame.unwrap_or_default()).into());
                }
                _ => {}
            }
        }
        Err(anyhow!("the connection to {base} ended").into())
    }

    /// The address without its secret, and with it.
    fn address(&self) -> anyhow::Result<(String, String)> {
        let config = self.file.load_or_default()?;
        let base = self.url.clone().unwrap_or_else(|| format!("ws://{}/ws", call::public_address(&config)));
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("token", &self.signed(&config)?);
        for channel in &self.channels {
            query.append_pair("channel", channel);
        }
        let separator = if base.contains('?') { '&' } else { '?' };
        let url = format!("{base}{separator}{}", query.finish());
        Ok((base, url))
    }

    fn signed(&self, config: &Config) -> anyhow::Result<String> {
        if let Some(token) = &self.token {
            return Ok(token.clone());
        }
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH)?;
        let claims = serde_json::json!({"sub": self.user, "exp": now.as_secs() + 3600});
        let token = auth::sign(&config.client.token, &claims)
            .context("no token: give --token, CLARION_TOKEN or a --config with a key")?;
        Ok(token.expose().to_owned())
    }

    fn show(&self, text: &str) -> Result<(), Failure> {
        if self.output.is_json() {
            return output::print(text);
        }
        let message: Value = serde_json::from_str(text).map_err(anyhow::Error::from)?;
        let push = &message["push"];
        if let Some(subscriptions) = push["connect"]["subs"].as_object() {
            for (channel, verdict) in subscriptions {
                match verdict["error"]["message"].as_str() {
                    Some(reason) => output::warn(&format!("{channel}: {reason}")),
                    None => output::note(&format!("subscribed to {channel}")),
                }
            }
            return Ok(());
        }
        match push["pub"].get("data") {
            Some(data) => output::print(&format!("{}\t{data}", push["channel"].as_str().unwrap_or_default())),
            None => output::print(text),
        }
    }
}

/// Says what went wrong without the URL, which holds the token.
fn explain(error: tungstenite::Error, base: &str) -> anyhow::Error {
    match error {
        tungstenite::Error::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            let reason: Value = serde_json::from_slice(body).unwrap_or_default();
            let reason = reason["message"].as_str().unwrap_or("no reason given").to_owned();
            anyhow!("{base} answers {}: {reason}", response.status())
        }
        tungstenite::Error::Io(error) => anyhow::Error::new(error).context(format!("connecting to {base}")),
        error => anyhow!("{base}: {error}"),
    }
}
