//! [`Graph`]: which objects are tied to which nodes, counted so that each question is a lookup or two.
// PERFORMANCE: per-request path

use super::references::{pod_references, volume_secrets};
use crate::objects::{Changes, ObjectSource};
use compact_str::CompactString;
use fairlead_api::Node;
use std::collections::HashMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Pod,
    Secret,
    ConfigMap,
    Claim,
    Volume,
    ResourceClaim,
    ServiceAccount,
    VolumeAttachment,
    ResourceSlice,
    PodCertificateRequest,
}

/// A resource the graph is made of. Each object of it ties other objects to a node, or volumes to claims.
struct Followed {
    group: &'static str,
    plural: &'static str,
    kind: Kind,
}

const FOLLOWED: [Followed; 5] = [
    Followed {
        group: "",
        plural: "pods",
        kind: Kind::Pod,
    },
    Followed {
        group: "",
        plural: "persistentvolumes",
        kind: Kind::Volume,
    },
    Followed {
        group: "storage.k8s.io",
        plural: "volumeattachments",
        kind: Kind::VolumeAttachment,
    },
    Followed {
        group: "resource.k8s.io",
        plural: "resourceslices",
        kind: Kind::ResourceSlice,
    },
    Followed {
        group: "certificates.k8s.io",
        plural: "podcertificaterequests",
        kind: Kind::PodCertificateRequest,
    },
];

/// An object: kind, namespace, name.
pub(super) type Object = (Kind, CompactString, CompactString);

#[derive(Default)]
pub(super) struct Graph {
    seen: [Option<u64>; 5],
    /// How many times a node needs an object.
    needs: HashMap<Object, HashMap<CompactString, u32>>,
    /// The node each object was bound to and what it brought along, to be taken back when it changes.
    ties: HashMap<Object, (CompactString, Vec<Object>)>,
    /// The claim a volume is bound to.
    claims: HashMap<CompactString, (Object, Vec<Object>)>,
    /// The volumes a secret is for.
    volumes: HashMap<Object, Vec<CompactString>>,
}

impl Graph {
    pub(super) fn is_current(&self, source: &dyn ObjectSource) -> bool {
        FOLLOWED
            .iter()
            .zip(&self.seen)
            .all(|(f, seen)| *seen == Some(source.version(f.group, f.plural)))
    }

    pub(super) fn follow(&mut self, source: &dyn ObjectSource) {
        for (i, followed) in FOLLOWED.iter().enumerate() {
            if self.seen[i] == Some(source.version(followed.group, followed.plural)) {
                continue;
            }
            let (version, changes) = source.changes(followed.group, followed.plural, self.seen[i].unwrap_or(0));
            match changes {
                Changes::All(objects) => {
                    self.clear(followed.kind);
                    for object in objects {
                        self.put(followed.kind, object.namespace(), object.name(), Some(&object));
                    }
                }
                Changes::Some(changes) => {
                    for change in changes {
                        self.put(followed.kind, &change.namespace, &change.name, change.object.as_deref());
                    }
                }
            }
            self.seen[i] = Some(version);
        }
    }

    pub(super) fn related(&self, kind: Kind, namespace: &str, name: &str, node: &str) -> bool {
        let object = (kind, namespace.into(), name.into());
        if kind == Kind::Volume {
            return self.volume_needed(&object.2, node);
        }
        self.needed(&object, node)
            || self
                .volumes
                .get(&object)
                .is_some_and(|vs| vs.iter().any(|volume| self.volume_needed(volume, node)))
    }

    fn volume_needed(&self, volume: &CompactString, node: &str) -> bool {
        self.claims
            .get(volume)
            .is_some_and(|(claim, _)| self.needed(claim, node))
    }

    fn needed(&self, object: &Object, node: &str) -> bool {
        self.needs.get(object).is_some_and(|nodes| nodes.contains_key(node))
    }

    fn put(&mut self, kind: Kind, namespace: &str, name: &str, object: Option<&Node>) {
        let key: Object = (kind, namespace.into(), name.into());
        if kind == Kind::Volume {
            self.put_volume(key.2, object);
            return;
        }
        let Some(object) = object else { return self.untie(&key) };
        let node = object.str_at(&["spec", "nodeName"]);
        if node.is_empty() {
            return self.untie(&key);
        }
        let mut brought = vec![key.clone()];
        if kind == Kind::Pod {
            brought.extend(pod_references(object));
        }
        // Most writes of a pod are status updates, which change nothing here.
        if self.ties.get(&key).is_some_and(|(n, b)| n == node && *b == brought) {
            return;
        }
        self.untie(&key);
        for needed in &brought {
            *self
                .needs
                .entry(needed.clone())
                .or_default()
                .entry(node.into())
                .or_default() += 1;
        }
        self.ties.insert(key, (node.into(), brought));
    }

    fn untie(&mut self, key: &Object) {
        let Some((node, brought)) = self.ties.remove(key) else {
            return;
        };
        for object in brought {
            let Some(nodes) = self.needs.get_mut(&object) else {
                continue;
            };
            if let Some(count) = nodes.get_mut(&node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&node);
                }
            }
            if nodes.is_empty() {
                self.needs.remove(&object);
            }
        }
    }

    fn put_volume(&mut self, name: CompactString, object: Option<&Node>) {
        if let Some((_, secrets)) = self.claims.remove(&name) {
            for secret in secrets {
                if let Some(volumes) = self.volumes.get_mut(&secret) {
                    volumes.retain(|v| *v != name);
                    if volumes.is_empty() {
                        self.volumes.remove(&secret);
                    }
                }
            }
        }
        let Some((object, claim)) = object.and_then(|o| Some((o, o.at(&["spec", "claimRef"])?))) else {
            return;
        };
        let claim = (Kind::Claim, claim.str("namespace").into(), claim.str("name").into());
        let secrets = volume_secrets(object);
        for secret in &secrets {
            self.volumes.entry(secret.clone()).or_default().push(name.clone());
        }
        self.claims.insert(name, (claim, secrets));
    }

    fn clear(&mut self, kind: Kind) {
        if kind == Kind::Volume {
            self.claims.clear();
            self.volumes.clear();
            return;
        }
        let keys: Vec<Object> = self.ties.keys().filter(|k| k.0 == kind).cloned().collect();
        for key in keys {
            self.untie(&key);
        }
    }
}
