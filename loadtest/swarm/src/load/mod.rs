//! A lean load of thousands of clients in a few threads, for plays: connections, subscriptions, and whether what comes
//! is what must come.
//!
//! A [`Load`] is made of [`LoadSettings`] and has one [`Thread`] per processor to spare. A thread has a runtime of its
//! own, a task for each [`Client`], and one buffer that all of them read into; frames are parsed where they lie, and a
//! client keeps bytes only of a frame whose end has not come. So a client is a socket, a task, and some hundred bytes.
//!
//! What happens is counted in [`tally`], which anybody may read at any time; what it was, is in [`Findings`] at the end.
//! Every publication carries a [`stamp`]: its number, which each client [checks](Sequence), and when it was due, from
//! which its delay is measured. A [`BackEnd`] publishes.
//!
//! A play drives it from a runtime of its own: [`Load::open`] connects clients, [`Load::wait_delivered`] waits for them,
//! [`Load::finish`] judges. What a play needs beyond that it does with the clients themselves, by [`Load::on_each`]:
//!
//! ```no_run
//! # async fn example(load: swarm::load::Load) -> anyhow::Result<()> {
//! // Every client drops its line, and connects again at once, with what it missed if the settings say so.
//! load.on_each(|thread| async move {
//!     for client in thread.clients() {
//!         client.leave();
//!         let again = std::rc::Rc::clone(&thread);
//!         thread.spawn(async move {
//!             // Counted as failed if it fails.
//!             let _ = again.admit(client, tokio::time::Instant::now()).await;
//!         });
//!     }
//! })
//! .await?;
//! # Ok(())
//! # }
//! ```

mod back_end;
mod client;
pub mod clock;
mod engine;
mod findings;
mod frame;
mod goal;
mod handshake;
mod heard;
mod message;
pub mod open_loop;
pub mod process;
mod published;
mod secret;
mod sequence;
mod settings;
pub mod stamp;
mod talk;
pub mod tally;
pub mod target;
mod thread;
pub mod tokens;
mod trouble;
pub mod watch;

pub use self::back_end::BackEnd;
pub use self::client::Client;
pub use self::clock::LoadClock;
pub use self::engine::Load;
pub use self::findings::{CONNECT_TIME, DELAY, Findings, Times};
pub use self::heard::{Numbering, Voice};
pub use self::published::Published;
pub use self::secret::Secret;
pub use self::sequence::{Seen, Sequence};
pub use self::settings::LoadSettings;
pub use self::talk::{Missed, Talk};
pub use self::thread::Thread;
pub use self::trouble::Trouble;
