//! What a namespace's labels ask for: a level and a version for each of enforce, audit and warn.

use fairlead_api::{FieldError, FieldErrors, FieldPath, Map, Node};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// The minor version whose rules count; `None` is the latest.
pub type Version = Option<u32>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelVersion {
    pub level: Level,
    pub version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub enforce: LevelVersion,
    pub audit: LevelVersion,
    pub warn: LevelVersion,
}

const UNSET: LevelVersion = LevelVersion {
    level: Level::Privileged,
    version: None,
};

impl Policy {
    /// The policy of a namespace, and the labels that cannot be read.
    ///
    /// A level that cannot be read is the strictest one for enforce, and none for the others.
    pub fn of(labels: Option<&Map>) -> (Policy, FieldErrors) {
        let mut errors = FieldErrors::new();
        let mut policy = Policy {
            enforce: UNSET,
            audit: UNSET,
            warn: UNSET,
        };
        let Some(labels) = labels.filter(|labels| labels.keys().any(|key| key.starts_with(PREFIX))) else {
            return (policy, errors);
        };
        let mut explicit = None;
        let mut warns = (false, false);
        for (mode, target, unreadable) in [
            ("enforce", &mut policy.enforce, Level::Restricted),
            ("audit", &mut policy.audit, Level::Privileged),
            ("warn", &mut policy.warn, Level::Privileged),
        ] {
            let level = format!("{PREFIX}{mode}");
            if let Some(text) = labels.get(&level).and_then(Node::as_str) {
                let known = LEVELS.iter().find(|(name, _)| *name == text).map(|(_, level)| *level);
                target.level = known.unwrap_or(unreadable);
                match known {
                    None => errors.push(invalid(&level, text, "must be one of privileged, baseline, restricted")),
                    Some(known) if mode == "enforce" => explicit = Some(known),
                    Some(_) => {}
                }
                warns.0 |= mode == "warn";
            }
            let version = format!("{PREFIX}{mode}-version");
            if let Some(text) = labels.get(&version).and_then(Node::as_str) {
                match parse_version(text) {
                    Some(version) => target.version = version,
                    None => errors.push(invalid(&version, text, "must be \"latest\" or \"v1.x\"")),
                }
                warns.1 |= mode == "warn";
            }
        }
        if let Some(level) = explicit.filter(|level| !warns.0 && *level > policy.warn.level) {
            policy.warn.level = level;
            if !warns.1 {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }
}

fn invalid(label: &str, value: &str, why: &str) -> FieldError {
    FieldError::invalid(&FieldPath::new("metadata.labels").key(label), value, why)
}

fn parse_version(text: &str) -> Option<Version> {
    if text == "latest" {
        return Some(None);
    }
    let minor = text.strip_prefix("v1.")?;
    let plain = minor.bytes().all(|b| b.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
    if !plain { None } else { minor.parse().ok().map(Some) }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let level = LEVELS.iter().find(|(_, level)| *level == self.level).map_or("", |(name, _)| name);
        match self.version {
            None => write!(f, "{level}:latest"),
            Some(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

const PREFIX: &str = "pod-security.kubernetes.io/";
const LEVELS: [(&str, Level); 3] = [
    ("privileged", Level::Privileged),
    ("baseline", Level::Baseline),
    ("restricted", Level::Restricted),
];

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn policy(labels: Node) -> (String, usize) {
        let (p, errors) = Policy::of(labels.as_map());
        (format!("{} {} {}", p.enforce, p.audit, p.warn), errors.len())
    }

    #[test]
    fn warnings_follow_what_is_enforced() {
        let labels = node!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.20"});
        assert_eq!(policy(labels), ("baseline:v1.20 privileged:latest baseline:v1.20".into(), 0));
    }

    #[test]
    fn what_cannot_be_read_is_enforced_strictly() {
        let labels = node!({"pod-security.kubernetes.io/enforce": "x", "pod-security.kubernetes.io/warn-version": "v1.01"});
        assert_eq!(policy(labels), ("restricted:latest privileged:latest privileged:latest".into(), 2));
    }
}
