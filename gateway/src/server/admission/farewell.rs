//! Sending somebody away so that it hears why.
//!
//! Whoever closes a socket with something unread in it resets the connection, and the reset overtakes what was said: a
//! browser then knows nothing, and a proxy says 502 without a `Retry-After`. So the head of the request is read, in so
//! far as to know where it ends; then comes the answer, the end of what we say, and nothing more than waiting until the
//! peer has closed as well (RFC 9112 §9.6).

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long the head of the request may take until it is answered all the same.
const HEAD_TIMEOUT: Duration = Duration::from_secs(1);
/// How much is read until then: the largest head that would be served.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long the answer may take, and the peer to close after it.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// How much of what it sends meanwhile is read.
const LINGER_BYTES_MAX: usize = 64 << 10;
/// Nobody looks at what is read, so it may be little at a time.
const BUFFER_BYTES: usize = 1 << 10;
/// What ends the head of a request.
const HEAD_END: &[u8; 4] = b"\r\n\r\n";

/// Reads the request, answers it, and reads on until the peer has closed. Takes two seconds at the most. Cancelled, it
/// leaves the peer with what it got so far.
pub(super) async fn part(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) {
    let mut buffer = [0; BUFFER_BYTES];
    // Whoever sends no request in time, or closes, is answered too: it may be half closed.
    drop(tokio::time::timeout(HEAD_TIMEOUT, read_head(&mut stream, &mut buffer)).await);
    // Who is gone, or takes nothing, needs no answer.
    drop(tokio::time::timeout(LINGER_TIMEOUT, say(&mut stream, &mut buffer, answer)).await);
}

/// The cheap way: reads what is there, answers, and closes. If more of the request is on its way, its sender may get a
/// reset instead.
pub(super) fn hang_up(stream: &TcpStream, answer: &[u8]) {
    let mut buffer = [0; BUFFER_BYTES];
    for _ in 0..HEAD_BYTES_MAX / BUFFER_BYTES {
        if !matches!(stream.try_read(&mut buffer), Ok(BUFFER_BYTES)) {
            break;
        }
    }
    // A fresh socket takes this much; a client that is gone needs no answer.
    drop(stream.try_write(answer));
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) {
    let (mut end, mut bytes) = (HeadEnd::default(), 0);
    while bytes < HEAD_BYTES_MAX {
        match stream.read(buffer).await {
            Ok(read) if read > 0 && !end.is_in(buffer.get(..read).unwrap_or_default()) => bytes += read,
            Ok(_) | Err(_) => return,
        }
    }
}

/// Looks for the end of a head that comes in pieces.
#[derive(Debug, Default)]
struct HeadEnd {
    /// How much of it the last piece ended with.
    matched: usize,
}

impl HeadEnd {
    fn is_in(&mut self, piece: &[u8]) -> bool {
        for byte in piece {
            let is_next = Some(byte) == HEAD_END.get(self.matched);
            self.matched =
                if is_next { self.matched + 1 } else { usize::from(HEAD_END.first() == Some(byte)) };
            if self.matched == HEAD_END.len() {
                return true;
            }
        }
        false
    }
}

async fn say(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), buffer: &mut [u8], answer: &str) {
    if stream.write_all(answer.as_bytes()).await.is_err() || stream.shutdown().await.is_err() {
        return;
    }
    let mut bytes = 0;
    while bytes < LINGER_BYTES_MAX {
        match stream.read(buffer).await {
            Ok(read) if read > 0 => bytes += read,
            Ok(_) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::time::{Instant, sleep};

    use super::*;

    const ANSWER: &str = "HTTP/1.1 503 Service Unavailable\r\n\r\n";

    #[test]
    fn the_end_of_a_head_is_found_across_pieces() {
        for (pieces, expected) in [
            (&["GET / HTTP/1.1\r\nhost: a\r\n\r\n"][..], true),
            (&["GET / HTTP/1.1\r\n", "\r", "\n"], true),
            (&["GET / HTTP/1.1\r\r", "\n\r", "\nmore"], true),
            (&["GET / HTTP/1.1\r\nhost: a\r\n\r", "x\n"], false),
            (&["\r\n\n\r", "\n"], false),
        ] {
            let mut end = HeadEnd::default();
            assert_eq!(pieces.iter().any(|piece| end.is_in(piece.as_bytes())), expected, "{pieces:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_comes_after_the_request_and_the_end_after_the_peers() {
        let (mut client, server) = duplex(64 << 10);
        let parting = tokio::spawn(part(server, ANSWER));
        let mut heard = String::new();
        for piece in ["GET / HTTP/1.1\r\nhost:", " a\r\n\r\n"] {
            assert!(!parting.is_finished());
            sleep(Duration::from_millis(300)).await;
            client.write_all(piece.as_bytes()).await.unwrap();
        }
        let asked_at = Instant::now();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!((heard.as_str(), asked_at.elapsed()), (ANSWER, Duration::ZERO));
        client.write_all(b"and on").await.unwrap();
        assert!(!parting.is_finished(), "the peer has not closed");
        drop(client);
        parting.await.unwrap();
        assert_eq!(asked_at.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_longer_than_two_seconds() {
        let (mut client, server) = duplex(64 << 10);
        let start = Instant::now();
        let parting = tokio::spawn(part(server, ANSWER));
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!((heard.as_str(), start.elapsed()), (ANSWER, HEAD_TIMEOUT), "who is silent is told");
        parting.await.unwrap();
        assert_eq!(start.elapsed(), HEAD_TIMEOUT + LINGER_TIMEOUT, "though the peer does not close");
        let (client, server) = duplex(1);
        part(server, ANSWER).await;
        assert_eq!(start.elapsed(), 2 * (HEAD_TIMEOUT + LINGER_TIMEOUT), "though the peer takes nothing");
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_without_end_is_not_read_without_end() {
        let (mut client, server) = duplex(1 << 10);
        let parting = tokio::spawn(part(server, ANSWER));
        let mut bytes = 0;
        while client.write_all(&[b'x'; 1 << 10]).await.is_ok() {
            bytes += 1 << 10;
        }
        assert!(bytes <= HEAD_BYTES_MAX + LINGER_BYTES_MAX + (4 << 10), "{bytes}");
        parting.await.unwrap();
    }
}
