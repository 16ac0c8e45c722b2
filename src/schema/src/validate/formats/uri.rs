//! What Go's `url.ParseRequestURI` takes: an absolute URI or an absolute path.

pub(super) fn is_request_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return false;
    }
    if text == "*" {
        return true;
    }
    let Some((scheme, rest)) = scheme(text) else {
        return false;
    };
    let before_query = rest.split('?').next().unwrap_or_default();
    if !before_query.starts_with('/') {
        // Opaque: `mailto:someone`.
        return scheme;
    }
    let path = match before_query
        .strip_prefix("//")
        .filter(|_| scheme || !before_query.starts_with("///"))
    {
        Some(authority) => {
            let end = authority.find('/').unwrap_or(authority.len());
            if !is_authority(&authority[..end]) {
                return false;
            }
            &authority[end..]
        }
        None => before_query,
    };
    escapes_are_whole(path)
}

/// Whether there is a scheme, and what follows it; `None` where a colon has nothing before it.
fn scheme(text: &str) -> Option<(bool, &str)> {
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if i > 0 => {}
            b':' if i == 0 => return None,
            b':' => return Some((true, &text[i + 1..])),
            _ => break,
        }
    }
    Some((false, text))
}

fn is_authority(text: &str) -> bool {
    let (user, host) = match text.rsplit_once('@') {
        Some((user, host)) => (user, host),
        None => ("", text),
    };
    let in_user = |b: u8| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b);
    if !user.bytes().all(in_user) || !escapes_are_whole(user) {
        return false;
    }
    let port = |port: &str| {
        port.is_empty()
            || port
                .strip_prefix(':')
                .is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()))
    };
    if let Some(inner) = host.strip_prefix('[') {
        return inner.rfind(']').is_some_and(|end| port(&inner[end + 1..]));
    }
    let (name, after) = host
        .find(':')
        .map_or((host, ""), |_| host.split_at(host.rfind(':').expect("there is one")));
    let in_host = |b: u8| b >= 0x80 || b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]<>\"%".contains(&b);
    port(after) && name.bytes().all(in_host) && escapes_are_whole(name)
}

fn escapes_are_whole(text: &str) -> bool {
    let bytes = text.as_bytes();
    let hex = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_hexdigit);
    bytes
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'%')
        .all(|(i, _)| hex(i + 1) && hex(i + 2))
}
