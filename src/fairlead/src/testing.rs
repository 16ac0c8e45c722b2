//! [`TestServer`]: a whole server in this process, on a free port, with its store in memory.

use crate::compose::{self, Running};
use crate::config::{Config, DataDir};
use crate::flags::Flags;
use crate::identity;
use anyhow::Result;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A running server. Call [`TestServer::stop`] to end it in order; dropping it ends it with the runtime.
pub struct TestServer {
    running: Running,
    directory: PathBuf,
}

/// What a test server is made of.
#[derive(Default)]
pub struct Builder {
    flags: Vec<String>,
}

/// A bearer token whose user is in `system:masters`.
pub const TOKEN: &str = "test-token";

impl TestServer {
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// `https://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        identity::url(self.running.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// The CA of its certificate.
    pub fn authority_pem(&self) -> &str {
        &self.running.authority_pem
    }

    /// An administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &std::path::Path {
        &self.running.kubeconfig
    }

    /// The filter chain, for requests that need no network.
    pub fn chain(&self) -> &fairlead_server::Chain {
        &self.running.chain
    }

    pub async fn stop(self) {
        self.running.stop().await;
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Builder {
    /// Adds a flag as on the command line.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Builder {
        self.flags.push(flag.into());
        self
    }

    /// Starts the server and waits until it is ready.
    ///
    /// # Errors
    /// A flag is wrong, or the server does not start.
    pub async fn start(self) -> Result<TestServer> {
        let directory = std::env::temp_dir().join(format!("fairlead-test-{:016x}", rand::random::<u64>()));
        crate::files::make_directory(&directory)?;
        let tokens = directory.join("tokens.csv");
        crate::files::write_private(&tokens, format!("{TOKEN},admin,admin,system:masters\n").as_bytes())?;
        let mut arguments = vec![
            "--secure-port=0".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--token-auth-file={}", tokens.display()),
        ];
        arguments.extend(self.flags);
        let mut config = Config::new(&Flags::parse(arguments)?)?;
        config.data = DataDir::Memory(directory.clone());
        Ok(TestServer {
            running: compose::start(config).await?,
            directory,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::json;
    use fairlead_server::Connection;
    use fairlead_server::body::Payload;
    use fairlead_server::request::Received;
    use http_body_util::BodyExt;
    use std::sync::Arc;

    async fn send(server: &TestServer, method: &str, uri: &str, body: &str) -> (u16, fairlead_api::Node) {
        let request = http::Request::builder()
            .method(method)
            .uri(uri)
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let received = Received {
            parts,
            payload: Payload::Bytes(body.to_owned().into()),
            connection: Arc::new(Connection::local()),
            at: tokio::time::Instant::now(),
            audit_id: "a".into(),
        };
        let response = server.chain().serve(received).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, json::parse(&bytes).unwrap_or_default())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_starts_serves_and_stops() {
        let server = TestServer::builder().flag("--controllers=").start().await.unwrap();
        let (code, list) = send(&server, "GET", "/api/v1/namespaces", "").await;
        let names: Vec<&str> = list.list("items").iter().map(fairlead_api::Node::name).collect();
        assert_eq!(
            (code, names),
            (200, vec!["default", "kube-node-lease", "kube-public", "kube-system"])
        );

        let path = "/api/v1/namespaces/default/configmaps";
        let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"v"}}"#;
        assert_eq!(send(&server, "POST", path, body).await.0, 201);
        let (code, object) = send(&server, "GET", &format!("{path}/a"), "").await;
        assert_eq!((code, object.str_at(&["data", "k"])), (200, "v"));

        let crd = r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition",
            "metadata":{"name":"widgets.example.com"},"spec":{"group":"example.com","scope":"Namespaced",
            "names":{"plural":"widgets","kind":"Widget"},"versions":[{"name":"v1","served":true,"storage":true,
            "schema":{"openAPIV3Schema":{"type":"object"}}}]}}"#;
        let (code, _) = send(
            &server,
            "POST",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            crd,
        )
        .await;
        assert_eq!(code, 201);
        // Served the moment the create returned.
        assert_eq!(send(&server, "GET", "/apis/example.com/v1/widgets", "").await.0, 200);
        assert_eq!(send(&server, "GET", "/api/v1/nope", "").await.0, 404);
        server.stop().await;
    }
}
