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
    pub(super) count: usize,
    pub(super) router: Routes,
    pub(super) node: Arc<Node>,
    pub(super) budget: Arc<Budget>,
    pub(super) settings: Settings,
    pub(super) options: Options,
}

/// Where all shards are. They only go forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Bound,
    Accepting,
    /// Connections are closing; who comes is refused.
    Stopping {
        deadline: Duration,
    },
}

/// The running threads.
pub(super) struct Shards {
    address: SocketAddr,
    stage: watch::Sender<Stage>,
    threads: Vec<JoinHandle<()>>,
}

impl Shards {
    /// Starts a thread for each shard, each with a listener of its own on the one address.
    ///
    /// Nobody accepts before [`accept`](Self::accept).
    pub(super) fn bind(plan: &Plan) -> Result<Self, StartError> {
        probe(plan.address)?;
        let mut shards =
            Self { address: plan.address, stage: watch::Sender::new(Stage::Bound), threads: Vec::new() };
        let barrier = Arc::new(Barrier::new(plan.count));
        for index in 0..plan.count {
            let (bound, is_bound) = mpsc::channel();
            let world = World {
                id: ShardId::new(index),
                // With port 0 the first shard finds a port, and the others share it.
                plan: Plan { address: shards.address, ..plan.clone() },
                stage: shards.stage.subscribe(),
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

    /// Ends the threads once their connections are closed, or after `deadline`.
    pub(super) fn stop(self, deadline: Duration) {
        self.stage.send_replace(Stage::Stopping { deadline });
        drop(self.stage);
        // Twice: for the connections, and for the shards to meet.
        let end = Instant::now() + deadline * 2;
        for thread in self.threads {
            while !thread.is_finished() && Instant::now() < end {
                std::thread::sleep(LOOK_INTERVAL);
            }
            match thread.is_finished() {
                // A shard that panicked has said so, and has no connections left.
                true => drop(thread.join()),
                false => tracing::error!("a shard does not stop; it is left behind"),
            }
        }
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
    closed: Arc<Barrier>,
}

impl World {
    fn run(self, bound: &mpsc::Sender<Result<SocketAddr, StartError>>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default());
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(bound.send(Err(StartError::Runtime(error)))),
        };
        runtime.block_on(async {
            let listener = accept::bind(self.plan.address, true);
            match listener.and_then(|listener| Ok((listener.local_addr()?, listener))) {
                Ok((address, listener)) => {
                    drop(bound.send(Ok(address)));
                    self.serve(listener).await;
                }
                Err(error) => {
                    drop(bound.send(Err(listen_error(self.plan.address, "public.port", error))));
                }
            }
        });
    }

    async fn serve(self, listener: TcpListener) {
        let Self { id, plan, mut stage, closed } = self;
        let mut stopping = stage.clone();
        if stage.wait_for(|stage| *stage >= Stage::Accepting).await.is_err() {
            return;
        }
        let shard = Shard::new(id, plan.node, plan.settings, plan.budget);
        shard.start();
        let stop = async {
            let deadline = stop_deadline(&mut stage).await;
            // Who is not gone by then is left behind.
            drop(tokio::time::timeout(deadline, shard.stopped()).await);
            // Until all shards are ready everybody goes on answering: closing one of several listeners of a port
            // resets what waits in its queue.
            drop(tokio::time::timeout(deadline, closed.wait()).await);
        };
        let is_stopping = move || matches!(*stopping.borrow_and_update(), Stage::Stopping { .. });
        let (router, options) = (plan.router, plan.options);
        drop(accept::run_on_shard(listener, router, Rc::clone(&shard), options, is_stopping, stop).await);
    }
}

/// Waits for the word to stop; answers how long connections may take.
async fn stop_deadline(stage: &mut watch::Receiver<Stage>) -> Duration {
    // An error means that the gateway was dropped without being stopped: nobody is waited for.
    let stopping = stage.wait_for(|stage| matches!(stage, Stage::Stopping { .. })).await;
    match stopping.as_deref() {
        Ok(Stage::Stopping { deadline }) => *deadline,
        _ => Duration::ZERO,
    }
}
