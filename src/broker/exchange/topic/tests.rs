use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::trie::Trie;
use crate::broker::arguments::Arguments;
use crate::broker::binding::Destination;
use crate::broker::exchange::{Exchange, ExchangeSpec, ExchangeType};

/// A destination that is named after the key it is bound with.
fn destination(name: &str) -> Destination {
    Destination::Exchange(Arc::new(Exchange::new(ExchangeSpec {
        name: name.into(),
        kind: ExchangeType::from_name("fanout").unwrap(),
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: Arguments::default(),
        alternate: None,
        delays_id: None,
    })))
}

fn trie(keys: &[&str]) -> Trie {
    let mut trie = Trie::default();
    for key in keys {
        trie.add(key, &destination(key));
    }
    trie
}

fn matches(trie: &Trie, routing_key: &str) -> Vec<String> {
    let mut found = Vec::new();
    trie.matches(routing_key, &mut |destinations| {
        found.extend(
            destinations
                .iter()
                .map(|destination| destination.name().to_string()),
        );
    });
    found.sort_unstable();
    found.dedup();
    found
}

fn check(binding_keys: &[&str], routing_key: &str, expected: &[&str]) {
    assert_eq!(
        matches(&trie(binding_keys), routing_key),
        expected,
        "{routing_key:?} among {binding_keys:?}"
    );
}

#[test]
fn words_match_literally_by_star_and_by_hash() {
    let keys = ["*.orange.*", "*.*.rabbit", "lazy.#"];
    check(&keys, "quick.orange.rabbit", &["*.*.rabbit", "*.orange.*"]);
    check(&keys, "lazy.orange.elephant", &["*.orange.*", "lazy.#"]);
    check(&keys, "lazy", &["lazy.#"]);
    check(&keys, "lazy.pink.rabbit.male", &["lazy.#"]);
    check(&keys, "orange", &[]);
    check(&keys, "quick.brown.fox", &[]);
}

#[test]
fn hash_stands_for_any_number_of_words_anywhere() {
    check(&["#"], "", &["#"]);
    check(&["#"], "a.b.c", &["#"]);
    check(&["#.a", "a.#", "#.a.#"], "a", &["#.a", "#.a.#", "a.#"]);
    check(&["a.#.b"], "a.b", &["a.#.b"]);
    check(&["a.#.b"], "a.x.y.b", &["a.#.b"]);
    check(&["a.#.b"], "a.x.y.b.c", &[]);
    check(&["#.#"], "", &["#.#"]);
    check(&["#.*"], "", &[]);
    check(&["#.*", "*.#"], "a", &["#.*", "*.#"]);
}

#[test]
fn empty_words_are_words_and_the_empty_key_has_none() {
    check(&["", "*", "#"], "", &["", "#"]);
    check(&["*.*", "*", "a.", ".a", "."], ".", &["*.*", "."]);
    check(&["a.", "a.*", "a"], "a.", &["a.", "a.*"]);
    check(&[".", "", "*"], "a", &["*"]);
    check(&["a..b", "a.*.b", "a.b"], "a..b", &["a.*.b", "a..b"]);
}

#[test]
fn wildcards_in_a_routing_key_are_words_like_others() {
    check(&["*", "#", "a"], "*", &["#", "*"]);
    check(&["#.a", "*.a"], "#.a", &["#.a", "*.a"]);
    check(&["a"], "*", &[]);
}

#[test]
fn many_hashes_do_not_multiply_the_work() {
    // With backtracking this takes longer than anybody waits.
    let key = "#.a.".repeat(60) + "#.b";
    let routing_key = "a.".repeat(119) + "a";
    check(&[&key], &routing_key, &[]);
    check(&[&key], &(routing_key + ".b"), &[&key]);
    let hashes = ["#"; 100].join(".");
    check(&[&hashes], "a.b.c", &[&hashes]);
}

#[test]
fn a_message_passes_many_open_ends() {
    let keys: Vec<String> = (0..40).map(|stars| "*.".repeat(stars) + "#").collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = matches(&trie(&keys), &["a"; 50].join("."));
    assert_eq!(found.len(), 40);
    assert_eq!(matches(&trie(&keys), &["a"; 20].join(".")).len(), 21);
}

#[test]
fn removing_the_last_binding_removes_the_branch() {
    let keys = ["a.b.c", "a.*.#", "a.b", "", "#"];
    let mut trie = Trie::default();
    let destinations: Vec<_> = keys.iter().map(|key| destination(key)).collect();
    for (key, destination) in keys.iter().zip(&destinations) {
        trie.add(key, destination);
        trie.add(key, destination);
    }
    for (key, destination) in keys.iter().zip(&destinations) {
        trie.remove(key, destination);
        assert!(!trie.is_empty(), "bound twice, removed once");
    }
    for (key, destination) in keys.iter().zip(&destinations) {
        trie.remove(key, destination);
    }
    assert!(trie.is_empty());
}

#[test]
fn keys_share_destinations_and_one_key_can_have_many() {
    let (one, two) = (destination("one"), destination("two"));
    let mut trie = Trie::default();
    let keys = ["a.*", "b.*", "c"];
    for key in keys {
        trie.add(key, &one);
    }
    trie.add("a.*", &two);
    assert_eq!(matches(&trie, "a.x"), ["one", "two"]);
    assert_eq!(matches(&trie, "b.x"), ["one"]);
    trie.remove("b.*", &two);
    trie.remove("a.*", &one);
    assert_eq!(matches(&trie, "a.x"), ["two"]);
    assert_eq!(matches(&trie, "b.x"), ["one"]);
    for key in keys {
        trie.remove(key, &one);
    }
    trie.remove("a.*", &two);
    assert!(trie.is_empty());
}

/// What the specification says, word by word.
fn naive(pattern: &[&str], words: &[&str]) -> bool {
    match (pattern.split_first(), words.split_first()) {
        (None, None) => true,
        (Some((&"#", rest)), _) => {
            naive(rest, words) || (!words.is_empty() && naive(pattern, &words[1..]))
        }
        (Some((&"*", rest)), Some((_, words))) => naive(rest, words),
        (Some((literal, rest)), Some((word, words))) => literal == word && naive(rest, words),
        _ => false,
    }
}

fn split(key: &str) -> Vec<&str> {
    if key.is_empty() {
        Vec::new()
    } else {
        key.split('.').collect()
    }
}

fn key_of(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(words), 0..7).prop_map(|words| words.join("."))
}

proptest! {
    #[test]
    fn matches_what_a_naive_matcher_matches(
        steps in prop::collection::vec((any::<bool>(), key_of(&["a", "b", "", "*", "#"]), 0..3usize), 1..60),
        routing_keys in prop::collection::vec(key_of(&["a", "b", "c", "", "*", "#"]), 1..20),
    ) {
        let destinations = ["d0", "d1", "d2"].map(destination);
        let mut trie = Trie::default();
        let mut bound: BTreeSet<(String, usize)> = BTreeSet::new();
        for (add, key, to) in steps {
            if add {
                // The second time stands for a binding with other arguments.
                let times = if bound.insert((key.clone(), to)) { 2 } else { 0 };
                (0..times).for_each(|_| trie.add(&key, &destinations[to]));
            } else if bound.remove(&(key.clone(), to)) {
                (0..2).for_each(|_| trie.remove(&key, &destinations[to]));
            }
        }
        for routing_key in &routing_keys {
            let words = split(routing_key);
            let taken = bound.iter().filter(|(key, _)| naive(&split(key), &words));
            let expected: BTreeSet<String> = taken.map(|(_, to)| format!("d{to}")).collect();
            let expected: Vec<String> = expected.into_iter().collect();
            prop_assert_eq!(matches(&trie, routing_key), expected, "{:?}", routing_key);
        }
        prop_assert_eq!(trie.is_empty(), bound.is_empty());
    }
}
