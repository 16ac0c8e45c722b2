//! From a compiled type to its OpenAPI schema, v2 and v3, as kube-apiserver publishes its Go types.
//!
//! One type at a time, others by reference: recursion in types costs nothing here. Source of the rules:
//! kube-openapi pkg/generators (defaults, extensions) and pkg/builder, pkg/builder3.

use crate::types::{Field, ListSemantics, Shape, Type, TypeRef};
use fairlead_api::{GroupVersionKind, Map, Node, node};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenApi {
    V2,
    V3,
}

/// What OpenAPI shows about types beside the types themselves. Types go by their names, `io.k8s.api.core.v1.PodSpec`.
pub trait TypeNotes {
    /// The description of a field, or of the type where `field` is empty.
    fn words(&self, name: &str, field: &str) -> Option<&str> {
        let _ = (name, field);
        None
    }

    /// The kinds that objects of this type have, as a document of this version lists them.
    fn kinds(&self, name: &str, version: OpenApi) -> Vec<GroupVersionKind> {
        let _ = (name, version);
        Vec::new()
    }

    /// `x-kubernetes-unions`.
    fn unions(&self, name: &str) -> Option<Node> {
        let _ = name;
        None
    }

    /// Whether `x-kubernetes-map-type: granular` was said of a field.
    fn granular(&self, name: &str, field: &str) -> bool {
        let _ = (name, field);
        false
    }
}

/// Types and nothing else.
pub struct NoNotes;

impl TypeNotes for NoNotes {}

impl OpenApi {
    /// What stands before a schema's name in a reference.
    pub fn prefix(self) -> &'static str {
        match self {
            OpenApi::V2 => "#/definitions/",
            OpenApi::V3 => "#/components/schemas/",
        }
    }
}

/// The schema of a named type: a v2 definition or a v3 component.
pub fn open_api(schema: TypeRef, version: OpenApi, notes: &dyn TypeNotes) -> Node {
    let ty = schema.ty();
    let mut out = inline(ty, version);
    if let Shape::Struct(fields) = &ty.shape {
        let mut declared: Vec<&Field> = fields.fields.iter().collect();
        declared.sort_by_key(|f| f.order);
        out.set("type", "object");
        let required: Vec<Node> = declared
            .iter()
            .filter(|f| f.required)
            .map(|f| Node::String(f.name.clone()))
            .collect();
        if !required.is_empty() {
            out.set("required", required);
        }
        if !declared.is_empty() {
            let properties: Map = declared
                .iter()
                .map(|f| (f.name.clone(), property(schema, &ty.name, f, version, notes)))
                .collect();
            out.set("properties", properties);
        }
    }
    if ty.atomic {
        out.set("x-kubernetes-map-type", "atomic");
    }
    if let Some(unions) = notes.unions(&ty.name) {
        out.set("x-kubernetes-unions", unions);
    }
    let kinds: Vec<Node> = notes.kinds(&ty.name, version).iter().map(kind).collect();
    if !kinds.is_empty() {
        out.set("x-kubernetes-group-version-kind", kinds);
    }
    if let Some(words) = notes.words(&ty.name, "") {
        out.set("description", words);
    }
    out
}

/// The names of the types that a type refers to, with repeats.
pub fn referenced<'a>(schema: TypeRef<'a>) -> Vec<&'a str> {
    let Shape::Struct(fields) = schema.shape() else {
        return Vec::new();
    };
    fields.fields.iter().filter_map(|f| target(schema.with(f.ty))).collect()
}

fn target(schema: TypeRef<'_>) -> Option<&str> {
    match schema.shape() {
        // A list or map in a list or map, and so on: declared types nest no deeper than they are written.
        Shape::List(inner) | Shape::Map(inner) => target(schema.with(*inner)),
        _ => Some(schema.ty().name.as_str()).filter(|name| !name.is_empty()),
    }
}

fn kind(gvk: &GroupVersionKind) -> Node {
    let mut out = Node::map();
    out.set("group", gvk.group.clone());
    out.set("version", gvk.version.clone());
    out.set("kind", gvk.kind.clone());
    out
}

fn property(schema: TypeRef, owner: &str, field: &Field, version: OpenApi, notes: &dyn TypeNotes) -> Node {
    let ty = schema.types.get(field.ty);
    let words = notes.words(owner, &field.name);
    let mut out = usage(schema.with(field.ty), version);
    let default = if version == OpenApi::V3 {
        default_of(field, ty)
    } else {
        None
    };
    // In v3 nothing may stand beside a reference.
    if version == OpenApi::V3 && out.get("$ref").is_some() && (default.is_some() || words.is_some()) {
        let mut around = Node::map();
        around.set("allOf", vec![out]);
        out = around;
    }
    if let Some(words) = words {
        out.set("description", words);
    }
    if let Some(default) = default {
        out.set("default", default);
    }
    if matches!(ty.shape, Shape::List(_) | Shape::Bytes) && ty.list_declared {
        let name = match &ty.list {
            ListSemantics::Atomic => "atomic",
            ListSemantics::Set => "set",
            ListSemantics::Map { keys } => {
                let keys: Vec<Node> = keys.iter().map(|k| Node::String(k.clone())).collect();
                out.set("x-kubernetes-list-map-keys", keys);
                "map"
            }
        };
        out.set("x-kubernetes-list-type", name);
    }
    if notes.granular(owner, &field.name) {
        out.set("x-kubernetes-map-type", "granular");
    }
    if matches!(ty.shape, Shape::Map(_)) && ty.atomic {
        out.set("x-kubernetes-map-type", "atomic");
    }
    if !field.patch_merge_key.is_empty() {
        out.set("x-kubernetes-patch-merge-key", field.patch_merge_key.clone());
    }
    let strategies = [
        (field.patch.merge, "merge"),
        (field.patch.replace, "replace"),
        (field.patch.retain_keys, "retainKeys"),
    ];
    let strategies: Vec<&str> = strategies
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, name)| name)
        .collect();
    if !strategies.is_empty() {
        out.set("x-kubernetes-patch-strategy", strategies.join(","));
    }
    out
}

/// A declared default, or the zero value that Go always writes. Times and the like have none, though they are structs.
fn default_of(field: &Field, ty: &Type) -> Option<Node> {
    if let Some(default) = &field.default {
        return Some(default.clone());
    }
    if field.pointer {
        return None;
    }
    match ty.shape {
        Shape::Struct(_) => Some(Node::map()),
        _ if field.omit_empty => None,
        Shape::String => Some("".into()),
        Shape::Int { .. } | Shape::Float => Some(Node::Int(0)),
        Shape::Bool => Some(Node::Bool(false)),
        _ => None,
    }
}

/// A type where it is used: named ones by reference.
fn usage(schema: TypeRef, version: OpenApi) -> Node {
    let ty = schema.ty();
    match &ty.shape {
        Shape::List(items) => {
            let mut out = node!({"type": "array"});
            out.set("items", usage(schema.with(*items), version));
            out
        }
        Shape::Map(values) => {
            let mut out = node!({"type": "object"});
            out.set("additionalProperties", usage(schema.with(*values), version));
            out
        }
        _ if !ty.name.is_empty() => {
            let mut out = Node::map();
            out.set("$ref", format!("{}{}", version.prefix(), ty.name));
            out
        }
        _ => inline(ty, version),
    }
}

fn inline(ty: &Type, version: OpenApi) -> Node {
    let mut out = match (&ty.shape, version) {
        (Shape::Bool, _) => node!({"type": "boolean"}),
        (Shape::Int { bits: 32 }, _) => node!({"type": "integer", "format": "int32"}),
        (Shape::Int { .. }, _) => node!({"type": "integer", "format": "int64"}),
        (Shape::Float, _) => node!({"type": "number", "format": "double"}),
        (Shape::String, _) => node!({"type": "string"}),
        (Shape::Bytes, _) => node!({"type": "string", "format": "byte"}),
        (Shape::Quantity | Shape::Duration, OpenApi::V2) | (Shape::Duration, OpenApi::V3) => node!({"type": "string"}),
        (Shape::Quantity, OpenApi::V3) => node!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        (Shape::IntOrString, OpenApi::V2) => node!({"type": "string", "format": "int-or-string"}),
        (Shape::IntOrString, OpenApi::V3) => {
            node!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        (Shape::Time | Shape::MicroTime, _) => node!({"type": "string", "format": "date-time"}),
        // COMPAT: apiextensions' `JSON` and its unions of a schema and something else say nothing about themselves.
        (Shape::Any, _) if ty.name.contains("JSON") => Node::map(),
        (Shape::Any, _) => node!({"type": "object"}),
        (Shape::List(_) | Shape::Map(_) | Shape::Struct(_), _) => Node::map(),
    };
    if let Some(validation) = ty.validation.as_deref().filter(|v| !v.enumeration.is_empty()) {
        out.set("enum", validation.enumeration.clone());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_types::pod;

    struct Notes;

    impl TypeNotes for Notes {
        fn words(&self, name: &str, field: &str) -> Option<&str> {
            matches!((name.ends_with("Pod"), field), (true, "metadata" | "")).then_some("About it.")
        }

        fn kinds(&self, name: &str, _: OpenApi) -> Vec<GroupVersionKind> {
            if name.ends_with("Pod") {
                vec![GroupVersionKind::new("", "v1", "Pod")]
            } else {
                Vec::new()
            }
        }
    }

    #[test]
    fn both_versions_show_what_they_can() {
        let schema = pod();
        let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
        let v3 = open_api(schema.root(), OpenApi::V3, &Notes);
        let mut expected = node!({"description": "About it.", "default": {}, "allOf": [{}]});
        expected.at_mut(&["allOf"]).unwrap().as_list_mut().unwrap()[0]
            .set("$ref", format!("#/components/schemas/{meta}"));
        assert_eq!(v3.at(&["properties", "metadata"]), Some(&expected));
        assert_eq!(
            v3.list("x-kubernetes-group-version-kind"),
            [node!({"group": "", "version": "v1", "kind": "Pod"})]
        );
        let v2 = open_api(schema.root(), OpenApi::V2, &Notes);
        let mut expected = node!({"description": "About it."});
        expected.set("$ref", format!("#/definitions/{meta}"));
        assert_eq!(v2.at(&["properties", "metadata"]), Some(&expected));
        let spec = open_api(schema.root().member("spec").unwrap(), OpenApi::V3, &NoNotes);
        assert_eq!(
            spec.at(&["properties", "containers", "x-kubernetes-list-map-keys"]),
            Some(&node!(["name"]))
        );
        assert_eq!(
            spec.at(&["properties", "restartPolicy"]),
            Some(&node!({"type": "string"}))
        );
        assert_eq!(spec.get("required"), Some(&node!(["containers"])));
        assert!(referenced(schema.root()).contains(&meta));
    }
}
