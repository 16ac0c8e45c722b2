//! The ConfigMap `extension-apiserver-authentication`, from which aggregated API servers learn whom to trust: put right
//! whenever it or a file of a CA changes.
//!
//! Source of the rules: kubernetes/kubernetes pkg/controlplane/controller/clusterauthenticationtrust. What others (a
//! second server with other CAs) have put there stays, except certificates that have expired.

use crate::access::Access;
use crate::config::Config;
use fairlead_api::{Clock, Node, StatusResult, Timestamp, json, node};
use fairlead_discovery::{Route, Router};
use fairlead_gateway::ObjectSource;
use fairlead_gateway::objects::Resource;
use fairlead_resource::Client;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::pem::Pem;

const NAME: &str = "extension-apiserver-authentication";
const NAMESPACE: &str = "kube-system";
const CONFIG_MAPS: Resource = ("", "configmaps");
const CA_KEYS: [&str; 2] = ["client-ca-file", "requestheader-client-ca-file"];
/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(10);

/// What the ConfigMap has to say at least, and the files that this comes from.
#[derive(Clone)]
pub struct Required {
    data: Node,
    files: Vec<(&'static str, PathBuf)>,
}

impl Required {
    pub fn new(config: &Config, access: &Access) -> Required {
        let list = |values: &[String]| json::to_string(&Node::List(values.iter().map(|v| v.as_str().into()).collect()));
        let header = &access.request_header;
        let mut data = node!({
            "client-ca-file": access.client_ca_pem,
            "requestheader-client-ca-file": header.ca_pem,
            "requestheader-allowed-names": list(&header.allowed_names),
            "requestheader-username-headers": list(&header.headers.username),
            "requestheader-group-headers": list(&header.headers.group),
            "requestheader-extra-headers-prefix": list(&header.headers.extra_prefix),
        });
        if !header.headers.uid.is_empty() {
            data.set("requestheader-uid-headers", list(&header.headers.uid));
        }
        let authentication = &config.authentication;
        let files = [
            ("client-ca-file", authentication.client_ca.clone()),
            (
                "requestheader-client-ca-file",
                authentication.front_proxy.as_ref().map(|p| p.ca.clone()),
            ),
        ];
        let files = files.into_iter().filter_map(|(key, path)| Some((key, path?))).collect();
        Required { data, files }
    }

    /// The ConfigMap, with what `stored` says besides.
    pub fn config_map(&self, stored: Option<&Node>, now: Timestamp) -> Node {
        let mut object = match stored {
            Some(stored) => stored.clone(),
            None => node!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": NAMESPACE},
            }),
        };
        let existing = object.get("data").cloned().unwrap_or_else(Node::map);
        object.set("data", combined(&existing, &self.data, now));
        object
    }

    /// Reads the files again. One that cannot be read counts as it was.
    fn refresh(&mut self) {
        for (key, path) in &self.files {
            match std::fs::read_to_string(path) {
                Ok(pem) if !pem.trim().is_empty() => self.data.set(key, pem),
                Ok(_) => {}
                Err(error) => tracing::warn!(path = %path.display(), %error, "a CA cannot be read again"),
            }
        }
    }
}

/// Keeps the ConfigMap until it is dropped.
pub async fn run(
    mut required: Required,
    objects: Arc<dyn ObjectSource>,
    client: Client,
    router: Router,
    clock: Arc<dyn Clock>,
) {
    let mut changes = objects.changes(CONFIG_MAPS);
    loop {
        changes.borrow_and_update();
        if let Err(status) = reconcile(&required, &*objects, &client, &router, clock.now()).await
            && !matches!(status.code(), 404 | 409)
        {
            tracing::warn!(%status, "{NAME} is not up to date");
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK) => required.refresh(),
        }
    }
}

async fn reconcile(
    required: &Required,
    objects: &dyn ObjectSource,
    client: &Client,
    router: &Router,
    now: Timestamp,
) -> StatusResult<()> {
    let stored = objects.get(CONFIG_MAPS, NAMESPACE, NAME);
    let wanted = required.config_map(stored.as_deref(), now);
    if stored
        .as_deref()
        .is_some_and(|stored| stored.get("data") == wanted.get("data"))
    {
        return Ok(());
    }
    let Some(Route::Local(definition)) = router.load().route("", "v1", "configmaps") else {
        return Ok(());
    };
    match stored {
        Some(_) => client.update(&definition, &wanted).await.map(drop),
        None => client.create(&definition, NAMESPACE, &wanted).await.map(drop),
    }
}

/// Both, each certificate and each name once; what exists comes first.
fn combined(existing: &Node, required: &Node, now: Timestamp) -> Node {
    let mut data = Node::map();
    for (key, value) in required.as_map().into_iter().flat_map(fairlead_api::Map::iter) {
        let (old, new) = (existing.str(key), value.as_str().unwrap_or_default());
        let both = match CA_KEYS.contains(&key.as_str()) {
            true => certificates(old, new, now),
            false => names(old, new),
        };
        data.set(key, both);
    }
    data
}

fn names(existing: &str, required: &str) -> String {
    let read = |text: &str| match json::parse(text.as_bytes()) {
        Ok(Node::List(names)) => names,
        _ => Vec::new(),
    };
    let mut all = read(existing);
    for name in read(required) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    json::to_string(&Node::List(all))
}

fn certificates(existing: &str, required: &str, now: Timestamp) -> String {
    // Words around certificates and their order stay as long as there is nothing to add or to drop.
    let old: Vec<Pem> = valid(existing, now);
    let new: Vec<Pem> = valid(required, now);
    let whole = |text: &str, kept: &[Pem]| Pem::iter_from_buffer(text.as_bytes()).flatten().count() == kept.len();
    let known = |pem: &Pem| old.iter().any(|o| o.contents == pem.contents);
    if old.is_empty() && whole(required, &new) {
        return required.to_owned();
    }
    if new.iter().all(known) && whole(existing, &old) {
        return existing.to_owned();
    }
    old.iter()
        .chain(new.iter().filter(|pem| !known(pem)))
        .map(written)
        .collect()
}

fn valid(text: &str, now: Timestamp) -> Vec<Pem> {
    let certificates = Pem::iter_from_buffer(text.as_bytes()).flatten();
    let lasts = |pem: &Pem| {
        let parsed = pem.parse_x509();
        parsed.is_ok_and(|c| c.validity().not_after.timestamp() >= now.unix_seconds())
    };
    certificates
        .filter(|pem| pem.label == "CERTIFICATE" && lasts(pem))
        .collect()
}

fn written(pem: &Pem) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(&pem.contents);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|i| &text[i..text.len().min(i + 64)])
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn certificate(name: &str, last_year: i32) -> String {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(last_year, 1, 1);
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
            .replace('\r', "")
    }

    #[test]
    fn what_others_have_put_there_stays_while_it_is_valid() {
        let now = Timestamp::parse("2026-06-01T00:00:00Z").unwrap();
        let (ours, theirs, old) = (certificate("a", 2030), certificate("b", 2030), certificate("c", 2025));
        assert_eq!(certificates("", &ours, now), ours);
        assert_eq!(certificates(&ours, &ours, now), ours);
        let both = certificates(&format!("{theirs}{old}"), &ours, now);
        assert_eq!(both, format!("{theirs}{ours}"));
        assert_eq!(certificates(&both, &ours, now), both);
        assert_eq!(names(r#"["x","y"]"#, r#"["y","z"]"#), r#"["x","y","z"]"#);
        assert_eq!(names("nonsense", r#"["z"]"#), r#"["z"]"#);
    }
}
