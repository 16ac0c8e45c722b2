//! Redirects of a proxied server to itself: they must lead through this server again.
//!
//! COMPAT: upstream also rewrites links inside of HTML pages, for which it holds them in memory; here pages stay as they are.

use super::Location;
use crate::body::Body;
use fairlead_api::url::GoUrl;
use http::Response;
use http::header::{self, HeaderValue};

/// Where links of a proxied server lead.
pub(super) struct Links {
    /// What stands before the path that the server knows.
    prefix: String,
    /// The server as this one reaches it.
    server: String,
    /// This server as the client reaches it.
    here: String,
}

impl Links {
    /// `asked` is the clean path the client asked for, `here` the host it asked.
    pub(super) fn new(asked: &str, location: &Location, here: &str) -> Links {
        let mut suffix = location.path.clone();
        if asked.ends_with('/') && !suffix.ends_with('/') {
            suffix.push('/');
        }
        Links {
            prefix: asked.strip_suffix(&suffix).unwrap_or(asked).to_owned(),
            server: location.authority(),
            here: here.to_owned(),
        }
    }

    pub(super) fn rewrite(&self, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        let Some(link) = headers.get(header::LOCATION).and_then(|l| l.to_str().ok()) else {
            return;
        };
        if let Some(rewritten) = self.rewritten(link).and_then(|link| HeaderValue::from_str(&link).ok()) {
            headers.insert(header::LOCATION, rewritten);
        }
    }

    /// `None` where a link stays as it is.
    fn rewritten(&self, link: &str) -> Option<String> {
        let url = GoUrl::parse(link).ok()?;
        let elsewhere = !url.host.is_empty() && url.host != self.server && url.host != self.here;
        if elsewhere || !url.path.starts_with('/') {
            return None;
        }
        // What follows the host is as it was written.
        let path = match link.find("//") {
            Some(at) if !url.host.is_empty() => link[at + 2..].find('/').map_or("", |slash| &link[at + 2 + slash..]),
            _ => link,
        };
        let before = if !url.host.is_empty() && url.host == self.here {
            &link[..link.len() - path.len()]
        } else {
            ""
        };
        if url.path.starts_with(&self.prefix) {
            return Some(format!("{before}{path}"));
        }
        Some(format!("{before}{}{path}", self.prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_of_a_server_to_itself_lead_through_this_one() {
        let location = Location {
            host: "10.0.0.7".into(),
            port: "8080".into(),
            path: "/a".into(),
            ..Location::default()
        };
        let prefix = "/api/v1/namespaces/n/services/s/proxy";
        let links = Links::new(&format!("{prefix}/a"), &location, "here:6443");
        for (link, expected) in [
            ("/login?x=1", Some(format!("{prefix}/login?x=1"))),
            ("http://10.0.0.7:8080/b/", Some(format!("{prefix}/b/"))),
            (&format!("{prefix}/c"), Some(format!("{prefix}/c"))),
            ("https://here:6443/d", Some(format!("https://here:6443{prefix}/d"))),
            ("relative", None),
            ("https://elsewhere.example.com/", None),
        ] {
            assert_eq!(links.rewritten(link), expected, "{link}");
        }
        let root = Location {
            path: "/".into(),
            ..location
        };
        assert_eq!(Links::new(&format!("{prefix}/"), &root, "").prefix, prefix);
    }
}
