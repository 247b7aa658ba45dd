use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{IntCounterVec, IntGaugeVec};

use super::{Maker, Metrics};

const USED: &str = "used";
const REFUSED: &str = "refused";

/// What concerns the certificates of listeners.
#[derive(Debug)]
pub(super) struct Tls {
    reloads: IntCounterVec,
    expiry: IntGaugeVec,
}

impl Tls {
    pub(super) fn register(make: &Maker<'_>) -> Self {
        Self {
            reloads: make.counters(
                "tls_reloads_total",
                "Files of a listener's certificate that changed: used, or refused so that the one before stays.",
                &["listener", "outcome"],
            ),
            expiry: make.gauges(
                "tls_cert_expiry_timestamp_seconds",
                "Until when the certificate is good that a listener shows; seconds since 1970.",
                &["listener"],
            ),
        }
    }
}

impl Metrics {
    /// A listener shows a certificate that is good until `expires_at`.
    pub fn tls_certificate(&self, listener: &'static str, expires_at: SystemTime) {
        let seconds = expires_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.tls.expiry.with_label_values(&[listener]).set(i64::try_from(seconds).unwrap_or(i64::MAX));
        for outcome in [USED, REFUSED] {
            self.tls.reloads.with_label_values(&[listener, outcome]);
        }
    }

    /// The files of a listener's certificate changed, and are used now or not.
    pub fn tls_reload(&self, listener: &'static str, is_used: bool) {
        let outcome = if is_used { USED } else { REFUSED };
        self.tls.reloads.with_label_values(&[listener, outcome]).inc();
    }
}
