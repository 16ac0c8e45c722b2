//! [`RequestInfo`]: what a method and a path mean, before anybody knows whether it exists.
//!
//! Source: kubernetes/apiserver pkg/endpoints/request/requestinfo.go.
// PERFORMANCE: per-request path

use crate::query;
use compact_str::CompactString;
use fairlead_api::selector::FieldSelector;
use http::Method;

/// A request taken apart. For paths that are no resource's, only `verb` and `path` are set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    pub resource_request: bool,
    /// Decoded.
    pub path: CompactString,
    /// `get`, `list` …, also for custom methods empty; the lower-case method for other paths.
    pub verb: CompactString,
    pub group: CompactString,
    pub version: CompactString,
    /// Of the object, or the name of the namespace itself.
    pub namespace: CompactString,
    pub resource: CompactString,
    pub subresource: CompactString,
    /// From the path, or from a field selector that allows no other.
    pub name: CompactString,
    /// What follows the subresource in the path, without the slash; `None` where nothing does.
    pub rest: Option<String>,
    /// How many path segments lead from the resource on: 1 for a collection, 2 for an object, 3 and more below.
    pub depth: usize,
    /// The path went through `/namespaces/NAME/`.
    pub in_namespace: bool,
    /// The verb stands in the path: `/api/v1/watch/…`.
    pub verb_in_path: bool,
    pub field_selector: Option<String>,
    pub label_selector: Option<String>,
}

/// A path that promises a resource and names none.
#[derive(Debug, PartialEq, Eq)]
pub struct Incomplete;

/// Subresources of the resource whose objects namespaces are: what follows their name is not a resource.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Takes a request apart. `path` is decoded already.
    ///
    /// # Errors
    /// `/api/v1/watch` without anything behind it.
    pub fn new(method: &Method, path: &str, query: &[(String, String)]) -> Result<RequestInfo, Incomplete> {
        let mut info = RequestInfo {
            path: path.into(),
            ..RequestInfo::default()
        };
        let trimmed = path.trim_matches('/');
        let mut parts = trimmed.split('/');
        let grouped = match parts.next() {
            Some("api") => false,
            Some("apis") => true,
            _ => return Ok(info.other(method)),
        };
        let mut parts: smallest::Parts = parts.collect();
        if parts.len() < if grouped { 3 } else { 2 } {
            return Ok(info.other(method));
        }
        if grouped {
            info.group = parts.take_first().into();
        }
        info.resource_request = true;
        info.version = parts.take_first().into();
        if matches!(parts.first(), "watch" | "proxy") {
            if parts.len() < 2 {
                return Err(Incomplete);
            }
            info.verb = parts.take_first().into();
            info.verb_in_path = true;
        } else {
            info.verb = match *method {
                Method::POST => "create",
                Method::GET | Method::HEAD => "get",
                Method::PUT => "update",
                Method::PATCH => "patch",
                Method::DELETE => "delete",
                _ => "",
            }
            .into();
        }
        if parts.first() == "namespaces" && parts.len() > 1 {
            info.namespace = parts.get(1).into();
            if parts.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&parts.get(2)) {
                parts.skip(2);
                info.in_namespace = true;
            }
        }
        info.depth = parts.len();
        info.resource = parts.first().into();
        if parts.len() >= 2 {
            info.name = parts.get(1).into();
        }
        if parts.len() >= 3 && info.verb != "proxy" {
            info.subresource = parts.get(2).into();
        }
        if parts.len() > 3 {
            info.rest = Some(parts.join_from(3));
        }
        info.read_options(query);
        Ok(info)
    }

    /// `resource`, `namespace`, `cluster` or empty: the scope label of metrics.
    pub fn scope(&self) -> &'static str {
        if !self.name.is_empty() || self.verb == "create" {
            "resource"
        } else if !self.namespace.is_empty() {
            "namespace"
        } else if self.resource_request {
            "cluster"
        } else {
            ""
        }
    }

    /// Whether the request may run for as long as it likes.
    pub fn long_running(&self) -> bool {
        if !self.resource_request {
            return self.path.starts_with("/debug/pprof/") || self.path == crate::backup::PATH;
        }
        matches!(self.verb.as_str(), "watch" | "proxy")
            || matches!(
                self.subresource.as_str(),
                "attach" | "exec" | "proxy" | "log" | "portforward"
            )
    }

    fn other(mut self, method: &Method) -> RequestInfo {
        self.verb = method.as_str().to_ascii_lowercase().into();
        self
    }

    /// A nameless get is a list or a watch; a nameless delete is one of a collection.
    fn read_options(&mut self, query: &[(String, String)]) {
        if self.name.is_empty() && self.verb == "get" {
            let watch =
                query::first(query, "watch").is_some_and(|v| !matches!(v.to_ascii_lowercase().as_str(), "false" | "0"));
            self.verb = if watch { "watch" } else { "list" }.into();
            if integers_parse(query)
                && let Some(name) = query::first(query, "fieldSelector").and_then(exact_name)
            {
                self.name = name;
            }
        }
        if self.name.is_empty() && self.verb == "delete" {
            self.verb = "deletecollection".into();
        }
        if !self.verb_in_path && matches!(self.verb.as_str(), "list" | "watch" | "deletecollection") {
            let value = |name| query::first(query, name).filter(|v| !v.is_empty()).map(str::to_owned);
            self.field_selector = value("fieldSelector");
            self.label_selector = value("labelSelector");
        }
    }
}

fn integers_parse(query: &[(String, String)]) -> bool {
    ["limit", "timeoutSeconds"]
        .iter()
        .all(|name| query::first(query, name).is_none_or(|v| v.is_empty() || v.parse::<i64>().is_ok()))
}

/// The name that a field selector requires, where it is a possible one.
fn exact_name(selector: &str) -> Option<CompactString> {
    let selector = FieldSelector::parse(selector).ok()?;
    let name = selector.exact("metadata.name")?;
    (!name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%'])).then(|| name.into())
}

/// Path segments behind the prefix, without an allocation for paths of usual length.
mod smallest {
    use smallvec::SmallVec;

    pub(super) struct Parts<'a> {
        parts: SmallVec<[&'a str; 12]>,
        start: usize,
    }

    impl<'a> FromIterator<&'a str> for Parts<'a> {
        fn from_iter<I: IntoIterator<Item = &'a str>>(iter: I) -> Self {
            Parts {
                parts: iter.into_iter().collect(),
                start: 0,
            }
        }
    }

    impl<'a> Parts<'a> {
        pub(super) fn len(&self) -> usize {
            self.parts.len() - self.start
        }

        pub(super) fn get(&self, i: usize) -> &'a str {
            self.parts.get(self.start + i).copied().unwrap_or("")
        }

        pub(super) fn first(&self) -> &'a str {
            self.get(0)
        }

        pub(super) fn take_first(&mut self) -> &'a str {
            let first = self.first();
            self.start += 1;
            first
        }

        pub(super) fn skip(&mut self, n: usize) {
            self.start += n;
        }

        pub(super) fn join_from(&self, i: usize) -> String {
            self.parts[self.start + i..].join("/")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: &str, uri: &str) -> RequestInfo {
        let (path, raw) = uri.split_once('?').map_or((uri, None), |(p, q)| (p, Some(q)));
        RequestInfo::new(&method.parse().unwrap(), path, &query::parse(raw)).unwrap()
    }

    #[test]
    fn resource_paths() {
        // method, uri => verb, group, version, namespace, resource, subresource, name
        for (method, uri, expected) in [
            ("GET", "/api/v1/namespaces", "list||v1||namespaces||"),
            ("GET", "/api/v1/namespaces/other", "get||v1|other|namespaces||other"),
            ("GET", "/api/v1/namespaces/other/pods", "list||v1|other|pods||"),
            ("GET", "/api/v1/namespaces/other/pods/foo", "get||v1|other|pods||foo"),
            ("HEAD", "/api/v1/namespaces/other/pods/foo", "get||v1|other|pods||foo"),
            ("GET", "/api/v1/pods", "list||v1||pods||"),
            (
                "GET",
                "/api/v1/namespaces/other/pods/foo/status",
                "get||v1|other|pods|status|foo",
            ),
            (
                "PUT",
                "/api/v1/namespaces/other/finalize",
                "update||v1|other|namespaces|finalize|other",
            ),
            (
                "PUT",
                "/api/v1/namespaces/other/status",
                "update||v1|other|namespaces|status|other",
            ),
            ("GET", "/api/v1/watch/pods", "watch||v1||pods||"),
            ("GET", "/api/v1/pods?watch=true", "watch||v1||pods||"),
            ("GET", "/api/v1/pods?watch=false", "list||v1||pods||"),
            ("GET", "/api/v1/pods?watch=", "watch||v1||pods||"),
            ("GET", "/api/v1/watch/namespaces/other/pods", "watch||v1|other|pods||"),
            ("GET", "/api/v1/namespaces/other/pods?watch=0", "list||v1|other|pods||"),
            (
                "GET",
                "/apis/extensions/v1beta3/namespaces/other/pods/foo",
                "get|extensions|v1beta3|other|pods||foo",
            ),
            ("POST", "/api/v1/namespaces/other/pods", "create||v1|other|pods||"),
            (
                "DELETE",
                "/api/v1/namespaces/other/pods",
                "deletecollection||v1|other|pods||",
            ),
            (
                "PATCH",
                "/api/v1/namespaces/other/pods/foo",
                "patch||v1|other|pods||foo",
            ),
            (
                "DELETE",
                "/api/v1/namespaces/other/pods/foo",
                "delete||v1|other|pods||foo",
            ),
            (
                "GET",
                "/api/v1/pods?fieldSelector=metadata.name=foo",
                "list||v1||pods||foo",
            ),
            (
                "GET",
                "/api/v1/pods?fieldSelector=metadata.name=foo&watch=1",
                "watch||v1||pods||foo",
            ),
            (
                "GET",
                "/api/v1/pods?fieldSelector=metadata.name!=foo",
                "list||v1||pods||",
            ),
            (
                "GET",
                "/api/v1/pods?fieldSelector=metadata.name=a/b",
                "list||v1||pods||",
            ),
            (
                "GET",
                "/api/v1/pods?fieldSelector=metadata.name=foo&limit=x",
                "list||v1||pods||",
            ),
            ("BOGUS", "/api/v1/pods", "||v1||pods||"),
            (
                "GET",
                "/api/v1/proxy/namespaces/other/pods/foo/bar",
                "proxy||v1|other|pods||foo",
            ),
        ] {
            let i = info(method, uri);
            let text = [
                &i.verb,
                &i.group,
                &i.version,
                &i.namespace,
                &i.resource,
                &i.subresource,
                &i.name,
            ]
            .map(CompactString::as_str)
            .join("|");
            assert_eq!(text, expected, "{method} {uri}");
            assert!(i.resource_request, "{uri}");
        }
    }

    #[test]
    fn other_paths() {
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/api/v1/",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/healthz",
            "/version",
        ] {
            let i = info("GET", path);
            assert!(!i.resource_request, "{path}");
            assert_eq!((i.verb.as_str(), i.path.as_str()), ("get", path));
        }
        assert_eq!(info("POST", "/nope/a/b/c").verb, "post");
        assert_eq!(RequestInfo::new(&Method::GET, "/api/v1/watch", &[]), Err(Incomplete));
    }

    #[test]
    fn what_lies_below_a_subresource_is_kept() {
        let i = info("GET", "/api/v1/namespaces/n/services/s/proxy/a/b");
        assert_eq!(
            (i.subresource.as_str(), i.rest.as_deref(), i.depth),
            ("proxy", Some("a/b"), 5)
        );
        assert!(i.long_running());
        let i = info("GET", "/api/v1/namespaces/n/services/s/proxy");
        assert_eq!((i.rest, i.depth, i.in_namespace), (None, 3, true));
    }
}
