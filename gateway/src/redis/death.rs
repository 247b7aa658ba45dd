use super::call::{Call, Script, script};

/// How long it is remembered that a node was declared dead: longer than one may sleep.
const REMEMBERED_MS: u64 = 24 * 3600 * 1000;

static DEATH: Script = script!("node_death.lua");

/// Declares the node dead whose lease is the key `lease`, if that has run out. Answers whether it is dead.
pub fn death(lease: &str) -> Call {
    Call::script(&DEATH, &[lease]).arg(REMEMBERED_MS)
}
