//! Our own accept loop.
//!
//! `axum::serve` has no header timeout and sleeps a second when file descriptors run out; hyper-util's
//! automatic builder answers HTTP/2 prefaces and never times out a silent connection.

use std::cell::Cell;
use std::convert::Infallible;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use super::admission::{Admission, Reason, Refusal, Visit};
use crate::shard::Shard;
use crate::tls::{HandshakeError, Keeper};
use crate::transport::{self, AcceptedAt, websocket};

/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// How long a client connection may stay with HTTP. It asks for an upgrade; where one port serves everything also for pages,
/// and for profiles of a minute.
const HTTP_TIMEOUT: Duration = Duration::from_secs(90);
/// Pending connections that the kernel may hold for a listener.
pub const BACKLOG: u32 = 4096;
/// How long a shard that stops waits for those who are being told that it does.
const FAREWELLS_DEADLINE: Duration = Duration::from_millis(200);
/// How long to leave a listener alone that fails for a reason that no refusal can mend.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a listener needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a client may take to send the head of its request.
    pub header_timeout: Duration,
    /// Who is let in, and how the rest is told.
    pub admission: Arc<Admission>,
    /// What the listener shows; `None` if it does not speak TLS.
    pub tls: Option<Arc<Keeper>>,
}

impl Options {
    /// Sends away whoever is on `stream`, of which nothing was read, in the way of the listener.
    fn send_away(&self, stream: TcpStream, refusal: Refusal) {
        match self.tls {
            None => self.admission.send_away(stream, refusal),
            Some(_) => self.admission.send_away_from_tls(&stream),
        }
    }

    /// The same in one step.
    fn send_away_at_once(&self, stream: &TcpStream, refusal: Refusal) {
        match self.tls {
            None => self.admission.send_away_at_once(stream, refusal),
            Some(_) => self.admission.send_away_from_tls(stream),
        }
    }

    /// Shakes hands by TLS; `None` if nothing came of it, which is counted. Who speaks HTTP instead is told.
    async fn protect(&self, stream: TcpStream, tls: &Keeper) -> Option<TlsStream<TcpStream>> {
        match tokio::time::timeout(self.header_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(HandshakeError::NotTls(stream))) => {
                self.admission.send_away(stream, self.admission.refuse(Reason::Tls));
                return None;
            }
            Ok(Err(HandshakeError::Silent)) => return None,
            Ok(Err(HandshakeError::Failed(error))) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
        // It is counted; there is no way to tell it more than the handshake did.
        let _told = self.admission.refuse(Reason::Tls);
        None
    }
}

/// Binds `address`; with `shared`, beside other sockets of this process that do the same.
///
/// What is accepted there has `TCP_NODELAY`. Without it whatever follows the first delivery after a client's frame, an
/// answer to a ping say, waits for the client's delayed acknowledgement: up to 40 ms. With `send_buffer_bytes` it has a send
/// buffer of that size: the kernel's default would hide megabytes of a stalled client.
///
/// # Errors
/// What the system says, as that the port is in use.
pub fn bind(address: SocketAddr, shared: bool, send_buffer_bytes: Option<usize>) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(shared)?;
    // Linux hands both on to what is accepted: no system call for each.
    socket.set_nodelay(true)?;
    if let Some(bytes) = send_buffer_bytes {
        socket.set_send_buffer_size(u32::try_from(bytes).unwrap_or(u32::MAX))?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves one connection of the shard's listener: HTTP until it is upgraded, then it belongs to `shard`.
async fn serve_on_shard(stream: TcpStream, router: Router, shard: Rc<Shard>, options: Options, visit: Visit) {
    let accepted_at = AcceptedAt(Instant::now());
    if let Err(refusal) = visit.turn().await {
        return options.send_away(stream, refusal);
    }
    if shard.is_stopping() {
        return options.send_away(stream, options.admission.refuse(Reason::Stopping));
    }
    let Some(tls) = options.tls.clone() else {
        return serve_visit(stream, router, shard, options, visit, accepted_at).await;
    };
    // Boxed, so that a plain connection does not carry the room for a handshake.
    let protected = Box::pin(async {
        if let Some(stream) = options.protect(stream, &tls).await {
            serve_visit(stream, router, shard, options.clone(), visit, accepted_at).await;
        }
    });
    protected.await;
}

/// Serves whoever had its turn, and its handshake if the listener speaks TLS.
async fn serve_visit(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    shard: Rc<Shard>,
    options: Options,
    visit: Visit,
    accepted_at: AcceptedAt,
) {
    let visit = Rc::new(visit);
    let is_protected = options.tls.is_some();
    let has_asked = Cell::new(false);
    let service = service_fn(|mut request: Request<Incoming>| {
        has_asked.set(true);
        let upgrade = hyper::upgrade::on(&mut request);
        request.extensions_mut().insert(accepted_at);
        let (router, shard, visit) = (router.clone(), Rc::clone(&shard), Rc::clone(&visit));
        async move {
            if let Err(refusal) = visit.identify(request.headers(), is_protected) {
                return Ok(refusal.into_response());
            }
            let mut response = answer(router, request).await;
            if let Some(acceptance) = response.extensions_mut().remove::<websocket::Acceptance>() {
                let permit = visit.take_permit();
                tokio::task::spawn_local(websocket::upgrade(shard, upgrade, acceptance, permit));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = builder(&options).serve_connection(TokioIo::new(stream), service).with_upgrades();
    match tokio::time::timeout(HTTP_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        // Who asked before and says nothing more is not refused anything.
        Ok(Err(error)) if error.is_timeout() && !has_asked.get() => {
            // It is counted; there is nobody left who would tell it.
            let _told = options.admission.refuse(Reason::HeaderTimeout);
        }
        Ok(Err(error)) => tracing::debug!(%error, "request was not served"),
        Err(_) => tracing::debug!("a connection stayed with HTTP for too long"),
    }
}

/// Serves one connection of the internal listener.
async fn serve_internal(stream: TcpStream, router: Router, options: Options, _permit: OwnedSemaphorePermit) {
    match options.tls.clone() {
        None => serve_requests(stream, router, &options).await,
        Some(tls) => {
            if let Some(stream) = options.protect(stream, &tls).await {
                serve_requests(stream, router, &options).await;
            }
        }
    }
}

async fn serve_requests(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router, options: &Options) {
    let service = service_fn(|request| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request).await) }
    });
    if let Err(error) = builder(options).serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "request was not served");
    }
}

fn builder(options: &Options) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
}

async fn answer(router: Router, request: Request<Incoming>) -> Response<Body> {
    if is_ambiguous(&request) {
        return closing(StatusCode::BAD_REQUEST);
    }
    let Ok(response) = router.oneshot(request.map(Body::new)).await;
    response
}

/// Whether two readers of the head could disagree on where the request ends or whom it is for, which is how
/// requests are smuggled (RFC 9112 §6.3, §3.2). hyper lets both pass.
fn is_ambiguous(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    let hosts = headers.get_all(header::HOST).iter().count();
    let has_both =
        headers.contains_key(header::CONTENT_LENGTH) && headers.contains_key(header::TRANSFER_ENCODING);
    hosts > 1 || has_both || headers.get_all(header::CONTENT_LENGTH).iter().count() > 1
}

fn closing(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A listener with its reserve.
struct Listener {
    listener: TcpListener,
    /// A file descriptor to give up when there are none left, so that a client can be told instead of hanging.
    reserve: Option<File>,
}

impl Listener {
    fn new(listener: TcpListener) -> Self {
        Self { listener, reserve: reserve() }
    }

    /// The next connection, and where it comes from. Never spins: what cannot be accepted is refused or waited out.
    async fn accept(&mut self, options: &Options) -> (TcpStream, IpAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return (stream, peer.ip()),
                Err(error) if transport::is_out_of_files(&error) => {
                    if let Some(accepted) = self.accept_without_files(options).await {
                        return accepted;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection ended before it was accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Uses the reserve to accept one client. If there is no other file by then, it is answered with 503.
    async fn accept_without_files(&mut self, options: &Options) -> Option<(TcpStream, IpAddr)> {
        drop(self.reserve.take());
        let accepted = accept_waiting(&self.listener).await;
        self.reserve = reserve();
        match accepted {
            Some(accepted) if self.reserve.is_some() => return Some(accepted),
            Some((stream, _)) => {
                let refusal = options.admission.refuse(Reason::Files);
                options.send_away_at_once(&stream, refusal);
                drop(stream);
                self.reserve = reserve();
            }
            // The system says that there is no file before it looks whether there is a client.
            None => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
        None
    }
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Accepts for a shard until `stop`, then sends away what already waits in the kernel's queue.
///
/// While `is_stopping`, who comes is refused with 503: there is another node to go to.
///
/// The listener is given back open: closing one of several that share a port resets what waits in its queue,
/// so all of them are closed together.
pub async fn run_on_shard(
    listener: TcpListener,
    router: Router,
    shard: Rc<Shard>,
    options: Options,
    mut is_stopping: impl FnMut() -> bool,
    stop: impl Future<Output = ()>,
) -> TcpListener {
    let mut listener = Listener::new(listener);
    let admission = Arc::clone(&options.admission);
    let mut enter = |peer| match is_stopping() {
        true => Err(admission.refuse(Reason::Stopping)),
        false => admission.enter(peer),
    };
    let serve = |stream, visit| {
        let (router, shard, options) = (router.clone(), Rc::clone(&shard), options.clone());
        tokio::task::spawn_local(serve_on_shard(stream, router, shard, options, visit));
    };
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            (stream, peer) = listener.accept(&options) => match enter(peer) {
                Ok(visit) => serve(stream, visit),
                Err(refusal) => options.send_away(stream, refusal),
            },
        }
    }
    while let Some((stream, _)) = accept_waiting(&listener.listener).await {
        options.send_away_at_once(&stream, admission.refuse(Reason::Stopping));
    }
    admission.farewells_ended(FAREWELLS_DEADLINE).await;
    listener.listener
}

/// What is in the kernel's queue now; `None` when nothing is, whatever of the runtime's budget is spent.
async fn accept_waiting(listener: &TcpListener) -> Option<(TcpStream, IpAddr)> {
    let accept = poll_fn(|ctx| match listener.poll_accept(ctx) {
        Poll::Ready(Ok((stream, peer))) => Poll::Ready(Some((stream, peer.ip()))),
        Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(None),
    });
    tokio::task::unconstrained(accept).await
}

/// Accepts on the internal listener for as long as the future is polled, so many connections at a time. Requests under
/// way go on by themselves.
pub async fn run_internal(listener: TcpListener, router: Router, options: Options, connections_max: usize) {
    let mut listener = Listener::new(listener);
    let connections = Arc::new(Semaphore::new(connections_max));
    loop {
        let (stream, _) = listener.accept(&options).await;
        match Arc::clone(&connections).try_acquire_owned() {
            Ok(permit) => {
                tokio::spawn(serve_internal(stream, router.clone(), options.clone(), permit));
            }
            Err(_) => {
                let refusal = options.admission.refuse(Reason::InternalConnectionsMax);
                options.send_away(stream, refusal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_accepted_is_as_its_listener() {
        for shared in [false, true] {
            let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)), shared, Some(8192)).unwrap();
            let (client, accepted) =
                tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
            let (accepted, _) = accepted.unwrap();
            assert!(accepted.nodelay().unwrap(), "it does not wait for acknowledgements");
            // The kernel counts what it needs itself as well (socket(7)).
            let accepted = TcpSocket::from_std_stream(accepted.into_std().unwrap());
            assert_eq!(accepted.send_buffer_size().unwrap(), 2 * 8192);
            drop(client.unwrap());
        }
    }
}
