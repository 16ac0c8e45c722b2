//! `/statusz` and `/flagz` (KEP-4827, KEP-4828): what this process is, and how it was started.
//!
//! Text for people, `config.k8s.io` objects for programs that ask for one by `as=`, `g=` and `v=`.

use crate::body::Response;
use crate::encode;
use crate::negotiate::{self, Clause, Format};
use crate::request::Known;
use crate::router::failure;
use bytes::Bytes;
use fairlead_api::{Clock, Node, Status, Timestamp, json, node};
use fairlead_codec::yaml_writer;
use fairlead_telemetry::SystemClock;
use http::HeaderValue;
use http::header::{ACCEPT, WARNING};
use std::fmt::Write;

/// What the pages tell.
#[derive(Clone, Debug)]
pub struct Pages {
    pub started: Timestamp,
    /// Whether `/statusz` is served.
    pub statusz: bool,
    /// Names and values, where `/flagz` is served.
    pub flagz: Option<Vec<(String, String)>>,
    pub binary_version: String,
    pub emulated_version: String,
    pub language_version: String,
}

impl Default for Pages {
    fn default() -> Pages {
        Pages {
            started: SystemClock.now(),
            statusz: true,
            flagz: Some(Vec::new()),
            binary_version: String::new(),
            emulated_version: String::new(),
            language_version: String::new(),
        }
    }
}

/// How a page is wanted.
enum Form {
    Text,
    /// A structured form, and the version of its kind.
    Object(Format, &'static str),
}

const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];
const COMPONENT: &str = "apiserver";
const NOTICE: &str = "Warning: This page is for people who look for a mistake. Programs must not read it: its form may change at any time.";

/// `/statusz`. `paths` are all paths there are.
pub fn statusz(pages: &Pages, paths: &[String], known: &Known) -> Response {
    let up = (SystemClock.now().unix_seconds() - pages.started.unix_seconds()).max(0);
    let paths = entrances(paths);
    let text = || {
        let mut out = format!("\n{COMPONENT} statusz\n{NOTICE}\n\n");
        let uptime = format!("{} hr {:02} min {:02} sec", up / 3600, up / 60 % 60, up % 60);
        for (name, value) in [
            ("Started", pages.started.rfc3339().as_str()),
            ("Up", &uptime),
            ("Go version", &pages.language_version),
            ("Binary version", &pages.binary_version),
            ("Emulation version", &pages.emulated_version),
            ("Paths", &paths.join(" ")),
        ] {
            writeln!(out, "{name}: {value}").expect("writing to a String cannot fail");
        }
        out
    };
    let object = || {
        let mut object = node!({"startTime": (pages.started.rfc3339()), "uptimeSeconds": up});
        object.set("goVersion", pages.language_version.as_str());
        object.set("binaryVersion", pages.binary_version.as_str());
        object.set("emulationVersion", pages.emulated_version.as_str());
        object.set(
            "paths",
            paths.iter().map(|p| Node::string(p.as_str())).collect::<Vec<_>>(),
        );
        object
    };
    page("Statusz", text, object, known)
}

/// `/flagz`.
pub fn flagz(flags: &[(String, String)], known: &Known) -> Response {
    let mut sorted: Vec<&(String, String)> = flags.iter().collect();
    sorted.sort();
    let text = || {
        let mut out = format!("\n{COMPONENT} flagz\n{NOTICE}\n\n");
        for (name, value) in &sorted {
            writeln!(out, "{name}={value}").expect("writing to a String cannot fail");
        }
        out
    };
    let object = || {
        let mut values = node!({});
        for (name, value) in &sorted {
            values.set(name, value.as_str());
        }
        let mut object = node!({});
        object.set("flags", values);
        object
    };
    page("Flagz", text, object, known)
}

fn page(kind: &str, text: impl Fn() -> String, object: impl Fn() -> Node, known: &Known) -> Response {
    match form(kind, known.header(ACCEPT)) {
        None => failure(&not_acceptable(), known),
        Some(Form::Text) => encode::whole(200, "text/plain; charset=utf-8", text().into(), false),
        Some(Form::Object(format, version)) => {
            let mut object = object();
            object.set("kind", kind);
            object.set("apiVersion", format!("config.k8s.io/{version}"));
            object.set_at(&["metadata", "name"], COMPONENT);
            let bytes: Bytes = match format {
                Format::Yaml => yaml_writer::write(&object).into(),
                _ => encode::indented(&json::to_vec(&object)).into(),
            };
            let mut response = encode::whole(200, format.media_type(), bytes, false);
            if version == "v1alpha1" {
                let warning = format!(
                    "299 - \"This version of the {} endpoint is deprecated. Please use a newer version.\"",
                    kind.to_ascii_lowercase()
                );
                if let Ok(warning) = HeaderValue::from_str(&warning) {
                    response.headers_mut().insert(WARNING, warning);
                }
            }
            response
        }
    }
}

/// The first accepted form. Structured forms are only had by the name of their kind.
fn form(kind: &str, accept: &str) -> Option<Form> {
    if accept.trim().is_empty() {
        return Some(Form::Text);
    }
    negotiate::clauses(accept)
        .iter()
        .find_map(|clause| of_clause(kind, clause))
}

fn of_clause(kind: &str, clause: &Clause) -> Option<Form> {
    let [group, version, wanted] = ["g", "v", "as"].map(|name| clause.parameter(name));
    if [group, version, wanted].iter().all(Option::is_none) {
        return matches!((clause.kind, clause.subtype), ("text", "plain" | "*") | ("*", "*")).then_some(Form::Text);
    }
    let format = match (clause.kind, clause.subtype) {
        ("application", "json" | "*") | ("*", "*") => Format::Json,
        ("application", "yaml") => Format::Yaml,
        _ => return None,
    };
    if group != Some("config.k8s.io") || wanted != Some(kind) {
        return None;
    }
    let version = VERSIONS.into_iter().find(|known| version == Some(*known))?;
    Some(Form::Object(format, version))
}

fn not_acceptable() -> Status {
    Status::not_acceptable(
        "only the following media types are accepted: application/json, application/yaml, text/plain",
    )
}

/// The first segments of those paths that help to find mistakes.
fn entrances(paths: &[String]) -> Vec<String> {
    const OTHERS: [&str; 5] = ["api", "apis", "openid", "openapi", ".well-known"];
    let first = paths.iter().filter_map(|path| path.split('/').nth(1));
    let mut entrances: Vec<String> = first
        .filter(|segment| !segment.is_empty() && !OTHERS.contains(segment))
        .map(|segment| format!("/{segment}"))
        .collect();
    entrances.sort();
    entrances.dedup();
    entrances
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::request_info::tests::known;
    use http_body_util::BodyExt;

    async fn ask(path: &str, accept: &str) -> (u16, String, String) {
        let mut known = known("GET", path);
        known.parts.headers.insert(ACCEPT, accept.parse().unwrap());
        let pages = Pages {
            binary_version: "1.36.2".into(),
            ..Pages::default()
        };
        let paths = ["/api/v1", "/livez/ping", "/livez", "/.well-known/x", "/", "/metrics"].map(str::to_owned);
        let response = match path {
            "/statusz" => statusz(&pages, &paths, &known),
            _ => flagz(
                &[("v".into(), "4".into()), ("bind-address".into(), "0.0.0.0".into())],
                &known,
            ),
        };
        let warning = response
            .headers()
            .get(WARNING)
            .map_or("", |w| w.to_str().unwrap())
            .to_owned();
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8_lossy(&body).into_owned(), warning)
    }

    #[tokio::test]
    async fn people_get_text() {
        for accept in ["", "*/*", "text/plain", "application/json;q=0.5,text/plain;q=0.9"] {
            let (code, text, _) = ask("/statusz", accept).await;
            assert_eq!(code, 200, "{accept}");
            assert!(text.starts_with("\napiserver statusz\nWarning: "), "{text}");
            assert!(
                text.contains("\nBinary version: 1.36.2\n") && text.ends_with("\nPaths: /livez /metrics\n"),
                "{text}"
            );
        }
        let (_, text, _) = ask("/flagz", "").await;
        assert!(text.ends_with("\nbind-address=0.0.0.0\nv=4\n"), "{text}");
    }

    #[tokio::test]
    async fn programs_get_the_object_they_name() {
        let (code, text, warning) = ask("/statusz", "application/json;v=v1beta1;g=config.k8s.io;as=Statusz").await;
        let object = json::parse(text.as_bytes()).unwrap();
        assert_eq!(
            (code, object.str("apiVersion"), object.name()),
            (200, "config.k8s.io/v1beta1", "apiserver")
        );
        assert_eq!(object.list("paths").len(), 2);
        assert_eq!(warning, "");
        let (_, text, warning) = ask("/flagz", "application/yaml;v=v1alpha1;g=config.k8s.io;as=Flagz").await;
        assert!(text.contains("bind-address: 0.0.0.0"), "{text}");
        assert!(
            warning.starts_with("299 - \"This version of the flagz endpoint is deprecated"),
            "{warning}"
        );
    }

    #[tokio::test]
    async fn nothing_else_is_acceptable() {
        for accept in [
            "application/json",
            "application/json;v=v2;g=config.k8s.io;as=Statusz",
            "application/json;v=v1beta1;g=config.k8s.io;as=Flagz",
            "text/plain;v=v1beta1;g=config.k8s.io;as=Statusz",
            "application/vnd.kubernetes.protobuf",
        ] {
            assert_eq!(ask("/statusz", accept).await.0, 406, "{accept}");
        }
    }
}
