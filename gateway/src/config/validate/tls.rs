use std::path::PathBuf;

use super::Problems;
use crate::config::Config;

/// Certificate and key come together, and what is asked of clients must be possible.
pub(super) fn check(config: &Config, problems: &mut Problems) {
    let (public, internal) = (&config.public.tls, &config.internal.tls);
    check_pair("public.tls", &public.cert_file, &public.key_file, problems);
    check_pair("internal.tls", &internal.cert_file, &internal.key_file, problems);
    let is_used = internal.client_ca_file.is_none() || internal.files().is_some();
    let path = "internal.tls.client_ca_file";
    problems.require(
        is_used,
        path,
        "is given without cert_file and key_file: nobody would be asked for a certificate",
    );
    let is_possible = public.files().is_some() || !config.public.trusted_proxies.is_empty();
    let path = "public.tls.required";
    problems.require(!public.required || is_possible, path, WITHOUT_WAY);
    // Whoever asks for health or metrics there comes past the proxy.
    let is_for_clients = !config.is_shared() || public.files().is_some();
    problems.require(
        !public.required || is_for_clients,
        "public.tls.required",
        "would refuse health checks as well, because public and internal share a listener: give internal another port",
    );
    let is_own = !config.is_shared() || internal.files().is_none();
    let path = "internal.tls";
    problems.require(
        is_own,
        path,
        "public and internal share a listener: set public.tls alone, or another port",
    );
}

const WITHOUT_WAY: &str = "would refuse everybody: set public.tls.cert_file and key_file, \
    or public.trusted_proxies if TLS ends before this node";

fn check_pair(at: &str, cert: &Option<PathBuf>, key: &Option<PathBuf>, problems: &mut Problems) {
    match (cert, key) {
        (Some(_), None) => problems.add(format!("{at}.key_file"), "is missing: cert_file is given"),
        (None, Some(_)) => problems.add(format!("{at}.cert_file"), "is missing: key_file is given"),
        (Some(_), Some(_)) | (None, None) => {}
    }
}
