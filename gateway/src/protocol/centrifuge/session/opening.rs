//! How a session begins: with the subscriptions that the server makes for it.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use super::subscriptions::{Admitted, Side, Wish};
use super::{Manner, Pending, Refused, Session, Ticket};
use crate::auth::Refusal;
use crate::model::{Channel, CloseReason, SubscriptionGrant};
use crate::node::recovery::{Since, Start};
use crate::protocol::centrifuge::code;
use crate::protocol::centrifuge::command::SubscribeRequest;
use crate::protocol::centrifuge::reply::{Begun, Connected, Reply};
use crate::protocol::{Effect, SubscribeError, Wanted};

/// A `connect` that is not answered yet.
#[derive(Debug)]
pub(super) struct Opening {
    ticket: Ticket,
    /// When the client has to have refreshed; `None` if there is nothing to refresh.
    refresh_by: Option<SystemTime>,
    admitted: Vec<Admitted>,
}

impl Session {
    /// Opens the session for the `connect` of `ticket`. `positions` say where the client was in channels that the
    /// server subscribes it to, and which others it would like to have.
    ///
    /// # Errors
    /// [`Refused`]; nothing was begun.
    pub(in crate::protocol::centrifuge) fn open(
        &mut self,
        ticket: Ticket,
        refresh_by: Option<SystemTime>,
        positions: &HashMap<String, SubscribeRequest>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        let mut admitted = self.enrol(|name| positions.get(name)?.since())?;
        self.enrol_wishes(positions, &mut admitted)?;
        effects.push(Effect::Open(self.identity.clone(), self.codec.heartbeat()));
        let opening = Opening { ticket, refresh_by, admitted };
        if opening.admitted.is_empty() {
            self.greet(&opening, Vec::new(), effects);
        } else {
            effects.push(Effect::Subscribe(all_wanted(&opening.admitted)));
            self.pending = Some(Box::new(Pending::Opening(opening)));
        }
        Ok(())
    }

    /// The subscriptions that the server makes when the session opens: those of the token and the user's own
    /// channel. `position` says where the client was in a channel.
    ///
    /// # Errors
    /// [`Refused`] if one of them cannot be.
    pub fn enrol(&self, mut position: impl FnMut(&str) -> Option<Since>) -> Result<Vec<Admitted>, Refused> {
        let authority = &self.context.authority;
        let personal = authority.personal_channel(&self.identity.user);
        if personal.is_some() && self.identity.user.as_str().contains(['#', ',']) {
            // It would read as the channel of another user: that of `x#42` as one for the user 42.
            return Err(code::BAD_REQUEST.into());
        }
        let listed = self.identity.grants.iter().flat_map(|grants| grants.subscriptions.iter().cloned());
        let mut admitted: Vec<Admitted> = Vec::new();
        for (name, grant) in listed.chain(personal.map(|name| (name, SubscriptionGrant::default()))) {
            let channel = authority.channel(&name)?;
            if admitted.iter().all(|known| known.wanted.channel != channel) {
                let since = position(&name);
                admitted.push(self.prepare(channel, Wish { since, grant, ..Wish::of(Side::Server) }));
            }
        }
        if admitted.len() > self.context.channels_max {
            return Err(CloseReason::ChannelLimit.into());
        }
        Ok(admitted)
    }

    /// Channels that the client names without being subscribed to them by the server: it gets those to which it
    /// might subscribe itself.
    fn enrol_wishes(
        &self,
        positions: &HashMap<String, SubscribeRequest>,
        admitted: &mut Vec<Admitted>,
    ) -> Result<(), Refused> {
        let authority = &self.context.authority;
        // A frame has room for thousands, which must not be looked at each for each.
        let chosen: HashSet<_> = admitted.iter().map(|one| one.wanted.channel.clone()).collect();
        for (name, request) in positions {
            let channel = match authority.channel(name) {
                Ok(channel) => channel,
                Err(Refusal::UnknownNamespace) => return Err(CloseReason::BadRequest.into()),
                Err(_) => continue,
            };
            if chosen.contains(&channel) || authority.may_subscribe(&self.identity, &channel).is_err() {
                continue;
            }
            if admitted.len() == self.context.channels_max {
                return Err(CloseReason::ChannelLimit.into());
            }
            admitted.push(self.prepare(channel, Wish { since: request.since(), ..Wish::of(Side::Server) }));
        }
        Ok(())
    }

    /// The subscriptions are made, or not: the session is open, or the client has to come again.
    pub(super) fn opened_with(
        &mut self,
        mut opening: Opening,
        results: Vec<Result<Option<Start>, SubscribeError>>,
        effects: &mut Vec<Effect>,
    ) {
        let mut subscriptions = Vec::with_capacity(results.len());
        for (admitted, result) in std::mem::take(&mut opening.admitted).into_iter().zip(results) {
            match result {
                Ok(start) => subscriptions.push(self.begin(admitted, start)),
                Err(SubscribeError::Gap(_)) => return self.close(CloseReason::InsufficientState, effects),
                Err(_) => {
                    // After an error there is no session, and the client is told so in both ways.
                    self.finish(&opening.ticket, Err(code::INTERNAL), effects);
                    return self.close(CloseReason::Internal, effects);
                }
            }
        }
        self.greet(&opening, subscriptions, effects);
    }

    fn greet(&mut self, opening: &Opening, subscriptions: Vec<(Channel, Begun)>, effects: &mut Vec<Effect>) {
        let connected = Connected {
            client: self.client,
            ping: self.context.ping_interval,
            expires_at: opening.refresh_by,
            subscriptions,
        };
        self.finish(&opening.ticket, Ok(Reply::Connect(Box::new(connected))), effects);
    }

    /// Keeps commands waiting until [`opened`](Self::opened).
    pub fn hold(&mut self) {
        self.pending = Some(Box::new(Pending::Handshake));
    }

    /// The subscriptions that the handshake asked for are made: what waited is carried out.
    pub fn opened(&mut self, effects: &mut Vec<Effect>) {
        debug_assert!(self.manner != Manner::Native, "an SDK opens its session with a command");
        self.pending = None;
        self.watch_expiries(effects);
        self.resume(effects);
    }
}

/// What to subscribe with; what is recovered is told in one message, so all have one limit in bytes together.
pub fn all_wanted(admitted: &[Admitted]) -> Vec<Wanted> {
    let count = admitted.len();
    let wanted = admitted.iter().map(|admitted| {
        let mut wanted = admitted.wanted.clone();
        if let Some(follow) = &mut wanted.follow {
            follow.bytes_max /= count;
        }
        wanted
    });
    wanted.collect()
}
