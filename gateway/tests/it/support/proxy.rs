use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of what goes through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    Cut,
    Frozen,
}

/// A way to a server that can be cut and mended.
pub(crate) struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    attempts: Arc<AtomicUsize>,
}

impl Proxy {
    /// To `target`; everything gets through.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (mode, modes) = watch::channel(Mode::Open);
        let attempts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&attempts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(relay(client, target, modes.clone()));
            }
        });
        Self { address, mode, attempts }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often somebody connected.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts.load(Ordering::Relaxed)
    }

    /// Every connection breaks, and no new one gets through.
    pub(crate) fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Everything is swallowed, and nobody is told so.
    pub(crate) fn freeze(&self) {
        self.mode.send_replace(Mode::Frozen);
    }

    /// New connections get through.
    pub(crate) fn mend(&self) {
        self.mode.send_replace(Mode::Open);
    }
}

async fn relay(mut client: TcpStream, target: SocketAddr, mut modes: watch::Receiver<Mode>) {
    if *modes.borrow_and_update() == Mode::Open {
        let Ok(mut server) = TcpStream::connect(target).await else { return };
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
            _ = modes.wait_for(|mode| *mode != Mode::Open) => {}
        }
    }
    // What was swallowed does not come back, so the connection ends with the ice.
    let _thawed = modes.wait_for(|mode| *mode != Mode::Frozen).await;
}
