//! `/debug/aggregation`: who serves each group-version, how well that is known, and what is in conflict.

use crate::openapi::Components;
use crate::snapshot::{RemoteGroupVersion, RoutingSnapshot, Serves, VersionEntry};
use fairlead_api::{GroupVersion, Node, Timestamp, node};
use std::fmt::Write;
use std::sync::atomic::Ordering;

/// The report as JSON.
pub fn report(snapshot: &RoutingSnapshot, components: &dyn Components, now: Timestamp) -> Node {
    let versions = || snapshot.groups().iter().flat_map(|g| &g.versions);
    let mut node = Node::map();
    node.set("groupVersions", versions().map(|v| version(v, now)).collect::<Vec<_>>());
    let mut conflicts = hidden(snapshot);
    for version in versions() {
        if let Serves::Remote(remote) = &version.serves {
            conflicts.extend(claims(snapshot, remote));
        }
    }
    conflicts.extend(snapshot.renamed(components).iter().map(|renamed| {
        node!({
            "type": "SchemaName", "apiService": renamed.owner.as_str(),
            "name": renamed.name.as_str(), "shownAs": renamed.shown_as.as_str(),
        })
    }));
    node.set("conflicts", conflicts);
    node
}

fn version(entry: &VersionEntry, now: Timestamp) -> Node {
    let gv = &entry.group_version;
    let mut node = node!({
        "groupVersion": gv.to_string(),
        "groupPriority": entry.group_priority, "versionPriority": entry.version_priority,
        "servedBy": served_by(&entry.serves),
    });
    match &entry.serves {
        Serves::Local(definitions) => {
            node.set("resources", count(definitions.len()));
            node.set("freshness", "Current");
        }
        Serves::Remote(remote) => {
            node.set("resources", count(remote.resources.len()));
            describe(remote, now, &mut node);
        }
    }
    node
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn served_by(serves: &Serves) -> &'static str {
    match serves {
        Serves::Local(definitions) if definitions.is_empty() => "nobody",
        Serves::Local(definitions) if definitions.iter().all(|d| d.is_custom()) => "custom resources",
        Serves::Local(_) => "built in",
        Serves::Remote(_) => "backend",
    }
}

fn describe(remote: &RemoteGroupVersion, now: Timestamp, node: &mut Node) {
    node.set("apiService", remote.api_service.clone());
    node.set("service", remote.origin.service.as_str());
    node.set("freshness", if remote.stale { "Stale" } else { "Current" });
    node.set(
        "shownToClients",
        match (remote.stale, remote.from_memory()) {
            (false, _) => "as the backend says",
            (true, true) => "as it was last known",
            (true, false) => "as stale",
        },
    );
    let confirmed = remote.confirmed.load(Ordering::Relaxed);
    if confirmed > 0 {
        node.set("lastConfirmed", Timestamp::from_unix_seconds(confirmed).rfc3339());
        node.set("ageSeconds", (now.unix_seconds() - confirmed).max(0));
    }
    let texts = |texts: &[String]| texts.iter().map(|t| Node::from(t.as_str())).collect::<Vec<_>>();
    let origin = &remote.origin;
    for (key, text) in [
        ("discovery", origin.discovery),
        ("openAPIV2", origin.openapi_v2),
        ("openAPIV3", origin.openapi_v3),
    ] {
        node.set(key, if text.is_empty() { "unknown" } else { text });
    }
    if let Some((_, hash)) = &remote.openapi_v3 {
        node.set("openAPIV3Hash", hash.as_str());
    }
    if !origin.problems.is_empty() {
        node.set("problems", texts(&origin.problems));
    }
}

/// Definitions whose group-version an APIService with a service has taken.
fn hidden(snapshot: &RoutingSnapshot) -> Vec<Node> {
    let conflict = |(gv, plurals): (&GroupVersion, &Vec<_>)| {
        let plurals: Vec<Node> = plurals.iter().cloned().map(Node::from).collect();
        let mut node = node!({"type": "GroupVersion", "groupVersion": gv.to_string()});
        if let Some(Serves::Remote(remote)) = snapshot.version(&gv.group, &gv.version).map(|v| &v.serves) {
            node.set("apiService", remote.api_service.clone());
        }
        node.set("hides", plurals);
        node
    };
    snapshot.hidden().iter().map(conflict).collect()
}

/// What a backend says of group-versions that somebody else serves here.
fn claims(snapshot: &RoutingSnapshot, remote: &RemoteGroupVersion) -> Vec<Node> {
    let conflict = |claim: &String| {
        let gv = GroupVersion::parse(claim)?;
        let entry = snapshot.version(&gv.group, &gv.version)?;
        let mut node = node!({"type": "Claim", "groupVersion": claim.as_str(), "servedBy": served_by(&entry.serves)});
        node.set("apiService", remote.api_service.clone());
        Some(node)
    };
    remote.origin.claims.iter().filter_map(conflict).collect()
}

/// The report for people: one line a group-version, then what is wrong.
pub fn text(report: &Node) -> String {
    let mut out = String::new();
    let row = |out: &mut String, cells: [&str; 6]| {
        let [gv, by, resources, freshness, age, service] = cells;
        let line = format!("{gv:<44} {by:<17} {resources:>9} {freshness:<9} {age:>8}  {service}");
        out.push_str(line.trim_end());
        out.push('\n');
    };
    row(
        &mut out,
        ["GROUP VERSION", "SERVED BY", "RESOURCES", "FRESHNESS", "AGE", "SERVICE"],
    );
    for version in report.list("groupVersions") {
        let number = |key: &str| version.get(key).and_then(Node::as_i64);
        let resources = number("resources").unwrap_or(0).to_string();
        let age = number("ageSeconds").map_or(String::new(), |age| format!("{age}s"));
        row(
            &mut out,
            [
                version.str("groupVersion"),
                version.str("servedBy"),
                &resources,
                version.str("freshness"),
                &age,
                version.str("service"),
            ],
        );
    }
    for version in report.list("groupVersions") {
        for problem in version.list("problems").iter().filter_map(Node::as_str) {
            let _ = write!(out, "\n{}: {problem}", version.str("groupVersion"));
        }
    }
    for conflict in report.list("conflicts") {
        let service = conflict.str("apiService");
        let gv = conflict.str("groupVersion");
        let _ = match conflict.str("type") {
            "GroupVersion" => {
                let plurals: Vec<&str> = conflict.list("hides").iter().filter_map(Node::as_str).collect();
                write!(
                    out,
                    "\n{service} hides {} of {gv}, which are defined here",
                    plurals.join(", ")
                )
            }
            "Claim" => write!(
                out,
                "\n{service} speaks of {gv}, which is not its own ({}); that is ignored",
                conflict.str("servedBy")
            ),
            _ => write!(
                out,
                "\n{service} calls a schema {}, which means something else here; it is shown as {}",
                conflict.str("name"),
                conflict.str("shownAs")
            ),
        };
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::openapi::Version;
    use crate::snapshot::{Origin, Registration};
    use std::sync::Arc;
    use std::sync::atomic::AtomicI64;

    struct Nothing;

    impl Components for Nothing {
        fn schema(&self, _: &str, _: Version) -> Option<Node> {
            None
        }
    }

    /// `v1` of a group, served by somebody else.
    pub(crate) fn registration(group: &str, remote: RemoteGroupVersion) -> Registration {
        Registration {
            group_version: GroupVersion::new(group, "v1"),
            group_priority: 1000,
            version_priority: 15,
            remote: Some(Arc::new(RemoteGroupVersion {
                api_service: format!("v1.{group}").into(),
                group: group.into(),
                version: "v1".into(),
                ..remote
            })),
        }
    }

    #[test]
    fn who_serves_what_and_what_is_wrong() {
        let schema = |text: &str| {
            let document = format!(
                r##"{{"swagger":"2.0","paths":{{"/apis/{text}.example.com/v1/x":{{"get":{{"schema":{{"$ref":"#/definitions/X"}}}}}}}},
                    "definitions":{{"X":{{"title":"{text}"}}}}}}"##
            );
            Some(document.into())
        };
        let one = RemoteGroupVersion {
            stale: true,
            confirmed: Arc::new(AtomicI64::new(940)),
            openapi_v2: schema("a"),
            origin: Origin {
                service: "default/a:443".into(),
                problems: vec!["connection refused".into()],
                claims: vec!["b.example.com/v1".into(), "nobody.example.com/v1".into()],
                ..Origin::default()
            },
            ..RemoteGroupVersion::default()
        };
        let other = RemoteGroupVersion {
            openapi_v2: schema("b"),
            ..RemoteGroupVersion::default()
        };
        let registrations = [registration("a.example.com", one), registration("b.example.com", other)];
        let snapshot = RoutingSnapshot::build(None, &[], &registrations);
        let report = report(&snapshot, &Nothing, Timestamp::from_unix_seconds(1000));
        let first = &report.list("groupVersions")[0];
        assert_eq!(
            (first.str("groupVersion"), first.str("freshness")),
            ("a.example.com/v1", "Stale")
        );
        assert_eq!(first.get("ageSeconds").and_then(Node::as_i64), Some(60));
        let text = text(&report);
        for line in [
            "a.example.com/v1: connection refused",
            "v1.a.example.com speaks of b.example.com/v1, which is not its own (backend); that is ignored",
            "v1.b.example.com calls a schema X, which means something else here; it is shown as X_v2",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("nobody"), "{text}");
    }
}
