//! [`Enabled`]: which of the declared APIs are served, as `--runtime-config` says it.
//!
//! Source of the rules: kubernetes/apiserver pkg/server/resourceconfig/helpers.go.

use compact_str::CompactString;
use fairlead_api::GroupVersion;
use std::collections::BTreeMap;

/// Stable versions are served, others are not, unless something else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enabled {
    /// In the order in which they count: the later wins.
    stages: Vec<(Stage, bool)>,
    versions: BTreeMap<GroupVersion, bool>,
    resources: BTreeMap<(GroupVersion, CompactString), bool>,
}

/// How far a version has come, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Any,
    Stable,
    Beta,
    Alpha,
}

const STAGES: [(&str, Stage); 4] = [
    ("api/all", Stage::Any),
    ("api/ga", Stage::Stable),
    ("api/beta", Stage::Beta),
    ("api/alpha", Stage::Alpha),
];

impl Enabled {
    /// Reads `key=value` pairs.
    ///
    /// # Errors
    /// A value that is neither true nor false, or a key that can name nothing.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = &'a str>) -> Result<Enabled, String> {
        let pairs: BTreeMap<&str, &str> = pairs
            .into_iter()
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let mut enabled = Enabled::default();
        for (key, stage) in STAGES {
            match pairs.get(key) {
                None => {}
                Some(&"true") => enabled.stages.push((stage, true)),
                Some(&"false") => enabled.stages.push((stage, false)),
                Some(value) => return Err(format!("invalid value {key}={value}")),
            }
        }
        for (key, value) in pairs {
            if STAGES.iter().any(|(known, _)| *known == key) {
                continue;
            }
            let parts: Vec<&str> = key.split('/').collect();
            let on = switch(value).ok_or_else(|| format!("invalid value of {key}: {value}"))?;
            match parts[..] {
                [group, version] => drop(enabled.versions.insert(GroupVersion::new(group, version), on)),
                [group, version, resource] => {
                    if resource.to_lowercase() != resource {
                        return Err(format!(
                            "invalid key {key}: group/version/resource and resource is always lowercase plural, not {resource:?}"
                        ));
                    }
                    let key = (GroupVersion::new(group, version), resource.into());
                    enabled.resources.insert(key, on);
                }
                // COMPAT: `v1=true` was once a way to name the core group.
                _ => {}
            }
        }
        Ok(enabled)
    }

    /// Whether a resource is served. What is said of a resource counts more than what is said of its version, and that
    /// more than what is said of all.
    pub fn serves(&self, gv: &GroupVersion, plural: &str) -> bool {
        let resource = self.resources.get(&(gv.clone(), plural.into()));
        if let Some(on) = resource.or_else(|| self.versions.get(gv)) {
            return *on;
        }
        let stage = Stage::of(&gv.version);
        let said = self.stages.iter().rev().find(|(s, _)| *s == Stage::Any || *s == stage);
        said.map_or(stage == Stage::Stable, |(_, on)| *on)
    }
}

impl Stage {
    fn of(version: &str) -> Stage {
        if version.contains("alpha") {
            Stage::Alpha
        } else if version.contains("beta") {
            Stage::Beta
        } else {
            Stage::Stable
        }
    }
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serves(config: &str, group_version: &str, plural: &str) -> bool {
        let enabled = Enabled::parse(config.split(',')).expect("a valid configuration");
        enabled.serves(&GroupVersion::parse(group_version).expect("a group-version"), plural)
    }

    #[test]
    fn the_more_exact_word_counts() {
        for (config, gv, expected) in [
            ("", "apps/v1", true),
            ("", "g/v1alpha1", false),
            ("", "g/v1beta1", false),
            ("api/alpha=true", "g/v1alpha1", true),
            ("api/alpha=true", "g/v1beta1", false),
            ("api/all=true", "g/v1beta1", true),
            ("api/all=true,api/beta=false", "g/v1beta1", false),
            ("api/all=false", "apps/v1", false),
            ("api/all=false,apps/v1=true", "apps/v1", true),
            ("g/v1alpha1=true", "g/v1alpha1", true),
            ("g/v1alpha1", "g/v1alpha1", true),
            ("apps/v1/things=false", "apps/v1", false),
            ("apps/v1/others=false", "apps/v1", true),
            ("apps/v1=false,apps/v1/things=true", "apps/v1", true),
        ] {
            assert_eq!(serves(config, gv, "things"), expected, "{config} {gv}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        let error = |config: &str| Enabled::parse([config]).expect_err("a mistake");
        assert_eq!(error("api/all=maybe"), "invalid value api/all=maybe");
        assert_eq!(error("apps/v1=maybe"), "invalid value of apps/v1: maybe");
        assert!(error("apps/v1/Deployments=true").starts_with("invalid key apps/v1/Deployments: "));
    }
}
