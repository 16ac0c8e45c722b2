//! URLs as Go's `net/url` reads them, with its error words.

use crate::field::go_quote;

/// A URL in parts. Everything is as it would be after Go's `url.Parse`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GoUrl {
    pub scheme: String,
    /// What follows the scheme where no slash does: `mailto:x`.
    pub opaque: String,
    /// `user:password`, still escaped; `None` without `@`.
    pub user: Option<String>,
    /// Host and port, unescaped.
    pub host: String,
    /// Unescaped.
    pub path: String,
    /// As written, where unescaping the path lost something.
    pub raw_path: String,
    pub raw_query: String,
    pub force_query: bool,
    /// Unescaped.
    pub fragment: String,
    pub raw_fragment: String,
    pub omit_host: bool,
}

impl GoUrl {
    /// `url.Parse`.
    ///
    /// # Errors
    /// Go's words: `parse "x": …`.
    pub fn parse(text: &str) -> Result<GoUrl, String> {
        let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
        let mut parsed = parse(url, false).map_err(|e| format!("parse {}: {e}", go_quote(url)))?;
        if !fragment.is_empty() {
            parsed.fragment =
                unescape(fragment, Part::Fragment).map_err(|e| format!("parse {}: {e}", go_quote(text)))?;
            if escape(&parsed.fragment, Part::Fragment) != fragment {
                parsed.raw_fragment = fragment.into();
            }
        }
        Ok(parsed)
    }

    /// `url.ParseRequestURI`: absolute, or a path.
    ///
    /// # Errors
    /// Go's words.
    pub fn parse_request_uri(text: &str) -> Result<GoUrl, String> {
        parse(text, true).map_err(|e| format!("parse {}: {e}", go_quote(text)))
    }

    /// The host without its port and brackets.
    pub fn hostname(&self) -> &str {
        let host = match split_port(&self.host) {
            Some((host, _)) => host,
            None => &self.host,
        };
        host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
    }

    /// The port, or empty.
    pub fn port(&self) -> &str {
        split_port(&self.host).map_or("", |(_, port)| port)
    }

    /// The path as it is sent.
    pub fn escaped_path(&self) -> String {
        if !self.raw_path.is_empty()
            && unescape(&self.raw_path, Part::Path).as_deref() == Ok(&self.path)
            && valid_encoded(&self.raw_path)
        {
            return self.raw_path.clone();
        }
        if self.path == "*" {
            "*".into()
        } else {
            escape(&self.path, Part::Path)
        }
    }

    /// The query in order of appearance: names and values, unescaped; what cannot be read is left out.
    pub fn query(&self) -> Vec<(String, String)> {
        self.raw_query
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.contains(';'))
            .filter_map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((unescape(name, Part::Query).ok()?, unescape(value, Part::Query).ok()?))
            })
            .collect()
    }
}

impl std::fmt::Display for GoUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        if !self.scheme.is_empty() {
            write!(f, "{}:", self.scheme)?;
        }
        if self.opaque.is_empty() {
            let path = self.escaped_path();
            if !self.scheme.is_empty() || !self.host.is_empty() || self.user.is_some() {
                let leave_out = self.omit_host && self.host.is_empty() && self.user.is_none();
                if !leave_out && (!self.host.is_empty() || !self.path.is_empty() || self.user.is_some()) {
                    f.write_str("//")?;
                }
                if let Some(user) = &self.user {
                    write!(f, "{user}@")?;
                }
                f.write_str(&escape(&self.host, Part::Host))?;
            }
            if !path.is_empty() && !path.starts_with('/') && !self.host.is_empty() {
                f.write_str("/")?;
            }
            f.write_str(&path)?;
        } else {
            f.write_str(&self.opaque)?;
        }
        if self.force_query || !self.raw_query.is_empty() {
            write!(f, "?{}", self.raw_query)?;
        }
        if !self.fragment.is_empty() {
            let written = if self.raw_fragment.is_empty() {
                escape(&self.fragment, Part::Fragment)
            } else {
                self.raw_fragment.clone()
            };
            write!(f, "#{written}")?;
        }
        Ok(())
    }
}

fn parse(text: &str, via_request: bool) -> Result<GoUrl, String> {
    if text.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err("net/url: invalid control character in URL".into());
    }
    if text.is_empty() && via_request {
        return Err("empty url".into());
    }
    let mut url = GoUrl::default();
    if text == "*" {
        url.path = "*".into();
        return Ok(url);
    }
    let (scheme, mut rest) = scheme(text)?;
    url.scheme = scheme.to_ascii_lowercase();
    if rest.ends_with('?') && rest.matches('?').count() == 1 {
        url.force_query = true;
        rest = &rest[..rest.len() - 1];
    } else if let Some((path, query)) = rest.split_once('?') {
        rest = path;
        url.raw_query = query.into();
    }
    if !rest.starts_with('/') {
        if !url.scheme.is_empty() {
            url.opaque = rest.into();
            return Ok(url);
        }
        if via_request {
            return Err("invalid URI for request".into());
        }
        let segment = rest.split('/').next().unwrap_or_default();
        if segment.contains(':') {
            return Err("first path segment in URL cannot contain colon".into());
        }
    }
    if (!url.scheme.is_empty() || !via_request && !rest.starts_with("///")) && rest.starts_with("//") {
        let slash = rest[2..].find('/').map_or(rest.len(), |i| i + 2);
        let authority = &rest[2..slash];
        rest = &rest[slash..];
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        url.host = host_of(host)?;
        if let Some(user) = user {
            if !user
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b))
            {
                return Err("net/url: invalid userinfo".into());
            }
            unescape(user, Part::User)?;
            url.user = Some(user.into());
        }
    } else if !url.scheme.is_empty() && rest.starts_with('/') {
        url.omit_host = true;
    }
    url.path = unescape(rest, Part::Path)?;
    if escape(&url.path, Part::Path) != rest {
        url.raw_path = rest.into();
    }
    Ok(url)
}

fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (i, c) in text.bytes().enumerate() {
        match c {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if i > 0 => {}
            b':' if i == 0 => return Err("missing protocol scheme".into()),
            b':' => return Ok((&text[..i], &text[i + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn host_of(host: &str) -> Result<String, String> {
    let port_error = |port: &str| format!("invalid port {} after host", go_quote(port));
    if host.starts_with('[') {
        let end = host.rfind(']').ok_or("missing ']' in host")?;
        let port = &host[end + 1..];
        if !is_optional_port(port) {
            return Err(port_error(port));
        }
        let inner = &host[1..end];
        let (address, zone) = inner.split_once("%25").map_or((inner, None), |(a, z)| (a, Some(z)));
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(match address.parse::<std::net::Ipv4Addr>() {
                Ok(_) => "invalid IP-literal".into(),
                Err(_) => format!("invalid host: ParseAddr({}): unable to parse IP", go_quote(address)),
            });
        }
        let zone = zone.map(|z| unescape(z, Part::Zone)).transpose()?;
        return Ok(match zone {
            Some(zone) => format!("[{address}%{zone}]{port}"),
            None => unescape(host, Part::Host)?,
        });
    }
    if let Some(i) = host.find(':')
        && !is_optional_port(&host[i..])
    {
        return Err(port_error(&host[i..]));
    }
    unescape(host, Part::Host)
}

fn is_optional_port(port: &str) -> bool {
    port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()))
}

fn split_port(host: &str) -> Option<(&str, &str)> {
    let (name, port) = host.rsplit_once(':')?;
    port.bytes().all(|b| b.is_ascii_digit()).then_some((name, port))
}

/// Which part of a URL a text is in: they escape differently.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    Host,
    Zone,
    User,
    Query,
    Fragment,
}

fn should_escape(b: u8, part: Part) -> bool {
    if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
        return false;
    }
    if matches!(part, Part::Host | Part::Zone) && b"!$&'()*+,;=:[]<>\"".contains(&b) {
        return false;
    }
    if b"$&+,/:;=?@".contains(&b) {
        return match part {
            Part::Path => b == b'?',
            Part::User => b"@/?:".contains(&b),
            Part::Query => true,
            Part::Fragment => false,
            Part::Host | Part::Zone => true,
        };
    }
    !(part == Part::Fragment && b"!()*".contains(&b))
}

fn valid_encoded(path: &str) -> bool {
    path.bytes()
        .all(|b| b"!$&'()*+,;=:@[]%".contains(&b) || !should_escape(b, Part::Path))
}

fn escape(text: &str, part: Part) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if part == Part::Query && b == b' ' {
            out.push('+');
        } else if should_escape(b, part) {
            out.push_str(&format!("%{b:02X}"));
        } else {
            out.push(b as char);
        }
    }
    out
}

fn unescape(text: &str, part: Part) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let b = bytes[i];
        if b == b'%' {
            let digits = bytes.get(i + 1..i + 3).and_then(|d| std::str::from_utf8(d).ok());
            let value = digits
                .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|d| u8::from_str_radix(d, 16).ok());
            let shown = || {
                let end = (i + 3).min(bytes.len());
                format!(
                    "invalid URL escape {}",
                    go_quote(&String::from_utf8_lossy(&bytes[i..end]))
                )
            };
            let value = value.ok_or_else(shown)?;
            if part == Part::Host && value < 0x80 && value != b'%' {
                return Err(shown());
            }
            if part == Part::Zone && value != b'%' && value != b' ' && should_escape(value, Part::Host) {
                return Err(shown());
            }
            out.push(value);
            i += 3;
            continue;
        }
        if matches!(part, Part::Host | Part::Zone) && b < 0x80 && should_escape(b, part) {
            return Err(format!(
                "invalid character {} in host name",
                go_quote(&(b as char).to_string())
            ));
        }
        out.push(if part == Part::Query && b == b'+' { b' ' } else { b });
        i += 1;
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found() {
        let url = GoUrl::parse("https://u:p@example.com:8080/a%20b/c?x=1&y=%20#frag").unwrap();
        assert_eq!(
            (url.scheme.as_str(), url.host.as_str(), url.path.as_str()),
            ("https", "example.com:8080", "/a b/c")
        );
        assert_eq!(
            (url.hostname(), url.port(), url.user.as_deref()),
            ("example.com", "8080", Some("u:p"))
        );
        assert_eq!(url.query(), [("x".into(), "1".into()), ("y".into(), " ".into())]);
        assert_eq!(url.fragment, "frag");
        assert_eq!(url.to_string(), "https://u:p@example.com:8080/a%20b/c?x=1&y=%20#frag");
        assert_eq!(GoUrl::parse("https://[::1]:80/").unwrap().hostname(), "::1");
    }

    #[test]
    fn errors_have_gos_words() {
        for (text, error) in [
            (
                "https://a b/",
                "parse \"https://a b/\": invalid character \" \" in host name",
            ),
            ("://x", "parse \"://x\": missing protocol scheme"),
            ("a:b:c/../:x", ""),
            ("1a:b", "parse \"1a:b\": first path segment in URL cannot contain colon"),
            ("http://a:x/", "parse \"http://a:x/\": invalid port \":x\" after host"),
            ("http://a/%zz", "parse \"http://a/%zz\": invalid URL escape \"%zz\""),
            ("a\nb", "parse \"a\\nb\": net/url: invalid control character in URL"),
        ] {
            match GoUrl::parse(text) {
                Ok(_) => assert_eq!(error, "", "{text}"),
                Err(found) => assert_eq!(found, error),
            }
        }
        assert_eq!(GoUrl::parse_request_uri("").unwrap_err(), "parse \"\": empty url");
        assert_eq!(
            GoUrl::parse_request_uri("x").unwrap_err(),
            "parse \"x\": invalid URI for request"
        );
    }
}
