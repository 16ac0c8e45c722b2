//! gzip of lists that compresses no object twice: a list is cut into groups of objects, each compressed by itself and kept
//! with its first object. Deflate blocks can be put one after the other, and so can CRCs.
//!
//! Where a group ends depends on the keys alone, so that a change costs its own group, and so that all lists of the
//! same objects share.
// PERFORMANCE: per-request path

use crate::body::{Body, BoxError};
use crate::encode::PIECE;
use bytes::Bytes;
use fairlead_storage::Cached;
use flate2::{Compress, Compression, Crc, FlushCompress};
use std::sync::Arc;

/// A list to be compressed.
pub struct Plain<W> {
    pub head: Vec<u8>,
    pub objects: Vec<Arc<Cached>>,
    /// Appends an object behind its separator.
    pub write: W,
    /// The length of the separator, which the first object has none of.
    pub separator: usize,
    pub tail: &'static [u8],
    /// Tells groups of one form from others' (see [`fairlead_storage::Forms::group`]).
    pub form: usize,
}

/// A body that is the gzip of a list.
pub fn stream<W>(plain: Plain<W>) -> Body
where
    W: Fn(&Cached, &mut Vec<u8>) + Send + 'static,
{
    let state = State {
        plain,
        at: 0,
        crc: Crc::new(),
        encoder: None,
        ended: false,
    };
    let pieces = futures_util::stream::unfold(state, |mut state| async move {
        // An error is the last piece.
        match state.piece().transpose()? {
            Ok(piece) => Some((Ok(piece), state)),
            Err(error) => {
                state.ended = true;
                Some((Err(error), state))
            }
        }
    });
    Body::stream(Box::pin(pieces), None)
}

struct State<W> {
    plain: Plain<W>,
    /// The next object.
    at: usize,
    crc: Crc,
    encoder: Option<Compress>,
    ended: bool,
}

/// What is kept of a group.
struct Compressed {
    crc: Crc,
    blocks: Bytes,
}

/// In front of all: deflate, no name, no time, the quickest method, an unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
/// Groups have about this many objects.
const OBJECTS: u64 = 16;
/// A group of large objects ends when it is this long.
const GROUP: usize = 128 * 1024;
/// How much is compressed at a time: short enough not to hold up other requests.
const STEP: usize = 256 * 1024;

impl<W: Fn(&Cached, &mut Vec<u8>)> State<W> {
    /// The next piece worth a write.
    fn piece(&mut self) -> Result<Option<Bytes>, BoxError> {
        if self.ended {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(PIECE + PIECE / 4);
        if self.at == 0 {
            out.extend_from_slice(&HEADER);
            let mut plain = std::mem::take(&mut self.plain.head);
            if let Some(first) = self.plain.objects.first() {
                let mut object = Vec::with_capacity(first.json.len() + 1);
                (self.plain.write)(first, &mut object);
                plain.extend_from_slice(object.get(self.plain.separator..).unwrap_or_default());
            }
            self.crc.update(&plain);
            deflate(self.encoder.get_or_insert_with(encoder), &plain, &mut out)?;
            self.at = 1;
        }
        let mut work = 0;
        while out.len() < PIECE && work < STEP {
            if self.at >= self.plain.objects.len() {
                self.end(&mut out);
                break;
            }
            work += self.group(&mut out)?;
        }
        Ok(Some(out.into()))
    }

    /// Appends the next group. Answers how much had to be compressed.
    fn group(&mut self, out: &mut Vec<u8>) -> Result<usize, BoxError> {
        let rest = self.plain.objects.get(self.at..).unwrap_or_default();
        let objects = &rest[..group_length(rest)];
        self.at += objects.len();
        let of: Box<[u64]> = objects.iter().map(|object| object.revision.0).collect();
        let Some(first) = objects.first() else { return Ok(0) };
        let kept = first.forms.group(self.plain.form, &of);
        if let Some(kept) = kept.as_ref().and_then(|kept| kept.downcast_ref::<Compressed>()) {
            self.crc.combine(&kept.crc);
            out.extend_from_slice(&kept.blocks);
            return Ok(0);
        }
        let mut plain = Vec::with_capacity(objects.iter().map(|object| object.json.len() + 8).sum());
        objects.iter().for_each(|object| (self.plain.write)(object, &mut plain));
        let mut blocks = Vec::with_capacity(plain.len() / 4 + 64);
        deflate(self.encoder.get_or_insert_with(encoder), &plain, &mut blocks)?;
        blocks.shrink_to_fit();
        out.extend_from_slice(&blocks);
        let mut crc = Crc::new();
        crc.update(&plain);
        self.crc.combine(&crc);
        let made = Compressed {
            crc,
            blocks: blocks.into(),
        };
        first.forms.keep_group(self.plain.form, of, Arc::new(made));
        Ok(plain.len())
    }

    /// The tail in a last block that is not compressed, and what closes the file.
    fn end(&mut self, out: &mut Vec<u8>) {
        let length = u16::try_from(self.plain.tail.len()).expect("tails are a few bytes");
        out.push(1);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(self.plain.tail);
        self.crc.update(self.plain.tail);
        out.extend_from_slice(&self.crc.sum().to_le_bytes());
        out.extend_from_slice(&self.crc.amount().to_le_bytes());
        self.ended = true;
    }
}

/// How many objects belong to the group that begins here: up to the next whose key says that it begins one.
fn group_length(objects: &[Arc<Cached>]) -> usize {
    let mut bytes = 0;
    for (at, object) in objects.iter().enumerate() {
        if at > 0 && (bytes > GROUP || hash(&object.key).is_multiple_of(OBJECTS)) {
            return at;
        }
        bytes += object.json.len();
    }
    objects.len()
}

/// FNV-1a of the end of a key, where keys differ; mixed, as its last bytes hardly reach some bits.
fn hash(key: &str) -> u64 {
    let end = &key.as_bytes()[key.len().saturating_sub(12)..];
    let hash = end.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48
}

fn encoder() -> Compress {
    Compress::new(Compression::fast(), false)
}

/// Appends blocks that end at a byte and refer to nothing before them.
fn deflate(encoder: &mut Compress, mut plain: &[u8], out: &mut Vec<u8>) -> Result<(), BoxError> {
    loop {
        out.reserve(plain.len() / 4 + 256);
        let before = encoder.total_in();
        encoder.compress_vec(plain, out, FlushCompress::Full)?;
        let taken = usize::try_from(encoder.total_in() - before)?;
        plain = plain.get(taken..).unwrap_or_default();
        // Room that is left over means that everything has been flushed.
        if plain.is_empty() && out.len() < out.capacity() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_storage::{Forms, Header, Revision};
    use http_body_util::BodyExt;
    use std::io::Read;

    fn object(name: usize, revision: u64, padding: usize) -> Arc<Cached> {
        let pad: String = (0..padding).map(|i| char::from(b'a' + (i * name % 26) as u8)).collect();
        Arc::new(Cached {
            key: format!("default/object-{name}").into(),
            revision: Revision(revision),
            json: format!("{{\"n\":{name},\"r\":{revision},\"p\":\"{pad}\"}}").into(),
            header: Header::default(),
            forms: Forms::default(),
        })
    }

    fn groups(objects: &[Arc<Cached>]) -> Vec<Vec<u64>> {
        let (mut rest, mut groups) = (&objects[1.min(objects.len())..], Vec::new());
        while !rest.is_empty() {
            let (group, more) = rest.split_at(group_length(rest));
            groups.push(group.iter().map(|object| object.revision.0).collect());
            rest = more;
        }
        groups
    }

    fn is_kept(objects: &[Arc<Cached>], group: &[u64]) -> bool {
        let first = objects.iter().find(|object| object.revision.0 == group[0]).unwrap();
        first.forms.group(0, group).is_some()
    }

    async fn check(objects: &[Arc<Cached>]) {
        let plain = Plain {
            head: b"[".to_vec(),
            objects: objects.to_vec(),
            write: |object: &Cached, out: &mut Vec<u8>| {
                out.push(b',');
                object.json.write(0, out);
            },
            separator: 1,
            tail: b"]\n",
            form: 0,
        };
        let packed = stream(plain).collect().await.unwrap().to_bytes();
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_string(&mut unpacked)
            .unwrap();
        let items: Vec<_> = objects
            .iter()
            .map(|o| String::from_utf8_lossy(&o.json.text()).into_owned())
            .collect();
        assert_eq!(unpacked, format!("[{}]\n", items.join(",")));
        assert!(groups(objects).iter().all(|group| is_kept(objects, group)));
    }

    #[tokio::test]
    async fn a_change_costs_its_group_alone() {
        let mut objects: Vec<_> = (0..500).map(|i| object(i, i as u64 + 1, 900)).collect();
        assert!((15..80).contains(&groups(&objects).len()), "{}", groups(&objects).len());
        check(&objects).await;
        check(&objects).await;
        objects[250] = object(250, 600, 900);
        let lost = groups(&objects)
            .into_iter()
            .filter(|group| !is_kept(&objects, group))
            .count();
        assert_eq!(lost, 1);
        check(&objects).await;
        // A part of a list, as of one that was filtered.
        objects.remove(100);
        check(&objects[3..320]).await;
    }

    #[tokio::test]
    async fn short_lists_and_large_objects_are_lists_too() {
        check(&[]).await;
        check(&[object(1, 1, 10)]).await;
        let large: Vec<_> = (0..5).map(|i| object(i, i as u64 + 1, 300_000)).collect();
        check(&large).await;
    }
}
