//! The server as its clients see it: over TLS, with the front proxy's certificate.
#![allow(clippy::unwrap_used)]

use extension_server::{Options, serve, tls};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

const PARCELS: &str = "/apis/shipping.example.com/v1alpha1/namespaces/default/parcels";

struct Client {
    sender: SendRequest<Full<Bytes>>,
    user: Option<&'static str>,
    _tasks: JoinSet<()>,
}

impl Client {
    /// A server of its own for each test, and a connection to it: with the front proxy's certificate, or with none.
    async fn new(with_certificate: bool) -> Client {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name.push(DnType::CommonName, "front-proxy");
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();

        let identity = tls::Identity::self_signed(&["shipping.default.svc".into()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(identity.ca_pem.as_bytes()).unwrap())
            .unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = if with_certificate {
            let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
            builder
                .with_client_auth_cert(vec![certificate.der().clone()], key)
                .unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![b"h2".to_vec()];

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let options = Options {
            tls: Arc::new(tls::server_config(&identity, Some(ca_pem.as_bytes())).unwrap()),
            front_proxy: true,
            allowed_names: vec!["front-proxy".into()],
            faults: Default::default(),
            rename: None,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, options));
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("shipping.default.svc").unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap();
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tasks.spawn(async move { drop(connection.await) });
        Client {
            sender,
            user: Some("alice"),
            _tasks: tasks,
        }
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<Value>,
    ) -> http::Response<Incoming> {
        let mut request = Request::builder()
            .method(method.clone())
            .uri(format!("https://server{path}"))
            .header("accept", accept);
        if method == Method::PATCH {
            request = request.header("content-type", "application/merge-patch+json");
        }
        if let Some(user) = self.user {
            request = request.header("x-remote-user", user);
        }
        let body = body.map(|b| b.to_string()).unwrap_or_default();
        self.sender
            .send_request(request.body(Full::new(body.into())).unwrap())
            .await
            .unwrap()
    }

    async fn call(&mut self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let response = self.send(method, path, "application/json", body).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}

fn parcel(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"size": "small"}}, "spec": {"carrier": "post", "destination": "Main Street 1"}})
}

#[tokio::test]
async fn an_object_from_creation_to_deletion() {
    let mut client = Client::new(true).await;
    let (status, created) = client.call(Method::POST, PARCELS, Some(parcel("a"))).await;
    assert_eq!((status.as_u16(), &created["status"]["phase"]), (201, &json!("Waiting")));
    assert_eq!(
        created["metadata"]["annotations"]["shipping.example.com/created-by"],
        "alice"
    );
    assert_eq!(
        client.call(Method::POST, PARCELS, Some(parcel("a"))).await.1["reason"],
        "AlreadyExists"
    );
    assert_eq!(
        client
            .call(Method::POST, PARCELS, Some(json!({"metadata": {"name": "b"}})))
            .await
            .1["reason"],
        "Invalid"
    );

    let path = format!("{PARCELS}/a");
    // The main resource does not write status, and status nothing else.
    let patch = json!({"spec": {"weightGrams": 5}, "status": {"phase": "Delivered"}});
    let (_, patched) = client.call(Method::PATCH, &path, Some(patch.clone())).await;
    assert_eq!(
        (&patched["spec"]["weightGrams"], &patched["status"]["phase"]),
        (&json!(5), &json!("Waiting"))
    );
    assert_eq!(patched["metadata"]["generation"], 2);
    let (_, patched) = client.call(Method::PATCH, &format!("{path}/status"), Some(patch)).await;
    assert_eq!(
        (&patched["metadata"]["generation"], &patched["status"]["phase"]),
        (&json!(2), &json!("Delivered"))
    );

    // An update with an old version is refused, one with the latest is taken.
    let (status, _) = client.call(Method::PUT, &path, Some(created)).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let (status, _) = client.call(Method::PUT, &path, Some(patched)).await;
    assert_eq!(status, StatusCode::OK);

    let (_, list) = client
        .call(
            Method::GET,
            &format!("{PARCELS}?labelSelector=size%3Dsmall&fieldSelector=status.phase=Delivered"),
            None,
        )
        .await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(client.call(Method::DELETE, &path, None).await.1["status"], "Success");
    assert_eq!(client.call(Method::GET, &path, None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_watch_sees_every_change_once() {
    let mut client = Client::new(true).await;
    let watch = client
        .send(
            Method::GET,
            &format!("{PARCELS}?watch=true&labelSelector=size=small"),
            "application/json",
            None,
        )
        .await;
    let mut events = watch.into_body();
    client.call(Method::POST, PARCELS, Some(parcel("a"))).await;
    client
        .call(
            Method::PATCH,
            &format!("{PARCELS}/a"),
            Some(json!({"spec": {"express": true}})),
        )
        .await;
    // No longer selected, so deleted for this watcher.
    client
        .call(
            Method::PATCH,
            &format!("{PARCELS}/a"),
            Some(json!({"metadata": {"labels": {"size": "big"}}})),
        )
        .await;
    let mut text = Vec::new();
    while text.iter().filter(|b| **b == b'\n').count() < 3 {
        text.extend_from_slice(&events.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    let types: Vec<String> = String::from_utf8(text)
        .unwrap()
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["type"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(types, ["ADDED", "MODIFIED", "DELETED"]);
}

#[tokio::test]
async fn discovery_tables_and_openapi() {
    let mut client = Client::new(true).await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let response = client.send(Method::GET, "/apis", accept, None).await;
    assert_eq!(response.headers()["content-type"], accept);
    assert_eq!(client.call(Method::GET, "/apis", None).await.1["kind"], "APIGroupList");
    let (_, resources) = client
        .call(Method::GET, "/apis/shipping.example.com/v1alpha1", None)
        .await;
    assert_eq!(resources["resources"].as_array().map(Vec::len), Some(4));
    let (_, index) = client.call(Method::GET, "/openapi/v3", None).await;
    let url = index["paths"]["apis/shipping.example.com/v1alpha1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(client.call(Method::GET, &url, None).await.1["openapi"], "3.0.0");
    let table = client
        .send(
            Method::GET,
            PARCELS,
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            None,
        )
        .await;
    let table = table.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<Value>(&table).unwrap()["kind"], "Table");
}

#[tokio::test]
async fn headers_without_the_certificate_are_worth_nothing() {
    let mut client = Client::new(false).await;
    assert_eq!(
        client.call(Method::GET, PARCELS, None).await.0,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(client.call(Method::GET, "/readyz", None).await.0, StatusCode::OK);
    let mut client = Client::new(true).await;
    client.user = None;
    assert_eq!(
        client.call(Method::GET, PARCELS, None).await.0,
        StatusCode::UNAUTHORIZED
    );
}
