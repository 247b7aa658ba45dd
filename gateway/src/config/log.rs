use std::fmt;

use serde::{Deserialize, Serialize};

/// Logs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least important level that is written.
    pub level: LogLevel,
    /// How lines look.
    pub format: LogFormat,
    /// Most lines that one place in the code writes within ten seconds, of `warn` and `info`; a hundred times as many of
    /// `debug` and `trace`, and any number of `error`. The rest is counted. 0 = unlimited.
    pub burst: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::default(), format: LogFormat::default(), burst: 10 }
    }
}

/// A level of logs, most important first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// A person should look.
    Error,
    /// Degraded.
    Warn,
    /// The life of the node and its broker.
    #[default]
    Info,
    /// What connections do.
    Debug,
    /// What messages do.
    Trace,
}

impl LogLevel {
    /// Every level.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// As the configuration has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For machines: an object on each line.
    Json,
}
