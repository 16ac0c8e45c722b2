//! Conversations with somebody in the cluster: logs, exec, attach and port-forward with kubelets, proxies to nodes, pods
//! and Services.
//!
//! Here stands who is meant and whether it may be: [`options`] of a request, [`pods`], [`nodes`] and [`services`] that it
//! names, admission. How the other side is reached is [`fairlead_gateway::direct`]'s.
//!
//! Source of the rules: kubernetes/apiserver pkg/endpoints/handlers/rest.go (ConnectResource), kubernetes/kubernetes
//! pkg/registry/core/{pod,node,service}.

mod log;
mod metrics;
mod nodes;
mod options;
mod pods;
mod refusal;
mod services;

use crate::aggregation::passed_on;
use crate::config::kubelets::Kubelets;
use fairlead_admission::{Admission, Attributes, Operation};
use fairlead_api::field::go_quote;
use fairlead_api::{Node, Status, StatusResult};
use fairlead_auth::{Authorizer, Decision};
use fairlead_discovery::{Route, Router};
use fairlead_gateway::direct::{Direct, KubeletTls, Location, Peer, Streams, Translation, translation, wants_upgrade};
use fairlead_gateway::{AddressPolicy, uri};
use fairlead_resource::hooks::Entropy;
use fairlead_resource::{Client, ResourceDefinition, Subresource};
use fairlead_server::filters::authorization::attributes;
use fairlead_server::filters::warnings::Warnings;
use fairlead_server::metrics::Metrics;
use fairlead_server::request::{Identified, Known};
use fairlead_server::{Body, Response, encode};
use fairlead_telemetry::Families;
use http::header::{HeaderValue, LOCATION};
use http::{Method, Request, StatusCode};
use metrics::ConnectionMetrics;
use nodes::Kubelet;
use std::sync::Arc;

/// Leads the conversations. Cheap to clone.
#[derive(Clone)]
pub struct Connections(Arc<Parts>);

/// What it needs from the rest of the server.
pub struct Needs {
    pub client: Client,
    pub router: Router,
    pub admission: Arc<dyn Admission>,
    pub authorizer: Arc<dyn Authorizer>,
    pub entropy: Arc<dyn Entropy>,
    /// What is told of requests.
    pub metrics: Metrics,
}

struct Parts {
    needs: Needs,
    kubelets: Kubelets,
    direct: Direct,
    counted: ConnectionMetrics,
}

/// One request on its way.
struct Conversation<'a> {
    parts: &'a Parts,
    definition: &'a ResourceDefinition,
    subresource: &'a Subresource,
    /// For `Warning` headers.
    warnings: Vec<String>,
}

impl Connections {
    /// # Errors
    /// A file for kubelets cannot be used.
    pub fn new(
        needs: Needs,
        kubelets: &Kubelets,
        workloads: AddressPolicy,
        families: &Families,
    ) -> anyhow::Result<Connections> {
        let tls = KubeletTls {
            client: kubelets.client.as_ref().map(|f| (f.certificate.clone(), f.key.clone())),
            authority: kubelets.authority.clone(),
        };
        Ok(Connections(Arc::new(Parts {
            needs,
            kubelets: kubelets.clone(),
            direct: Direct::new(tls, workloads)?,
            counted: ConnectionMetrics::register(families),
        })))
    }

    /// Whether a subresource is one of those.
    pub fn has(&self, definition: &ResourceDefinition, subresource: &str) -> bool {
        if definition.is_custom() || subresource.is_empty() {
            return false;
        }
        let Some(found) = definition.subresource(subresource) else {
            return false;
        };
        found.kind.kind.ends_with("Options") || (definition.plural == "pods" && subresource == "log")
    }

    /// Answers a request for one of them.
    pub async fn serve(self, request: Identified, definition: Arc<ResourceDefinition>) -> Response {
        let (headers, query) = (request.known.parts.headers.clone(), request.known.query.clone());
        let trail = request.known.trail.clone();
        let failed = |status: &Status| {
            if let Some(trail) = &trail {
                trail.failed(status);
            }
            encode::status(status, &headers, &query)
        };
        let Some(subresource) = definition.subresource(&request.known.info.subresource) else {
            return failed(&Status::no_such_resource());
        };
        let mut conversation = Conversation {
            parts: &self.0,
            definition: &definition,
            subresource,
            warnings: Vec::new(),
        };
        let result = match subresource.name.as_str() {
            "log" => conversation.log(request).await,
            _ => conversation.connect(request).await,
        };
        let mut response = result.unwrap_or_else(|status| failed(&asked_about(status, &definition)));
        if !conversation.warnings.is_empty() {
            response.extensions_mut().insert(Warnings(conversation.warnings));
        }
        response
    }
}

impl Conversation<'_> {
    async fn connect(&mut self, request: Identified) -> StatusResult<Response> {
        let known = &request.known;
        if known.query("dryRun").is_some() {
            return Err(Status::bad_request("dryRun is not supported"));
        }
        let options = options::read(&self.subresource.kind, &known.query, &known.info).map_err(Status::bad_request)?;
        let options = self.admit(&request, options).await?;
        let name = known.info.name.as_str();
        let namespace = known.info.namespace.as_str();
        let kind = self.subresource.kind.kind.as_str();
        match kind {
            "NodeProxyOptions" => {
                if wants_upgrade(&request.known.parts.headers) {
                    // Otherwise reading a node's metrics would be running commands in its containers.
                    self.ensure_may_create(&request).await?;
                }
                let found = nodes::proxied(self.parts, name).await?;
                self.proxy(request, found, options.str("path")).await
            }
            "PodProxyOptions" => {
                let found = pods::proxied(self.parts, namespace, name).await?;
                self.proxy(request, found, options.str("path")).await
            }
            "ServiceProxyOptions" => {
                let found = services::proxied(self.parts, namespace, name).await?;
                self.proxy(request, found, options.str("path")).await
            }
            _ => {
                self.ensure_may_create(&request).await?;
                self.stream(request, &options).await
            }
        }
    }

    /// Asks admission; answers the options as it left them.
    async fn admit(&mut self, request: &Identified, options: Node) -> StatusResult<Node> {
        let info = &request.known.info;
        let mut attributes = Attributes {
            operation: Operation::Connect,
            kind: self.subresource.kind.clone(),
            resource: self.definition.gvr(),
            subresource: info.subresource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            object: options,
            old_object: Arc::new(Node::Null),
            options: Node::Null,
            dry_run: false,
            user: request.user.clone(),
            warnings: Vec::new(),
            audit: Vec::new(),
            deadline: None,
            reinvocation: Default::default(),
            given_owners: None,
        };
        let admission = &self.parts.needs.admission;
        let admitted = match admission.mutate(&mut attributes).await {
            Ok(()) => admission.validate(&mut attributes).await,
            refused => refused,
        };
        self.warnings.append(&mut attributes.warnings);
        if let Some(trail) = &request.known.trail {
            attributes
                .audit
                .into_iter()
                .for_each(|(key, value)| trail.annotate(key, value));
        }
        admitted.map(|()| attributes.object)
    }

    /// WebSockets begin with GET, SPDY with POST: both need the permission to create (kubernetes/kubernetes#133515).
    async fn ensure_may_create(&self, request: &Identified) -> StatusResult<()> {
        let info = &request.known.info;
        if info.verb == "create" {
            return Ok(());
        }
        let mut asked = attributes(info, &request.user);
        asked.verb = "create".into();
        match self.parts.needs.authorizer.authorize(&asked).await {
            (Decision::Allow, _) => Ok(()),
            (_, reason) => Err(Status::forbidden(&self.definition.group_resource(), &info.name, reason)),
        }
    }

    /// Lets a kubelet stream what is asked for, in the client's protocol if it knows that.
    async fn stream(&self, request: Identified, options: &Node) -> StatusResult<Response> {
        let (kubelet, location) = self.stream_location(&request.known, options).await?;
        let headers = &request.known.parts.headers;
        if !wants_upgrade(headers) {
            return Err(Status::bad_request("Upgrade request required"));
        }
        let subresource = self.subresource.name.as_str();
        let translation = match kubelet.speaks_websocket {
            true => None,
            false => translation(headers, subresource),
        };
        match translation {
            None => self.tunnel(request, Peer::Kubelet, &location).await,
            Some(Translation::Channels) => {
                let flag = |name: &str| options.get(name).and_then(Node::as_bool) == Some(true);
                let streams = Streams {
                    stdin: flag("stdin"),
                    stdout: flag("stdout"),
                    stderr: flag("stderr"),
                    tty: flag("tty"),
                };
                let told = self.parts.counted.translated();
                let outgoing = Request::from_parts(request.known.parts, request.known.payload);
                let direct = &self.parts.direct;
                let response = direct.translate(Peer::Kubelet, location, outgoing, streams, told)?;
                Ok(response.map(Body::other))
            }
            Some(Translation::Tunnel(protocols)) => {
                let client = Some(request.known.connection.peer.ip());
                let outgoing = Request::from_parts(request.known.parts, request.known.payload);
                let direct = &self.parts.direct;
                let tunnel = direct
                    .tunnel(Peer::Kubelet, &location, outgoing, &protocols, client)
                    .await;
                let code = tunnel.as_ref().map_or_else(Status::code, |r| r.status().as_u16());
                self.parts.counted.tunnelled(code);
                Ok(tunnel?.map(Body::other))
            }
        }
    }

    /// Whom to ask for a stream, and where.
    async fn stream_location(&self, known: &Known, options: &Node) -> StatusResult<(Kubelet, Location)> {
        let (name, namespace) = (known.info.name.as_str(), known.info.namespace.as_str());
        let pod = self.parts.get("pods", namespace, name).await?;
        let verb = self.subresource.name.as_str();
        let container = match verb {
            "portforward" => None,
            _ => Some(pods::container(&pod, options.str("container"))?),
        };
        let node = pod.str_at(&["spec", "nodeName"]);
        if node.is_empty() {
            return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
        }
        let kubelet = nodes::kubelet(self.parts, node).await?;
        self.parts.counted.streamed(verb, kubelet.speaks_websocket);
        let path = match container {
            Some(container) => format!("/{verb}/{namespace}/{name}/{container}"),
            None => format!("/portForward/{namespace}/{name}"),
        };
        let location = kubelet.location(&path, options::stream_query(options));
        Ok((kubelet, location))
    }

    /// Passes a request on to where it is meant for, under `path` there.
    async fn proxy(
        &self,
        request: Identified,
        (peer, mut location): (Peer, Location),
        path: &str,
    ) -> StatusResult<Response> {
        let uri = &request.known.parts.uri;
        location.query = uri.query().map(str::to_owned);
        if !path.is_empty() {
            location.path = uri::encoded_clean(path);
        }
        if wants_upgrade(&request.known.parts.headers) {
            return self.tunnel(request, peer, &location).await;
        }
        if path.is_empty() && matches!(request.known.parts.method, Method::GET | Method::HEAD) {
            return Ok(with_slash(uri));
        }
        let known = request.known;
        let (info, method) = (known.info, known.parts.method.clone());
        let client = Some(known.connection.peer.ip());
        let outgoing = Request::from_parts(known.parts, known.payload);
        let response = self.parts.direct.proxy(peer, &location, outgoing, client).await?;
        Ok(response.map(|body| passed_on(body, self.parts.needs.metrics.clone(), info, method)))
    }

    async fn tunnel(&self, request: Identified, peer: Peer, location: &Location) -> StatusResult<Response> {
        let known = request.known;
        let (info, method) = (known.info, known.parts.method.clone());
        let client = Some(known.connection.peer.ip());
        let outgoing = Request::from_parts(known.parts, known.payload);
        let response = self.parts.direct.upgrade(peer, location, outgoing, client).await?;
        Ok(response.map(|body| passed_on(body, self.parts.needs.metrics.clone(), info, method)))
    }
}

impl Parts {
    /// An object of the core group as it is now.
    async fn get(&self, plural: &str, namespace: &str, name: &str) -> StatusResult<Node> {
        let route = self.needs.router.load().route("", "v1", plural);
        match route {
            Some(Route::Local(definition)) => self.needs.client.get(&definition, namespace, name).await,
            _ => Err(Status::no_such_resource()),
        }
    }
}

/// COMPAT: whatever is missing is said to be of the resource that was asked for, a pod's node as well.
fn asked_about(status: Status, definition: &ResourceDefinition) -> Status {
    let missing = status.details().filter(|_| status.reason() == "NotFound");
    match missing.filter(|missing| matches!(missing.kind.as_str(), "nodes" | "pods" | "services" | "endpoints")) {
        Some(missing) => Status::not_found(&definition.group_resource(), &missing.name),
        None => status,
    }
}

/// COMPAT: what is proxied has a directory of its own (kubernetes/kubernetes#4958).
fn with_slash(uri: &http::Uri) -> Response {
    let query = uri
        .query()
        .filter(|q| !q.is_empty())
        .map_or(String::new(), |q| format!("?{q}"));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(&format!("{}/{query}", uri.path())) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// `name`, `name:port` or `scheme:name:port`.
struct Target<'a> {
    https: bool,
    name: &'a str,
    port: &'a str,
}

impl<'a> Target<'a> {
    /// # Errors
    /// `what` is the kind of thing that is named.
    fn parse(what: &str, id: &'a str) -> StatusResult<Target<'a>> {
        let parts: Vec<&str> = id.split(':').collect();
        let (scheme, name, port) = match *parts.as_slice() {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => ("?", "", ""),
        };
        if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
            let id = go_quote(id);
            return Err(Status::bad_request(format!("invalid {what} request {id}")));
        }
        Ok(Target {
            https: scheme == "https",
            name,
            port,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_schemes_and_ports() {
        let parsed = |id| Target::parse("pod", id).map(|t| format!("{} {} {}", t.https, t.name, t.port));
        assert_eq!(parsed("a").unwrap(), "false a ");
        assert_eq!(parsed("a:80").unwrap(), "false a 80");
        assert_eq!(parsed("https:a:web").unwrap(), "true a web");
        assert_eq!(parsed(":a:").unwrap(), "false a ");
        for id in ["", ":80", "ftp:a:80", "a:b:c:d"] {
            let message = parsed(id).unwrap_err().message().to_owned();
            assert_eq!(message, format!("invalid pod request {id:?}"));
        }
    }

    #[test]
    fn a_proxy_without_a_path_leads_to_its_directory() {
        let response = with_slash(&"/api/v1/nodes/n/proxy?a=b".parse().unwrap());
        assert_eq!(response.status(), 301);
        assert_eq!(response.headers()["location"], "/api/v1/nodes/n/proxy/?a=b");
    }
}
