//! What a request asks for, from its query: the objects that admission sees, and what kubelets are told.

use fairlead_api::time::rfc3339::parse_seconds;
use fairlead_api::{GroupVersionKind, Node};
use fairlead_gateway::uri;
use fairlead_resource::options::{boolean, parse_uint};
use fairlead_server::RequestInfo;
use fairlead_server::query::first;

type Query = [(String, String)];

/// The options object of a connection.
///
/// # Errors
/// In Go's words.
pub(super) fn read(kind: &GroupVersionKind, query: &Query, info: &RequestInfo) -> Result<Node, String> {
    let mut options = Node::map();
    options.set("kind", kind.kind.as_str());
    options.set("apiVersion", kind.group_version().to_string());
    match kind.kind.as_str() {
        "PodExecOptions" => {
            streams(&mut options, query);
            let command: Vec<Node> = all(query, "command").map(Node::string).collect();
            let command = if command.is_empty() {
                Node::Null
            } else {
                Node::List(command)
            };
            options.set("command", command);
        }
        "PodAttachOptions" => streams(&mut options, query),
        "PodPortForwardOptions" => {
            let mut ports = Vec::new();
            for port in all(query, "ports").flat_map(|value| value.split(',')) {
                let number = parse_port(port).map_err(|why| format!("cannot convert to []int32: {why}"))?;
                ports.push(Node::Int(number));
            }
            if !ports.is_empty() {
                options.set("ports", ports);
            }
        }
        _ => {
            let path = below(info);
            if !path.is_empty() {
                options.set("path", path);
            }
        }
    }
    Ok(options)
}

/// What follows the subresource in the path, with the slash before it, and the one behind it if there is one.
fn below(info: &RequestInfo) -> String {
    let mut path = match info.rest.as_deref() {
        None | Some("") => String::new(),
        Some(rest) => format!("/{}", rest.strip_prefix('/').unwrap_or(rest)),
    };
    if info.path.ends_with('/') && !path.ends_with('/') {
        path.push('/');
    }
    path
}

fn streams(options: &mut Node, query: &Query) {
    for name in ["stdin", "stdout", "stderr", "tty"] {
        if first(query, name).is_some_and(boolean) {
            options.set(name, true);
        }
    }
    if let Some(container) = first(query, "container").filter(|c| !c.is_empty()) {
        options.set("container", container);
    }
}

fn parse_port(text: &str) -> Result<i64, String> {
    match parse_uint(text)? {
        port @ ..=0xffff => Ok(port as i64),
        _ => {
            let text = fairlead_api::field::go_quote(text);
            Err(format!("strconv.ParseUint: parsing {text}: value out of range"))
        }
    }
}

/// What a kubelet is told of the options of a stream.
pub(super) fn stream_query(options: &Node) -> String {
    let flags = [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ];
    let mut pairs: Vec<(&str, &str)> = flags
        .iter()
        .filter(|(field, _)| options.get(field).and_then(Node::as_bool) == Some(true))
        .map(|(_, word)| (*word, "1"))
        .collect();
    let command = options.list("command").iter().filter_map(Node::as_str);
    pairs.extend(command.map(|word| ("command", word)));
    let ports: Vec<String> = options
        .list("ports")
        .iter()
        .filter_map(Node::as_i64)
        .map(|port| port.to_string())
        .collect();
    let ports = ports.join(",");
    if !ports.is_empty() {
        pairs.push(("port", &ports));
    }
    uri::encoded_query(pairs)
}

fn all<'a>(query: &'a Query, name: &'a str) -> impl Iterator<Item = &'a str> {
    query
        .iter()
        .filter(move |(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

/// `PodLogOptions`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct LogOptions {
    pub container: String,
    pub follow: bool,
    pub previous: bool,
    pub since_seconds: Option<i64>,
    /// As the kubelet is told.
    pub since_time: Option<String>,
    pub timestamps: bool,
    pub tail_lines: Option<i64>,
    pub limit_bytes: Option<i64>,
    pub unverified: bool,
    pub stream: Option<String>,
}

/// What Go writes for no time at all.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

impl LogOptions {
    /// # Errors
    /// In Go's words.
    pub(super) fn read(query: &Query) -> Result<LogOptions, String> {
        let flag = |name| first(query, name).is_some_and(boolean);
        let number = |name| first(query, name).map(parse_int).transpose();
        let since_seconds = number("sinceSeconds")?;
        let since_time = match first(query, "sinceTime") {
            None => None,
            Some("" | "null") => Some(NO_TIME.to_owned()),
            Some(text) => Some(parse_seconds(text)?.rfc3339()),
        };
        Ok(LogOptions {
            container: first(query, "container").unwrap_or("").to_owned(),
            follow: flag("follow"),
            previous: flag("previous"),
            since_seconds,
            since_time,
            timestamps: flag("timestamps"),
            tail_lines: number("tailLines")?,
            limit_bytes: number("limitBytes")?,
            unverified: flag("insecureSkipTLSVerifyBackend"),
            stream: first(query, "stream").map(str::to_owned),
        })
    }

    /// What the kubelet is told.
    pub(super) fn query(&self) -> String {
        let numbers = [
            ("sinceSeconds", self.since_seconds),
            ("tailLines", self.tail_lines),
            ("limitBytes", self.limit_bytes),
        ];
        let numbers: Vec<(&str, String)> = numbers
            .iter()
            .filter_map(|(name, value)| value.map(|v| (*name, v.to_string())))
            .collect();
        let flags = [
            ("follow", self.follow),
            ("previous", self.previous),
            ("timestamps", self.timestamps),
        ];
        let flags = flags.iter().filter(|(_, set)| *set).map(|(name, _)| (*name, "true"));
        let time = self.since_time.iter().map(|time| ("sinceTime", time.as_str()));
        let numbers = numbers.iter().map(|(name, value)| (*name, value.as_str()));
        uri::encoded_query(flags.chain(time).chain(numbers))
    }
}

fn parse_int(text: &str) -> Result<i64, String> {
    fairlead_resource::options::parse_int(text).map_err(|status| status.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;
    use http::Method;

    fn query(raw: &str) -> Vec<(String, String)> {
        fairlead_server::query::parse(Some(raw))
    }

    fn options(kind: &str, path: &str, raw: &str) -> Result<Node, String> {
        let kind = GroupVersionKind {
            group: "".into(),
            version: "v1".into(),
            kind: kind.into(),
        };
        read(&kind, &query(raw), &RequestInfo::new(&Method::GET, path, &[]).unwrap())
    }

    #[test]
    fn options_are_objects() {
        let path = "/api/v1/namespaces/n/pods/p/exec";
        let raw = "command=sh&command=-c&stdin=true&tty=&stdout=0&stderr=False&container=c";
        let exec = options("PodExecOptions", path, raw).unwrap();
        let expected = node!({
            "kind": "PodExecOptions", "apiVersion": "v1", "stdin": true, "tty": true, "container": "c",
            "command": ["sh", "-c"],
        });
        assert_eq!(exec, expected);
        assert_eq!(stream_query(&exec), "command=sh&command=-c&input=1&tty=1");
        let forward = options("PodPortForwardOptions", path, "ports=80,443&ports=1").unwrap();
        assert_eq!(stream_query(&forward), "port=80%2C443%2C1");
        for (raw, why) in [
            ("ports=x", "strconv.ParseUint: parsing \"x\": invalid syntax"),
            (
                "ports=70000",
                "strconv.ParseUint: parsing \"70000\": value out of range",
            ),
        ] {
            let error = options("PodPortForwardOptions", path, raw).unwrap_err();
            assert_eq!(error, format!("cannot convert to []int32: {why}"));
        }
    }

    #[test]
    fn paths_below_keep_their_slashes() {
        let path = |rest: &str| {
            let path = format!("/api/v1/nodes/x/proxy{rest}");
            options("NodeProxyOptions", &path, "path=ignored")
                .unwrap()
                .str("path")
                .to_owned()
        };
        assert_eq!(path(""), "");
        assert_eq!(path("/"), "/");
        assert_eq!(path("/a/b"), "/a/b");
        assert_eq!(path("/a/"), "/a/");
    }

    #[test]
    fn logs_are_asked_for_in_kubelets_words() {
        let raw = "follow=true&tailLines=5&limitBytes=10&sinceTime=2024-01-02T03:04:05%2B01:00&timestamps=1";
        let log = LogOptions::read(&query(raw)).unwrap();
        assert_eq!(
            log.query(),
            "follow=true&limitBytes=10&sinceTime=2024-01-02T02%3A04%3A05Z&tailLines=5&timestamps=true"
        );
        let error = LogOptions::read(&query("tailLines=x")).unwrap_err();
        assert_eq!(error, "strconv.ParseInt: parsing \"x\": invalid syntax");
        let error = LogOptions::read(&query("sinceTime=x")).unwrap_err();
        assert_eq!(
            error,
            "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\""
        );
    }
}
