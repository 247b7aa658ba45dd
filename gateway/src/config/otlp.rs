use serde::{Deserialize, Serialize};

/// Where traces go.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// The collector, as `http://host:4318`: OTLP over HTTP, to which `/v1/traces` is added. Empty = no traces.
    pub endpoint: String,
    /// Which share of what nobody has decided about is traced: from 0 to 1. Whoever calls the server API with a
    /// `traceparent` has decided.
    pub sample_ratio: f64,
}

impl Default for Otlp {
    fn default() -> Self {
        Self { endpoint: String::new(), sample_ratio: 0.01 }
    }
}
