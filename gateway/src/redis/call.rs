use std::sync::LazyLock;

use ::redis::{Cmd, FromRedisValue, RedisError, ServerErrorKind, ToRedisArgs};

/// An answer in the shape that is expected of it: tuples, lists, numbers, strings and bytes.
pub trait Reply: FromRedisValue + Send {}

impl<T: FromRedisValue + Send> Reply for T {}

/// What can be sent: strings, bytes, numbers, and lists of them.
pub trait Arg: ToRedisArgs {}

impl<T: ToRedisArgs> Arg for T {}

/// A script that Redis runs as one step.
#[derive(Debug)]
pub struct Script {
    name: &'static str,
    code: &'static str,
    hash: LazyLock<String, fn() -> String>,
}

/// Makes a [`Script`] of a file under `redis/scripts/`.
macro_rules! script {
    ($name:literal) => {{
        const CODE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/redis/scripts/", $name));
        $crate::redis::Script::new($name, CODE, || $crate::redis::Script::hash_of(CODE))
    }};
}
pub(crate) use script;

impl Script {
    /// A script of this `code` in the file `name`; `hash` computes its [hash](Self::hash_of). For the macro `script!`.
    pub(crate) const fn new(name: &'static str, code: &'static str, hash: fn() -> String) -> Self {
        Self { name, code, hash: LazyLock::new(hash) }
    }

    /// By what Redis knows a script that it has been told.
    pub(crate) fn hash_of(code: &str) -> String {
        ::redis::Script::new(code).get_hash().to_owned()
    }
}

/// One command, or one run of a script.
#[derive(Clone)]
pub struct Call {
    /// Of the command or the file of the script; the label in metrics.
    pub(super) name: &'static str,
    pub(super) command: Cmd,
    pub(super) script: Option<&'static Script>,
    pub(super) is_patient: bool,
}

impl Call {
    /// The command called `name`.
    pub fn command(name: &'static str) -> Self {
        Self { name, command: ::redis::cmd(name), script: None, is_patient: false }
    }

    /// A run of `script` on `keys`, all of which live in one place.
    pub fn script(script: &'static Script, keys: &[&str]) -> Self {
        let mut command = ::redis::cmd("EVALSHA");
        command.arg(script.hash.as_str()).arg(keys.len()).arg(keys);
        Self { name: script.name, command, script: Some(script), is_patient: false }
    }

    /// One of many that come at once, as when a crowd leaves: nothing but its like waits behind it.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { is_patient: true, ..self }
    }

    /// The same run with the script in it, for a Redis that does not know it. In one step: between telling it and
    /// running it, it could be told to forget.
    pub(super) fn with_code(&self, script: &Script) -> Cmd {
        let mut command = ::redis::cmd("EVAL");
        command.arg(script.code);
        // After the name and the hash.
        for argument in self.command.args_iter().skip(2) {
            if let ::redis::Arg::Simple(argument) = argument {
                command.arg(argument);
            }
        }
        command
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Arg) -> Self {
        self.command.arg(argument);
        self
    }
}

/// Whether Redis does not know the script: it was restarted, or told to forget.
pub(super) fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ::redis::ErrorKind::Server(ServerErrorKind::NoScript)
}
