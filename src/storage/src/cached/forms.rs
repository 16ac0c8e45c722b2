//! [`Forms`]: other encodings of one object, made on first demand.
// PERFORMANCE: per-request path

use crate::feed::lock;
use bytes::Bytes;
use std::any::Any;
use std::sync::{Arc, Mutex, OnceLock, Weak};

/// What has been made of an object besides its JSON; dropped with it. A word and a flag until something is made.
///
/// What is kept is bounded by the object: its protobuf message (shorter than the JSON), its table cells (a few dozen
/// bytes), and the compressed forms of the group of objects it begins. Watch frames are shared while somebody sends
/// them and not kept after.
#[derive(Debug, Default)]
pub struct Forms(OnceLock<Box<Made>>);

#[derive(Debug, Default)]
struct Made {
    protobuf: OnceLock<Bytes>,
    cells: Mutex<Option<Cells>>,
    groups: Mutex<[Option<Group>; GROUPS]>,
    frames: Mutex<[Weak<Vec<u8>>; FRAMES]>,
}

/// How many kinds of watch frames there are.
pub const FRAMES: usize = 3;
/// How many forms of lists keep groups.
pub const GROUPS: usize = 2;

/// What was made of a run of objects in a list, kept with the first of them.
#[derive(Debug)]
struct Group {
    /// The revisions of the objects, which say what they are.
    of: Box<[u64]>,
    made: Arc<dyn Any + Send + Sync>,
}

/// The cells of an object's table row, as a JSON array.
#[derive(Clone, Debug)]
pub struct Cells {
    /// Of which columns.
    pub columns: u64,
    /// When they read so, in unix seconds; both ends included.
    pub valid: (i64, i64),
    pub json: Bytes,
}

impl Forms {
    fn made(&self) -> &Made {
        self.0.get_or_init(Box::default)
    }

    /// The protobuf message, if it has been made.
    pub fn protobuf(&self) -> Option<&Bytes> {
        self.0.get()?.protobuf.get()
    }

    /// Keeps a protobuf message; the first one stays.
    pub fn keep_protobuf(&self, message: Bytes) -> Bytes {
        self.made().protobuf.get_or_init(|| message).clone()
    }

    /// The cells for these columns at this time, if they have been made.
    pub fn cells(&self, columns: u64, now: i64) -> Option<Bytes> {
        let cells = lock(&self.0.get()?.cells);
        let fits = |cells: &&Cells| cells.columns == columns && (cells.valid.0..=cells.valid.1).contains(&now);
        cells.as_ref().filter(fits).map(|cells| cells.json.clone())
    }

    pub fn keep_cells(&self, cells: Cells) {
        *lock(&self.made().cells) = Some(cells);
    }

    /// What was kept for the run of objects with these revisions that begins with this one, in a form of list (below
    /// [`GROUPS`]).
    pub fn group(&self, form: usize, of: &[u64]) -> Option<Arc<dyn Any + Send + Sync>> {
        let groups = lock(&self.0.get()?.groups);
        let kept = groups[form].as_ref().filter(|group| *group.of == *of);
        kept.map(|group| group.made.clone())
    }

    pub fn keep_group(&self, form: usize, of: Box<[u64]>, made: Arc<dyn Any + Send + Sync>) {
        lock(&self.made().groups)[form] = Some(Group { of, made });
    }

    /// The watch frame of a kind (below [`FRAMES`]): the one somebody is sending, or a new one.
    pub fn frame(&self, kind: usize, make: impl FnOnce() -> Vec<u8>) -> Bytes {
        let mut frames = lock(&self.made().frames);
        if let Some(frame) = frames[kind].upgrade() {
            return Bytes::from_owner(Shared(frame));
        }
        let frame = Arc::new(make());
        frames[kind] = Arc::downgrade(&frame);
        Bytes::from_owner(Shared(frame))
    }
}

struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_shared_while_they_are_in_use() {
        let forms = Forms::default();
        let first = forms.frame(1, || b"a".to_vec());
        let second = forms.frame(1, || b"b".to_vec());
        assert_eq!((&first[..], &second[..]), (&b"a"[..], &b"a"[..]));
        assert_eq!(&forms.frame(2, || b"c".to_vec())[..], b"c");
        drop((first, second));
        assert_eq!(&forms.frame(1, || b"d".to_vec())[..], b"d");
    }

    #[test]
    fn cells_are_those_of_their_columns_and_time() {
        let forms = Forms::default();
        assert_eq!(forms.cells(1, 10), None);
        forms.keep_cells(Cells {
            columns: 1,
            valid: (10, 14),
            json: "[]".into(),
        });
        for (columns, now, there) in [
            (1, 10, true),
            (1, 14, true),
            (1, 15, false),
            (1, 9, false),
            (2, 12, false),
        ] {
            assert_eq!(forms.cells(columns, now).is_some(), there);
        }
    }
}
