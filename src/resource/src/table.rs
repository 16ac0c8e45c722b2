//! `meta.k8s.io Table`: rows of cells for people to read.
// PERFORMANCE: per-request path

mod scale;

use crate::assembled::Assembled;
use crate::call::Call;
use crate::definition::{Column, ResourceDefinition};
use crate::jsonpath::{self, JsonPath};
use crate::request::{MetaVersion, Request};
use crate::view::{self, partial, partial_head};
use bytes::Bytes;
use fairlead_api::{FieldError, FieldPath, Node, Status, StatusResult, Timestamp, json};
use fairlead_storage::{Cached, Cells};
use std::hash::{DefaultHasher, Hash, Hasher};

/// `includeObject`: what of the object stands in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

/// A table that is being filled.
pub struct Table<'a> {
    definition: &'a ResourceDefinition,
    content: Content,
    version: MetaVersion,
    include: Include,
    now_seconds: i64,
    paths: Vec<Option<JsonPath>>,
    pub metadata: Node,
    rows: Vec<Node>,
    /// Tells cells of these columns from others'.
    columns: u64,
}

/// What the rows are of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Objects,
    /// The Scales of objects.
    Scales,
}

impl Include {
    /// # Errors
    /// BadRequest, in upstream's words.
    pub fn parse(request: &Request) -> StatusResult<Include> {
        match request.query("includeObject").unwrap_or("") {
            "" | "Metadata" => Ok(Include::Metadata),
            "Object" => Ok(Include::Object),
            "None" => Ok(Include::None),
            other => {
                let detail = "must be 'Metadata', 'Object', 'None', or empty";
                let error = FieldError::invalid(&FieldPath::new("includeObject"), other, detail);
                Err(Status::bad_request(format!(
                    "Unable to convert to Table as requested: {error}"
                )))
            }
        }
    }
}

impl<'a> Table<'a> {
    pub fn new(call: &Call<'a>, version: MetaVersion, include: Include) -> Table<'a> {
        Table::of(
            call.definition,
            version,
            include,
            call.engine.config.clock.now().unix_seconds(),
        )
    }

    /// A table of an object's Scale.
    pub fn of_scale(call: &Call<'a>, version: MetaVersion, include: Include) -> Table<'a> {
        let content = Content::Scales;
        Table {
            content,
            ..Table::new(call, version, include)
        }
    }

    pub fn of(
        definition: &'a ResourceDefinition,
        version: MetaVersion,
        include: Include,
        now_seconds: i64,
    ) -> Table<'a> {
        let compile = |column: &Column| {
            if column.json_path.is_empty() {
                None
            } else {
                JsonPath::parse(&column.json_path).ok()
            }
        };
        let paths = definition.columns.iter().map(compile).collect();
        Table {
            definition,
            content: Content::Objects,
            version,
            include,
            now_seconds,
            paths,
            metadata: Node::map(),
            rows: Vec::new(),
            columns: identity(definition),
        }
    }

    /// The row of a cached object in the definition's version, as JSON: its cells, and what is shown of it. Cells are
    /// kept with the object for as long as they read the same.
    ///
    /// # Errors
    /// Internal, where what is cached is not JSON.
    pub fn row(&self, object: &Cached) -> StatusResult<[Bytes; 2]> {
        let cells = match object.forms.cells(self.columns, self.now_seconds) {
            Some(cells) => cells,
            None => {
                let node = json::parse(&object.json.text()).map_err(Status::internal)?;
                let cells = self.cells(&node, self.now_seconds);
                let until = self.now_seconds + self.lasts(&node, &cells);
                let mut json = json::to_vec(&Node::List(cells));
                if let Some(conditions) = self.definition.hooks.row_conditions(&node) {
                    json.extend_from_slice(b",\"conditions\":");
                    json.extend_from_slice(&json::to_vec(&conditions));
                }
                let json = Bytes::from(json);
                object.forms.keep_cells(Cells {
                    columns: self.columns,
                    valid: (self.now_seconds, until),
                    json: json.clone(),
                });
                json
            }
        };
        let shown = match self.include {
            Include::None => Bytes::from_static(b"null"),
            Include::Object => Bytes::from(&object.json),
            Include::Metadata => view::metadata(object, self.definition),
        };
        Ok([cells, shown])
    }

    /// For how many seconds cells certainly read the same: ages grow, so that what reads the same then does so until then.
    fn lasts(&self, object: &Node, cells: &[Node]) -> i64 {
        let same = |seconds: &&i64| self.cells(object, self.now_seconds + **seconds) == cells;
        LASTS.iter().take_while(same).last().copied().unwrap_or(0)
    }

    fn cells(&self, object: &Node, now_seconds: i64) -> Vec<Node> {
        if self.content == Content::Scales {
            return scale::cells(object, now_seconds, self.definition.is_custom());
        }
        match self.definition.hooks.row(object, now_seconds) {
            Some(cells) => cells,
            None if self.definition.columns.is_empty() => default_cells(object),
            None => {
                let columns = self.definition.columns.iter().zip(&self.paths);
                let custom = self.definition.is_custom();
                columns
                    .map(|(column, path)| cell(column, path.as_ref(), object, now_seconds, custom))
                    .collect()
            }
        }
    }

    /// The table with these rows and no others.
    pub fn assemble(self, items: Vec<[Bytes; 2]>) -> Assembled {
        let definitions = Node::List(self.headers());
        let (shown, end) = match self.include {
            Include::Metadata => (partial_head(self.version), "}}"),
            Include::None | Include::Object => (String::new(), "}"),
        };
        let before = [("columnDefinitions", &definitions)];
        Assembled {
            head: Assembled::open("Table", self.version.api_version(), &self.metadata, &before, "rows"),
            around: ["{\"cells\":".into(), format!(",\"object\":{shown}"), end.into()],
            items,
            tail: "]}",
        }
    }

    /// Appends the row of an object in the definition's version.
    pub fn push(&mut self, object: &Node) {
        let cells = self.cells(object, self.now_seconds);
        // An initial-events-end bookmark shows its metadata, whatever is asked for.
        let include = match self.include {
            Include::None if is_bookmark(object) => Include::Metadata,
            include => include,
        };
        let shown = match include {
            Include::None => Node::Null,
            Include::Metadata => partial(object, self.version, self.definition),
            Include::Object => object.clone(),
        };
        let mut row = Node::map();
        row.set("cells", cells);
        if let Some(conditions) = self.definition.hooks.row_conditions(object) {
            row.set("conditions", conditions);
        }
        row.set("object", shown);
        self.rows.push(row);
    }

    fn headers(&self) -> Vec<Node> {
        match self.content {
            Content::Objects => definitions(self.definition),
            Content::Scales => scale::headers(self.definition.is_custom()),
        }
    }

    /// The table. Only the first one of a watch has headers.
    pub fn finish(self, headers: bool) -> Node {
        let headers = match headers {
            true => Node::List(self.headers()),
            false => Node::Null,
        };
        let mut table = Node::map();
        table.set("kind", "Table");
        table.set("apiVersion", self.version.api_version());
        table.set("metadata", self.metadata);
        table.set("columnDefinitions", headers);
        table.set("rows", self.rows);
        table
    }
}

/// What the kept cells of an object are known by: they outlive changes of a custom resource's columns.
pub(crate) fn identity(definition: &ResourceDefinition) -> u64 {
    let mut hasher = DefaultHasher::new();
    definition.version.hash(&mut hasher);
    for column in &definition.columns {
        (&column.json_path, &column.type_name, &column.format).hash(&mut hasher);
    }
    hasher.finish()
}

fn is_bookmark(object: &Node) -> bool {
    object
        .annotations()
        .is_some_and(|a| a.contains_key(crate::watch::INITIAL_EVENTS_END))
}

fn definitions(definition: &ResourceDefinition) -> Vec<Node> {
    if definition.columns.is_empty() {
        return DEFAULT_COLUMNS
            .iter()
            .map(|(name, type_name, format, description)| header(name, type_name, format, description, 0))
            .collect();
    }
    let columns = definition.columns.iter();
    columns
        .map(|c| header(&c.name, &c.type_name, &c.format, &c.description, c.priority))
        .collect()
}

fn header(name: &str, type_name: &str, format: &str, description: &str, priority: i64) -> Node {
    let mut node = Node::map();
    node.set("name", name);
    node.set("type", type_name);
    node.set("format", format);
    node.set("description", description);
    node.set("priority", priority);
    node
}

fn default_cells(object: &Node) -> Vec<Node> {
    let created = object.str_at(&["metadata", "creationTimestamp"]);
    let created = if created.is_empty() {
        "0001-01-01T00:00:00Z"
    } else {
        created
    };
    vec![Node::string(object.name()), Node::string(created)]
}

/// A cell whose column is a JSONPath.
///
/// COMPAT: the ages of built-in kinds are strings, and their dates are dates; the dates of custom resources are ages.
fn cell(column: &Column, path: Option<&JsonPath>, object: &Node, now_seconds: i64, custom: bool) -> Node {
    let Some(value) = path.and_then(|path| path.find(object).into_iter().next()) else {
        return if !custom && column.json_path == CREATED {
            Node::from(age("", now_seconds))
        } else {
            Node::Null
        };
    };
    match (column.type_name.as_str(), value) {
        (_, Node::Null) => Node::Null,
        ("string", Node::String(text)) if !custom && column.json_path == CREATED => Node::from(age(text, now_seconds)),
        ("string", value) => Node::from(jsonpath::text(value)),
        ("integer", Node::Int(i)) => Node::Int(*i),
        ("integer", Node::Float(f)) => Node::Int(*f as i64),
        ("number", value @ (Node::Int(_) | Node::Float(_))) => value.clone(),
        ("boolean", Node::Bool(b)) => Node::Bool(*b),
        ("date", Node::String(text)) if custom => Node::from(age(text, now_seconds)),
        ("date", Node::String(text)) => Node::String(text.clone()),
        _ => Node::Null,
    }
}

fn age(time: &str, now_seconds: i64) -> String {
    match Timestamp::parse(time) {
        Some(time) => human_duration(now_seconds - time.unix_seconds()),
        None if time.is_empty() => "<unknown>".into(),
        None => "<invalid>".into(),
    }
}

/// How long something has lasted, in two units at most: `5m30s`, `3d4h`, `2y`.
///
/// Source: kubernetes/apimachinery pkg/util/duration/duration.go (HumanDuration).
pub fn human_duration(seconds: i64) -> String {
    match seconds {
        ..-1 => return "<invalid>".into(),
        -1..0 => return "0s".into(),
        _ => {}
    }
    let (minutes, hours, days, years) = (seconds / 60, seconds / 3600, seconds / 86_400, seconds / 86_400 / 365);
    let pair = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{small_unit}")
        }
    };
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        pair(minutes, "m", seconds % 60, "s")
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        pair(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 24 * 8 {
        pair(days, "d", hours % 24, "h")
    } else if hours < 24 * 365 * 2 {
        format!("{days}d")
    } else if hours < 24 * 365 * 8 {
        pair(years, "y", days % 365, "d")
    } else {
        format!("{years}y")
    }
}

/// Tried in order; the last one bounds how long a row is kept unseen.
const LASTS: [i64; 4] = [1, 4, 16, 64];

const CREATED: &str = ".metadata.creationTimestamp";

/// Of kinds that declare none.
const DEFAULT_COLUMNS: [(&str, &str, &str, &str); 2] = [
    ("Name", "string", "name", NAME_DESCRIPTION),
    ("Created At", "date", "", CREATED_DESCRIPTION),
];

/// COMPAT: clients see these sentences in every table.
pub const NAME_DESCRIPTION: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
/// See [`NAME_DESCRIPTION`].
pub const CREATED_DESCRIPTION: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_upstream() {
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (330, "5m30s"),
            (3600, "60m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (47 * 3600, "47h"),
            (2 * 86_400 + 3600, "2d1h"),
            (10 * 86_400, "10d"),
            (800 * 86_400, "2y70d"),
            (9 * 365 * 86_400, "9y"),
        ] {
            assert_eq!(human_duration(seconds), expected, "{seconds}");
        }
    }
}
