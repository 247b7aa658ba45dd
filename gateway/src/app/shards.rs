//! The threads of the shards: bound together, started together, stopped together.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{Barrier, watch};

use super::{StartError, listen_error};
use crate::node::{Node, ShardId};
use crate::server::Routes;
use crate::server::accept::{self, Options};
use crate::shard::{Budget, Settings, Shard};

/// How often to look whether a thread has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What the shards are to serve.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) address: SocketAddr,
    /// `SO_SNDBUF` of client connections, in bytes.
    pub(super) send_buffer_bytes: usize,
    pub(super) count: usize,
    pub(super) router: Routes,
    pub(super) node: Arc<Node>,
    pub(super) budget: Arc<Budget>,
    pub(super) settings: Settings,
    pub(super) options: Options,
}

/// How long connections may take to close after the last of them was asked to: its command may take a second, its place in
/// the presence another, and the client two to read what there is.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
/// How long the shards may take to meet after that.
const MEETING_DEADLINE: Duration = Duration::from_secs(1);

/// Where all shards are. They only go forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Bound,
    Accepting,
    /// Connections are closed over `window`; who comes is refused.
    Draining {
        window: Duration,
    },
}

/// What became of the connections of a node that stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drained {
    /// Those that were closed with something that the client had not taken.
    pub(super) cut: usize,
    /// Those that were still there.
    pub(super) left: usize,
}

/// The running threads.
pub(super) struct Shards {
    address: SocketAddr,
    stage: watch::Sender<Stage>,
    /// How many shards have not yet asked all of their connections to close.
    asking: watch::Receiver<usize>,
    threads: Vec<JoinHandle<Drained>>,
}

impl Shards {
    /// Starts a thread for each shard, each with a listener of its own on the one address.
    ///
    /// Nobody accepts before [`accept`](Self::accept).
    pub(super) fn bind(plan: &Plan) -> Result<Self, StartError> {
        probe(plan.address)?;
        let (still_asking, asking) = watch::channel(plan.count);
        let still_asking = Arc::new(still_asking);
        let stage = watch::Sender::new(Stage::Bound);
        let mut shards = Self { address: plan.address, stage, asking, threads: Vec::new() };
        let barrier = Arc::new(Barrier::new(plan.count));
        for index in 0..plan.count {
            let (bound, is_bound) = mpsc::channel();
            let world = World {
                id: ShardId::new(index),
                // With port 0 the first shard finds a port, and the others share it.
                plan: Plan { address: shards.address, ..plan.clone() },
                stage: shards.stage.subscribe(),
                asks: Asks(Arc::clone(&still_asking)),
                closed: Arc::clone(&barrier),
            };
            let thread = std::thread::Builder::new().name(format!("shard-{index}"));
            shards.threads.push(thread.spawn(move || world.run(&bound)).map_err(StartError::Runtime)?);
            let failed = "the thread says how binding went before it ends";
            shards.address = is_bound.recv().expect(failed)?;
        }
        Ok(shards)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets every shard accept.
    pub(super) fn accept(&self) {
        self.stage.send_replace(Stage::Accepting);
    }

    /// Closes all connections over `window`, or longer if other nodes could not take them, and ends the threads. Once the
    /// last was asked, none is waited for longer than a few seconds.
    pub(super) fn drain(self, window: Duration) -> Drained {
        let Self { stage, asking, threads, .. } = self;
        stage.send_replace(Stage::Draining { window });
        drop(stage);
        while *asking.borrow() > 0 {
            std::thread::sleep(LOOK_INTERVAL);
        }
        let end = Instant::now() + CLOSE_DEADLINE + MEETING_DEADLINE;
        let drained = threads.into_iter().map(|thread| ended(thread, end));
        drained.fold(Drained::default(), |sum, one| Drained {
            cut: sum.cut + one.cut,
            left: sum.left + one.left,
        })
    }
}

/// Waits for `thread` until `end`.
fn ended(thread: JoinHandle<Drained>, end: Instant) -> Drained {
    while !thread.is_finished() && Instant::now() < end {
        std::thread::sleep(LOOK_INTERVAL);
    }
    if !thread.is_finished() {
        tracing::error!("a shard does not stop; it is left behind");
        return Drained::default();
    }
    // A shard that panicked has said so, and has no connections left.
    thread.join().unwrap_or_default()
}

/// A shard that has not yet asked all of its connections to close, whatever becomes of it.
struct Asks(Arc<watch::Sender<usize>>);

impl Drop for Asks {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Another process that shares its port would let us bind beside it: only a socket that does not share tells.
fn probe(address: SocketAddr) -> Result<(), StartError> {
    if address.port() == 0 {
        return Ok(());
    }
    std::net::TcpListener::bind(address)
        .map(drop)
        .map_err(|error| listen_error(address, "public.port", error))
}

/// What one thread starts with.
struct World {
    id: ShardId,
    plan: Plan,
    stage: watch::Receiver<Stage>,
    asks: Asks,
    closed: Arc<Barrier>,
}

impl World {
    fn run(self, bound: &mpsc::Sender<Result<SocketAddr, StartError>>) -> Drained {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default());
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                drop(bound.send(Err(StartError::Runtime(error))));
                return Drained::default();
            }
        };
        runtime.block_on(async {
            let listener = accept::bind(self.plan.address, true, Some(self.plan.send_buffer_bytes));
            match listener.and_then(|listener| Ok((listener.local_addr()?, listener))) {
                Ok((address, listener)) => {
                    drop(bound.send(Ok(address)));
                    self.serve(listener).await
                }
                Err(error) => {
                    drop(bound.send(Err(listen_error(self.plan.address, "public.port", error))));
                    Drained::default()
                }
            }
        })
    }

    async fn serve(self, listener: TcpListener) -> Drained {
        let Self { id, plan, mut stage, asks, closed } = self;
        let mut stopping = stage.clone();
        if stage.wait_for(|stage| *stage >= Stage::Accepting).await.is_err() {
            return Drained::default();
        }
        let shard = Shard::new(id, plan.node, plan.settings, plan.budget);
        shard.start();
        let stop = async {
            if let Some(window) = drain_window(&mut stage).await {
                shard.drain(window).await;
                drop(asks);
                // Who is not gone by then is left behind.
                drop(tokio::time::timeout(CLOSE_DEADLINE, shard.drained()).await);
                // Until all shards are ready everybody goes on answering: closing one of several listeners of a port
                // resets what waits in its queue.
                closed.wait().await;
            }
        };
        let is_stopping = move || matches!(*stopping.borrow_and_update(), Stage::Draining { .. });
        let (router, options) = (plan.router, plan.options);
        drop(accept::run_on_shard(listener, router, Rc::clone(&shard), options, is_stopping, stop).await);
        Drained { cut: shard.cut(), left: shard.connection_count() }
    }
}

/// Waits for the word to stop; answers over how long connections are to be closed. `None`: the gateway was dropped
/// without being stopped, and nobody is waited for.
async fn drain_window(stage: &mut watch::Receiver<Stage>) -> Option<Duration> {
    match stage.wait_for(|stage| matches!(stage, Stage::Draining { .. })).await.as_deref() {
        Ok(Stage::Draining { window }) => Some(*window),
        _ => None,
    }
}
