//! The two operations on owners: one manager's update, one manager's apply.

use super::error::{ApplyError, Conflict};
use super::owners::{Id, Owner, Owners};
use super::{Manager, Options};
use crate::fields::{FieldSet, Path, equal_values};
use crate::typed::Cursor;
use crate::typed::compare::{Comparison, compare};
use crate::typed::merge::merge;
use crate::typed::remove::remove;
use crate::typed::to_set::to_set;
use crate::typed::validate::{Duplicates, validate};
use compact_str::CompactString;
use fairlead_api::Node;
use fairlead_schema::{Schema, TypeRef};
use std::borrow::Cow;
use std::sync::LazyLock;

/// What nobody owns: an object's identity and what the server keeps.
static UNOWNED: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

/// One request's view: the version it speaks, and how to get to others.
pub struct Updater<'a> {
    cursor: Cursor<'a>,
    version: &'a str,
    time: CompactString,
    options: &'a Options<'a>,
}

/// An object in some version, with that version's schema; `None`: the request's.
struct Versioned<'n> {
    node: Cow<'n, Node>,
    schema: Option<Schema>,
}

impl<'a> Updater<'a> {
    pub fn new(schema: TypeRef<'a>, manager: &Manager<'a>, options: &'a Options<'a>) -> Updater<'a> {
        Updater {
            cursor: Cursor::root(schema),
            version: manager.api_version,
            time: manager.time.rfc3339().into(),
            options,
        }
    }

    /// Gives what changed from `live` to `new` to `id`.
    pub fn update(&self, live: &Node, new: &Node, owners: &mut Owners, id: &Id) -> Result<(), ApplyError> {
        // Upstream's typed objects: what does not fit is not compared.
        validate(self.cursor, new, Duplicates::Allowed).map_err(|mistakes| {
            ApplyError::Unclassified(format!("failed to convert new object to smd typed: {mistakes}"))
        })?;
        self.adjust_to_schemas(live, owners)?;
        let comparison = self.settle(live, new, owners, None, true)?;
        let taken = self
            .ownable(comparison.modified.union(comparison.added))
            .difference(&UNOWNED);
        if !taken.is_empty() {
            let before = owners.get(id).map(|owner| owner.set.clone()).unwrap_or_default();
            owners.put(Owner {
                id: id.clone(),
                version: self.version.into(),
                set: taken.union(before),
                time: Some(self.time.clone()),
            });
        }
        Ok(())
    }

    /// Merges `config` into `live`, drops what `id` applied before and no longer does, and gives `config`'s fields to
    /// `id`. `None` where the object stays as it is.
    pub fn apply(
        &self,
        live: &Node,
        config: &Node,
        owners: &mut Owners,
        id: &Id,
        force: bool,
    ) -> Result<Option<Node>, ApplyError> {
        self.adjust_to_schemas(live, owners)?;
        let mut merged = merge(self.cursor, live, config);
        let last = owners.get(id).cloned();
        let set = self.ownable(to_set(self.cursor, config));
        owners.put(Owner {
            id: id.clone(),
            version: self.version.into(),
            set,
            time: last.as_ref().and_then(|last| last.time.clone()),
        });
        if let Some(last) = last {
            merged = self
                .prune(merged, owners, id, &last)
                .map_err(|e| ApplyError::Unclassified(format!("failed to prune fields: {e}")))?;
        }
        self.settle(live, &merged, owners, Some(id), force)?;
        let changed = !equal_values(live, &merged);
        owners.retain_mut(|owner| {
            if owner.id != *id {
                return true;
            }
            owner.set = owner.set.difference(&UNOWNED);
            if changed {
                owner.time = Some(self.time.clone());
            }
            !owner.set.is_empty()
        });
        Ok(changed.then_some(merged))
    }

    /// Takes from all owners but `but` what changed or went.
    fn settle(
        &self,
        old: &Node,
        new: &Node,
        owners: &mut Owners,
        but: Option<&Id>,
        force: bool,
    ) -> Result<Comparison, ApplyError> {
        let mut comparison = compare(self.cursor, old, new);
        self.narrow(&mut comparison);
        let mut others: Vec<(CompactString, Option<Touched>)> = vec![];
        others.push((self.version.into(), Some(Touched::of(&comparison))));
        for owner in owners.iter().filter(|o| Some(&o.id) != but) {
            if !others.iter().any(|(version, _)| *version == owner.version) {
                others.push((owner.version.clone(), self.touched_in(&owner.version, old, new)?));
            }
        }
        let touched = |owner: &Owner| {
            others
                .iter()
                .find(|(v, _)| *v == owner.version)
                .and_then(|(_, t)| t.as_ref())
        };

        if !force {
            let mut conflicts: Vec<(&Id, FieldSet)> = owners
                .iter()
                .filter(|o| Some(&o.id) != but)
                .filter_map(|o| Some((&o.id, o.set.intersection(&touched(o)?.changed))))
                .filter(|(_, set)| !set.is_empty())
                .collect();
            if !conflicts.is_empty() {
                conflicts.sort_by_cached_key(|(id, _)| id.sort_key());
                return Err(ApplyError::Conflicts(listed(conflicts)));
            }
        }
        owners.retain_mut(|owner| {
            if Some(&owner.id) != but {
                // An owner of a version that is not served any more.
                let Some(touched) = touched(owner) else { return false };
                if !touched.changed.is_empty() || !touched.removed.is_empty() {
                    owner.set = owner.set.difference(&touched.changed).difference(&touched.removed);
                }
            }
            !owner.set.is_empty()
        });
        Ok(comparison)
    }

    fn touched_in(&self, version: &str, old: &Node, new: &Node) -> Result<Option<Touched>, ApplyError> {
        let convert = |node, which| {
            self.at(version, node)
                .map_err(|e| ApplyError::Unclassified(format!("failed to convert {which} object: {e}")))
        };
        let (Some(old), Some(new)) = (convert(old, "old")?, convert(new, "new")?) else {
            return Ok(None);
        };
        let mut comparison = compare(old.cursor(self), &old.node, &new.node);
        self.narrow(&mut comparison);
        Ok(Some(Touched::of(&comparison)))
    }

    // === pruning ===

    /// Removes from `merged` what `id` applied last time and nobody owns now.
    fn prune(&self, merged: Node, owners: &Owners, id: &Id, last: &Owner) -> Result<Node, String> {
        let now = owners.get(id).map(|owner| &owner.set);
        if last.set.is_empty() || (last.version == self.version && now.is_some_and(|set| last.set.is_subset(set))) {
            return Ok(merged);
        }
        let Some(whole) = self.at(&last.version, &merged)? else {
            return Ok(merged);
        };
        let cursor = whole.cursor(self);
        let mut last_named = last.set.clone();
        last_named.name_fields(cursor);
        let mut rest = whole.node.clone().into_owned();
        remove(cursor, &mut rest, &last_named);

        let rest = self.with_owned(&whole, rest, owners, &last.version)?;
        let Some(rest) = self.at(&last.version, &rest)? else {
            return Ok(merged);
        };
        // What nobody owned before stays.
        let gone = named(&whole, self)
            .difference(&named(&rest, self))
            .intersection(&last_named);
        let mut pruned = whole.node.clone().into_owned();
        remove(cursor, &mut pruned, &gone);
        let back = self.at(self.version, &pruned)?.map(|back| back.node.into_owned());
        Ok(back.unwrap_or(pruned))
    }

    /// `rest` of `whole` with everything that someone owns.
    fn with_owned(&self, whole: &Versioned, rest: Node, owners: &Owners, first: &str) -> Result<Node, String> {
        let mut versions: Vec<&str> = vec![first];
        for owner in owners.iter() {
            if !versions.contains(&owner.version.as_str()) {
                versions.push(&owner.version);
            }
        }
        let mut whole: Cow<Node> = Cow::Borrowed(&whole.node);
        let mut rest = rest;
        for version in versions {
            let mut owned = FieldSet::new();
            for owner in owners.iter().filter(|o| o.version == version) {
                owned = owned.union(owner.set.clone());
            }
            if owned.is_empty() {
                continue;
            }
            let (Some(all), Some(left)) = (self.at(version, &whole)?, self.at(version, &rest)?) else {
                continue;
            };
            let cursor = all.cursor(self);
            owned.name_fields(cursor);
            let gone = named(&all, self).difference(&named(&left, self).union(owned));
            let mut next = all.node.clone().into_owned();
            remove(cursor, &mut next, &gone);
            let converted = all.node.into_owned();
            rest = next;
            whole = Cow::Owned(converted);
        }
        Ok(rest)
    }

    // === versions ===

    /// `node` in `version`; `None` where that is not served.
    fn at<'n>(&self, version: &str, node: &'n Node) -> Result<Option<Versioned<'n>>, String> {
        let is_there = node.str("apiVersion") == version;
        let schema = if version == self.version {
            None
        } else {
            match self.options.schema_of.and_then(|f| f(version)) {
                Some(schema) => Some(schema),
                None if is_there => return Ok(None),
                None => {
                    // A version that is unknown, and not just gone, cannot be converted to.
                    if let Some(convert) = self.options.convert {
                        convert(node, version)?;
                    }
                    return Ok(None);
                }
            }
        };
        if is_there {
            return Ok(Some(Versioned {
                node: Cow::Borrowed(node),
                schema,
            }));
        }
        let Some(convert) = self.options.convert else {
            return Ok(None);
        };
        let converted = Versioned {
            node: Cow::Owned(convert(node, version)?),
            schema,
        };
        validate(converted.cursor(self), &converted.node, Duplicates::Refused).map_err(|e| e.to_string())?;
        Ok(Some(converted))
    }

    /// Drops owners whose version is gone, and widens the paths of the others to what is atomic by now.
    fn adjust_to_schemas(&self, live: &Node, owners: &mut Owners) -> Result<(), ApplyError> {
        let mut seen: Vec<(CompactString, Option<Option<Schema>>)> = vec![(self.version.into(), Some(None))];
        for owner in owners.iter() {
            if !seen.iter().any(|(version, _)| *version == owner.version) {
                let there = self.at(&owner.version, live).map_err(ApplyError::Unclassified)?;
                seen.push((owner.version.clone(), there.map(|v| v.schema)));
            }
        }
        owners.retain_mut(
            |owner| match seen.iter().find(|(version, _)| *version == owner.version) {
                Some((_, Some(schema))) => {
                    owner
                        .set
                        .adjust_to_schema(schema.as_ref().map_or(self.cursor, |s| Cursor::root(s.root())));
                    true
                }
                _ => false,
            },
        );
        Ok(())
    }

    // === filters ===

    fn ownable(&self, set: FieldSet) -> FieldSet {
        let set = if self.options.reset_fields.is_empty() {
            set
        } else {
            set.recursive_difference(self.options.reset_fields)
        };
        if self.options.only_fields.is_empty() {
            set
        } else {
            set.only(self.options.only_fields)
        }
    }

    fn narrow(&self, comparison: &mut Comparison) {
        comparison.without(self.options.reset_fields);
        if !self.options.only_fields.is_empty() {
            comparison.only(self.options.only_fields);
        }
    }
}

/// What an owner can lose.
struct Touched {
    changed: FieldSet,
    removed: FieldSet,
}

impl Touched {
    fn of(comparison: &Comparison) -> Touched {
        Touched {
            changed: comparison.modified.clone().union(comparison.added.clone()),
            removed: comparison.removed.clone(),
        }
    }
}

impl Versioned<'_> {
    fn cursor<'c>(&'c self, updater: &Updater<'c>) -> Cursor<'c> {
        self.schema
            .as_ref()
            .map_or(updater.cursor, |schema| Cursor::root(schema.root()))
    }
}

/// The paths of an object, with the fields above them.
fn named(object: &Versioned, updater: &Updater) -> FieldSet {
    let cursor = object.cursor(updater);
    let mut set = to_set(cursor, &object.node);
    set.name_fields(cursor);
    set
}

fn listed(conflicts: Vec<(&Id, FieldSet)>) -> Vec<Conflict> {
    let mut out = Vec::new();
    for (id, set) in conflicts {
        set.for_each(&mut |path| {
            out.push(Conflict {
                id: id.clone(),
                path: Path::new(path),
            })
        });
    }
    out
}
