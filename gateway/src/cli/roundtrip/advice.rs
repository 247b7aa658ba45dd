//! What to look at when a step fails, from what was heard.

use super::heard::{Heard, Step};
use crate::tls::client::HandshakeFailure;

const CHECK_TOKEN: &str =
    "`clarion checktoken - --config FILE` with the configuration of the node says what it thinks of a token";

/// What to look at, likeliest first; never empty.
pub(super) fn advice(step: Step, heard: &Heard) -> Vec<&'static str> {
    if let Heard::Handshake(failure) = heard {
        return handshake(failure);
    }
    match step {
        Step::Reach => reach(heard),
        Step::Protect => protect(heard),
        Step::Upgrade => upgrade(heard),
        Step::Connect => connect(heard),
        Step::Subscribe => subscribe(heard),
        Step::Publish => publish(heard),
        Step::Receive => receive(heard),
    }
}

fn reach(heard: &Heard) -> Vec<&'static str> {
    match heard {
        Heard::NoSuchHost => {
            vec!["the host in --url; in a cluster, the name of the Service and its namespace"]
        }
        Heard::ConnectionRefused => vec![
            "whether the node runs: `clarion health --url http://HOST:9000`",
            "the port in --url: it is `public.port`, 8000 by default, or that of the Service",
            "`public.address`: 127.0.0.1 is reached from the same machine only",
        ],
        Heard::Nothing => vec![
            "a NetworkPolicy, a security group or a firewall that drops what goes to the public port",
            "the host in --url: nobody may be there",
        ],
        _ => vec!["the way to the host of --url: routes and firewalls"],
    }
}

/// Of TLS, with either address.
fn handshake(failure: &HandshakeFailure) -> Vec<&'static str> {
    match failure {
        HandshakeFailure::UnknownAuthority => vec![
            "--ca-file: whose signature it is, or that very certificate; without it only whom the system trusts is believed",
            "--config: without --ca-file, who shows the certificate that it names for the listener is believed too",
            "a proxy in between that shows a certificate of its own",
        ],
        HandshakeFailure::OtherName { .. } => vec![
            "the host of the address: call it by a name of the certificate",
            "the certificate: it lacks the name of the address (subjectAltName)",
            "--ca-file with that very certificate, for an address that none can name: names are not looked at then",
        ],
        HandshakeFailure::Expired => {
            vec!["its renewal: docs/runbooks/ClarionCertExpiry.md", "the clock of this machine"]
        }
        HandshakeFailure::NotYetValid => {
            vec!["the clock of this machine, and that of who made the certificate"]
        }
        HandshakeFailure::NotTls => vec![
            "the address: ws:// and http:// where TLS ends before the node",
            "the port: it may be the other listener's",
        ],
        HandshakeFailure::WantsCertificate => vec![
            "internal.tls.client_ca_file of the node: --config has to name a certificate that it has signed, in internal.tls",
        ],
        HandshakeFailure::Other(_) => vec![
            "the certificate: `openssl s_client -connect HOST:PORT` shows it",
            "whether the node is full or stops: it then ends handshakes at once (docs/tls.md)",
        ],
    }
}

fn protect(heard: &Heard) -> Vec<&'static str> {
    match heard {
        Heard::TheEnd => vec![
            "whether the node is full or stops: it then ends handshakes at once (docs/tls.md)",
            "the port in --url: what listens there may not speak TLS",
        ],
        _ => vec!["the port in --url: what listens there takes connections and says nothing"],
    }
}

fn upgrade(heard: &Heard) -> Vec<&'static str> {
    match heard {
        Heard::Status(404, _) => vec![
            "the port in --url: the internal one has no WebSocket, and neither has another program",
            "a proxy in front that does not pass /connection/websocket on",
        ],
        Heard::Status(401, _) => vec!["the token in the address, which is refused before anything else"],
        Heard::Status(403, _) => {
            vec!["client.allow_no_origin: this test sends no Origin, and the node wants one"]
        }
        Heard::Status(400 | 426 | 200, _) => vec![
            "a proxy in front that does not pass on `Upgrade: websocket` and `Connection: upgrade` in HTTP/1.1",
            "TLS: what listens there may want it: wss:// in --url",
        ],
        Heard::Status(429 | 503, _) => vec![
            "whether the node is ready: `clarion health --ready`; one that is full or stops sends clients elsewhere",
            "docs/overload.md: what the code in the answer means",
        ],
        Heard::Status(502 | 504, _) => vec!["the proxy in front: it does not reach the node"],
        Heard::Status(301 | 302 | 307 | 308, _) => {
            vec!["the proxy in front: it wants another address, or TLS: wss:// in --url"]
        }
        Heard::TheEnd | Heard::Nonsense => vec![
            "TLS: what listens there may speak nothing else: wss:// in --url",
            "the port in --url: it may belong to another program",
        ],
        _ => vec!["the port in --url: what listens there takes connections and says nothing"],
    }
}

fn connect(heard: &Heard) -> Vec<&'static str> {
    match heard {
        Heard::Close(3500, _) => vec![
            "the secret: the node's `client.token.hmac_secret_key` differs from the one that signed the token",
            "`client.token.audience` and `.issuer`: a token must have what the node wants",
            "the clocks: a token from the future is refused",
            CHECK_TOKEN,
        ],
        Heard::Error(109, _) => vec!["the token has expired; or the clock of the node is ahead", CHECK_TOKEN],
        Heard::Close(3504, _) => {
            vec!["client.user_connections_max: the user of the token has as many connections"]
        }
        Heard::Close(3001, _) => vec!["the node stops: ask another one"],
        Heard::Error(100, _) => vec!["the broker: `clarion health --ready` and clarion_broker_up"],
        Heard::Nonsense => {
            vec!["--url: what is there does not speak the native protocol (/connection/websocket)"]
        }
        _ => vec!["the log of the node: it says why it closes connections at `debug`"],
    }
}

fn subscribe(heard: &Heard) -> Vec<&'static str> {
    match heard {
        Heard::Error(103, _) => vec![
            "the rights of the token: a claim `caps` or `channels` that names the channel (docs/tokens.md)",
            "the namespace of the channel: allow_subscribe_for_client",
            "--token-secret-file instead of a token: this test then signs one that may subscribe",
        ],
        Heard::Error(102, _) => {
            vec!["--channel: its namespace, what is before the `:`, is not in channel.namespaces"]
        }
        Heard::Error(107, _) => vec!["--channel: the node refuses that name"],
        Heard::Error(100, _) | Heard::Nothing => {
            vec!["the broker: `clarion health --ready`, clarion_broker_up, and `clarion doctor` on the node"]
        }
        _ => vec!["the log of the node: it says why it closes connections at `debug`"],
    }
}

fn publish(heard: &Heard) -> Vec<&'static str> {
    match heard {
        Heard::Status(401, _) => vec![
            "the API key: it is none of the node's `api.keys`; --api-key-file, CLARION_API_KEY or --config give one",
        ],
        Heard::Status(403, _) => vec!["the scopes of the API key: it lacks `publish`"],
        Heard::Status(404 | 405, _) => {
            vec![
                "the port in --publish: the server API is on `internal.port`, 9000 by default, not on the public one",
            ]
        }
        Heard::Error(102, _) => {
            vec!["--channel: its namespace, what is before the `:`, is not in channel.namespaces"]
        }
        Heard::Error(103, _) => vec!["the scopes of the API key: it lacks `publish`"],
        Heard::Error(100, _) | Heard::Status(503, _) => {
            vec!["the broker: `clarion health --ready`, clarion_broker_up, and `clarion doctor` on the node"]
        }
        Heard::Status(507, _) => vec!["Redis is full: `clarion doctor` on the node, line `redis memory`"],
        Heard::ConnectionRefused => vec![
            "the port in --publish: it is `internal.port`, 9000 by default",
            "`internal.address`: 127.0.0.1, which is the default, is reached from the same machine only",
        ],
        Heard::NoSuchHost => vec!["the host in --publish; in a cluster, the name of the internal Service"],
        Heard::Nothing => vec![
            "a NetworkPolicy or a firewall that drops what goes to the internal port",
            "the broker: a request waits for it, up to `api.timeout`",
        ],
        Heard::TheEnd | Heard::Nonsense => {
            vec!["--publish: what listens there may want TLS, which is https://, or is another program"]
        }
        _ => vec!["the way to the host of --publish: routes and firewalls"],
    }
}

fn receive(heard: &Heard) -> Vec<&'static str> {
    match heard {
        Heard::Nothing => vec![
            "whether the nodes behind --url and --publish share a broker: with `broker.type: memory` each is alone",
            "`broker.redis.prefix` and `.address`: nodes with others are another cluster",
            "clarion_broker_up and clarion_broker_losses_total of both nodes",
        ],
        Heard::Close(3008, _) => {
            vec!["--channel: more comes through it than this test reads; choose a quiet one"]
        }
        _ => vec!["the node or a proxy ended the connection: its log, and the proxy's limits"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 7] = [
        Step::Reach,
        Step::Protect,
        Step::Upgrade,
        Step::Connect,
        Step::Subscribe,
        Step::Publish,
        Step::Receive,
    ];

    #[test]
    fn there_is_advice_for_whatever_is_heard_at_any_step() {
        let says = |code| Heard::Error(code, String::new());
        let closes = |code| Heard::Close(code, String::new());
        let answers = |status| Heard::Status(status, String::new());
        let heard =
            [Heard::Nothing, Heard::NoSuchHost, Heard::ConnectionRefused, Heard::TheEnd, Heard::Nonsense];
        let heard = heard.into_iter().chain([Heard::Network("x".into()), says(1), closes(1), answers(418)]);
        for heard in heard {
            for step in STEPS {
                assert!(!advice(step, &heard).is_empty(), "{step:?} {heard:?}");
            }
        }
    }

    #[test]
    fn the_likeliest_cause_comes_first() {
        for (step, heard, word) in [
            (Step::Reach, Heard::Nothing, "NetworkPolicy"),
            (Step::Reach, Heard::ConnectionRefused, "runs"),
            (Step::Upgrade, Heard::Status(404, String::new()), "internal"),
            (Step::Upgrade, Heard::TheEnd, "TLS"),
            (Step::Protect, Heard::Handshake(HandshakeFailure::UnknownAuthority), "--ca-file"),
            (Step::Publish, Heard::Handshake(HandshakeFailure::NotTls), "http://"),
            (Step::Connect, Heard::Close(3500, String::new()), "secret"),
            (Step::Subscribe, Heard::Error(103, String::new()), "caps"),
            (Step::Publish, Heard::Status(401, String::new()), "API key"),
            (Step::Publish, Heard::Status(404, String::new()), "internal.port"),
            (Step::Publish, Heard::Nothing, "NetworkPolicy"),
            (Step::Receive, Heard::Nothing, "share a broker"),
        ] {
            assert!(advice(step, &heard)[0].contains(word), "{step:?} {heard:?}");
        }
    }
}
