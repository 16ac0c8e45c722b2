//! Paths of files within volumes: what is wrong with one.
// PERFORMANCE: per-request path

use fairlead_api::name::Complaints;

pub const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// No element may be `..`.
pub fn no_backsteps(path: &str) -> Complaints {
    match path.split('/').any(|item| item == "..") {
        true => vec!["must not contain '..'".into()],
        false => Vec::new(),
    }
}

/// Relative, and never upwards.
pub fn descending(path: &str) -> Complaints {
    let mut complaints = Vec::new();
    if path.starts_with('/') {
        complaints.push("must be a relative path".into());
    }
    complaints.extend(no_backsteps(path));
    complaints
}

/// Like [`descending`]; names that start with two dots are the volume's own.
pub fn not_reserved(path: &str) -> Complaints {
    let mut complaints = descending(path);
    if path.starts_with("..") && !path.starts_with("../") {
        complaints.push("must not start with '..'".into());
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below() {
        assert!(not_reserved("a/b..c").is_empty());
        assert_eq!(descending("/a/../b").len(), 2);
        assert_eq!(not_reserved("..data"), ["must not start with '..'"]);
        assert_eq!(
            not_reserved(".."),
            ["must not contain '..'", "must not start with '..'"]
        );
    }
}
