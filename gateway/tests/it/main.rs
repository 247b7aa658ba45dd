//! Black-box tests of the gateway.

fn main() {}
