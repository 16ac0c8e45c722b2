//! From messages to [`Node`]s, in one pass over the bytes.
// PERFORMANCE: per-request path

use super::Error;
use super::message::{Label, Message, Slot, Value};
use super::scalar::{self, expect, fields};
use super::wire::{BYTES, FIXED64, Reader, VARINT};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use compact_str::CompactString;
use fairlead_api::json::MAX_DEPTH;
use fairlead_api::{Key, Map, Node};
use fairlead_schema::TypeId;

/// Reads a message of a type.
pub fn message(messages: &[Message], id: TypeId, bytes: &[u8]) -> Result<Node, Error> {
    let mut decoder = Decoder { messages, moves: MOVES };
    decoder.message(id, bytes, None, MAX_MESSAGES)
}

/// How deep messages may nest. What JSON shows of one level of a schema are two: this is not less than JSON may nest.
const MAX_MESSAGES: usize = MAX_DEPTH / 2;

/// A message that stands several times in another is put together; how many fields may be moved for that.
const MOVES: usize = 1_000_000;

struct Decoder<'a> {
    messages: &'a [Message],
    moves: usize,
}

type Entries = Vec<(Key, Node)>;

/// What is known of a message while it is read.
struct Open {
    entries: Entries,
    /// Fields that may be among the entries, by their places; all of the message where it was read before.
    seen: u128,
    /// Entries of map fields, by the field's place: sorted when the message ends.
    maps: Vec<(usize, Entries)>,
}

impl<'a> Decoder<'a> {
    fn message(&mut self, id: TypeId, bytes: &[u8], before: Option<Node>, depth: usize) -> Result<Node, Error> {
        let mut open = Open {
            entries: Vec::new(),
            seen: 0,
            maps: Vec::new(),
        };
        if let Some(Node::Map(map)) = before {
            self.moves = self.moves.checked_sub(map.len() + 1).ok_or(Error::TooComplex)?;
            open.entries = map.into_iter().collect();
            open.seen = u128::MAX;
        }
        self.fields(id, bytes, &mut open, depth)?;
        Ok(Node::Map(Map::from_entries(open.entries)))
    }

    /// Reads the fields of a message into what is open.
    fn fields(&mut self, id: TypeId, bytes: &[u8], open: &mut Open, depth: usize) -> Result<(), Error> {
        let depth = depth.checked_sub(1).ok_or(Error::TooDeep)?;
        let messages = self.messages;
        let message = &messages[id.0 as usize];
        let outer = std::mem::take(&mut open.maps);
        let mut reader = Reader::new(bytes);
        while let Some((wire, number, wire_type)) = reader.key()? {
            match message.slot(scalar::checked(&message.name, wire, number, wire_type)?) {
                Some((at, slot)) => self.field(slot, at, wire_type, &mut reader, open, depth)?,
                None => reader.skip(wire_type)?,
            }
        }
        for (at, entries) in std::mem::replace(&mut open.maps, outer) {
            open.set(&message.slots()[at].name, Node::Map(Map::from_entries(entries)));
        }
        Ok(())
    }

    fn field(
        &mut self,
        slot: &'a Slot,
        at: usize,
        wire_type: u8,
        reader: &mut Reader,
        open: &mut Open,
        depth: usize,
    ) -> Result<(), Error> {
        let bit = 1u128.checked_shl(at as u32).unwrap_or(0);
        let seen = bit == 0 || open.seen & bit != 0;
        open.seen |= bit;
        if slot.label == Label::List && wire_type == BYTES && slot.value.wire_type() == VARINT {
            return open.packed(slot, seen, reader.bytes()?);
        }
        if wire_type != slot.value.wire_type_of(slot.label) {
            return expect(wire_type, u8::MAX, &slot.go_name(self.messages));
        }
        match slot.label {
            Label::Inline => {
                let Value::Message(id) = slot.value else { return Ok(()) };
                let outer = std::mem::replace(&mut open.seen, if seen { u128::MAX } else { 0 });
                self.fields(id, reader.bytes()?, open, depth)?;
                open.seen = outer;
                Ok(())
            }
            Label::List => {
                let item = self.value(slot, reader, None, depth)?;
                open.push(&slot.name, seen, item);
                Ok(())
            }
            Label::Map => {
                let entry = self.entry(slot, reader.bytes()?, depth)?;
                self.keep(slot, at, seen, entry, open)
            }
            Label::Single => {
                let before = if seen { open.remove(&slot.name) } else { None };
                let value = self.value(slot, reader, before, depth)?;
                open.keep(slot, value);
                Ok(())
            }
        }
    }

    /// Puts an entry to the others of its map.
    fn keep(&mut self, slot: &Slot, at: usize, seen: bool, entry: (Key, Node), open: &mut Open) -> Result<(), Error> {
        if let Some((_, entries)) = open.maps.iter_mut().find(|(place, _)| *place == at) {
            entries.push(entry);
            return Ok(());
        }
        let mut entries = Vec::new();
        if let Some(Node::Map(map)) = seen.then(|| open.remove(&slot.name)).flatten() {
            self.moves = self.moves.checked_sub(map.len()).ok_or(Error::TooComplex)?;
            entries = map.into_iter().collect();
        }
        entries.push(entry);
        open.maps.push((at, entries));
        Ok(())
    }

    /// One value whose key has been read; `before` is what the field held already.
    fn value(&mut self, slot: &Slot, reader: &mut Reader, before: Option<Node>, depth: usize) -> Result<Node, Error> {
        match slot.value.wire_type() {
            BYTES => self.content(slot.value, reader.bytes()?, before, depth),
            _ => number(slot.value, reader),
        }
    }

    /// A value that has a length. What recurses does nothing else: frames are small.
    fn content(&mut self, value: Value, bytes: &[u8], before: Option<Node>, depth: usize) -> Result<Node, Error> {
        match value {
            Value::Message(id) => self.message(id, bytes, before, depth),
            Value::SchemaOrBool(schema) => self.schema_or(bytes, schema, Or::Bool, depth),
            Value::SchemaOrList(schema) => self.schema_or(bytes, schema, Or::List, depth),
            Value::SchemaOrStrings(schema) => self.schema_or(bytes, schema, Or::Strings, depth),
            scalar => text(scalar, bytes),
        }
    }

    fn entry(&mut self, slot: &'a Slot, bytes: &[u8], depth: usize) -> Result<(Key, Node), Error> {
        let mut reader = Reader::new(bytes);
        let (mut key, mut value) = (Key::default(), None);
        while let Some((_, number, wire_type)) = reader.key()? {
            // COMPAT: the wire types of keys and values are not looked at.
            match number {
                1 => key = CompactString::from_utf8_lossy(reader.bytes()?),
                2 => value = Some(self.value(slot, &mut reader, None, depth)?),
                _ => reader.skip(wire_type)?,
            }
        }
        let value = match value {
            Some(value) => value,
            None if slot.value.wire_type() == BYTES => self.content(slot.value, b"", None, depth)?,
            None => slot.value.number(0),
        };
        Ok((key, value))
    }

    fn schema_or(&mut self, bytes: &[u8], schema: TypeId, or: Or, depth: usize) -> Result<Node, Error> {
        let (mut one, mut many, mut allows) = (None, Vec::new(), false);
        let schema_number = if matches!(or, Or::Bool) { 2 } else { 1 };
        let depth = depth.checked_sub(1).ok_or(Error::TooDeep)?;
        fields(bytes, or.name(), |number, wire_type, reader| {
            match number {
                number if number == schema_number => {
                    expect(wire_type, BYTES, "Schema")?;
                    let before = one.take();
                    one = Some(self.message(schema, reader.bytes()?, before, depth)?);
                }
                1 => {
                    expect(wire_type, VARINT, "Allows")?;
                    allows = reader.varint()? != 0;
                }
                2 if matches!(or, Or::List) => {
                    expect(wire_type, BYTES, "JSONSchemas")?;
                    many.push(self.message(schema, reader.bytes()?, None, depth)?);
                }
                2 => {
                    expect(wire_type, BYTES, "Property")?;
                    many.push(scalar::text(reader.bytes()?));
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(match (or, one) {
            (Or::Bool, Some(schema)) => schema,
            (Or::Bool, None) => Node::Bool(allows),
            // COMPAT: several schemas win over one when Go writes them, strings likewise.
            (_, Some(schema)) if many.is_empty() => schema,
            (_, None) if many.is_empty() => Node::Null,
            _ => Node::List(many),
        })
    }
}

/// The other thing that may stand where a schema does.
#[derive(Clone, Copy)]
enum Or {
    Bool,
    List,
    Strings,
}

impl Or {
    fn name(self) -> &'static str {
        match self {
            Or::Bool => "JSONSchemaPropsOrBool",
            Or::List => "JSONSchemaPropsOrArray",
            Or::Strings => "JSONSchemaPropsOrStringArray",
        }
    }
}

fn number(value: Value, reader: &mut Reader) -> Result<Node, Error> {
    match value {
        Value::Double => Ok(float(f64::from_bits(reader.fixed64()?))),
        value => Ok(value.number(reader.varint()?)),
    }
}

fn text(value: Value, bytes: &[u8]) -> Result<Node, Error> {
    match value {
        Value::Bytes => Ok(Node::string(STANDARD.encode(bytes))),
        Value::Quantity => scalar::read_quantity(bytes),
        Value::Time => scalar::read_time(bytes, false),
        Value::MicroTime => scalar::read_time(bytes, true),
        Value::Duration => scalar::read_duration(bytes),
        Value::IntOrString => scalar::read_int_or_string(bytes),
        Value::Raw => scalar::read_raw(bytes),
        Value::Strings => scalar::read_strings(bytes, "ExtraValue"),
        _ => Ok(scalar::text(bytes)),
    }
}

fn float(value: f64) -> Node {
    // The same numbers that JSON would have: whole ones are integers, what JSON cannot say is nothing.
    if value.fract() == 0.0 && value.abs() < 9.0e15 {
        Node::Int(value as i64)
    } else if value.is_finite() {
        Node::Float(value)
    } else {
        Node::Null
    }
}

// === impl Open ===

impl Open {
    fn remove(&mut self, name: &str) -> Option<Node> {
        let at = self.entries.iter().position(|(key, _)| key == name)?;
        Some(self.entries.swap_remove(at).1)
    }

    fn keep(&mut self, slot: &Slot, value: Node) {
        if !slot.leaves_out(&value) {
            self.entries.push((slot.name.clone(), value));
        }
    }

    /// Packed numbers are read although they are not written.
    fn packed(&mut self, slot: &Slot, seen: bool, bytes: &[u8]) -> Result<(), Error> {
        let mut packed = Reader::new(bytes);
        while !packed.is_empty() {
            let number = packed.varint()?;
            self.push(&slot.name, seen, slot.value.number(number));
        }
        Ok(())
    }

    fn set(&mut self, name: &Key, value: Node) {
        self.remove(name);
        self.entries.push((name.clone(), value));
    }

    /// Appends to a list, which is mostly the one that was written last.
    fn push(&mut self, name: &Key, seen: bool, item: Node) {
        let last = self.entries.len().wrapping_sub(1);
        let at = match self.entries.last() {
            Some((key, _)) if key == name => Some(last),
            _ if seen => self.entries.iter().position(|(key, _)| key == name),
            _ => None,
        };
        match at.map(|at| &mut self.entries[at].1) {
            Some(Node::List(items)) => items.push(item),
            _ => self.entries.push((name.clone(), Node::List(vec![item]))),
        }
    }
}

// === impl Value ===

impl Value {
    fn wire_type(self) -> u8 {
        match self {
            Value::Bool | Value::Int { .. } => VARINT,
            Value::Double => FIXED64,
            _ => BYTES,
        }
    }

    fn wire_type_of(self, label: Label) -> u8 {
        match label {
            Label::Map | Label::Inline => BYTES,
            Label::Single | Label::List => self.wire_type(),
        }
    }

    fn number(self, number: u64) -> Node {
        match self {
            Value::Bool => Node::Bool(number != 0),
            Value::Int { bits: 32 } => Node::Int((number as i32).into()),
            _ => Node::Int(number as i64),
        }
    }
}

// === impl Slot ===

impl Slot {
    /// Whether JSON would not show this value.
    fn leaves_out(&self, value: &Node) -> bool {
        match value {
            Node::Null => true,
            Node::Map(map) => self.omit_zero && !self.pointer && map.is_empty(),
            // Quantities, times and the like are structs to Go: never empty.
            value => {
                let plain = matches!(
                    self.value,
                    Value::Bool | Value::Int { .. } | Value::Double | Value::String | Value::Bytes | Value::Strings
                );
                plain && self.omit_empty && !self.pointer && value.is_zero()
            }
        }
    }
}
