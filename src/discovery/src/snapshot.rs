//! [`RoutingSnapshot`]: every group-version and who serves it.

use crate::document::Document;
use crate::openapi::conflicts::{self, SchemaConflict};
use crate::openapi::library::Library;
use crate::openapi::merge::{Part, Renamed, Section};
use crate::openapi::{self, Components};
use crate::{aggregated, legacy};
use arc_swap::ArcSwap;
use bytes::Bytes;
use compact_str::CompactString;
use fairlead_api::{GroupVersion, Node, order};
use fairlead_resource::ResourceDefinition;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

/// The current snapshot, readable without a lock. Cheap to clone.
#[derive(Clone)]
pub struct Router(Arc<ArcSwap<RoutingSnapshot>>);

/// Everything that can be asked for, at one moment. Immutable.
#[derive(Default)]
pub struct RoutingSnapshot {
    /// In discovery's order; the core group, if any, is among them.
    groups: Vec<Arc<Group>>,
    versions: HashMap<GroupVersion, Arc<VersionEntry>>,
    documents: Documents,
    library: Arc<Library>,
    /// Plurals of definitions that a remote registration has taken the group-version of.
    hidden: BTreeMap<GroupVersion, Vec<CompactString>>,
}

/// Documents over several groups, made on first use.
#[derive(Default)]
pub(crate) struct Documents {
    pub(crate) group_list: OnceLock<Document>,
    pub(crate) aggregated_core: OnceLock<Document>,
    pub(crate) aggregated: OnceLock<Document>,
    pub(crate) openapi_v2: OnceLock<openapi::v2::Whole>,
    pub(crate) openapi_v3_index: OnceLock<Document>,
}

pub struct Group {
    pub name: CompactString,
    /// In discovery's order; the first is preferred.
    pub versions: Vec<Arc<VersionEntry>>,
}

/// One group-version and its parts of all documents.
pub struct VersionEntry {
    pub group_version: GroupVersion,
    pub group_priority: i64,
    pub version_priority: i64,
    pub serves: Serves,
    pub(crate) resource_list: OnceLock<Document>,
    pub(crate) aggregated: OnceLock<Bytes>,
    pub(crate) openapi_v3: OnceLock<Document>,
    pub(crate) openapi_v2: OnceLock<Arc<Part>>,
    /// A backend's own definitions in OpenAPI v2.
    pub(crate) own_definitions: OnceLock<Arc<Section>>,
}

pub enum Serves {
    /// Sorted by plural.
    Local(Vec<Arc<ResourceDefinition>>),
    Remote(Arc<RemoteGroupVersion>),
}

/// What is known of a group-version that another API server serves.
#[derive(Debug, Default)]
pub struct RemoteGroupVersion {
    /// The APIService's name, by which the gateway knows the backend.
    pub api_service: CompactString,
    pub group: CompactString,
    pub version: CompactString,
    /// `APIResourceDiscovery` objects (the aggregated form).
    pub resources: Arc<Vec<Node>>,
    /// Whether `resources` is the backend's answer of before it stopped answering.
    pub stale: bool,
    /// Whether clients shall know the kinds of a backend that does not answer.
    pub last_known: bool,
    /// When `resources` was learnt; `None` before the first answer.
    pub learnt: Option<SystemTime>,
    /// When the backend last confirmed it, in Unix seconds; moves on while nothing changes.
    pub confirmed: Arc<AtomicI64>,
    /// The backend's OpenAPI v3 document of this group-version and its hash.
    pub openapi_v3: Option<(Bytes, String)>,
    /// An OpenAPI v2 document with the group-version's paths, and all they refer to.
    pub openapi_v2: Option<Bytes>,
    /// What operators are told of it.
    pub origin: Origin,
}

/// Where a remote group-version comes from, for reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// `NAMESPACE/SERVICE:PORT`.
    pub service: String,
    /// How its resources were learnt, and each OpenAPI version; empty where they were not.
    pub discovery: &'static str,
    pub openapi_v2: &'static str,
    pub openapi_v3: &'static str,
    /// Why it is stale, or what of its documents could not be used.
    pub problems: Vec<String>,
    /// Group-versions of others that the backend speaks of. Nothing of them is taken over.
    pub claims: Vec<String>,
}

impl RemoteGroupVersion {
    /// Whether discovery tells clients not to rely on it.
    pub fn shown_stale(&self) -> bool {
        self.learnt.is_none() || (self.stale && !self.last_known)
    }

    /// Whether it is shown although its backend does not answer.
    pub fn from_memory(&self) -> bool {
        self.stale && self.last_known && self.learnt.is_some()
    }
}

/// An APIService, as far as routing is concerned.
#[derive(Clone)]
pub struct Registration {
    pub group_version: GroupVersion,
    pub group_priority: i64,
    pub version_priority: i64,
    /// `None` for groups served here.
    pub remote: Option<Arc<RemoteGroupVersion>>,
}

/// Who answers a request for a resource.
pub enum Route {
    Local(Arc<ResourceDefinition>),
    Remote(Arc<RemoteGroupVersion>),
}

/// Priorities of groups that have no registration yet: those CRDs get.
const DEFAULT_GROUP_PRIORITY: i64 = 1000;
const DEFAULT_VERSION_PRIORITY: i64 = 100;

// === impl Router ===

impl Router {
    pub fn new(snapshot: RoutingSnapshot) -> Router {
        Router(Arc::new(ArcSwap::from_pointee(snapshot)))
    }

    pub fn load(&self) -> Arc<RoutingSnapshot> {
        self.0.load_full()
    }

    /// Replaces the snapshot. The caller makes sure that only one builds at a time.
    pub fn store(&self, snapshot: RoutingSnapshot) {
        self.0.store(Arc::new(snapshot));
    }
}

// === impl RoutingSnapshot ===

impl RoutingSnapshot {
    /// Folds definitions and registrations. Parts of `previous` whose inputs are the same are taken over.
    ///
    /// A remote registration takes its group-version over from local definitions, as an APIService with a service does.
    pub fn build(
        previous: Option<&RoutingSnapshot>,
        definitions: &[Arc<ResourceDefinition>],
        registrations: &[Registration],
    ) -> RoutingSnapshot {
        let mut local: BTreeMap<GroupVersion, Vec<Arc<ResourceDefinition>>> = BTreeMap::new();
        for definition in definitions {
            local
                .entry(definition.group_version())
                .or_default()
                .push(definition.clone());
        }
        let mut entries: BTreeMap<GroupVersion, Arc<VersionEntry>> = BTreeMap::new();
        for r in registrations {
            let serves = match &r.remote {
                Some(remote) => Serves::Remote(remote.clone()),
                // COMPAT: a registration without a service lists its group even where nothing serves it.
                None => Serves::Local(local.get(&r.group_version).map_or(Vec::new(), |d| sorted(d))),
            };
            let entry = VersionEntry::new(r.group_version.clone(), r.group_priority, r.version_priority, serves);
            entries.insert(r.group_version.clone(), entry.reusing(previous));
        }
        for (gv, definitions) in &local {
            if !entries.contains_key(gv) {
                let serves = Serves::Local(sorted(definitions));
                let entry = VersionEntry::new(gv.clone(), DEFAULT_GROUP_PRIORITY, DEFAULT_VERSION_PRIORITY, serves);
                entries.insert(gv.clone(), entry.reusing(previous));
            }
        }
        let taken = |gv: &GroupVersion| entries.get(gv).is_some_and(|e| matches!(e.serves, Serves::Remote(_)));
        let hidden = local.iter().filter(|(gv, _)| taken(gv));
        let hidden = hidden.map(|(gv, all)| (gv.clone(), all.iter().map(|d| d.plural.clone()).collect()));
        let hidden = hidden.collect();
        let mut groups: BTreeMap<CompactString, Vec<Arc<VersionEntry>>> = BTreeMap::new();
        for entry in entries.values() {
            groups
                .entry(entry.group_version.group.clone())
                .or_default()
                .push(entry.clone());
        }
        let mut groups: Vec<Arc<Group>> = groups
            .into_iter()
            .map(|(name, mut versions)| {
                versions.sort_by(|a, b| {
                    b.version_priority
                        .cmp(&a.version_priority)
                        .then_with(|| order::versions(&a.group_version.version, &b.group_version.version))
                });
                Arc::new(Group { name, versions })
            })
            .collect();
        groups.sort_by(|a, b| b.priority().cmp(&a.priority()).then_with(|| a.name.cmp(&b.name)));
        RoutingSnapshot {
            groups,
            versions: entries.into_iter().collect(),
            documents: Documents::default(),
            library: previous.map(|p| p.library.clone()).unwrap_or_default(),
            hidden,
        }
    }

    pub fn route(&self, group: &str, version: &str, resource: &str) -> Option<Route> {
        match &self.version(group, version)?.serves {
            Serves::Remote(remote) => Some(Route::Remote(remote.clone())),
            Serves::Local(definitions) => definitions
                .binary_search_by(|d| d.plural.as_str().cmp(resource))
                .ok()
                .map(|i| Route::Local(definitions[i].clone())),
        }
    }

    pub fn version(&self, group: &str, version: &str) -> Option<&Arc<VersionEntry>> {
        self.versions.get(&GroupVersion::new(group, version))
    }

    /// The group `name`; the core group is `""`.
    pub fn group(&self, name: &str) -> Option<&Arc<Group>> {
        self.groups.iter().find(|g| g.name == name)
    }

    /// All groups in discovery's order, the core group included.
    pub fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// The definitions served here, in no particular order.
    pub fn definitions(&self) -> impl Iterator<Item = &Arc<ResourceDefinition>> {
        self.versions.values().flat_map(|v| match &v.serves {
            Serves::Local(definitions) => definitions.as_slice(),
            Serves::Remote(_) => &[],
        })
    }

    /// Plurals of definitions that a remote registration has taken the group-version of, by group-version.
    pub fn hidden(&self) -> &BTreeMap<GroupVersion, Vec<CompactString>> {
        &self.hidden
    }

    /// The local definition of a kind, in any version that `version` allows (empty: the preferred one).
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<ResourceDefinition>> {
        self.group(group)?
            .versions
            .iter()
            .filter(|v| version.is_empty() || v.group_version.version == version)
            .filter_map(|v| match &v.serves {
                Serves::Local(definitions) => definitions.iter().find(|d| d.kind == kind),
                Serves::Remote(_) => None,
            })
            .next()
    }

    /// `/apis`: `APIGroupList`.
    pub fn group_list(&self) -> &Document {
        self.documents
            .group_list
            .get_or_init(|| Document::plain(&legacy::group_list(&self.groups)))
    }

    /// `/apis/GROUP`: `APIGroup`.
    pub fn group_document(&self, name: &str) -> Option<Document> {
        self.group(name)
            .map(|group| Document::plain(&legacy::group_with_type(group)))
    }

    /// `/apis/GROUP/VERSION`: the `APIResourceList` of a group-version served here, or of one whose backend does not
    /// answer and that shall stay known.
    pub fn resource_list(&self, group: &str, version: &str) -> Option<&Document> {
        let entry = self.version(group, version)?;
        let gv = &entry.group_version;
        let make: &dyn Fn() -> Node = match &entry.serves {
            Serves::Local(definitions) if !definitions.is_empty() => &|| legacy::resource_list(gv, definitions),
            Serves::Remote(remote) if remote.from_memory() => &|| legacy::remembered_list(gv, &remote.resources),
            Serves::Local(_) | Serves::Remote(_) => return None,
        };
        Some(entry.resource_list.get_or_init(|| Document::plain(&make())))
    }

    /// `/api` or `/apis` as `APIGroupDiscoveryList`.
    pub fn aggregated(&self, core: bool) -> &Document {
        let cell = if core {
            &self.documents.aggregated_core
        } else {
            &self.documents.aggregated
        };
        cell.get_or_init(|| aggregated::list(self.groups.iter().filter(|g| g.name.is_empty() == core)))
    }

    /// `/openapi/v2`.
    pub fn openapi_v2(&self, components: &dyn Components) -> &Document {
        &self.whole_v2(components).document
    }

    /// Definitions that have another name in `/openapi/v2` than in their own server's document.
    pub fn renamed(&self, components: &dyn Components) -> &[Renamed] {
        &self.whole_v2(components).renamed
    }

    /// Backends' own definitions whose names mean something else elsewhere. Reads documents of backends: takes a while.
    pub fn schema_conflicts(&self, components: &dyn Components) -> Vec<SchemaConflict> {
        conflicts::of(self, components)
    }

    fn whole_v2(&self, components: &dyn Components) -> &openapi::v2::Whole {
        self.documents.openapi_v2.get_or_init(|| {
            let part = |entry: &VersionEntry| self.part_v2(entry, components);
            openapi::v2::document(&self.groups, &self.library, components, &part)
        })
    }

    /// A group-version's share of `/openapi/v2`.
    pub(crate) fn part_v2(&self, entry: &VersionEntry, components: &dyn Components) -> Arc<Part> {
        let make = || match &entry.serves {
            Serves::Local(definitions) => {
                openapi::v2::local(&entry.group_version, definitions, &self.library, components)
            }
            Serves::Remote(remote) => openapi::v2::remote(remote),
        };
        entry.openapi_v2.get_or_init(|| Arc::new(make())).clone()
    }

    /// `/openapi/v3`: the paths of all documents, each with its hash.
    pub fn openapi_v3_index(&self, components: &dyn Components) -> &Document {
        self.documents.openapi_v3_index.get_or_init(|| {
            let mut paths: Vec<String> = openapi::v3::ROOTS.iter().map(|p| (*p).to_owned()).collect();
            for group in &self.groups {
                if !group.name.is_empty() && group.is_built_in() {
                    paths.push(format!("apis/{}", group.name));
                }
                paths.extend(group.versions.iter().map(|v| v.path()));
            }
            let mut index = Node::map();
            for path in paths {
                if let Some(document) = self.openapi_v3(&path, components) {
                    let hash = document
                        .etag
                        .as_deref()
                        .unwrap_or_default()
                        .trim_matches('"')
                        .to_owned();
                    let url = format!("/openapi/v3/{path}?hash={hash}");
                    index.set_at(&["paths", &path, "serverRelativeURL"], url);
                }
            }
            Document::tagged(&index)
        })
    }

    /// `/openapi/v3/PATH`, with `path` as in the index: `api/v1`, `apis/apps/v1`, `version`.
    pub fn openapi_v3(&self, path: &str, components: &dyn Components) -> Option<Document> {
        let mut parts = path.split('/');
        let (group, version) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("api"), Some(version), None, None) => ("", version),
            (Some("apis"), Some(group), Some(version), None) => (group, version),
            (Some("apis"), Some(group), None, None) if !self.group(group).is_some_and(|g| g.is_built_in()) => {
                return None;
            }
            _ => return openapi::v3::root_document(path, components).map(|node| Document::tagged(&node)),
        };
        let entry = self.version(group, version)?;
        match &entry.serves {
            Serves::Local(definitions) if definitions.is_empty() => None,
            Serves::Local(definitions) => {
                let make = || {
                    let gv = &entry.group_version;
                    Document::tagged(&openapi::v3::document(gv, definitions, &self.library, components))
                };
                Some(entry.openapi_v3.get_or_init(make).clone())
            }
            Serves::Remote(remote) => {
                let (json, hash) = remote.openapi_v3.clone()?;
                let make = || Document::new(json, Some(format!("\"{hash}\"")));
                Some(entry.openapi_v3.get_or_init(make).clone())
            }
        }
    }
}

// === impl Group ===

impl Group {
    /// A group ranks as its highest registration does.
    fn priority(&self) -> i64 {
        self.versions.iter().map(|v| v.group_priority).max().unwrap_or(0)
    }

    /// Whether any version is served by built-in definitions.
    pub fn is_built_in(&self) -> bool {
        self.versions.iter().any(|v| match &v.serves {
            Serves::Local(definitions) => definitions.iter().any(|d| !d.is_custom()),
            Serves::Remote(_) => false,
        })
    }
}

// === impl VersionEntry ===

impl VersionEntry {
    fn new(group_version: GroupVersion, group_priority: i64, version_priority: i64, serves: Serves) -> VersionEntry {
        VersionEntry {
            group_version,
            group_priority,
            version_priority,
            serves,
            resource_list: OnceLock::new(),
            aggregated: OnceLock::new(),
            openapi_v3: OnceLock::new(),
            openapi_v2: OnceLock::new(),
            own_definitions: OnceLock::new(),
        }
    }

    /// Where its documents are found below `/` and `/openapi/v3/`.
    pub fn path(&self) -> String {
        let GroupVersion { group, version } = &self.group_version;
        if group.is_empty() {
            format!("api/{version}")
        } else {
            format!("apis/{group}/{version}")
        }
    }

    /// The entry of `previous` if it says the same, else this one.
    fn reusing(self, previous: Option<&RoutingSnapshot>) -> Arc<VersionEntry> {
        match previous.and_then(|p| p.versions.get(&self.group_version)) {
            Some(old) if old.same(&self) => old.clone(),
            _ => Arc::new(self),
        }
    }

    fn same(&self, other: &VersionEntry) -> bool {
        let served = match (&self.serves, &other.serves) {
            (Serves::Remote(a), Serves::Remote(b)) => Arc::ptr_eq(a, b),
            (Serves::Local(a), Serves::Local(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
            }
            _ => false,
        };
        served && self.group_priority == other.group_priority && self.version_priority == other.version_priority
    }
}

fn sorted(definitions: &[Arc<ResourceDefinition>]) -> Vec<Arc<ResourceDefinition>> {
    let mut definitions = definitions.to_vec();
    definitions.sort_by(|a, b| a.plural.cmp(&b.plural));
    definitions
}
