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
        Ok(TestServer { running: compose::start(config).await?, directory })
    }
}
