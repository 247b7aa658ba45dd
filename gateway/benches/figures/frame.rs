//! The client's side of the wire: just enough of RFC 6455 and of the native JSON protocol to check what arrives.
//!
//! Written apart from the gateway's own codec on purpose: a mistake there must not be agreed with here.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

/// The channel that publications are delivered in.
pub(crate) const CHANNEL: &str = "bench";
/// Size of a publication's data, as JSON text.
pub(crate) const DATA_BYTES: usize = 128;
/// What the publication's number follows, and how many digits it has.
const SEQUENCE_KEY: &[u8] = br#""seq":""#;
const SEQUENCE_DIGITS: usize = 10;
/// Likewise for when it was published, right behind the number in those that say so.
const TIME_KEY: &[u8] = br#"","at":""#;
const TIME_DIGITS: usize = 20;
/// How pushes of joins and leaves begin.
const JOIN: &[u8] = br#"{"push":{"channel":"bench","join""#;
const LEAVE: &[u8] = br#"{"push":{"channel":"bench","leave""#;
/// Frames towards a server are masked so that proxies cannot be fooled; on loopback any mask does.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a server said in one line of a text frame, or in a control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The reply to a command, without an error.
    Reply(Reply),
    /// A publication.
    Publication {
        number: u64,
        /// When it was published, in nanoseconds since 1970, if it says so.
        published_ns: Option<u64>,
    },
    /// Somebody joined or left.
    Notice,
    /// The protocol's own ping, to be answered with [`pong`].
    Ping,
}

/// What is looked at in a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Of the command.
    pub(crate) id: u32,
    /// Of the history of the channel; empty if the reply is not about one that has any.
    pub(crate) epoch: String,
    /// Whether the publications are all that was missed.
    pub(crate) recovered: bool,
    /// The numbers of the publications in it.
    pub(crate) publications: Vec<u64>,
}

/// What a client asks for when it subscribes.
#[derive(Clone, Debug)]
pub(crate) struct Wishes {
    pub(crate) channel: String,
    /// The epoch and the offset of the last publication that it has; `None` to begin now.
    pub(crate) since: Option<(String, u64)>,
    /// To be told of others' joining and leaving.
    pub(crate) hearing: bool,
}

/// The data of publication `sequence`: a JSON object of 128 bytes.
pub(crate) fn data(sequence: u64) -> String {
    let head = format!(r#"{{"seq":"{sequence:0SEQUENCE_DIGITS$}","pad":""#);
    let padding = "x".repeat(DATA_BYTES - head.len() - 2);
    format!(r#"{head}{padding}"}}"#)
}

/// The same, saying when it is published, in nanoseconds since 1970.
pub(crate) fn data_at(sequence: u64, published_ns: u64) -> String {
    let mut data = data(sequence);
    let head =
        format!(r#"{{"seq":"{sequence:0SEQUENCE_DIGITS$}","at":"{published_ns:0TIME_DIGITS$}","pad":""#);
    data.replace_range(..head.len(), &head);
    data
}

/// The commands that make a connection a subscriber, as one frame. They have the ids 1 and 2.
pub(crate) fn connect_and_subscribe(token: &str, wishes: &Wishes) -> Vec<u8> {
    masked_text(format!("{}\n{}", connect_command(token), subscribe_command(wishes)).as_bytes())
}

/// The first of them alone.
pub(crate) fn connect(token: &str) -> Vec<u8> {
    masked_text(connect_command(token).as_bytes())
}

/// The second.
pub(crate) fn subscribe(wishes: &Wishes) -> Vec<u8> {
    masked_text(subscribe_command(wishes).as_bytes())
}

fn connect_command(token: &str) -> String {
    format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#)
}

fn subscribe_command(wishes: &Wishes) -> String {
    let mut subscribe = json!({"channel": wishes.channel});
    if let Some((epoch, offset)) = &wishes.since {
        subscribe["recover"] = json!(true);
        subscribe["epoch"] = json!(epoch);
        subscribe["offset"] = json!(offset);
    }
    if wishes.hearing {
        subscribe["join_leave"] = json!(true);
    }
    format!(r#"{{"id":2,"subscribe":{subscribe}}}"#)
}

/// The answer to [`Line::Ping`], as one frame.
pub(crate) fn pong() -> Vec<u8> {
    masked_text(b"{}")
}

/// Calls `each` with every line of the whole frames at the start of `bytes`, and returns how many bytes they take.
///
/// # Errors
/// The server closed, refused a command, or said something that is not expected in this bench.
pub(crate) fn read_frames(bytes: &[u8], mut each: impl FnMut(Line) -> Result<()>) -> Result<usize> {
    let mut taken = 0;
    while let Some((payload, end)) = next_text(&bytes[taken..])? {
        for line in payload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            each(read_line(line)?)?;
        }
        taken += end;
    }
    Ok(taken)
}

/// Makes a received `frame` with one publication into that of publication `sequence`, of the same length.
pub(crate) fn renumber(frame: &mut [u8], sequence: u64) -> Result<()> {
    let start = sequence_start(frame).context("the frame has no publication")?;
    let digits = frame.get_mut(start..start + SEQUENCE_DIGITS).context("the frame is cut short")?;
    digits.copy_from_slice(format!("{sequence:0SEQUENCE_DIGITS$}").as_bytes());
    Ok(())
}

/// The payload of the first frame, if it is there as a whole, and where that frame ends.
fn next_text(bytes: &[u8]) -> Result<Option<(&[u8], usize)>> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    ensure!(second & 0x80 == 0, "the server masked a frame");
    let (length_bytes, length) = match (second, rest) {
        (126, [a, b, ..]) => (2, usize::from(u16::from_be_bytes([*a, *b]))),
        (127, [0, 0, 0, 0, a, b, c, d, ..]) => (8, u32::from_be_bytes([*a, *b, *c, *d]) as usize),
        (126, _) => return Ok(None),
        (127, _) if rest.len() < 8 => return Ok(None),
        (127, _) => bail!("the server announced a frame above 4 GiB"),
        (length, _) => (0, usize::from(*length)),
    };
    let Some(payload) = rest.get(length_bytes..length_bytes + length) else { return Ok(None) };
    match first {
        0x81 => Ok(Some((payload, 2 + length_bytes + length))),
        0x88 => bail!("the server closed: {}", close_reason(payload)),
        _ => bail!(
            "the server sent a frame that starts with {first:#04x}; only whole text frames are expected"
        ),
    }
}

fn read_line(line: &[u8]) -> Result<Line> {
    if line == b"{}" {
        return Ok(Line::Ping);
    }
    if line.starts_with(JOIN) || line.starts_with(LEAVE) {
        return Ok(Line::Notice);
    }
    if line.starts_with(br#"{"push""#) {
        let start = sequence_start(line).context("a push that is no publication of this bench")?;
        let digits = line.get(start..start + SEQUENCE_DIGITS).context("a publication is cut short")?;
        let number = sequence(std::str::from_utf8(digits)?)?;
        return Ok(Line::Publication {
            number,
            published_ns: published_ns(&line[start + SEQUENCE_DIGITS..])?,
        });
    }
    let reply: Value = serde_json::from_slice(line).context("a line is not JSON")?;
    ensure!(reply.get("error").is_none(), "a command was refused: {}", reply["error"]);
    read_reply(&reply).map(Line::Reply)
}

fn read_reply(reply: &Value) -> Result<Reply> {
    let id = reply["id"].as_u64().context("a line is neither push nor reply nor ping")?;
    let subscribe = &reply["subscribe"];
    let publications = subscribe["publications"].as_array().map_or(&[][..], Vec::as_slice);
    let numbers = publications.iter().map(|publication| {
        sequence(publication["data"]["seq"].as_str().context("a publication is not of this bench")?)
    });
    Ok(Reply {
        id: u32::try_from(id)?,
        epoch: subscribe["epoch"].as_str().unwrap_or_default().to_owned(),
        recovered: subscribe["recovered"] == true,
        publications: numbers.collect::<Result<_>>()?,
    })
}

fn sequence(digits: &str) -> Result<u64> {
    digits.parse().context("a publication has no number")
}

/// When it was published, by what follows the number.
fn published_ns(rest: &[u8]) -> Result<Option<u64>> {
    let Some(time) = rest.strip_prefix(TIME_KEY) else { return Ok(None) };
    let digits = time.get(..TIME_DIGITS).context("a publication is cut short")?;
    Ok(Some(std::str::from_utf8(digits)?.parse().context("a publication has no time")?))
}

fn sequence_start(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(SEQUENCE_KEY.len())
        .position(|window| window == SEQUENCE_KEY)
        .map(|at| at + SEQUENCE_KEY.len())
}

fn close_reason(payload: &[u8]) -> String {
    match payload {
        [a, b, reason @ ..] => {
            format!("{} {}", u16::from_be_bytes([*a, *b]), String::from_utf8_lossy(reason))
        }
        _ => "no code".to_owned(),
    }
}

fn masked_text(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u8::try_from(payload.len()) {
        Ok(length @ ..=125) => frame.push(0x80 | length),
        _ => {
            let length = u16::try_from(payload.len()).expect("commands of the bench are short");
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
