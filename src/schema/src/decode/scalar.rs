//! Values without members: checked against their type and put into canonical form.

use super::{Misfit, base64};
use crate::types::Shape;
use fairlead_api::Node;
use fairlead_api::quantity::Quantity;
use fairlead_api::time::{GoDuration, rfc3339};
use std::borrow::Cow;

/// The JSON kind of a value as Go's messages have it.
pub(super) fn go_kind(node: &Node) -> String {
    match node {
        Node::Null => "null",
        Node::Bool(_) => "bool",
        Node::Int(_) | Node::Float(_) => "number",
        Node::String(_) => "string",
        Node::List(_) => "array",
        Node::Map(_) => "object",
    }
    .to_owned()
}

/// Puts a value that is not null into the form Go would write.
pub(super) fn coerce(node: &mut Node, shape: &Shape) -> Result<(), Misfit> {
    match (shape, &*node) {
        (Shape::Bool, Node::Bool(_))
        | (Shape::String, Node::String(_))
        | (Shape::Float, Node::Int(_) | Node::Float(_)) => Ok(()),
        (Shape::Int { bits }, Node::Int(_) | Node::Float(_)) => fits(node, *bits).map_err(Misfit::Type),
        (Shape::Bytes, Node::String(text)) => match base64::canonical(text) {
            Ok(Cow::Borrowed(_)) => Ok(()),
            Ok(Cow::Owned(canonical)) => {
                *node = canonical.into();
                Ok(())
            }
            Err(at) => Err(Misfit::Message {
                text: format!("illegal base64 data at input byte {at}"),
                stops: false,
            }),
        },
        (Shape::Quantity, value) => {
            let text = match value {
                Node::String(text) => Cow::Borrowed(text.trim()),
                Node::Int(i) => Cow::Owned(i.to_string()),
                Node::Float(f) => Cow::Owned(f.to_string()),
                // Go hands it the raw JSON, and no other JSON is a number with a suffix.
                _ => Cow::Borrowed(""),
            };
            *node = Node::String(Quantity::parse(&text).map_err(stop)?.canonical());
            Ok(())
        }
        (Shape::Time, Node::String(text)) => {
            let instant = rfc3339::parse_seconds(text).map_err(stop)?;
            rewrite(node, instant, instant.rfc3339());
            Ok(())
        }
        (Shape::MicroTime, Node::String(text)) => {
            let instant = rfc3339::parse_micros(text).map_err(stop)?;
            rewrite(node, instant, instant.rfc3339_micro());
            Ok(())
        }
        (Shape::Duration, Node::String(text)) => {
            let canonical = GoDuration::parse(text).map_err(stop)?.to_string();
            if *text != canonical {
                *node = canonical.into();
            }
            Ok(())
        }
        (Shape::Time | Shape::MicroTime | Shape::Duration, other) => Err(own(go_kind(other), "string")),
        (Shape::IntOrString, Node::String(_)) => Ok(()),
        (Shape::IntOrString, Node::Int(_) | Node::Float(_)) => fits(node, 32).map_err(|what| own(what, "int32")),
        (Shape::IntOrString, other) => Err(own(go_kind(other), "int32")),
        (_, other) => Err(Misfit::Type(go_kind(other))),
    }
}

fn own(what: String, ty: &'static str) -> Misfit {
    Misfit::Inner { what, ty, stops: true }
}

/// Base64 of bytes given as numbers, which Go takes too; or which item is no byte, and what it is.
pub(super) fn bytes_of(list: &[Node]) -> Result<Node, (usize, String)> {
    let byte = |(i, item): (usize, &Node)| match item {
        Node::Null => Ok(0),
        Node::Int(n) => u8::try_from(*n).map_err(|_| (i, format!("number {n}"))),
        Node::Float(f) => Err((i, format!("number {f}"))),
        other => Err((i, go_kind(other))),
    };
    let bytes = list.iter().enumerate().map(byte).collect::<Result<Vec<u8>, _>>()?;
    Ok(base64::encode(&bytes).into())
}

fn stop(error: impl ToString) -> Misfit {
    Misfit::Message {
        text: error.to_string(),
        stops: true,
    }
}

/// The zero time is null in JSON.
fn rewrite(node: &mut Node, instant: fairlead_api::Timestamp, text: String) {
    const ZERO: i64 = -62_135_596_800;
    let is_zero = instant == fairlead_api::Timestamp::from_unix_seconds(ZERO);
    if is_zero {
        *node = Node::Null;
    } else if node.as_str() != Some(&text) {
        *node = text.into();
    }
}

fn fits(node: &Node, bits: u8) -> Result<(), String> {
    match node {
        Node::Int(i) if bits >= 64 || i32::try_from(*i).is_ok() => Ok(()),
        Node::Int(i) => Err(format!("number {i}")),
        Node::Float(f) if f.fract() == 0.0 && f.abs() < 1e15 => Err(format!("number {f:.1}")),
        other => Err(format!("number {}", other.as_f64().unwrap_or_default())),
    }
}
