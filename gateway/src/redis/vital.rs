use tokio::task::{AbortHandle, JoinHandle};

use crate::telemetry;

/// Ends the process if `task` panics: a node that serves and hears nothing is worse than one that is gone. To be called
/// within a runtime; the task is ended by what is answered.
pub fn vital(task: JoinHandle<()>) -> AbortHandle {
    let handle = task.abort_handle();
    tokio::spawn(async move {
        if task.await.is_err_and(|error| error.is_panic()) {
            tracing::error!("a task without which Redis is not heard has panicked; the node ends");
            telemetry::finish();
            std::process::abort();
        }
    });
    handle
}
