//! Certificates for a Redis that speaks TLS, made by `openssl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// A certificate without time is good until the end of the second in which it was signed.
pub(crate) const EXPIRES: Duration = Duration::from_secs(2);

/// Files in a directory: who signs, and what the server shows.
#[derive(Debug)]
pub(crate) struct Certificates(PathBuf);

impl Certificates {
    /// Makes an authority, and a certificate for loopback that it signed.
    pub(crate) fn make(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let certificates = Self(directory.to_owned());
        fs::write(certificates.file("extensions"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n")?;
        certificates.renew_authority()?;
        certificates.sign("server", 30)?;
        Ok(certificates)
    }

    /// Another authority takes the place of the first; what that signed is worth nothing any more.
    pub(crate) fn renew_authority(&self) -> Result<()> {
        let key = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let rest =
            ["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority of the tests", "-days", "30"];
        self.openssl(&[&key[..], &rest].concat())
    }

    /// Signs a certificate `NAME.pem` with the key `NAME.key`. With 0 days it has expired when [`EXPIRES`] is over.
    pub(crate) fn sign(&self, name: &str, days: u32) -> Result<()> {
        let (key, request) = (format!("{name}.key"), format!("{name}.csr"));
        let (certificate, days) = (format!("{name}.pem"), days.to_string());
        let new_key = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let named = ["-keyout", &key, "-out", &request, "-subj", "/CN=localhost"];
        self.openssl(&[&new_key[..], &named].concat())?;
        let signer = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions"];
        let signed = ["x509", "-req", "-in", &request, "-out", &certificate, "-days", &days];
        self.openssl(&[&signed[..], &signer].concat())
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The same for arguments of Redis.
    pub(crate) fn path(&self, name: &str) -> String {
        self.file(name).to_string_lossy().into_owned()
    }

    fn openssl(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("openssl");
        let output = command.args(arguments).current_dir(&self.0).output().context("running openssl")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "openssl {}: {said}", arguments.join(" "));
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cleanup::Directory;
    use crate::redis::Redis;

    crate::own::tests!(; a_server_shows_what_it_was_given);

    /// What a client that trusts the authority says of the certificate that the server shows.
    fn verdict(certificates: &Certificates, port: u16) -> String {
        let address = format!("127.0.0.1:{port}");
        let arguments = ["s_client", "-connect", &address, "-CAfile", "ca.pem", "-verify_ip", "127.0.0.1"];
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(&certificates.0).stdin(std::process::Stdio::null());
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    }

    async fn a_server_shows_what_it_was_given() {
        let directory = Directory::make("own-certificates").unwrap();
        let certificates = Certificates::make(&directory).unwrap();
        let mut redis = Redis::start(&directory, &[]).await.unwrap();
        redis.speak_tls(&certificates).await.unwrap();
        let port = redis.tls_port().unwrap();
        assert!(verdict(&certificates, port).contains("Verify return code: 0 (ok)"));
        certificates.sign("expired", 0).unwrap();
        tokio::time::sleep(EXPIRES).await;
        redis.show_certificate(&certificates, "expired").await.unwrap();
        assert!(verdict(&certificates, port).contains("certificate has expired"));
        certificates.renew_authority().unwrap();
        certificates.sign("renewed", 30).unwrap();
        redis.show_certificate(&certificates, "renewed").await.unwrap();
        assert!(verdict(&certificates, port).contains("Verify return code: 0 (ok)"));
    }
}
