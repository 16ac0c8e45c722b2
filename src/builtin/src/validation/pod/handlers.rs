//! Probes, lifecycle handlers and stop signals of containers.
// PERFORMANCE: per-request path

use super::super::at::At;
use super::super::common::{port_number, port_number_or_name};
use super::spec::Pod;
use fairlead_api::{FieldErrors, name};

const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];
const WINDOWS_SIGNALS: &[&str] = &["SIGKILL", "SIGTERM"];

/// Lifecycle and probes of a container that runs as long as its pod does.
pub fn lifecycle_and_probes(container: &At, pod: &Pod, errors: &mut FieldErrors) {
    if let Some(lifecycle) = container.get("lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(handler) = lifecycle.get(hook) {
                check(&handler, &["exec", "httpGet", "tcpSocket", "sleep"], pod, errors);
            }
        }
        if lifecycle.has("stopSignal") {
            stop_signal(&lifecycle, pod.os, errors);
        }
    }
    if let Some(liveness) = container.get("livenessProbe") {
        probe(&liveness, pod, errors);
        success_once(&liveness, errors);
    }
    if let Some(readiness) = container.get("readinessProbe") {
        probe(&readiness, pod, errors);
        if let Some(seconds) = readiness.number("terminationGracePeriodSeconds") {
            let detail = "must not be set for readinessProbes";
            readiness.invalid("terminationGracePeriodSeconds", seconds, detail, errors);
        }
    }
    if let Some(startup) = container.get("startupProbe") {
        probe(&startup, pod, errors);
        success_once(&startup, errors);
    }
}

fn success_once(probe: &At, errors: &mut FieldErrors) {
    let threshold = probe.int("successThreshold");
    if threshold != 1 {
        probe.invalid("successThreshold", threshold, "must be 1", errors);
    }
}

fn probe(probe: &At, pod: &Pod, errors: &mut FieldErrors) {
    check(probe, &["exec", "httpGet", "tcpSocket", "grpc"], pod, errors);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        probe.non_negative(field, errors);
    }
    if let Some(seconds) = probe
        .number("terminationGracePeriodSeconds")
        .filter(|seconds| *seconds <= 0)
    {
        probe.invalid(
            "terminationGracePeriodSeconds",
            seconds,
            "must be greater than 0",
            errors,
        );
    }
}

/// Exactly one of the `kinds` of handlers.
fn check(at: &At, kinds: &[&str], pod: &Pod, errors: &mut FieldErrors) {
    let mut found = false;
    for kind in kinds {
        let Some(handler) = at.get(kind) else { continue };
        if found {
            at.forbidden(kind, "may not specify more than 1 handler type", errors);
            continue;
        }
        found = true;
        match *kind {
            "exec" if handler.len("command") == 0 => handler.required("command", "", errors),
            "httpGet" => http_get(&handler, errors),
            "tcpSocket" => port_number_or_name(&handler, "port", errors),
            "grpc" => port_number(&handler, "port", errors),
            "sleep" => sleep(&handler, pod.grace_period, errors),
            _ => {}
        }
    }
    if !found {
        at.required("", "must specify a handler type", errors);
    }
}

fn http_get(at: &At, errors: &mut FieldErrors) {
    at.require("path", errors);
    port_number_or_name(at, "port", errors);
    at.one_of("scheme", &["HTTP", "HTTPS"], errors);
    for header in at.list("httpHeaders") {
        let header = header.str("name");
        at.complain("httpHeaders", header, name::is_http_header_name(header), errors);
    }
}

fn sleep(at: &At, grace_period: Option<i64>, errors: &mut FieldErrors) {
    let seconds = at.int("seconds");
    if let Some(most) = grace_period.filter(|most| seconds < 0 || seconds > *most) {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({most})");
        at.invalid("", seconds, detail, errors);
    }
}

fn stop_signal(lifecycle: &At, os: Option<&str>, errors: &mut FieldErrors) {
    match os {
        None => {
            let detail = "may not be set for containers with empty `spec.os.name`";
            lifecycle.forbidden("stopSignal", detail, errors);
        }
        Some("windows") => lifecycle.one_of("stopSignal", WINDOWS_SIGNALS, errors),
        Some("linux") => lifecycle.one_of("stopSignal", SIGNALS, errors),
        Some(_) => {}
    }
}
