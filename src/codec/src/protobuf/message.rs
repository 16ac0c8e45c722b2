//! Messages compiled from schema types: which number holds which field, and how its values are written.

use compact_str::CompactString;
use fairlead_schema::{Field, Shape, Type, TypeId, Types};

/// One message; of types that are none it is empty.
#[derive(Debug, Default)]
pub struct Message {
    /// The Go name, for errors.
    pub name: CompactString,
    /// Sorted by number.
    slots: Vec<Slot>,
}

/// One field of a message.
#[derive(Debug)]
pub struct Slot {
    pub number: u32,
    /// In JSON; empty for [`Label::Inline`].
    pub name: CompactString,
    pub label: Label,
    pub value: Value,
    /// A Go pointer: absent is not the same as zero, and is not written.
    pub pointer: bool,
    /// JSON leaves the zero value out.
    pub omit_empty: bool,
    /// JSON leaves even an empty struct out.
    pub omit_zero: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    Single,
    List,
    /// Repeated entries of a string key (1) and a value (2).
    Map,
    /// A message whose fields stand in JSON beside those of the message around it.
    Inline,
}

/// How one value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Bool,
    Int {
        bits: u8,
    },
    Double,
    String,
    Bytes,
    Quantity,
    Time,
    MicroTime,
    Duration,
    IntOrString,
    /// Any JSON, as bytes in a message of its own: `RawExtension`, `FieldsV1`, apiextensions `JSON`.
    Raw,
    /// `JSONSchemaPropsOrBool`; the type is that of schemas, as in the next two.
    SchemaOrBool(TypeId),
    SchemaOrList(TypeId),
    SchemaOrStrings(TypeId),
    /// A list of strings that is a message of its own: `ExtraValue`, `Verbs`.
    Strings,
    Message(TypeId),
}

/// The messages of all types, by their ids; behind them those of embedded structs.
pub fn compile(types: &Types) -> Vec<Message> {
    let schema = schema_type(types);
    let mut messages: Vec<Message> = Vec::with_capacity(types.types.len() + 32);
    messages.resize_with(types.types.len(), Message::default);
    for (i, ty) in types.types.iter().enumerate() {
        if let Shape::Struct(fields) = &ty.shape {
            let all: Vec<(&Field, u32)> = fields.fields.iter().map(|f| (f, f.proto_inline)).collect();
            messages[i] = compiled(types, schema, short(&ty.name), &all, &mut messages);
        }
    }
    messages
}

/// A message of these fields; each with the numbers of the messages it is nested in, the outermost in the low byte.
fn compiled(
    types: &Types,
    schema: Option<TypeId>,
    name: &str,
    fields: &[(&Field, u32)],
    messages: &mut Vec<Message>,
) -> Message {
    let mut slots: Vec<Slot> = Vec::new();
    for (field, nested) in fields {
        if field.proto == 0 {
            continue;
        }
        let number = nested & 0xff;
        if number == 0 {
            slots.push(slot(types, schema, field));
        } else if !slots.iter().any(|s| s.number == number) {
            let inner: Vec<(&Field, u32)> = fields
                .iter()
                .filter(|(_, n)| n & 0xff == number)
                .map(|(f, n)| (*f, n >> 8))
                .collect();
            let embedded = field.embedded.split('.').next().unwrap_or_default();
            let message = compiled(types, schema, embedded, &inner, messages);
            let id = TypeId(u32::try_from(messages.len()).expect("fewer than 2^32 messages"));
            messages.push(message);
            slots.push(Slot::plain(number, "", Label::Inline, Value::Message(id)));
        }
    }
    slots.sort_by_key(|s| s.number);
    Message {
        name: name.into(),
        slots,
    }
}

fn slot(types: &Types, schema: Option<TypeId>, field: &Field) -> Slot {
    let ty = types.get(field.ty);
    let (label, id) = match &ty.shape {
        Shape::List(items) if ty.name.is_empty() => (Label::List, *items),
        Shape::Map(values) => (Label::Map, *values),
        _ => (Label::Single, field.ty),
    };
    Slot {
        number: field.proto,
        name: field.name.clone(),
        label,
        value: value(types, schema, id),
        pointer: field.pointer,
        omit_empty: field.omit_empty,
        omit_zero: field.omit_zero,
    }
}

fn value(types: &Types, schema: Option<TypeId>, id: TypeId) -> Value {
    let ty = types.get(id);
    match &ty.shape {
        Shape::Bool => Value::Bool,
        Shape::Int { bits } => Value::Int { bits: *bits },
        Shape::Float => Value::Double,
        Shape::String => Value::String,
        Shape::Bytes => Value::Bytes,
        Shape::Quantity => Value::Quantity,
        Shape::Time => Value::Time,
        Shape::MicroTime => Value::MicroTime,
        Shape::Duration => Value::Duration,
        Shape::IntOrString => Value::IntOrString,
        Shape::List(_) | Shape::Map(_) => Value::Strings,
        Shape::Struct(_) => Value::Message(id),
        Shape::Any => match (short(&ty.name), schema) {
            ("JSONSchemaPropsOrBool", Some(id)) => Value::SchemaOrBool(id),
            ("JSONSchemaPropsOrArray", Some(id)) => Value::SchemaOrList(id),
            ("JSONSchemaPropsOrStringArray", Some(id)) => Value::SchemaOrStrings(id),
            _ => Value::Raw,
        },
    }
}

fn schema_type(types: &Types) -> Option<TypeId> {
    let is_schema = |ty: &Type| short(&ty.name) == "JSONSchemaProps";
    let at = types.types.iter().position(is_schema)?;
    u32::try_from(at).ok().map(TypeId)
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}

// === impl Message ===

impl Message {
    /// A list of messages with list metadata: field number and type of both.
    pub fn list(name: &str, (metadata, list_meta): (u32, TypeId), (items, item): (u32, TypeId)) -> Message {
        let mut items = Slot::plain(items, "items", Label::List, Value::Message(item));
        items.omit_empty = false;
        let metadata = Slot::plain(metadata, "metadata", Label::Single, Value::Message(list_meta));
        let mut slots = vec![metadata, items];
        slots.sort_by_key(|s| s.number);
        Message {
            name: name.into(),
            slots,
        }
    }

    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The field of a number, and where it stands.
    pub fn slot(&self, number: u32) -> Option<(usize, &Slot)> {
        // Most messages number their fields without gaps.
        let guess = (number as usize).wrapping_sub(1);
        let at = match self.slots.get(guess) {
            Some(slot) if slot.number == number => guess,
            _ => self.slots.binary_search_by_key(&number, |s| s.number).ok()?,
        };
        Some((at, &self.slots[at]))
    }

    /// The message type of the field that JSON calls `name`.
    pub fn field(&self, name: &str) -> Option<TypeId> {
        self.slots.iter().find(|s| s.name == name).and_then(|s| match s.value {
            Value::Message(id) => Some(id),
            _ => None,
        })
    }
}

// === impl Slot ===

impl Slot {
    fn plain(number: u32, name: &str, label: Label, value: Value) -> Slot {
        Slot {
            number,
            name: name.into(),
            label,
            value,
            pointer: false,
            omit_empty: true,
            omit_zero: false,
        }
    }

    /// The field as Go's decoders name it.
    pub fn go_name(&self, messages: &[Message]) -> String {
        if let Value::Message(id) = self.value
            && (self.label == Label::Inline || self.name == "metadata")
        {
            return messages[id.0 as usize].name.to_string();
        }
        const INITIALS: [&str; 11] = [
            "uid", "ip", "url", "id", "api", "fs", "tls", "cidr", "json", "xs", "ttl",
        ];
        let word = self.name.trim_start_matches('$');
        let lower = word.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(word.len());
        match word.split_at(lower) {
            ("ips", rest) => format!("IPs{rest}"),
            (first, rest) if INITIALS.contains(&first) => first.to_ascii_uppercase() + rest,
            _ => {
                let mut name = word.replace('-', "");
                if let Some(first) = name.get_mut(..1) {
                    first.make_ascii_uppercase();
                }
                name
            }
        }
    }
}
