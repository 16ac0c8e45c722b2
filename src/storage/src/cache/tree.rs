//! [`Tree`]: a copy-on-write B+tree of cached objects, so that a snapshot is one reference count.
// PERFORMANCE: per-request path

use crate::cached::Cached;
use std::sync::Arc;

/// Entries of a leaf and children of a branch. Small, because a write copies one of each level.
const MAX: usize = 32;
/// Nodes smaller than this are merged with a neighbour where both fit into one.
const MIN: usize = 10;

/// Objects by key. Cloning is O(1) and shares everything; a write copies one path.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    root: Arc<Node>,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Vec<Arc<Cached>>),
    /// Never empty.
    Branch(Vec<Child>),
}

#[derive(Clone, Debug)]
struct Child {
    /// No key below this child is smaller. Not always a key that exists.
    low: Arc<str>,
    /// Objects below.
    len: usize,
    node: Arc<Node>,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree {
            root: Arc::new(Node::Leaf(Vec::new())),
        }
    }
}

impl Tree {
    pub fn len(&self) -> usize {
        self.root.len()
    }

    /// O(log n).
    pub fn get(&self, key: &str) -> Option<&Arc<Cached>> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(objects) => return position(objects, key).ok().map(|at| &objects[at]),
                Node::Branch(children) => node = &children[child_of(children, key)].node,
            }
        }
    }

    /// Puts `object` in and answers the one it replaces. O(log n).
    pub fn insert(&mut self, object: Arc<Cached>) -> Option<Arc<Cached>> {
        let (previous, split) = insert(Arc::make_mut(&mut self.root), object);
        if let Some(right) = split {
            let left = Child::new(self.root.clone());
            self.root = Arc::new(Node::Branch(vec![left, right]));
        }
        previous
    }

    /// Takes the object at `key` out. O(log n).
    pub fn remove(&mut self, key: &str) -> Option<Arc<Cached>> {
        let removed = remove(Arc::make_mut(&mut self.root), key)?;
        while let Node::Branch(children) = &*self.root
            && children.len() == 1
        {
            self.root = children[0].node.clone();
        }
        Some(removed)
    }

    /// How many keys are smaller than every key for which `below` does not hold. `below` must hold for a leading
    /// part of the keys. O(log n).
    pub fn rank(&self, below: impl Fn(&str) -> bool) -> usize {
        let mut rank = 0;
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(objects) => return rank + objects.partition_point(|object| below(&object.key)),
                Node::Branch(children) => {
                    let at = children.partition_point(|child| below(&child.low)).saturating_sub(1);
                    rank += children[..at].iter().map(|child| child.len).sum::<usize>();
                    node = &children[at].node;
                }
            }
        }
    }

    /// The objects from `key` on, in key order.
    pub fn from<'a>(&'a self, key: &str) -> Iter<'a> {
        let mut above = Vec::new();
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(objects) => {
                    let at = objects.partition_point(|object| *object.key < *key);
                    return Iter {
                        above,
                        leaf: objects[at..].iter(),
                    };
                }
                Node::Branch(children) => {
                    let at = child_of(children, key);
                    above.push(children[at + 1..].iter());
                    node = &children[at].node;
                }
            }
        }
    }
}

/// Objects in key order.
pub(crate) struct Iter<'a> {
    /// What is left of the branches above the leaf, the root's first.
    above: Vec<std::slice::Iter<'a, Child>>,
    leaf: std::slice::Iter<'a, Arc<Cached>>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Arc<Cached>;

    fn next(&mut self) -> Option<&'a Arc<Cached>> {
        loop {
            if let Some(object) = self.leaf.next() {
                return Some(object);
            }
            let Some(child) = self.above.last_mut()?.next() else {
                self.above.pop();
                continue;
            };
            let mut node = &*child.node;
            while let Node::Branch(children) = node {
                self.above.push(children[1..].iter());
                node = &children[0].node;
            }
            if let Node::Leaf(objects) = node {
                self.leaf = objects.iter();
            }
        }
    }
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Node::Leaf(objects) => objects.len(),
            Node::Branch(children) => children.iter().map(|child| child.len).sum(),
        }
    }

    fn size(&self) -> usize {
        match self {
            Node::Leaf(objects) => objects.len(),
            Node::Branch(children) => children.len(),
        }
    }
}

impl Child {
    fn new(node: Arc<Node>) -> Child {
        let low = match &*node {
            Node::Leaf(objects) => objects
                .first()
                .map_or_else(|| Arc::from(""), |object| object.key.clone()),
            Node::Branch(children) => children[0].low.clone(),
        };
        Child {
            low,
            len: node.len(),
            node,
        }
    }
}

fn position(objects: &[Arc<Cached>], key: &str) -> Result<usize, usize> {
    objects.binary_search_by(|object| (*object.key).cmp(key))
}

fn child_of(children: &[Child], key: &str) -> usize {
    children.partition_point(|child| *child.low <= *key).saturating_sub(1)
}

/// The replaced object, and the right half where the node had to be split.
fn insert(node: &mut Node, object: Arc<Cached>) -> (Option<Arc<Cached>>, Option<Child>) {
    match node {
        Node::Leaf(objects) => match position(objects, &object.key) {
            Ok(at) => (Some(std::mem::replace(&mut objects[at], object)), None),
            Err(at) => {
                objects.insert(at, object);
                (
                    None,
                    split(objects, at).map(|right| Child::new(Arc::new(Node::Leaf(right)))),
                )
            }
        },
        Node::Branch(children) => {
            let at = child_of(children, &object.key);
            let child = &mut children[at];
            if *object.key < *child.low {
                child.low = object.key.clone();
            }
            let (previous, right) = insert(Arc::make_mut(&mut child.node), object);
            child.len += usize::from(previous.is_none());
            if let Some(right) = right {
                child.len -= right.len;
                children.insert(at + 1, right);
            }
            (
                previous,
                split(children, at + 1).map(|right| Child::new(Arc::new(Node::Branch(right)))),
            )
        }
    }
}

/// The part of an overfull node that becomes its right neighbour. Appending keeps the left one full, so that loading
/// in key order packs the tree.
fn split<T>(items: &mut Vec<T>, inserted: usize) -> Option<Vec<T>> {
    if items.len() <= MAX {
        return None;
    }
    let at = if inserted + 1 == items.len() {
        MAX - 2
    } else {
        items.len() / 2
    };
    Some(items.split_off(at))
}

fn remove(node: &mut Node, key: &str) -> Option<Arc<Cached>> {
    match node {
        Node::Leaf(objects) => position(objects, key).ok().map(|at| objects.remove(at)),
        Node::Branch(children) => {
            let at = child_of(children, key);
            let child = &mut children[at];
            let removed = remove(Arc::make_mut(&mut child.node), key)?;
            child.len -= 1;
            if child.node.size() < MIN {
                merge(children, at);
            }
            Some(removed)
        }
    }
}

/// Joins the small child at `at` with a neighbour where both fit; drops it where it is empty.
fn merge(children: &mut Vec<Child>, at: usize) {
    if children.len() == 1 {
        return;
    }
    if children[at].len == 0 {
        children.remove(at);
        return;
    }
    let left = at.saturating_sub(1);
    if children[left].node.size() + children[left + 1].node.size() > MAX {
        return;
    }
    let right = children.remove(left + 1);
    let child = &mut children[left];
    child.len += right.len;
    match (Arc::make_mut(&mut child.node), &*right.node) {
        (Node::Leaf(objects), Node::Leaf(more)) => objects.extend(more.iter().cloned()),
        (Node::Branch(nodes), Node::Branch(more)) => nodes.extend(more.iter().cloned()),
        _ => unreachable!("nodes of one level are of one form"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cached::{Forms, Header, Json};
    use crate::store::Revision;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl Node {
        fn keys(&self) -> Vec<Arc<str>> {
            match self {
                Node::Leaf(objects) => objects.iter().map(|object| object.key.clone()).collect(),
                Node::Branch(children) => children.iter().flat_map(|child| child.node.keys()).collect(),
            }
        }
    }

    fn object(key: &str, revision: u64) -> Arc<Cached> {
        Arc::new(Cached {
            key: key.into(),
            revision: Revision(revision),
            json: Json::default(),
            header: Header::default(),
            forms: Forms::default(),
        })
    }

    fn contents(tree: &Tree) -> Vec<(String, u64)> {
        tree.from("")
            .map(|object| (object.key.to_string(), object.revision.0))
            .collect()
    }

    fn check_against(tree: &Tree, model: &BTreeMap<String, u64>, probe: &str) {
        assert_eq!(
            contents(tree),
            model.iter().map(|(k, v)| (k.clone(), *v)).collect::<Vec<_>>()
        );
        assert_eq!(tree.len(), model.len());
        assert_eq!(
            tree.get(probe).map(|object| object.revision.0),
            model.get(probe).copied()
        );
        assert_eq!(tree.rank(|key| key < probe), model.range(..probe.to_owned()).count());
        let rest: Vec<_> = tree.from(probe).map(|object| object.key.to_string()).collect();
        assert_eq!(
            rest,
            model
                .range(probe.to_owned()..)
                .map(|(k, _)| k.clone())
                .collect::<Vec<_>>()
        );
    }

    fn check_shape(node: &Node, is_root: bool) -> usize {
        assert!(node.size() <= MAX);
        match node {
            Node::Leaf(_) => 1,
            Node::Branch(children) => {
                assert!(!children.is_empty() && (!is_root || children.len() > 1));
                let depths: Vec<_> = children
                    .iter()
                    .map(|child| {
                        assert!(child.len > 0);
                        assert!(child.node.keys().iter().all(|key| **key >= *child.low));
                        assert_eq!(child.len, child.node.len());
                        check_shape(&child.node, false)
                    })
                    .collect();
                assert!(
                    depths.iter().all(|depth| *depth == depths[0]),
                    "all leaves lie equally deep"
                );
                depths[0] + 1
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn is_an_ordered_map_and_snapshots_stand_still(
            operations in proptest::collection::vec((any::<bool>(), 0u32..400, 0u32..12), 1..1500)
        ) {
            let (mut tree, mut model) = (Tree::default(), BTreeMap::new());
            let mut kept = Vec::new();
            for (revision, (insert, key, keep)) in (1..).zip(&operations) {
                let key = format!("{}/{}", key % 7, key);
                let replaced = if *insert {
                    (tree.insert(object(&key, revision)), model.insert(key, revision))
                } else {
                    (tree.remove(&key), model.remove(&key))
                };
                assert_eq!(replaced.0.map(|object| object.revision.0), replaced.1);
                if *keep == 0 && kept.len() < 4 {
                    kept.push((tree.clone(), model.clone()));
                }
            }
            kept.push((tree, model));
            for (tree, model) in &kept {
                for probe in ["", "3", "3/", "3/100", "6/z"] {
                    check_against(tree, model, probe);
                }
                check_shape(&tree.root, true);
            }
        }
    }

    #[test]
    fn loading_in_order_packs_and_emptying_shrinks() {
        let mut tree = Tree::default();
        for i in 0..10_000 {
            tree.insert(object(&format!("{i:05}"), i + 1));
        }
        assert_eq!(check_shape(&tree.root, true), 3);
        for i in 0..10_000 {
            assert!(tree.remove(&format!("{:05}", (i * 7) % 10_000)).is_some());
        }
        assert_eq!(tree.len(), 0);
        assert_eq!(check_shape(&tree.root, true), 1);
    }
}
