//! The order of merged lists: what the patch names stands as the patch (or `$setElementOrder`) has it, what only the
//! server has stays in the server's order, and the two are woven together by the server's order.

use super::{PATCH, key_of, wrong_type};
use crate::{PatchError, go_text};
use fairlead_api::Node;
use std::borrow::Cow;
use std::collections::HashMap;

/// Items whose order cannot be told are sorted as upstream's insertion sort leaves them, up to this many.
const MAX_INSERTION: usize = 1_000;

/// A comparable JSON value: what a merge key or an item of a list of primitives can be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// By bits.
    Float(u64),
    String(Cow<'a, str>),
}

impl<'a> Scalar<'a> {
    pub fn of(node: &'a Node) -> Option<Scalar<'a>> {
        match node {
            Node::Null => Some(Scalar::Null),
            Node::Bool(b) => Some(Scalar::Bool(*b)),
            Node::Int(i) => Some(Scalar::Int(*i)),
            Node::Float(f) => Some(Scalar::Float(f.to_bits())),
            Node::String(s) => Some(Scalar::String(Cow::Borrowed(s))),
            Node::List(_) | Node::Map(_) => None,
        }
    }

    pub fn into_owned(self) -> Scalar<'static> {
        match self {
            Scalar::Null => Scalar::Null,
            Scalar::Bool(b) => Scalar::Bool(b),
            Scalar::Int(i) => Scalar::Int(i),
            Scalar::Float(f) => Scalar::Float(f),
            Scalar::String(s) => Scalar::String(Cow::Owned(s.into_owned())),
        }
    }
}

/// Refuses a patch whose items stand in another order than its `$setElementOrder`.
pub fn check(patch: &[Node], wanted: &[Node], merge_key: &str) -> Result<(), PatchError> {
    if patch.is_empty() || wanted.is_empty() {
        return Ok(());
    }
    let mut rest = wanted.iter();
    for item in patch {
        if !merge_key.is_empty() && !matches!(item, Node::Map(_)) {
            return Err(wrong_type("map[string]interface {}", item));
        }
        if item.get(PATCH).is_some() {
            continue;
        }
        loop {
            let Some(next) = rest.next() else {
                return Err(PatchError::Unclassified(format!(
                    "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                    go_text::value(&Node::List(patch.to_vec())),
                    go_text::value(&Node::List(wanted.to_vec()))
                )));
            };
            if same(item, next, merge_key)? {
                break;
            }
        }
    }
    Ok(())
}

fn same(left: &Node, right: &Node, merge_key: &str) -> Result<bool, PatchError> {
    if merge_key.is_empty() {
        return Ok(Scalar::of(left).is_some() && left == right);
    }
    if !matches!(right, Node::Map(_)) {
        return Err(wrong_type("map[string]interface {}", right));
    }
    Ok(key_of(left, merge_key)? == key_of(right, merge_key)?)
}

/// Orders `merged`: see the module's first lines.
pub fn arrange(
    merged: Vec<Node>,
    wanted: &[Node],
    server: &[Node],
    merge_key: &str,
    has_maps: bool,
) -> Result<Vec<Node>, PatchError> {
    if has_maps && !merge_key.is_empty() {
        for item in merged.iter().chain(wanted).chain(server) {
            key_of(item, merge_key)?;
        }
    }
    let rank = |list: &[Node]| -> HashMap<Scalar<'static>, usize> {
        let mut ranks = HashMap::with_capacity(list.len());
        for (i, item) in list.iter().enumerate() {
            if let Some(key) = identity(item, merge_key, has_maps) {
                ranks.entry(key.into_owned()).or_insert(i);
            }
        }
        ranks
    };
    let (wanted, server) = (rank(wanted), rank(server));
    let rank_in = |ranks: &HashMap<Scalar<'static>, usize>, item: &Node| {
        identity(item, merge_key, has_maps).and_then(|key| ranks.get(&key).copied())
    };
    let (named, server_only): (Vec<Node>, Vec<Node>) =
        merged.into_iter().partition(|item| rank_in(&wanted, item).is_some());
    let named = sorted(named, |item| rank_in(&wanted, item), has_maps);
    let server_only = sorted(server_only, |item| rank_in(&server, item), has_maps);

    let mut out = Vec::with_capacity(named.len() + server_only.len());
    let (mut named, mut server_only) = (named.into_iter().peekable(), server_only.into_iter().peekable());
    loop {
        let left_first = match (server_only.peek(), named.peek()) {
            (Some(left), Some(right)) => match (rank_in(&server, left), rank_in(&server, right)) {
                (Some(left), Some(right)) => left < right,
                _ => false,
            },
            (Some(_), None) => true,
            (None, _) => false,
        };
        match if left_first { server_only.next() } else { named.next() } {
            Some(item) => out.push(item),
            None => return Ok(out),
        }
    }
}

fn identity<'a>(item: &'a Node, merge_key: &str, has_maps: bool) -> Option<Scalar<'a>> {
    if has_maps {
        item.get(merge_key).and_then(Scalar::of)
    } else {
        Scalar::of(item)
    }
}

/// By rank; items marked for deletion last.
fn sorted(items: Vec<Node>, rank: impl Fn(&Node) -> Option<usize>, has_maps: bool) -> Vec<Node> {
    let (deleted, kept): (Vec<Node>, Vec<Node>) = items
        .into_iter()
        .partition(|item| has_maps && item.str(PATCH) == "delete");
    let mut ranked: Vec<(Option<usize>, Node)> = kept.into_iter().map(|item| (rank(&item), item)).collect();
    if ranked.iter().all(|(rank, _)| rank.is_some()) || ranked.len() > MAX_INSERTION {
        ranked.sort_by_key(|(rank, _)| *rank);
    } else {
        // COMPAT: upstream's comparison says "before" for everything without a rank; what that leads to.
        for i in 1..ranked.len() {
            let mut j = i;
            while j > 0
                && ranked[j]
                    .0
                    .zip(ranked[j - 1].0)
                    .is_none_or(|(this, before)| this < before)
            {
                ranked.swap(j, j - 1);
                j -= 1;
            }
        }
    }
    ranked.into_iter().map(|(_, item)| item).chain(deleted).collect()
}
