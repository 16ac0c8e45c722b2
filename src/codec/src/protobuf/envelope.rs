//! What stands around a message: `k8s` and a zero byte, its apiVersion and kind; and the frames of watches.
// PERFORMANCE: per-request path

use super::Error;
use super::scalar::{expect, fields};
use super::wire::{BYTES, Writer};
use compact_str::CompactString;

/// In front of every document.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// A document taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Document<'a> {
    pub api_version: CompactString,
    pub kind: CompactString,
    pub message: &'a [u8],
}

/// Takes a document apart.
///
/// # Errors
/// Upstream's words for what is no document.
pub fn open(bytes: &[u8]) -> Result<Document<'_>, Error> {
    if bytes.is_empty() {
        return Err(Error::Other("empty data".into()));
    }
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        let why = "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]";
        return Err(Error::Other(why.into()));
    };
    if rest.is_empty() {
        return Err(Error::Other("empty body".into()));
    }
    let mut document = Document::default();
    fields(rest, "Unknown", |number, wire_type, reader| {
        match number {
            1 => {
                expect(wire_type, BYTES, "TypeMeta")?;
                type_meta(reader.bytes()?, &mut document)?;
            }
            2 => {
                expect(wire_type, BYTES, "Raw")?;
                document.message = reader.bytes()?;
            }
            3 | 4 => {
                expect(
                    wire_type,
                    BYTES,
                    if number == 3 { "ContentEncoding" } else { "ContentType" },
                )?;
                reader.bytes()?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(document)
}

fn type_meta(bytes: &[u8], document: &mut Document) -> Result<(), Error> {
    fields(bytes, "TypeMeta", |number, wire_type, reader| {
        let (name, target) = match number {
            1 => ("APIVersion", &mut document.api_version),
            2 => ("Kind", &mut document.kind),
            _ => return Ok(false),
        };
        expect(wire_type, BYTES, name)?;
        *target = CompactString::from_utf8_lossy(reader.bytes()?);
        Ok(true)
    })
}

/// A document of a message.
pub fn seal(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut out = Writer::with_capacity(message.len() + api_version.len() + kind.len() + 32);
    write(api_version, kind, message, &mut out);
    out.finish()
}

/// The length in front of a frame.
pub const FRAME_HEAD: usize = 4;

/// One event of a watch: a length in four bytes, the type, and the document.
pub fn frame(event: &str, api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut out = Writer::with_capacity(message.len() + api_version.len() + kind.len() + 64);
    write(api_version, kind, message, &mut out);
    around(event, out)
}

/// [`frame`] of a document that is ready.
pub fn frame_document(event: &str, document: &[u8]) -> Vec<u8> {
    let mut out = Writer::with_capacity(document.len() + 64);
    out.bytes(document);
    around(event, out)
}

fn around(event: &str, mut out: Writer) -> Vec<u8> {
    out.close(1, 0);
    out.close(2, 0);
    out.field(1, event.as_bytes());
    let length = u32::try_from(out.len()).unwrap_or(u32::MAX);
    out.bytes(&length.to_be_bytes());
    out.finish()
}

/// The document of a list that is made of ready messages: its head up to where the items stand, `tail` behind them.
pub struct List {
    pub head: Vec<u8>,
    pub tail: &'static [u8],
}

const TAIL: &[u8] = b"\x1a\x00\x22\x00";

impl List {
    /// Of list metadata (a message) and the lengths of the items' messages.
    pub fn new(api_version: &str, kind: &str, metadata: &[u8], items: impl Iterator<Item = usize>) -> List {
        let mut first = Writer::with_capacity(metadata.len() + 64);
        first.field(1, metadata);
        let items: usize = items.map(|length| item_head(length).len() + length).sum();
        let length = first.len() + items;
        first.varint(length as u64);
        first.key(2, BYTES);
        head(api_version, kind, &mut first);
        List {
            head: first.finish(),
            tail: TAIL,
        }
    }
}

/// What stands in front of an item of a list.
pub fn item_head(length: usize) -> Vec<u8> {
    let mut out = Writer::with_capacity(8);
    out.varint(length as u64);
    out.key(2, BYTES);
    out.finish()
}

fn write(api_version: &str, kind: &str, message: &[u8], out: &mut Writer) {
    out.bytes(TAIL);
    let tail = out.len();
    out.bytes(message);
    out.close(2, tail);
    head(api_version, kind, out);
}

fn head(api_version: &str, kind: &str, out: &mut Writer) {
    let mark = out.len();
    out.field(2, kind.as_bytes());
    out.field(1, api_version.as_bytes());
    out.close(1, mark);
    out.bytes(MAGIC);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_what_go_writes() {
        let sealed = seal("v1", "Pod", b"\x0a\x00");
        assert_eq!(
            sealed,
            b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x02\x0a\x00\x1a\x00\x22\x00"
        );
        let opened = open(&sealed).unwrap();
        assert_eq!(
            (&*opened.api_version, &*opened.kind, opened.message),
            ("v1", "Pod", &b"\x0a\x00"[..])
        );
    }

    #[test]
    fn lists_of_ready_items_are_documents() {
        let list = List::new("v1", "PodList", b"\x0a\x00", [2usize, 0].into_iter());
        let mut bytes = list.head;
        for item in [&b"\x0a\x00"[..], b""] {
            bytes.extend(item_head(item.len()));
            bytes.extend_from_slice(item);
        }
        bytes.extend_from_slice(list.tail);
        assert_eq!(
            open(&bytes).unwrap().message,
            b"\x0a\x02\x0a\x00\x12\x02\x0a\x00\x12\x00"
        );
    }

    #[test]
    fn frames_hold_documents() {
        let frame = frame("ADDED", "v1", "Pod", b"");
        let length = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
        assert_eq!(length, frame.len() - 4);
        assert_eq!(&frame[4..11], b"\x0a\x05ADDED");
        assert_eq!(frame, frame_document("ADDED", &seal("v1", "Pod", b"")));
    }

    #[test]
    fn what_is_no_document_is_told() {
        let text = |bytes: &[u8]| open(bytes).unwrap_err().to_string();
        assert_eq!(text(b""), "empty data");
        assert_eq!(text(b"k8s\0"), "empty body");
        assert_eq!(text(b"k8s\0\xff\xff\xff"), "unexpected EOF");
        assert!(text(b"hello").ends_with("expected prefix [107 56 115 0]"));
    }
}
