//! [`PortMap`]: which ports of a range are taken, one bit each, and the object it is stored as.
//!
//! Source of the form: kubernetes pkg/registry/core/service/allocator (bitmap.go) and api/core/v1 RangeAllocation.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fairlead_api::{Node, json, node};
use fairlead_codec::protobuf::envelope;
use fairlead_codec::protobuf::wire::{Reader, Writer};
use fairlead_resource::at_rest::Form;
use std::ops::RangeInclusive;

/// The ports of one range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMap {
    range: RangeInclusive<u16>,
    /// Bit `n` of byte `n / 8` is the port `n` above the first one.
    bits: Vec<u8>,
}

/// What a stored object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// `30000-32767`.
    pub spec: String,
    /// One large number, the highest byte first.
    pub data: Vec<u8>,
}

const API_VERSION: &str = "v1";
const KIND: &str = "RangeAllocation";
/// Numbers of the message's fields.
const METADATA: u32 = 1;
const RANGE: u32 = 2;
const DATA: u32 = 3;
const LENGTH_DELIMITED: u8 = 2;

impl PortMap {
    /// All are free.
    pub fn new(range: RangeInclusive<u16>) -> PortMap {
        let size = usize::from(range.end().saturating_sub(*range.start())) + 1;
        PortMap {
            range,
            bits: vec![0; size.div_ceil(8)],
        }
    }

    pub fn range(&self) -> &RangeInclusive<u16> {
        &self.range
    }

    /// `30000-32767`.
    pub fn spec(&self) -> String {
        format!("{}-{}", self.range.start(), self.range.end())
    }

    /// Whether a port is taken. Those outside the range never are.
    pub fn has(&self, port: u16) -> bool {
        self.place(port).is_some_and(|(byte, bit)| self.bits[byte] & bit != 0)
    }

    pub fn take(&mut self, port: u16) {
        if let Some((byte, bit)) = self.place(port) {
            self.bits[byte] |= bit;
        }
    }

    pub fn free(&mut self, port: u16) {
        if let Some((byte, bit)) = self.place(port) {
            self.bits[byte] &= !bit;
        }
    }

    /// The taken ones, in order.
    pub fn taken(&self) -> impl Iterator<Item = u16> {
        self.range.clone().filter(|port| self.has(*port))
    }

    /// The map that an object stores; `None` where that is of another range.
    pub fn of(range: RangeInclusive<u16>, stored: &Stored) -> Option<PortMap> {
        let mut map = PortMap::new(range);
        if stored.spec != map.spec() {
            return None;
        }
        for (byte, stored) in map.bits.iter_mut().zip(stored.data.iter().rev()) {
            *byte = *stored;
        }
        Some(map)
    }

    /// The value it is stored as.
    pub fn write(&self, form: Form) -> Vec<u8> {
        let data: Vec<u8> = self.bits.iter().rev().copied().skip_while(|byte| *byte == 0).collect();
        match form {
            Form::Json => {
                let mut object = node!({"kind": KIND, "apiVersion": API_VERSION, "metadata": {}});
                object.set("range", self.spec());
                object.set("data", BASE64_STANDARD.encode(data));
                json::to_vec(&object)
            }
            Form::Protobuf => {
                let mut message = Writer::with_capacity(data.len() + 32);
                // The writer fills from the end.
                message.field(DATA, &data);
                message.field(RANGE, self.spec().as_bytes());
                message.field(METADATA, &[]);
                envelope::seal(API_VERSION, KIND, &message.finish())
            }
        }
    }

    fn place(&self, port: u16) -> Option<(usize, u8)> {
        let n = port
            .checked_sub(*self.range.start())
            .filter(|_| self.range.contains(&port))?;
        Some((usize::from(n / 8), 1 << (n % 8)))
    }
}

impl Stored {
    /// Reads either form.
    ///
    /// # Errors
    /// Why the value is not such an object.
    pub fn read(value: &[u8]) -> Result<Stored, String> {
        if value.starts_with(envelope::MAGIC) {
            let document = envelope::open(value).map_err(|error| error.to_string())?;
            if document.kind != KIND {
                return Err(format!("it is a {}", document.kind));
            }
            return Stored::message(document.message).map_err(|error| error.to_string());
        }
        let object = json::parse(value).map_err(|error| error.to_string())?;
        let data = object.get("data").and_then(Node::as_str).unwrap_or_default();
        Ok(Stored {
            spec: object.str("range").to_owned(),
            data: BASE64_STANDARD.decode(data).map_err(|error| error.to_string())?,
        })
    }

    fn message(message: &[u8]) -> Result<Stored, fairlead_codec::protobuf::Error> {
        let (mut spec, mut data) = (String::new(), Vec::new());
        let mut reader = Reader::new(message);
        while let Some((_, number, wire_type)) = reader.key()? {
            match (u32::try_from(number), wire_type) {
                (Ok(RANGE), LENGTH_DELIMITED) => spec = String::from_utf8_lossy(reader.bytes()?).into_owned(),
                (Ok(DATA), LENGTH_DELIMITED) => data = reader.bytes()?.to_vec(),
                _ => reader.skip(wire_type)?,
            }
        }
        Ok(Stored { spec, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> PortMap {
        let mut map = PortMap::new(30000..=32767);
        [30000, 30009, 32767].into_iter().for_each(|port| map.take(port));
        map
    }

    #[test]
    fn both_forms_can_be_read_again() {
        for form in [Form::Json, Form::Protobuf] {
            for map in [some(), PortMap::new(30000..=32767)] {
                let stored = Stored::read(&map.write(form)).unwrap();
                assert_eq!(PortMap::of(30000..=32767, &stored), Some(map), "{form:?}");
                assert_eq!(PortMap::of(30000..=32766, &stored), None);
            }
        }
        assert!(Stored::read(b"k8s\0nothing").is_err());
        assert!(Stored::read(b"{").is_err());
    }

    #[test]
    fn the_first_port_is_the_lowest_bit_of_one_number() {
        let mut map = PortMap::new(30000..=30031);
        map.take(30000);
        map.take(30009);
        assert_eq!(Stored::read(&map.write(Form::Json)).unwrap().data, [2, 1]);
        let object = json::parse(&map.write(Form::Json)).unwrap();
        assert_eq!((object.str("range"), object.str("data")), ("30000-30031", "AgE="));
    }

    #[test]
    fn ports_outside_the_range_are_nobodys() {
        let mut map = some();
        map.take(29999);
        map.take(1);
        assert!(!map.has(29999) && !map.has(1));
        map.free(30009);
        assert_eq!(map.taken().collect::<Vec<_>>(), [30000, 32767]);
    }
}
