//! Who asks. Users log in at the aggregator, which passes their name on in headers; its client certificate says it may.

use http::HeaderMap;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What the connection proved about its other end.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Of a client certificate that the front proxy's CA signed.
    pub common_name: Option<String>,
}

/// Reads the user out of the headers, if the peer may speak for users; anybody else is nobody, whatever the headers say.
pub fn user(peer: &Peer, allowed_names: &[String], headers: &HeaderMap) -> Option<User> {
    let name = peer.common_name.as_ref()?;
    if !allowed_names.is_empty() && !allowed_names.contains(name) {
        return None;
    }
    let text = |key: &str| {
        headers
            .get(key)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let user = text("x-remote-user");
    if user.is_empty() {
        return None;
    }
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in headers {
        if let Some(key) = key.as_str().strip_prefix("x-remote-extra-") {
            extra
                .entry(percent_decoded(key))
                .or_default()
                .push(String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
    }
    let groups = headers
        .get_all("x-remote-group")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .map(str::to_owned)
        .collect();
    Some(User {
        name: user,
        uid: text("x-remote-uid"),
        groups,
        extra,
    })
}

/// `acme.com%2fproject` is `acme.com/project`; anything that is not a valid escape stays as it is.
pub fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%').then(|| tail.get(..2)).flatten();
        match escaped
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", "alice".parse().unwrap());
        headers.append("x-remote-group", "a".parse().unwrap());
        headers.append("x-remote-group", "b".parse().unwrap());
        headers.insert("x-remote-extra-acme.com%2fproject", "x".parse().unwrap());
        headers
    }

    #[test]
    fn only_the_front_proxy_speaks_for_users() {
        let proxy = Peer {
            common_name: Some("front-proxy".into()),
        };
        let alice = user(&proxy, &["front-proxy".into()], &headers()).unwrap();
        assert_eq!((alice.name.as_str(), alice.groups.len()), ("alice", 2));
        assert_eq!(alice.extra["acme.com/project"], ["x"]);
        assert_eq!(user(&proxy, &["other".into()], &headers()), None);
        assert_eq!(user(&Peer::default(), &[], &headers()), None);
    }
}
