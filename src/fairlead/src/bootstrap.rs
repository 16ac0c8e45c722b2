//! The objects every server has: made at start where they are missing, brought up to date where they changed.

use crate::access::Access;
use crate::authentication_info::Required;
use crate::config::Config;
use crate::health::Steps;
use anyhow::{Result, bail};
use bytes::Bytes;
use fairlead_api::{Clock, Node, Status, UserInfo, json, node};
use fairlead_auth::bootstrap::{Reconciled, objects, reconcile};
use fairlead_discovery::{Route, Router};
use fairlead_resource::request::{Answer, Response};
use fairlead_resource::{Body, Engine, Request, Verb, View};
use std::net::SocketAddr;
use std::sync::Arc;

/// Flow schemas and priority levels: names and numbers of upstream's suggested and mandatory ones.
const FLOW_CONTROL: &str = include_str!("../bootstrap/flowcontrol.json");

/// Makes the objects through the engine, as the server itself.
pub struct Bootstrap {
    engine: Engine,
    router: Router,
    user: Arc<UserInfo>,
}

struct Target<'a> {
    group: &'a str,
    version: &'a str,
    plural: &'a str,
}

const fn core(plural: &str) -> Target<'_> {
    Target {
        group: "",
        version: "v1",
        plural,
    }
}

impl Bootstrap {
    pub fn new(engine: Engine, router: Router) -> Bootstrap {
        let user = UserInfo::new("system:apiserver", &["system:masters", "system:authenticated"]);
        Bootstrap {
            engine,
            router,
            user: Arc::new(user),
        }
    }

    /// Makes everything, and finishes the start-up steps on the way.
    ///
    /// # Errors
    /// The first object that could not be made, and why.
    pub async fn run(
        &self,
        config: &Config,
        access: &Access,
        address: SocketAddr,
        clock: &dyn Clock,
        steps: &Steps,
    ) -> Result<()> {
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let namespace = node!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            self.create(&core("namespaces"), namespace).await?;
        }
        steps.finish("start-system-namespaces-controller");
        self.flow_control().await?;
        steps.finish("priority-and-fairness-config-producer");
        self.priority_classes().await?;
        steps.finish("scheduling/bootstrap-system-priority-classes");
        self.rbac().await?;
        steps.finish("rbac/bootstrap-roles");
        self.service(config, address).await?;
        steps.finish("bootstrap-controller");
        steps.finish("start-kubernetes-service-cidr-controller");
        self.authentication_info(config, access, clock).await?;
        steps.finish("start-cluster-authentication-info-controller");
        let tracking = node!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"},
            "data": {"since": &clock.now().rfc3339()[..10]},
        });
        self.create(&core("configmaps"), tracking).await?;
        steps.finish("start-legacy-token-tracking-controller");
        Ok(())
    }

    async fn flow_control(&self) -> Result<()> {
        let table = json::parse(FLOW_CONTROL.as_bytes()).expect("the table is JSON");
        for row in table.as_list().into_iter().flatten() {
            let plural = match row.str("kind") {
                "FlowSchema" => "flowschemas",
                _ => "prioritylevelconfigurations",
            };
            let mut object = node!({
                "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": row.str("kind"),
                "metadata": {"name": row.str("name"), "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}},
            });
            object.set("spec", row.get("spec").cloned().unwrap_or_default());
            let target = Target {
                group: "flowcontrol.apiserver.k8s.io",
                version: "v1",
                plural,
            };
            self.create(&target, object).await?;
        }
        Ok(())
    }

    async fn priority_classes(&self) -> Result<()> {
        for (name, value, description) in [
            (
                "system-node-critical",
                2_000_001_000i64,
                "For pods of the system that must stay on their node.",
            ),
            (
                "system-cluster-critical",
                2_000_000_000,
                "For pods of the system that must run, on whichever node.",
            ),
        ] {
            let class = node!({
                "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                "metadata": {"name": name}, "value": value, "description": description,
            });
            self.create(
                &Target {
                    group: "scheduling.k8s.io",
                    version: "v1",
                    plural: "priorityclasses",
                },
                class,
            )
            .await?;
        }
        Ok(())
    }

    async fn rbac(&self) -> Result<()> {
        for expected in objects() {
            let target = Target {
                group: "rbac.authorization.k8s.io",
                version: "v1",
                plural: expected.plural,
            };
            let object = &expected.object;
            let stored = self.get(&target, object.namespace(), object.name()).await;
            match reconcile(object, stored.as_ref()) {
                Reconciled::Nothing => {}
                Reconciled::Create(object) => drop(self.create(&target, object).await?),
                Reconciled::Update(object) => self.write(&target, Verb::Update, "", object).await?,
                Reconciled::Recreate(object) => {
                    let gone = node!({"metadata": {"name": object.name(), "namespace": object.namespace()}});
                    self.write(&target, Verb::Delete, "", gone).await?;
                    self.create(&target, object).await?;
                }
            }
        }
        Ok(())
    }

    /// The `kubernetes` service and the range it is in.
    async fn service(&self, config: &Config, address: SocketAddr) -> Result<()> {
        let ip = config.service_address();
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let cidrs: Vec<String> = config.network.service_ranges.iter().map(ToString::to_string).collect();
        let networking = |plural| Target {
            group: "networking.k8s.io",
            version: "v1",
            plural,
        };
        let range = node!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs},
        });
        if self.create(&networking("servicecidrs"), range).await?
            && let Some(mut made) = self.get(&networking("servicecidrs"), "", "kubernetes").await
        {
            made.set_at(
                &["status", "conditions"],
                vec![node!({
                    "type": "Ready", "status": "True", "reason": "",
                    "message": "Kubernetes default Service CIDR is ready",
                    "lastTransitionTime": made.str_at(&["metadata", "creationTimestamp"]),
                })],
            );
            self.write(&networking("servicecidrs"), Verb::Update, "status", made)
                .await?;
        }
        let mut port = node!({"name": "https", "port": 443, "protocol": "TCP", "targetPort": address.port()});
        let node_port = config.network.kubernetes_node_port;
        if node_port != 0 {
            port.set("nodePort", node_port);
        }
        let mut service = node!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "clusterIP": ip.to_string(), "clusterIPs": [ip.to_string()],
                "ipFamilies": [family], "ipFamilyPolicy": "SingleStack",
                "sessionAffinity": "None",
                "type": if node_port == 0 { "ClusterIP" } else { "NodePort" },
            },
        });
        service.set_at(&["spec", "ports"], vec![port.clone()]);
        let target = core("services");
        if !self.create(&target, service).await?
            && let Some(mut stored) = self.get(&target, "default", "kubernetes").await
            && stored
                .at(&["spec", "ports"])
                .and_then(Node::as_list)
                .and_then(|p| p.first())
                .and_then(|p| p.get("targetPort"))
                .and_then(Node::as_i64)
                != Some(address.port().into())
        {
            stored.set_at(&["spec", "ports"], vec![port]);
            self.write(&target, Verb::Update, "", stored).await?;
        }
        Ok(())
    }

    /// The ConfigMap by which API servers behind this one learn whom to trust.
    async fn authentication_info(&self, config: &Config, access: &Access, clock: &dyn Clock) -> Result<()> {
        let required = Required::new(config, access);
        let empty = required.config_map(None, clock.now());
        let stored = self.get(&core("configmaps"), empty.namespace(), empty.name()).await;
        let info = required.config_map(stored.as_ref(), clock.now());
        self.replace(&core("configmaps"), info).await
    }

    /// Creates, or updates what differs (metadata aside).
    async fn replace(&self, target: &Target<'_>, object: Node) -> Result<()> {
        if self.create(target, object.clone()).await? {
            return Ok(());
        }
        let Some(mut stored) = self.get(target, object.namespace(), object.name()).await else {
            return Ok(());
        };
        let mut changed = false;
        for (key, value) in object.as_map().into_iter().flat_map(fairlead_api::Map::iter) {
            if key != "metadata" && stored.get(key) != Some(value) {
                stored.set(key, value.clone());
                changed = true;
            }
        }
        if changed {
            self.write(target, Verb::Update, "", stored).await
        } else {
            Ok(())
        }
    }

    /// Whether the object was made; `false` where it was there already.
    async fn create(&self, target: &Target<'_>, object: Node) -> Result<bool> {
        let (name, plural) = (object.name().to_owned(), target.plural);
        // Asked first: a create takes addresses and ports before it finds the name taken, as upstream's does.
        if self.get(target, object.namespace(), &name).await.is_some() {
            return Ok(false);
        }
        match self.call(target, Verb::Create, "", object).await.result {
            Ok(_) => Ok(true),
            Err(status) if status.reason() == "AlreadyExists" => Ok(false),
            Err(status) => bail!("cannot create {plural} {name:?}: {status}"),
        }
    }

    async fn write(&self, target: &Target<'_>, verb: Verb, subresource: &str, object: Node) -> Result<()> {
        let (name, plural) = (object.name().to_owned(), target.plural);
        match self.call(target, verb, subresource, object).await.result {
            Ok(_) => Ok(()),
            Err(status) => bail!("cannot {} {plural} {name:?}: {status}", verb.as_str()),
        }
    }

    async fn get(&self, target: &Target<'_>, namespace: &str, name: &str) -> Option<Node> {
        let named = node!({"metadata": {"name": name, "namespace": namespace}});
        match self.call(target, Verb::Get, "", named).await.result {
            Ok(Response::Cached { object, .. }) => json::parse(&object.json.text()).ok(),
            Ok(Response::Node { node, .. }) => Some(node),
            _ => None,
        }
    }

    async fn call(&self, target: &Target<'_>, verb: Verb, subresource: &str, object: Node) -> Answer {
        let snapshot = self.router.load();
        let Some(Route::Local(definition)) = snapshot.route(target.group, target.version, target.plural) else {
            return Answer {
                result: Err(Status::no_such_resource()),
                warnings: Vec::new(),
                audit: Vec::new(),
                recorded: None,
            };
        };
        let body = match verb {
            Verb::Create | Verb::Update => Bytes::from(json::to_vec(&object)),
            _ => Bytes::new(),
        };
        let request = Request {
            verb,
            definition,
            namespace: object.namespace().into(),
            name: if verb == Verb::Create {
                Default::default()
            } else {
                object.name().into()
            },
            subresource: subresource.into(),
            subpath: String::new(),
            query: Vec::new(),
            body: Body {
                bytes: body,
                media_type: "application/json".into(),
            },
            view: View::Object,
            user: self.user.clone(),
            user_agent: "kube-apiserver".into(),
            deadline: None,
            internal: true,
            recording: Default::default(),
        };
        self.engine.handle(request).await
    }
}
