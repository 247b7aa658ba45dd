//! One connection of a client, from its first command to its end.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{self, Instant};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::protocol::{self, Command, Connect, Connected, Incoming, Refusal, Subscribe, Subscribed};
use super::socket::Socket;
use super::{Client, End, Phase, backoff};
use crate::crowd::TokenPlace;

/// How long SDKs wait for a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// How much longer than from one ping to the next SDKs wait for anything.
const PING_GRACE: Duration = Duration::from_secs(10);

/// How long a client stays to say goodbye.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// The name that clients give.
const NAME: &str = "swarm";

/// A client that has a connection.
pub(super) struct Session<'a> {
    client: &'a mut Client,
    socket: Socket,
    /// Those orders to cut that were given before it began.
    cuts: u64,
    /// The id that the server gave.
    id: String,
    /// Whether the client was live on this connection.
    was_live: bool,
    /// The command that subscribes, and whether it asks to recover; `None` once it is answered.
    asking: Option<(u32, bool)>,
    /// When to subscribe again, after an error that passes.
    again_at: Option<Instant>,
    /// How often that happened.
    refusals: u32,
    answers_pings: bool,
    /// How long it may hear nothing; `None` is for ever.
    silence_max: Option<Duration>,
    heard_at: Instant,
}

impl<'a> Session<'a> {
    /// `cuts`: those orders to cut that do not mean this connection.
    pub(super) fn new(client: &'a mut Client, socket: Socket, cuts: u64) -> Self {
        Self {
            client,
            socket,
            cuts,
            id: String::new(),
            was_live: false,
            asking: None,
            again_at: None,
            refusals: 0,
            answers_pings: false,
            silence_max: Some(REPLY_TIMEOUT),
            heard_at: Instant::now(),
        }
    }

    /// Stays as long as it goes. Dropping the future drops the connection, and loses nothing else.
    pub(super) async fn run(mut self) -> End {
        match self.listen().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn listen(&mut self) -> Result<std::convert::Infallible, End> {
        self.greet().await?;
        loop {
            self.obey().await?;
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                changed = self.client.orders.changed() => changed.map_err(|_| End::Cut)?,
                message = self.socket.next() => self.message(message).await?,
                () = time::sleep_until(wake_at) => self.wake().await?,
            }
        }
    }

    /// Connects and subscribes in one message, as SDKs do.
    async fn greet(&mut self) -> Result<(), End> {
        let token = (self.client.shared.settings.token == TokenPlace::Command).then(|| self.client.token());
        let connect = Connect { token: token.as_deref(), name: NAME };
        let connect = Command { id: self.next_id(), connect: Some(connect), subscribe: None }.line();
        let subscribe = self.subscription();
        self.send(format!("{connect}\n{subscribe}")).await
    }

    async fn obey(&mut self) -> Result<(), End> {
        let orders = *self.client.orders.borrow_and_update();
        if orders.cuts != self.cuts {
            return Err(End::Cut);
        }
        let is_over = match orders.phase {
            Phase::Run => false,
            Phase::Settle => self.client.is_settled(),
            Phase::Stop => true,
        };
        if is_over {
            self.say_goodbye().await;
            return Err(End::Finished);
        }
        Ok(())
    }

    async fn say_goodbye(&mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        // Whether the server hears it makes no difference any more.
        let _ = time::timeout(FAREWELL_TIMEOUT, self.socket.close(Some(frame))).await;
    }

    async fn message(&mut self, message: Option<Result<Message, Error>>) -> Result<(), End> {
        self.heard_at = Instant::now();
        match message {
            Some(Ok(Message::Text(text))) => self.text(text.as_str()).await,
            Some(Ok(Message::Close(frame))) => {
                // The library answers the close frame when it is flushed; the server may not wait for it.
                let _ = time::timeout(FAREWELL_TIMEOUT, self.socket.flush()).await;
                // 1005 and 1006 say that there was no code, and no close frame.
                Err(End::Closed(Some(frame.map_or(1005, |frame| frame.code.into()))))
            }
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => Err(End::Closed(None)),
        }
    }

    /// Several messages may come in one, a line each.
    async fn text(&mut self, text: &str) -> Result<(), End> {
        for line in text.trim_end_matches('\n').split('\n') {
            match protocol::parse(line, self.client.channel_name()) {
                Ok(incoming) => self.take(incoming).await?,
                Err(error) => {
                    self.client.failure(&format!("the server sent what it should not: {error}"));
                    return Err(End::Closed(None));
                }
            }
        }
        Ok(())
    }

    async fn take(&mut self, incoming: Incoming<'_>) -> Result<(), End> {
        match incoming {
            Incoming::Ping if self.answers_pings => return self.send(protocol::PONG.to_owned()).await,
            Incoming::Connected(connected) => self.connected(connected),
            Incoming::Subscribed(subscribed) => self.subscribed(&subscribed),
            Incoming::Refused(id, refusal) => return self.refused(id, &refusal),
            Incoming::Publication(publication) => self.client.publication(&publication, true),
            Incoming::Joined if self.client.is_observer() => self.client.joined(),
            Incoming::Left(id) if self.client.is_observer() => self.client.heard_leave(&id),
            Incoming::Unsubscribed(code) => return self.unsubscribed(code).await,
            Incoming::Ping | Incoming::Joined | Incoming::Left(_) | Incoming::Other => {}
        }
        Ok(())
    }

    fn connected(&mut self, connected: Connected<'_>) {
        self.id = connected.client.into_owned();
        self.answers_pings = connected.pong;
        self.silence_max = (connected.ping > 0).then(|| Duration::from_secs(connected.ping) + PING_GRACE);
    }

    fn subscribed(&mut self, subscribed: &Subscribed<'_>) {
        let Some((_, asked)) = self.asking.take() else { return };
        self.client.subscribed(asked, subscribed.recovered, &subscribed.epoch, subscribed.offset);
        for publication in &subscribed.publications {
            self.client.publication(publication, false);
        }
        self.refusals = 0;
        self.client.lives(&self.id, !self.was_live);
        self.was_live = true;
    }

    /// A command was answered by an error.
    fn refused(&mut self, id: u32, refusal: &Refusal<'_>) -> Result<(), End> {
        let subscribes = self.asking.is_some_and(|(asking, _)| asking == id);
        let what = if subscribes { "subscribe" } else { "connect" };
        self.client.failure(&format!("{what} was answered by error {}: {}", refusal.code, refusal.message));
        match (refusal.is_temporary(), subscribes) {
            (false, _) => Err(End::Denied),
            (true, false) => Err(End::Closed(None)),
            (true, true) => {
                self.asking = None;
                self.again_at = Some(Instant::now() + backoff::delay(self.refusals));
                self.refusals += 1;
                Ok(())
            }
        }
    }

    /// The server ended the subscription. From 2500 on the client is to subscribe again, at once.
    async fn unsubscribed(&mut self, code: u32) -> Result<(), End> {
        self.client.shared.records.notice(|notices| notices.unsubscribed += 1);
        self.client.unlive();
        if code < 2500 {
            self.client.failure(&format!("unsubscribed for good, with code {code}"));
            return Err(End::Denied);
        }
        match self.asking {
            // SDKs take no notice while they subscribe.
            Some(_) => Ok(()),
            None => self.subscribe().await,
        }
    }

    async fn subscribe(&mut self) -> Result<(), End> {
        self.again_at = None;
        let line = self.subscription();
        self.send(line).await
    }

    /// The command that subscribes, from where the client is.
    fn subscription(&mut self) -> String {
        let id = self.next_id();
        let from = self.client.recovers_from();
        self.asking = Some((id, from.is_some()));
        let subscribe = Subscribe {
            channel: self.client.channel_name(),
            positioned: true,
            recoverable: true,
            join_leave: self.client.is_observer(),
            recover: from.is_some(),
            epoch: from.map(|_| &*self.client.epoch),
            offset: from.map(|position| position.offset),
        };
        Command { id, connect: None, subscribe: Some(subscribe) }.line()
    }

    fn next_id(&mut self) -> u32 {
        self.client.command = self.client.command.wrapping_add(1).max(1);
        self.client.command
    }

    /// When it has to do something if nothing comes.
    fn wake_at(&self) -> Instant {
        let a_day = Duration::from_secs(24 * 60 * 60);
        let silent_at = self.heard_at + self.silence_max.unwrap_or(a_day);
        self.again_at.map_or(silent_at, |again_at| again_at.min(silent_at))
    }

    async fn wake(&mut self) -> Result<(), End> {
        if self.again_at.is_some_and(|again_at| again_at <= Instant::now()) {
            return self.subscribe().await;
        }
        match self.silence_max {
            None => Ok(()),
            Some(_) => {
                self.client.failure("the server said nothing for too long");
                Err(End::Closed(None))
            }
        }
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        match time::timeout(REPLY_TIMEOUT, self.socket.send(Message::text(text))).await {
            Ok(Ok(())) => Ok(()),
            // Why the connection ended may be there to read.
            Ok(Err(_)) => self.last_words().await,
            Err(_) => Err(End::Closed(None)),
        }
    }

    /// Reads what the server said before the connection ended.
    async fn last_words(&mut self) -> Result<(), End> {
        loop {
            match time::timeout(FAREWELL_TIMEOUT, self.socket.next()).await {
                Ok(Some(Ok(Message::Close(Some(frame))))) => {
                    return Err(End::Closed(Some(frame.code.into())));
                }
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(_)) | None) | Err(_) => return Err(End::Closed(None)),
            }
        }
    }
}
