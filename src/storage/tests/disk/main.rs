//! The embedded store on a disk that fails: short writes, no space, failing fsyncs, and a power cut at every point of it
//! all. What was acknowledged is there afterwards, what was refused is not, and the store opens.
//!
//! A child process works on a disk that fails as told (`disk.c`, loaded into it) and writes down everything that reaches
//! the disk; [`images`] makes from that what the disk may have at each moment.

// All of this file is tests, its helpers too.
#![allow(clippy::unwrap_used)]

mod images;

use bytes::Bytes;
use fairlead_api::Timestamp;
use fairlead_api::time::FixedClock;
use fairlead_storage::store::Result;
use fairlead_storage::{Embedded, EmbeddedConfig, Error, Expect, Revision, Store};
use images::{Disk, Done, Fate};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

/// Where the child works. Set only by the parent.
const DIR: &str = "DISK_DIR";
const WRITERS: u32 = 6;
/// How often the child opens the store and closes it again, and what each writer writes in between.
const SESSIONS: u64 = 3;
const ATTEMPTS: u64 = 12;

/// What fails.
#[derive(Clone, Copy, Debug)]
struct Fault {
    /// A write, a sync or a truncation, ...
    call: &'static str,
    /// ... of files whose names end so, ...
    file: &'static str,
    /// ... from which on, and how many.
    from: u32,
    times: u32,
    /// With which number; 0: writes are short.
    error: i32,
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;
const SHORT: i32 = 0;
const LOG: &str = "-wal";
const TABLE: &str = ".db";

const fn fault(call: &'static str, file: &'static str, from: u32, times: u32, error: i32) -> Fault {
    Fault {
        call,
        file,
        from,
        times,
        error,
    }
}

// === tests ===

#[test]
fn a_power_cut_at_any_point_loses_no_acknowledged_write() {
    run("no fault", None);
}

#[test]
fn failing_fsyncs_lose_no_acknowledged_write() {
    for from in [1, 2, 5, 11, 20] {
        run("a failing sync of the log", Some(fault("sync", LOG, from, 1, EIO)));
    }
    for from in [1, 2, 3, 4, 5, 6] {
        run("a failing sync of the table", Some(fault("sync", TABLE, from, 1, EIO)));
    }
    run("syncs of the log fail for long", Some(fault("sync", LOG, 4, 40, EIO)));
    run(
        "syncs of the table fail for long",
        Some(fault("sync", TABLE, 3, 40, EIO)),
    );
}

#[test]
fn failing_writes_lose_no_acknowledged_write() {
    for from in [1, 3, 30, 61] {
        run("a failing write to the log", Some(fault("write", LOG, from, 1, EIO)));
        run(
            "a failing write to the table",
            Some(fault("write", TABLE, from, 1, EIO)),
        );
    }
    run("short writes to the log", Some(fault("write", LOG, 5, 1000, SHORT)));
    run("short writes to the table", Some(fault("write", TABLE, 2, 1000, SHORT)));
    run("truncations fail", Some(fault("truncate", "", 1, 5, EIO)));
}

#[test]
fn a_full_disk_loses_no_acknowledged_write() {
    for (from, times) in [(1, 3), (9, 1), (20, 7), (40, 30)] {
        let outcome = run("no space for the log", Some(fault("write", LOG, from, times, ENOSPC)));
        assert!(outcome.unknown == 0, "what finds no room has not happened: {outcome:?}");
    }
    run("no space for the table", Some(fault("write", TABLE, 3, 60, ENOSPC)));
}

#[test]
fn a_quota_is_a_full_disk() {
    for (from, times) in [(20, 3), (40, 30), (70, 200)] {
        let outcome = run("a quota", Some(fault("write", "", from, times, EDQUOT)));
        // Whether a quota is the reason is asked afterwards: of one batch it may have ended in between.
        let one_batch = WRITERS as usize;
        assert!(
            outcome.unknown <= one_batch,
            "what finds no room has not happened: {outcome:?}"
        );
        let for_long = times >= 200 && outcome.states > 0;
        assert!(!for_long || outcome.refused > 0, "nobody was told: {outcome:?}");
    }
}

// === the child ===

/// Not a test of its own: the process on the bad disk. Writes down, on the same disk, what came of each attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let notes = Arc::new(File::create(dir.join("notes")).unwrap());
    for session in 0..SESSIONS {
        let Ok(store) = open(dir) else {
            note(&notes, "closed");
            continue;
        };
        let writers = (0..WRITERS).map(|writer| {
            let (store, notes) = (store.clone(), notes.clone());
            fairlead_telemetry::task::spawn("writer", write(store, notes, writer, session * ATTEMPTS))
        });
        for writer in futures_util::future::join_all(writers).await {
            writer.unwrap();
        }
        if session % 2 == 0 {
            let revision = store.revision().await.unwrap();
            _ = store.compact(Revision(revision.0.saturating_sub(5))).await;
        }
        store.close().await;
    }
}

/// Attempts `ATTEMPTS` writes of one key, numbered from `after` on. Every seventh attempt is a delete.
async fn write(store: Embedded, notes: Arc<File>, writer: u32, after: u64) {
    let key = format!("/k/{writer}");
    let mut current = store.get(&key).await.unwrap().0.map(|entry| entry.mod_revision);
    for number in after + 1..=after + ATTEMPTS {
        let result = match current {
            Some(at) if deletes(number) => store.delete(&key, Expect::Unchanged(at)).await,
            Some(at) => store.put(&key, value(number), Expect::Unchanged(at), None).await,
            None if deletes(number) => continue,
            None => store.put(&key, value(number), Expect::Absent, None).await,
        };
        match &result {
            Ok(revision) => note(&notes, &format!("done {key} {number} {}", revision.0)),
            Err(Error::Unavailable(_) | Error::Full(_)) => note(&notes, &format!("refused {key} {number}")),
            Err(Error::Indeterminate(_)) => note(&notes, &format!("unknown {key} {number}")),
            Err(error) => panic!("{key} {number}: {error:?}"),
        }
        let entry = store.get(&key).await.expect("reads go on").0;
        current = entry.as_ref().map(|entry| entry.mod_revision);
        match result {
            Ok(revision) => assert_eq!(current, Some(revision).filter(|_| !deletes(number)), "{key} {number}"),
            Err(_) => assert_ne!(
                entry.map(|entry| numbered(&entry.value)),
                Some(number),
                "not confirmed, and shown"
            ),
        }
    }
}

fn note(mut notes: &File, line: &str) {
    notes.write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn deletes(number: u64) -> bool {
    number.is_multiple_of(7)
}

fn value(number: u64) -> Bytes {
    format!("{number} {}", "x".repeat((number % 5 * 3000) as usize)).into()
}

fn numbered(value: &Bytes) -> u64 {
    let text = String::from_utf8_lossy(value);
    text.split(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .expect("values begin with numbers")
}

fn open(dir: &Path) -> Result<Embedded> {
    let clock = FixedClock(Timestamp::from_unix_seconds(0));
    Embedded::open(dir, EmbeddedConfig::new(Arc::new(clock)))
}

// === the parent ===

/// What a run came to.
#[derive(Debug, Default)]
struct Tally {
    done: usize,
    refused: usize,
    unknown: usize,
    /// States of the disk that were looked at.
    states: usize,
}

/// Lets a child work on a disk with this fault, and looks at what the disk may have at many moments of it.
fn run(what: &str, fault: Option<Fault>) -> Tally {
    let Some(library) = library() else {
        return Tally::default();
    };
    let base = scratch();
    let (dir, log) = (base.path().join("disk"), base.path().join("log"));
    std::fs::create_dir(&dir).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["child", "--exact", "--nocapture"])
        .env("LD_PRELOAD", library)
        .env(DIR, &dir)
        .env("DISK_LOG", &log);
    if let Some(fault) = fault {
        command
            .env("DISK_FAIL", fault.call)
            .env("DISK_FILE", fault.file)
            .env("DISK_FROM", fault.from.to_string())
            .env("DISK_TIMES", fault.times.to_string())
            .env("DISK_ERROR", fault.error.to_string());
    }
    let output = command.output().unwrap();
    let said = || String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{what}, {fault:?}: {}", said());
    let history = images::read(&log);
    let tally = look(&history, &format!("{what}, {fault:?}"));
    println!("{what}, {fault:?}: {tally:?}");
    assert!(tally.done > 0 || fault.is_some(), "nothing was written");
    tally
}

/// Cuts the power at many moments.
fn look(history: &[(String, Done)], what: &str) -> Tally {
    let moments = if std::env::var_os("SLOW_TESTS").is_some() {
        150
    } else {
        30
    };
    let step = (history.len() / moments).max(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut disk = Disk::default();
    let mut notes = Notes::default();
    let mut tally = Tally::default();
    for (at, (name, done)) in history.iter().enumerate() {
        match (name.as_str(), done) {
            ("notes", Done::Write { data, .. }) => notes.take(&String::from_utf8_lossy(data), &mut tally),
            ("notes", _) => {}
            (name, done) => disk.take(name, done),
        }
        let last = at + 1 == history.len();
        if (at % step != 0 && !last) || at == 0 {
            continue;
        }
        let seed = at as u64;
        let fates = [Fate::Lost, Fate::Torn(seed), Fate::Kept, Fate::Mixed(seed)];
        for fate in if last { &fates[..] } else { &fates[at / step % 4..][..1] } {
            let dir = scratch();
            disk.write(dir.path(), *fate);
            runtime.block_on(notes.check(
                dir.path(),
                &format!("{what}: the power went after {at} calls, {fate:?}"),
            ));
            tally.states += 1;
        }
    }
    tally
}

/// What the child has written down so far, by key.
#[derive(Default)]
struct Notes {
    done: BTreeMap<String, (u64, u64)>,
    refused: BTreeSet<(String, u64)>,
    /// Since the last that was done.
    unknown: BTreeMap<String, Vec<u64>>,
    last: BTreeMap<String, u64>,
}

impl Notes {
    fn take(&mut self, line: &str, tally: &mut Tally) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (what, key, number) = match words[..] {
            [what, key, number, ..] => (what, key.to_owned(), number.parse().unwrap()),
            _ => return,
        };
        self.last.insert(key.clone(), number);
        match what {
            "done" => {
                tally.done += 1;
                self.unknown.remove(&key);
                self.done.insert(key, (number, words[3].parse().unwrap()));
            }
            "unknown" => {
                tally.unknown += 1;
                self.unknown.entry(key).or_default().push(number);
            }
            _ => {
                tally.refused += 1;
                self.refused.insert((key, number));
            }
        }
    }

    /// Whether the store in `dir` has what it must have, and nothing else.
    async fn check(&self, dir: &Path, when: &str) {
        let store = open(dir).unwrap_or_else(|error| panic!("{when}: {error}"));
        let range = store.range("/k/", "", 1000, None).await;
        let range = range.unwrap_or_else(|error| panic!("{when}: {error}"));
        let found: BTreeMap<&str, (u64, u64)> = range
            .entries
            .iter()
            .map(|entry| (&*entry.key, (numbered(&entry.value), entry.mod_revision.0)))
            .collect();
        for writer in 0..WRITERS {
            let key = format!("/k/{writer}");
            let there = found.get(&*key).copied();
            let done = self.done.get(&key).copied();
            if let Some((_, revision)) = done {
                assert!(
                    range.revision.0 >= revision,
                    "{when}: {key} is lost with revision {revision}"
                );
            }
            // What was under way, or not confirmed, may be there instead of what was done last.
            let after = self.last.get(&key).copied().unwrap_or_default();
            let unknown = self.unknown.get(&key).into_iter().flatten().copied();
            let mut open = unknown.chain(after + 1..=after + 2 * ATTEMPTS);
            let fine = match (there, done) {
                (Some(there), Some(done)) if there == done => !deletes(done.0),
                (None, None) => true,
                (None, Some((number, _))) => deletes(number) || open.any(deletes),
                (Some((number, revision)), _) => {
                    done.is_none_or(|(_, at)| revision > at) && open.any(|open| open == number) && !deletes(number)
                }
            };
            assert!(fine, "{when}: {key} is {there:?}, acknowledged was {done:?}");
            if let Some((number, _)) = there {
                assert!(!self.refused.contains(&(key, number)), "{when}: refused, and there");
            }
        }
        // It goes on from there.
        store
            .put("/k/next", value(1), Expect::Absent, None)
            .await
            .unwrap_or_else(|error| panic!("{when}: {error}"));
        store.close().await;
    }
}

/// `disk.c`, compiled; `None` where that cannot be done.
fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/disk/disk.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&path, &source])
            .args(["-ldl", "-lpthread"])
            .status();
        match compiled {
            Ok(status) if status.success() && cfg!(target_os = "linux") => Some((dir, path)),
            outcome => {
                println!("skipped: there is no C compiler for a disk that fails ({outcome:?})");
                None
            }
        }
    });
    library.as_ref().map(|(_, path)| path.as_path())
}

/// A directory in memory, where there is such a place: nothing here depends on a real disk.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(dir) = tempfile::tempdir_in(memory)
    {
        return dir;
    }
    tempfile::tempdir().unwrap()
}
