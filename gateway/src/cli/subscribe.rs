use std::io;

use anyhow::{Context as _, anyhow};
use clap::Args;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio_tungstenite::tungstenite::{self, Message};

use super::call::Listener;
use super::protected::Trusted;
use super::target::{Stream, Target};
use super::{ConfigFile, Failure, output};
use crate::auth;
use crate::config::Config;
use crate::tls::client::HandshakeFailure;

/// Where a node has the bare WebSocket.
const PATH: &str = "/ws";

/// Subscribe to channels and print what is published, until the connection ends
#[derive(Args)]
#[command(after_help = "Example:\n  clarion sub chat --config clarion.yaml --user 42\n  \
    clarion sub chat news --url ws://127.0.0.1:8000/ws --token TOKEN --output json\n  \
    clarion sub chat --url wss://ws.example.com/ws --ca-file ca.pem --token TOKEN")]
pub(super) struct Subscribe {
    /// The channels.
    #[arg(required = true)]
    channels: Vec<String>,
    /// Where the bare WebSocket is; by default where the configuration says.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    trusted: Trusted,
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
        let config = self.file.load_or_default()?;
        let listener = Listener::public(self.url.as_deref(), &config);
        let target = Target::new(&listener, &self.trusted).context("--url").map_err(Failure::Usage)?;
        let base = target.url(PATH);
        let url = self.with_secret(&base, &config)?;
        let stream = reach(&target).await.map_err(|error| unreached(error, &base))?;
        let connected = tokio_tungstenite::client_async(url, stream).await;
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

    /// The address with its secret.
    fn with_secret(&self, base: &str, config: &Config) -> anyhow::Result<String> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("token", &self.signed(config)?);
        for channel in &self.channels {
            query.append_pair("channel", channel);
        }
        let separator = if base.contains('?') { '&' } else { '?' };
        Ok(format!("{base}{separator}{}", query.finish()))
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

async fn reach(target: &Target) -> io::Result<Box<dyn Stream>> {
    target.protect(target.reach().await?).await
}

fn unreached(error: io::Error, base: &str) -> anyhow::Error {
    let said = match HandshakeFailure::of(&error) {
        Some(failure) => anyhow::Error::new(failure),
        None => anyhow::Error::new(error),
    };
    said.context(format!("connecting to {base}"))
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
        tungstenite::Error::Io(error) => unreached(error, base),
        error => anyhow!("{base}: {error}"),
    }
}
