//! What is counted: a function for each figure. What it is given is made before and not counted, nor is the end of
//! what it gives back.
#![expect(unused_qualifications, reason = "gungraun's macros write paths in full")]

use std::hint::black_box;
use std::net::TcpStream;

use aws_lc_rs::hmac;
use bytes::Bytes;
use clarion::broker::{Draft, PublishOptions};
use clarion::model::{Channel, Publication};
use clarion::protocol::Encoding;
use clarion::wire::{self, Decoder, Opcode, Role};
use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};

use crate::client::{Visitor, masked_frame};
use crate::crowd::Crowd;
use crate::world::{CHANNEL, World, channel, data, draft};

/// How often what is short is done: the figures are of all of it.
const REPEATS: usize = 100;
/// How many were served before the one that counts, so that nothing is done for the first time.
const WARM_UPS: usize = 8;
/// Of the fan-out.
const SUBSCRIBERS: usize = 1000;

/// Without what only some processors have. Valgrind shows a program those of its processor that it knows itself.
const LIBC: &str = "glibc.cpu.hwcaps=-AVX2,-AVX,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-AVX512F,-AVX512VL";
/// The same for the crypto library: no AVX, FMA and RDRAND, and nothing of what came after them.
const CRYPTO: &str = "~0x5000100000000000:~0xffffffffffffffff";
/// Pages are not given back and caches not looked through: both is done by the clock.
const ALLOCATOR: &str = "dirty_decay_ms:-1,muzzy_decay_ms:-1,tcache_gc_incr_bytes:1073741824";

fn config() -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    let pins = [("GLIBC_TUNABLES", LIBC), ("OPENSSL_ia32cap", CRYPTO), ("_RJEM_MALLOC_CONF", ALLOCATOR)];
    config.envs(pins).tool(Callgrind::with_args(["--cache-sim=no"]));
    config
}

fn frames() -> (Decoder, Vec<Vec<u8>>) {
    (Decoder::new(Role::Server, 1 << 16), vec![masked_frame(&data()); REPEATS])
}

// A connection reads frames with 128 bytes of text each.
#[library_benchmark(setup = frames)]
#[bench::a_hundred_frames_of_128_bytes()]
fn decode((mut decoder, mut frames): (Decoder, Vec<Vec<u8>>)) -> (Decoder, Vec<Vec<u8>>) {
    for frame in &mut frames {
        let decoded = decoder.decode(black_box(frame));
        drop(black_box(decoded.expect("the frames are whole")));
    }
    (decoder, frames)
}

fn publication() -> (Channel, Publication, Vec<Bytes>) {
    let publication = Publication { offset: 12345, ..draft().publication };
    (channel(CHANNEL), publication, Vec::with_capacity(REPEATS))
}

type Pushes = (Channel, Publication, Vec<Bytes>);

// The push of a publication with 128 bytes of data, as bytes for sockets.
#[library_benchmark(setup = publication)]
#[bench::a_hundred_pushes_of_128_bytes()]
fn encode((channel, publication, mut pushes): Pushes) -> Pushes {
    for _ in 0..REPEATS {
        let (mut payload, mut frame) = (Vec::new(), Vec::new());
        let encoded = Encoding::CentrifugeJson.encode(&channel, black_box(&publication), &mut payload);
        encoded.expect("the data is JSON");
        wire::encode_frame(Opcode::Text, &payload, &mut frame);
        pushes.push(frame.into());
    }
    (channel, publication, pushes)
}

fn crowd() -> Crowd {
    let crowd = Crowd::gather(SUBSCRIBERS);
    for _ in 0..WARM_UPS {
        crowd.publish();
        crowd.deliver();
        crowd.read();
    }
    crowd.publish();
    crowd
}

// A publication goes from the inbox of a shard to a thousand sockets.
#[library_benchmark(setup = crowd)]
#[bench::to_1000_subscribers()]
fn fan_out(crowd: Crowd) -> Crowd {
    crowd.deliver();
    crowd
}

fn authority() -> World {
    let world = World::start();
    for _ in 0..WARM_UPS {
        world.authenticate();
    }
    world
}

// The token of a connection is verified.
#[library_benchmark(setup = authority)]
#[bench::a_hundred_hs256_tokens()]
fn verify(world: World) -> World {
    for _ in 0..REPEATS {
        drop(black_box(world.authenticate()));
    }
    world
}

fn visited() -> (World, Visitor, Vec<TcpStream>) {
    let world = World::start();
    let others = (0..WARM_UPS).map(|_| world.serve(world.visitor())).collect();
    let visitor = world.visitor();
    (world, visitor, others)
}

// A client comes: handshake, token, upgrade, `connect`, `subscribe`, and the replies.
#[library_benchmark(setup = visited)]
#[bench::with_token_and_subscription()]
fn connect((world, visitor, others): (World, Visitor, Vec<TcpStream>)) -> (World, TcpStream, Vec<TcpStream>) {
    let client = world.serve(visitor);
    (world, client, others)
}

fn history() -> (World, Channel, Vec<Vec<Draft>>, PublishOptions) {
    let (world, channel) = (World::start(), channel(CHANNEL));
    let (options, _) = world.context.authority.publish_options(&channel);
    let drafts = |count| (0..count).map(|_| vec![draft()]).collect();
    world.publish(&channel, drafts(REPEATS * 2), options);
    (world, channel, drafts(REPEATS), options)
}

// Publications to a history in memory that is full.
#[library_benchmark(setup = history)]
#[bench::a_hundred_with_history()]
fn publish((world, channel, drafts, options): (World, Channel, Vec<Vec<Draft>>, PublishOptions)) -> World {
    world.publish(&channel, drafts, options);
    world
}

fn key() -> (hmac::Key, Vec<u8>) {
    (hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]), vec![0x5a; 1024])
}

// None of our code: what allocator, libc and crypto library take.
#[library_benchmark(setup = key)]
#[bench::a_hundred_rounds()]
fn reference((key, bytes): (hmac::Key, Vec<u8>)) -> (hmac::Key, Vec<u8>) {
    for round in 0..REPEATS {
        let copy = black_box(&bytes)[..512 + round].to_vec();
        black_box(hmac::sign(&key, &copy));
        let mut grown = vec![0; 16 + round];
        grown.extend_from_slice(&copy);
        black_box(grown == copy);
    }
    (key, bytes)
}

library_benchmark_group!(
    name = subjects,
    benchmarks = [decode, encode, fan_out, verify, connect, publish, reference]
);

main!(config = config(), library_benchmark_groups = subjects);

/// Has the runner count, or counts for it.
pub(crate) fn run() {
    main();
}
