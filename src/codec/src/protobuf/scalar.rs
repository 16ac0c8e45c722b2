//! Values that JSON shows as one scalar or as anything, and protobuf as messages of their own.
// PERFORMANCE: per-request path

use super::Error;
use super::wire::{BYTES, Reader, VARINT, Writer};
use compact_str::CompactString;
use fairlead_api::quantity::Quantity;
use fairlead_api::time::{GoDuration, rfc3339};
use fairlead_api::{Node, Timestamp, json};

const NANOS: i128 = 1_000_000_000;

/// Calls `field` for every known one of a small message and passes over the others.
pub fn fields<'a>(
    bytes: &'a [u8],
    name: &str,
    mut field: impl FnMut(u32, u8, &mut Reader<'a>) -> Result<bool, Error>,
) -> Result<(), Error> {
    let mut reader = Reader::new(bytes);
    while let Some((wire, number, wire_type)) = reader.key()? {
        let number = checked(name, wire, number, wire_type)?;
        if !field(number, wire_type, &mut reader)? {
            reader.skip(wire_type)?;
        }
    }
    Ok(())
}

/// The number of a field as it stands in its key, where it is one.
pub fn checked(message: &str, wire: u64, number: i32, wire_type: u8) -> Result<u32, Error> {
    if wire_type == 4 {
        return Err(Error::Other(format!(
            "proto: {message}: wiretype end group for non-group"
        )));
    }
    match u32::try_from(number) {
        Ok(number @ 1..) => Ok(number),
        _ => Err(Error::Other(format!(
            "proto: {message}: illegal tag {number} (wire type {wire})"
        ))),
    }
}

pub fn expect(wire_type: u8, wanted: u8, field: &str) -> Result<(), Error> {
    if wire_type == wanted {
        return Ok(());
    }
    Err(Error::Other(format!(
        "proto: wrong wireType = {wire_type} for field {field}"
    )))
}

pub fn text(bytes: &[u8]) -> Node {
    Node::String(CompactString::from_utf8_lossy(bytes))
}

/// The one string of a message.
pub fn read_string<'a>(bytes: &'a [u8], message: &str, name: &str) -> Result<&'a [u8], Error> {
    let mut found: &[u8] = b"";
    fields(bytes, message, |number, wire_type, reader| {
        if number == 1 {
            expect(wire_type, BYTES, name)?;
            found = reader.bytes()?;
        }
        Ok(number == 1)
    })?;
    Ok(found)
}

pub fn read_quantity(bytes: &[u8]) -> Result<Node, Error> {
    let text = read_string(bytes, "Quantity", "String_")?;
    if text.is_empty() && bytes.is_empty() {
        return Ok(Node::string("0"));
    }
    let quantity = Quantity::parse(&String::from_utf8_lossy(text)).map_err(|error| Error::Other(error.to_string()))?;
    Ok(Node::String(quantity.canonical()))
}

/// Null for the zero time.
pub fn read_time(bytes: &[u8], micro: bool) -> Result<Node, Error> {
    if bytes.is_empty() {
        return Ok(Node::Null);
    }
    let (mut seconds, mut nanos) = (0i64, 0i32);
    fields(bytes, "Timestamp", |number, wire_type, reader| {
        match number {
            1 => {
                expect(wire_type, VARINT, "Seconds")?;
                seconds = reader.varint()? as i64;
            }
            2 => {
                expect(wire_type, VARINT, "Nanos")?;
                nanos = reader.varint()? as i32;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if micro {
        let micros = i128::from(nanos).div_euclid(1000);
        return Ok(Node::string(
            Timestamp(i128::from(seconds) * NANOS + micros * 1000).rfc3339_micro(),
        ));
    }
    Ok(Node::string(Timestamp::from_unix_seconds(seconds).rfc3339()))
}

pub fn write_time(node: &Node, micro: bool, out: &mut Writer) {
    let parsed = node.as_str().and_then(|text| match micro {
        true => rfc3339::parse_micros(text).ok().or_else(|| Timestamp::parse(text)),
        false => Timestamp::parse(text),
    });
    let Some(Timestamp(nanos)) = parsed else { return };
    let fraction = if micro { nanos.rem_euclid(NANOS) } else { 0 };
    out.number(2, fraction as u64);
    out.number(1, Timestamp(nanos).unix_seconds() as u64);
}

pub fn read_duration(bytes: &[u8]) -> Result<Node, Error> {
    let mut nanos = 0i64;
    fields(bytes, "Duration", |number, wire_type, reader| {
        if number == 1 {
            expect(wire_type, VARINT, "Duration")?;
            nanos = reader.varint()? as i64;
        }
        Ok(number == 1)
    })?;
    Ok(Node::string(GoDuration(nanos).to_string()))
}

pub fn write_duration(node: &Node, out: &mut Writer) {
    let nanos = node
        .as_str()
        .and_then(|text| GoDuration::parse(text).ok())
        .unwrap_or_default()
        .0;
    out.number(1, nanos as u64);
}

pub fn read_int_or_string(bytes: &[u8]) -> Result<Node, Error> {
    let (mut kind, mut int, mut string): (u64, i32, &[u8]) = (0, 0, b"");
    fields(bytes, "IntOrString", |number, wire_type, reader| {
        match number {
            1 => {
                expect(wire_type, VARINT, "Type")?;
                kind = reader.varint()?;
            }
            2 => {
                expect(wire_type, VARINT, "IntVal")?;
                int = reader.varint()? as i32;
            }
            3 => {
                expect(wire_type, BYTES, "StrVal")?;
                string = reader.bytes()?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(if kind == 1 { text(string) } else { Node::Int(int.into()) })
}

pub fn write_int_or_string(node: &Node, out: &mut Writer) {
    let string = node.as_str();
    out.field(3, string.unwrap_or_default().as_bytes());
    out.number(2, node.as_i64().unwrap_or(0) as u64);
    out.number(1, u64::from(string.is_some()));
}

/// JSON in a message; null where there is none.
pub fn read_raw(bytes: &[u8]) -> Result<Node, Error> {
    let raw = read_string(bytes, "RawExtension", "Raw")?;
    if raw.is_empty() {
        return Ok(Node::Null);
    }
    json::parse(raw).map_err(|error| Error::Other(error.to_string()))
}

pub fn write_raw(node: &Node, out: &mut Writer) {
    if !node.is_null() {
        out.field(1, &json::to_vec(node));
    }
}

pub fn read_strings(bytes: &[u8], name: &str) -> Result<Node, Error> {
    let mut items = Vec::new();
    fields(bytes, name, |number, wire_type, reader| {
        if number == 1 {
            expect(wire_type, BYTES, "Items")?;
            items.push(text(reader.bytes()?));
        }
        Ok(number == 1)
    })?;
    Ok(Node::List(items))
}

pub fn write_strings(node: &Node, number: u32, out: &mut Writer) {
    for item in node.as_list().into_iter().flatten().rev() {
        out.field(number, item.as_str().unwrap_or_default().as_bytes());
    }
}
