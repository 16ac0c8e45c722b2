//! Makes the schema types of all declarations: one table, one [`TypeId`] a type.

use crate::declaration::{Declaration, TypeBody};
use compact_str::{CompactString, format_compact};
use fairlead_api::Node;
use fairlead_schema::types::{
    Field, Fields, ListSemantics, PatchStrategy, Shape, Type, TypeId, TypeRef, Types, Validation,
};
use std::collections::HashMap;

/// The table under construction, and afterwards the way to find types by declared name.
#[derive(Default)]
pub struct Table {
    pub types: Types,
    /// By `<path>.<Name>`: `core/v1.PodSpec`.
    by_path: HashMap<String, TypeId>,
    /// Nameless ones, by what is said about them.
    anonymous: HashMap<String, TypeId>,
    /// Copies without `atomic`, and what they are copies of.
    copies: Vec<(TypeId, String, String)>,
    pub unions: Vec<(TypeId, Union)>,
    /// Types with apiVersion and kind.
    pub objects: Vec<TypeId>,
    /// Fields said to be granular: OpenAPI shows it. By the OpenAPI name of their type.
    pub granular: Vec<(CompactString, CompactString)>,
}

/// `x-kubernetes-unions` of a type.
#[derive(Clone, Debug, PartialEq)]
pub struct Union {
    /// Empty where no field says which member is set.
    pub discriminator: CompactString,
    /// Field name and the discriminator's value for it.
    pub members: Vec<(CompactString, CompactString)>,
}

/// What a field's line says about its list or map.
#[derive(Debug, Default)]
struct Said {
    list: ListSemantics,
    list_declared: bool,
    atomic: bool,
    /// The Go type of the keys, where it is not `string`.
    key: CompactString,
}

const SCALARS: &[(&str, &str, Shape)] = &[
    ("string", "", Shape::String),
    ("UID", "", Shape::String),
    ("bool", "", Shape::Bool),
    ("int32", "", Shape::Int { bits: 32 }),
    ("int64", "", Shape::Int { bits: 64 }),
    ("float", "", Shape::Float),
    ("bytes", "", Shape::Bytes),
    ("any", "", Shape::Any),
    (
        "Quantity",
        "io.k8s.apimachinery.pkg.api.resource.Quantity",
        Shape::Quantity,
    ),
    (
        "IntOrString",
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        Shape::IntOrString,
    ),
    ("Time", "io.k8s.apimachinery.pkg.apis.meta.v1.Time", Shape::Time),
    (
        "MicroTime",
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
        Shape::MicroTime,
    ),
    (
        "Duration",
        "io.k8s.apimachinery.pkg.apis.meta.v1.Duration",
        Shape::Duration,
    ),
    ("FieldsV1", "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", Shape::Any),
    (
        "RawExtension",
        "io.k8s.apimachinery.pkg.runtime.RawExtension",
        Shape::Any,
    ),
];

impl Table {
    pub fn build(declarations: &[Declaration]) -> Table {
        let mut table = Table::default();
        for (name, full, shape) in SCALARS {
            let id = table.types.push(Type {
                name: (*full).into(),
                shape: shape.clone(),
                ..Type::default()
            });
            table.by_path.insert((*name).into(), id);
        }
        let uid = table.by_path["UID"];
        table.types.types[uid.0 as usize].go = "types.UID".into();
        for file in declarations {
            table.announce(file);
        }
        for file in declarations {
            table.shapes(file);
        }
        for file in declarations {
            for (name, body) in &file.types.0 {
                if let TypeBody::Fields(lines) = body {
                    table.fill(file, name, &lines.0);
                }
            }
        }
        table.finish_copies();
        // Inlined types are complete only now.
        for file in declarations {
            for (name, body) in &file.types.0 {
                if let TypeBody::Fields(lines) = body {
                    table.inline(file, name, &lines.0, 0);
                }
            }
            for (_, resource) in &file.resources.0 {
                table.list_kind(file, &resource.kind);
            }
        }
        table
    }

    /// The type a declaration of `path` calls `name`: one of its own, `core/v1.Name`, or a scalar.
    pub fn find(&self, path: &str, name: &str) -> Option<TypeId> {
        self.by_path
            .get(name)
            .or_else(|| self.by_path.get(&format!("{path}.{name}")))
            .copied()
    }

    /// Gives every named type its number, so that they can refer to each other.
    fn announce(&mut self, file: &Declaration) {
        for (name, values) in &file.enums.0 {
            let enumeration = values.iter().map(|v| Node::string(v.as_str())).collect();
            let validation = Some(Box::new(Validation {
                enumeration,
                ..Validation::default()
            }));
            self.add(
                file,
                name,
                Type {
                    shape: Shape::String,
                    validation,
                    go: go_name(file, name),
                    ..Type::default()
                },
            );
        }
        for name in &file.strings {
            self.add(
                file,
                name,
                Type {
                    shape: Shape::String,
                    go: go_name(file, name),
                    ..Type::default()
                },
            );
        }
        for (name, _) in &file.named.0 {
            // The items are found when every file is known.
            let name_of_list = full_name(file, name);
            self.add(
                file,
                name,
                Type {
                    name: name_of_list,
                    go: go_name(file, name),
                    ..Type::default()
                },
            );
        }
        for (name, body) in &file.types.0 {
            let shape = match body {
                TypeBody::Word(_) => Shape::Any,
                TypeBody::Fields(_) => Shape::Struct(Fields::default()),
            };
            self.add(
                file,
                name,
                Type {
                    name: full_name(file, name),
                    shape,
                    ..Type::default()
                },
            );
        }
    }

    fn add(&mut self, file: &Declaration, name: &str, ty: Type) {
        let id = self.types.push(ty);
        self.by_path.insert(format!("{}.{name}", file.path), id);
    }

    /// The shapes of named lists and maps.
    fn shapes(&mut self, file: &Declaration) {
        let string = self.by_path["string"];
        for (name, expression) in &file.named.0 {
            let id = self.by_path[&format!("{}.{name}", file.path)];
            let made = self.expression(&file.path, expression, &Said::default());
            let shape = self.types.get(made).shape.clone();
            let ty = &mut self.types.types[id.0 as usize];
            if shape != Shape::List(string) {
                // Only lists of strings are messages.
                ty.name = CompactString::default();
            }
            ty.shape = shape;
        }
    }

    fn fill(&mut self, file: &Declaration, name: &str, lines: &[(String, String)]) {
        let id = self.by_path[&format!("{}.{name}", file.path)];
        let owner = full_name(file, name);
        let mut fields = Vec::with_capacity(lines.len() + 2);
        for (field, line) in lines {
            match field.as_str() {
                "_" => self.about(id, line, &mut fields),
                "_inline" => {}
                _ => {
                    let order = fields.len();
                    fields.push(self.field(file, &owner, field, line, order));
                }
            }
        }
        self.types.types[id.0 as usize].shape = Shape::Struct(Fields::new(fields));
    }

    fn about(&mut self, id: TypeId, line: &str, fields: &mut Vec<Field>) {
        for word in line.split(' ') {
            match word.split_once('(') {
                None if word == "atomic" => self.types.types[id.0 as usize].atomic = true,
                None if word == "object" => {
                    self.objects.push(id);
                    fields.extend(["kind", "apiVersion"].into_iter().enumerate().map(|(i, name)| {
                        let ty = self.by_path["string"];
                        field(name, ty, i)
                    }));
                }
                Some(("union", rest)) => {
                    let mut parts = rest.trim_end_matches(')').split(',');
                    let discriminator = parts.next().unwrap_or_default().into();
                    let members = parts
                        .filter_map(|p| p.split_once('='))
                        .map(|(f, v)| (f.into(), v.into()))
                        .collect();
                    self.unions.push((id, Union { discriminator, members }));
                }
                _ => panic!("openapi: nothing is meant by `_: {word}`"),
            }
        }
    }

    fn field(&mut self, file: &Declaration, owner: &CompactString, name: &str, line: &str, order: usize) -> Field {
        let mut words = line.split(' ');
        let expression = words.next().unwrap_or_default();
        let mut made = field(name, self.by_path["any"], order);
        made.pointer = expression.ends_with('?');
        let (mut optional, mut granular, mut empties, mut listed) = (false, false, false, false);
        let mut said = Said {
            list_declared: true,
            ..Said::default()
        };
        // Defaults may hold spaces, so they are cut out first.
        let (before, default) = match line.split_once(" default(") {
            Some((before, rest)) => {
                let (json, after) = rest.split_once(") ").unwrap_or((rest.trim_end_matches(')'), ""));
                made.default = Some(fairlead_api::json::parse(json.as_bytes()).expect("openapi: defaults are JSON"));
                (before, after)
            }
            None => (line, ""),
        };
        for word in before.split(' ').skip(1).chain(default.split(' ')) {
            let (word, argument) = word.split_once('(').unwrap_or((word, ""));
            let argument = argument.trim_end_matches(')');
            match word {
                "" => {}
                "always" => made.omit_empty = false,
                "empties" => empties = true,
                "listed" => listed = true,
                "required" => made.required = true,
                "optional" => optional = true,
                "omitzero" => made.omit_zero = true,
                "set" => said.list = ListSemantics::Set,
                "unmarked" => said.list_declared = false,
                "key" => {
                    let package = self.find(&file.path, argument).map(|id| self.types.get(id).go.clone());
                    said.key = package.unwrap_or_else(|| argument.into());
                }
                "atomic" => said.atomic = true,
                "granular" => granular = true,
                "keys" => {
                    said.list = ListSemantics::Map {
                        keys: argument.split(',').map(Into::into).collect(),
                    }
                }
                "patch" => {
                    made.patch = PatchStrategy {
                        merge: argument.split(',').any(|s| s == "merge"),
                        replace: argument.split(',').any(|s| s == "replace"),
                        retain_keys: argument.split(',').any(|s| s == "retainKeys"),
                    }
                }
                "by" => made.patch_merge_key = argument.into(),
                number => {
                    let number = number.strip_prefix('@').and_then(|n| n.parse().ok());
                    made.proto = number.unwrap_or_else(|| panic!("openapi: {name}: nothing is meant by `{word}`"));
                }
            }
        }
        made.required |= !made.omit_empty && !optional;
        made.ty = self.expression(&file.path, expression.trim_end_matches('?'), &said);
        if listed {
            let copy = Type {
                list_declared: true,
                ..self.types.get(made.ty).clone()
            };
            made.ty = self.types.push(copy);
        }
        // What Go always writes shows to owners of fields and to admission whether it was given.
        made.keeps_empty = expression.ends_with("[]") && (!made.omit_empty || empties);
        if granular && self.types.get(made.ty).atomic {
            let copy = Type {
                atomic: false,
                ..self.types.get(made.ty).clone()
            };
            made.ty = self.types.push(copy);
            self.copies
                .push((made.ty, expression.trim_end_matches('?').to_owned(), file.path.clone()));
        }
        if granular {
            self.granular.push((owner.clone(), name.into()));
        }
        made
    }

    /// Gives granular copies of atomic types the fields their originals have by now.
    fn finish_copies(&mut self) {
        for (copy, name, path) in std::mem::take(&mut self.copies) {
            let original = self.find(&path, &name).expect("the copy was made of it");
            self.types.types[copy.0 as usize].shape = self.types.get(original).shape.clone();
        }
    }

    /// The type of `T[]`, `T{}` or `T`.
    fn expression(&mut self, path: &str, text: &str, said: &Said) -> TypeId {
        let key = format!("{path} {text} {said:?}");
        if let Some(id) = self.anonymous.get(&key) {
            return *id;
        }
        let id = if let Some(items) = text.strip_suffix("[]") {
            let items = self.expression(path, items, &Said::default());
            let (list, list_declared) = (said.list.clone(), said.list_declared);
            self.types.push(Type {
                shape: Shape::List(items),
                list,
                list_declared,
                ..Type::default()
            })
        } else if let Some(values) = text.strip_suffix("{}") {
            let values = self.expression(path, values, &Said::default());
            let go = match said.key.as_str() {
                "" => CompactString::default(),
                key => format_compact!(
                    "map[{key}]{}",
                    fairlead_schema::go_name(TypeRef {
                        types: &self.types,
                        id: values
                    })
                ),
            };
            self.types.push(Type {
                shape: Shape::Map(values),
                atomic: said.atomic,
                go,
                ..Type::default()
            })
        } else {
            let id = self
                .find(path, text)
                .unwrap_or_else(|| panic!("openapi: {path} refers to an unknown type {text}"));
            match &self.types.get(id).shape {
                // What is said of a field with a named map or list is said of a copy.
                Shape::Map(_) | Shape::List(_) if said.atomic || said.list != ListSemantics::Atomic => {
                    let (list, list_declared) = (said.list.clone(), said.list_declared);
                    let copy = Type {
                        atomic: said.atomic,
                        list,
                        list_declared,
                        ..self.types.get(id).clone()
                    };
                    self.types.push(copy)
                }
                _ => id,
            }
        };
        self.anonymous.insert(key, id);
        id
    }

    /// Copies the fields of inlined types into the type they stand in.
    fn inline(&mut self, file: &Declaration, name: &str, lines: &[(String, String)], depth: u8) {
        let Some((_, line)) = lines.iter().find(|(field, _)| field == "_inline") else {
            return;
        };
        assert!(depth < 4, "openapi: {name} is inlined in itself");
        let (inlined, number) = line.split_once(" @").unwrap_or((line, "0"));
        let number: u32 = number.parse().expect("openapi: a field number");
        if let Some((_, TypeBody::Fields(inner))) = file.types.0.iter().find(|(n, _)| n == inlined) {
            self.inline(file, inlined, &inner.0, depth + 1);
        }
        let from = self
            .find(&file.path, inlined)
            .expect("openapi: an inlined type is declared");
        let to = self.by_path[&format!("{}.{name}", file.path)];
        let Shape::Struct(source) = self.types.get(from).shape.clone() else {
            return;
        };
        let Shape::Struct(target) = &mut self.types.types[to.0 as usize].shape else {
            return;
        };
        let mut fields = std::mem::take(&mut target.fields);
        let mut source = source.fields;
        source.retain(|new| fields.iter().all(|field| field.name != new.name));
        source.sort_by_key(|field| field.order);
        // Structs are numbered in the order they are declared in, which tells where the inlined one stands.
        let later = fields
            .iter()
            .filter(|field| field.proto > number)
            .map(|field| field.order);
        let start = later.min().unwrap_or(fields.len() as u16);
        for field in fields.iter_mut().filter(|field| field.order >= start) {
            field.order += source.len() as u16;
        }
        for (i, mut field) in source.into_iter().enumerate() {
            field.order = start + i as u16;
            field.embedded = match field.embedded.as_str() {
                "" => inlined.into(),
                inner => format_compact!("{inlined}.{inner}"),
            };
            // Embedded twice: the outer number in the low byte, the inner ones above it.
            field.proto_inline = number | field.proto_inline << 8;
            fields.push(field);
        }
        *target = Fields::new(fields);
    }

    /// Every listed kind has a list kind of the same shape.
    fn list_kind(&mut self, file: &Declaration, kind: &str) {
        let name = format!("{kind}List");
        let key = format!("{}.{name}", file.path);
        if self.by_path.contains_key(&key) {
            return;
        }
        let string = self.by_path["string"];
        let mut metadata = field("metadata", self.by_path["meta/v1.ListMeta"], 2);
        metadata.proto = 1;
        let items = self.expression(&file.path, &format!("{kind}[]"), &Said::default());
        let mut items = Field {
            omit_empty: false,
            required: true,
            proto: 2,
            ..field("items", items, 3)
        };
        items.order = 3;
        let fields = vec![
            field("kind", string, 0),
            field("apiVersion", string, 1),
            metadata,
            items,
        ];
        let shape = Shape::Struct(Fields::new(fields));
        let id = self.types.push(Type {
            name: full_name(file, &name),
            shape,
            ..Type::default()
        });
        self.by_path.insert(key, id);
        self.objects.push(id);
    }
}

fn full_name(file: &Declaration, name: &str) -> CompactString {
    format_compact!("{}.{name}", file.package)
}

/// `v1.Protocol`: a Go package is called like its version.
fn go_name(file: &Declaration, name: &str) -> CompactString {
    format_compact!("{}.{name}", file.package.rsplit('.').next().unwrap_or_default())
}

fn field(name: &str, ty: TypeId, order: usize) -> Field {
    let order = u16::try_from(order).expect("a struct has fewer than 65,536 fields");
    Field {
        name: name.into(),
        ty,
        order,
        omit_empty: true,
        ..Field::default()
    }
}
