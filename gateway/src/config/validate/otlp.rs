//! Where traces go.

use super::Problems;
use super::broker::check_authority;
use crate::config::Otlp;

/// Where collectors speak gRPC, which this is not.
const GRPC_PORT: &str = ":4317";

pub(super) fn check(otlp: &Otlp, problems: &mut Problems) {
    if !otlp.endpoint.is_empty()
        && let Err(reason) = check_endpoint(&otlp.endpoint)
    {
        // The address itself is not repeated: somebody may have put a password into it.
        problems.add("otlp.endpoint", reason);
    }
    let is_share = (0.0..=1.0).contains(&otlp.sample_ratio);
    problems.require(is_share, "otlp.sample_ratio", "must be from 0 to 1");
}

/// Whether it is `http://HOST`, or `https://`, with a port and a path if any, and nothing else.
fn check_endpoint(endpoint: &str) -> Result<(), &'static str> {
    let rest = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    let rest = rest.ok_or("must be `http://host:port`, or `https://host:port` for TLS")?;
    if rest.contains('@') {
        return Err("must hold no user and no password: a header with a key goes into the variable \
            OTEL_EXPORTER_OTLP_HEADERS of the environment");
    }
    let is_visible = |byte: u8| byte.is_ascii_graphic() && byte != b'?' && byte != b'#';
    if !rest.bytes().all(is_visible) {
        return Err("must end after the host, the port and the path");
    }
    check_authority(rest.split_once('/').map_or(rest, |(authority, _)| authority))
}

pub(super) fn warn(otlp: &Otlp, warnings: &mut Vec<String>) {
    let authority = otlp.endpoint.split('/').nth(2).unwrap_or_default();
    if authority.ends_with(GRPC_PORT) {
        warnings.push(
            "otlp.endpoint has port 4317, where collectors speak gRPC: traces go over HTTP, for which they have 4318"
                .into(),
        );
    }
}
