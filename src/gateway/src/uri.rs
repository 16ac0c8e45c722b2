//! Paths and queries, rewritten as Go's `net/url` rewrites them, so that router, authorizer and backend see the same.
// PERFORMANCE: per-request path

use http::uri::PathAndQuery;

/// What is sent to the backend: the path decoded and encoded again, the query sorted by key.
///
/// COMPAT: `%2F` in a path reaches backends as `/`, and pairs that cannot be decoded or hold a `;` are dropped, as in
/// kube-aggregator, which has authorized the decoded path.
pub fn rewritten(path: &str, query: Option<&str>) -> Option<PathAndQuery> {
    let query = query.unwrap_or_default();
    if is_canonical_path(path) && query.is_empty() {
        return path.parse().ok();
    }
    let mut out = encoded_path(&decoded(path, false)?);
    let query = rewritten_query(query);
    if !query.is_empty() {
        out.push('?');
        out.push_str(&query);
    }
    out.parse().ok()
}

/// The path as `X-Forwarded-Uri` shows it: encoded like above, and without `.`, `..` and empty parts.
pub fn cleaned(path: &str) -> String {
    if path.starts_with('/') && is_canonical_path(path) && !path.contains("//") && !path.contains("/.") {
        return path.to_owned();
    }
    match decoded(path, false) {
        Some(decoded) => clean(&encoded_path(&decoded)),
        None => path.to_owned(),
    }
}

/// A decoded path without `.`, `..` and empty parts, encoded.
pub fn encoded_clean(path: &str) -> String {
    clean(&encoded_path(path.as_bytes()))
}

fn clean(encoded: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in encoded.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let slash = if encoded.ends_with('/') && !parts.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{slash}", parts.join("/"))
}

/// Pairs as Go writes a query: sorted by key.
pub fn encoded_query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut pairs: Vec<(&str, &str)> = pairs.into_iter().collect();
    // Stable: values of one key keep their order.
    pairs.sort_by_key(|(key, _)| *key);
    let mut out = String::new();
    for (key, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        encode(key.as_bytes(), &mut out, query_escape);
        out.push('=');
        encode(value.as_bytes(), &mut out, query_escape);
    }
    out
}

fn rewritten_query(query: &str) -> String {
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'))
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(key, true)?, decoded(value, true)?))
        })
        .collect();
    // Stable: values of one key keep their order.
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = String::with_capacity(query.len());
    for (key, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        encode(&key, &mut out, query_escape);
        out.push('=');
        encode(&value, &mut out, query_escape);
    }
    out
}

/// `None` where an escape is broken.
fn decoded(text: &str, plus_is_space: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'%' => {
                let mut digit = || bytes.next().and_then(|d| (d as char).to_digit(16));
                (digit()? * 16 + digit()?) as u8
            }
            b'+' if plus_is_space => b' ',
            b => b,
        });
    }
    Some(out)
}

fn encoded_path(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    encode(path, &mut out, |b| if is_path_byte(b) { None } else { Some(b) });
    out
}

fn is_canonical_path(path: &str) -> bool {
    path.bytes().all(is_path_byte)
}

/// What Go leaves as it is in a path.
fn is_path_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&b)
}

fn query_escape(b: u8) -> Option<u8> {
    if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
        None
    } else {
        Some(b)
    }
}

fn encode(bytes: &[u8], out: &mut String, escape: impl Fn(u8) -> Option<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &b in bytes {
        match escape(b) {
            None => out.push(b as char),
            // Only queries escape spaces to this.
            Some(b' ') if escape(b'/').is_some() => out.push('+'),
            Some(b) => {
                out.push('%');
                out.push(HEX[usize::from(b >> 4)] as char);
                out.push(HEX[usize::from(b & 15)] as char);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_those_that_go_would_send() {
        for (given, sent) in [
            ("/a/b", "/a/b"),
            ("/a%2Fb", "/a/b"),
            ("/a%20b", "/a%20b"),
            ("/a//b/../c", "/a//b/../c"),
            ("/%e2%82%ac", "/%E2%82%AC"),
            ("/a;b=c+d:e@f", "/a;b=c+d:e@f"),
            ("/a%3fb", "/a%3Fb"),
            ("/x?b=1&a=2&b=0", "/x?a=2&b=1&b=0"),
            ("/x?x=%20y&z=a+b", "/x?x=+y&z=a+b"),
            ("/x?novalue", "/x?novalue="),
            ("/x?labelSelector=a%3Db", "/x?labelSelector=a%3Db"),
            ("/x?a=%zz", "/x"),
            ("/x?a=b;c=d", "/x"),
            ("/x?", "/x"),
        ] {
            let (path, query) = given.split_once('?').map_or((given, None), |(p, q)| (p, Some(q)));
            assert_eq!(rewritten(path, query).unwrap().as_str(), sent, "{given}");
        }
        assert_eq!(rewritten("/%zz", None), None);
    }

    /// Whatever is sent means to the backend what it meant to the authorizer: the same decoded path.
    #[test]
    fn smuggling_the_backend_decodes_what_was_authorized() {
        let pieces = [
            "/", "//", "a", ".", "..", ";", "=", "%2F", "%2f", "%2e", "%25", "%252F", "%3F", "%23", "%20", "+", ":",
            "@", "%c3%a9", "\\",
        ];
        // Every sequence of three pieces.
        for i in 0..pieces.len().pow(3) {
            let n = pieces.len();
            let path = format!("/apis/g/v1/{}{}{}", pieces[i % n], pieces[i / n % n], pieces[i / n / n]);
            let Some(sent) = rewritten(&path, Some("a=%2F&b")) else {
                continue;
            };
            let (sent, query) = (sent.path(), sent.query());
            assert_eq!(decoded(sent, false), decoded(&path, false), "{path}");
            assert_eq!(query, Some("a=%2F&b="), "{path}");
            // Nothing is left that a backend could decode once more into something else.
            assert_eq!(rewritten(sent, None).unwrap().path(), sent, "{path}");
        }
    }

    #[test]
    fn forwarded_paths_are_clean() {
        assert_eq!(cleaned("/a//b/../c"), "/a/c");
        assert_eq!(cleaned("/a/b/"), "/a/b/");
        assert_eq!(cleaned("/a%2Fb%20c"), "/a/b%20c");
        assert_eq!(cleaned("/"), "/");
        assert_eq!(cleaned("/a/.b/..c/./d"), "/a/.b/..c/d");
        assert_eq!(cleaned("/a.b/c"), "/a.b/c");
        assert_eq!(encoded_clean("/a b/../%2e/./c?/"), "/%252e/c%3F/");
        assert_eq!(encoded_clean("/../.."), "/");
    }

    #[test]
    fn queries_are_written_as_go_writes_them() {
        let pairs = [("output", "1"), ("command", "sh -c"), ("command", "a&b=c")];
        assert_eq!(encoded_query(pairs), "command=sh+-c&command=a%26b%3Dc&output=1");
    }
}
