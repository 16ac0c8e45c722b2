//! Makes the resource definitions of all declarations.

use crate::declaration::{Column as DeclaredColumn, Declaration, Resource, Selectable, Verbs};
use crate::hooks::{self, Deps};
use crate::peers::Peers;
use crate::types::Table;
use crate::{conversion, declaration, older};
use base64::Engine as _;
use compact_str::{CompactString, ToCompactString, format_compact};
use fairlead_api::{GroupResource, GroupVersion, GroupVersionKind};
use fairlead_codec::protobuf::Protobuf;
use fairlead_resource::at_rest::{AtRest, Form};
use fairlead_resource::definition::{Column, Origin, SelectableField, StorageSpec};
use fairlead_resource::{ResourceDefinition, Scope, Subresource, SubresourceBehavior, Verb};
use fairlead_schema::{Schema, Types};
use sha2::{Digest, Sha256};
use std::sync::Arc;

pub fn build(
    files: &[Declaration],
    table: &Table,
    types: &Arc<Types>,
    deps: &Deps,
    peers: &Peers,
    protobuf: &Arc<Protobuf>,
) -> Vec<Arc<ResourceDefinition>> {
    let mut definitions = Vec::new();
    for file in files {
        for (plural, resource) in &file.resources.0 {
            let source = Source {
                files,
                file,
                table,
                types,
                peers,
                protobuf,
            };
            definitions.push(Arc::new(source.definition(plural, resource, deps)));
        }
    }
    definitions
}

/// One declaration among the others.
struct Source<'a> {
    files: &'a [Declaration],
    file: &'a Declaration,
    table: &'a Table,
    types: &'a Arc<Types>,
    peers: &'a Peers,
    protobuf: &'a Arc<Protobuf>,
}

impl Source<'_> {
    fn definition(&self, plural: &str, resource: &Resource, deps: &Deps) -> ResourceDefinition {
        let gv = group_version(&self.file.path);
        let kind = resource.kind.as_str();
        ResourceDefinition {
            group: gv.group.clone(),
            version: gv.version.clone(),
            kind: kind.into(),
            list_kind: format_compact!("{kind}List"),
            plural: plural.into(),
            singular: match resource.singular.as_str() {
                "" => kind.to_lowercase().into(),
                singular => singular.into(),
            },
            short_names: resource.short.iter().map(Into::into).collect(),
            categories: resource.categories.iter().map(Into::into).collect(),
            scope: if resource.scope == "Namespaced" {
                Scope::Namespaced
            } else {
                Scope::Cluster
            },
            verbs: match &resource.verbs {
                Verbs::Word(_) => ALL_VERBS.to_vec(),
                Verbs::List(names) => names.iter().map(|n| verb(n)).collect(),
            },
            subresources: resource
                .subresources
                .0
                .iter()
                .map(|(n, s)| self.subresource(n, s, &gv, kind))
                .collect(),
            schema: self
                .schema(kind)
                .unwrap_or_else(|| panic!("openapi: {plural} has an undeclared kind {kind}")),
            columns: resource.columns.iter().map(|c| self.column(c)).collect(),
            selectable_fields: resource.selectable.iter().map(selectable).collect(),
            storage: self.storage(plural, resource, &gv, deps.form),
            conversion: conversion::of(&gv.group, plural),
            origin: Origin::BuiltIn,
            generation: resource.generation,
            unconditional_update: resource.unconditional_update,
            create_on_update: resource.create_on_update,
            schemas: Arc::new([]),
            openapi: None,
            warning: (!resource.warning.is_empty()).then(|| resource.warning.clone()),
            hooks: hooks::of(&gv.group, plural, deps, self.peers),
        }
    }

    fn schema(&self, name: &str) -> Option<Schema> {
        let root = self.table.find(&self.file.path, name)?;
        Some(Schema {
            types: self.types.clone(),
            root,
        })
    }

    fn subresource(
        &self,
        name: &str,
        declared: &declaration::Subresource,
        gv: &GroupVersion,
        kind: &str,
    ) -> Subresource {
        let (gvk, schema) = match declared.kind.as_str() {
            "" => (gv.kind(kind), None),
            other => {
                let (gv, short) = match other.rsplit_once('.') {
                    Some((path, short)) => (group_version(path), short),
                    None => (gv.clone(), other),
                };
                (gv.kind(short), self.schema(other))
            }
        };
        let verbs = match &declared.verbs[..] {
            [] => vec![Verb::Get, Verb::Patch, Verb::Update],
            names => names.iter().map(|n| verb(n)).collect(),
        };
        let behavior = match name {
            "status" => SubresourceBehavior::Status,
            "scale" => SubresourceBehavior::Scale {
                spec_replicas: declared.replicas.as_str().into(),
                status_replicas: declared.current.as_str().into(),
                label_selector: declared.selector.as_str().into(),
            },
            _ => SubresourceBehavior::Custom,
        };
        Subresource {
            name: name.into(),
            kind: gvk,
            verbs,
            behavior,
            schema,
        }
    }

    fn column(&self, declared: &DeclaredColumn) -> Column {
        let meta = |field: &str| self.word(&format!("meta/v1.ObjectMeta.{field}"));
        let (name, type_name, format, field) = match declared {
            DeclaredColumn::Word(word) => match word.as_str() {
                "name" => ("Name", "string", "name", "name"),
                "age" => ("Age", "string", "", "creationTimestamp"),
                "created" => ("Created At", "date", "", "creationTimestamp"),
                other => panic!("openapi: no column is called {other}"),
            },
            DeclaredColumn::Full {
                name,
                type_name,
                format,
                priority,
                path,
                about,
                word,
            } => {
                return Column {
                    name: name.into(),
                    type_name: if type_name.is_empty() {
                        "string".into()
                    } else {
                        type_name.into()
                    },
                    format: format.into(),
                    description: if word.is_empty() {
                        about.clone()
                    } else {
                        self.word(word)
                    },
                    priority: *priority,
                    json_path: path.clone(),
                };
            }
        };
        Column {
            name: name.into(),
            type_name: type_name.into(),
            format: format.into(),
            description: meta(field),
            priority: 0,
            json_path: format!(".metadata.{field}"),
        }
    }

    /// The description of a field given as `ConfigMap.data` or `meta/v1.ObjectMeta.name`.
    fn word(&self, reference: &str) -> String {
        let (name, field) = reference.rsplit_once('.').unwrap_or((reference, ""));
        let (path, name) = name.rsplit_once('.').unwrap_or((&self.file.path, name));
        let Some(file) = self.files.iter().find(|f| f.path == path) else {
            return String::new();
        };
        let text = fairlead_words::word(&format!("{}.{name}", file.package), field).unwrap_or_default();
        // OpenAPI appends the known values, a table does not.
        text.split("\n\nPossible enum values")
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    fn storage(&self, plural: &str, resource: &Resource, gv: &GroupVersion, form: Form) -> StorageSpec {
        let stored = |path: &str| {
            if path.is_empty() {
                gv.clone()
            } else {
                group_version(path)
            }
        };
        let kind = stored(&resource.stored).kind(&resource.kind);
        let hashed = stored(if resource.hashed.is_empty() {
            &resource.stored
        } else {
            &resource.hashed
        });
        let owner_group = if resource.stored.is_empty() {
            gv.group.clone()
        } else {
            kind.group.clone()
        };
        StorageSpec {
            prefix: resource.prefix.clone(),
            version_hash: match resource.prefix.as_str() {
                "" => CompactString::default(),
                _ => storage_version_hash(&hashed.kind(&resource.kind)),
            },
            kind,
            owner: GroupResource {
                group: owner_group,
                resource: plural.into(),
            },
            lifetime_seconds: resource.lifetime_seconds,
            at_rest: Some(AtRest {
                form: older::form(&gv.group, form),
                protobuf: self.protobuf.clone(),
                types: self.types.clone(),
                written_as: older::of(&gv.group, plural),
            }),
        }
    }
}

/// As in discovery (kubernetes/apiserver pkg/endpoints/discovery/storageversionhash.go).
pub fn storage_version_hash(gvk: &GroupVersionKind) -> CompactString {
    let digest = Sha256::digest(format!("{}/{}/{}", gvk.group, gvk.version, gvk.kind));
    base64::engine::general_purpose::STANDARD
        .encode(&digest[..8])
        .to_compact_string()
}

/// The group-version a declaration's path stands for: `core/v1` is the core group.
pub fn group_version(path: &str) -> GroupVersion {
    let (group, version) = path.rsplit_once('/').unwrap_or(("", path));
    GroupVersion {
        group: if group == "core" { "".into() } else { group.into() },
        version: version.into(),
    }
}

fn selectable(declared: &Selectable) -> SelectableField {
    let (name, path, default) = match declared {
        Selectable::Name(name) => (name, "", ""),
        Selectable::Field { name, path, default } => (name, path.as_str(), default.as_str()),
    };
    let json_path = if path.is_empty() {
        format!(".{name}")
    } else {
        path.to_owned()
    };
    SelectableField {
        name: name.into(),
        json_path,
        default: default.into(),
    }
}

const ALL_VERBS: [Verb; 8] = [
    Verb::Create,
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Update,
    Verb::Watch,
];

fn verb(name: &str) -> Verb {
    ALL_VERBS
        .into_iter()
        .find(|v| v.as_str() == name)
        .unwrap_or_else(|| panic!("openapi: no verb is called {name}"))
}
