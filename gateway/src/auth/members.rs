use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of a JSON object, none twice (RFC 7515 §4, RFC 7519 §4).
///
/// With two members of one name, two readers could see two different tokens.
#[derive(Default)]
pub(super) struct Members<'a>(BTreeMap<String, &'a RawValue>);

/// A member has a value of the wrong type.
#[derive(Debug)]
pub(super) struct WrongType;

impl<'a> Members<'a> {
    /// Reads the object in `text`; `None` if it is not one, or has a member twice.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of all, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// The member as it stands.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied()
    }

    /// The member as a `T`, `None` if there is none.
    pub(super) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, WrongType> {
        let value = self.raw(name).map(|value| serde_json::from_str(value.get()));
        value.transpose().map_err(|_| WrongType)
    }

    /// The members of the object that the member is, `None` if there is none, or null.
    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, WrongType> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        serde_json::from_str(value.get()).map_err(|_| WrongType)
    }

    /// The members of each object in the list that the member is; none if there is no list, or null.
    pub(super) fn objects(&self, name: &str) -> Result<Vec<Self>, WrongType> {
        let Some(value) = self.raw(name) else { return Ok(Vec::new()) };
        let list: Option<Vec<Self>> = serde_json::from_str(value.get()).map_err(|_| WrongType)?;
        Ok(list.unwrap_or_default())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            if members.insert(name, value).is_some() {
                return Err(de::Error::custom("a member is there twice"));
            }
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_there_once() {
        let members = Members::parse(br#"{"a": 1, "b": "x"}"#).unwrap();
        assert_eq!(members.read::<u64>("a").unwrap(), Some(1));
        assert_eq!(members.read::<String>("c").unwrap(), None);
        assert!(members.read::<u64>("b").is_err());
        for bad in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, "[]", "1", "{", "{}{}"] {
            assert!(Members::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
