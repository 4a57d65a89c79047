//! A trie of binding keys, and which of them a routing key matches.
//!
//! Matching walks all branches at once, one word at a time, as a nondeterministic automaton does: the nodes reached so
//! far, and the `#` nodes reached so far, which stay reached as `#` takes any further word. Every node has one parent,
//! so none is reached twice in a step, and the work is at most words x nodes however many `#` there are.
//!
//! With 100,000 bindings the cost is that of memory: the nodes lie in one vector, each in less than a cache line, and
//! one table for the whole trie finds the child for a word. A wildcard at the end of a key, where most have theirs,
//! needs no node of its own: what is bound there stands in the node before.

use std::collections::HashSet;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

use super::super::destinations::Destinations;
use super::sets::{SetId, Sets};
use super::word::Word;
use crate::broker::binding::Destination;

/// Up to this many a scan is faster than a hash.
const SCANNED_MAX: usize = 8;

/// Nodes reached at once for which no memory is allocated.
const REACHED_INLINE: usize = 8;

/// A node's place in the trie.
type NodeId = u32;

const ROOT: NodeId = 0;

type Reached = SmallVec<[NodeId; REACHED_INLINE]>;

/// Binding keys with what is bound under them.
pub(super) struct Trie {
    nodes: Vec<Node>,
    /// Places of nodes that were cut off.
    free: Vec<NodeId>,
    /// The children that stand under a word, by parent and word. Secretly seeded, as clients choose the words.
    children: HashTable<NodeId>,
    seed: DefaultHashBuilder,
    sets: Sets,
}

struct Node {
    /// The word that leads here from the parent; for `*`, `#` and the root it is empty and means nothing.
    word: Word,
    parent: NodeId,
    /// Number of children under words.
    word_count: u32,
    /// The child under a word while it is the only one: most nodes have one, and it is found without the table.
    /// [`ROOT`] when that is not known.
    only_child: NodeId,
    /// The child under `*`, or [`ROOT`] for none: it has children of its own.
    star: NodeId,
    /// The child under `#`, or [`ROOT`] for none: it has children of its own.
    hash: NodeId,
    /// What is bound under the words up to here.
    bound: SetId,
    /// What is bound under these and `*`.
    bound_star: SetId,
    /// What is bound under these and `#`.
    bound_hash: SetId,
}

const _: () = assert!(
    size_of::<Node>() <= 48,
    "a node takes less than a line of the cache"
);

/// What leads from a node to a child.
#[derive(Clone, Copy)]
enum Edge<'k> {
    Star,
    Hash,
    Word(&'k [u8]),
}

impl<'k> Edge<'k> {
    const fn new(word: &'k [u8]) -> Self {
        match word {
            b"*" => Self::Star,
            b"#" => Self::Hash,
            word => Self::Word(word),
        }
    }
}

impl Default for Trie {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new(b"", ROOT)],
            free: Vec::new(),
            children: HashTable::new(),
            seed: DefaultHashBuilder::default(),
            sets: Sets::default(),
        }
    }
}

/// The words of a key. The empty key has none; `.` has two empty ones (as in RabbitMQ).
fn words(key: &str) -> impl Iterator<Item = &[u8]> {
    key.as_bytes()
        .split(|octet| *octet == b'.')
        .take(if key.is_empty() { 0 } else { usize::MAX })
}

impl Trie {
    /// One more binding leads to `destination` under `key`.
    pub(super) fn add(&mut self, key: &str, destination: &Destination) {
        let (node, last) = self.make_path(key);
        let set = *self.node_mut(node).bound(last);
        *self.node_mut(node).bound(last) = self.sets.add(set, destination);
    }

    /// One binding less leads to `destination` under `key`: the branches that lead to nothing more are cut off.
    pub(super) fn remove(&mut self, key: &str, destination: &Destination) {
        let mut path = Vec::new();
        let (mut node, mut end) = (ROOT, Edge::Word(b""));
        let mut words = words(key).peekable();
        while let Some(word) = words.next() {
            end = Edge::new(word);
            if words.peek().is_some() || matches!(end, Edge::Word(_)) {
                let Some(child) = self.child(node, end) else {
                    return;
                };
                path.push((node, end, child));
                node = child;
            }
        }
        let set = *self.node_mut(node).bound(end);
        *self.node_mut(node).bound(end) = self.sets.remove(set, destination);
        while let Some((parent, edge, child)) = path.pop()
            && self.node(child).is_empty()
        {
            self.cut(parent, edge, child);
        }
    }

    /// Whether nothing is bound, and no branch is left over.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.node(ROOT).is_empty()
            && self.nodes.len() == self.free.len() + 1
            && self.children.is_empty()
            && self.sets.is_empty()
    }

    /// Reports what is bound under each key that `routing_key` matches; the same may be reported again.
    pub(super) fn matches<'t>(
        &'t self,
        routing_key: &str,
        found: &mut dyn FnMut(&'t Destinations),
    ) {
        let mut report = |set: SetId| {
            if let Some(destinations) = self.sets.get(set) {
                found(destinations);
            }
        };
        let mut open = OpenEnds::default();
        let mut reached = Reached::new();
        let mut next = Reached::new();
        reached.push(ROOT);
        open.add(self, ROOT, &mut report);
        let mut words = words(routing_key).peekable();
        while let Some(word) = words.next() {
            let is_last = words.peek().is_none();
            let mut hash = None;
            // What opens with this word does not take this word.
            let open_before = open.nodes.len();
            next.clear();
            for node in reached.iter().chain(&open.nodes[..open_before]) {
                let star = self.node(*node).star;
                next.extend(self.child_by_word(*node, word, &mut hash));
                next.extend(some(star));
                if is_last {
                    report(self.node(*node).bound_star);
                }
            }
            next.iter()
                .for_each(|node| open.add(self, *node, &mut report));
            std::mem::swap(&mut reached, &mut next);
            if reached.is_empty() && open.nodes.is_empty() {
                return;
            }
        }
        reached
            .iter()
            .for_each(|node| report(self.node(*node).bound));
    }

    /// The node that knows what is bound under `key`, and with which end.
    fn make_path<'k>(&mut self, key: &'k str) -> (NodeId, Edge<'k>) {
        let (mut node, mut end) = (ROOT, Edge::Word(b""));
        let mut words = words(key).peekable();
        while let Some(word) = words.next() {
            end = Edge::new(word);
            if words.peek().is_some() || matches!(end, Edge::Word(_)) {
                node = self
                    .child(node, end)
                    .unwrap_or_else(|| self.add_child(node, end));
            }
        }
        (node, end)
    }

    fn child(&self, parent: NodeId, edge: Edge<'_>) -> Option<NodeId> {
        match edge {
            Edge::Star => some(self.node(parent).star),
            Edge::Hash => some(self.node(parent).hash),
            Edge::Word(word) => self.child_by_word(parent, word, &mut None),
        }
    }

    /// `hash` is that of the word, once it was needed.
    fn child_by_word(&self, parent: NodeId, word: &[u8], hash: &mut Option<u64>) -> Option<NodeId> {
        let node = self.node(parent);
        if node.word_count == 0 {
            return None;
        }
        if node.word_count == 1 && node.only_child != ROOT {
            let is_it = self.node(node.only_child).word.as_bytes() == word;
            return is_it.then_some(node.only_child);
        }
        let hash = *hash.get_or_insert_with(|| self.seed.hash_one(word));
        let is_child = |child: &NodeId| {
            let child = self.node(*child);
            child.parent == parent && child.word.as_bytes() == word
        };
        self.children.find(under(parent, hash), is_child).copied()
    }

    fn add_child(&mut self, parent: NodeId, edge: Edge<'_>) -> NodeId {
        let word = if let Edge::Word(word) = edge {
            word
        } else {
            b""
        };
        let node = Node::new(word, parent);
        let child = match self.free.pop() {
            Some(place) => {
                *self.node_mut(place) = node;
                place
            }
            None => {
                self.nodes.push(node);
                NodeId::try_from(self.nodes.len() - 1).expect("4 billion nodes take 192 GiB")
            }
        };
        match edge {
            Edge::Star => self.node_mut(parent).star = child,
            Edge::Hash => self.node_mut(parent).hash = child,
            Edge::Word(word) => {
                let parent_node = self.node_mut(parent);
                parent_node.word_count += 1;
                parent_node.only_child = if parent_node.word_count == 1 {
                    child
                } else {
                    ROOT
                };
                let (nodes, seed) = (&self.nodes, &self.seed);
                self.children
                    .insert_unique(under(parent, seed.hash_one(word)), child, |child| {
                        nodes[*child as usize].position(seed)
                    });
            }
        }
        child
    }

    /// Takes a child out that leads to nothing.
    fn cut(&mut self, parent: NodeId, edge: Edge<'_>, child: NodeId) {
        match edge {
            Edge::Star => self.node_mut(parent).star = ROOT,
            Edge::Hash => self.node_mut(parent).hash = ROOT,
            Edge::Word(word) => {
                let position = under(parent, self.seed.hash_one(word));
                let parent_node = self.node_mut(parent);
                parent_node.word_count -= 1;
                parent_node.only_child = ROOT;
                if let Ok(entry) = self.children.find_entry(position, |found| *found == child) {
                    entry.remove();
                }
            }
        }
        self.free.push(child);
    }

    fn node(&self, id: NodeId) -> &Node {
        // Ids are places that were given out and are not free.
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }
}

impl Node {
    fn new(word: &[u8], parent: NodeId) -> Self {
        Self {
            word: Word::new(word),
            parent,
            word_count: 0,
            only_child: ROOT,
            star: ROOT,
            hash: ROOT,
            bound: SetId::EMPTY,
            bound_star: SetId::EMPTY,
            bound_hash: SetId::EMPTY,
        }
    }

    /// What is bound under a key that ends so: with the node's own word, or with a wildcard after it.
    const fn bound(&mut self, end: Edge<'_>) -> &mut SetId {
        match end {
            Edge::Star => &mut self.bound_star,
            Edge::Hash => &mut self.bound_hash,
            Edge::Word(_) => &mut self.bound,
        }
    }

    fn is_empty(&self) -> bool {
        let bound = [self.bound, self.bound_star, self.bound_hash];
        self.word_count == 0
            && self.star == ROOT
            && self.hash == ROOT
            && bound.iter().all(|set| set.is_empty())
    }

    /// Where it stands in the table of children.
    fn position(&self, seed: &DefaultHashBuilder) -> u64 {
        under(self.parent, seed.hash_one(self.word.as_bytes()))
    }
}

/// The root is nobody's child.
fn some(child: NodeId) -> Option<NodeId> {
    (child != ROOT).then_some(child)
}

/// The hash of a word under a parent.
const fn under(parent: NodeId, word_hash: u64) -> u64 {
    // The finalizer of MurmurHash3: the table looks at the highest and the lowest bits.
    let mut mixed = word_hash ^ (parent as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 33;
    mixed = mixed.wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

/// The `#` nodes that were reached: they remain so whatever words follow.
#[derive(Default)]
struct OpenEnds {
    nodes: Reached,
    /// The same, once they are many.
    index: HashSet<NodeId>,
}

impl OpenEnds {
    /// `node` is reached, and with it what is bound under it and `#`, which stands for no words too.
    fn add(&mut self, trie: &Trie, mut node: NodeId, report: &mut impl FnMut(SetId)) {
        loop {
            let Node {
                hash, bound_hash, ..
            } = trie.node(node);
            report(*bound_hash);
            if *hash == ROOT || self.contains(*hash) {
                return;
            }
            node = *hash;
            self.nodes.push(node);
            match self.nodes.len() {
                ..=SCANNED_MAX => {}
                length if length == SCANNED_MAX + 1 => {
                    self.index = self.nodes.iter().copied().collect()
                }
                _ => _ = self.index.insert(node),
            }
        }
    }

    fn contains(&self, node: NodeId) -> bool {
        if self.nodes.len() <= SCANNED_MAX {
            return self.nodes.contains(&node);
        }
        self.index.contains(&node)
    }
}
