//! Echoes every message, for conformance suites such as Autobahn's.
//!
//! Uses the gateway's own accept loop, upgrade, decoder, outbox and close handshake; only the conversation is
//! another one.
//!
//! ```text
//! cargo run --release --example conformance_echo -- --listen 127.0.0.1:9001
//! ```

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use clap::Parser;
use clarion::broker::MemoryBroker;
use clarion::cluster;
use clarion::metrics::Metrics;
use clarion::model::{Channel, CloseReason};
use clarion::node::{Backends, Dispatch, INBOX_BYTES_MAX, Node, Order, PresenceSettings, ShardId};
use clarion::presence::MemoryPresence;
use clarion::protocol::{Conversation, Effect, Encoding, Framing, Message, Outcome, bare};
use clarion::server::accept::{self, Options};
use clarion::server::admission::{Admission, Limits, MemoryLimits};
use clarion::shard::{Budget, Settings, Shard};
use clarion::transport::websocket::{self, Acceptance};
use tokio::runtime::{Builder, LocalOptions};

/// Echo every WebSocket message.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// Largest message, in bytes.
    #[arg(long, default_value_t = 16 << 20)]
    message_bytes_max: usize,
}

/// Says what it hears.
struct Echo;

impl Conversation for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn framing(&self) -> Framing {
        Framing::Single
    }

    fn encoding(&self) -> Encoding {
        Encoding::BareData
    }

    fn on_start(&mut self, _: &mut Vec<Effect>) {}

    fn on_message(&mut self, message: Message<'_>, effects: &mut Vec<Effect>) {
        effects.push(match message {
            Message::Text(text) => Effect::Send(text.as_bytes().to_vec()),
            Message::Binary(bytes) => Effect::SendBinary(bytes.to_vec()),
        });
    }

    fn on_outcome(&mut self, _: Outcome, _: &mut Vec<Effect>) {}

    fn on_order(&mut self, _: Order, _: &mut Vec<Effect>) {}

    fn on_reminder(&mut self, _: &mut Vec<Effect>) {}

    fn on_lost(&mut self, _: Channel, _: &mut Vec<Effect>) {}

    fn backlog_bytes(&self) -> usize {
        0
    }

    fn close_code(&self, reason: &CloseReason) -> (u16, Cow<'static, str>) {
        bare::close_code(reason)
    }
}

async fn echo(request: Request) -> Response<Body> {
    websocket::accept(&request, Acceptance::new(|_| Box::new(Echo)))
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(serve(&arguments))
}

async fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new());
    let dispatch = Dispatch::new(1, INBOX_BYTES_MAX, Arc::clone(&metrics));
    let broker = Arc::new(MemoryBroker::new(Arc::clone(&dispatch) as _));
    let backbone = tokio::runtime::Handle::current();
    let backends = Backends {
        broker,
        presence: Arc::new(MemoryPresence::new()),
        presence_settings: PresenceSettings::default(),
        cluster: cluster::Options::alone(Arc::default()),
    };
    let node = Node::new("echo".into(), dispatch, backends, Arc::clone(&metrics), backbone);
    let hour = Duration::from_secs(3600);
    let settings = Settings {
        ping_interval: Duration::ZERO,
        pong_timeout: hour,
        // Nobody authenticates here.
        stale_close_delay: hour,
        expired_close_delay: hour,
        user_connections_max: 0,
        message_bytes_max: arguments.message_bytes_max,
        frames_per_second_max: 0,
        // A suite sends faster than it reads.
        outbox_bytes_max: arguments.message_bytes_max * 16,
        write_timeout: Duration::from_secs(60),
        position_check_interval: Duration::ZERO,
        lifetime_max: Duration::ZERO,
        idle_after: Duration::ZERO,
    };
    let shard = Shard::new(ShardId::new(0), node, settings, Arc::new(Budget::new(usize::MAX / 2)));
    shard.start();
    let limits = Limits {
        requires_tls: false,
        connections_max: 10_000,
        connections_soft_max: 0,
        handshakes_per_second: 10_000,
        address_connections_max: 0,
        address_handshakes_per_second: 0,
        trusted_proxies: Vec::new(),
        memory: MemoryLimits { resident_bytes_max: usize::MAX, address_space_bytes_max: None },
        farewells_max: 0,
    };
    let options = Options {
        tls: None,
        header_timeout: Duration::from_secs(5),
        admission: Admission::new(limits, metrics),
    };
    let listener = accept::bind(arguments.listen, false, Some(64 << 10))?;
    let router = Router::new().fallback(echo);
    accept::run_on_shard(listener, router, shard, options, || false, std::future::pending()).await;
    Ok(())
}
