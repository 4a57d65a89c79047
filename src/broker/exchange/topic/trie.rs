//! A trie of binding keys, and which of them a routing key matches.
//!
//! Matching walks all branches at once, one word at a time, as a nondeterministic automaton does: the nodes reached so
//! far, and the `#` nodes reached so far, which stay reached as `#` takes any further word. Every node has one parent,
//! so none is reached twice in a step, and the work is at most words x nodes however many `#` there are.

use std::collections::{HashMap, HashSet};

use super::super::destinations::Destinations;

/// Up to this many a scan is faster than a hash.
const SCANNED_MAX: usize = 8;

/// Binding keys with what is bound under them.
#[derive(Default)]
pub(super) struct Trie {
    root: Node,
}

#[derive(Default)]
struct Node {
    words: Words,
    /// Under `*`.
    star: Option<Box<Node>>,
    /// Under `#`.
    hash: Option<Box<Node>>,
    destinations: Destinations,
}

/// The words of a key. The empty key has none; `.` has two empty ones (as in RabbitMQ).
fn words(key: &str) -> impl Iterator<Item = &str> {
    key.split('.').take(if key.is_empty() { 0 } else { usize::MAX })
}

impl Trie {
    /// What is bound under `key`, to add to it.
    pub(super) fn entry(&mut self, key: &str) -> &mut Destinations {
        let leaf = words(key).fold(&mut self.root, |node, word| match word {
            "*" => node.star.get_or_insert_default(),
            "#" => node.hash.get_or_insert_default(),
            word => node.words.entry(word),
        });
        &mut leaf.destinations
    }

    /// Changes what is bound under `key` and cuts the branches off that lead to nothing more.
    pub(super) fn remove(&mut self, key: &str, change: impl FnOnce(&mut Destinations)) {
        remove(&mut self.root, &mut words(key), change);
    }

    /// Whether nothing is bound, and no branch is left over.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// Reports what is bound under each key that `routing_key` matches.
    pub(super) fn matches<'t>(&'t self, routing_key: &str, found: &mut dyn FnMut(&'t Destinations)) {
        let mut open = OpenEnds::default();
        let mut reached = vec![&self.root];
        let mut next = Vec::new();
        open.add(&self.root);
        for word in words(routing_key) {
            // What opens with this word does not take this word.
            let open_before = open.nodes.len();
            for node in reached.drain(..).chain(open.nodes[..open_before].iter().copied()) {
                next.extend(node.words.get(word));
                next.extend(node.star.as_deref());
            }
            next.iter().for_each(|node| open.add(node));
            std::mem::swap(&mut reached, &mut next);
            if reached.is_empty() && open.nodes.is_empty() {
                return;
            }
        }
        let matched = reached.iter().chain(&open.nodes).map(|node| &node.destinations);
        matched.filter(|destinations| !destinations.is_empty()).for_each(found);
    }
}

/// Answers whether the node is of no more use.
fn remove<'k>(
    node: &mut Node,
    words: &mut dyn Iterator<Item = &'k str>,
    change: impl FnOnce(&mut Destinations),
) -> bool {
    match words.next() {
        None => change(&mut node.destinations),
        Some(word @ ("*" | "#")) => {
            let child = if word == "*" { &mut node.star } else { &mut node.hash };
            if child.as_deref_mut().is_some_and(|child| remove(child, words, change)) {
                *child = None;
            }
        }
        Some(word) => {
            if node.words.get_mut(word).is_some_and(|child| remove(child, words, change)) {
                node.words.remove(word);
            }
        }
    }
    node.is_empty()
}

impl Node {
    fn is_empty(&self) -> bool {
        self.star.is_none() && self.hash.is_none() && self.words.is_empty() && self.destinations.is_empty()
    }
}

/// The `#` nodes that were reached: they remain so whatever words follow.
#[derive(Default)]
struct OpenEnds<'t> {
    nodes: Vec<&'t Node>,
    /// The same by address, once they are many.
    index: HashSet<usize>,
}

impl<'t> OpenEnds<'t> {
    /// `node` is reached; `#` stands for no words too.
    fn add(&mut self, mut node: &'t Node) {
        while let Some(hash) = node.hash.as_deref() {
            if self.contains(hash) {
                return;
            }
            self.nodes.push(hash);
            match self.nodes.len() {
                ..=SCANNED_MAX => {}
                length if length == SCANNED_MAX + 1 => self.index = self.nodes.iter().copied().map(address).collect(),
                _ => _ = self.index.insert(address(hash)),
            }
            node = hash;
        }
    }

    fn contains(&self, node: &Node) -> bool {
        if self.nodes.len() <= SCANNED_MAX {
            return self.nodes.iter().any(|open| std::ptr::eq(*open, node));
        }
        self.index.contains(&address(node))
    }
}

fn address(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}

/// The children of a node by word.
enum Words {
    Few(Vec<(Box<str>, Node)>),
    Many(HashMap<Box<str>, Node>),
}

impl Default for Words {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Words {
    fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }

    fn get(&self, word: &str) -> Option<&Node> {
        match self {
            Self::Few(few) => few.iter().find(|(own, _)| **own == *word).map(|(_, node)| node),
            Self::Many(many) => many.get(word),
        }
    }

    fn get_mut(&mut self, word: &str) -> Option<&mut Node> {
        match self {
            Self::Few(few) => few.iter_mut().find(|(own, _)| **own == *word).map(|(_, node)| node),
            Self::Many(many) => many.get_mut(word),
        }
    }

    fn entry(&mut self, word: &str) -> &mut Node {
        if let Self::Few(few) = self
            && few.len() == SCANNED_MAX
            && few.iter().all(|(own, _)| **own != *word)
        {
            *self = Self::Many(std::mem::take(few).into_iter().collect());
        }
        match self {
            Self::Few(few) => {
                let at = few.iter().position(|(own, _)| **own == *word).unwrap_or_else(|| {
                    // Most nodes have one child.
                    few.reserve_exact(1);
                    few.push((word.into(), Node::default()));
                    few.len() - 1
                });
                &mut few[at].1
            }
            Self::Many(many) => many.entry(word.into()).or_default(),
        }
    }

    /// A node that once had many children is not made small again: it is likely to grow again.
    fn remove(&mut self, word: &str) {
        match self {
            Self::Few(few) => few.retain(|(own, _)| **own != *word),
            Self::Many(many) => _ = many.remove(word),
        }
    }
}
