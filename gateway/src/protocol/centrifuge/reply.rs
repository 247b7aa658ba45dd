//! What the gateway answers to a command, as JSON text without line breaks.

use std::time::Duration;

use super::code::Error;
use super::push::VERSION;
use crate::model::ClientId;

/// Appends `text` as a JSON string.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is always JSON");
}

/// `"error":{…}`
pub(super) fn error_field(error: Error, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(r#""error":{{"code":{},"message":"#, error.code).as_bytes());
    string(error.message, out);
    if error.temporary {
        out.extend_from_slice(br#","temporary":true"#);
    }
    out.push(b'}');
}

/// Opens a reply to the command `id`; without an id the field is left out.
fn open(id: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.push(b'{');
    if id != 0 {
        out.extend_from_slice(format!(r#""id":{id},"#).as_bytes());
    }
    out
}

/// An error.
pub fn error(id: u32, error: Error) -> Vec<u8> {
    let mut out = open(id);
    error_field(error, &mut out);
    out.push(b'}');
    out
}

/// Success of `command` with nothing more to say.
pub fn empty(id: u32, command: &str) -> Vec<u8> {
    let mut out = open(id);
    string(command, &mut out);
    out.extend_from_slice(b":{}}");
    out
}

/// Success of `connect`. A `ping` of zero means that no pings are sent.
pub fn connect(id: u32, client: ClientId, ping: Duration) -> Vec<u8> {
    let mut out = open(id);
    let fields = format!(r#""connect":{{"client":"{client}","version":"{VERSION}""#);
    out.extend_from_slice(fields.as_bytes());
    if !ping.is_zero() {
        // Whole seconds on the wire; rounded up, so that a client never waits for less than comes.
        let seconds = ping.as_secs() + u64::from(ping.subsec_nanos() > 0);
        out.extend_from_slice(format!(r#","ping":{seconds},"pong":true"#).as_bytes());
    }
    out.extend_from_slice(b"}}");
    out
}

/// Success of `subscribe`.
pub fn subscribe(id: u32, was_recovering: bool) -> Vec<u8> {
    let mut out = open(id);
    let result: &[u8] =
        if was_recovering { br#""subscribe":{"was_recovering":true}}"# } else { br#""subscribe":{}}"# };
    out.extend_from_slice(result);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::centrifuge::code;

    #[test]
    fn replies_are_those_of_the_reference() {
        assert_eq!(empty(7, "unsubscribe"), br#"{"id":7,"unsubscribe":{}}"#);
        assert_eq!(subscribe(2, false), br#"{"id":2,"subscribe":{}}"#);
        assert_eq!(subscribe(2, true), br#"{"id":2,"subscribe":{"was_recovering":true}}"#);
        let denied = br#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#;
        assert_eq!(error(2, code::PERMISSION_DENIED), denied);
        let internal = br#"{"error":{"code":100,"message":"internal server error","temporary":true}}"#;
        assert_eq!(error(0, code::INTERNAL), internal);
    }

    #[test]
    fn ping_and_pong_are_left_out_where_there_are_none() {
        let client = ClientId::random();
        let text = |ping| String::from_utf8(connect(1, client, ping)).unwrap();
        let head = format!(r#"{{"id":1,"connect":{{"client":"{client}","version":"{VERSION}""#);
        assert_eq!(text(Duration::ZERO), format!("{head}}}}}"));
        assert_eq!(text(Duration::from_secs(25)), format!(r#"{head},"ping":25,"pong":true}}}}"#));
        assert_eq!(text(Duration::from_millis(1_500)), format!(r#"{head},"ping":2,"pong":true}}}}"#));
    }
}
