//! Everything that touches Redis: connections, what is asked through them, and subscriptions that never go deaf in
//! silence.
//!
//! It knows servers, commands, scripts, and names of Redis' channels. It does not know what a publication is: who
//! subscribes is handed bytes. Enter by [`Redis::start`], then find the [`Instance`] that a channel lives on.
//!
//! The client library is used for what it does well, one connection at a time. Staying connected is ours: measured,
//! its reconnecting clients stop trying, go deaf, or hand a push to a command as its reply.

mod backoff;
mod call;
mod check;
mod connect;
mod death;
mod failure;
mod inspection;
mod instance;
mod line;
mod names;
mod patience;
mod pool;
mod subscriptions;
#[cfg(test)]
pub(crate) mod testing;
mod topology;
mod vital;

pub(crate) use call::script;
pub use call::{Arg, Call, Reply, Script};
pub use check::{Unsuitable, is_too_old};
pub use death::death;
pub use failure::{Failure, Refusal};
pub use inspection::{ClockDifference, Inspection, OutputLimit, Server, User, inspect, warn_of_rights};
pub use instance::{Hearing, Instance};
pub use names::Names;
pub use subscriptions::{Item, Queue, WORKERS, worker_of};
pub use topology::Redis;
pub use vital::vital;
