//! As many clients as a step is to have.

use std::rc::Rc;
use std::sync::Arc;

use anyhow::Result;

use crate::load::{Load, Published, Thread};

/// Opens connections or ends them, until there are `wanted`, if the server lets all of them in. Who has lost its connection
/// is replaced. What those missed of what was `published` that are sent away is judged before.
pub(super) async fn resize(load: &Load, wanted: u64, published: &Published) -> Result<()> {
    let published = Arc::new(published.clone());
    let connected =
        |thread: &Rc<Thread>| thread.clients().iter().filter(|client| client.is_connected()).count() as u64;
    let now: u64 = load.on_each(move |thread| async move { connected(&thread) }).await?.into_iter().sum();
    let keep = move |thread: Rc<Thread>| {
        let published = Arc::clone(&published);
        async move {
            let own = connected(&thread);
            // Rounded down for each thread, so that it is never more than there are to be.
            let share = if now > wanted { own * wanted / now } else { own };
            dismiss_beyond(&thread, share, &published);
            share
        }
    };
    let kept: u64 = load.on_each(keep).await?.into_iter().sum();
    let more = u32::try_from(wanted.saturating_sub(kept))?;
    load.open(more).await
}

/// Of the clients that are connected so many stay, those that came first.
fn dismiss_beyond(thread: &Rc<Thread>, share: u64, published: &Published) {
    let mut stay = share;
    for client in thread.clients() {
        if client.is_connected() && stay > 0 {
            stay -= 1;
            continue;
        }
        if client.is_connected() {
            thread.judge(&client, published);
        }
        thread.dismiss(&client);
    }
}
