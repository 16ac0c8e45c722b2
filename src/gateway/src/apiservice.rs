//! What an APIService says: its specification read into a struct, and its `Available` condition.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use compact_str::CompactString;
use fairlead_api::{GroupVersion, Node, Timestamp, node};

/// The port a service reference means when it names none.
pub const DEFAULT_PORT: u16 = 443;

/// The part of an APIService that decides where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiService {
    pub name: CompactString,
    pub group_version: GroupVersion,
    pub group_priority: i64,
    pub version_priority: i64,
    /// `None` for groups that this server serves itself.
    pub remote: Option<Remote>,
}

/// How to reach a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    pub service: ServiceReference,
    /// PEM; empty for the system's roots.
    pub ca_bundle: Vec<u8>,
    pub insecure_skip_tls_verify: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceReference {
    pub namespace: CompactString,
    pub name: CompactString,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

/// The verdict on a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Available {
    pub status: ConditionStatus,
    pub reason: &'static str,
    pub message: String,
}

impl ApiService {
    /// Reads a stored object; what validation would have refused reads as its zero value.
    pub fn read(object: &Node) -> ApiService {
        let spec = object.get("spec");
        let text = |key: &str| spec.map_or("", |s| s.str(key));
        let number = |key: &str| spec.and_then(|s| s.get(key)).and_then(Node::as_i64).unwrap_or(0);
        let remote = spec
            .filter(|s| s.get("service").is_some_and(|s| !s.is_null()))
            .map(|spec| Remote {
                service: ServiceReference::read(spec.get("service").expect("it was just found")),
                ca_bundle: STANDARD.decode(spec.str("caBundle")).unwrap_or_default(),
                insecure_skip_tls_verify: spec
                    .get("insecureSkipTLSVerify")
                    .and_then(Node::as_bool)
                    .unwrap_or(false),
            });
        ApiService {
            name: object.name().into(),
            group_version: GroupVersion::new(text("group"), text("version")),
            group_priority: number("groupPriorityMinimum"),
            version_priority: number("versionPriority"),
            remote,
        }
    }

    /// Where its discovery is: `/apis/G/V`, or `/api/V` for the core group.
    pub fn discovery_path(&self) -> String {
        match self.group_version.group.as_str() {
            "" => format!("/api/{}", self.group_version.version),
            group => format!("/apis/{group}/{}", self.group_version.version),
        }
    }
}

impl ServiceReference {
    /// Reads `{namespace, name, port}`.
    pub fn read(reference: &Node) -> ServiceReference {
        let port = reference
            .get("port")
            .and_then(Node::as_i64)
            .and_then(|p| u16::try_from(p).ok());
        ServiceReference {
            namespace: reference.str("namespace").into(),
            name: reference.str("name").into(),
            port: port.unwrap_or(DEFAULT_PORT),
        }
    }

    /// The name its certificate must be valid for.
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }
}

impl ConditionStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionStatus::True => "True",
            ConditionStatus::False => "False",
            ConditionStatus::Unknown => "Unknown",
        }
    }
}

impl Available {
    pub fn passed() -> Available {
        Available {
            status: ConditionStatus::True,
            reason: "Passed",
            message: "all checks passed".into(),
        }
    }

    /// Of a group that this server serves itself.
    pub fn local() -> Available {
        let message = "Local APIServices are always available".into();
        Available {
            status: ConditionStatus::True,
            reason: "Local",
            message,
        }
    }

    pub fn no(reason: &'static str, message: String) -> Available {
        Available {
            status: ConditionStatus::False,
            reason,
            message,
        }
    }

    pub fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }
}

/// Whether an object's stored condition says that it is available.
pub fn is_available(object: &Node) -> bool {
    condition(object).is_some_and(|c| c.str("status") == "True")
}

/// Whether the stored condition is this one.
pub fn says(object: &Node, available: &Available) -> bool {
    condition(object).is_some_and(|old| {
        old.str("status") == available.status.as_str()
            && old.str("reason") == available.reason
            && old.str("message") == available.message
    })
}

/// Whether an APIService names a service.
pub fn is_remote(object: &Node) -> bool {
    object.at(&["spec", "service"]).is_some_and(|s| !s.is_null())
}

/// Sets the condition. The time of transition moves only when the status changes. Returns whether anything changed.
pub fn set_available(object: &mut Node, available: &Available, now: Timestamp) -> bool {
    if says(object, available) {
        return false;
    }
    let same_status = condition(object)
        .filter(|old| old.str("status") == available.status.as_str())
        .map(|old| old.str("lastTransitionTime").to_owned());
    let made = node!({
        "type": "Available", "status": (available.status.as_str()),
        "lastTransitionTime": (same_status.unwrap_or_else(|| now.rfc3339())),
        "reason": (available.reason), "message": (available.message),
    });
    let slot = object.make_at(&["status", "conditions"]);
    if slot.as_list().is_none() {
        *slot = Node::List(Vec::new());
    }
    let conditions = slot.as_list_mut().expect("it was just made a list");
    match conditions.iter_mut().find(|c| c.str("type") == "Available") {
        Some(old) => *old = made,
        None => conditions.push(made),
    }
    true
}

fn condition(object: &Node) -> Option<&Node> {
    object
        .get("status")?
        .list("conditions")
        .iter()
        .find(|c| c.str("type") == "Available")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_transition_time_while_its_status_stays() {
        let mut object = node!({"metadata": {"name": "v1.x"}});
        let at = Timestamp::from_unix_seconds;
        assert!(set_available(&mut object, &Available::no("A", "a".into()), at(0)));
        assert!(set_available(&mut object, &Available::no("B", "b".into()), at(60)));
        assert!(!set_available(&mut object, &Available::no("B", "b".into()), at(90)));
        assert_eq!(
            condition(&object).unwrap().str("lastTransitionTime"),
            "1970-01-01T00:00:00Z"
        );
        assert!(!is_available(&object));
        assert!(set_available(&mut object, &Available::passed(), at(120)));
        assert_eq!(
            condition(&object).unwrap().str("lastTransitionTime"),
            "1970-01-01T00:02:00Z"
        );
        assert!(is_available(&object));
    }

    #[test]
    fn a_specification_is_read() {
        let object = node!({"metadata": {"name": "v1.g"}, "spec": {
            "group": "g", "version": "v1", "groupPriorityMinimum": 5, "versionPriority": 6,
            "service": {"namespace": "n", "name": "s"}, "caBundle": "YQ==",
        }});
        let read = ApiService::read(&object);
        let remote = read.remote.as_ref().unwrap();
        assert_eq!(
            (remote.service.port, remote.service.server_name()),
            (443, "s.n.svc".into())
        );
        assert_eq!(
            (remote.ca_bundle.as_slice(), read.discovery_path().as_str()),
            (&b"a"[..], "/apis/g/v1")
        );
        assert_eq!(ApiService::read(&node!({"spec": {"version": "v1"}})).remote, None);
    }
}
