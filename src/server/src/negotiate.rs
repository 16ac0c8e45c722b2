//! Content negotiation: which form an answer takes, and which forms a body may have.
//!
//! Two layers, as upstream: a route knows the media types it can produce at all ([`Route`], in go-restful's words),
//! then the accepted clauses are tried in order of preference, with their `as=` transformations.
//! Source: kubernetes/apiserver pkg/endpoints/handlers/negotiation.
// PERFORMANCE: per-request path

use crate::query;
use fairlead_api::{Status, StatusResult};
use fairlead_resource::View;
use fairlead_resource::request::MetaVersion;
use http::HeaderMap;
use http::header::{ACCEPT, USER_AGENT};

/// The encoding of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    pub format: Format,
    /// JSON with line breaks and indentation, for people.
    pub pretty: bool,
    pub view: View,
}

/// What an endpoint can make of its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Objects of a resource: the formats of their own form, tables and metadata.
    Resource { protobuf: bool, tables: Tables },
    /// Documents and errors: no transformation.
    Plain,
}

/// Whether objects have columns. Those that are answers and not stored have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    Shown,
    None,
}

/// The media types a route of a built-in group is registered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Object,
    /// Lists, which can be streams as well.
    Collection,
    /// `/version` and its like.
    JsonOnly,
    /// Text, such as a log; errors are objects.
    Text,
}

const SUPPORTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const STREAMS: &str = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
const FORMATS: [Format; 3] = [Format::Json, Format::Yaml, Format::Protobuf];

impl Format {
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
            Format::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    fn subtype(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Yaml => "yaml",
            Format::Protobuf => "vnd.kubernetes.protobuf",
        }
    }
}

impl Route {
    fn produces(self) -> &'static [&'static str] {
        const OBJECT: [&str; 3] = [
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
        ];
        const TEXT: [&str; 4] = ["text/plain", OBJECT[0], OBJECT[1], OBJECT[2]];
        const COLLECTION: [&str; 5] = [
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
            "application/json;stream=watch",
            "application/vnd.kubernetes.protobuf;stream=watch",
        ];
        match self {
            Route::Object => &OBJECT,
            Route::Collection => &COLLECTION,
            Route::JsonOnly => &OBJECT[..1],
            Route::Text => &TEXT,
        }
    }

    /// Whether any accepted media type is one of the route's, parameters aside and letter by letter.
    ///
    /// # Errors
    /// COMPAT: the 406 of the router, whose text differs from that of [`agree`].
    pub fn check(self, headers: &HeaderMap) -> StatusResult<()> {
        let accept = crate::request::header(headers, ACCEPT);
        if accept.is_empty() {
            return Ok(());
        }
        let accepted = accept.split(',').any(|clause| {
            let media_type = clause.split(';').next().unwrap_or("").trim_matches(' ');
            media_type == "*/*" || self.produces().contains(&media_type)
        });
        if accepted {
            return Ok(());
        }
        let message = format!(
            "406: Not Acceptable\n\nAvailable representations: {}",
            self.produces().join(", ")
        );
        Err(Status::not_acceptable(message).with_details(fairlead_api::status::Details::default()))
    }
}

/// Picks the first accepted clause that the offer can serve.
///
/// # Errors
/// 406 where there is none.
pub fn agree(headers: &HeaderMap, query: &[(String, String)], offer: Offer) -> StatusResult<Agreed> {
    let accept = crate::request::header(headers, ACCEPT);
    let pretty = pretty(headers, query);
    if accept.is_empty() {
        return Ok(Agreed {
            pretty,
            ..Agreed::default()
        });
    }
    for clause in clauses(accept) {
        for format in FORMATS {
            if clause.matches(format)
                && let Some(agreed) = clause.agree(format, offer)
            {
                return Ok(Agreed {
                    pretty: pretty || agreed.pretty,
                    ..agreed
                });
            }
        }
    }
    Err(not_acceptable())
}

/// The 406 that lists what an endpoint can make. COMPAT: protobuf is named even where only metadata has that form.
pub fn not_acceptable() -> Status {
    Status::not_acceptable(format!("only the following media types are accepted: {SUPPORTED}"))
}

/// [`not_acceptable`] of watches.
pub fn no_such_stream() -> Status {
    Status::not_acceptable(format!("only the following media types are accepted: {STREAMS}"))
}

/// The media type of a body without its parameters, where it is one that `accepted` lists.
///
/// # Errors
/// 415 where it is not. No `Content-Type` means the first of the list.
pub fn content_type<'a>(header: &str, accepted: &[&'a str]) -> StatusResult<&'a str> {
    let media_type = header.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if header.is_empty()
        && let Some(first) = accepted.first()
    {
        return Ok(first);
    }
    accepted
        .iter()
        .find(|a| **a == media_type)
        .copied()
        .ok_or_else(|| unsupported(accepted))
}

/// The 415 that lists what a body may be.
pub fn unsupported(accepted: &[&str]) -> Status {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {}",
        accepted.join(", ")
    );
    Status::unsupported_media_type(message)
}

/// Whether a route for patches takes a body, as the router sees it.
///
/// # Errors
/// COMPAT: the 415 of the router, whose text differs from that of [`unsupported`].
pub fn consumes(header: &str, accepted: &[&str]) -> StatusResult<()> {
    let listed = |clause: &str| {
        let media_type = clause.split(';').next().unwrap_or("").trim();
        media_type == "*/*" || accepted.contains(&media_type)
    };
    if header.split(',').any(listed) {
        return Ok(());
    }
    let status = Status::unsupported_media_type("415: Unsupported Media Type");
    Err(status.with_details(fairlead_api::status::Details::default()))
}

/// Whether a person reads the answer: by parameter, or by the client's name.
fn pretty(headers: &HeaderMap, query: &[(String, String)]) -> bool {
    if let Some(value) = query::first(query, "pretty").filter(|v| !v.is_empty()) {
        return query::parse_bool(value).unwrap_or(false);
    }
    let agent = crate::request::header(headers, USER_AGENT);
    ["curl", "Wget", "Mozilla/5.0"]
        .iter()
        .any(|name| agent.starts_with(name))
}

/// One clause of an Accept header.
#[derive(Clone, Debug)]
pub struct Clause<'a> {
    pub kind: &'a str,
    pub subtype: &'a str,
    pub quality: f64,
    pub parameters: Vec<(&'a str, &'a str)>,
}

/// The clauses of an Accept header, most wanted first; of equals the more specific first, then in order.
pub fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause> = accept.split(',').filter_map(Clause::parse).collect();
    if clauses.len() > 1 {
        let wildcards = |c: &Clause| u8::from(c.kind == "*") + u8::from(c.subtype == "*");
        clauses.sort_by(|a, b| {
            b.quality
                .total_cmp(&a.quality)
                .then_with(|| wildcards(a).cmp(&wildcards(b)))
        });
    }
    clauses
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Clause<'a>> {
        let (range, parameters) = text.split_once(';').unwrap_or((text, ""));
        let (kind, subtype) = match range.split_once('/') {
            Some((kind, subtype)) if !subtype.contains('/') => (kind.trim_matches(' '), subtype.trim_matches(' ')),
            None if range.trim_matches(' ') == "*" => ("*", "*"),
            _ => return None,
        };
        let mut clause = Clause {
            kind,
            subtype,
            quality: 1.0,
            parameters: Vec::new(),
        };
        for parameter in parameters.split(';') {
            let Some((key, value)) = parameter.split_once('=') else {
                continue;
            };
            if value.is_empty() || value.contains('=') {
                continue;
            }
            match key.trim_matches(' ') {
                "q" => clause.quality = value.trim().parse().unwrap_or(0.0),
                key => clause.parameters.push((key, value.trim_matches(' '))),
            }
        }
        Some(clause)
    }

    fn matches(&self, format: Format) -> bool {
        match (self.kind, self.subtype) {
            ("*", "*") | ("application", "*") => true,
            (kind, subtype) => kind == "application" && subtype == format.subtype(),
        }
    }

    /// The last value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().rev().find(|(k, _)| *k == name).map(|(_, v)| *v)
    }

    /// What this clause asks for in one format; `None` where the offer has no such thing.
    fn agree(&self, format: Format, offer: Offer) -> Option<Agreed> {
        if self
            .parameter("stream")
            .is_some_and(|s| s != "watch" || format == Format::Yaml)
        {
            return None;
        }
        if self.parameter("sv").is_some() {
            return None;
        }
        let transformed = ["as", "g", "v"].iter().any(|name| self.parameter(name).is_some());
        let view = if transformed {
            self.view(format, offer)?
        } else {
            View::Object
        };
        if view == View::Object
            && format == Format::Protobuf
            && matches!(offer, Offer::Resource { protobuf: false, .. })
        {
            return None;
        }
        Some(Agreed {
            format,
            pretty: self.parameter("pretty") == Some("1"),
            view,
        })
    }

    fn view(&self, format: Format, offer: Offer) -> Option<View> {
        if offer == Offer::Plain || self.parameter("g") != Some("meta.k8s.io") {
            return None;
        }
        let version = match self.parameter("v")? {
            "v1" => MetaVersion::V1,
            "v1beta1" => MetaVersion::V1Beta1,
            _ => return None,
        };
        match self.parameter("as")? {
            "Table"
                if matches!(
                    offer,
                    Offer::Resource {
                        tables: Tables::None,
                        ..
                    }
                ) =>
            {
                None
            }
            "Table" if format != Format::Protobuf => Some(View::Table(version)),
            "PartialObjectMetadata" => Some(View::Metadata(version)),
            "PartialObjectMetadataList" => Some(View::MetadataList(version)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        headers
    }

    fn agreed(accept: &str, offer: Offer) -> StatusResult<Agreed> {
        agree(&headers(accept), &[], offer)
    }

    const BUILT_IN: Offer = Offer::Resource {
        protobuf: true,
        tables: Tables::Shown,
    };

    #[test]
    fn clauses_are_tried_by_preference() {
        let format = |accept| agreed(accept, BUILT_IN).map(|a| a.format);
        assert_eq!(
            format("application/json;q=0.5,application/yaml;q=0.9").unwrap(),
            Format::Yaml
        );
        assert_eq!(format("*/*,application/yaml").unwrap(), Format::Yaml);
        assert_eq!(format("text/html,application/json;q=0.1").unwrap(), Format::Json);
        assert_eq!(
            format("application/vnd.kubernetes.protobuf, */*").unwrap(),
            Format::Protobuf
        );
        let custom = Offer::Resource {
            protobuf: false,
            tables: Tables::Shown,
        };
        assert_eq!(
            agreed("application/vnd.kubernetes.protobuf, */*", custom)
                .unwrap()
                .format,
            Format::Json
        );
        assert_eq!(
            agreed("application/vnd.kubernetes.protobuf", custom)
                .unwrap_err()
                .message(),
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        );
    }

    #[test]
    fn transformations_need_the_meta_group() {
        let view = |accept| agreed(accept, BUILT_IN).map(|a| a.view);
        assert_eq!(
            view("application/json;as=Table;v=v1;g=meta.k8s.io").unwrap(),
            View::Table(MetaVersion::V1)
        );
        assert_eq!(
            view("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json").unwrap(),
            View::Table(MetaVersion::V1Beta1)
        );
        assert_eq!(
            view("application/json;as=Bogus;v=v1;g=x,application/json").unwrap(),
            View::Object
        );
        assert!(view("application/json;as=Table").is_err());
        assert!(view("application/json;as=Table;v=v9;g=meta.k8s.io").is_err());
        assert!(view("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io").is_err());
        assert!(agreed("application/json;as=Table;v=v1;g=meta.k8s.io", Offer::Plain).is_err());
        let review = Offer::Resource {
            protobuf: true,
            tables: Tables::None,
        };
        assert!(agreed("application/json;as=Table;v=v1;g=meta.k8s.io", review).is_err());
        assert!(agreed("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", review).is_ok());
    }

    #[test]
    fn a_route_compares_letter_by_letter() {
        assert!(Route::Object.check(&headers("application/json;as=Table")).is_ok());
        assert!(Route::Object.check(&headers("*/*")).is_ok());
        assert!(Route::Object.check(&headers("application/*")).is_err());
        assert_eq!(
            Route::JsonOnly
                .check(&headers("APPLICATION/JSON"))
                .unwrap_err()
                .message(),
            "406: Not Acceptable\n\nAvailable representations: application/json"
        );
    }

    #[test]
    fn bodies_have_a_media_type() {
        const ACCEPTED: [&str; 2] = ["application/json", "application/yaml"];
        assert_eq!(content_type("", &ACCEPTED).unwrap(), "application/json");
        assert_eq!(
            content_type("Application/YAML; charset=utf-8", &ACCEPTED).unwrap(),
            "application/yaml"
        );
        assert_eq!(
            content_type("text/plain", &ACCEPTED).unwrap_err().message(),
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml"
        );
    }
}
