//! A KMS v2 plugin on a unix socket, asked over gRPC. Its messages are written down a second time here, so that the two
//! sides cannot be wrong in the same way by accident.

// All of this file is tests, its helpers too.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use fairlead_api::time::FixedClock;
use fairlead_api::{Clock, GroupResource, Timestamp, node};
use fairlead_storage::encryption::config::EncryptionConfiguration;
use fairlead_storage::encryption::{Encryption, Keyring, Metrics};
use fairlead_storage::{Expect, Memory, Store};
use fairlead_telemetry::{Families, task, text};
use futures_util::future::{Ready, ready};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixListener;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusAnswer {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    healthz: String,
    #[prost(string, tag = "3")]
    key_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Decrypt {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "4")]
    annotations: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Plain {
    #[prost(bytes = "vec", tag = "1")]
    plaintext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Encrypted {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "3")]
    annotations: BTreeMap<String, Vec<u8>>,
}

struct Unary<F>(F);

impl<F, Q, A> UnaryService<Q> for Unary<F>
where
    F: Fn(Q) -> Result<A, Status>,
{
    type Response = A;
    type Future = Ready<Result<Response<A>, Status>>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        ready((self.0)(request.into_inner()).map(Response::new))
    }
}

fn turned(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ 0x5a).collect()
}

async fn answer(
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<hyper::Response<tonic::body::Body>, Infallible> {
    Ok(match request.uri().path() {
        "/v2.KeyManagementService/Status" => {
            let told = |_: Empty| {
                Ok(StatusAnswer {
                    version: "v2".into(),
                    healthz: "ok".into(),
                    key_id: "key".into(),
                })
            };
            Grpc::new(ProstCodec::default()).unary(Unary(told), request).await
        }
        "/v2.KeyManagementService/Encrypt" => {
            let sealed = |plain: Plain| {
                assert_eq!((plain.plaintext.len(), plain.uid.len()), (32, 36));
                Ok(Encrypted {
                    ciphertext: turned(&plain.plaintext),
                    key_id: "key".into(),
                    annotations: [("note.example.com".to_owned(), b"n".to_vec())].into(),
                })
            };
            Grpc::new(ProstCodec::default()).unary(Unary(sealed), request).await
        }
        _ => {
            let opened = |sealed: Decrypt| {
                if sealed.key_id != "key" || sealed.annotations["note.example.com"] != b"n" || sealed.uid.len() != 36 {
                    return Err(Status::permission_denied("not mine"));
                }
                Ok(Plain {
                    plaintext: turned(&sealed.ciphertext),
                    uid: String::new(),
                })
            };
            Grpc::new(ProstCodec::default()).unary(Unary(opened), request).await
        }
    })
}

fn serve(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    _ = task::spawn("plugin", async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            _ = task::spawn("plugin-connection", async move {
                let service = hyper::service::service_fn(answer);
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                _ = connection.await;
            });
        }
    });
}

fn keyring(socket: &Path, metrics: &Metrics) -> Keyring {
    let file = node!({
        "kind": "EncryptionConfiguration",
        "apiVersion": "apiserver.config.k8s.io/v1",
        "resources": [{
            "resources": ["secrets"],
            "providers": [{ "kms": {
                "apiVersion": "v2", "name": "plugin", "timeout": "2s", "endpoint": format!("unix://{}", socket.display()),
            } }],
        }],
    });
    let config = EncryptionConfiguration::from_node(&file, &|_| Ok(2_000_000_000)).unwrap();
    assert_eq!(config.validate(true), []);
    let clock: Arc<dyn Clock> = Arc::new(FixedClock(Timestamp::from_unix_seconds(1_000)));
    Keyring::new(&config, &clock, metrics).unwrap()
}

#[tokio::test]
async fn a_plugin_is_asked_on_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("kms.sock");
    let families = Families::default();
    let metrics = Metrics::register(&families, "server");
    // The plugin comes later than the server, which waits for it as long as a call may take.
    let keyring_1 = keyring(&socket, &metrics);
    let starting = keyring_1.start();
    #[allow(clippy::async_yields_async, reason = "the task runs on; it is not awaited")]
    let late = async {
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        serve(&socket);
    };
    tokio::join!(starting, late);
    keyring_1.health().await.unwrap();
    let raw = Memory::new(Arc::new(FixedClock(Timestamp::from_unix_seconds(0))));
    let resource = GroupResource::new("", "secrets");
    let one = Encryption::new(keyring_1, "/registry", metrics.clone()).over(Arc::new(raw.clone()), resource.clone());
    let value = Bytes::from_static(b"{\"kind\":\"Secret\"}");
    one.put("/secrets/ns/a", value.clone(), Expect::Absent, None)
        .await
        .unwrap();
    let sealed = raw.get("/secrets/ns/a").await.unwrap().0.unwrap().value;
    assert!(sealed.starts_with(b"k8s:enc:kms:v2:plugin:"));

    // A second server has only the plugin to open the seed.
    let keyring_2 = keyring(&socket, &metrics);
    keyring_2.start().await;
    let two = Encryption::new(keyring_2, "/registry", metrics).over(Arc::new(raw.clone()), resource);
    assert_eq!(two.get("/secrets/ns/a").await.unwrap().0.unwrap().value, value);
    let mut told = String::new();
    text::write(&families.gather(), &mut told);
    let decrypted = told.lines().find(|line| {
        line.starts_with("apiserver_envelope_encryption_kms_operations_latency_seconds_count")
            && line.contains("/v2.KeyManagementService/Decrypt")
    });
    assert!(
        decrypted.is_some_and(|line| line.contains("grpc_status_code=\"OK\"") && line.ends_with(" 1")),
        "{told}"
    );
}

#[tokio::test]
async fn a_plugin_that_never_comes_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::register(&Families::default(), "server");
    let keyring = keyring(&dir.path().join("none.sock"), &metrics);
    let error = keyring.health().await.unwrap_err();
    assert!(
        error.contains("KMS Provider plugin") && error.contains("DeadlineExceeded"),
        "{error}"
    );
}
