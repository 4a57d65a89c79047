//! A trie of binding keys, and which of them a routing key matches.
//!
//! Matching walks all branches at once, one word at a time, as a nondeterministic automaton does: the nodes reached so
//! far, and the `#` nodes reached so far, which stay reached as `#` takes any further word. Every node has one parent,
//! so none is reached twice in a step, and the work is at most words x nodes however many `#` there are.
//!
//! With 100,000 bindings the cost is that of memory: the nodes lie in one vector, a cache line each, and one table for
//! the whole trie finds the child for a word.

use std::collections::HashSet;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

use super::super::destinations::Destinations;
use super::word::Word;

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
    /// The child under `*`, or [`ROOT`] for none.
    star: NodeId,
    /// The child under `#`, or [`ROOT`] for none.
    hash: NodeId,
    destinations: Destinations,
}

const _: () = assert!(size_of::<Node>() <= 64, "a node fits into a cache line");

/// What leads from a node to a child.
#[derive(Clone, Copy)]
enum Edge<'k> {
    Star,
    Hash,
    /// A word and its hash.
    Word(&'k str, u64),
}

impl Default for Trie {
    fn default() -> Self {
        let nodes = vec![Node::new("", ROOT)];
        Self {
            nodes,
            free: Vec::new(),
            children: HashTable::new(),
            seed: DefaultHashBuilder::default(),
        }
    }
}

/// The words of a key. The empty key has none; `.` has two empty ones (as in RabbitMQ).
fn words(key: &str) -> impl Iterator<Item = &str> {
    key.split('.')
        .take(if key.is_empty() { 0 } else { usize::MAX })
}

impl Trie {
    /// What is bound under `key`, to add to it.
    pub(super) fn entry(&mut self, key: &str) -> &mut Destinations {
        let leaf = words(key).fold(ROOT, |node, word| {
            let edge = self.edge(word);
            self.child(node, edge)
                .unwrap_or_else(|| self.add_child(node, edge))
        });
        &mut self.node_mut(leaf).destinations
    }

    /// Changes what is bound under `key` and cuts the branches off that lead to nothing more.
    pub(super) fn remove(&mut self, key: &str, change: impl FnOnce(&mut Destinations)) {
        let mut path = Vec::new();
        let mut node = ROOT;
        for word in words(key) {
            let edge = self.edge(word);
            let Some(child) = self.child(node, edge) else {
                return;
            };
            path.push((node, edge, child));
            node = child;
        }
        change(&mut self.node_mut(node).destinations);
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
    }

    /// Reports what is bound under each key that `routing_key` matches.
    pub(super) fn matches<'t>(
        &'t self,
        routing_key: &str,
        found: &mut dyn FnMut(&'t Destinations),
    ) {
        let mut open = OpenEnds::default();
        let mut reached = Reached::new();
        let mut next = Reached::new();
        reached.push(ROOT);
        open.add(self, ROOT);
        for word in words(routing_key) {
            let word = Edge::Word(word, self.seed.hash_one(word));
            // What opens with this word does not take this word.
            let open_before = open.nodes.len();
            next.clear();
            for node in reached.iter().chain(&open.nodes[..open_before]) {
                next.extend(self.child(*node, word));
                next.extend(self.child(*node, Edge::Star));
            }
            next.iter().for_each(|node| open.add(self, *node));
            std::mem::swap(&mut reached, &mut next);
            if reached.is_empty() && open.nodes.is_empty() {
                return;
            }
        }
        let matched = reached
            .iter()
            .chain(&open.nodes)
            .map(|node| &self.node(*node).destinations);
        matched
            .filter(|destinations| !destinations.is_empty())
            .for_each(found);
    }

    fn edge<'k>(&self, word: &'k str) -> Edge<'k> {
        match word {
            "*" => Edge::Star,
            "#" => Edge::Hash,
            word => Edge::Word(word, self.seed.hash_one(word)),
        }
    }

    fn child(&self, parent: NodeId, edge: Edge<'_>) -> Option<NodeId> {
        let node = self.node(parent);
        match edge {
            Edge::Star => some(node.star),
            Edge::Hash => some(node.hash),
            Edge::Word(..) if node.word_count == 0 => None,
            Edge::Word(word, _) if node.word_count == 1 && node.only_child != ROOT => {
                (self.node(node.only_child).word.as_bytes() == word.as_bytes())
                    .then_some(node.only_child)
            }
            Edge::Word(word, hash) => {
                let is_child = |child: &NodeId| {
                    let child = self.node(*child);
                    child.parent == parent && child.word.as_bytes() == word.as_bytes()
                };
                self.children.find(under(parent, hash), is_child).copied()
            }
        }
    }

    fn add_child(&mut self, parent: NodeId, edge: Edge<'_>) -> NodeId {
        let word = if let Edge::Word(word, _) = edge {
            word
        } else {
            ""
        };
        let node = Node::new(word, parent);
        let child = match self.free.pop() {
            Some(place) => {
                *self.node_mut(place) = node;
                place
            }
            None => {
                self.nodes.push(node);
                NodeId::try_from(self.nodes.len() - 1).expect("4 billion nodes take 256 GiB")
            }
        };
        match edge {
            Edge::Star => self.node_mut(parent).star = child,
            Edge::Hash => self.node_mut(parent).hash = child,
            Edge::Word(_, hash) => {
                let parent_node = self.node_mut(parent);
                parent_node.word_count += 1;
                parent_node.only_child = if parent_node.word_count == 1 {
                    child
                } else {
                    ROOT
                };
                let (nodes, seed) = (&self.nodes, &self.seed);
                self.children
                    .insert_unique(under(parent, hash), child, |child| {
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
            Edge::Word(_, hash) => {
                let parent_node = self.node_mut(parent);
                parent_node.word_count -= 1;
                parent_node.only_child = ROOT;
                if let Ok(entry) = self
                    .children
                    .find_entry(under(parent, hash), |found| *found == child)
                {
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
    fn new(word: &str, parent: NodeId) -> Self {
        Self {
            word: Word::new(word),
            parent,
            word_count: 0,
            only_child: ROOT,
            star: ROOT,
            hash: ROOT,
            destinations: Destinations::default(),
        }
    }

    fn is_empty(&self) -> bool {
        self.word_count == 0
            && self.star == ROOT
            && self.hash == ROOT
            && self.destinations.is_empty()
    }

    /// Where it stands in the table of children.
    fn position(&self, seed: &DefaultHashBuilder) -> u64 {
        // A node's bytes are those of a whole word.
        under(
            self.parent,
            seed.hash_one(std::str::from_utf8(self.word.as_bytes()).unwrap_or_default()),
        )
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
    /// `node` is reached; `#` stands for no words too.
    fn add(&mut self, trie: &Trie, mut node: NodeId) {
        while let Some(hash) = trie.child(node, Edge::Hash) {
            if self.contains(hash) {
                return;
            }
            self.nodes.push(hash);
            match self.nodes.len() {
                ..=SCANNED_MAX => {}
                length if length == SCANNED_MAX + 1 => {
                    self.index = self.nodes.iter().copied().collect()
                }
                _ => _ = self.index.insert(hash),
            }
            node = hash;
        }
    }

    fn contains(&self, node: NodeId) -> bool {
        if self.nodes.len() <= SCANNED_MAX {
            return self.nodes.contains(&node);
        }
        self.index.contains(&node)
    }
}
