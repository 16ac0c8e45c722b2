//! Files of one volume that come from different keys and fall upon each other.

use fairlead_api::Node;

/// A file, and what it comes from where a volume has several sources.
#[derive(Clone, PartialEq)]
struct File {
    path: String,
    source: String,
}

impl std::fmt::Display for File {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{:?}", self.path)?;
        if self.source.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.source)
    }
}

impl File {
    fn new(path: &str, source: impl Into<String>) -> File {
        File {
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// Whether one is the other, or lies in it as in a directory.
    fn meets(&self, other: &File) -> bool {
        let within = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !self.path.is_empty()
            && !other.path.is_empty()
            && (within(&self.path, &other.path) || within(&other.path, &self.path))
    }
}

pub fn volumes(volumes: &[Node], warnings: &mut Vec<String>) {
    for volume in volumes {
        let name = volume.str("name");
        let kinds = [("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")];
        for (field, kind, named) in kinds {
            if let Some(source) = volume.get(field) {
                let described = format!("{kind} {:?}", source.str(named));
                overlaps(name, &described, files(source, ""), warnings);
            }
        }
        if let Some(source) = volume.get("downwardAPI") {
            overlaps(name, "DownwardAPI", files(source, ""), warnings);
        }
        if let Some(projected) = volume.get("projected") {
            let mut all = Vec::new();
            for source in projected.list("sources") {
                if source
                    .as_map()
                    .is_none_or(|map| map.iter().all(|(_, source)| source.is_null()))
                {
                    warnings.push(format!("volume {name:?} (Projected) has no sources provided"));
                }
                all.extend(projection(source));
            }
            overlaps(name, "Projected", all, warnings);
        }
    }
}

fn overlaps(volume: &str, described: &str, files: Vec<File>, warnings: &mut Vec<String>) {
    let mut known: Vec<File> = Vec::with_capacity(files.len());
    for mut file in files {
        file.path.truncate(file.path.trim_end_matches('/').len());
        for other in known.iter().filter(|other| file.meets(other)) {
            warnings.push(format!(
                "volume {volume:?} ({described}): overlapping paths: {file} with {other}"
            ));
        }
        known.push(file);
    }
}

fn files(source: &Node, described: &str) -> Vec<File> {
    let items = source.list("items").iter();
    items.map(|item| File::new(item.str("path"), described)).collect()
}

fn projection(source: &Node) -> Vec<File> {
    let has_items = |field: &str| source.get(field).filter(|part| !part.list("items").is_empty());
    if let Some(part) = has_items("configMap") {
        return files(part, &format!("ConfigMap {:?}", part.str("name")));
    }
    if let Some(part) = has_items("secret") {
        return files(part, &format!("Secret {:?}", part.str("name")));
    }
    if let Some(part) = has_items("downwardAPI") {
        return files(part, "DownwardAPI");
    }
    if let Some(part) = source.get("serviceAccountToken") {
        return vec![File::new(part.str("path"), "ServiceAccountToken")];
    }
    if let Some(part) = source.get("clusterTrustBundle") {
        let name = part
            .get("name")
            .unwrap_or(part.get("signerName").unwrap_or(&Node::Null));
        let described = format!("ClusterTrustBundle {:?}", name.as_str().unwrap_or_default());
        return vec![File::new(part.str("path"), described)];
    }
    let Some(part) = source.get("podCertificate") else {
        return Vec::new();
    };
    let parts = [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ];
    let given = parts.iter().filter(|(field, _)| !part.str(field).is_empty());
    given
        .map(|(field, described)| File::new(part.str(field), *described))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn files_within_files_are_found() {
        let given = node!([{"name": "v", "projected": {"sources": [
            {"configMap": {"name": "m", "items": [{"key": "k", "path": "a/"}]}},
            {"serviceAccountToken": {"path": "a/b"}}, {}]}}]);
        let mut warnings = Vec::new();
        volumes(given.as_list().unwrap(), &mut warnings);
        assert_eq!(
            warnings,
            [
                r#"volume "v" (Projected) has no sources provided"#,
                r#"volume "v" (Projected): overlapping paths: "a/b" (ServiceAccountToken) with "a" (ConfigMap "m")"#,
            ]
        );
    }
}
