//! What is counted of conversations, by upstream's names.

use fairlead_gateway::direct::Told;
use fairlead_telemetry::Families;
use fairlead_telemetry::metrics::Counters;

pub(super) struct ConnectionMetrics {
    insecure_logs: Counters,
    untrusted_logs: Counters,
    streaming: Counters,
    translated: Counters,
    tunnelled: Counters,
}

impl ConnectionMetrics {
    pub(super) fn register(families: &Families) -> ConnectionMetrics {
        ConnectionMetrics {
            insecure_logs: families.counters(
                "kube_apiserver_pod_logs_insecure_backend_total",
                "Requests for logs, by whether the kubelet's certificate had to be verified.",
                &["usage"],
            ),
            untrusted_logs: families.counters(
                "kube_apiserver_pod_logs_backend_tls_failure_total",
                "Requests for logs that failed since the kubelet's certificate was not accepted.",
                &[],
            ),
            streaming: families.counters(
                "apiserver_websocket_streaming_requests_total",
                "Requests for exec, attach and portforward, by who speaks the client's protocol.",
                &["subresource", "proxy_type"],
            ),
            translated: families.counters(
                "apiserver_stream_translator_requests_total",
                "Requests whose WebSocket was translated to SPDY, by how they ended.",
                &["code"],
            ),
            tunnelled: families.counters(
                "apiserver_stream_tunnel_requests_total",
                "Requests for ports whose WebSocket carried SPDY, by how they began.",
                &["code"],
            ),
        }
    }

    pub(super) fn log(&self, unverified: bool) {
        let usage = if unverified { "skip_tls_allowed" } else { "enforce_tls" };
        self.insecure_logs.with(&[usage]).inc();
    }

    pub(super) fn untrusted(&self) {
        self.untrusted_logs.with(&[]).inc();
    }

    /// Counts a translation once it is over.
    pub(super) fn translated(&self) -> Told {
        let translated = self.translated.clone();
        Box::new(move |code| translated.with(&[&code.to_string()]).inc())
    }

    pub(super) fn tunnelled(&self, code: u16) {
        self.tunnelled.with(&[&code.to_string()]).inc();
    }

    pub(super) fn streamed(&self, subresource: &str, by_kubelet: bool) {
        let by = if by_kubelet {
            "proxied_to_kubelet"
        } else {
            "translated_at_apiserver"
        };
        self.streaming.with(&[subresource, by]).inc();
    }
}
