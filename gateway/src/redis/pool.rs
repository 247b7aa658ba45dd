//! Connections that one call has for itself, for what would hold others up on a shared one: large answers.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::ConnectionLike;
use ::redis::{RedisError, Value};
use deadpool_redis::{Manager, Pool, PoolError, Runtime};
use parking_lot::Mutex;

use super::Failure;
use super::call::{Call, is_unknown_script};
use super::connect::{ConnectError, Connector};

/// Most connections of a pool.
const CONNECTIONS_MAX: usize = 8;

/// A pool that is made anew when what it was made of has changed.
pub(super) struct Connections {
    connector: Arc<Connector>,
    pool: Mutex<Option<Pool>>,
}

impl Connections {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Self { connector, pool: Mutex::new(None) }
    }

    /// Runs `call` on a connection of its own.
    pub(super) async fn call(&self, call: &Call) -> Result<Value, Failure> {
        let deadline = self.connector.settings().command_timeout;
        let answer = tokio::time::timeout(deadline, self.ask(call)).await;
        answer.unwrap_or(Err(Failure::Unavailable))
    }

    async fn ask(&self, call: &Call) -> Result<Value, Failure> {
        let pool = self.pool()?;
        let mut connection = match pool.get().await {
            Ok(connection) => connection,
            Err(PoolError::Backend(error)) => {
                // A pool keeps the password and the certificates that it was made with.
                self.forget();
                return Err(Failure::from(&error));
            }
            Err(_) => return Err(Failure::Unavailable),
        };
        let mut ask = async |command: &::redis::Cmd| -> Result<Value, RedisError> {
            connection.req_packed_command(command).await?.extract_error()
        };
        let mut answer = ask(&call.command).await;
        if let (Err(error), Some(script)) = (&answer, call.script)
            && is_unknown_script(error)
        {
            answer = ask(&call.with_code(script)).await;
        }
        answer.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &RedisError) -> Failure {
        let failure = Failure::from(error);
        if failure.is_for_an_operator() {
            self.forget();
        }
        failure
    }

    /// The next call makes a new pool.
    fn forget(&self) {
        *self.pool.lock() = None;
    }

    fn pool(&self) -> Result<Pool, Failure> {
        let mut pool = self.pool.lock();
        if let Some(pool) = &*pool {
            return Ok(pool.clone());
        }
        let made = make(&self.connector).map_err(|error| {
            tracing::warn!(%error, "connections to Redis cannot be opened");
            Failure::Unavailable
        })?;
        Ok(pool.insert(made).clone())
    }
}

fn make(connector: &Connector) -> Result<Pool, ConnectError> {
    let settings = connector.settings();
    let manager = Manager::new_with_config(connector.target()?, connector.options())?;
    // None of them is bounded by default.
    let timeout: Option<Duration> = Some(settings.command_timeout);
    let builder = Pool::builder(manager).max_size(CONNECTIONS_MAX).runtime(Runtime::Tokio1);
    let builder = builder.create_timeout(Some(settings.connect_timeout));
    let pool = builder.wait_timeout(timeout).recycle_timeout(timeout).build();
    pool.map_err(|error| ConnectError::Settings(error.to_string()))
}
