//! The built-in API groups.
//!
//! `openapi/` declares types and resources ([`declaration`] is its vocabulary); [`load`] makes [`Types`] and
//! [`ResourceDefinition`]s of it. What a declaration cannot say is a hook: one file a resource,
//! `src/<group>/<plural>.rs`, reached from the table in [`hooks`].

mod admissionregistration;
pub mod allocators;
mod apiextensions;
mod apiregistration;
mod apps;
pub mod auth;
mod autoscaling;
mod batch;
mod cells;
mod certificates;
pub mod conversion;
mod coordination;
mod core;
pub mod declaration;
mod definitions;
mod discovery;
pub mod enabled;
mod events;
mod flowcontrol;
mod gated;
mod gateway;
pub mod hooks;
mod networking;
mod node;
mod notes;
mod older;
mod peers;
mod pod_spec;
mod policy;
mod rbac;
pub mod registered;
mod resource;
mod resources;
mod scheduling;
mod storage;
mod types;
mod validation;
mod value;

pub use definitions::storage_version_hash;
pub use enabled::Enabled;
pub use hooks::Deps;
pub use types::Union;

use compact_str::{CompactString, format_compact};
use fairlead_api::GroupVersionKind;
use fairlead_codec::protobuf::Protobuf;
use fairlead_resource::ResourceDefinition;
use fairlead_schema::{TypeId, Types};
use std::collections::HashMap;
use std::sync::Arc;

/// Everything the built-in groups are.
pub struct Builtins {
    /// All types of all groups, in one table.
    pub types: Arc<Types>,
    /// Their protobuf form.
    pub protobuf: Arc<Protobuf>,
    /// In the order of the declarations: by group-version file, then as declared.
    pub definitions: Vec<Arc<ResourceDefinition>>,
    by_name: HashMap<CompactString, TypeId>,
    kinds: HashMap<CompactString, GroupVersionKind>,
    unions: HashMap<CompactString, Union>,
    granular: Vec<(CompactString, CompactString)>,
    /// By OpenAPI name and field, empty for the type itself.
    words: HashMap<(CompactString, CompactString), String>,
}

/// Reads the declarations and wires the hooks. Takes a few milliseconds.
pub fn load(deps: &Deps) -> Builtins {
    let files: Vec<declaration::Declaration> =
        serde_json::from_slice(include_bytes!(concat!(env!("OUT_DIR"), "/declarations.json")))
            .expect("the build wrote valid declarations");
    let mut table = types::Table::build(&files);
    let types = Arc::new(std::mem::take(&mut table.types));
    let mut by_name = HashMap::new();
    for (i, ty) in (0u32..).zip(&types.types).filter(|(_, ty)| !ty.name.is_empty()) {
        // The first is the declared one; granular copies come later.
        by_name.entry(ty.name.clone()).or_insert(TypeId(i));
    }
    let packages: HashMap<&str, &str> = files.iter().map(|f| (f.package.as_str(), f.path.as_str())).collect();
    let kinds: HashMap<CompactString, GroupVersionKind> = table
        .objects
        .iter()
        .filter_map(|id| {
            let name = &types.get(*id).name;
            let (package, kind) = name.rsplit_once('.')?;
            let mut gv = definitions::group_version(packages.get(package)?);
            if gv.group == "meta" {
                gv.group = CompactString::default();
            }
            Some((name.clone(), gv.kind(kind)))
        })
        .collect();
    let named = kinds.iter().filter_map(|(name, gvk)| Some((gvk, *by_name.get(name)?)));
    let protobuf = Arc::new(Protobuf::new(&types, named));
    let peers = peers::Peers::default();
    let mut definitions = definitions::build(&files, &table, &types, deps, &peers, &protobuf);
    peers.fill(&definitions);
    definitions.retain(|d| deps.enabled.serves(&d.group_version(), &d.plural));
    let unions = table
        .unions
        .iter()
        .map(|(id, union)| (types.get(*id).name.clone(), union.clone()))
        .collect();
    Builtins {
        types,
        protobuf,
        definitions,
        by_name,
        kinds,
        unions,
        granular: table.granular,
        words: files.iter().flat_map(own_words).collect(),
    }
}

/// The descriptions a declaration brings along.
fn own_words(file: &declaration::Declaration) -> impl Iterator<Item = ((CompactString, CompactString), String)> {
    file.words.0.iter().flat_map(move |(name, fields)| {
        fields.0.iter().map(move |(field, text)| {
            let name = format_compact!("{}.{name}", file.package);
            ((name, field.trim_start_matches('_').into()), text.clone())
        })
    })
}

impl Builtins {
    /// A type by its OpenAPI name: `io.k8s.api.core.v1.PodSpec`.
    pub fn type_id(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    /// The type of an object, by what its apiVersion and kind say; also for lists, options and `Status`.
    pub fn kind(&self, gvk: &GroupVersionKind) -> Option<TypeId> {
        let name = self.kinds.iter().find(|(_, known)| *known == gvk)?.0;
        self.type_id(name)
    }

    /// The apiVersion and kind of objects of a type, by its OpenAPI name. The meta types are in the core group's v1.
    pub fn gvk(&self, name: &str) -> Option<&GroupVersionKind> {
        self.kinds.get(name)
    }

    /// Whether OpenAPI shows `x-kubernetes-map-type: granular` at a field of a type.
    pub fn granular(&self, name: &str, field: &str) -> bool {
        self.granular.iter().any(|(n, f)| n == name && f == field)
    }

    /// The description a declaration gives of a field, or of the type itself.
    pub(crate) fn own_words(&self, name: &str, field: &str) -> Option<&str> {
        self.words.get(&(name.into(), field.into())).map(String::as_str)
    }

    /// `x-kubernetes-unions` of a type, by its OpenAPI name.
    pub fn union(&self, name: &str) -> Option<&Union> {
        self.unions.get(name)
    }
}
