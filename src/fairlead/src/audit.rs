//! Auditing as it is configured: the policy is read, files are opened, sinks are started.

use crate::config::audit::{AuditSettings, LogSettings, WebhookSettings};
use crate::core_backend::Given;
use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use fairlead_api::Clock;
use fairlead_api::field::go_quote;
use fairlead_audit::log::{self, Output};
use fairlead_audit::sink::Sink;
use fairlead_audit::{Auditor, Metrics, Policy, Post, Sinks, webhook};
use fairlead_codec::yaml;
use fairlead_gateway::core::Core;
use fairlead_telemetry::{Families, task};
use futures_util::future::BoxFuture;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Starts auditing; `None` where nothing is audited.
///
/// # Errors
/// The policy is none, or a sink cannot be opened.
pub fn start(settings: &AuditSettings, families: &Families, clock: Arc<dyn Clock>) -> Result<Option<Arc<Auditor>>> {
    let metrics = Metrics::register(families);
    let Some(path) = &settings.policy else {
        if settings.log.is_some() || settings.webhook.is_some() {
            tracing::warn!("nothing is audited without --audit-policy-file");
        }
        return Ok(None);
    };
    let policy = policy(path).map_err(|why| anyhow!("loading audit policy file: {why}"))?;
    let mut sinks = Vec::new();
    if let Some(log) = &settings.log {
        let sink = start_log(log, &metrics, clock.clone());
        sinks.push(sink.with_context(|| format!("--audit-log-path={}", log.path))?);
    }
    if let Some(webhook) = &settings.webhook {
        sinks.push(start_webhook(webhook, &metrics, families).context("initializing audit webhook")?);
    }
    if sinks.is_empty() {
        return Ok(None);
    }
    Ok(Some(Arc::new(Auditor::new(policy, Sinks::new(sinks), metrics, clock))))
}

fn policy(path: &Path) -> Result<Policy, String> {
    let shown = path.display().to_string();
    let unread = |error: std::io::Error| {
        let why = match error.kind() {
            ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => error.to_string(),
        };
        format!("failed to read file path {}: open {shown}: {why}", go_quote(&shown))
    };
    let text = std::fs::read(path).map_err(unread)?;
    let document = yaml::parse_strict(&text).map_err(|error| format!("failed decoding: {error}: from file {shown}"))?;
    Policy::from_node(&document.node).map_err(|error| format!("{error}: from file {shown}"))
}

fn start_log(settings: &LogSettings, metrics: &Metrics, clock: Arc<dyn Clock>) -> Result<Sink> {
    let output = Output::open(&settings.path, settings.rotation, clock)?;
    let (ends, ended) = oneshot::channel();
    let (sink, collector) = Sink::new(settings.sink.clone(), metrics, ended);
    log::start(collector, output, settings.sink.form, metrics.clone(), ends)?;
    Ok(sink)
}

fn start_webhook(settings: &WebhookSettings, metrics: &Metrics, families: &Families) -> Result<Sink> {
    let path = &settings.kubeconfig;
    let text = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let given = Given::read(&text, path.parent().unwrap_or(Path::new(".")))?;
    let roots = fairlead_gateway::tls::system_roots();
    let gateway_metrics = fairlead_gateway::Metrics::new(families);
    let receiver = Receiver {
        server: Core::named("audit-webhook", given.config, &gateway_metrics, &roots)?,
        token_file: given.token_file,
    };
    receiver.server.set_token(given.token.as_deref());
    let (ends, ended) = oneshot::channel();
    let (sink, collector) = Sink::new(settings.sink.clone(), metrics, ended);
    // Closing the sink waits for its end.
    task::spawn(
        "audit-webhook",
        webhook::run(
            collector,
            Arc::new(receiver),
            settings.initial_backoff,
            metrics.clone(),
            ends,
        ),
    );
    Ok(sink)
}

/// The server that a kubeconfig names.
struct Receiver {
    server: Core,
    token_file: Option<PathBuf>,
}

impl Post for Receiver {
    fn post(&self, body: Bytes) -> BoxFuture<'static, Result<(), String>> {
        let (server, token_file) = (self.server.clone(), self.token_file.clone());
        Box::pin(async move {
            if let Some(path) = token_file {
                // It is another one from time to time.
                let token = tokio::fs::read_to_string(path).await.map_err(|e| e.to_string())?;
                server.set_token(Some(token.trim()));
            }
            server.deliver(body).await.map_err(|error| error.to_string())
        })
    }
}
