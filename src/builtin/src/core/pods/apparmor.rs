//! AppArmor profiles given by annotation, before there was a field: they become the field (KEP-24).

use fairlead_api::{Map, Node, node};

use crate::validation::pod::warnings::{APP_ARMOR as PREFIX, APP_ARMOR_DEPRECATED};

/// What to say about a new pod's annotations, before they are copied.
pub fn warnings(pod: &Node) -> Vec<String> {
    match pod.annotations() {
        Some(annotations) if annotations.keys().any(|key| key.starts_with(PREFIX)) => sync(&mut pod.clone()),
        _ => Vec::new(),
    }
}

/// Copies profiles from annotations into the containers that have none. Answers the annotations to warn about.
pub fn sync(pod: &mut Node) -> Vec<String> {
    if pod.str_at(&["spec", "os", "name"]) == "windows" {
        return Vec::new();
    }
    let annotations: Vec<(String, String)> = pod
        .annotations()
        .into_iter()
        .flat_map(Map::iter)
        .filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?.to_owned(), value.as_str()?.to_owned())))
        .collect();
    if annotations.is_empty() {
        return Vec::new();
    }
    let of_pod = pod.at(&["spec", "securityContext", "appArmorProfile"]).cloned();
    let mut warned = Vec::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let Some(Node::List(containers)) = pod.at_mut(&["spec", list]) else {
            continue;
        };
        for container in containers {
            let Some((name, value)) = annotations.iter().find(|(name, _)| name == container.str("name")) else {
                continue;
            };
            if container.at(&["securityContext", "appArmorProfile"]).is_some() {
                continue;
            }
            let field = profile(value);
            if field.is_none() || field != of_pod {
                warned.push(format!("metadata.annotations[{PREFIX}{name}]: {APP_ARMOR_DEPRECATED}"));
            }
            if let Some(field) = field.filter(|field| Some(field) != of_pod.as_ref()) {
                container.set_at(&["securityContext", "appArmorProfile"], field);
            }
        }
    }
    warned
}

/// The field for an annotation; `None` for one that means nothing.
fn profile(annotation: &str) -> Option<Node> {
    match annotation {
        "unconfined" => Some(node!({"type": "Unconfined"})),
        "runtime/default" => Some(node!({"type": "RuntimeDefault"})),
        other => {
            let name = other
                .strip_prefix("localhost/")
                .filter(|name| !name.is_empty() && name.trim() == *name)?;
            (name.len() <= 4095).then(|| node!({"type": "Localhost", "localhostProfile": name}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_become_fields() {
        let mut pod = node!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "localhost/x"}},
            "spec": {"containers": [{"name": "c"}, {"name": "d"}]}});
        assert_eq!(sync(&mut pod).len(), 1);
        let containers = pod.at(&["spec", "containers"]).unwrap().as_list().unwrap();
        assert_eq!(
            containers[0].at(&["securityContext", "appArmorProfile"]),
            profile("localhost/x").as_ref()
        );
        assert_eq!(containers[1].get("securityContext"), None);
    }
}
