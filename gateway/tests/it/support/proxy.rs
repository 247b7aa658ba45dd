use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of what is sent through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    /// Connections end, and new ones end as soon as they are opened.
    Cut,
    /// Nothing comes through, and nobody is told.
    Frozen,
}

/// Stands between a gateway and a server, which it can cut off and bring back.
pub(crate) struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy to `target` that lets everything through.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are ports");
        let address = listener.local_addr().expect("it is bound");
        let (mode, modes) = watch::channel(Mode::Open);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, target, modes.clone()));
            }
        });
        Self { address, mode, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server is gone.
    pub(crate) fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// The network swallows everything; what it has swallowed does not come back.
    pub(crate) fn freeze(&self) {
        self.mode.send_replace(Mode::Frozen);
    }

    /// The server is there again, for new connections.
    pub(crate) fn restore(&self) {
        self.mode.send_replace(Mode::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, target: SocketAddr, mut modes: watch::Receiver<Mode>) {
    let mode = *modes.borrow_and_update();
    let changed = match mode {
        Mode::Cut => return,
        Mode::Frozen => modes.changed().await,
        Mode::Open => {
            let Ok(mut server) = TcpStream::connect(target).await else { return };
            let _both = (client.set_nodelay(true), server.set_nodelay(true));
            tokio::select! {
                _ended = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
                changed = modes.changed() => changed,
            }
        }
    };
    // Frozen: the connection stays open, and everything that was under way is lost.
    if changed.is_ok() && *modes.borrow() == Mode::Frozen {
        let _thawed = modes.changed().await;
    }
}
