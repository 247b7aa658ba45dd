//! The `clarion` command.

fn main() {}
