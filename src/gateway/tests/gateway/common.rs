//! A gateway over objects in memory, and backends on loopback that behave, or do not.
#![allow(dead_code)]

use bytes::Bytes;
use extension_server::faults::Faults;
use fairlead_api::time::FixedClock;
use fairlead_api::{Clock, Node, StatusResult, Timestamp, UserInfo, node};
use fairlead_gateway::objects::{API_SERVICES, ENDPOINT_SLICES, MemoryObjects, SERVICES};
use fairlead_gateway::tls::ClientIdentity;
use fairlead_gateway::{
    AddressPolicy, ApiServices, Body, Config, Gateway, ObjectSource, Policy, RequestContext, Routing,
};
use fairlead_telemetry::Families;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub const GROUP: &str = "shipping.example.com";
pub const VERSION: &str = "v1alpha1";
pub const NAME: &str = "v1alpha1.shipping.example.com";

/// A CA, and certificates it signs.
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pub pem: String,
}

pub struct Certificate {
    pub chain_pem: String,
    pub key_pem: String,
    pub der: rustls_pki_types::CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { params, key, pem }
    }

    pub fn sign(&self, common_name: &str, dns: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let mut params = CertificateParams::new(dns.iter().map(|d| (*d).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params
            .signed_by(&key, &Issuer::from_params(&self.params, &self.key))
            .unwrap();
        Certificate {
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            der: certificate.der().clone(),
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        }
    }
}

/// APIServices in memory; counts how often a status was written.
pub struct Store(pub Arc<MemoryObjects>, pub Mutex<Vec<Node>>);

impl ApiServices for Store {
    fn create(&self, object: Node) -> BoxFuture<'_, StatusResult<()>> {
        self.0.put(API_SERVICES, object);
        Box::pin(std::future::ready(Ok(())))
    }

    fn update(&self, object: Node) -> BoxFuture<'_, StatusResult<()>> {
        self.create(object)
    }

    fn update_status(&self, object: Node) -> BoxFuture<'_, StatusResult<()>> {
        self.1.lock().unwrap().push(object.clone());
        self.create(object)
    }

    fn delete<'a>(&'a self, name: &'a str, _: &'a str) -> BoxFuture<'a, StatusResult<()>> {
        self.0.delete(API_SERVICES, "", name);
        Box::pin(std::future::ready(Ok(())))
    }
}

pub struct World {
    pub objects: Arc<MemoryObjects>,
    pub store: Arc<Store>,
    pub gateway: Gateway,
    pub families: Families,
    pub tasks: JoinSet<()>,
    pub front_proxy: Authority,
    pub serving: Authority,
    /// Of extension servers.
    pub faults: Faults,
}

impl World {
    pub fn new() -> World {
        World::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> World {
        let front_proxy = Authority::new("front proxy CA");
        let serving = Authority::new("serving CA");
        let client = front_proxy.sign("front-proxy-client", &[], |_| {});
        let objects = Arc::new(MemoryObjects::default());
        let store = Arc::new(Store(objects.clone(), Mutex::default()));
        let families = Families::default();
        let mut config = Config {
            routing: Routing::Endpoints,
            addresses: AddressPolicy {
                allow_loopback: true,
                ..AddressPolicy::default()
            },
            policy: Policy::default(),
            static_addresses: Vec::new(),
            probing: Default::default(),
            system_roots: Arc::new(rustls::RootCertStore::empty()),
            identity: Some(ClientIdentity::from_pem(client.chain_pem.as_bytes(), client.key_pem.as_bytes()).unwrap()),
        };
        change(&mut config);
        let clock: Arc<dyn Clock> = Arc::new(FixedClock(Timestamp::from_unix_seconds(1_800_000_000)));
        let gateway = Gateway::new(config, objects.clone(), store.clone(), clock, &families);
        World {
            objects,
            store,
            gateway,
            families,
            tasks: JoinSet::new(),
            front_proxy,
            serving,
            faults: Faults::default(),
        }
    }

    /// Starts the loops.
    pub fn run(&mut self) {
        self.tasks.spawn(self.gateway.clone().run(std::future::pending()));
    }

    /// A Service with its slice and an APIService, available from the start if told so.
    pub fn register(&self, addresses: &[SocketAddr], available: bool) {
        self.objects.put(SERVICES, service());
        self.put_slice(addresses);
        self.register_only(available);
    }

    pub fn register_only(&self, available: bool) {
        use base64::Engine as _;
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.serving.pem);
        let mut object = node!({
            "metadata": {"name": NAME},
            "spec": {
                "group": GROUP, "version": VERSION, "groupPriorityMinimum": 1000, "versionPriority": 15, "caBundle": ca,
                "service": {"name": "shipping", "namespace": "default", "port": 443},
            },
        });
        if available {
            let conditions =
                node!([{"type": "Available", "status": "True", "reason": "Passed", "message": "all checks passed"}]);
            object.set_at(&["status", "conditions"], conditions);
        }
        self.objects.put(API_SERVICES, object);
    }

    /// Slices have one port each, so every address gets a slice of its own.
    pub fn put_slice(&self, addresses: &[SocketAddr]) {
        for old in self.objects.list(ENDPOINT_SLICES) {
            self.objects.delete(ENDPOINT_SLICES, "default", old.name());
        }
        for (i, address) in addresses.iter().enumerate() {
            let slice = node!({
                "metadata": {
                    "name": (format!("shipping-{i}")), "namespace": "default",
                    "labels": {"kubernetes.io/service-name": "shipping"},
                },
                "addressType": "IPv4", "endpoints": [{"addresses": [(address.ip().to_string())]}],
                "ports": [{"name": "https", "port": (address.port())}],
            });
            self.objects.put(ENDPOINT_SLICES, slice);
        }
    }

    /// Waits until the stored condition has this reason, and returns its message.
    pub async fn reason(&self, reason: &str) -> String {
        let mut changes = self.objects.changes(API_SERVICES);
        loop {
            let object = self.objects.get(API_SERVICES, "", NAME).unwrap();
            let condition = object
                .get("status")
                .and_then(|s| s.list("conditions").first())
                .cloned()
                .unwrap_or_default();
            if condition.str("reason") == reason {
                return condition.str("message").to_owned();
            }
            changes.changed().await.unwrap();
        }
    }

    /// The example extension server, behind the front proxy.
    pub async fn extension_server(&mut self) -> SocketAddr {
        let certificate = self.serving_certificate();
        let identity = extension_server::tls::Identity {
            chain: vec![certificate.der],
            key: certificate.key,
            ca_pem: String::new(),
        };
        let ca = self.front_proxy.pem.clone();
        let options = extension_server::Options {
            tls: Arc::new(extension_server::tls::server_config(&identity, Some(ca.as_bytes())).unwrap()),
            front_proxy: true,
            allowed_names: vec!["front-proxy-client".into()],
            faults: self.faults.clone(),
            rename: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.tasks.spawn(extension_server::serve(listener, options));
        address
    }

    pub fn serving_certificate(&self) -> Certificate {
        self.serving.sign("shipping", &["shipping.default.svc"], |_| {})
    }

    pub fn acceptor(&self, certificate: Certificate, protocols: &[&str]) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der], certificate.key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A backend that answers with a function.
    pub async fn backend<F>(&mut self, protocols: &[&str], answer: F) -> SocketAddr
    where
        F: Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Clone + Send + Sync + 'static,
    {
        let acceptor = self.acceptor(self.serving_certificate(), protocols);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request| {
                        let answered = answer(request);
                        async move { Ok::<_, Infallible>(answered.await) }
                    });
                    let server = auto::Builder::new(TokioExecutor::new());
                    drop(
                        server
                            .serve_connection_with_upgrades(TokioIo::new(stream), service)
                            .await,
                    );
                });
            }
        });
        address
    }

    pub async fn get(&self, path: &str) -> Response<Body> {
        self.send(Request::get(path).body(Full::new(Bytes::new())).unwrap())
            .await
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Response<Body> {
        let user = UserInfo::new("alice", &["dev", "system:authenticated"]);
        let context = RequestContext {
            verb: "GET",
            client: Some("192.0.2.1".parse().unwrap()),
            audit_id: "audit-1",
            ..RequestContext::default()
        };
        self.gateway
            .proxy(NAME, request, &user, &context)
            .await
            .expect("the backend is registered")
    }
}

pub fn service() -> Node {
    node!({
        "metadata": {"name": "shipping", "namespace": "default"},
        "spec": {"clusterIP": "None", "ports": [{"name": "https", "port": 443}]},
    })
}

pub fn text(status: u16, text: &str) -> Response<Body> {
    let mut response = Response::new(fairlead_gateway::body::full(text.to_owned()));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    response
}

pub async fn body(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Echoes method, path, body and headers, one a line.
pub fn echo(request: Request<Incoming>) -> BoxFuture<'static, Response<Body>> {
    Box::pin(async move {
        let (parts, given) = request.into_parts();
        let given = given.collect().await.unwrap().to_bytes();
        let path = parts.uri.path_and_query().unwrap();
        let mut lines = vec![format!("{} {path} {}", parts.method, String::from_utf8_lossy(&given))];
        lines.extend(
            parts
                .headers
                .iter()
                .map(|(k, v)| format!("{k}: {}", String::from_utf8_lossy(v.as_bytes()))),
        );
        text(200, &lines.join("\n"))
    })
}
