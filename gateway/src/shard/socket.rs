//! The socket of a connection, plain or protected by TLS.
//!
//! A plain one is what the kernel gives: whoever delivers writes to it past this module. Under TLS every byte goes
//! through here, by the connection's task: what waits in the outbox is encrypted a record at a time, as the peer takes
//! it. Nothing here waits; readiness is that of the socket below.

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
    /// Boxed, so that plain ones do not carry the room for it.
    session: Option<Box<Session>>,
}

/// TLS over a socket.
struct Session {
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
        let session = Session { tls, has_more: true, unsent: None, is_given_up: false };
        Self { stream: Rc::new(stream), session: Some(Box::new(session)) }
    }

    pub(super) fn stream(&self) -> &Rc<TcpStream> {
        &self.stream
    }

    /// Whether what is written has to come by here.
    pub(super) fn is_protected(&self) -> bool {
        self.session.is_some()
    }

    /// Whether something is encrypted that the socket has not taken.
    pub(super) fn has_unsent(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.wants_write())
    }

    pub(super) fn poll_read_ready(&self, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.session {
            Some(session) if session.has_more => Poll::Ready(Ok(())),
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
        match &mut self.session {
            None => read_whole(&self.stream, buffer),
            Some(session) => session.read(&self.stream, buffer),
        }
    }

    /// Writes as much of `slices` as the peer takes, and answers how much that was; under TLS it may be nothing although
    /// there was progress, and a record of it may not be sent yet, see [`has_unsent`](Self::has_unsent).
    ///
    /// # Errors
    /// `WouldBlock` if the socket takes nothing at all.
    pub(super) fn try_write(&mut self, slices: &[IoSlice<'_>], budget: &Arc<Budget>) -> io::Result<usize> {
        match &mut self.session {
            None => self.stream.try_write_vectored(slices),
            Some(session) => session.write(&self.stream, slices, budget),
        }
    }

    /// Forgets what is encrypted and not sent, for ever: the peer is gone, and the library would keep it for it.
    pub(super) fn give_up(&mut self) {
        if let Some(session) = &mut self.session {
            (session.is_given_up, session.unsent) = (true, None);
        }
    }

    /// Says, under TLS, that nothing more follows (`close_notify`, RFC 8446 §6.1), as far as the socket takes it.
    pub(super) fn say_end(&mut self) {
        if let Some(session) = &mut self.session {
            session.tls.send_close_notify();
            // Who takes nothing any more need not hear it either.
            drop(session.send(&self.stream));
        }
    }

    /// Ends what we say; the peer can still be read.
    pub(super) fn shut_down(&mut self) {
        self.say_end();
        // An error means that the peer is gone already.
        let _gone = rustix::net::shutdown(&*self.stream, Shutdown::Write);
    }
}

/// Reads what there is. If that leaves room in `buffer` there is no more, and nobody asks again: the kernel says when there
/// is (epoll(7), question 9 on edge-triggered events).
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
    fn wants_write(&self) -> bool {
        !self.is_given_up && self.tls.wants_write()
    }

    fn read(&mut self, stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        self.has_more = true;
        for _ in 0..ROUNDS_MAX {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            match self.tls.read_tls(&mut Raw(stream)) {
                Ok(0) => return Ok(0),
                Ok(_) => {}
                Err(error) => {
                    self.has_more = error.kind() != ErrorKind::WouldBlock;
                    return Err(error);
                }
            }
            if let Err(error) = self.tls.process_new_packets() {
                // The peer hears what was wrong, if it can.
                drop(self.send(stream));
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
        }
        Err(ErrorKind::Interrupted.into())
    }

    fn write(
        &mut self,
        stream: &TcpStream,
        slices: &[IoSlice<'_>],
        budget: &Arc<Budget>,
    ) -> io::Result<usize> {
        if self.is_given_up {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if self.wants_write() {
            return self.send(stream).map(|()| 0);
        }
        let taken = self.tls.writer().write_vectored(slices)?;
        let sent = self.send(stream);
        if self.wants_write() {
            self.unsent = Some(Charge::beyond(Arc::clone(budget), taken));
        }
        match sent {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(taken),
            sent => sent.map(|()| taken),
        }
    }

    /// Sends some of what is encrypted; all of it, unless the socket takes no more.
    fn send(&mut self, stream: &TcpStream) -> io::Result<()> {
        let mut has_sent = false;
        while self.wants_write() {
            match self.tls.write_tls(&mut Raw(stream)) {
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
