//! PATCH: JSON patch, merge patch, strategic merge patch and apply.
// PERFORMANCE: per-request path

use crate::body;
use crate::call::Call;
use crate::options::{FieldValidation, WriteKind, WriteOptions};
use crate::patched_text::{self, Touched};
use crate::request::Response;
use crate::strict::Complaints;
use crate::update::{self, Source, Write};
use crate::{fields, typed};
use fairlead_api::json::Parsed;
use fairlead_api::{FieldError, FieldPath, GroupKind, Node, Status, StatusResult, json};
use fairlead_patch::{PatchError, go_text, json_patch, merge_patch, strategic};
use fairlead_schema::Schema;

/// A patch, read once and applied to whatever is stored.
pub struct Patch {
    kind: Kind,
    /// What the body holds, or why it cannot be read; told only when there is something to patch.
    parsed: Result<Parsed, Status>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// # Errors
/// UnsupportedMediaType, and everything an update can fail with.
pub async fn patch(call: &mut Call<'_>) -> StatusResult<Response> {
    let kind = kind(call)?;
    let write_kind = if kind == Kind::Apply {
        WriteKind::Apply
    } else {
        WriteKind::Patch
    };
    let options = WriteOptions::parse(call.request, write_kind)?;
    let manager = fields::manager(call, &options);
    let patch = Patch {
        kind,
        parsed: read(call, kind, options.field_validation),
    };
    update::run(
        call,
        Write {
            options,
            manager,
            source: Source::Patch(patch),
        },
    )
    .await
}

fn kind(call: &Call) -> StatusResult<Kind> {
    let custom = call.definition.is_custom();
    match call.request.body.media_type.as_str() {
        "application/json-patch+json" => Ok(Kind::Json),
        "application/merge-patch+json" => Ok(Kind::Merge),
        "application/strategic-merge-patch+json" if !custom => Ok(Kind::Strategic),
        "application/apply-patch+yaml" => Ok(Kind::Apply),
        _ => {
            let strategic = if custom {
                ""
            } else {
                "application/strategic-merge-patch+json, "
            };
            Err(Status::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, {strategic}application/apply-patch+yaml"
            )))
        }
    }
}

fn read(call: &Call, kind: Kind, validation: FieldValidation) -> Result<Parsed, Status> {
    let body = &call.request.body;
    if kind == Kind::Apply {
        let parsed = fairlead_codec::yaml::parse_strict(&body.bytes);
        let parsed = parsed.map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
        if !matches!(parsed.node, Node::Map(_) | Node::Null) {
            return Err(Status::bad_request(format!(
                "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go \
                 value of type map[string]interface {{}}",
                body::go_kind(&parsed.node)
            )));
        }
        return Ok(parsed);
    }
    // COMPAT: without field validation the patch libraries complain in their own words.
    let prefix = if kind == Kind::Strategic {
        ""
    } else {
        "error decoding patch: "
    };
    let parsed = json::parse_strict(&body.bytes).map_err(|error| {
        let lenient = validation == FieldValidation::Ignore;
        Status::bad_request(match kind {
            Kind::Merge if lenient => "Invalid JSON Patch".to_owned(),
            Kind::Json if lenient => error.to_string(),
            _ => format!("{prefix}{error}"),
        })
    })?;
    if kind != Kind::Json && !matches!(parsed.node, Node::Map(_) | Node::Null) {
        return Err(Status::bad_request(format!(
            "{prefix}json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            body::go_kind(&parsed.node)
        )));
    }
    Ok(parsed)
}

impl Patch {
    /// Whether this patch may make an object that does not exist.
    pub fn creates(&self) -> bool {
        self.kind == Kind::Apply
    }

    /// A new object of this patch alone.
    ///
    /// # Errors
    /// BadRequest, Invalid, Conflict.
    pub async fn create(&mut self, call: &mut Call<'_>, options: &WriteOptions, manager: &str) -> StatusResult<Node> {
        self.server_side_apply(call, None, options, manager).await
    }

    /// What `old` becomes, decoded, defaulted and with its managed fields recorded.
    ///
    /// # Errors
    /// BadRequest, Invalid, Conflict.
    pub async fn apply(
        &mut self,
        call: &mut Call<'_>,
        old: &Node,
        options: &WriteOptions,
        manager: &str,
    ) -> StatusResult<Node> {
        if self.kind == Kind::Apply {
            return self.server_side_apply(call, Some(old), options, manager).await;
        }
        let parsed = self.parsed.as_ref().map_err(Status::clone)?;
        let schema = schema(call)?;
        let custom = call.definition.is_custom() && !call.is_scale();
        let mut object = merge(self.kind, old, &parsed.node, &schema).map_err(|error| error.to_status())?;
        let decoded = if self.kind == Kind::Strategic {
            typed::decode_patched(&mut object, &schema)
        } else {
            check_type(call, &object).and_then(|()| typed::decode(&mut object, &schema, custom, None))
        };
        let mut unknown = decoded.map_err(|why| self.invalid(call, old, &schema, &why))?;
        if self.kind != Kind::Strategic && object.str("apiVersion").is_empty() && !custom {
            // COMPAT: without a version the document is read as one of upstream's internal ones, of which nothing is
            // known but its kind.
            unknown = old
                .as_map()
                .map_or_else(Vec::new, |m| m.keys().map(ToString::to_string).collect());
            unknown.retain(|key| !matches!(key.as_str(), "apiVersion" | "kind"));
            object = Node::map();
        }
        if options.field_validation != FieldValidation::Ignore {
            let prefix = if self.kind == Kind::Json { "json patch " } else { "" };
            let strict = Complaints::json(&parsed.duplicates, &unknown, prefix);
            if !strict.is_empty() && options.field_validation == FieldValidation::Strict {
                let why = format!("strict decoding error: {}", strict.error());
                return Err(self.invalid(call, old, &schema, &why));
            }
            call.warn_all(strict.warnings);
        }
        settle_type(call, &mut object);
        if !call.is_scale() {
            typed::default(&mut object, call.definition);
        }
        fields::record(call, Some(old), &mut object, manager).await;
        Ok(object)
    }

    /// A patch whose result cannot be read. Shows the result, which is made again: failures are rare.
    fn invalid(&self, call: &Call, old: &Node, schema: &Schema, why: &str) -> Status {
        let Ok(Parsed { node: patch, .. }) = &self.parsed else {
            return Status::bad_request(why);
        };
        let custom = call.definition.is_custom() && !call.is_scale();
        let mut merged = merge(self.kind, old, patch, schema).unwrap_or_default();
        let shape = (!custom).then(|| schema.root());
        let shown = match self.kind {
            Kind::Strategic => go_text::value(patch),
            Kind::Json => {
                let touched = Touched::by_operations(patch, &call.request.body.bytes);
                patched_text::text(&merged, shape, &touched)
            }
            _ => patched_text::text(&merged, shape, &Touched::by_merge(patch)),
        };
        // What is told first of several mistakes, and how numbers are written, is the document's to say.
        let retold = match self.kind {
            Kind::Strategic => None,
            _ if custom => None,
            _ => typed::decode(&mut merged, schema, false, Some(shown.as_bytes())).err(),
        };
        let why = retold.as_deref().unwrap_or(why);
        let error = FieldError::invalid(&FieldPath::new("patch"), shown, why);
        Status::invalid(&GroupKind::default(), "", &vec![error])
    }

    async fn server_side_apply(
        &mut self,
        call: &mut Call<'_>,
        live: Option<&Node>,
        options: &WriteOptions,
        manager: &str,
    ) -> StatusResult<Node> {
        let parsed = self.parsed.as_ref().map_err(Status::clone)?;
        let mut object = fields::apply(call, live, &parsed.node, manager, options.force).await?;
        let custom = call.definition.is_custom() && !call.is_scale();
        let schema = schema(call)?;
        let decoded = if custom {
            typed::decode(&mut object, &schema, true, None)
        } else {
            typed::decode_patched(&mut object, &schema)
        };
        decoded.map_err(|why| unconvertible(call, &parsed.node, &why))?;
        if !call.is_scale() {
            typed::default(&mut object, call.definition);
        }
        if options.field_validation != FieldValidation::Ignore && !parsed.duplicates.is_empty() {
            let strict = Complaints::yaml(&parsed.duplicates, &[]);
            if options.field_validation == FieldValidation::Strict {
                let why = format!(
                    "error strict decoding YAML: error converting YAML to JSON: {}",
                    strict.error()
                );
                return Err(Status::bad_request(why));
            }
            call.warn_all(strict.warnings);
        }
        Ok(object)
    }
}

/// The patched document, not yet checked.
fn merge(kind: Kind, old: &Node, patch: &Node, schema: &Schema) -> Result<Node, PatchError> {
    let mut object = old.clone();
    match kind {
        Kind::Json => json_patch::apply(&mut object, patch)?,
        Kind::Merge => merge_patch::apply(&mut object, patch),
        _ => strategic::apply(&mut object, patch, schema.root())?,
    }
    Ok(object)
}

/// COMPAT: upstream's failure to make its own type of an applied configuration.
fn unconvertible(call: &Call, config: &Node, why: &str) -> Status {
    let kind = call.kind();
    let text = format!(
        "failed to convert new object ({}/{}; {kind}) to proper version: unable to convert unstructured object to {kind}: {why}",
        config.namespace(),
        config.name(),
    );
    Status::new(500, "", text)
}

/// COMPAT: built-in kinds are decoded into their own type, so a patch that got this far cannot change it.
fn settle_type(call: &Call, object: &mut Node) {
    if !call.definition.is_custom() || call.is_scale() {
        let kind = call.kind();
        object.set("apiVersion", kind.group_version().to_string());
        object.set("kind", kind.kind);
    }
}

/// The schema of the body: the object's, or the subresource's own, which may be a kind known elsewhere.
pub fn schema(call: &Call) -> StatusResult<Schema> {
    let Some(subresource) = call.subresource.filter(|_| !call.is_status()) else {
        return Ok(call.definition.schema.clone());
    };
    let known = || call.engine.config.scheme.schema(&subresource.kind);
    let missing = || Status::internal(format!("the subresource {} has no schema", subresource.name));
    subresource.schema.clone().or_else(known).ok_or_else(missing)
}

/// A patch may not make an object of another kind or version.
fn check_type(call: &Call, object: &Node) -> Result<(), String> {
    let expected = call.kind();
    let (version, kind) = (object.str("apiVersion"), object.str("kind"));
    let expected_version = expected.group_version().to_string();
    if kind == expected.kind && version == expected_version {
        return Ok(());
    }
    if call.definition.is_custom() && !call.is_scale() {
        return if kind.is_empty() {
            Err(format!("Object 'Kind' is missing in '{}'", json::to_string(object)))
        } else {
            Ok(())
        };
    }
    if version.is_empty() || (kind.is_empty() && version == expected_version) {
        return Ok(());
    }
    body::other_kind(call, &mut object.clone(), &expected).unwrap_or(Ok(()))
}
