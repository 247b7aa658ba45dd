use std::collections::HashMap;
use std::time::SystemTime;

use parking_lot::RwLock;

use crate::model::{Revocation, TokenMark, UserId, Whose};

/// The tokens that were revoked and have not expired since, as far as this node knows.
///
/// Any thread looks, at every token that is presented; nothing here waits for anybody.
#[derive(Debug, Default)]
pub struct Revocations(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By fingerprint, until when.
    tokens: HashMap<u64, Ended>,
    users: HashMap<UserId, Vec<Bound>>,
    everybody: Vec<Bound>,
}

/// One token.
#[derive(Clone, Debug)]
struct Ended {
    /// Its `jti`, for other nodes to hear.
    id: String,
    forget_at: SystemTime,
}

/// Tokens that were issued before some time.
#[derive(Clone, Copy, Debug)]
struct Bound {
    /// `None`: whenever they are issued.
    issued_before: Option<SystemTime>,
    forget_at: SystemTime,
}

impl Bound {
    fn includes(&self, mark: TokenMark, now: SystemTime) -> bool {
        self.forget_at > now && self.issued_before.is_none_or(|time| mark.is_before(time))
    }

    /// Whether there is no need of `other` beside this.
    fn makes_needless(&self, other: &Self) -> bool {
        let reaches = match (self.issued_before, other.issued_before) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(its)) => mine >= its,
        };
        reaches && self.forget_at >= other.forget_at
    }
}

impl Revocations {
    /// Remembers `revocation` until its time; `false` if that says nothing new.
    pub fn add(&self, revocation: &Revocation) -> bool {
        let forget_at = revocation.forget_at;
        let mut known = self.0.write();
        match &revocation.whose {
            whose @ Whose::Token(id) => {
                let fingerprint = whose.token().expect("it names one");
                let is_new = known.tokens.get(&fingerprint).is_none_or(|ended| ended.forget_at < forget_at);
                if is_new {
                    known.tokens.insert(fingerprint, Ended { id: id.clone(), forget_at });
                }
                is_new
            }
            Whose::User { user, issued_before } => {
                let bounds = known.users.entry(user.clone()).or_default();
                insert(bounds, Bound { issued_before: *issued_before, forget_at })
            }
            Whose::Everybody { issued_before } => {
                insert(&mut known.everybody, Bound { issued_before: Some(*issued_before), forget_at })
            }
        }
    }

    /// Whether what authenticated `user`, with this mark, was revoked.
    pub fn include(&self, user: &UserId, mark: TokenMark) -> bool {
        let known = self.0.read();
        if known.is_empty() {
            return false;
        }
        let now = SystemTime::now();
        let is_included = |bounds: &[Bound]| bounds.iter().any(|bound| bound.includes(mark, now));
        mark.id().and_then(|id| known.tokens.get(&id)).is_some_and(|ended| ended.forget_at > now)
            || known.users.get(user).is_some_and(|bounds| is_included(bounds))
            || is_included(&known.everybody)
    }

    /// All that are remembered.
    pub fn all(&self) -> Vec<Revocation> {
        let known = self.0.read();
        let tokens = known.tokens.values();
        let tokens = tokens.map(|Ended { id, forget_at }| (Whose::Token(id.clone()), *forget_at));
        let users =
            known.users.iter().flat_map(|(user, bounds)| bounds.iter().map(move |bound| (user, bound)));
        let users = users.map(|(user, Bound { issued_before, forget_at })| {
            (Whose::User { user: user.clone(), issued_before: *issued_before }, *forget_at)
        });
        let everybody = known.everybody.iter().filter_map(|Bound { issued_before, forget_at }| {
            Some((Whose::Everybody { issued_before: (*issued_before)? }, *forget_at))
        });
        let all = tokens.chain(users).chain(everybody);
        all.map(|(whose, forget_at)| Revocation { whose, forget_at }).collect()
    }

    /// Gives back the memory of those whose time has come.
    pub fn forget_expired(&self, now: SystemTime) {
        let mut known = self.0.write();
        known.tokens.retain(|_, ended| ended.forget_at > now);
        known.users.retain(|_, bounds| {
            bounds.retain(|bound| bound.forget_at > now);
            !bounds.is_empty()
        });
        known.everybody.retain(|bound| bound.forget_at > now);
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        let known = self.0.read();
        known.tokens.len() + known.users.values().map(Vec::len).sum::<usize>() + known.everybody.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }
}

impl Known {
    fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.users.is_empty() && self.everybody.is_empty()
    }
}

/// Adds `bound`, unless it says nothing new (`false`); takes out what it makes needless.
fn insert(bounds: &mut Vec<Bound>, bound: Bound) -> bool {
    let is_new = !bounds.iter().any(|known| known.makes_needless(&bound));
    if is_new {
        bounds.retain(|known| !bound.makes_needless(known));
        bounds.push(bound);
    }
    is_new
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_secs(60)
    }

    fn of_user(issued_before: Option<SystemTime>, forget_at: SystemTime) -> Revocation {
        Revocation { whose: Whose::User { user: user("ann"), issued_before }, forget_at }
    }

    #[test]
    fn what_was_revoked_is_known_until_its_time() {
        let revocations = Revocations::default();
        let mark = TokenMark::new(Some("t"), Some(at(1_000)));
        assert!(!revocations.include(&user("ann"), mark));
        let token = Whose::Token("t".into());
        revocations.add(&Revocation { whose: token.clone(), forget_at: at(2_000) });
        assert!(!revocations.include(&user("ann"), mark), "its time has come");
        assert!(revocations.add(&Revocation { whose: token.clone(), forget_at: later() }));
        assert!(!revocations.add(&Revocation { whose: token, forget_at: at(2_000) }));
        assert!(revocations.include(&user("ann"), mark), "the later time counts");
        assert!(!revocations.include(&user("ann"), TokenMark::new(Some("u"), Some(at(1_000)))));
        revocations.forget_expired(later() + Duration::from_secs(1));
        assert!(revocations.is_empty());
    }

    #[test]
    fn one_user_or_everybody_can_be_meant() {
        let revocations = Revocations::default();
        let mark = |seconds| TokenMark::new(None, Some(at(seconds)));
        revocations.add(&of_user(Some(at(1_000)), later()));
        assert!(
            revocations.include(&user("ann"), mark(999)) && !revocations.include(&user("ann"), mark(1_000))
        );
        assert!(!revocations.include(&user("bob"), mark(999)));
        revocations.add(&of_user(None, later()));
        assert!(revocations.include(&user("ann"), mark(5_000)));
        let everybody = Whose::Everybody { issued_before: at(500) };
        revocations.add(&Revocation { whose: everybody, forget_at: later() });
        assert!(
            revocations.include(&user("bob"), mark(499)) && !revocations.include(&user("bob"), mark(500))
        );
    }

    #[test]
    fn what_another_makes_needless_takes_no_memory() {
        let revocations = Revocations::default();
        let end = later();
        for seconds in 0..1_000 {
            revocations.add(&of_user(Some(at(seconds)), end));
        }
        assert_eq!(revocations.len(), 1);
        assert!(!revocations.add(&of_user(Some(at(999)), end)), "it is known");
        assert!(revocations.add(&of_user(Some(at(5)), end + Duration::from_secs(1))));
        assert_eq!(revocations.len(), 2, "an older bound that lasts longer is needed");
        revocations.add(&of_user(None, end + Duration::from_secs(2)));
        assert_eq!(revocations.len(), 1);
    }
}
