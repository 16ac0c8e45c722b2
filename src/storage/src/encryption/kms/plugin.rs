//! [`Plugin`]: the three things a KMS v2 plugin can be asked, and [`Grpc`], the way to ask it on a unix socket.

use crate::encryption::kms::wire::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
};
use crate::encryption::metrics::Metrics;
use futures_util::future::BoxFuture;
use std::time::{Duration, Instant};
use tonic::client::Grpc as Client;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

/// A plugin, or a test's.
pub(in crate::encryption) trait Plugin: Send + Sync {
    fn status(&self) -> BoxFuture<'_, Result<StatusResponse, Failure>>;
    fn encrypt(&self, request: EncryptRequest) -> BoxFuture<'_, Result<EncryptResponse, Failure>>;
    fn decrypt(&self, request: DecryptRequest) -> BoxFuture<'_, Result<Vec<u8>, Failure>>;
}

/// Displays as Go prints a gRPC status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rpc error: code = {code} desc = {message}")]
pub struct Failure {
    pub code: &'static str,
    pub message: String,
}

/// How long to wait before a plugin that is not there is looked for again.
const PAUSE: Duration = Duration::from_millis(100);

/// A plugin on a unix socket.
pub struct Grpc {
    channel: Channel,
    name: Box<str>,
    /// Of one call, its waiting for the socket included.
    timeout: Duration,
    metrics: Metrics,
}

impl Grpc {
    /// Connects when it is first asked.
    ///
    /// # Errors
    /// A sentence about the endpoint.
    pub fn new(endpoint: &str, name: &str, timeout: Duration, metrics: Metrics) -> Result<Grpc, String> {
        let path = endpoint.strip_prefix("unix:").unwrap_or_default();
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.starts_with("/@") || path.starts_with('@') {
            return Err(format!(
                "endpoint {endpoint:?}: abstract sockets are not supported, name a socket in the file system"
            ));
        }
        let channel = Endpoint::from_shared(format!("unix:{path}"))
            .map_err(|error| format!("endpoint {endpoint:?}: {error}"))?
            .connect_lazy();
        Ok(Grpc {
            channel,
            name: name.into(),
            timeout,
            metrics,
        })
    }

    async fn call<Q, A>(&self, method: &'static str, request: Q) -> Result<A, Failure>
    where
        Q: prost::Message + Clone + 'static,
        A: prost::Message + Default + 'static,
    {
        let started = Instant::now();
        let answered = tokio::time::timeout(self.timeout, async {
            loop {
                match self.attempt(method, request.clone()).await {
                    // A plugin may start after this server, or be replaced: wait for it, as upstream does.
                    Err(failure) if failure.code == "Unavailable" => tokio::time::sleep(PAUSE).await,
                    other => return other,
                }
            }
        });
        let answer = answered.await.unwrap_or_else(|_| {
            Err(Failure {
                code: "DeadlineExceeded",
                message: "context deadline exceeded".into(),
            })
        });
        let code = answer.as_ref().err().map_or("OK", |failure| failure.code);
        self.metrics.plugin_asked(&self.name, method, code, started);
        answer
    }

    async fn attempt<Q, A>(&self, method: &'static str, request: Q) -> Result<A, Failure>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut client = Client::new(self.channel.clone());
        client.ready().await.map_err(|error| Failure {
            code: "Unavailable",
            message: error.to_string(),
        })?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = client
            .unary(Request::new(request), PathAndQuery::from_static(method), codec)
            .await;
        answer.map(tonic::Response::into_inner).map_err(|status| Failure {
            code: code(status.code()),
            message: status.message().to_owned(),
        })
    }
}

impl Plugin for Grpc {
    fn status(&self) -> BoxFuture<'_, Result<StatusResponse, Failure>> {
        Box::pin(self.call("/v2.KeyManagementService/Status", StatusRequest {}))
    }

    fn encrypt(&self, request: EncryptRequest) -> BoxFuture<'_, Result<EncryptResponse, Failure>> {
        Box::pin(self.call("/v2.KeyManagementService/Encrypt", request))
    }

    fn decrypt(&self, request: DecryptRequest) -> BoxFuture<'_, Result<Vec<u8>, Failure>> {
        Box::pin(async move {
            let answer: DecryptResponse = self.call("/v2.KeyManagementService/Decrypt", request).await?;
            Ok(answer.plaintext)
        })
    }
}

/// As Go names it.
fn code(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// Names one request in the plugin's log.
pub(super) fn uid() -> Result<String, String> {
    let mut bytes = [0; 16];
    crate::encryption::cipher::random(&mut bytes)?;
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    Ok(format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    ))
}
