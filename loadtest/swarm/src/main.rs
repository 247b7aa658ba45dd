//! The load generator's command.

fn main() {}
