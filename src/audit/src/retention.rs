//! Rotated logs: their names, how long they are kept, and compression. Names and rules are those of the logs that
//! kube-apiserver leaves, so that what ships or tidies them goes on to work.

use fairlead_api::Timestamp;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// How long rotated logs are kept. Zero means for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    pub max_days: u32,
    pub max_files: usize,
    pub compress: bool,
}

const STAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]-[minute]-[second].[subsecond digits:3]");
const COMPRESSED: &str = ".gz";

/// `audit.log` is put aside as `audit-2006-01-02T15-04-05.000.log`.
pub fn aside(path: &Path, now: Timestamp) -> PathBuf {
    let (stem, extension) = parts(path);
    let at = OffsetDateTime::from_unix_timestamp_nanos(now.0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let stamp = at.format(STAMP).unwrap_or_default();
    path.with_file_name(format!("{stem}-{stamp}{extension}"))
}

/// Removes what is too old or too much, and compresses the rest where that is asked for.
///
/// # Errors
/// A file cannot be listed, removed or compressed.
pub fn tidy(path: &Path, retention: Retention, now: Timestamp) -> io::Result<()> {
    let mut kept = Vec::new();
    for (at, file) in old(path)? {
        let age = now.unix_seconds() - at;
        let aged = retention.max_days > 0 && age > i64::from(retention.max_days) * 86_400;
        // Both forms of one file may be there for a moment.
        let known = kept.iter().any(|(stamp, _)| *stamp == at);
        let full = retention.max_files > 0 && !known && kept.len() >= retention.max_files;
        if aged || full {
            fs::remove_file(file)?;
        } else {
            kept.push((at, file));
        }
    }
    if retention.compress {
        let mut plain = kept.iter().map(|(_, file)| file).filter(|file| !is_compressed(file));
        plain.try_for_each(|file| compress(file))?;
    }
    Ok(())
}

/// Rotated logs of `path` and the seconds of their stamps, the newest first.
fn old(path: &Path) -> io::Result<Vec<(i64, PathBuf)>> {
    let (stem, extension) = parts(path);
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory.unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let name = entry.file_name();
        let stamp = name
            .to_str()
            .map(|name| name.strip_suffix(COMPRESSED).unwrap_or(name))
            .and_then(|name| name.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(&extension))
            .and_then(|stamp| PrimitiveDateTime::parse(stamp, STAMP).ok());
        if let Some(stamp) = stamp {
            found.push((stamp.assume_utc(), entry.path()));
        }
    }
    found.sort_by(|one, other| other.cmp(one));
    Ok(found
        .into_iter()
        .map(|(at, file)| (at.unix_timestamp(), file))
        .collect())
}

fn compress(file: &Path) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(COMPRESSED);
    let target = PathBuf::from(name);
    let mut source = File::open(file)?;
    let out = File::create(&target)?;
    out.set_permissions(source.metadata()?.permissions())?;
    let mut encoder = GzEncoder::new(out, Compression::default());
    let result = io::copy(&mut source, &mut encoder).and_then(|_| encoder.finish()?.sync_all());
    match result {
        Ok(()) => fs::remove_file(file),
        Err(error) => {
            // Half of it is worth nothing beside the whole.
            _ = fs::remove_file(&target);
            Err(error)
        }
    }
}

fn is_compressed(file: &Path) -> bool {
    file.to_string_lossy().ends_with(COMPRESSED)
}

/// The name without its extension, and the extension with its dot.
fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned());
    let extension = text(path.extension()).map(|e| format!(".{e}")).unwrap_or_default();
    (text(path.file_stem()).unwrap_or_default(), extension)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_old_and_the_many_go_and_the_rest_is_compressed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let now = Timestamp::parse("2026-11-24T12:00:00Z").unwrap();
        assert_eq!(
            aside(&path, now).file_name().unwrap(),
            "audit-2026-11-24T12-00-00.000.log"
        );
        for name in [
            "audit.log",
            "audit-2026-11-24T11-00-00.000.log",
            "audit-2026-11-23T11-00-00.000.log.gz",
            "audit-2026-11-22T11-00-00.000.log",
            "audit-2026-11-01T11-00-00.000.log",
            "audit-other.log",
            "other-2020-11-01T11-00-00.000.log",
        ] {
            fs::write(directory.path().join(name), "text").unwrap();
        }
        tidy(&path, Retention::default(), now).unwrap();
        assert_eq!(names(directory.path()).len(), 7);
        let aged = Retention {
            max_days: 7,
            ..Retention::default()
        };
        tidy(&path, aged, now).unwrap();
        assert_eq!(names(directory.path()).len(), 6);
        let few = Retention {
            max_files: 2,
            compress: true,
            ..aged
        };
        tidy(&path, few, now).unwrap();
        assert_eq!(
            names(directory.path()),
            [
                "audit-2026-11-23T11-00-00.000.log.gz",
                "audit-2026-11-24T11-00-00.000.log.gz",
                "audit-other.log",
                "audit.log",
                "other-2020-11-01T11-00-00.000.log",
            ]
        );
        let compressed = File::open(directory.path().join("audit-2026-11-24T11-00-00.000.log.gz")).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(compressed)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "text");
    }
}
