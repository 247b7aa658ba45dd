//! Makes Rust types of the schemas, without any program beside Cargo.

use std::error::Error;

/// A link to `/proto`, so that the schemas are in the package too: they belong to everyone who speaks the protocols.
const SCHEMAS: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SCHEMAS}");
    let schemas =
        protox::compile(["client.proto", "control.proto", "envelope.proto", "presence.proto"], [SCHEMAS])?;
    // Payloads are kept as they come: shared, not copied.
    prost_build::Config::new().bytes(["."]).compile_fds(schemas)?;
    Ok(())
}
