//! How many instructions the hot paths of the gateway take.
#![expect(missing_docs, reason = "gungraun's macros make items without")]

mod client;
mod subjects;
mod world;

/// Measured with the allocator that ships.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    subjects::run();
}
