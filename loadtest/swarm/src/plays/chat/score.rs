//! Who joins, leaves and speaks, and when: fixed before by a seed, so that a run can be had again.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::load::Voice;

/// So long a client is in a room before it speaks or leaves.
const SETTLE: Duration = Duration::from_secs(1);
/// So many clients are in no room once the first have left: who comes back is not who has just left, and goes elsewhere.
const AWAY: usize = 2;
/// How often to look for somebody who has been in a room for long enough.
const TRIES: u32 = 16;

/// What is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// How many rooms; client `i` begins in the room `i`, in turn.
    pub rooms: u32,
    /// How many clients each has at first.
    pub members: u32,
    /// How many clients join or leave in a second, in all rooms together. 0: they stay.
    pub churn: f64,
    /// How often somebody speaks in a second, in all rooms together.
    pub talk: f64,
    /// How long.
    pub time: Duration,
    /// Another one plays otherwise.
    pub seed: u64,
}

/// Something that a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cue {
    /// When, since the start.
    pub at: Duration,
    /// Who.
    pub client: u32,
    /// What, and in which room.
    pub act: Act,
    /// Where.
    pub room: u32,
}

/// What a client does in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Comes in.
    Join,
    /// Goes.
    Leave,
    /// Says something, as the number of a stamp.
    Say(u64),
}

/// All cues of a plan, in the order of time. The same plan has the same.
#[derive(Debug)]
pub struct Score {
    plan: Plan,
    random: StdRng,
    rooms: Vec<Vec<Member>>,
    away: VecDeque<u32>,
    /// Rooms that somebody has left and nobody taken yet.
    free: Vec<u32>,
    spoken: HashMap<(u32, u32), u32>,
    churned: u64,
    talked: u64,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    client: u32,
    /// `None`: from the start on.
    since: Option<Duration>,
}

impl Plan {
    /// How many clients there are.
    pub fn clients(&self) -> u32 {
        self.rooms * self.members
    }

    /// Everything that is done.
    pub fn score(self) -> Score {
        let members = |room: u32| {
            let clients = (0..self.members).map(move |turn| room + turn * self.rooms);
            clients.map(|client| Member { client, since: None }).collect()
        };
        Score {
            plan: self,
            random: StdRng::seed_from_u64(self.seed),
            rooms: (0..self.rooms).map(members).collect(),
            away: VecDeque::new(),
            free: Vec::new(),
            spoken: HashMap::new(),
            churned: 0,
            talked: 0,
        }
    }
}

impl Iterator for Score {
    type Item = Cue;

    fn next(&mut self) -> Option<Cue> {
        loop {
            let due = |count: u64, rate: f64| {
                let seconds = if rate > 0.0 { count as f64 / rate } else { f64::INFINITY };
                Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
            };
            // Nobody leaves in the very first moment.
            let churn = due(self.churned + 1, self.plan.churn);
            let talk = due(self.talked, self.plan.talk);
            if churn.min(talk) >= self.plan.time {
                return None;
            }
            let cue = if churn < talk {
                self.churned += 1;
                self.churn(churn)
            } else {
                self.talked += 1;
                self.talk(talk)
            };
            // Where nobody is there for long enough, nothing is done.
            if cue.is_some() {
                return cue;
            }
        }
    }
}

impl Score {
    fn churn(&mut self, at: Duration) -> Option<Cue> {
        if self.away.len() < AWAY { self.leave(at) } else { self.join(at) }
    }

    fn leave(&mut self, at: Duration) -> Option<Cue> {
        let (room, index) = self.somebody(at)?;
        let Member { client, .. } = self.rooms[room as usize].swap_remove(index);
        self.away.push_back(client);
        self.free.push(room);
        Some(Cue { at, client, act: Act::Leave, room })
    }

    fn join(&mut self, at: Duration) -> Option<Cue> {
        let client = self.away.pop_front()?;
        let room = self.free.swap_remove(self.random.random_range(0..self.free.len()));
        self.rooms[room as usize].push(Member { client, since: Some(at) });
        Some(Cue { at, client, act: Act::Join, room })
    }

    fn talk(&mut self, at: Duration) -> Option<Cue> {
        let (room, index) = self.somebody(at)?;
        let speaker = self.rooms[room as usize][index].client;
        let count = self.spoken.entry((room, speaker)).or_default();
        *count += 1;
        let number = Voice { speaker, count: *count }.number();
        Some(Cue { at, client: speaker, act: Act::Say(number), room })
    }

    /// A room, and the place in it of somebody who has been there for a while.
    fn somebody(&mut self, at: Duration) -> Option<(u32, usize)> {
        for _ in 0..TRIES {
            let room = self.random.random_range(0..self.plan.rooms);
            let members = &self.rooms[room as usize];
            if members.is_empty() {
                continue;
            }
            let index = self.random.random_range(0..members.len());
            if members[index].since.is_none_or(|since| since + SETTLE <= at) {
                return Some((room, index));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const PLAN: Plan =
        Plan { rooms: 5, members: 8, churn: 20.0, talk: 50.0, time: Duration::from_secs(20), seed: 7 };

    #[test]
    fn a_seed_is_a_score() {
        let all: Vec<Cue> = PLAN.score().collect();
        assert_eq!(all, PLAN.score().collect::<Vec<_>>());
        assert_ne!(all, Plan { seed: 8, ..PLAN }.score().collect::<Vec<_>>());
        assert!(all.is_sorted_by_key(|cue| cue.at) && all.iter().all(|cue| cue.at < PLAN.time));
        let count = |is: fn(&Act) -> bool| all.iter().filter(|cue| is(&cue.act)).count();
        let says = count(|act| matches!(act, Act::Say(_)));
        let (joins, leaves) = (count(|act| *act == Act::Join), count(|act| *act == Act::Leave));
        assert!((950..=1000).contains(&says), "{says}");
        assert!(leaves - joins <= AWAY && joins > 150, "{joins} joins, {leaves} leaves");
    }

    /// Whoever acts is where it acts, for long enough; its words in a room are numbered in a row.
    #[test]
    fn everybody_is_where_it_acts() {
        let mut place: BTreeMap<u32, (Option<u32>, Option<Duration>)> =
            (0..PLAN.clients()).map(|client| (client, (Some(client % PLAN.rooms), None))).collect();
        let mut spoken: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        let mut moved = 0;
        for Cue { at, client, act, room } in PLAN.score() {
            let (now, since) = place[&client];
            let is_settled = since.is_none_or(|since| since + SETTLE <= at);
            match act {
                Act::Join => {
                    assert_eq!(now, None);
                    moved += u32::from(room != client % PLAN.rooms);
                    place.insert(client, (Some(room), Some(at)));
                }
                Act::Leave => {
                    assert!(now == Some(room) && is_settled);
                    place.insert(client, (None, None));
                }
                Act::Say(number) => {
                    assert!(now == Some(room) && is_settled);
                    let count = spoken.entry((room, client)).or_default();
                    *count += 1;
                    assert_eq!(Voice::of(number), Voice { speaker: client, count: *count });
                }
            }
        }
        assert!(moved > 50, "clients get about: {moved}");
        let mut sizes = BTreeMap::new();
        place.values().filter_map(|(room, _)| *room).for_each(|room| *sizes.entry(room).or_insert(0) += 1);
        assert!(sizes.values().all(|size| (PLAN.members - 2..=PLAN.members).contains(size)), "{sizes:?}");
    }

    #[test]
    fn without_churn_everybody_stays() {
        let calm = Plan { churn: 0.0, ..PLAN };
        assert!(calm.score().all(|cue| matches!(cue.act, Act::Say(_))));
        assert_eq!(Plan { talk: 0.0, ..calm }.score().count(), 0);
    }
}
