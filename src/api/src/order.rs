//! How groups and versions are ranked.
//!
//! Source: kube-aggregator pkg/apiserver/handler_apis.go and apimachinery pkg/version (CompareKubeAwareVersionStrings).

use std::cmp::Ordering;

/// Compares versions so that the greatest comes first: `v2 < v1 < v1beta2 < v1beta1 < v1alpha1 < other`.
///
/// `Less` means: stands before. Names that are no Kubernetes versions come last, in alphabetical order.
pub fn versions(a: &str, b: &str) -> Ordering {
    match (parse(a), parse(b)) {
        (Some(x), Some(y)) => y.cmp(&x),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// (stability, major, minor): GA above beta above alpha, then numbers.
fn parse(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = number(&rest[..digits])?;
    let tail = &rest[digits..];
    if tail.is_empty() {
        return Some((2, major, 0));
    }
    let (stability, minor) = match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
        (Some(minor), _) => (1, minor),
        (_, Some(minor)) => (0, minor),
        _ => return None,
    };
    Some((stability, major, number(minor)?))
}

fn number(digits: &str) -> Option<u64> {
    if digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_are_ranked_as_kubernetes_ranks_them() {
        let mut names = [
            "foo1",
            "v1alpha1",
            "v10",
            "v1",
            "v2beta1",
            "foo10",
            "v11beta2",
            "v3beta1",
            "v11alpha2",
            "v2",
            "v12alpha1",
        ];
        names.sort_by(|a, b| super::versions(a, b));
        assert_eq!(
            names,
            [
                "v10",
                "v2",
                "v1",
                "v11beta2",
                "v3beta1",
                "v2beta1",
                "v12alpha1",
                "v11alpha2",
                "v1alpha1",
                "foo1",
                "foo10"
            ]
        );
    }
}
