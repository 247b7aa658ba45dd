//! A load generator whose clients check what they are given: nothing lost in silence, nothing twice, all in order.

fn main() {}
