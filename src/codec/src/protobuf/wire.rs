//! Varints and fields: a reader with the failures of Go's generated code, and a writer that works from the end, so
//! that lengths are known when they are written.
// PERFORMANCE: per-request path

use super::Error;

/// Wire types.
pub const VARINT: u8 = 0;
pub const FIXED64: u8 = 1;
pub const BYTES: u8 = 2;

/// Reads a message from its start.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Writes a message from its end.
pub struct Writer {
    buffer: Vec<u8>,
    start: usize,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// The next field's key as it stands and as number and wire type; `None` at the end.
    pub fn key(&mut self) -> Result<Option<(u64, i32, u8)>, Error> {
        if self.is_empty() {
            return Ok(None);
        }
        let wire = self.varint()?;
        // COMPAT: Go cuts the number to 32 bits.
        Ok(Some((wire, (wire >> 3) as u32 as i32, (wire & 7) as u8)))
    }

    pub fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(Error::Eof)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::Overflow)
    }

    pub fn fixed64(&mut self) -> Result<u64, Error> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes were taken")))
    }

    /// What a length stands in front of.
    pub fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = self.varint()?;
        let length = i64::try_from(length).map_err(|_| Error::NegativeLength)?;
        if (self.at as i64).checked_add(length).is_none() {
            return Err(Error::NegativeLength);
        }
        self.take(usize::try_from(length).map_err(|_| Error::Eof)?)
    }

    /// Passes over a field whose key has been read.
    pub fn skip(&mut self, wire_type: u8) -> Result<(), Error> {
        let mut depth = 0u32;
        let mut wire_type = wire_type;
        loop {
            match wire_type {
                VARINT => {
                    self.varint()?;
                }
                FIXED64 => self.jump(8)?,
                BYTES => {
                    self.bytes()?;
                }
                3 => depth += 1,
                4 if depth == 0 => return Err(Error::EndOfGroup),
                4 => depth -= 1,
                5 => self.jump(4)?,
                other => return Err(Error::Other(format!("proto: illegal wireType {other}"))),
            }
            if depth == 0 {
                return Ok(());
            }
            wire_type = (self.varint()? & 7) as u8;
        }
    }

    fn jump(&mut self, length: usize) -> Result<(), Error> {
        self.take(length).map(|_| ())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let taken = self.bytes[self.at..].get(..length).ok_or(Error::Eof)?;
        self.at += length;
        Ok(taken)
    }
}

// === impl Writer ===

impl Writer {
    pub fn with_capacity(capacity: usize) -> Writer {
        Writer {
            buffer: vec![0; capacity],
            start: capacity,
        }
    }

    /// How much has been written.
    pub fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.room(bytes.len());
        self.start -= bytes.len();
        self.buffer[self.start..self.start + bytes.len()].copy_from_slice(bytes);
    }

    pub fn varint(&mut self, value: u64) {
        let mut encoded = [0u8; 10];
        let mut length = 0;
        let mut rest = value;
        while rest >= 0x80 {
            encoded[length] = rest as u8 | 0x80;
            rest >>= 7;
            length += 1;
        }
        encoded[length] = rest as u8;
        self.bytes(&encoded[..=length]);
    }

    pub fn key(&mut self, number: u32, wire_type: u8) {
        self.varint(u64::from(number) << 3 | u64::from(wire_type));
    }

    /// The head of a field whose content is everything written since `mark`, a former [`Writer::len`].
    pub fn close(&mut self, number: u32, mark: usize) {
        self.varint((self.len() - mark) as u64);
        self.key(number, BYTES);
    }

    /// A field of bytes or text.
    pub fn field(&mut self, number: u32, bytes: &[u8]) {
        let mark = self.len();
        self.bytes(bytes);
        self.close(number, mark);
    }

    pub fn number(&mut self, number: u32, value: u64) {
        self.varint(value);
        self.key(number, VARINT);
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.buffer.drain(..self.start);
        self.buffer
    }

    fn room(&mut self, length: usize) {
        if self.start >= length {
            return;
        }
        let used = self.len();
        let mut larger = vec![0; (self.buffer.len() * 2).max(used + length + 64)];
        let start = larger.len() - used;
        larger[start..].copy_from_slice(&self.buffer[self.start..]);
        self.buffer = larger;
        self.start = start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX, (-5i64) as u64] {
            let mut writer = Writer::with_capacity(0);
            writer.varint(value);
            let bytes = writer.finish();
            assert_eq!(Reader::new(&bytes).varint(), Ok(value));
        }
        assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(Error::Overflow));
        assert_eq!(Reader::new(&[0x80]).varint(), Err(Error::Eof));
    }

    #[test]
    fn lengths_are_checked() {
        assert_eq!(Reader::new(&[5, 1]).bytes(), Err(Error::Eof));
        let negative = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(Reader::new(&negative).bytes(), Err(Error::NegativeLength));
    }

    #[test]
    fn groups_are_passed_over() {
        // A group that holds a varint, then its end.
        let mut reader = Reader::new(&[0x08, 0x01, 0x0c, 0x08]);
        assert_eq!(reader.skip(3), Ok(()));
        assert_eq!(reader.key(), Ok(Some((8, 1, 0))));
        assert_eq!(Reader::new(&[]).skip(4), Err(Error::EndOfGroup));
        assert_eq!(Reader::new(&[]).skip(3), Err(Error::Eof));
    }
}
