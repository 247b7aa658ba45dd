use std::path::PathBuf;
use std::process::Command;

use clarion::model::NodeId;

/// A directory that goes with the test.
pub(crate) struct TempDirectory(PathBuf);

impl TempDirectory {
    /// An empty one.
    pub(crate) fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", NodeId::random()));
        std::fs::create_dir(&path).expect("the directory of tests is writable");
        Self(path)
    }

    /// Where the file called `name` is, or is to be.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The same as text.
    pub(crate) fn file(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

impl Drop for TempDirectory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// `ca.pem` has signed `server.pem`, for 127.0.0.1, and `client.pem`; `other.pem` has signed nothing. Each has its key.
pub(crate) fn certificates() -> TempDirectory {
    const SCRIPT: &str = "set -e
        key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
        for name in ca other; do openssl req -x509 $key -days 2 -subj /CN=$name -keyout $name.key -out $name.pem; done
        echo 'subjectAltName=IP:127.0.0.1' >extensions
        for name in server client; do
            openssl req $key -subj /CN=$name -keyout $name.key -out $name.csr
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \\
                -extfile extensions -out $name.pem
        done";
    let directory = TempDirectory::new("certificates");
    let made = Command::new("sh").args(["-c", SCRIPT]).current_dir(&directory.0).output();
    let made = made.expect("sh runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    directory
}
