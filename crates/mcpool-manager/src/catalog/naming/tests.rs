#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;

fn is_good(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_LEN && name.chars().all(is_allowed)
}

#[test]
fn plain_names_stay_plain() {
    for (server, tool, want) in [
        ("files", "read_file", "files__read_file"),
        ("a", "_b", "a___b"),
        ("a", "b__c", "a__b__c"),
        ("my-server", "tool-1", "my-server__tool-1"),
    ] {
        assert_eq!(qualify(server, tool), want);
    }
}

#[test]
fn ambiguous_names_are_distinguished() {
    let pairs = [
        ("a", "b__c"),
        ("a__b", "c"),
        ("a_", "_b"),
        ("a", "__b"),
        ("a_", "b"),
        ("a", "_b"),
        ("a b", "c"),
        ("a.b", "c"),
        ("a_b", "c"),
        ("ä", "x"),
        ("ö", "x"),
        ("日本", "検索"),
        ("日本", "検素"),
    ];
    let names: HashSet<String> = pairs.iter().map(|(s, t)| qualify(s, t)).collect();
    assert_eq!(names.len(), pairs.len(), "{names:?}");
}

#[test]
fn long_names_that_share_a_beginning_differ() {
    let long = "x".repeat(100);
    let (a, b) = (format!("{long}a"), format!("{long}b"));
    let (a, b) = (qualify("s", &a), qualify("s", &b));
    assert_eq!((a.len(), b.len()), (MAX_LEN, MAX_LEN));
    assert_ne!(a, b);
}

#[test]
fn a_tool_that_is_called_like_anothers_hashed_name_harms_nobody() {
    let stolen = qualify("s", "a b");
    let tool = stolen.strip_prefix("s__").unwrap();
    let pairs = [("s", "a b"), ("s", tool), ("s", "other")];
    let names = qualify_all(&pairs);
    assert_ne!(names[0], names[1]);
    assert!(names.iter().all(|name| is_good(name)), "{names:?}");
    assert_eq!(names[2], "s__other");
    let reversed: Vec<_> = pairs.iter().rev().copied().collect();
    let mut again = qualify_all(&reversed);
    again.reverse();
    assert_eq!(names, again);
}

/// Names that are likely to be mangled, to be too long, and to collide.
fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab_]{1,4}",
        "[a-c_. ]{1,8}",
        "[ab]{30,80}",
        "\\PC{1,40}",
        "a__[0-9a-f]{8}",
    ]
}

proptest! {
    #[test]
    fn names_are_good_unique_and_independent_of_the_order(
        pairs in prop::collection::hash_set((any_name(), any_name()), 1..40),
        seed in any::<u64>(),
    ) {
        let mut pairs: Vec<(String, String)> = pairs.into_iter().collect();
        let named = |pairs: &[(String, String)]| -> BTreeMap<(String, String), String> {
            let raw: Vec<(&str, &str)> = pairs.iter().map(|(s, t)| (s.as_str(), t.as_str())).collect();
            pairs.iter().cloned().zip(qualify_all(&raw)).collect()
        };
        let names = named(&pairs);
        let unique: HashSet<&String> = names.values().collect();
        prop_assert_eq!(unique.len(), pairs.len());
        for name in names.values() {
            prop_assert!(is_good(name), "{}", name);
        }
        // Some other order, drawn from the seed.
        pairs.sort_by_key(|(s, t)| hashed(s, t, &seed.to_string(), 32));
        prop_assert_eq!(named(&pairs), names);
    }

    /// A name depends on its own pair alone: what else is there does not change it.
    #[test]
    fn other_servers_do_not_change_a_name(
        pairs in prop::collection::vec(("[a-z. ]{1,12}", "[a-z_. ]{1,70}"), 1..20),
    ) {
        let raw: Vec<(&str, &str)> = pairs.iter().map(|(s, t)| (s.as_str(), t.as_str())).collect();
        for (pair, name) in raw.iter().zip(qualify_all(&raw)) {
            prop_assert_eq!(name, qualify(pair.0, pair.1));
        }
    }
}
