//! What the gateway answers to a command, as JSON text without line breaks.

use std::time::{Duration, SystemTime};

use super::code::Error;
use super::push::{self, VERSION};
use crate::broker::History;
use crate::model::{ClientId, RawJson};
use crate::node::recovery::Start;

/// Clients keep timers of 32 bits.
const TTL_SECONDS_MAX: u64 = 365 * 24 * 3600;

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

/// Success of `connect`. A `ping` of zero means that no pings are sent, no `expires_at` that there is nothing to
/// refresh.
pub fn connect(id: u32, client: ClientId, ping: Duration, expires_at: Option<SystemTime>) -> Vec<u8> {
    let mut out = open(id);
    let fields = format!(r#""connect":{{"client":"{client}","version":"{VERSION}""#);
    out.extend_from_slice(fields.as_bytes());
    if !ping.is_zero() {
        // Whole seconds on the wire; rounded up, so that a client never waits for less than comes.
        let seconds = ping.as_secs() + u64::from(ping.subsec_nanos() > 0);
        out.extend_from_slice(format!(r#","ping":{seconds},"pong":true"#).as_bytes());
    }
    if let Some(expires_at) = expires_at {
        out.push(b',');
        expiry_fields(expires_at, &mut out);
    }
    out.extend_from_slice(b"}}");
    out
}

/// Success of `refresh`.
pub fn refresh(id: u32, expires_at: Option<SystemTime>) -> Vec<u8> {
    let mut out = open(id);
    out.extend_from_slice(br#""refresh":{"#);
    if let Some(expires_at) = expires_at {
        expiry_fields(expires_at, &mut out);
    }
    out.extend_from_slice(b"}}");
    out
}

/// `"expires":true,"ttl":…`: in how many whole seconds the client has to refresh, at least 1.
fn expiry_fields(expires_at: SystemTime, out: &mut Vec<u8>) {
    let rest = expires_at.duration_since(SystemTime::now()).unwrap_or_default();
    let seconds = rest.as_secs().clamp(1, TTL_SECONDS_MAX);
    out.extend_from_slice(format!(r#""expires":true,"ttl":{seconds}"#).as_bytes());
}

/// How a subscription began: what its result says.
#[derive(Clone, Debug, Default)]
pub struct Begun {
    /// Where it is in the history; `None` if it follows none.
    pub start: Option<Start>,
    /// Whether it can catch up later.
    pub is_recoverable: bool,
    /// The offset from which it asked to catch up; `None` if it did not ask.
    pub since: Option<u64>,
}

impl Begun {
    /// Appends a SubscribeResult.
    pub(super) fn write(&self, data: Option<&RawJson>, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut fields = Fields { out, is_first: true };
        if self.is_recoverable {
            fields.raw("recoverable", b"true");
        }
        if self.since.is_some() {
            fields.raw("was_recovering", b"true");
        }
        if let Some(start) = &self.start {
            self.write_start(start, &mut fields);
        }
        if let Some(data) = data {
            fields.raw("data", data.as_bytes());
        }
        out.push(b'}');
    }

    fn write_start(&self, start: &Start, fields: &mut Fields<'_>) {
        fields.raw("positioned", b"true");
        string(start.position.epoch.as_str(), fields.name("epoch"));
        let is_recovered = start.recovered == Some(true);
        // A client that recovered counts on from where it was, by its publications.
        let offset = self.since.filter(|_| is_recovered).unwrap_or(start.position.offset);
        if offset > 0 {
            fields.raw("offset", offset.to_string().as_bytes());
        }
        if is_recovered {
            fields.raw("recovered", b"true");
        }
        if !start.publications.is_empty() {
            let out = fields.name("publications");
            for (index, publication) in start.publications.iter().enumerate() {
                out.push(if index == 0 { b'[' } else { b',' });
                push::publication_object(publication, out);
            }
            out.push(b']');
        }
    }
}

/// The fields of an object that is being written.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
}

impl Fields<'_> {
    /// Writes a name; the caller appends the value.
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        string(name, self.out);
        self.out.push(b':');
        self.out
    }

    fn raw(&mut self, name: &str, value: &[u8]) {
        self.name(name).extend_from_slice(value);
    }
}

/// Success of `history`.
pub fn history(id: u32, history: &History) -> Vec<u8> {
    let mut out = open(id);
    out.extend_from_slice(br#""history":{"publications":["#);
    for (index, publication) in history.publications.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push::publication_object(publication, &mut out);
    }
    out.extend_from_slice(br#"],"epoch":"#);
    string(history.top.epoch.as_str(), &mut out);
    out.extend_from_slice(format!(r#","offset":{}}}}}"#, history.top.offset).as_bytes());
    out
}

/// Success of `subscribe`.
pub fn subscribe(id: u32, begun: &Begun) -> Vec<u8> {
    let mut out = open(id);
    out.extend_from_slice(br#""subscribe":"#);
    begun.write(None, &mut out);
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::centrifuge::code;

    #[test]
    fn replies_are_those_of_the_reference() {
        assert_eq!(empty(7, "unsubscribe"), br#"{"id":7,"unsubscribe":{}}"#);
        assert_eq!(subscribe(2, &Begun::default()), br#"{"id":2,"subscribe":{}}"#);
        let asked = Begun { since: Some(0), ..Begun::default() };
        assert_eq!(subscribe(2, &asked), br#"{"id":2,"subscribe":{"was_recovering":true}}"#);
        let denied = br#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#;
        assert_eq!(error(2, code::PERMISSION_DENIED), denied);
        let internal = br#"{"error":{"code":100,"message":"internal server error","temporary":true}}"#;
        assert_eq!(error(0, code::INTERNAL), internal);
    }

    #[test]
    fn a_client_is_told_when_to_refresh_if_it_has_to() {
        assert_eq!(refresh(9, None), br#"{"id":9,"refresh":{}}"#);
        let soon = SystemTime::now() + Duration::from_millis(3_600_500);
        assert_eq!(refresh(9, Some(soon)), br#"{"id":9,"refresh":{"expires":true,"ttl":3600}}"#);
        let never = SystemTime::now() + Duration::from_secs(u64::from(u32::MAX));
        assert_eq!(refresh(9, Some(never)), br#"{"id":9,"refresh":{"expires":true,"ttl":31536000}}"#);
        let past = SystemTime::UNIX_EPOCH;
        assert_eq!(refresh(9, Some(past)), br#"{"id":9,"refresh":{"expires":true,"ttl":1}}"#);
    }

    #[test]
    fn ping_and_pong_are_left_out_where_there_are_none() {
        let client = ClientId::random();
        let text = |ping| String::from_utf8(connect(1, client, ping, None)).unwrap();
        let head = format!(r#"{{"id":1,"connect":{{"client":"{client}","version":"{VERSION}""#);
        assert_eq!(text(Duration::ZERO), format!("{head}}}}}"));
        assert_eq!(text(Duration::from_secs(25)), format!(r#"{head},"ping":25,"pong":true}}}}"#));
        assert_eq!(text(Duration::from_millis(1_500)), format!(r#"{head},"ping":2,"pong":true}}}}"#));
    }
}
