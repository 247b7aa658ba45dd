use crate::config::{ApiKey, Scope};

/// The keys of the server API.
#[derive(Clone, Debug)]
pub struct ApiKeys(Vec<ApiKey>);

impl ApiKeys {
    /// Takes keys that have been validated. Empty: nobody is let in.
    pub fn new(keys: &[ApiKey]) -> Self {
        Self(keys.to_vec())
    }

    /// The key that `candidate` is, `None` if it is none of them.
    ///
    /// Looks at every key in full, so that the time says neither where a guess went wrong nor which
    /// key it was near to.
    pub fn authenticate(&self, candidate: &str) -> Option<&ApiKey> {
        let mut found = None;
        for key in &self.0 {
            // An empty key is refused by the configuration; it must not let anyone in even so.
            if key.key.matches(candidate) && !candidate.is_empty() {
                found = Some(key);
            }
        }
        found
    }
}

impl ApiKey {
    /// Whether the key may be used for `scope`.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;

    fn keys() -> ApiKeys {
        let key = |name: &str, scopes: &[Scope]| ApiKey {
            name: name.into(),
            key: Secret::new(format!("key-of-{name}")),
            scopes: scopes.into(),
            ..ApiKey::default()
        };
        ApiKeys::new(&[key("all", &Scope::ALL), key("shop", &[Scope::Publish]), ApiKey::default()])
    }

    #[test]
    fn a_key_is_known_by_all_of_it() {
        let keys = keys();
        assert_eq!(keys.authenticate("key-of-all").unwrap().name, "all");
        assert_eq!(keys.authenticate("key-of-shop").unwrap().name, "shop");
        for bad in ["", "key-of-", "key-of-al", "key-of-alll", "Key-of-all", " key-of-all"] {
            assert!(keys.authenticate(bad).is_none(), "{bad:?}");
        }
        assert!(ApiKeys::new(&[]).authenticate("").is_none());
    }

    #[test]
    fn a_key_may_do_what_its_scopes_say() {
        let keys = keys();
        assert!(Scope::ALL.iter().all(|scope| keys.authenticate("key-of-all").unwrap().allows(*scope)));
        let shop = keys.authenticate("key-of-shop").unwrap();
        assert!(shop.allows(Scope::Publish));
        assert!(!shop.allows(Scope::Control));
    }
}
