//! The flags about auditing. Names, defaults and words of errors are kube-apiserver's.

use crate::flags::Flags;
use anyhow::{Context, Result, bail, ensure};
use fairlead_audit::batch::{Batch, Throttle};
use fairlead_audit::log::Rotation;
use fairlead_audit::retention::Retention;
use fairlead_audit::sink::SinkConfig;
use fairlead_audit::{Form, Mode, Truncation};
use std::path::PathBuf;
use std::time::Duration;

/// What is audited, and where events go. Nothing is, without a policy or without a sink.
#[derive(Clone, Debug, Default)]
pub struct AuditSettings {
    pub policy: Option<PathBuf>,
    pub log: Option<LogSettings>,
    pub webhook: Option<WebhookSettings>,
}

#[derive(Clone, Debug)]
pub struct LogSettings {
    /// `-` is standard output.
    pub path: String,
    pub sink: SinkConfig,
    /// `None` where the file grows for ever.
    pub rotation: Option<Rotation>,
}

#[derive(Clone, Debug)]
pub struct WebhookSettings {
    pub kubeconfig: PathBuf,
    pub sink: SinkConfig,
    pub initial_backoff: Duration,
}

/// # Errors
/// A value makes no sense for a sink that is used.
pub fn settings(flags: &Flags) -> Result<AuditSettings> {
    Ok(AuditSettings {
        policy: flags.some("audit-policy-file").map(PathBuf::from),
        log: flags.some("audit-log-path").map(|path| log(flags, path)).transpose()?,
        webhook: flags
            .some("audit-webhook-config-file")
            .map(|path| webhook(flags, path))
            .transpose()?,
    })
}

fn log(flags: &Flags, path: &str) -> Result<LogSettings> {
    let mut sink = sink(flags, "log")?;
    sink.form = match flags.text("audit-log-format") {
        "json" => Form::Json,
        "legacy" => Form::Legacy,
        other => bail!("invalid audit log format {other}, allowed formats are \"legacy,json\""),
    };
    let limit = |name: &str| {
        let value = flags.int(name);
        u64::try_from(value)
            .ok()
            .with_context(|| format!("--{name} {value} can't be a negative number"))
    };
    let (days, files, megabytes) = (
        limit("audit-log-maxage")?,
        limit("audit-log-maxbackup")?,
        limit("audit-log-maxsize")?,
    );
    Ok(LogSettings {
        path: path.to_owned(),
        sink,
        rotation: (megabytes > 0).then_some(Rotation {
            max_bytes: megabytes.saturating_mul(1 << 20),
            retention: Retention {
                max_days: u32::try_from(days).unwrap_or(u32::MAX),
                max_files: usize::try_from(files).unwrap_or(usize::MAX),
                compress: flags.bool("audit-log-compress"),
            },
        }),
    })
}

fn webhook(flags: &Flags, path: &str) -> Result<WebhookSettings> {
    let backoff = match flags.given("audit-webhook-batch-initial-backoff") {
        true => "audit-webhook-batch-initial-backoff",
        false => "audit-webhook-initial-backoff",
    };
    Ok(WebhookSettings {
        kubeconfig: path.into(),
        sink: sink(flags, "webhook")?,
        initial_backoff: flags.duration(backoff),
    })
}

/// What both sinks have.
fn sink(flags: &Flags, plugin: &str) -> Result<SinkConfig> {
    let name = |what: &str| format!("audit-{plugin}-{what}");
    let mode = match flags.text(&name("mode")) {
        "batch" => Mode::Batch,
        "blocking" => Mode::Blocking,
        "blocking-strict" => Mode::BlockingStrict,
        other => bail!("invalid audit {plugin} mode {other}, allowed modes are \"batch,blocking,blocking-strict\""),
    };
    let (buffer, batch) = match mode {
        Mode::Batch => batch(flags, plugin)?,
        // COMPAT: what is not used is not judged.
        _ => (flags.int(&name("batch-buffer-size")).max(1), Batch::default()),
    };
    let (event, batch_bytes) = (
        flags.int(&name("truncate-max-event-size")),
        flags.int(&name("truncate-max-batch-size")),
    );
    ensure!(
        event > 0,
        "invalid audit truncate {plugin} max event size {event}, must be a positive number"
    );
    ensure!(
        batch_bytes >= event,
        "invalid audit truncate {plugin} max batch size {batch_bytes}, must be greater than max event size ({event})"
    );
    let version = flags.text(&name("version"));
    ensure!(
        version == "audit.k8s.io/v1",
        "invalid group version, allowed versions are [\"audit.k8s.io/v1\"]"
    );
    let size = |n: i64| usize::try_from(n).unwrap_or(usize::MAX);
    Ok(SinkConfig {
        form: Form::Json,
        mode,
        truncation: flags.bool(&name("truncate-enabled")).then_some(Truncation {
            max_event: size(event),
            max_batch: size(batch_bytes),
        }),
        buffer: size(buffer),
        batch,
    })
}

fn batch(flags: &Flags, plugin: &str) -> Result<(i64, Batch)> {
    let name = |what: &str| format!("audit-{plugin}-batch-{what}");
    let positive = |what: &str, value: f64, shown: &str| {
        ensure!(
            value > 0.0,
            "invalid audit batch {plugin} {what} {shown}, must be a positive number"
        );
        Ok(())
    };
    let (buffer, events) = (flags.int(&name("buffer-size")), flags.int(&name("max-size")));
    positive("buffer size", buffer as f64, &buffer.to_string())?;
    positive("max batch size", events as f64, &events.to_string())?;
    let mut batch = Batch::default();
    if events > 1 {
        batch.max_events = usize::try_from(events).unwrap_or(usize::MAX);
        batch.max_wait = flags.duration(&name("max-wait"));
    }
    if flags.bool(&name("throttle-enable")) {
        let per_second: f64 = flags.text(&name("throttle-qps")).parse().unwrap_or(0.0);
        let burst = flags.int(&name("throttle-burst"));
        positive("throttle QPS", per_second, &per_second.to_string())?;
        positive("throttle burst", burst as f64, &burst.to_string())?;
        batch.throttle = Some(Throttle {
            per_second,
            burst: u32::try_from(burst).unwrap_or(u32::MAX),
        });
    }
    Ok((buffer, batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<AuditSettings> {
        settings(&Flags::parse(arguments.iter().map(|a| (*a).to_owned())).unwrap())
    }

    #[test]
    fn defaults_are_upstreams() {
        let none = read(&[]).unwrap();
        assert!(none.policy.is_none() && none.log.is_none() && none.webhook.is_none());
        let some = read(&["--audit-log-path=-", "--audit-webhook-config-file=w"]).unwrap();
        let log = some.log.unwrap();
        assert_eq!(
            (log.sink.mode, log.sink.form, log.sink.truncation),
            (Mode::Blocking, Form::Json, None)
        );
        assert_eq!(log.rotation.unwrap().max_bytes, 100 << 20);
        let webhook = some.webhook.unwrap();
        assert_eq!((webhook.sink.mode, webhook.sink.buffer), (Mode::Batch, 10_000));
        let batch = webhook.sink.batch;
        assert_eq!((batch.max_events, batch.max_wait), (400, Duration::from_secs(30)));
        let throttle = Throttle {
            per_second: 10.0,
            burst: 15,
        };
        assert_eq!(batch.throttle, Some(throttle));
        assert_eq!(webhook.initial_backoff, Duration::from_secs(10));
    }

    #[test]
    fn what_makes_no_sense_is_said_in_upstreams_words() {
        for (flag, expected) in [
            (
                "--audit-log-mode=x",
                "invalid audit log mode x, allowed modes are \"batch,blocking,blocking-strict\"",
            ),
            (
                "--audit-log-format=x",
                "invalid audit log format x, allowed formats are \"legacy,json\"",
            ),
            (
                "--audit-log-maxage=-1",
                "--audit-log-maxage -1 can't be a negative number",
            ),
            (
                "--audit-log-version=v1",
                "invalid group version, allowed versions are [\"audit.k8s.io/v1\"]",
            ),
            (
                "--audit-log-truncate-max-event-size=0",
                "invalid audit truncate log max event size 0, must be a positive number",
            ),
            (
                "--audit-log-truncate-max-batch-size=1",
                "invalid audit truncate log max batch size 1, must be greater than max event size (102400)",
            ),
            (
                "--audit-webhook-batch-buffer-size=0",
                "invalid audit batch webhook buffer size 0, must be a positive number",
            ),
            (
                "--audit-webhook-batch-throttle-qps=0",
                "invalid audit batch webhook throttle QPS 0, must be a positive number",
            ),
        ] {
            let error = read(&["--audit-log-path=-", "--audit-webhook-config-file=w", flag]).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        // What is not used is not judged.
        assert!(read(&["--audit-log-mode=x", "--audit-webhook-mode=x"]).is_ok());
        assert!(read(&["--audit-log-path=-", "--audit-log-batch-buffer-size=0"]).is_ok());
    }
}
