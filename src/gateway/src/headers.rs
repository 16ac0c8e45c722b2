//! Headers: what may not pass, who the user is, and where the request came from.
// PERFORMANCE: per-request path

use fairlead_api::UserInfo;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;

pub static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// W3C trace context.
pub static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_REMOTE_USER: HeaderName = HeaderName::from_static("x-remote-user");
static X_REMOTE_UID: HeaderName = HeaderName::from_static("x-remote-uid");
static X_REMOTE_GROUP: HeaderName = HeaderName::from_static("x-remote-group");
static IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
static IMPERSONATE_UID: HeaderName = HeaderName::from_static("impersonate-uid");
static IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");

/// Headers that concern one connection only (RFC 9110 §7.6.1, and older habits).
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that say who somebody is, and so are ours to set.
fn is_identity(name: &str) -> bool {
    // Some servers read `X_Remote_User` as `X-Remote-User`.
    let with_dashes;
    let name = if name.contains('_') {
        with_dashes = name.replace('_', "-");
        with_dashes.as_str()
    } else {
        name
    };
    matches!(
        name,
        "authorization"
            | "x-remote-user"
            | "x-remote-uid"
            | "x-remote-group"
            | "x-forwarded-uri"
            | "x-forwarded-proto"
            | "x-forwarded-host"
    ) || name.starts_with("x-remote-extra-")
        || name.starts_with("impersonate-")
}

/// Removes what concerns the connection or claims an identity. Whatever `Connection` names goes too, before ours is set.
pub fn strip_request(headers: &mut HeaderMap) {
    let wants_trailers = headers
        .get(header::TE)
        .is_some_and(|te| contains_token(te.as_bytes(), "trailers"));
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // The coding says how long the body is; a length beside it is an attempt to be read differently (RFC 9112 §6.3).
        headers.remove(header::CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
    let identities: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_identity(name.as_str()))
        .cloned()
        .collect();
    for name in identities {
        headers.remove(name);
    }
    headers.remove(header::HOST);
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes what concerns the connection to the backend, and what only this server may tell browsers.
pub fn strip_response(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    for name in [
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        header::ACCESS_CONTROL_ALLOW_METHODS,
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
    ] {
        headers.remove(name);
    }
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|v| v.as_bytes().split(|b| *b == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Says who asks. Values that no header can carry are percent-encoded rather than left out.
pub fn set_identity(headers: &mut HeaderMap, user: &UserInfo) {
    headers.insert(&X_REMOTE_USER, value(&user.name));
    if !user.uid.is_empty() {
        headers.insert(&X_REMOTE_UID, value(&user.uid));
    }
    for group in &user.groups {
        headers.append(&X_REMOTE_GROUP, value(group));
    }
    append_extra(headers, "x-remote-extra-", user);
}

fn append_extra(headers: &mut HeaderMap, prefix: &str, user: &UserInfo) {
    for (key, values) in &user.extra {
        let Ok(name) = HeaderName::from_bytes(format!("{prefix}{}", escaped_key(key)).as_bytes()) else {
            continue;
        };
        for one in values {
            headers.append(name.clone(), value(one));
        }
    }
}

/// Says in whose name this server asks another one, beside its own credentials (the impersonation protocol).
pub fn set_impersonation(headers: &mut HeaderMap, user: &UserInfo) {
    headers.insert(&IMPERSONATE_USER, value(&user.name));
    if !user.uid.is_empty() {
        headers.insert(&IMPERSONATE_UID, value(&user.uid));
    }
    for group in &user.groups {
        headers.append(&IMPERSONATE_GROUP, value(group));
    }
    append_extra(headers, "impersonate-extra-", user);
}

/// Says where the request came from. The host is filled in for each attempt.
pub fn set_forwarded(headers: &mut HeaderMap, client: Option<IpAddr>, path: &str) {
    set_forwarded_for(headers, client);
    set_forwarded_uri(headers, path);
    headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    headers.insert(&X_FORWARDED_HOST, HeaderValue::from_static("-"));
}

/// Adds the client to those the request was forwarded for.
pub fn set_forwarded_for(headers: &mut HeaderMap, client: Option<IpAddr>) {
    let Some(client) = client else { return };
    let mut chain = Vec::new();
    for part in headers.get_all(&X_FORWARDED_FOR) {
        chain.extend_from_slice(part.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(client.to_string().as_bytes());
    if let Ok(chain) = HeaderValue::from_bytes(&chain) {
        headers.insert(&X_FORWARDED_FOR, chain);
    }
}

/// Says what the client asked for.
pub fn set_forwarded_uri(headers: &mut HeaderMap, path: &str) {
    if let Ok(uri) = HeaderValue::from_str(path) {
        headers.insert(&X_FORWARDED_URI, uri);
    }
}

/// The protocol a client asks to switch to; `None` when it asks for nothing.
pub fn upgrade(headers: &HeaderMap) -> Option<&[u8]> {
    let asks = headers
        .get_all(header::CONNECTION)
        .iter()
        .any(|v| contains_text(v.as_bytes(), "upgrade"));
    asks.then(|| headers.get(header::UPGRADE).map_or(&b""[..], HeaderValue::as_bytes))
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_bytes(text.as_bytes()).unwrap_or_else(|_| {
        let mut escaped = String::with_capacity(text.len() + 8);
        for b in text.bytes() {
            if (0x20..0x7f).contains(&b) {
                escaped.push(b as char)
            } else {
                escaped.push_str(&format!("%{b:02X}"))
            }
        }
        HeaderValue::from_str(&escaped).expect("only printable ASCII is left")
    })
}

/// Percent-encodes what a header name may not contain, and `%` itself.
///
/// Source of the rule: kubernetes/client-go transport/round_trippers.go (headerKeyEscape).
fn escaped_key(key: &str) -> String {
    let mut escaped = String::with_capacity(key.len());
    for b in key.bytes() {
        let plain = b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b);
        if plain {
            escaped.push(b.to_ascii_lowercase() as char)
        } else {
            escaped.push_str(&format!("%{b:02x}"))
        }
    }
    escaped
}

fn contains_token(value: &[u8], token: &str) -> bool {
    value
        .split(|b| *b == b',')
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

fn contains_text(value: &[u8], text: &str) -> bool {
    value
        .windows(text.len())
        .any(|w| w.eq_ignore_ascii_case(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn ncc_yvu_spoofed_identities_do_not_pass() {
        let mut h = headers(&[
            ("Authorization", "Bearer x"),
            ("X-Remote-User", "evil"),
            ("X_Remote_Group", "system:masters"),
            ("x-remote-group", "system:masters"),
            ("x-remote-group", "b"),
            ("X-Remote-Extra-Foo", "1"),
            ("x_remote-extra_foo", "1"),
            ("Impersonate-User", "evil"),
            ("Impersonate-Extra-x", "evil"),
            ("X-Forwarded-Uri", "/x"),
            ("Connection", "X-Remote-Group, X-Custom, close"),
            ("X-Custom", "named by Connection"),
            ("X-Kept", "kept"),
            ("X-Real-Ip", "9.9.9.9"),
        ]);
        strip_request(&mut h);
        let mut left: Vec<&str> = h.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-kept", "x-real-ip"]);
        set_identity(&mut h, &UserInfo::new("alice", &["dev", "system:authenticated"]));
        assert_eq!(h["x-remote-user"], "alice");
        assert_eq!(
            h.get_all("x-remote-group").iter().collect::<Vec<_>>(),
            ["dev", "system:authenticated"]
        );
        assert!(!h.contains_key("x-remote-uid"));
    }

    #[test]
    fn extra_keys_are_escaped() {
        let mut user = UserInfo::new("alice@example.com", &[]);
        user.uid = "u-1".into();
        user.extra.insert("acme.com/project".into(), vec!["x y".into()]);
        user.extra.insert("100%".into(), vec!["a".into(), "b\n".into()]);
        let mut h = HeaderMap::new();
        set_identity(&mut h, &user);
        assert_eq!(h["x-remote-extra-acme.com%2fproject"], "x y");
        assert_eq!(
            h.get_all("x-remote-extra-100%25").iter().collect::<Vec<_>>(),
            ["a", "b%0A"]
        );
        assert_eq!(h["x-remote-uid"], "u-1");
    }

    #[test]
    fn the_client_is_added_to_those_forwarded_for() {
        let mut h = headers(&[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "5.6.7.8")]);
        set_forwarded(&mut h, Some("127.0.0.1".parse().unwrap()), "/apis/g/v1/x");
        assert_eq!(h["x-forwarded-for"], "1.2.3.4, 5.6.7.8, 127.0.0.1");
        assert_eq!(h["x-forwarded-uri"], "/apis/g/v1/x");
    }

    #[test]
    fn upgrades_are_recognised() {
        assert_eq!(
            upgrade(&headers(&[
                ("connection", "keep-alive, Upgrade"),
                ("upgrade", "SPDY/3.1")
            ])),
            Some(&b"SPDY/3.1"[..])
        );
        assert_eq!(upgrade(&headers(&[("upgrade", "SPDY/3.1")])), None);
    }
}
