//! The socket of a connection, plain or protected by TLS.
//!
//! A plain one is what the kernel gives: whoever delivers writes to it past this module. Under TLS every byte goes
//! through here: whoever delivers encrypts for a socket that is idle, a record at a time, and what it does not take waits
//! in the outbox, unencrypted, for the connection's task. Nothing here waits; readiness is that of the socket below.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, Shutdown};
use rustls::ServerConnection;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::outbox::{Budget, Charge};

/// How much is encrypted before the socket has taken what was: one record (RFC 8446 §5.1).
const SEALED_BYTES_MAX: usize = 16 << 10;
/// How often one read asks the socket. Records may hold nothing for us, and a peer could send them without end.
const ROUNDS_MAX: usize = 16;

/// A socket whose handshakes are over, registered with the runtime of its shard.
#[derive(Debug)]
pub struct Socket {
    stream: Rc<TcpStream>,
    /// `None` for a plain one.
    session: Option<Rc<RefCell<Session>>>,
}

/// TLS over a socket. The connection's task reads by it, whoever delivers writes by it: all on one thread, and nobody
/// calls anybody else meanwhile.
pub(super) struct Session {
    stream: Rc<TcpStream>,
    tls: ServerConnection,
    /// The peer may have sent something that is read from the socket and not given out.
    has_more: bool,
    /// What is encrypted and not sent, counted in bytes before that.
    unsent: Option<Charge>,
    /// Nothing is sent any more, though the library may still hold something that it would like to send.
    is_given_up: bool,
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self { stream: Rc::new(stream), session: None }
    }
}

impl Socket {
    /// A `stream` that is protected by `tls`, whose handshake is done.
    pub fn protected(stream: TcpStream, mut tls: ServerConnection) -> Self {
        tls.set_buffer_limit(Some(SEALED_BYTES_MAX));
        // Whoever read until now may have left something.
        let stream = Rc::new(stream);
        let session =
            Session { stream: Rc::clone(&stream), tls, has_more: true, unsent: None, is_given_up: false };
        Self { stream, session: Some(Rc::new(RefCell::new(session))) }
    }

    pub(super) fn stream(&self) -> &Rc<TcpStream> {
        &self.stream
    }

    /// What encrypts for it; `None` for a plain one.
    pub(super) fn session(&self) -> Option<&Rc<RefCell<Session>>> {
        self.session.as_ref()
    }

    /// Whether something is encrypted that the socket has not taken.
    pub(super) fn has_unsent(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.borrow().wants_write())
    }

    pub(super) fn poll_read_ready(&self, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.session {
            Some(session) if session.borrow().has_more => Poll::Ready(Ok(())),
            _ => self.stream.poll_read_ready(ctx),
        }
    }

    pub(super) fn poll_write_ready(&self, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(ctx)
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        poll_fn(|ctx| self.poll_read_ready(ctx)).await
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Reads what there is, up to the size of `buffer`; 0 at the end of what the peer says.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing, `Interrupted` if there may be and others should have their turn first.
    pub(super) fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.session {
            None => read_whole(&self.stream, buffer),
            Some(session) => session.borrow_mut().read(buffer),
        }
    }

    /// Writes as much of `slices` as the peer takes, and answers how much that was; under TLS it may be nothing although
    /// there was progress, and a record of it may not be sent yet, see [`has_unsent`](Self::has_unsent).
    ///
    /// # Errors
    /// `WouldBlock` if the socket takes nothing at all.
    pub(super) fn try_write(&mut self, slices: &[IoSlice<'_>], budget: &Arc<Budget>) -> io::Result<usize> {
        match &self.session {
            None => self.stream.try_write_vectored(slices),
            Some(session) => session.borrow_mut().write(slices, budget),
        }
    }

    /// Forgets what is encrypted and not sent, for ever: the peer is gone, and the library would keep it for it.
    pub(super) fn give_up(&mut self) {
        if let Some(session) = &self.session {
            session.borrow_mut().give_up();
        }
    }

    /// Says, under TLS, that nothing more follows (`close_notify`, RFC 8446 §6.1), as far as the socket takes it.
    pub(super) fn say_end(&mut self) {
        if let Some(session) = &self.session {
            let mut session = session.borrow_mut();
            session.tls.send_close_notify();
            // Who takes nothing any more need not hear it either.
            drop(session.send());
        }
    }

    /// Ends what we say; the peer can still be read.
    pub(super) fn shut_down(&mut self) {
        self.say_end();
        // An error means that the peer is gone already.
        let _gone = rustix::net::shutdown(&*self.stream, Shutdown::Write);
    }
}

#[cfg(test)]
impl Socket {
    /// TLS that has not begun its handshake: it keeps for itself what it is to send.
    pub(super) fn before_handshake(stream: TcpStream) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let shown = rustls::server::ResolvesServerCertUsingSni::new();
        let config = Arc::new(builder.with_cert_resolver(Arc::new(shown)));
        Self::protected(stream, ServerConnection::new(config).unwrap())
    }
}

/// Reads what there is. If that leaves room in `buffer` there is no more, and nobody asks again: the kernel says when there
/// is (epoll(7), question 9 on edge-triggered events). Urgent data would break that; who sends any hurts nobody else.
fn read_whole(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = None;
    let outcome = stream.try_io(Interest::READABLE, || {
        let count = rustix::net::recv(stream, &mut *buffer, RecvFlags::empty())?.0;
        if 0 < count && count < buffer.len() {
            read = Some(count);
            // The runtime's word for it.
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(count)
    });
    read.map_or(outcome, Ok)
}

impl Session {
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether something is encrypted that the socket has not taken.
    pub(super) fn wants_write(&self) -> bool {
        !self.is_given_up && self.tls.wants_write()
    }

    fn give_up(&mut self) {
        (self.is_given_up, self.unsent) = (true, None);
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.has_more = true;
        for _ in 0..ROUNDS_MAX {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            match self.tls.read_tls(&mut Raw(&self.stream)) {
                Ok(0) => return Ok(0),
                Ok(_) => {}
                Err(error) => {
                    self.has_more = error.kind() != ErrorKind::WouldBlock;
                    return Err(error);
                }
            }
            if let Err(error) = self.tls.process_new_packets() {
                // The peer hears what was wrong, if it can.
                drop(self.send());
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
        }
        Err(ErrorKind::Interrupted.into())
    }

    /// Encrypts and sends records of `bytes` until the socket takes no more; answers how much was encrypted. The last
    /// record of it may not be sent, and then it is charged to `budget`.
    ///
    /// # Errors
    /// The peer is gone, and what was not sent is forgotten.
    pub(super) fn write_all(&mut self, bytes: &[u8], budget: &Arc<Budget>) -> io::Result<usize> {
        let (mut written, mut is_stuck) = (0, false);
        while written < bytes.len() && !self.wants_write() {
            match self.write(&[IoSlice::new(&bytes[written..])], budget) {
                // Once is a change of keys.
                Ok(0) if is_stuck => break,
                Ok(taken) => (written, is_stuck) = (written + taken, taken == 0),
                Err(error) => {
                    self.give_up();
                    return Err(error);
                }
            }
        }
        Ok(written)
    }

    fn write(&mut self, slices: &[IoSlice<'_>], budget: &Arc<Budget>) -> io::Result<usize> {
        if self.is_given_up {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if self.wants_write() {
            return self.send().map(|()| 0);
        }
        let taken = self.tls.writer().write_vectored(slices)?;
        let sent = self.send();
        if self.wants_write() {
            self.unsent = Some(Charge::beyond(Arc::clone(budget), taken));
        }
        match sent {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(taken),
            sent => sent.map(|()| taken),
        }
    }

    /// Sends some of what is encrypted; all of it, unless the socket takes no more.
    fn send(&mut self) -> io::Result<()> {
        let mut has_sent = false;
        while self.wants_write() {
            match self.tls.write_tls(&mut Raw(&self.stream)) {
                Ok(_) => has_sent = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock && has_sent => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.unsent = None;
        Ok(())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Session")
    }
}

/// A socket that never waits, as the TLS library wants to see it.
struct Raw<'a>(&'a TcpStream);

impl io::Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl io::Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
