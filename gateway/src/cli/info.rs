use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use super::Failure;
use super::call::Server;
use super::output::Output;

/// Show the nodes with their connections and channels
#[derive(Args)]
#[command(after_help = "Example:\n  clarion info --config clarion.yaml\n  \
    clarion info --url http://127.0.0.1:9000 --key KEY --output json")]
pub(super) struct Info {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: Output,
}

impl Info {
    pub(super) fn run(self) -> Result<(), Failure> {
        let result = self.server.call("info", &json!({}))?;
        self.output.report(&table(&result), &result)
    }
}

fn table(result: &Value) -> String {
    let mut text =
        String::from("node                  version   clients    users  channels     subs   uptime");
    for node in result["nodes"].as_array().into_iter().flatten() {
        let number = |name: &str| node[name].as_u64().unwrap_or_default();
        let word = |name: &str| node[name].as_str().unwrap_or_default();
        let line = format!(
            "\n{:<20}  {:<8} {:>8} {:>8} {:>9} {:>8} {:>7}s",
            word("name"),
            word("version"),
            number("num_clients"),
            number("num_users"),
            number("num_channels"),
            number("num_subs"),
            number("uptime")
        );
        text.write_str(&line).expect("a string takes everything");
    }
    text
}
