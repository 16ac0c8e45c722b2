//! Who makes a request.

use compact_str::CompactString;
use std::collections::BTreeMap;

/// An authenticated user (or service account, node, or `system:anonymous`), after impersonation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub name: CompactString,
    pub uid: CompactString,
    pub groups: Vec<CompactString>,
    /// Keys are lower case.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    pub fn new(name: &str, groups: &[&str]) -> UserInfo {
        UserInfo {
            name: name.into(),
            groups: groups.iter().map(|g| (*g).into()).collect(),
            ..UserInfo::default()
        }
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}
