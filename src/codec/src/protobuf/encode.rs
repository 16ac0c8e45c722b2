//! From [`Node`]s to messages, back to front.
// PERFORMANCE: per-request path

use super::message::{Label, Message, Slot, Value};
use super::scalar;
use super::wire::{FIXED64, VARINT, Writer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fairlead_api::Node;
use fairlead_schema::TypeId;

/// The message of `node`. Whatever does not fit its type is written as the type's zero value.
pub fn message(messages: &[Message], id: TypeId, node: &Node) -> Vec<u8> {
    let mut out = Writer::with_capacity(1024);
    Encoder { messages }.message(id, node, &mut out);
    out.finish()
}

struct Encoder<'a> {
    messages: &'a [Message],
}

const NULL: &Node = &Node::Null;

impl Encoder<'_> {
    fn message(&self, id: TypeId, node: &Node, out: &mut Writer) {
        for slot in self.messages[id.0 as usize].slots().iter().rev() {
            match slot.label {
                Label::Inline => self.value(slot.number, slot.value, node, out),
                label => {
                    let value = node.get(&slot.name).unwrap_or(NULL);
                    match label {
                        Label::Single => self.single(slot, value, out),
                        Label::List => {
                            for item in value.as_list().into_iter().flatten().rev() {
                                self.value(slot.number, slot.value, item, out);
                            }
                        }
                        _ => self.map(slot, value, out),
                    }
                }
            }
        }
    }

    fn single(&self, slot: &Slot, value: &Node, out: &mut Writer) {
        if value.is_null() && (slot.pointer || matches!(slot.value, Value::Bytes | Value::Strings)) {
            return;
        }
        self.value(slot.number, slot.value, value, out);
    }

    fn map(&self, slot: &Slot, value: &Node, out: &mut Writer) {
        for (key, value) in value.as_map().into_iter().flat_map(|map| map.iter().rev()) {
            let mark = out.len();
            if !(value.is_null() && slot.value == Value::Bytes) {
                self.value(2, slot.value, value, out);
            }
            out.field(1, key.as_bytes());
            out.close(slot.number, mark);
        }
    }

    /// One field, zero or not.
    fn value(&self, number: u32, value: Value, node: &Node, out: &mut Writer) {
        let mark = out.len();
        match value {
            Value::Bool => return out.number(number, node.as_bool().unwrap_or(false).into()),
            Value::Int { .. } => {
                out.varint(node.as_i64().unwrap_or(0) as u64);
                return out.key(number, VARINT);
            }
            Value::Double => {
                out.bytes(&node.as_f64().unwrap_or(0.0).to_le_bytes());
                return out.key(number, FIXED64);
            }
            Value::String => out.bytes(node.as_str().unwrap_or_default().as_bytes()),
            Value::Bytes => out.bytes(&STANDARD.decode(node.as_str().unwrap_or_default()).unwrap_or_default()),
            Value::Quantity => out.field(1, node.as_str().unwrap_or("0").as_bytes()),
            Value::Time => scalar::write_time(node, false, out),
            Value::MicroTime => scalar::write_time(node, true, out),
            Value::Duration => scalar::write_duration(node, out),
            Value::IntOrString => scalar::write_int_or_string(node, out),
            Value::Raw => scalar::write_raw(node, out),
            Value::SchemaOrBool(schema) => {
                if matches!(node, Node::Map(_)) {
                    self.value(2, Value::Message(schema), node, out);
                }
                out.number(1, u64::from(node.as_bool().unwrap_or(matches!(node, Node::Map(_)))));
            }
            Value::SchemaOrList(schema) => match node {
                Node::Map(_) => self.value(1, Value::Message(schema), node, out),
                _ => {
                    for item in node.as_list().into_iter().flatten().rev() {
                        self.value(2, Value::Message(schema), item, out);
                    }
                }
            },
            Value::SchemaOrStrings(schema) => match node {
                Node::Map(_) => self.value(1, Value::Message(schema), node, out),
                _ => scalar::write_strings(node, 2, out),
            },
            Value::Strings => scalar::write_strings(node, 1, out),
            Value::Message(id) => self.message(id, node, out),
        }
        out.close(number, mark);
    }
}
