//! The compiled schema: a table of [`Type`]s that refer to each other by index, so that recursion costs nothing.

use crate::pattern::Pattern;
use compact_str::CompactString;
use fairlead_api::Node;
use std::sync::Arc;

/// An index into [`Types`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub u32);

/// All types of one definition (a CRD version) or of all built-in groups together.
#[derive(Debug, Default)]
pub struct Types {
    pub types: Vec<Type>,
}

/// One type of one table: a root to walk from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Schema {
    pub types: Arc<Types>,
    pub root: TypeId,
}

/// A borrowed position in a schema; walks pass it by value.
#[derive(Clone, Copy, Debug)]
pub struct TypeRef<'a> {
    pub types: &'a Types,
    pub id: TypeId,
}

/// What values may stand at one place of an object.
#[derive(Clone, Debug, Default)]
pub struct Type {
    /// For built-in types the Go name as in errors and OpenAPI: `io.k8s.api.core.v1.PodSpec`. Empty for CRDs.
    pub name: CompactString,
    /// The Go type as decoding errors show it, where [`go_name`](crate::go_name) cannot derive it from name and shape:
    /// named scalars, lists and maps (`v1.Protocol`, `v1.ResourceList`, `map[v1.QualifiedName]resource.Quantity`).
    pub go: CompactString,
    pub shape: Shape,
    /// Null is a value here (CRD `nullable: true`); otherwise null means absent.
    pub nullable: bool,
    pub list: ListSemantics,
    /// Whether `x-kubernetes-list-type` was given: an absent one means atomic, but OpenAPI shows only what was given.
    pub list_declared: bool,
    /// `x-kubernetes-map-type: atomic` (and atomic structs): applied as a whole.
    pub atomic: bool,
    /// Unknown fields stay (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
    /// A whole object with its own apiVersion, kind and metadata (`x-kubernetes-embedded-resource`).
    pub embedded_resource: bool,
    /// What a null item or map value of this type becomes (CRD); fields have [`Field::default`].
    pub default: Option<Node>,
    /// JSON Schema value validations and CEL rules; `None` for most types.
    pub validation: Option<Box<Validation>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Shape {
    /// Any JSON value (`RawExtension`, `FieldsV1`, apiextensions `JSON`, CRD fields without a type).
    #[default]
    Any,
    Bool,
    /// 32 or 64 bits; values outside are refused by built-ins.
    Int {
        bits: u8,
    },
    Float,
    String,
    /// Base64 in JSON, bytes in protobuf and CBOR.
    Bytes,
    /// `resource.Quantity`: decoded and rewritten in canonical form.
    Quantity,
    /// RFC 3339 with seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// `metav1.Duration`, a Go duration string.
    Duration,
    IntOrString,
    List(TypeId),
    /// String keys, one value type.
    Map(TypeId),
    Struct(Fields),
}

/// The fields of a struct, sorted by name for lookup; [`Field::order`] is the declared order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields {
    pub fields: Vec<Field>,
    /// CRD `properties` beside `additionalProperties`-style preservation do not occur together; built-ins never have this.
    pub additional: Option<TypeId>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Field {
    pub name: CompactString,
    pub ty: TypeId,
    /// Position in the source declaration.
    pub order: u16,
    pub required: bool,
    /// Built-ins: a Go pointer (absent differs from zero). CRD fields behave as pointers.
    pub pointer: bool,
    /// Built-ins: the zero value is not written (`omitempty`, `omitzero`). A value field without it is always written.
    pub omit_empty: bool,
    /// Built-ins: not even a zero struct is written (`omitzero`); `omit_empty` alone never leaves out a struct value.
    pub omit_zero: bool,
    /// Built-ins: an empty list is told apart from an absent one until the object is stored, see
    /// [`forget_empty`](crate::forget_empty). Elsewhere empty lists are dropped when they are read.
    pub keeps_empty: bool,
    /// Built-ins: the embedded Go structs the field comes from, joined by dots (`VolumeSource`, `RuleWithOperations.Rule`),
    /// as decoding errors show them. Empty for fields of the struct itself.
    pub embedded: CompactString,
    /// Filled in where the field is absent.
    pub default: Option<Node>,
    /// Protobuf field number; 0 for CRDs and fields that protobuf does not carry.
    pub proto: u32,
    /// Nesting on the protobuf wire of fields that JSON shows inline: the number of the embedded message, or 0.
    pub proto_inline: u32,
    pub patch: PatchStrategy,
    pub patch_merge_key: CompactString,
}

/// `x-kubernetes-list-type` and its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListSemantics {
    #[default]
    Atomic,
    Set,
    Map {
        keys: Vec<CompactString>,
    },
}

/// `patchStrategy` tags of strategic merge patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    pub merge: bool,
    pub replace: bool,
    pub retain_keys: bool,
}

/// JSON Schema value validations, as in a CRD's `openAPIV3Schema`.
#[derive(Clone, Debug, Default)]
pub struct Validation {
    pub format: CompactString,
    pub title: CompactString,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    pub min_length: Option<i64>,
    pub max_length: Option<i64>,
    pub pattern: Option<Pattern>,
    pub min_items: Option<i64>,
    pub max_items: Option<i64>,
    pub unique_items: bool,
    pub min_properties: Option<i64>,
    pub max_properties: Option<i64>,
    pub enumeration: Vec<Node>,
    /// `required` of an object, as given; fields that are also declared have [`Field::required`].
    pub required: Vec<CompactString>,
    pub all_of: Vec<Constraint>,
    pub any_of: Vec<Constraint>,
    pub one_of: Vec<Constraint>,
    pub not: Option<Box<Constraint>>,
    /// `x-kubernetes-validations`, as given; compiled by the owner of the CEL environment.
    pub rules: Vec<Node>,
}

/// A value validation inside `allOf`, `anyOf`, `oneOf` or `not`: it constrains, it declares nothing.
#[derive(Clone, Debug, Default)]
pub struct Constraint {
    /// `type` as given, or empty.
    pub type_name: CompactString,
    /// `nullable: true`: null is of every type.
    pub nullable: bool,
    pub validation: Validation,
    pub properties: Vec<(CompactString, Constraint)>,
    pub items: Option<Box<Constraint>>,
    pub additional: Option<Box<Constraint>>,
}

impl Types {
    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[id.0 as usize]
    }

    pub fn push(&mut self, ty: Type) -> TypeId {
        self.types.push(ty);
        TypeId(u32::try_from(self.types.len() - 1).expect("fewer than 2^32 types"))
    }
}

impl Schema {
    pub fn root(&self) -> TypeRef<'_> {
        TypeRef {
            types: &self.types,
            id: self.root,
        }
    }
}

impl<'a> TypeRef<'a> {
    pub fn ty(self) -> &'a Type {
        self.types.get(self.id)
    }

    pub fn with(self, id: TypeId) -> TypeRef<'a> {
        TypeRef { types: self.types, id }
    }

    pub fn shape(self) -> &'a Shape {
        &self.ty().shape
    }

    /// The declared field `name` of a struct.
    pub fn field(self, name: &str) -> Option<&'a Field> {
        match self.shape() {
            Shape::Struct(fields) => fields.get(name),
            _ => None,
        }
    }

    /// The type of the member `name`: a declared field's, or a map's values'.
    pub fn member(self, name: &str) -> Option<TypeRef<'a>> {
        match self.shape() {
            Shape::Struct(fields) => fields
                .get(name)
                .map(|f| f.ty)
                .or(fields.additional)
                .map(|id| self.with(id)),
            Shape::Map(values) => Some(self.with(*values)),
            _ => None,
        }
    }

    /// The type of a list's items.
    pub fn items(self) -> Option<TypeRef<'a>> {
        match self.shape() {
            Shape::List(items) => Some(self.with(*items)),
            _ => None,
        }
    }
}

impl Fields {
    /// Makes a field table of fields in declared order.
    pub fn new(mut fields: Vec<Field>) -> Fields {
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        Fields {
            fields,
            additional: None,
        }
    }

    pub fn get(&self, name: &str) -> Option<&Field> {
        self.fields
            .binary_search_by(|f| f.name.as_str().cmp(name))
            .ok()
            .map(|i| &self.fields[i])
    }
}
