//! Schemas of backends whose names mean something else elsewhere, as far as somebody should do something about it.
//!
//! `/openapi/v2` has one name space, in which [`merge`](super::merge) renames whatever collides. Most of what it renames are
//! copies of the Kubernetes libraries' types, of another release in every backend: they are nobody's fault and not told. What
//! is left are types of a backend's own that another backend, or a custom resource, means differently.

use super::merge::{Part, Section};
use super::{Components, Version, custom, v2};
use crate::snapshot::{RoutingSnapshot, Serves, VersionEntry};
use compact_str::CompactString;
use fairlead_api::GroupVersion;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A definition that is renamed in `/openapi/v2`, because its name has another meaning already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaConflict {
    /// Whose definition is renamed.
    pub api_service: CompactString,
    pub name: CompactString,
    pub keeper: Keeper,
}

/// Whose definition keeps its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeper {
    ApiService(CompactString),
    /// The custom resources of a group-version.
    Custom(GroupVersion),
}

impl std::fmt::Display for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Keeper::ApiService(name) => f.write_str(name),
            Keeper::Custom(gv) => write!(f, "the custom resources of {gv}"),
        }
    }
}

/// Types of the libraries that Kubernetes API servers are made of.
const LIBRARIES: [&str; 7] = [
    "io.k8s.api.",
    "io.k8s.apiextensions-apiserver.",
    "io.k8s.apimachinery.",
    "io.k8s.apiserver.",
    "io.k8s.client-go.",
    "io.k8s.component-base.",
    "io.k8s.kube-aggregator.",
];

/// All conflicts, by APIService in the order of the merge, then by name.
///
/// Each remote group-version's document is read once and not kept. It may be large: not to be called where requests are
/// answered.
pub(crate) fn of(snapshot: &RoutingSnapshot, components: &dyn Components) -> Vec<SchemaConflict> {
    let versions = || snapshot.groups().iter().flat_map(|g| &g.versions);
    let remote = versions().filter_map(|entry| match &entry.serves {
        Serves::Remote(remote) => Some((&remote.api_service, own(entry, components))),
        Serves::Local(_) => None,
    });
    let remote: Vec<(&CompactString, Arc<Section>)> = remote.collect();
    let names: BTreeSet<&CompactString> = remote.iter().flat_map(|(_, section)| section.keys()).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let mut taken = BTreeMap::new();
    for entry in versions() {
        for (name, part) in custom_definitions(snapshot, entry, &names, components) {
            if let Some(definition) = part.definitions.get(&name) {
                let keeper = Keeper::Custom(entry.group_version.clone());
                taken.entry(name).or_insert_with(|| (definition.clone(), keeper));
            }
        }
    }
    let mut conflicts = Vec::new();
    for (api_service, section) in &remote {
        for (name, definition) in section.iter() {
            match taken.get(name) {
                Some((kept, keeper)) if !kept.same(definition) => conflicts.push(SchemaConflict {
                    api_service: (*api_service).clone(),
                    name: name.clone(),
                    keeper: keeper.clone(),
                }),
                Some(_) => {}
                None => {
                    let keeper = Keeper::ApiService((*api_service).clone());
                    taken.insert(name.clone(), (definition.clone(), keeper));
                }
            }
        }
    }
    conflicts
}

/// What a backend defines that is not of the libraries.
fn own(entry: &VersionEntry, components: &dyn Components) -> Arc<Section> {
    let make = || {
        let Serves::Remote(remote) = &entry.serves else {
            return Arc::default();
        };
        let part = match entry.openapi_v2.get() {
            Some(part) => part.clone(),
            None => Arc::new(v2::remote(remote)),
        };
        let own = part.definitions.iter().filter(|(name, _)| !is_shared(name, components));
        Arc::new(
            own.map(|(name, definition)| (name.clone(), definition.clone()))
                .collect(),
        )
    };
    entry.own_definitions.get_or_init(make).clone()
}

fn is_shared(name: &str, components: &dyn Components) -> bool {
    LIBRARIES.iter().any(|library| name.starts_with(library)) || components.schema(name, Version::V2).is_some()
}

/// Those of `names` that custom resources of a group-version have too, with what says what they are.
fn custom_definitions(
    snapshot: &RoutingSnapshot,
    entry: &VersionEntry,
    names: &BTreeSet<&CompactString>,
    components: &dyn Components,
) -> Vec<(CompactString, Arc<Part>)> {
    let Serves::Local(definitions) = &entry.serves else {
        return Vec::new();
    };
    let custom = definitions.iter().filter(|d| d.is_custom());
    let made = custom.flat_map(|d| [&d.kind, &d.list_kind].map(|kind| custom::name(&d.group, &d.version, kind)));
    let both = made.map(CompactString::from).filter(|name| names.contains(name));
    let both: Vec<CompactString> = both.collect();
    if both.is_empty() {
        return Vec::new();
    }
    let part = snapshot.part_v2(entry, components);
    both.into_iter().map(|name| (name, part.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::registration;
    use crate::snapshot::{Registration, RemoteGroupVersion};
    use fairlead_api::{Node, node};

    /// A server that has one type of its own.
    struct OneType;

    impl Components for OneType {
        fn schema(&self, name: &str, _: Version) -> Option<Node> {
            (name == "org.example.Known").then(|| node!({"type": "object"}))
        }
    }

    /// A backend whose one path refers to these definitions.
    fn backend(group: &str, definitions: &[(&str, &str)]) -> Registration {
        let mut document = node!({"swagger": "2.0"});
        let path = format!("/apis/{group}/v1/things");
        let references = definitions
            .iter()
            .map(|(name, _)| node!({"$ref": (format!("#/definitions/{name}"))}));
        document.set_at(&["paths", &path, "get", "schemas"], references.collect::<Vec<_>>());
        for (name, kind) in definitions {
            document.set_at(&["definitions", name], node!({"type": (*kind), "description": group}));
        }
        let remote = RemoteGroupVersion {
            openapi_v2: Some(fairlead_api::json::to_vec(&document).into()),
            ..RemoteGroupVersion::default()
        };
        registration(group, remote)
    }

    fn conflicts(registrations: &[Registration]) -> Vec<String> {
        let snapshot = RoutingSnapshot::build(None, &[], registrations);
        let told = snapshot.schema_conflicts(&OneType);
        // Whether parts of the document have been made already makes no difference.
        snapshot.openapi_v2(&OneType);
        let again = RoutingSnapshot::build(Some(&snapshot), &[], registrations).schema_conflicts(&OneType);
        assert_eq!(told, again);
        let told = told
            .iter()
            .map(|c| format!("{}: {} ({})", c.api_service, c.name, c.keeper));
        told.collect()
    }

    #[test]
    fn types_of_the_libraries_are_nobodys_fault() {
        let types = |kind| {
            [
                ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", kind),
                ("io.k8s.api.core.v1.Toleration", kind),
                ("org.example.Known", kind),
            ]
        };
        let all = [backend("a", &types("object")), backend("b", &types("string"))];
        assert_eq!(RoutingSnapshot::build(None, &[], &all).renamed(&OneType).len(), 3);
        assert_eq!(conflicts(&all), [""; 0]);
    }

    #[test]
    fn who_comes_first_keeps_the_name() {
        let all = [
            backend("a", &[("org.example.Own", "object"), ("org.example.Same", "string")]),
            backend("b", &[("org.example.Own", "string"), ("org.example.Same", "string")]),
            backend("c", &[("org.example.Own", "string")]),
        ];
        assert_eq!(
            conflicts(&all),
            ["v1.b: org.example.Own (v1.a)", "v1.c: org.example.Own (v1.a)"]
        );
        assert_eq!(conflicts(&all[1..]), [""; 0]);
    }
}
