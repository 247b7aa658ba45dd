//! The client's side: bytes that are made beforehand, sent by a thread of its own, whose instructions nobody counts.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;

use tokio::sync::oneshot;

/// Frames towards a server are masked; any mask does.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// Ends the head of a response.
const HEAD_END: &[u8] = b"\r\n\r\n";
/// What the reply to the last of the commands begins with.
const LAST_REPLY: &[u8] = br#"{"id":2,"#;
/// Both commands in a frame, as SDKs send them.
const COMMANDS: &str =
    concat!(r#"{"id":1,"connect":{}}"#, "\n", r#"{"id":2,"subscribe":{"channel":"bench"}}"#);

/// A text frame of a client that holds `text`, which has 126 to 65,535 bytes or fewer than that.
pub(crate) fn masked_frame(text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(length @ ..126) => frame.push(0x80 | length),
        _ => {
            let length = u16::try_from(text.len()).expect("the texts of benches are short");
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(text.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A client whose handshake waits to be read by the server.
pub(crate) struct Visitor {
    /// Comes with the last reply, and the socket, which stays open with it.
    pub(crate) is_served: oneshot::Receiver<TcpStream>,
}

impl Visitor {
    /// Connects to `address` and sends the handshake; what follows it is sent as the server answers.
    pub(crate) fn arrive(address: SocketAddr, token: &str) -> Self {
        let request = format!(
            "GET /connection/websocket?token={token} HTTP/1.1\r\nHost: gateway.example.com\r\n\
            Origin: https://app.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
            Accept-Language: en\r\nAccept-Encoding: gzip, deflate, br\r\nPragma: no-cache\r\n\
            Cache-Control: no-cache\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let (served, is_served) = oneshot::channel();
        let (sent, is_sent) = mpsc::channel();
        std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).expect("the listener is there");
            stream.set_nodelay(true).expect("the socket is open");
            stream.write_all(request.as_bytes()).expect("the socket is open");
            sent.send(()).expect("the other end waits for it");
            read_until(&mut stream, HEAD_END);
            stream.write_all(&masked_frame(COMMANDS.as_bytes())).expect("the socket is open");
            read_until(&mut stream, LAST_REPLY);
            served.send(stream).expect("the other end waits for it");
        });
        is_sent.recv().expect("the thread sends before it ends");
        Self { is_served }
    }
}

/// Reads until what was read holds `end`.
fn read_until(stream: &mut TcpStream, end: &[u8]) {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    while !read.windows(end.len()).any(|window| window == end) {
        let count = stream.read(&mut buffer).expect("the socket is open");
        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&buffer[..count]);
    }
}
