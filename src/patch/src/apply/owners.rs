//! [`Owners`]: `metadata.managedFields`, decoded.

use super::{Manager, Operation};
use crate::fields::FieldSet;
use compact_str::CompactString;
use fairlead_api::{Map, Node, Timestamp, json};

/// How many entries of updates an object keeps; the oldest of more are merged.
const MAX_UPDATERS: usize = 10;
const ANCIENT_CHANGES: &str = "ancient-changes";

/// All owners of an object's fields, each with what it owns. No two have the same [`Id`].
#[derive(Clone, Debug, Default)]
pub struct Owners(Vec<Owner>);

#[derive(Clone, Debug)]
pub struct Owner {
    pub id: Id,
    /// Whose paths these are.
    pub version: CompactString,
    pub set: FieldSet,
    /// As written: RFC 3339.
    pub time: Option<CompactString>,
}

/// What tells managers apart. Appliers are the same in all versions.
#[derive(Clone, Debug, PartialEq)]
pub struct Id {
    pub manager: CompactString,
    pub operation: Operation,
    /// Empty for appliers.
    pub api_version: CompactString,
    pub subresource: CompactString,
}

impl Id {
    /// The identity of `name` in a request of `manager`.
    pub fn new(name: &str, operation: Operation, manager: &Manager) -> Id {
        Id {
            manager: if name.is_empty() { "unknown" } else { name }.into(),
            operation,
            api_version: if operation == Operation::Apply {
                ""
            } else {
                manager.api_version
            }
            .into(),
            subresource: manager.subresource.into(),
        }
    }

    /// Upstream's identifier, by which conflicts are sorted.
    pub fn sort_key(&self) -> String {
        let mut node = Vec::new();
        let parts = [
            ("manager", self.manager.as_str()),
            ("operation", self.operation.as_str()),
            ("apiVersion", &self.api_version),
            ("subresource", &self.subresource),
        ];
        for (name, value) in parts.into_iter().filter(|(_, value)| !value.is_empty()) {
            node.extend_from_slice(if node.is_empty() { b"{\"" } else { b",\"" });
            node.extend_from_slice(name.as_bytes());
            node.extend_from_slice(b"\":");
            json::write_str(value, &mut node);
        }
        node.push(b'}');
        String::from_utf8_lossy(&node).into_owned()
    }
}

impl Operation {
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// Whether managedFields can be read.
///
/// # Errors
/// What is wrong with them, in upstream's words.
pub fn check(entries: &[Node]) -> Result<(), String> {
    Owners::read(entries).map(drop)
}

impl Owners {
    /// Reads `metadata.managedFields`.
    pub fn read(entries: &[Node]) -> Result<Owners, String> {
        let mut owners = Owners(Vec::with_capacity(entries.len() + 1));
        for (i, entry) in entries.iter().enumerate() {
            owners.put(read_entry(i, entry)?);
        }
        Ok(owners)
    }

    /// Writes `metadata.managedFields`; none where there are no owners.
    pub fn write(mut self, object: &mut Node) {
        if self.0.is_empty() {
            object.remove_at(&["metadata", "managedFields"]);
            return;
        }
        self.0.sort_by_cached_key(|owner| {
            (
                owner.id.operation,
                owner.seconds(),
                owner.id.manager.clone(),
                owner.version.clone(),
                owner.id.subresource.clone(),
            )
        });
        let entries: Vec<Node> = self.0.iter().map(Owner::to_node).collect();
        object.set_at(&["metadata", "managedFields"], entries);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Owner> {
        self.0.iter()
    }

    pub fn get(&self, id: &Id) -> Option<&Owner> {
        self.0.iter().find(|owner| owner.id == *id)
    }

    /// Adds an owner, in place of one of the same identity.
    pub fn put(&mut self, owner: Owner) {
        match self.0.iter_mut().find(|o| o.id == owner.id) {
            Some(old) => *old = owner,
            None => self.0.push(owner),
        }
    }

    pub fn retain_mut(&mut self, keep: impl FnMut(&mut Owner) -> bool) {
        self.0.retain_mut(keep);
    }

    /// Merges the oldest updaters of each version, until there are no more than [`MAX_UPDATERS`].
    pub fn cap(&mut self) {
        let mut updaters: Vec<usize> = (0..self.0.len())
            .filter(|i| self.0[*i].id.operation == Operation::Update)
            .collect();
        let mut count = updaters.len();
        if count <= MAX_UPDATERS {
            return;
        }
        updaters.sort_by_cached_key(|i| (self.0[*i].seconds(), self.0[*i].id.sort_key()));
        let updaters: Vec<Id> = updaters.into_iter().map(|i| self.0[i].id.clone()).collect();
        // Of each version: the oldest, which waits for a second one, and then goes by the bucket's name.
        let mut firsts: Vec<(CompactString, Id)> = Vec::new();
        for id in updaters {
            if count <= MAX_UPDATERS {
                return;
            }
            let Some(place) = self.0.iter().position(|o| o.id == id) else {
                continue;
            };
            let version = self.0[place].version.clone();
            let Some((_, first)) = firsts.iter().find(|(v, _)| *v == version) else {
                firsts.push((version, id));
                continue;
            };
            let bucket = Id {
                manager: ANCIENT_CHANGES.into(),
                operation: Operation::Update,
                api_version: version.clone(),
                subresource: CompactString::default(),
            };
            if self.get(&bucket).is_none()
                && let Some(first) = self.0.iter_mut().find(|o| o.id == *first)
            {
                first.id = bucket.clone();
            }
            if id == bucket {
                continue;
            }
            let merged = self.0.remove(place);
            if let Some(bucket) = self.0.iter_mut().find(|o| o.id == bucket) {
                bucket.set = std::mem::take(&mut bucket.set).union(merged.set);
                bucket.time = merged.time;
            }
            count -= 1;
        }
    }
}

impl Owner {
    fn seconds(&self) -> i64 {
        self.time
            .as_deref()
            .and_then(Timestamp::parse)
            .map_or(0, Timestamp::unix_seconds)
    }

    fn to_node(&self) -> Node {
        let mut entry: Vec<(fairlead_api::Key, Node)> = Vec::with_capacity(7);
        let mut put = |name: &'static str, value: &str| {
            if !value.is_empty() {
                entry.push((fairlead_api::Key::const_new(name), Node::string(value)));
            }
        };
        put("apiVersion", &self.version);
        put("fieldsType", "FieldsV1");
        put("manager", &self.id.manager);
        put("operation", self.id.operation.as_str());
        put("subresource", &self.id.subresource);
        put("time", self.time.as_deref().unwrap_or_default());
        entry.push((fairlead_api::Key::const_new("fieldsV1"), self.set.to_node()));
        Node::Map(Map::from_entries(entry))
    }
}

fn read_entry(i: usize, entry: &Node) -> Result<Owner, String> {
    let operation = match entry.str("operation") {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err("operation must be `Apply` or `Update`".into()),
    };
    let version = entry.str("apiVersion");
    if version.is_empty() {
        return Err("apiVersion must not be empty".into());
    }
    match entry.str("fieldsType") {
        "FieldsV1" => {}
        "" => return Err(format!("missing fieldsType in managed fields entry {i}")),
        other => {
            let other = fairlead_api::field::go_quote(other);
            return Err(format!("invalid fieldsType {other} in managed fields entry {i}"));
        }
    }
    let set = FieldSet::from_node(entry.get("fieldsV1").unwrap_or(&Node::Null))
        .map_err(|e| format!("error decoding versioned set: error decoding set: {e}"))?;
    Ok(Owner {
        id: Id {
            manager: entry.str("manager").into(),
            operation,
            api_version: if operation == Operation::Apply { "" } else { version }.into(),
            subresource: entry.str("subresource").into(),
        },
        version: version.into(),
        set,
        time: entry.get("time").and_then(Node::as_str).map(CompactString::from),
    })
}
