//! A channel in Redis: its keys, and the scripts that read and change it.

use std::time::Duration;

use crate::model::{Channel, ClientId, NodeEpoch};
use crate::presence::redis::entry;
use crate::presence::{Grace, Holding, Lease, Member};
use crate::redis::{Call, Names, Script, script};

/// Makes a [`Script`] of a file that stands behind what changing scripts have in common, and perhaps behind flags, which
/// Redis reads in the first line alone.
macro_rules! changing_script {
    ($name:literal) => {
        changing_script!($name, "")
    };
    ($name:literal, $flags:literal) => {{
        const CODE: &str = concat!(
            $flags,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/redis/scripts/presence_room.lua")),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/redis/scripts/", $name)),
        );
        Script::new($name, CODE, || Script::hash_of(CODE))
    }};
}

static PUT: Script = changing_script!("presence_put.lua");
static TAKE: Script = changing_script!("presence_take.lua");
// It hardly takes room, and a full Redis must not make members look forgotten.
static RENEW: Script = changing_script!("presence_renew.lua", "#!lua flags=allow-oom\n");
// Who lingers was there before, and takes hardly more room now.
static LINGER: Script = changing_script!("presence_linger.lua", "#!lua flags=allow-oom\n");
static TAKEN: Script = script!("presence_taken.lua");
static DUE: Script = script!("presence_due.lua");
static OWNED: Script = script!("presence_owned.lua");
static MEMBERS: Script = script!("presence_members.lua");
static STATS: Script = script!("presence_stats.lua");

/// How many times the time of a lease everything is kept. What an owner forgot goes with it; what it has, it would
/// have to fail to renew as often.
const KEPT_LEASES: u128 = 4;
/// The longest grace.
const GRACE_MAX: Duration = Duration::from_secs(3600);
/// About how many clients are looked at in one round trip.
pub(super) const PAGE: usize = 512;

/// What is kept of owners: each with its record.
pub(super) type Records = Vec<(Vec<u8>, Vec<u8>)>;
/// Clients, each with its entry.
pub(super) type Entries = Vec<(Vec<u8>, Vec<u8>)>;
/// The clock of Redis in ms, and what is in a channel.
pub(super) type Listed = (u64, Records, Entries);
/// The clock of Redis in ms, owners, and how many members and users there are.
pub(super) type Counted = (u64, Records, usize, usize);
/// Where the next page begins, and whom this one names.
pub(super) type Page = (u64, Vec<Vec<u8>>);
/// In how many ms the next grace is over (-1: there is none), and whose is: each as [`read_name`] reads it.
pub(super) type Due = (i64, Vec<Vec<u8>>);
/// What was taken out under a ticket: channels, each with entries.
pub(super) type Receipts = Vec<(String, Entries)>;

/// Where clients are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Listed,
    Hidden,
}

/// The keys of a channel.
pub(super) struct Room<'a> {
    channel: &'a Channel,
    names: &'a Names,
    members: String,
    hidden: String,
    users: String,
    owners: String,
    lingering: String,
}

impl<'a> Room<'a> {
    pub(super) fn new(names: &'a Names, channel: &'a Channel) -> Self {
        let key = |kind| names.of_channel(kind, channel);
        let (members, hidden, users) = (key("members"), key("hidden"), key("users"));
        Self { channel, names, members, hidden, users, owners: key("owners"), lingering: key("lingering") }
    }

    /// Answers a [`Listed`].
    pub(super) fn list(&self) -> Call {
        Call::script(&MEMBERS, &[&self.members, &self.owners])
    }

    /// Answers a [`Counted`].
    pub(super) fn count(&self) -> Call {
        Call::script(&STATS, &[&self.members, &self.owners, &self.users])
    }

    /// Answers for each member 1 if it is new, else 0.
    pub(super) fn put(&self, members: &[Member], lease: Lease) -> Call {
        self.put_as("", members, lease)
    }

    /// Answers 1 if the member is new, 2 if it took the place of its user, else 0; in a list.
    pub(super) fn enter(&self, member: Member, lease: Lease) -> Call {
        self.put_as(seen(&member), &[member], lease)
    }

    fn put_as(&self, seen: &str, members: &[Member], lease: Lease) -> Call {
        let call = self.change(&PUT, lease.owner);
        let call = call.arg(lease.owner.as_bytes().as_slice()).arg(self.channel.as_str());
        let call = call.arg(kept_ms(lease)).arg(seen);
        members.iter().fold(call, |call, member| {
            let kind = if member.is_listed { "" } else { "h" };
            let entry = entry::write(member, lease.owner);
            call.arg(member.info.client.as_bytes().as_slice()).arg(kind).arg(entry)
        })
    }

    /// Answers 1 if the holding is there as it should be, else 0.
    pub(super) fn renew(&self, holding: &Holding, lease: Lease) -> Call {
        self.renewal(holding, lease).arg("")
    }

    /// Says that the holding is there, whatever was counted; answers 1.
    pub(super) fn settle(&self, holding: &Holding, lease: Lease) -> Call {
        self.renewal(holding, lease).arg("s")
    }

    fn renewal(&self, holding: &Holding, lease: Lease) -> Call {
        let (count, sum) = entry::tally(&holding.members);
        let call = self.change(&RENEW, lease.owner);
        let call = call.arg(lease.owner.as_bytes().as_slice()).arg(self.channel.as_str());
        call.arg(kept_ms(lease)).arg(count).arg(sum)
    }

    /// Answers for each member 1 if it lingers, or did until its place was taken, else 0.
    pub(super) fn linger(&self, leaving: &[(Member, Grace)], owner: NodeEpoch) -> Call {
        let graces = graces(self.names, owner);
        let call = self.change_with(&LINGER, owner, Some(&graces));
        let call = call.arg(owner.as_bytes().as_slice()).arg(self.channel.as_str());
        leaving.iter().fold(call, |call, (member, grace)| {
            let call = call.arg(member.info.client.as_bytes().as_slice());
            let lasts_ms = u64::try_from(grace.lasts.min(GRACE_MAX).as_millis()).expect("an hour is few");
            call.arg(lasts_ms).arg(seen(member)).arg(if grace.is_known { "k" } else { "" })
        })
    }

    /// Answers the [`Entries`] that were there, and writes them down under `ticket`.
    pub(super) fn take(&self, clients: &[Vec<u8>], owner: NodeEpoch, ticket: Option<&Ticket>) -> Call {
        let call = self.change_with(&TAKE, owner, ticket.map(|ticket| ticket.receipts.as_str()));
        let call = call.arg(owner.as_bytes().as_slice()).arg("o");
        clients.iter().fold(call.arg(self.channel.as_str()), |call, client| call.arg(client.as_slice()))
    }

    /// Answers the [`Entries`] that were there, whoever owned them; `owner` is who asks.
    pub(super) fn remove(&self, client: ClientId, owner: NodeEpoch) -> Call {
        let call = self.change(&TAKE, owner).arg(owner.as_bytes().as_slice()).arg("");
        call.arg(self.channel.as_str()).arg(client.as_bytes().as_slice())
    }

    /// Answers a [`Page`] of the clients of `owner` that begins at `cursor`, having looked at about `count`.
    pub(super) fn owned(&self, kind: Kind, owner: NodeEpoch, cursor: u64, count: usize) -> Call {
        let key = match kind {
            Kind::Listed => &self.members,
            Kind::Hidden => &self.hidden,
        };
        Call::script(&OWNED, &[key]).arg(owner.as_bytes().as_slice()).arg(cursor).arg(count)
    }

    fn change(&self, script: &'static Script, owner: NodeEpoch) -> Call {
        self.change_with(script, owner, None)
    }

    fn change_with(&self, script: &'static Script, owner: NodeEpoch, another: Option<&str>) -> Call {
        let index = index(self.names, owner);
        let mut keys = vec![self.members.as_str(), &self.hidden, &self.users, &self.owners];
        keys.extend([self.lingering.as_str(), &index]);
        keys.extend(another);
        Call::script(script, &keys).patient()
    }
}

/// Under what it is written down who was taken out.
pub(super) struct Ticket {
    receipts: String,
}

impl Ticket {
    /// One that nobody else has.
    pub(super) fn new(names: &Names) -> Self {
        Self { receipts: names.of("taken", &ClientId::random().to_string()) }
    }

    /// Answers the [`Receipts`]; from then on nobody is taken out under it.
    pub(super) fn end(&self) -> Call {
        Call::script(&TAKEN, &[&self.receipts])
    }

    /// For when everything was answered.
    pub(super) fn forget(&self) -> Call {
        Call::command("DEL").arg(&self.receipts)
    }
}

/// The key of the index of an owner's channels.
///
/// It lives where the channels live: where those are in several places, each has an index of its own.
pub(super) fn index(names: &Names, owner: NodeEpoch) -> String {
    names.of("attended", &owner.to_string())
}

/// The key of those who linger and were an owner's, where their channels live.
pub(super) fn graces(names: &Names, owner: NodeEpoch) -> String {
    names.of("graces", &owner.to_string())
}

/// Answers a [`Due`] of at most `count`.
pub(super) fn due(graces: &str, count: usize) -> Call {
    Call::script(&DUE, &[graces]).arg(count)
}

/// The client and the channel by which one is found whose grace is over; `None` if it is not such a name.
pub(super) fn read_name(name: &[u8]) -> Option<(Vec<u8>, Channel)> {
    let (client, channel) = name.split_at_checked(16)?;
    let channel = Channel::parse(str::from_utf8(channel).ok()?, usize::MAX).ok()?;
    Some((client.to_vec(), channel))
}

/// How a member is seen, as scripts have it: only who is seen in the same way takes its place.
fn seen(member: &Member) -> &'static str {
    match (member.is_listed, member.is_announced) {
        (true, true) => "la",
        (true, false) => "l-",
        (false, true) => "ha",
        (false, false) => "h-",
    }
}

fn kept_ms(lease: Lease) -> u64 {
    let kept = lease.ttl.as_millis().saturating_mul(KEPT_LEASES);
    // A year is for ever; Redis refuses what overflows its clock.
    u64::try_from(kept).unwrap_or(u64::MAX).min(365 * 24 * 3600 * 1000)
}
