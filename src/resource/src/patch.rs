//! PATCH: JSON patch, merge patch, strategic merge patch and apply.
// PERFORMANCE: per-request path

use crate::body::{self, strict_errors};
use crate::call::Call;
use crate::options::{FieldValidation, WriteKind, WriteOptions};
use crate::request::Response;
use crate::update::{self, Source, Write};
use crate::{fields, typed};
use fairlead_api::json::Parsed;
use fairlead_api::{FieldError, FieldPath, GroupKind, Node, Status, StatusResult, json};
use fairlead_patch::{go_text, json_patch, merge_patch, strategic};
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
    pub fn create(&mut self, call: &mut Call, options: &WriteOptions, manager: &str) -> StatusResult<Node> {
        self.server_side_apply(call, None, options, manager)
    }

    /// What `old` becomes, decoded, defaulted and with its managed fields recorded.
    ///
    /// # Errors
    /// BadRequest, Invalid, Conflict.
    pub fn apply(&mut self, call: &mut Call, old: &Node, options: &WriteOptions, manager: &str) -> StatusResult<Node> {
        if self.kind == Kind::Apply {
            return self.server_side_apply(call, Some(old), options, manager);
        }
        let parsed = self.parsed.as_ref().map_err(Status::clone)?;
        let schema = schema(call)?;
        let mut object = old.clone();
        let result = match self.kind {
            Kind::Json => json_patch::apply(&mut object, &parsed.node),
            Kind::Merge => {
                merge_patch::apply(&mut object, &parsed.node);
                Ok(())
            }
            _ => strategic::apply(&mut object, &parsed.node, schema.root()),
        };
        result.map_err(|error| error.to_status())?;

        let shown = |object: &Node| match self.kind {
            Kind::Strategic => go_text::value(&parsed.node),
            _ => patched_text(call, object, &schema),
        };
        let invalid = |shown: String, why: &str| {
            let error = FieldError::invalid(&FieldPath::new("patch"), shown, why);
            Status::invalid(&GroupKind::default(), "", &vec![error])
        };
        let text = shown(&object);
        let decoded = if self.kind == Kind::Strategic {
            typed::decode_patched(&mut object, &schema)
        } else {
            check_type(call, &object).and_then(|()| {
                typed::decode(
                    &mut object,
                    &schema,
                    call.definition.is_custom() && !call.is_scale(),
                    None,
                )
            })
        };
        let unknown = decoded.map_err(|why| invalid(text.clone(), &why))?;
        if options.field_validation != FieldValidation::Ignore {
            let mut strict = strict_errors(&parsed.duplicates, Vec::new(), false);
            if self.kind == Kind::Json {
                strict.iter_mut().for_each(|error| error.insert_str(0, "json patch "));
            }
            strict.extend(strict_errors(&[], unknown, false));
            if !strict.is_empty() && options.field_validation == FieldValidation::Strict {
                return Err(invalid(text, &format!("strict decoding error: {}", strict.join(", "))));
            }
            call.warn_all(strict);
        }
        if !call.is_scale() {
            typed::default(&mut object, call.definition);
        }
        fields::record(call, Some(old), &mut object, manager);
        Ok(object)
    }

    fn server_side_apply(
        &mut self,
        call: &mut Call,
        live: Option<&Node>,
        options: &WriteOptions,
        manager: &str,
    ) -> StatusResult<Node> {
        let parsed = self.parsed.as_ref().map_err(Status::clone)?;
        let mut object = fields::apply(call, live, &parsed.node, manager, options.force)?;
        let custom = call.definition.is_custom() && !call.is_scale();
        typed::decode(&mut object, &schema(call)?, custom, None).map_err(|why| Status::new(500, "", why))?;
        if !call.is_scale() {
            typed::default(&mut object, call.definition);
        }
        if options.field_validation != FieldValidation::Ignore && !parsed.duplicates.is_empty() {
            let strict = strict_errors(&parsed.duplicates, Vec::new(), true);
            if options.field_validation == FieldValidation::Strict {
                return Err(Status::bad_request(format!(
                    "error strict decoding YAML: {}",
                    strict.join(", ")
                )));
            }
            call.warn_all(strict);
        }
        Ok(object)
    }
}

/// The schema of the body: the object's, or the subresource's own.
pub fn schema(call: &Call) -> StatusResult<Schema> {
    match call.subresource.filter(|_| !call.is_status()) {
        None => Ok(call.definition.schema.clone()),
        Some(subresource) => {
            let missing = || Status::internal(format!("the subresource {} has no schema", subresource.name));
            subresource.schema.clone().ok_or_else(missing)
        }
    }
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
    if version.is_empty() || kind.is_empty() {
        return Ok(());
    }
    Err(format!(
        "no kind {} is registered for version {} in scheme {}",
        fairlead_api::field::go_quote(kind),
        fairlead_api::field::go_quote(version),
        fairlead_api::field::go_quote(call.engine.config.scheme.name(&expected))
    ))
}

/// COMPAT: a patched object as upstream shows it: members sorted at the top, in declared order below.
fn patched_text(call: &Call, object: &Node, schema: &Schema) -> String {
    if call.definition.is_custom() {
        return json::to_string(object);
    }
    let Node::Map(members) = object else {
        return json::to_string(object);
    };
    let root = schema.root();
    let mut text = String::from("{");
    for (i, (key, value)) in members.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        text.push_str(&json::to_string(&Node::String(key.clone())));
        text.push(':');
        match root.member(key) {
            Some(member) => text.push_str(&fairlead_schema::go_json(value, member)),
            None => text.push_str(&json::to_string(value)),
        }
    }
    text.push('}');
    text
}
