//! What is counted: one function for each figure, and what it needs, which is not counted.

use std::borrow::Cow;
use std::hint::black_box;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;

use bytes::Bytes;
use clarion::broker::{Draft, PublishOptions};
use clarion::model::{Channel, ClientId, CloseReason, Publication};
use clarion::node::Order;
use clarion::protocol::{Conversation, Effect, Encoding, Framing, Message, Outcome, Wanted, bare};
use clarion::shard::{Arrival, Shard, Socket};
use clarion::wire::{self, Decoder, Opcode, Role};
use gungraun::prelude::*;

use crate::client::{Visitor, masked_frame};
use crate::world::{CHANNEL, World, channel, data, draft};

/// How often what is short is done: the figures are of all of it.
const REPEATS: usize = 100;
/// How many were served before the one that counts, so that nothing is done for the first time.
const WARM_UPS: usize = 8;
/// Of the fan-out.
const SUBSCRIBERS: usize = 1000;

fn masked_frames() -> (Decoder, Vec<Vec<u8>>) {
    (Decoder::new(Role::Server, 1 << 16), vec![masked_frame(&data()); REPEATS])
}

// A connection reads frames with 128 bytes of text each.
#[library_benchmark(setup = masked_frames)]
#[bench::of_128_bytes()]
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

// The push of a publication, as bytes for sockets.
#[library_benchmark(setup = publication)]
#[bench::of_128_bytes()]
fn encode(
    (channel, publication, mut pushes): (Channel, Publication, Vec<Bytes>),
) -> (Channel, Publication, Vec<Bytes>) {
    for _ in 0..REPEATS {
        let (mut payload, mut frame) = (Vec::new(), Vec::new());
        let encoded = Encoding::CentrifugeJson.encode(&channel, black_box(&publication), &mut payload);
        encoded.expect("the data is JSON");
        wire::encode_frame(Opcode::Text, &payload, &mut frame);
        pushes.push(frame.into());
    }
    (channel, publication, pushes)
}

fn authority() -> World {
    let world = World::start();
    for _ in 0..WARM_UPS {
        world.context.authenticate(world.token()).expect("the token is good");
    }
    world
}

// The verification of a connection's token.
#[library_benchmark(setup = authority)]
#[bench::hs256()]
fn verify(world: World) -> World {
    for _ in 0..REPEATS {
        let identity = world.context.authenticate(black_box(world.token()));
        drop(black_box(identity.expect("the token is good")));
    }
    world
}

fn history() -> (World, Channel, Vec<Vec<Draft>>, PublishOptions) {
    let (world, channel) = (World::start(), channel(CHANNEL));
    let options = world.context.authority.publish_options(&channel);
    for _ in 0..REPEATS * 2 {
        world.publish(&channel, vec![draft()], options);
    }
    let drafts = (0..REPEATS).map(|_| vec![draft()]).collect();
    (world, channel, drafts, options)
}

// A publication to a history that is full.
#[library_benchmark(setup = history)]
#[bench::with_history()]
fn publish((world, channel, drafts, options): (World, Channel, Vec<Vec<Draft>>, PublishOptions)) -> World {
    for drafts in drafts {
        world.publish(&channel, drafts, options);
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
#[bench::with_token()]
fn connect((world, visitor, others): (World, Visitor, Vec<TcpStream>)) -> (World, TcpStream, Vec<TcpStream>) {
    let client = world.serve(visitor);
    (world, client, others)
}

/// Who is subscribed from the start, and says nothing.
struct Subscriber;

impl Conversation for Subscriber {
    fn name(&self) -> &'static str {
        "subscriber"
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn encoding(&self) -> Encoding {
        Encoding::CentrifugeJson
    }

    fn on_start(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Subscribe(vec![Wanted::live(channel(CHANNEL))]));
    }

    fn on_message(&mut self, _: Message<'_>, _: &mut Vec<Effect>) {}

    fn on_outcome(&mut self, _: Outcome, _: &mut Vec<Effect>) {}

    fn on_order(&mut self, _: Order, _: &mut Vec<Effect>) {}

    fn on_lost(&mut self, _: Channel, _: &mut Vec<Effect>) {}

    fn on_reminder(&mut self, _: &mut Vec<Effect>) {}

    fn backlog_bytes(&self) -> usize {
        0
    }

    fn close_code(&self, reason: &CloseReason) -> (u16, Cow<'static, str>) {
        bare::close_code(reason)
    }
}

/// Connects a subscriber past the handshake. Answers the client's end.
fn subscriber(shard: &Rc<Shard>, listener: &TcpListener) -> TcpStream {
    let address = listener.local_addr().expect("it is bound");
    let client = TcpStream::connect(address).expect("the listener is there");
    let (stream, _) = listener.accept().expect("the client is there");
    for stream in [&client, &stream] {
        stream.set_nonblocking(true).expect("the socket is open");
    }
    let stream = tokio::net::TcpStream::from_std(stream).expect("the runtime runs");
    let (conversation, client_id) = (Box::new(Subscriber), ClientId::random());
    shard.take_in(Arrival {
        socket: Socket::from(stream),
        unread: Bytes::new(),
        conversation,
        client: client_id,
        permit: None,
    });
    client
}

/// Waits until the last of the clients has got something that is not read.
async fn arrived(clients: &[TcpStream]) {
    let last = clients.last().expect("there are clients");
    while last.peek(&mut [0]).is_err() {
        tokio::task::yield_now().await;
    }
}

fn crowd() -> (World, Vec<TcpStream>) {
    let world = World::start();
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("there is a port");
    let clients = world.runtime.block_on(async {
        let clients: Vec<_> = (0..SUBSCRIBERS).map(|_| subscriber(&world.shard, &listener)).collect();
        while world.node.subscription_count() < SUBSCRIBERS {
            tokio::task::yield_now().await;
        }
        clients
    });
    for _ in 0..WARM_UPS {
        world.publish(&channel(CHANNEL), vec![draft()], PublishOptions::default());
        world.runtime.block_on(arrived(&clients));
        read_all(&clients);
    }
    world.publish(&channel(CHANNEL), vec![draft()], PublishOptions::default());
    (world, clients)
}

fn read_all(clients: &[TcpStream]) {
    use std::io::Read as _;
    for mut client in clients {
        let count = client.read(&mut [0; 4096]).expect("every client got it");
        assert!(count > 0, "nobody was closed");
    }
}

// A publication goes from the inbox of a shard to a thousand sockets.
#[library_benchmark(setup = crowd)]
#[bench::to_1000()]
fn fan_out((world, clients): (World, Vec<TcpStream>)) -> (World, Vec<TcpStream>) {
    world.runtime.block_on(arrived(&clients));
    (world, clients)
}

library_benchmark_group!(name = subjects, benchmarks = [decode, encode, fan_out, verify, connect, publish]);

main!(library_benchmark_groups = subjects);

/// Has gungraun's runner count, or counts for it.
pub(crate) fn run() {
    main();
}
