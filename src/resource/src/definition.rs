//! [`ResourceDefinition`]: a resource as data. A declaration under `openapi/` and a CRD both become this.

use crate::at_rest::AtRest;
use crate::hooks::Hooks;
use compact_str::CompactString;
use fairlead_api::{
    GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource, Node, StatusResult,
};
use fairlead_schema::Schema;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// One served version of one resource.
#[derive(Clone)]
pub struct ResourceDefinition {
    pub group: CompactString,
    pub version: CompactString,
    pub kind: CompactString,
    pub list_kind: CompactString,
    /// The path word.
    pub plural: CompactString,
    pub singular: CompactString,
    pub short_names: Vec<CompactString>,
    pub categories: Vec<CompactString>,
    pub scope: Scope,
    /// What the resource itself can do, in discovery's order (sorted).
    pub verbs: Vec<Verb>,
    pub subresources: Vec<Subresource>,
    /// Of the objects in this version.
    pub schema: Schema,
    /// Of all versions of a custom resource, served or not; empty for built-in kinds.
    pub schemas: Arc<[(CompactString, Schema)]>,
    pub columns: Vec<Column>,
    /// Fields that field selectors may name, besides `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Vec<SelectableField>,
    pub storage: StorageSpec,
    pub conversion: Conversion,
    pub origin: Origin,
    /// Whether `metadata.generation` counts changes of everything outside metadata and status.
    pub generation: bool,
    /// Whether updates may omit resourceVersion (they then overwrite unconditionally).
    pub unconditional_update: bool,
    /// Whether PUT to a name that does not exist creates it.
    pub create_on_update: bool,
    /// Sent with every answer, e.g. a deprecation.
    pub warning: Option<String>,
    /// A custom resource's `openAPIV3Schema` as its author wrote it, for publication.
    pub openapi: Option<Arc<Node>>,
    pub hooks: Arc<dyn Hooks>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// Request verbs, as authorization and metrics name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

#[derive(Clone, Debug)]
pub struct Subresource {
    pub name: CompactString,
    /// Of the body and the answer, e.g. `autoscaling/v1 Scale`.
    pub kind: GroupVersionKind,
    pub verbs: Vec<Verb>,
    pub behavior: SubresourceBehavior,
    /// Of bodies whose kind differs from the resource's; `None` where it is the resource's own.
    pub schema: Option<Schema>,
}

#[derive(Clone, Debug)]
pub enum SubresourceBehavior {
    /// Reads and writes `status` of the object itself; everything else is left as it was.
    Status,
    /// A view of the object as `autoscaling/v1 Scale`. Paths as in a CRD: `.spec.replicas`; the selector path may be empty.
    Scale {
        spec_replicas: CompactString,
        status_replicas: CompactString,
        label_selector: CompactString,
    },
    /// Served by [`Hooks::serve`].
    Custom,
}

/// A printer column; the cells come from `json_path`, or from [`Hooks::row`] where a path cannot say it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    pub name: CompactString,
    /// `string`, `integer`, `number`, `boolean`, `date`.
    pub type_name: CompactString,
    pub format: CompactString,
    pub description: String,
    pub priority: i64,
    /// As in a CRD: `.spec.replicas`. Empty: the hook fills it.
    pub json_path: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SelectableField {
    /// As clients write it: `status.phase`.
    pub name: CompactString,
    /// As in a CRD: `.status.phase`.
    pub json_path: String,
    /// What an absent value reads as.
    pub default: CompactString,
}

/// Where objects live. Shared by all versions of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageSpec {
    /// Of all its keys: `/configmaps/`.
    pub prefix: String,
    /// The type objects are stored as.
    pub kind: GroupVersionKind,
    /// Resources with one prefix and one cache: the first definition's group-resource.
    pub owner: GroupResource,
    /// As discovery shows it: of group, version and kind. Empty for what is not stored.
    pub version_hash: CompactString,
    /// How long objects live (Events); zero for ever.
    pub lifetime_seconds: u64,
    /// How values are written and read; `None` for JSON and nothing else.
    pub at_rest: Option<AtRest>,
}

/// How objects change between the stored version and this definition's version.
#[derive(Clone)]
pub enum Conversion {
    /// Only `apiVersion` differs, or nothing.
    None,
    /// `convert(object, to_version)` in place. Never fails for what validation accepted.
    Builtin(fn(&mut Node, &str)),
    Webhook(Arc<dyn Converter>),
}

/// Converts objects by asking someone else.
pub trait Converter: Send + Sync {
    /// Converts all objects to `api_version`; the answer has as many, in the same order.
    fn convert<'a>(&'a self, objects: Vec<Node>, api_version: &'a str) -> BoxFuture<'a, StatusResult<Vec<Node>>>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    BuiltIn,
    /// The name of the CustomResourceDefinition.
    Custom(CompactString),
}

impl ResourceDefinition {
    /// The schema of another version of a custom resource.
    pub fn schema_of(&self, version: &str) -> Option<&Schema> {
        let mut schemas = self.schemas.iter();
        schemas.find(|(name, _)| name == version).map(|(_, schema)| schema)
    }

    pub fn group_version(&self) -> GroupVersion {
        GroupVersion {
            group: self.group.clone(),
            version: self.version.clone(),
        }
    }

    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind {
            group: self.group.clone(),
            version: self.version.clone(),
            kind: self.kind.clone(),
        }
    }

    /// Whether objects are read and shown as by another definition: a cache of the one serves the other as well, and watches
    /// go on. What may be done to them can differ.
    pub fn reads_like(&self, other: &ResourceDefinition) -> bool {
        let converts = |d: &ResourceDefinition| matches!(d.conversion, Conversion::Webhook(_));
        self.gvk() == other.gvk()
            && (self.scope, &self.plural, &self.storage) == (other.scope, &other.plural, &other.storage)
            && self.openapi == other.openapi
            && (&self.columns, &self.selectable_fields) == (&other.columns, &other.selectable_fields)
            && !converts(self)
            && !converts(other)
    }

    pub fn gvr(&self) -> GroupVersionResource {
        self.group_version().resource(&self.plural)
    }

    /// The group and kind that messages about an invalid object name.
    pub fn invalid_kind(&self, object: &Node) -> GroupKind {
        // COMPAT: of custom resources the kind that the object says it is, even where that is what is wrong.
        if self.is_custom() {
            return GroupKind {
                group: self.group.clone(),
                kind: object.str("kind").into(),
            };
        }
        let group = self.hooks.group_in_errors().map(CompactString::from);
        GroupKind {
            group: group.unwrap_or_else(|| self.group.clone()),
            kind: self.kind.clone(),
        }
    }

    pub fn group_kind(&self) -> GroupKind {
        GroupKind {
            group: self.group.clone(),
            kind: self.kind.clone(),
        }
    }

    pub fn group_resource(&self) -> GroupResource {
        GroupResource {
            group: self.group.clone(),
            resource: self.plural.clone(),
        }
    }

    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether there are objects of this resource: not of those that are only asked (reviews).
    pub fn is_stored(&self) -> bool {
        !self.storage.prefix.is_empty()
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether what this path answers can be shown as a Table: lists and what they are of, and views of those.
    pub fn prints(&self, subresource: &str) -> bool {
        if self.is_custom() {
            return true;
        }
        match self.subresource(subresource).map(|s| &s.behavior) {
            None => self.verbs.contains(&Verb::List),
            Some(SubresourceBehavior::Status) => self.hooks.prints_status(),
            Some(SubresourceBehavior::Scale { .. }) => true,
            Some(SubresourceBehavior::Custom) => false,
        }
    }

    pub fn is_custom(&self) -> bool {
        matches!(self.origin, Origin::Custom(_))
    }
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Patch => "patch",
            Verb::Update => "update",
            Verb::Watch => "watch",
        }
    }
}
