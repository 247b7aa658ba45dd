use clap::Args;
use serde_json::{Value, json};

use super::Failure;
use super::call::Server;
use super::output::Output;

/// Publish to a channel through a running node
#[derive(Args)]
#[command(after_help = "Example:\n  clarion pub chat '{\"text\":\"hello\"}' --config clarion.yaml\n  \
    clarion pub chat hello --url http://127.0.0.1:9000 --key KEY")]
pub(super) struct Publish {
    /// The channel.
    channel: String,
    /// The data: JSON, or else a text.
    data: String,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: Output,
}

impl Publish {
    pub(super) fn run(self) -> Result<(), Failure> {
        let data: Value = serde_json::from_str(&self.data).unwrap_or(Value::String(self.data));
        let result = self.server.call("publish", &json!({"channel": self.channel, "data": data}))?;
        self.output.report(&format!("published to {}", self.channel), &result)
    }
}
