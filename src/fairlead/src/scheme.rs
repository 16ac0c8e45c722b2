//! What the engine and OpenAPI ask about kinds besides the one a request is for.

use fairlead_api::{GroupVersionKind, Node};
use fairlead_builtin::{Builtins, registered};
use fairlead_codec::protobuf::Protobuf;
use fairlead_discovery::Router;
use fairlead_discovery::openapi::{Components, Version};
use fairlead_resource::Scheme;
use fairlead_schema::{OpenApi, Schema, TypeRef, open_api};
use std::sync::Arc;

/// The built-in kinds.
#[derive(Clone)]
pub struct BuiltinKinds(pub Arc<Builtins>);

/// The built-in kinds and, by the routes, the custom ones.
pub struct AllKinds {
    pub built_in: BuiltinKinds,
    pub router: Router,
}

impl Scheme for AllKinds {
    fn schema(&self, kind: &GroupVersionKind) -> Option<Schema> {
        let custom = || {
            Some(
                self.router
                    .load()
                    .kind(&kind.group, &kind.version, &kind.kind)?
                    .schema
                    .clone(),
            )
        };
        Scheme::schema(&self.built_in, kind).or_else(custom)
    }

    fn protobuf(&self) -> Option<&Protobuf> {
        self.built_in.protobuf()
    }

    fn name(&self, definition_kind: &GroupVersionKind) -> &str {
        self.built_in.name(definition_kind)
    }

    fn same(&self, one: &GroupVersionKind, other: &GroupVersionKind) -> bool {
        self.built_in.same(one, other)
    }
}

/// Where upstream's registries are declared: errors about unknown kinds name the place.
const LEGACY: &str = "pkg/api/legacyscheme/scheme.go:30";
const EXTENSIONS: &str = "pkg/apiserver/apiserver.go:55";

impl Scheme for BuiltinKinds {
    fn schema(&self, kind: &GroupVersionKind) -> Option<Schema> {
        // COMPAT: what is registered, but not served, is read as what came after it.
        let unserved = || self.0.kind(&registered::successor(kind)?);
        let root = self.0.kind(kind).or_else(unserved)?;
        Some(Schema {
            types: self.0.types.clone(),
            root,
        })
    }

    fn protobuf(&self) -> Option<&Protobuf> {
        Some(&self.0.protobuf)
    }

    fn name(&self, definition_kind: &GroupVersionKind) -> &str {
        match definition_kind.group.as_str() {
            "apiextensions.k8s.io" | "apiregistration.k8s.io" => EXTENSIONS,
            _ => LEGACY,
        }
    }

    fn same(&self, one: &GroupVersionKind, other: &GroupVersionKind) -> bool {
        registered::same(one, other)
    }
}

impl Components for BuiltinKinds {
    fn schema(&self, name: &str, version: Version) -> Option<Node> {
        let id = self.0.type_id(name)?;
        let version = match version {
            Version::V2 => OpenApi::V2,
            Version::V3 => OpenApi::V3,
        };
        Some(open_api(
            TypeRef {
                types: &self.0.types,
                id,
            },
            version,
            &*self.0,
        ))
    }
}
