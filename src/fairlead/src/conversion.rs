//! [`WebhookConverter`]: custom resources converted by the webhook that their definition names.
//!
//! One call takes all objects of a request. Nothing converted is kept: a webhook that fails is noticed at once, as
//! kube-apiserver notices it.
//! Source of the texts: apiextensions-apiserver pkg/apiserver/conversion/webhook_converter.go.
// PERFORMANCE: per-request path

use crate::admission::Late;
use crate::entropy::RandomEntropy;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fairlead_api::metadata::{validate_annotations, validate_labels};
use fairlead_api::{FieldPath, Node, Status, StatusResult, json, node};
use fairlead_codec::yaml;
use fairlead_gateway::WebhookClient as _;
use fairlead_resource::definition::Converter;
use fairlead_resource::meta;
use futures_util::future::BoxFuture;
use std::time::Duration;

/// Converts through `spec.conversion.webhook` of one definition.
pub struct WebhookConverter {
    late: Late,
    client_config: Node,
    /// Of the reviews: the first in the definition that is known here.
    version: Option<&'static str>,
}

/// kube-apiserver's bound on one conversion.
const TIMEOUT: Duration = Duration::from_secs(30);
const GROUP: &str = "apiextensions.k8s.io";

impl WebhookConverter {
    /// From the `spec` of a definition.
    pub fn new(spec: &Node, late: Late) -> WebhookConverter {
        let webhook = spec.at(&["conversion", "webhook"]).unwrap_or(&Node::Null);
        let mut client_config = webhook.get("clientConfig").cloned().unwrap_or_default();
        let bundle = STANDARD.decode(client_config.str("caBundle")).unwrap_or_default();
        // COMPAT: nothing but white space is no bundle.
        if !bundle.is_empty() && bundle.trim_ascii().is_empty() {
            client_config.remove("caBundle");
        }
        let mut versions = webhook.list("conversionReviewVersions").iter().filter_map(Node::as_str);
        let version = versions.find_map(|version| ["v1", "v1beta1"].into_iter().find(|known| *known == version));
        WebhookConverter {
            late,
            client_config,
            version,
        }
    }

    async fn ask(&self, objects: &[Node], wanted: &str) -> Result<Vec<Node>, Failure> {
        let version = self
            .version
            .ok_or_else(|| Failure::Whole("no supported conversion review versions".into()))?;
        let outside = self
            .late
            .get()
            .ok_or_else(|| Failure::Call("the server is starting".into()))?;
        let uid = meta::uid(&RandomEntropy);
        let body = json::to_vec(&review(version, &uid, objects, wanted));
        let answer = outside.webhooks.call(&self.client_config, body.into(), TIMEOUT).await;
        let answer = answer.map_err(|error| Failure::Call(error.to_string()))?;
        converted(version, &uid, &answer).map_err(Failure::Call)
    }

    async fn one_by_one(&self, originals: &[Node], wanted: &str) -> StatusResult<Vec<Node>> {
        let mut all = Vec::with_capacity(originals.len());
        for original in originals {
            let kind = kind(original);
            let asked = self.ask(std::slice::from_ref(original), wanted).await;
            let mut answers = asked.map_err(|failure| failure.status(&kind))?;
            match answers.pop() {
                Some(answer) if answers.is_empty() => all.push(answer),
                last => return Err(miscounted(&kind, answers.len() + usize::from(last.is_some()))),
            }
        }
        Ok(all)
    }
}

impl Converter for WebhookConverter {
    fn convert<'a>(&'a self, objects: Vec<Node>, api_version: &'a str) -> BoxFuture<'a, StatusResult<Vec<Node>>> {
        Box::pin(async move {
            let (ready, asked): (Vec<_>, Vec<_>) = objects
                .into_iter()
                .enumerate()
                .partition(|(_, object)| object.str("apiVersion") == api_version);
            let Some((_, first)) = asked.first() else {
                return Ok(ready.into_iter().map(|(_, object)| object).collect());
            };
            let kind = kind(first);
            let (places, originals): (Vec<usize>, Vec<Node>) = asked.into_iter().unzip();
            let mut answers = self
                .ask(&originals, api_version)
                .await
                .map_err(|failure| failure.status(&kind))?;
            if answers.len() != originals.len() && originals.len() > 1 {
                // Which object is missing is not told: kube-apiserver, which asks for one at a time, would know.
                answers = self.one_by_one(&originals, api_version).await?;
            }
            if answers.len() != originals.len() {
                return Err(miscounted(&kind, answers.len()));
            }
            let mut result = ready;
            for ((place, original), answer) in places.into_iter().zip(originals).zip(answers) {
                result.push((place, accept(original, answer, api_version).map_err(failed)?));
            }
            result.sort_by_key(|(place, _)| *place);
            Ok(result.into_iter().map(|(_, object)| object).collect())
        })
    }
}

enum Failure {
    /// Told as it is.
    Whole(String),
    /// Of the call, or of what the answer says.
    Call(String),
}

impl Failure {
    fn status(self, kind: &str) -> Status {
        failed(match self {
            Failure::Whole(why) => why,
            Failure::Call(why) => format!("conversion webhook for {kind} failed: {why}"),
        })
    }
}

fn miscounted(kind: &str, given: usize) -> Status {
    failed(format!(
        "conversion webhook for {kind} returned {given} objects, expected 1"
    ))
}

/// COMPAT: an error that upstream has no reason for.
fn failed(why: String) -> Status {
    Status::new(500, "", why)
}

fn review(version: &str, uid: &str, objects: &[Node], wanted: &str) -> Node {
    let sent = objects.iter().map(|object| {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata") {
            metadata.remove("resourceVersion");
        }
        object
    });
    let mut review = node!({"kind": "ConversionReview"});
    review.set("apiVersion", format!("{GROUP}/{version}"));
    review.set("request", node!({"uid": uid, "desiredAPIVersion": wanted}));
    review.set_at(&["request", "objects"], sent.collect::<Vec<_>>());
    // COMPAT: Go writes the empty answer along.
    review.set(
        "response",
        node!({"uid": "", "convertedObjects": null, "result": {"metadata": {}}}),
    );
    review
}

/// The objects of a successful answer.
fn converted(version: &str, uid: &str, answer: &[u8]) -> Result<Vec<Node>, String> {
    const KINDLESS: &str = "couldn't get version/kind; json parse error: ";
    // COMPAT: what is not JSON is read as YAML, in which nearly everything is a string.
    let mut review = json::parse(answer).or_else(|why| yaml::parse(answer).map_err(|_| format!("{KINDLESS}{why}")))?;
    if !matches!(review, Node::Map(_) | Node::Null) {
        return Err(format!(
            "{KINDLESS}json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \
             \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
            json_kind(&review)
        ));
    }
    let strict = version == "v1";
    if strict {
        let (group_version, kind) = (review.str("apiVersion"), review.str("kind"));
        let (group, given) = group_version.split_once('/').unwrap_or(("", group_version));
        if (group, given, kind) != (GROUP, version, "ConversionReview") {
            return Err(format!(
                "expected webhook response of {GROUP}/{version}, Kind=ConversionReview, got {group}/{given}, Kind={kind}"
            ));
        }
    }
    let Some(mut response) = review.remove("response").filter(|r| !r.is_null()) else {
        return Err("no response provided".into());
    };
    if strict && response.str("uid") != uid {
        return Err(format!(
            "expected response.uid=\"{uid}\", got {}",
            fairlead_api::field::go_quote(response.str("uid"))
        ));
    }
    let result = response.get("result").unwrap_or(&Node::Null);
    if result.str("status") != "Success" {
        return Err(match result.str("message") {
            "" => format!("response.result.status was '{}', not 'Success'", result.str("status")),
            message => message.to_owned(),
        });
    }
    match response.remove("convertedObjects") {
        Some(Node::List(objects)) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// The converted object with the metadata of the original, of which only labels and annotations may change.
fn accept(original: Node, mut answer: Node, wanted: &str) -> Result<Node, String> {
    if answer.str("kind").is_empty() {
        return Err(format!("Object 'Kind' is missing in '{}'", json::to_string(&answer)));
    }
    let of = format!("conversion webhook for {}", kind(&original));
    let given = answer.str("apiVersion");
    if given != wanted {
        return Err(format!(
            "{of} returned invalid object at index 0: invalid groupVersion (expected {wanted}, received {given})"
        ));
    }
    let (expected, given) = (original.str("kind"), answer.str("kind"));
    if expected != given {
        return Err(format!(
            "{of} returned invalid object at index 0: invalid kind (expected {expected}, received {given})"
        ));
    }
    for (word, field) in [("name", "name"), ("namespace", "namespace"), ("UID", "uid")] {
        let (before, after) = (
            original.str_at(&["metadata", field]),
            answer.str_at(&["metadata", field]),
        );
        if before != after {
            return Err(format!(
                "{of} returned invalid object: must have the same {word}: {before} != {after}"
            ));
        }
    }
    let metadata = metadata(&original, &answer).map_err(|why| format!("{of} returned invalid metadata: {why}"))?;
    answer.set("metadata", metadata);
    Ok(answer)
}

fn metadata(original: &Node, answer: &Node) -> Result<Node, String> {
    let given = answer.get("metadata").ok_or("missing metadata in converted object")?;
    if !matches!(given, Node::Map(_)) {
        return Err(format!(
            "invalid metadata of type {} in converted object",
            go_type(given)
        ));
    }
    let mut kept = original.get("metadata").cloned().unwrap_or_else(Node::map);
    for field in ["labels", "annotations"] {
        let words = match given.get(field) {
            None | Some(Node::Null) => {
                kept.remove(field);
                continue;
            }
            Some(words) => words,
        };
        let Some(map) = words.as_map() else {
            return Err(format!(
                "invalid metadata.{field} of type {} in converted object",
                go_type(words)
            ));
        };
        if let Some((key, value)) = map.iter().find(|(_, value)| value.as_str().is_none()) {
            let given = go_type(value);
            return Err(format!(
                "metadata.{field}[{key}] must be a string, but is {given} in converted object"
            ));
        }
        if kept.get(field) != Some(words) {
            let errors = match field {
                "labels" => validate_labels(Some(words), &FieldPath::new("metadata.labels")),
                _ => validate_annotations(Some(words), &FieldPath::new("metadata.annotation")),
            };
            if !errors.is_empty() {
                let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
                return Err(if texts.len() == 1 {
                    texts.concat()
                } else {
                    format!("[{}]", texts.join(", "))
                });
            }
            kept.set(field, words.clone());
        }
    }
    Ok(kept)
}

/// `group/version, Kind=Kind`.
fn kind(object: &Node) -> String {
    let version = object.str("apiVersion");
    let slash = if version.contains('/') { "" } else { "/" };
    format!("{slash}{version}, Kind={}", object.str("kind"))
}

fn json_kind(node: &Node) -> &'static str {
    match node {
        Node::List(_) => "array",
        Node::Map(_) => "object",
        Node::String(_) => "string",
        Node::Bool(_) => "bool",
        _ => "number",
    }
}

/// The type Go decodes a value into.
fn go_type(node: &Node) -> &'static str {
    match node {
        Node::Null => "<nil>",
        Node::Bool(_) => "bool",
        Node::String(_) => "string",
        Node::List(_) => "[]interface {}",
        Node::Map(_) => "map[string]interface {}",
        _ if node.as_i64().is_some() => "int64",
        _ => "float64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, name: &str) -> Node {
        node!({"apiVersion": version, "kind": "Widget", "metadata": {"name": name, "resourceVersion": "7"}})
    }

    #[test]
    fn metadata_stays_but_for_labels_and_annotations() {
        let mut answer = object("g/v2", "a");
        answer.set("metadata", node!({"name": "a", "labels": {"x": "y"}, "generation": 4}));
        let taken = accept(object("g/v1", "a"), answer, "g/v2").unwrap();
        assert_eq!(
            taken.get("metadata"),
            Some(&node!({"name": "a", "resourceVersion": "7", "labels": {"x": "y"}}))
        );
    }

    #[test]
    fn an_object_that_is_another_is_refused() {
        let told = |answer: Node| accept(object("g/v1", "a"), answer, "g/v2").unwrap_err();
        assert_eq!(
            told(object("g/v2", "b")),
            "conversion webhook for g/v1, Kind=Widget returned invalid object: must have the same name: a != b"
        );
        assert!(told(object("g/v9", "a")).ends_with("invalid groupVersion (expected g/v2, received g/v9)"));
        assert_eq!(told(node!({})), "Object 'Kind' is missing in '{}'");
    }

    #[test]
    fn an_answer_must_be_a_success_for_this_request() {
        let told = |answer: &str| converted("v1", "u", answer.as_bytes()).unwrap_err();
        assert!(told("{}").ends_with("got /, Kind="));
        let review = |rest: &str| {
            format!(
                "{{\"kind\":\"ConversionReview\",\"apiVersion\":\"{GROUP}/v1\",\"response\":{{\"uid\":\"u\"{rest}}}}}"
            )
        };
        assert_eq!(told(&review("")), "response.result.status was '', not 'Success'");
        assert_eq!(
            told(&review(",\"result\":{\"status\":\"Failure\",\"message\":\"no\"}")),
            "no"
        );
        let fine = review(",\"result\":{\"status\":\"Success\"},\"convertedObjects\":[{}]");
        assert_eq!(converted("v1", "u", fine.as_bytes()).unwrap().len(), 1);
        assert_eq!(
            converted("v1", "w", fine.as_bytes()).unwrap_err(),
            "expected response.uid=\"w\", got \"u\""
        );
    }
}
