//! The verbs: from a path and a method to an answer.

use crate::identity::{User, percent_decoded};
use crate::kinds::{Kind, PARCEL};
use crate::selector::Selector;
use crate::storage::{ObjectKey, Storage, WriteError};
use crate::watch::Watch;
use crate::{GROUP, GROUP_VERSION, VERSION, discovery, openapi};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// Largest body, as in kube-apiserver.
const MAX_BODY: usize = 3 << 20;
/// How long a watch lasts if the client does not say.
const WATCH_TIMEOUT: Duration = Duration::from_secs(1800);

#[derive(Default)]
pub struct Api {
    storage: Arc<Storage>,
    created: AtomicU64,
}

/// A request for objects: `/apis/G/V[/namespaces/NS]/PLURAL[/NAME[/status]]`.
struct Target {
    kind: &'static Kind,
    namespace: String,
    name: String,
    status: bool,
}

/// Query parameters, decoded.
struct Query(Vec<(String, String)>);

/// A failed request.
struct Failure(Box<Response<Answer>>);

impl Api {
    pub async fn answer(&self, request: Request<Incoming>, user: &User) -> Response<Answer> {
        let path = request.uri().path().trim_end_matches('/').to_owned();
        let accept = accept(request.headers()).to_owned();
        let if_none_match = request.headers().get(header::IF_NONE_MATCH).cloned();
        let etagged = |media_type: &str, document: &openapi::Document| {
            let tag = format!("\"{}\"", document.hash);
            let builder = Response::builder()
                .header(header::ETAG, &tag)
                .header(header::CONTENT_TYPE, media_type);
            if if_none_match.as_ref().is_some_and(|v| v.as_bytes() == tag.as_bytes()) {
                return builder.status(304).body(full("")).expect("a valid response");
            }
            builder.body(full(document.bytes.clone())).expect("a valid response")
        };
        match path.as_str() {
            "/apis" if discovery::wants_aggregated(&accept) => {
                etagged(discovery::AGGREGATED, discovery::aggregated_document())
            }
            "/apis" => json_answer(200, &discovery::group_list()),
            "/openapi/v2" => etagged("application/json", openapi::v2()),
            "/openapi/v3" => etagged("application/json", openapi::v3_index()),
            _ if path == format!("/openapi/v3/apis/{GROUP_VERSION}") => etagged("application/json", openapi::v3()),
            _ if path == format!("/apis/{GROUP}") => json_answer(200, &discovery::group()),
            _ if path == format!("/apis/{GROUP_VERSION}") => json_answer(200, &discovery::resource_list()),
            _ => match target(&path) {
                Some(target) => self
                    .objects(target, request, user)
                    .await
                    .unwrap_or_else(|failure| *failure.0),
                None => failure(404, "NotFound", "the server could not find the requested resource"),
            },
        }
    }

    async fn objects(
        &self,
        target: Target,
        request: Request<Incoming>,
        user: &User,
    ) -> Result<Response<Answer>, Failure> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let as_table = accept(request.headers()).split(',').any(|m| m.contains("as=Table"));
        let (parts, body) = request.into_parts();
        let collection = target.name.is_empty();
        if collection && target.kind.namespaced && target.namespace.is_empty() && parts.method != Method::GET {
            return Err(target.not_allowed());
        }
        match (&parts.method, collection) {
            (&Method::GET, true) if query.is_true("watch") => self.watch(&target, &query, as_table),
            (&Method::GET, true) => {
                let selector = query.selector()?;
                let (items, revision) = self.storage.list(target.kind, &target.namespace);
                let items: Vec<Value> = items.into_iter().filter(|o| selector.matches(o)).collect();
                let revision = revision.to_string();
                let list = if as_table {
                    target.kind.table(&items, &revision)
                } else {
                    target.kind.list(items, &revision)
                };
                Ok(json_answer(200, &list))
            }
            (&Method::POST, true) => self.create(&target, read(body).await?, user),
            (&Method::DELETE, true) => {
                let selector = query.selector()?;
                let (items, revision) = self.storage.list(target.kind, &target.namespace);
                let items: Vec<Value> = items.into_iter().filter(|o| selector.matches(o)).collect();
                for object in &items {
                    // Somebody else may have deleted it meanwhile: then it is gone all the same.
                    let _ = self.storage.delete(target.kind, &key_of(target.kind, object));
                }
                Ok(json_answer(200, &target.kind.list(items, &revision.to_string())))
            }
            (&Method::GET, false) => {
                let object = self
                    .storage
                    .get(&target.key())
                    .ok_or_else(|| target.refused(&WriteError::NotFound))?;
                let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
                let answer = if as_table {
                    target.kind.table(std::slice::from_ref(&object), version)
                } else {
                    object.clone()
                };
                Ok(json_answer(200, &answer))
            }
            (&Method::PUT, false) => {
                let object = object_body(&read(body).await?)?;
                let expected = object["metadata"]["resourceVersion"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                self.change(&target, &expected, |_| Ok(object))
            }
            (&Method::PATCH, false) => {
                let media = parts
                    .headers
                    .get(header::CONTENT_TYPE)
                    .and_then(|v| v.to_str().ok())
                    .unwrap_or_default();
                if media.split(';').next().map(str::trim) != Some("application/merge-patch+json") {
                    return Err(Failure::plain(
                        415,
                        "UnsupportedMediaType",
                        "only application/merge-patch+json is supported",
                    ));
                }
                let patch = object_body(&read(body).await?)?;
                let expected = patch["metadata"]["resourceVersion"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                self.change(&target, &expected, |old| {
                    let mut new = old.clone();
                    merge(&mut new, &patch);
                    Ok(new)
                })
            }
            (&Method::DELETE, false) if !target.status => {
                let deleted = self
                    .storage
                    .delete(target.kind, &target.key())
                    .map_err(|e| target.refused(&e))?;
                let details = json!({"name": target.name, "group": GROUP, "kind": target.kind.plural, "uid": deleted["metadata"]["uid"]});
                let success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
                Ok(json_answer(200, &success))
            }
            _ => Err(target.not_allowed()),
        }
    }

    fn create(&self, target: &Target, body: Bytes, user: &User) -> Result<Response<Answer>, Failure> {
        let mut object = object_body(&body)?;
        let number = self.created.fetch_add(1, Ordering::Relaxed) + 1;
        let metadata = object["metadata"].as_object().cloned().unwrap_or_default();
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
        let name = match (text("name"), text("generateName")) {
            ("", "") => {
                return Err(target.invalid(
                    "",
                    &[(
                        "metadata.name".into(),
                        "FieldValueRequired",
                        "Required value: name or generateName is required".into(),
                    )],
                ));
            }
            ("", prefix) => format!("{prefix}{number:05}"),
            (name, _) => name.to_owned(),
        };
        if name.contains(['/', '%']) || name == "." || name == ".." {
            return Err(target.invalid(
                &name,
                &[(
                    "metadata.name".into(),
                    "FieldValueInvalid",
                    format!("Invalid value: {name:?}: not a path segment"),
                )],
            ));
        }
        if target.kind.namespaced && !["", target.namespace.as_str()].contains(&text("namespace")) {
            let message = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Failure::plain(400, "BadRequest", message));
        }
        let mut kept = Map::new();
        for key in ["labels", "annotations", "generateName", "finalizers", "ownerReferences"] {
            if let Some(value) = metadata.get(key) {
                kept.insert(key.into(), value.clone());
            }
        }
        object["metadata"] = kept.into();
        object["metadata"]["annotations"][format!("{GROUP}/created-by")] = user.name.as_str().into();
        object["metadata"]["name"] = name.as_str().into();
        if target.kind.namespaced {
            object["metadata"]["namespace"] = target.namespace.as_str().into();
        }
        let now = OffsetDateTime::now_utc();
        object["metadata"]["uid"] = uid(now, number).into();
        object["metadata"]["generation"] = 1.into();
        object["metadata"]["creationTimestamp"] = rfc3339(now).into();
        object["apiVersion"] = GROUP_VERSION.into();
        object["kind"] = target.kind.kind.into();
        object["status"] = json!({});
        if std::ptr::eq(target.kind, &PARCEL) {
            object["status"]["phase"] = "Waiting".into();
        }
        target.kind.prune(&mut object);
        target.check(&object)?;
        let key = (target.kind.plural, target.namespace.clone(), name.clone());
        match self.storage.create(target.kind, key, object) {
            Ok(created) => Ok(json_answer(201, &created)),
            Err(error) => Err(Target { name, ..target.clone() }.refused(&error)),
        }
    }

    /// Update and patch: the main resource leaves `status` alone, and `/status` everything else.
    fn change(
        &self,
        target: &Target,
        expected: &str,
        make: impl FnOnce(&Value) -> Result<Value, Failure>,
    ) -> Result<Response<Answer>, Failure> {
        let result = self.storage.update(target.kind, &target.key(), expected, |old| {
            let asked = make(old).map_err(ChangeError::Failure)?;
            let mut new = old.clone();
            if target.status {
                new["status"] = asked["status"].clone();
            } else {
                new["spec"] = asked["spec"].clone();
                for key in ["labels", "annotations", "finalizers", "ownerReferences"] {
                    match asked["metadata"].get(key) {
                        Some(value) => new["metadata"][key] = value.clone(),
                        None => {
                            new["metadata"].as_object_mut().map(|m| m.remove(key));
                        }
                    }
                }
                target.kind.prune(&mut new);
                if new["spec"] != old["spec"] {
                    new["metadata"]["generation"] = (old["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
                }
            }
            target.kind.prune(&mut new);
            target.check(&new).map_err(ChangeError::Failure)?;
            Ok(new)
        });
        match result {
            Ok(object) => Ok(json_answer(200, &object)),
            Err(ChangeError::Failure(failure)) => Err(failure),
            Err(ChangeError::Write(error)) => Err(target.refused(&error)),
        }
    }

    fn watch(&self, target: &Target, query: &Query, as_table: bool) -> Result<Response<Answer>, Failure> {
        let version = query.get("resourceVersion").unwrap_or_default();
        let since = match version {
            "" | "0" => None,
            number => Some(
                number
                    .parse()
                    .map_err(|_| Failure::plain(400, "BadRequest", &format!("invalid resource version {number:?}")))?,
            ),
        };
        let send_initial_events = query.is_true("sendInitialEvents");
        let seconds = query.get("timeoutSeconds").and_then(|s| s.parse().ok());
        let watch = Watch {
            storage: self.storage.clone(),
            kind: target.kind,
            namespace: target.namespace.clone(),
            selector: query.selector()?,
            since: if send_initial_events { None } else { since },
            send_initial_events,
            as_table,
            timeout: seconds.map_or(WATCH_TIMEOUT, Duration::from_secs),
        };
        Ok(answer(200, "application/json", UnsyncBoxBody::new(watch.body())))
    }
}

impl Failure {
    fn plain(code: u16, reason: &str, message: &str) -> Failure {
        Failure::of(failure(code, reason, message))
    }

    fn of(response: Response<Answer>) -> Failure {
        Failure(Box::new(response))
    }
}

enum ChangeError {
    Failure(Failure),
    Write(WriteError),
}

impl From<WriteError> for ChangeError {
    fn from(error: WriteError) -> ChangeError {
        ChangeError::Write(error)
    }
}

impl Clone for Target {
    fn clone(&self) -> Target {
        Target {
            kind: self.kind,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            status: self.status,
        }
    }
}

impl Target {
    fn key(&self) -> ObjectKey {
        (self.kind.plural, self.namespace.clone(), self.name.clone())
    }

    fn check(&self, object: &Value) -> Result<(), Failure> {
        let mistakes = self.kind.mistakes(object);
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(self.invalid(object["metadata"]["name"].as_str().unwrap_or_default(), &mistakes))
        }
    }

    fn refused(&self, error: &WriteError) -> Failure {
        let object = format!("{}.{GROUP} {:?}", self.kind.plural, self.name);
        let (code, reason, message) = match error {
            WriteError::NotFound => (404, "NotFound", format!("{object} not found")),
            WriteError::Exists => (409, "AlreadyExists", format!("{object} already exists")),
            WriteError::Conflict => (
                409,
                "Conflict",
                format!(
                    "Operation cannot be fulfilled on {object}: the object has been modified; please apply your changes to the latest version and try again"
                ),
            ),
        };
        let details = json!({"name": self.name, "group": GROUP, "kind": self.kind.plural});
        Failure::of(status(code, reason, &message, Some(details)))
    }

    fn invalid(&self, name: &str, mistakes: &[(String, &'static str, String)]) -> Failure {
        let texts: Vec<String> = mistakes
            .iter()
            .map(|(field, _, message)| format!("{field}: {message}"))
            .collect();
        let all = if let [one] = texts.as_slice() {
            one.clone()
        } else {
            format!("[{}]", texts.join(", "))
        };
        let causes: Vec<Value> = mistakes
            .iter()
            .map(|(field, reason, message)| json!({"reason": reason, "message": message, "field": field}))
            .collect();
        let details = json!({"name": name, "group": GROUP, "kind": self.kind.kind, "causes": causes});
        Failure::of(status(
            422,
            "Invalid",
            &format!("{}.{GROUP} {name:?} is invalid: {all}", self.kind.kind),
            Some(details),
        ))
    }

    fn not_allowed(&self) -> Failure {
        Failure::plain(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }
}

impl Query {
    fn parse(text: &str) -> Query {
        let decode = |part: &str| percent_decoded(&part.replace('+', " "));
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Query(pairs.collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    fn selector(&self) -> Result<Selector, Failure> {
        let (labels, fields) = (
            self.get("labelSelector").unwrap_or_default(),
            self.get("fieldSelector").unwrap_or_default(),
        );
        Selector::parse(labels, fields).map_err(|message| Failure::plain(400, "BadRequest", &message))
    }
}

fn target(path: &str) -> Option<Target> {
    let rest = path.strip_prefix(&format!("/apis/{GROUP}/{VERSION}/"))?;
    let parts: Vec<String> = rest.split('/').map(percent_decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (namespace, parts) = match parts.as_slice() {
        ["namespaces", namespace, parts @ ..] if !parts.is_empty() => (*namespace, parts),
        parts => ("", parts),
    };
    let (plural, name, status) = match parts {
        [plural] => (plural, "", false),
        [plural, name] if !name.is_empty() => (plural, *name, false),
        [plural, name, "status"] if !name.is_empty() => (plural, *name, true),
        _ => return None,
    };
    let kind = Kind::by_plural(plural)?;
    // A cluster-scoped kind has no namespace, and one object of a namespaced kind always has one.
    if (!kind.namespaced && !namespace.is_empty()) || (kind.namespaced && namespace.is_empty() && !name.is_empty()) {
        return None;
    }
    Some(Target {
        kind,
        namespace: namespace.into(),
        name: name.into(),
        status,
    })
}

fn key_of(kind: &Kind, object: &Value) -> ObjectKey {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
    (kind.plural, text("namespace"), text("name"))
}

async fn read(body: Incoming) -> Result<Bytes, Failure> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Failure::plain(
            413,
            "RequestEntityTooLarge",
            "Request entity too large: limit is 3145728",
        )),
        Err(error) => Err(Failure::plain(400, "BadRequest", &error.to_string())),
    }
}

fn object_body(bytes: &[u8]) -> Result<Value, Failure> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) if value.is_object() && value.get("metadata").is_none_or(Value::is_object) => Ok(value),
        Ok(_) => Err(Failure::plain(
            400,
            "BadRequest",
            "the body is not an object with metadata",
        )),
        Err(error) => Err(Failure::plain(
            400,
            "BadRequest",
            &format!("the body is not JSON: {error}"),
        )),
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in members {
        if value.is_null() {
            target.as_object_mut().map(|t| t.remove(key));
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn uid(now: OffsetDateTime, number: u64) -> String {
    let nanos = now.unix_timestamp_nanos() as u128;
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{number:012x}",
        (nanos >> 32) as u32,
        (nanos >> 16) as u16,
        nanos & 0xfff,
        number & 0xfff
    )
}

fn rfc3339(now: OffsetDateTime) -> String {
    now.replace_nanosecond(0)
        .unwrap_or(now)
        .format(&Rfc3339)
        .unwrap_or_default()
}

fn accept(headers: &HeaderMap) -> &str {
    headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
}

fn full(bytes: impl Into<Bytes>) -> Answer {
    UnsyncBoxBody::new(Full::new(bytes.into()))
}

fn answer(code: u16, media_type: &str, body: Answer) -> Response<Answer> {
    Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, media_type)
        .body(body)
        .expect("a valid response")
}

fn typed(code: u16, media_type: &str, value: &Value) -> Response<Answer> {
    answer(code, media_type, full(value.to_string()))
}

fn json_answer(code: u16, value: &Value) -> Response<Answer> {
    typed(code, "application/json", value)
}

/// A document that was written elsewhere.
pub fn typed_text(media_type: &str, text: String) -> Response<Answer> {
    answer(200, media_type, full(text))
}

pub fn text(code: u16, text: &'static str) -> Response<Answer> {
    answer(code, "text/plain; charset=utf-8", full(text))
}

pub fn json(value: &Value) -> Response<Answer> {
    json_answer(200, value)
}

/// A body that comes in pieces.
pub fn streamed(body: Answer) -> Response<Answer> {
    answer(200, "application/octet-stream", body)
}

pub fn failure(code: u16, reason: &str, message: &str) -> Response<Answer> {
    status(code, reason, message, None)
}

fn status(code: u16, reason: &str, message: &str, details: Option<Value>) -> Response<Answer> {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code,
    });
    if let Some(details) = details {
        status["details"] = details;
    }
    json_answer(code, &status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_targets() {
        let base = "/apis/shipping.example.com/v1alpha1";
        let found = |path: &str| target(&format!("{base}{path}")).map(|t| (t.kind.kind, t.namespace, t.name, t.status));
        assert_eq!(
            found("/carriers/post"),
            Some(("Carrier", String::new(), "post".into(), false))
        );
        assert_eq!(
            found("/namespaces/a/parcels/b/status"),
            Some(("Parcel", "a".into(), "b".into(), true))
        );
        assert_eq!(found("/parcels"), Some(("Parcel", String::new(), String::new(), false)));
        for wrong in [
            "/parcels/x",
            "/namespaces/a/carriers",
            "/namespaces/a",
            "/nothing",
            "/carriers/a/scale",
            "/carriers//status",
        ] {
            assert_eq!(found(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn merging_removes_nulls() {
        let mut object = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        merge(&mut object, &json!({"a": {"b": null}, "d": {"e": 1}}));
        assert_eq!(object, json!({"a": {"c": 2}, "d": {"e": 1}}));
    }
}
