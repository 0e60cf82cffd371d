//! A JSON object whose members stay text.

use std::fmt;

use indexmap::IndexMap;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};

use crate::{Raw, Result};

/// A JSON object with its members in order and their values as text: what a forwarder changes
/// shallowly. Members that are not touched come out as they went in.
///
/// Of a member that is there twice the last value counts, in the place of the first.
///
/// ```
/// use mcpool_core::{Raw, RawObject};
///
/// let raw = Raw::from_text(r#"{"name":"a","big":1e400}"#.to_owned())?;
/// let mut object = RawObject::parse(&raw)?;
/// object.insert("name", Raw::of("b")?);
/// assert_eq!(object.to_raw()?.get(), r#"{"name":"b","big":1e400}"#);
/// # Ok::<(), mcpool_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawObject(IndexMap<String, Raw>);

impl RawObject {
    /// An object without members.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads an object.
    ///
    /// # Errors
    /// [`Protocol`](crate::ErrorKind::Protocol) when it is none.
    pub fn parse(raw: &Raw) -> Result<Self> {
        raw.parse()
    }

    /// The value of a member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Raw> {
        self.0.get(name)
    }

    /// Sets a member: in its place where it is there, else at the end.
    pub fn insert(&mut self, name: impl Into<String>, value: Raw) {
        self.0.insert(name.into(), value);
    }

    /// Takes a member out.
    pub fn remove(&mut self, name: &str) -> Option<Raw> {
        self.0.shift_remove(name)
    }

    /// Keeps the members whose name passes.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.0.retain(|name, _| keep(name));
    }

    /// The members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Raw)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether it has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object as text.
    ///
    /// # Errors
    /// None in practice: names and values are JSON already.
    pub fn to_raw(&self) -> Result<Raw> {
        Raw::of(self)
    }
}

impl Serialize for RawObject {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = RawObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
                let mut object = RawObject::new();
                while let Some((name, value)) = map.next_entry::<String, Raw>()? {
                    object.insert(name, value);
                }
                Ok(object)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untouched_members_come_out_as_they_went_in() {
        let text = r#"{"b":1.50,"a":"\u00fc\ud800","c":{"x" : 12345678901234567890}}"#;
        let mut object = RawObject::parse(&Raw::from_text(text.to_owned()).unwrap()).unwrap();
        assert_eq!(object.to_raw().unwrap().get(), text);
        object.remove("b");
        object.insert("d", Raw::null());
        assert_eq!(
            object.to_raw().unwrap().get(),
            r#"{"a":"\u00fc\ud800","c":{"x" : 12345678901234567890},"d":null}"#
        );
    }

    #[test]
    fn what_is_odd_costs_no_more_than_its_length() {
        let members: Vec<String> = (0..200_000).map(|n| format!("\"{n}\":0")).collect();
        let text = format!("{{{}}}", members.join(","));
        let object = RawObject::parse(&Raw::from_text(text.clone()).unwrap()).unwrap();
        assert_eq!(object.iter().count(), 200_000);
        assert_eq!(object.to_raw().unwrap().get(), text);
    }

    #[test]
    fn the_last_of_two_equal_members_counts() {
        let raw = Raw::from_text(r#"{"a":1,"b":2,"a":3}"#.to_owned()).unwrap();
        let object = RawObject::parse(&raw).unwrap();
        assert_eq!(object.to_raw().unwrap().get(), r#"{"a":3,"b":2}"#);
    }
}
