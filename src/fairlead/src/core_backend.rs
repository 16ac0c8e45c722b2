//! `--core-backend KUBECONFIG`: this server in front of a Kubernetes API server of somebody else's.
//!
//! Reads the kubeconfig, keeps the core's documents in the routes, and copies from it what the gateway and admission look
//! at: Services, EndpointSlices and the names of namespaces. Why it is like this: docs/decisions.

use crate::aggregation::GatewayObjects;
use crate::routes::Routes;
use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fairlead_api::{Node, json, node};
use fairlead_codec::yaml;
use fairlead_discovery::{Registration, RemoteGroupVersion, Route};
use fairlead_gateway::core::documents::Documents;
use fairlead_gateway::core::follow::{Event, follow};
use fairlead_gateway::core::{CORE, Core, CoreConfig};
use fairlead_gateway::objects::{ENDPOINT_SLICES, MemoryObjects, ObjectSource, Resource, SERVICES};
use fairlead_gateway::tls::ClientIdentity;
use fairlead_gateway::{Metrics, Tuning};
use fairlead_resource::Client;
use fairlead_telemetry::Families;
use fairlead_telemetry::task;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Groups that stay this server's own.
pub fn is_own(group: &str) -> bool {
    matches!(group, "apiregistration.k8s.io" | "apiextensions.k8s.io") || group.ends_with(".fairlead.dev")
}

/// How often documents and the token file are looked at.
const REFRESH: Duration = Duration::from_secs(10);
/// How long the core may take to answer at start.
const START: Duration = Duration::from_secs(60);
/// Between two tries of what failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Above CRDs, below what is this server's own.
const FIRST_PRIORITY: i64 = 18_000;

/// The core, and where its token comes from.
pub struct CoreBackend {
    pub core: Core,
    token_file: Option<PathBuf>,
    documents: Documents,
}

impl CoreBackend {
    /// Reads the kubeconfig and waits until the core has said what it serves.
    ///
    /// # Errors
    /// The kubeconfig cannot be used, or the core does not answer.
    pub async fn connect(path: &Path, families: &Families) -> Result<CoreBackend> {
        let flag = || format!("--core-backend={}", path.display());
        let text = std::fs::read(path).with_context(|| format!("{} cannot be read", flag()))?;
        let directory = path.parent().unwrap_or(Path::new("."));
        let given = Given::read(&text, directory).with_context(flag)?;
        let roots = fairlead_gateway::tls::system_roots();
        let core = Core::new(given.config, &Metrics::new(families), &roots).with_context(flag)?;
        let mut backend = CoreBackend {
            core,
            token_file: given.token_file,
            documents: Documents::default(),
        };
        backend.core.set_token(given.token.as_deref());
        backend.read_token();
        let learning = async {
            loop {
                match backend.documents.learn(&backend.core).await {
                    Ok(learnt) => return learnt.unwrap_or_default(),
                    Err(error) => tracing::warn!(%error, "the core does not say what it serves"),
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let learnt = tokio::time::timeout(START, learning).await;
        backend.documents = learnt
            .ok()
            .with_context(|| format!("{}: the core does not answer", flag()))?;
        Ok(backend)
    }

    fn read_token(&self) {
        let Some(path) = &self.token_file else { return };
        match std::fs::read_to_string(path) {
            Ok(token) => self.core.set_token(Some(token.trim())),
            Err(error) => tracing::warn!(path = %path.display(), %error, "the core's token file cannot be read"),
        }
    }

    /// What the core says of its version, for ours.
    pub async fn version(&self) -> Option<Vec<u8>> {
        self.core.json("/version").await.ok().map(|node| json::to_vec(&node))
    }

    /// As routes know the core's group-versions.
    pub fn registrations(&self) -> Vec<Registration> {
        registrations(&self.documents)
    }

    /// Keeps routes and copies up to date until the tasks are aborted.
    pub fn start(self, routes: Routes, copies: Arc<CoreObjects>, client: Client) -> Vec<JoinHandle<()>> {
        let core = self.core.clone();
        let put = copies.clone();
        let copy = |name, path, resource| {
            let (core, put) = (core.clone(), put.clone());
            task::spawn(name, async move {
                follow(core, path, |event| put.take(resource, event)).await
            })
        };
        let services = copy("core-services", "/api/v1/services", SERVICES);
        let slices = copy(
            "core-endpointslices",
            "/apis/discovery.k8s.io/v1/endpointslices",
            ENDPOINT_SLICES,
        );
        let namespaces = task::spawn("core-namespaces", namespaces(core, client, routes.clone()));
        vec![
            services,
            slices,
            namespaces,
            task::spawn("core-documents", self.learn(routes)),
        ]
    }

    async fn learn(mut self, routes: Routes) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(REFRESH) => {}
                () = self.core.lost() => {}
            }
            self.read_token();
            match self.documents.learn(&self.core).await {
                Ok(Some(learnt)) => {
                    self.documents = learnt;
                    routes.publish_core(self.registrations());
                }
                Ok(None) => {}
                // Its kinds stay known, and requests for them are refused: "stale" would make clients forget them.
                Err(error) => tracing::warn!(%error, "the core does not say what it serves"),
            }
        }
    }
}

fn registrations(documents: &Documents) -> Vec<Registration> {
    let learnt = SystemTime::now();
    let groups = documents.groups.iter().filter(|g| !is_own(&g.group_version.group));
    let mut rank = 0;
    let mut previous: Option<&str> = None;
    groups
        .enumerate()
        .map(|(i, group)| {
            let gv = &group.group_version;
            if previous != Some(gv.group.as_str()) {
                rank += 1;
                previous = Some(gv.group.as_str());
            }
            Registration {
                group_version: gv.clone(),
                group_priority: FIRST_PRIORITY - rank,
                version_priority: FIRST_PRIORITY - i as i64,
                remote: Some(Arc::new(RemoteGroupVersion {
                    api_service: CORE.into(),
                    group: gv.group.clone(),
                    version: gv.version.clone(),
                    resources: group.resources.clone(),
                    learnt: Some(learnt),
                    openapi_v3: group.openapi_v3.clone(),
                    openapi_v2: group.openapi_v2.clone(),
                    ..RemoteGroupVersion::default()
                })),
            }
        })
        .collect()
}

/// Keeps a namespace here for each of the core's, so that custom resources can live in them, and end with them.
async fn namespaces(core: Core, client: Client, routes: Routes) {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let following = follow(core, "/api/v1/namespaces", move |event| drop(sender.send(event)));
    let applying = async {
        while let Some(event) = receiver.recv().await {
            let Some(Route::Local(definition)) = routes.own().load().route("", "v1", "namespaces") else {
                return;
            };
            let (put, gone) = match event {
                Event::All(all) => {
                    let ours = client.list(&definition, "").await.unwrap_or_default();
                    let gone = ours
                        .into_iter()
                        .filter(|o| !all.iter().any(|a| a.name() == o.name()))
                        .collect();
                    (all, gone)
                }
                Event::Put(one) => (vec![one], Vec::new()),
                Event::Gone(one) => (Vec::new(), vec![one]),
            };
            for namespace in put {
                let made = node!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace.name()}});
                match client.create(&definition, "", &made).await {
                    Err(status) if status.code() != 409 => {
                        tracing::warn!(namespace = namespace.name(), %status, "not made here");
                    }
                    _ => {}
                }
            }
            for namespace in gone {
                if let Err(status) = client.delete(&definition, "", namespace.name(), &Node::map()).await {
                    tracing::debug!(namespace = namespace.name(), %status, "not deleted here");
                }
            }
        }
    };
    tokio::join!(following, applying);
}

/// Objects as the gateway reads them: its own from here, the cluster's from the core.
pub struct CoreObjects {
    own: Arc<GatewayObjects>,
    copied: MemoryObjects,
}

impl CoreObjects {
    pub fn new(own: Arc<GatewayObjects>) -> CoreObjects {
        CoreObjects {
            own,
            copied: MemoryObjects::default(),
        }
    }

    fn take(&self, resource: Resource, event: Event) {
        match event {
            Event::Put(object) => self.copied.put(resource, object),
            Event::Gone(object) => self.copied.delete(resource, object.namespace(), object.name()),
            Event::All(objects) => {
                for old in self.copied.list(resource) {
                    let stays = |o: &Node| o.name() == old.name() && o.namespace() == old.namespace();
                    if !objects.iter().any(stays) {
                        self.copied.delete(resource, old.namespace(), old.name());
                    }
                }
                objects.into_iter().for_each(|o| self.copied.put(resource, o));
            }
        }
    }
}

impl ObjectSource for CoreObjects {
    fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Arc<Node>> {
        match resource {
            SERVICES | ENDPOINT_SLICES => self.copied.get(resource, namespace, name),
            _ => self.own.get(resource, namespace, name),
        }
    }

    fn list(&self, resource: Resource) -> Vec<Arc<Node>> {
        match resource {
            SERVICES | ENDPOINT_SLICES => self.copied.list(resource),
            _ => self.own.list(resource),
        }
    }

    fn changes(&self, resource: Resource) -> watch::Receiver<u64> {
        match resource {
            SERVICES | ENDPOINT_SLICES => self.copied.changes(resource),
            _ => self.own.changes(resource),
        }
    }

    fn changes_of(&self, resource: Resource, namespace: &str, name: &str) -> watch::Receiver<u64> {
        match resource {
            SERVICES | ENDPOINT_SLICES => self.copied.changes_of(resource, namespace, name),
            _ => self.own.changes_of(resource, namespace, name),
        }
    }
}

/// What a kubeconfig gives.
pub(crate) struct Given {
    pub config: CoreConfig,
    pub token: Option<String>,
    pub token_file: Option<PathBuf>,
}

impl Given {
    /// # Errors
    /// It is none, or asks for what is not done here.
    pub(crate) fn read(text: &[u8], directory: &Path) -> Result<Given> {
        let file = yaml::parse(text)?;
        let context = named(&file, "contexts", "context", file.str("current-context"))?;
        let cluster = named(&file, "clusters", "cluster", context.str("cluster"))?;
        let user = named(&file, "users", "user", context.str("user"))?;
        for (key, why) in [
            (
                "exec",
                "programs are not run for credentials: give a token, a tokenFile or a client certificate",
            ),
            (
                "auth-provider",
                "auth providers are gone from Kubernetes: give a token, a tokenFile or a client certificate",
            ),
            ("username", "API servers no longer take passwords"),
            ("as", "it is this server that impersonates: name its own user"),
        ] {
            ensure!(user.get(key).is_none_or(Node::is_null), "its user has {key:?}: {why}");
        }
        ensure!(
            cluster.str("proxy-url").is_empty(),
            "its cluster has a proxy-url, which is not supported"
        );
        let url: http::Uri = cluster
            .str("server")
            .parse()
            .context("its cluster's server is no URL")?;
        ensure!(
            url.scheme_str() == Some("https"),
            "its cluster's server must be an https URL"
        );
        let host = url.host().context("its cluster's server names no host")?;
        let pem = |node: &Node, key: &str| -> Result<Option<Vec<u8>>> {
            match (node.str(&format!("{key}-data")), node.str(key)) {
                ("", "") => Ok(None),
                ("", file) => Ok(Some(
                    std::fs::read(directory.join(file)).with_context(|| format!("{key}: {file} cannot be read"))?,
                )),
                (data, _) => Ok(Some(
                    STANDARD
                        .decode(data)
                        .with_context(|| format!("{key}-data is no base64"))?,
                )),
            }
        };
        let identity = match (pem(user, "client-certificate")?, pem(user, "client-key")?) {
            (Some(certificate), Some(key)) => Some(ClientIdentity::from_pem(&certificate, &key)?),
            (None, None) => None,
            _ => bail!("client-certificate and client-key belong together"),
        };
        let text = |node: &Node, key: &str| Some(node.str(key).to_owned()).filter(|t| !t.is_empty());
        Ok(Given {
            config: CoreConfig {
                host: host.trim_matches(['[', ']']).to_owned(),
                port: url.port_u16().unwrap_or(443),
                base: url.path().trim_end_matches('/').to_owned(),
                ca: pem(cluster, "certificate-authority")?,
                insecure_skip_tls_verify: cluster.get("insecure-skip-tls-verify").and_then(Node::as_bool) == Some(true),
                server_name: text(cluster, "tls-server-name"),
                identity,
                // There is nobody else to ask: a core that is slow for a moment is waited for.
                tuning: Tuning {
                    dial_timeout: Duration::from_secs(5),
                    handshake_timeout: Duration::from_secs(10),
                    ping_interval: Duration::from_secs(5),
                    ping_timeout: Duration::from_secs(10),
                    suspicion: Duration::from_secs(5),
                    ..Tuning::default()
                },
            },
            // As client-go: a file comes before a token that is written down.
            token_file: text(user, "tokenFile").map(|file| directory.join(file)),
            token: text(user, "token"),
        })
    }
}

fn named<'a>(file: &'a Node, list: &str, key: &str, name: &str) -> Result<&'a Node> {
    let entry = file.list(list).iter().find(|e| e.str("name") == name);
    entry
        .and_then(|e| e.get(key))
        .with_context(|| format!("it has no {key} {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
current-context: here
contexts: [{name: here, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: 'https://[::1]:6443/k8s/', insecure-skip-tls-verify: true, tls-server-name: api}}]
users: [{name: u, user: {USER}}]
";

    fn read(user: &str) -> Result<Given> {
        Given::read(FILE.replace("USER", user).as_bytes(), Path::new("/etc/k"))
    }

    #[test]
    fn a_kubeconfig_says_where_and_who() {
        let given = read("token: t, tokenFile: f").unwrap();
        let config = &given.config;
        assert_eq!(
            (config.host.as_str(), config.port, config.base.as_str()),
            ("::1", 6443, "/k8s")
        );
        assert_eq!(config.server_name.as_deref(), Some("api"));
        assert!(config.insecure_skip_tls_verify);
        assert_eq!(given.token_file.as_deref(), Some(Path::new("/etc/k/f")));
    }

    #[test]
    fn what_it_cannot_do_is_refused() {
        for (user, word) in [
            ("exec: {command: aws}", "programs are not run"),
            ("auth-provider: {name: gcp}", "auth providers"),
            ("username: admin", "passwords"),
            ("as: somebody", "impersonates"),
            ("client-key-data: eA==", "belong together"),
            ("client-certificate: nowhere.crt", "nowhere.crt cannot be read"),
        ] {
            let error = format!("{:#}", read(user).err().unwrap());
            assert!(error.contains(word), "{user}: {error}");
        }
        for (old, new, word) in [
            (
                "current-context: here",
                "current-context: there",
                "it has no context \"there\"",
            ),
            ("https://", "http://", "must be an https URL"),
        ] {
            let error = Given::read(FILE.replace("USER", "").replace(old, new).as_bytes(), Path::new("/"))
                .err()
                .unwrap();
            assert!(format!("{error:#}").contains(word), "{error:#}");
        }
    }

    #[test]
    fn only_a_few_groups_are_kept() {
        assert!(is_own("apiextensions.k8s.io") && is_own("gateway.fairlead.dev"));
        assert!(!is_own("apps") && !is_own("") && !is_own("evil-fairlead.dev"));
    }
}
