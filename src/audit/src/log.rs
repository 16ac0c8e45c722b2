//! The log: a file, or standard output. One thread of its own writes what is waiting in one piece.

use crate::batch::Collector;
use crate::event::KIND;
use crate::metrics::Metrics;
use crate::retention::{self, Retention};
use crate::sink::{Form, Item};
use fairlead_api::Clock;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Where lines go.
pub enum Output {
    Standard,
    File(File),
    Rotated(Rotated),
}

/// A file that is put aside when it has become large.
pub struct Rotated {
    path: PathBuf,
    file: File,
    size: u64,
    limits: Rotation,
    clock: Arc<dyn Clock>,
}

/// When a file is put aside, and how long it is kept then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    pub max_bytes: u64,
    pub retention: Retention,
}

/// Starts writing what `collector` gives; `ended` is told when that was all.
///
/// # Errors
/// There can be no more threads.
pub fn start(
    mut collector: Collector,
    mut output: Output,
    form: Form,
    metrics: Metrics,
    ended: oneshot::Sender<()>,
) -> io::Result<()> {
    let runtime = Handle::current();
    let write = move || {
        while let Some(batch) = runtime.block_on(collector.next()) {
            let result = output.write(&batch, form);
            if let Err(error) = &result {
                metrics.lost("log", batch.len(), error);
            }
            batch.into_iter().for_each(|item| item.done(result.is_ok()));
        }
        // Nobody may wait for the end.
        _ = ended.send(());
    };
    // Nobody joins it: closing waits for its answer instead.
    std::thread::Builder::new().name("audit-log".into()).spawn(write)?;
    Ok(())
}

impl Output {
    /// Opens a file for appending, made where there is none, readable by its owner only; `-` is standard output.
    ///
    /// # Errors
    /// The file or its directory cannot be made or written to.
    pub fn open(path: &str, rotation: Option<Rotation>, clock: Arc<dyn Clock>) -> io::Result<Output> {
        if path == "-" {
            return Ok(Output::Standard);
        }
        let path = Path::new(path);
        make_directory(path)?;
        let file = open(path)?;
        let Some(limits) = rotation else {
            return Ok(Output::File(file));
        };
        let rotated = Rotated {
            path: path.to_owned(),
            size: file.metadata()?.len(),
            file,
            limits,
            clock,
        };
        rotated.tidy();
        Ok(Output::Rotated(rotated))
    }

    fn write(&mut self, batch: &[Item], form: Form) -> io::Result<()> {
        let mut lines = Vec::with_capacity(batch.iter().map(|item| item.text.len() + KIND.len() + 1).sum());
        for item in batch {
            let start = lines.len();
            if form == Form::Json {
                lines.extend_from_slice(KIND);
            }
            lines.extend_from_slice(&item.text);
            lines.push(b'\n');
            if let Output::Rotated(rotated) = self
                && rotated.is_full(lines.len())
            {
                rotated.append(&lines[..start])?;
                lines.drain(..start);
                rotated.rotate()?;
            }
        }
        match self {
            Output::Standard => {
                let mut out = io::stdout().lock();
                out.write_all(&lines)?;
                out.flush()
            }
            Output::File(file) => file.write_all(&lines),
            Output::Rotated(rotated) => rotated.append(&lines),
        }
    }
}

impl Rotated {
    /// A file has one line at least, however long.
    fn is_full(&self, more: usize) -> bool {
        self.size + more as u64 > self.limits.max_bytes && (self.size > 0 || more as u64 > self.limits.max_bytes)
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.size += lines.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.size == 0 {
            return Ok(());
        }
        fs::rename(&self.path, retention::aside(&self.path, self.clock.now()))?;
        self.file = open(&self.path)?;
        self.size = 0;
        self.tidy();
        Ok(())
    }

    /// Beside the writing: compressing takes seconds.
    fn tidy(&self) {
        let (path, limits, now) = (self.path.clone(), self.limits.retention, self.clock.now());
        let tidy = move || {
            if let Err(error) = retention::tidy(&path, limits, now) {
                tracing::warn!(path = %path.display(), %error, "old audit logs cannot be tidied up");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("audit-log-tidy".into()).spawn(tidy) {
            tracing::warn!(%error, "old audit logs cannot be tidied up");
        }
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) else {
        return Ok(());
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::sink::{Mode, Sink, SinkConfig, Sinks};
    use crate::{Level, Stage};
    use fairlead_api::Timestamp;
    use fairlead_api::time::FixedClock;
    use fairlead_telemetry::Families;
    use std::time::Duration;

    fn event(text: &str) -> Event {
        Event {
            stage: Stage::ResponseComplete,
            level: Level::Metadata,
            json: format!("\"a\":\"{text}\"}}").into(),
            bare: None,
            line: Some(text.to_owned().into()),
        }
    }

    async fn written(path: &Path, form: Form, rotation: Option<Rotation>, texts: &[&str]) {
        let metrics = Metrics::register(&Families::default());
        let clock = Arc::new(FixedClock(Timestamp(1_700_000_000_123_000_000)));
        let output = Output::open(path.to_str().unwrap(), rotation, clock).unwrap();
        let config = SinkConfig {
            form,
            mode: Mode::BlockingStrict,
            truncation: None,
            buffer: 10,
            batch: Default::default(),
        };
        let (ends, ended) = oneshot::channel();
        let (sink, collector) = Sink::new(config, &metrics, ended);
        start(collector, output, form, metrics, ends).unwrap();
        let sinks = Sinks::new(vec![sink]);
        for text in texts {
            assert!(sinks.put(&event(text)).await);
        }
        sinks.close(Duration::from_secs(10)).await;
    }

    #[tokio::test]
    async fn lines_are_there_when_the_request_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/audit.log");
        written(&path, Form::Json, None, &["1", "2"]).await;
        written(&path, Form::Legacy, None, &["3"]).await;
        let head = String::from_utf8(KIND.to_vec()).unwrap();
        let expected = format!("{head}\"a\":\"1\"}}\n{head}\"a\":\"2\"}}\n3\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[tokio::test]
    async fn a_large_file_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let rotation = Rotation {
            max_bytes: 10,
            retention: Retention::default(),
        };
        written(&path, Form::Legacy, Some(rotation), &["12345", "1234567890123", "1"]).await;
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        let aside = directory.path().join("audit-2023-11-14T22-13-20.123.log");
        // The clock stands still: the second file took the place of the first.
        assert_eq!(fs::read_to_string(aside).unwrap(), "1234567890123\n");
    }
}
