//! How late deliveries are when publications come at a rate, whatever became of those before.
//!
//! Each publication says when it was due, and a delivery is late by the time from then until a client has read it. So
//! whatever makes a publication leave late counts as well, the publisher's own oversleeping included: nobody's waiting is
//! left out (what is called coordinated omission).

use anyhow::Result;
use serde_json::json;

use crate::clients::Clients;
use crate::metronome::Metronome;
use crate::options::{Options, Question, Spread};
use crate::report::{Figure, median};
use crate::server::Server;

const CHANNELS: u32 = 200;
const SUBSCRIBERS: u32 = 10;
/// Publications per second, over all channels.
const RATE: u32 = 500;
/// Seconds of a turn.
const SECONDS: u32 = 4;

pub(super) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let server = Server::start(options)?;
    let spread = Spread { prefix: "rate".to_owned(), count: CHANNELS };
    let mut clients = Clients::spread(&server, &spread, SUBSCRIBERS, true)?;
    let metronome = Metronome { address: server.internal(), channels: spread.channels(), rate: RATE };
    let each = RATE * SECONDS / CHANNELS;
    let mut rounds = Vec::new();
    for round in 0..=options.long_rounds() {
        let numbers = clients.expect(each)?;
        metronome.publish(numbers)?;
        clients.received()?;
        let lateness = clients.status()?.lateness;
        // The first one leads in.
        if round > 0 {
            rounds.push(lateness);
        }
    }
    server.stop()?;
    let name = |what| {
        format!(
            "{what} from due to read, {CHANNELS} channels × {SUBSCRIBERS} subscribers, {RATE} publications/s"
        )
    };
    Ok(vec![
        Figure {
            question: Question::Rate,
            name: name("p99"),
            unit: "µs",
            measured: median(rounds.iter().map(|round| round.p99_us as f64)),
            reach: Some(400.0),
            details: json!({"rounds": rounds}),
        },
        Figure {
            question: Question::Rate,
            name: name("p50"),
            unit: "µs",
            measured: median(rounds.iter().map(|round| round.p50_us as f64)),
            reach: None,
            details: json!(null),
        },
    ])
}
