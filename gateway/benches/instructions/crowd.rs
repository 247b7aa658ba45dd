//! A thousand subscribers of one shard, connected by sockets of this machine.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;

use bytes::Bytes;
use clarion::broker::PublishOptions;
use clarion::model::{Channel, ClientId, CloseReason};
use clarion::node::Order;
use clarion::protocol::{Conversation, Effect, Encoding, Framing, Message, Outcome, Wanted, bare};
use clarion::shard::{Arrival, Shard, Socket};

use crate::world::{CHANNEL, World, channel, draft};

/// Who subscribes at the start, and says nothing.
struct Subscriber {
    /// How many of them get what is published.
    live: Rc<Cell<usize>>,
}

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

    fn on_outcome(&mut self, outcome: Outcome, _: &mut Vec<Effect>) {
        assert!(matches!(outcome, Outcome::Subscribed(_)), "nothing else was asked for: {outcome:?}");
        self.live.set(self.live.get() + 1);
    }

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

/// A gateway and the sockets of its subscribers, in the order of their subscriptions.
pub(crate) struct Crowd {
    world: World,
    clients: Vec<TcpStream>,
}

impl Crowd {
    /// Connects so many, past the handshake, and waits until all are subscribed.
    pub(crate) fn gather(count: usize) -> Self {
        let world = World::start();
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("there is a port");
        let live = Rc::default();
        let clients = world.runtime.block_on(async {
            let clients = (0..count).map(|_| take_in(&world.shard, &listener, &live)).collect();
            // Not those that the node counts: they may still be on their way.
            while live.get() < count {
                tokio::task::yield_now().await;
            }
            clients
        });
        Self { world, clients }
    }

    /// Publishes something, which stays in the inbox of the shard.
    pub(crate) fn publish(&self) {
        self.world.publish(&channel(CHANNEL), vec![vec![draft()]], PublishOptions::default());
    }

    /// Lets the shard deliver, until the last of the subscribers has it.
    pub(crate) fn deliver(&self) {
        let last = self.clients.last().expect("there are subscribers");
        self.world.runtime.block_on(async {
            while last.peek(&mut [0]).is_err() {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Takes what every subscriber got.
    pub(crate) fn read(&self) {
        for mut client in &self.clients {
            let count = client.read(&mut [0; 4096]).expect("every subscriber got it");
            assert!(count > 0, "nobody was closed");
        }
    }
}

/// Connects a subscriber to `shard`. Answers the client's end.
fn take_in(shard: &Rc<Shard>, listener: &TcpListener, live: &Rc<Cell<usize>>) -> TcpStream {
    let address = listener.local_addr().expect("it is bound");
    let client = TcpStream::connect(address).expect("the listener is there");
    let (stream, _) = listener.accept().expect("the client is there");
    for stream in [&client, &stream] {
        stream.set_nonblocking(true).expect("the socket is open");
    }
    let stream = tokio::net::TcpStream::from_std(stream).expect("the runtime runs");
    shard.take_in(Arrival {
        socket: Socket::from(stream),
        unread: Bytes::new(),
        conversation: Box::new(Subscriber { live: Rc::clone(live) }),
        client: ClientId::random(),
        permit: None,
    });
    client
}
