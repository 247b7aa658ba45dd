use clap::Args;
use serde_json::json;

use super::Failure;
use super::call::Server;
use super::output::Output;

/// Ask a node whether it lives, or is ready: for probes, exit code 0 or 1
#[derive(Args)]
#[command(after_help = "Example:\n  clarion health\n  clarion health --ready --url http://127.0.0.1:9000")]
pub(super) struct Health {
    /// Ask whether it is ready for clients, not only whether it lives.
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: Output,
}

impl Health {
    pub(super) fn run(self) -> Result<(), Failure> {
        let path = if self.ready { "/readyz?verbose" } else { "/livez" };
        let (status, text) = self.server.ask(path)?;
        self.output.report(text.trim_end(), &json!({"ok": status == 200, "status": status}))?;
        if status == 200 { Ok(()) } else { Err(Failure::Reported(1)) }
    }
}
