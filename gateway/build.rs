//! Makes Rust types of the schemas, without any program beside Cargo, and notes what is built by what.

use std::error::Error;
use std::process::Command;

/// A link to `/proto`, so that the schemas are in the package too: they belong to everyone who speaks the protocols.
const SCHEMAS: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SCHEMAS}");
    let files = ["client.proto", "control.proto", "envelope.proto", "presence.proto", "profile.proto"];
    let schemas = protox::compile(files, [SCHEMAS])?;
    // Payloads are kept as they come: shared, not copied.
    prost_build::Config::new().bytes(["."]).compile_fds(schemas)?;
    note_build()
}

/// Says which commit this is, as `CLARION_COMMIT` has it, and which compiler makes it. Not asked of git: then everything
/// would be compiled anew with each commit.
fn note_build() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=CLARION_COMMIT");
    let commit = std::env::var("CLARION_COMMIT").unwrap_or_else(|_| "unknown".into());
    println!("cargo::rustc-env=CLARION_COMMIT={commit}");
    let version = Command::new(std::env::var("RUSTC")?).arg("--version").output()?;
    println!("cargo::rustc-env=CLARION_RUSTC={}", String::from_utf8(version.stdout)?.trim());
    Ok(())
}
