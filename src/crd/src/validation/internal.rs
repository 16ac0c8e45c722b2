//! [`Spec`]: `spec` as kube-apiserver's internal version has it, where what all versions share stands once at the top.
//!
//! Source: apiextensions-apiserver pkg/apis/apiextensions/v1/conversion.go.

use super::props;
use fairlead_api::{FieldPath, Node, json};

/// A v1 `spec`, seen as the internal version.
pub struct Spec<'a> {
    pub node: &'a Node,
    pub versions: Vec<Version<'a>>,
    /// Whether the versions say the same, which then counts as said at the top.
    pub shared: Shared,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Shared {
    pub schema: bool,
    pub subresources: bool,
    pub columns: bool,
    pub selectable: bool,
}

#[derive(Clone, Copy)]
pub struct Version<'a> {
    pub node: &'a Node,
    pub name: &'a str,
}

impl<'a> Spec<'a> {
    pub fn of(crd: &'a Node) -> Spec<'a> {
        let node = crd.get("spec").unwrap_or(&Node::Null);
        let versions: Vec<Version> = node
            .list("versions")
            .iter()
            .map(|node| Version {
                node,
                name: node.str("name"),
            })
            .collect();
        let same = |key: &str| {
            let first = versions
                .first()
                .and_then(|v| v.node.get(key))
                .filter(|v| !is_empty_list(v));
            !versions.is_empty()
                && versions
                    .iter()
                    .all(|v| v.node.get(key).filter(|v| !is_empty_list(v)) == first)
        };
        let shared = Shared {
            schema: same("schema"),
            subresources: same("subresources"),
            columns: same("additionalPrinterColumns"),
            selectable: same("selectableFields"),
        };
        Spec { node, versions, shared }
    }

    pub fn established_versions_have_schemas(&self) -> bool {
        self.versions.iter().all(|v| v.schema().is_some())
    }

    /// Every schema of every version; a shared one once.
    pub fn schemas(&self) -> impl Iterator<Item = &'a Node> {
        let count = if self.shared.schema { 1 } else { self.versions.len() };
        self.versions
            .iter()
            .take(count)
            .filter_map(|v| v.schema())
            .collect::<Vec<_>>()
            .into_iter()
    }

    pub fn any_schema(&self, test: &mut dyn FnMut(&Node) -> bool) -> bool {
        self.schemas().any(|schema| props::any(schema, test))
    }

    /// The first version, where what is shared can be read.
    pub fn first(&self) -> Option<Version<'a>> {
        self.versions.first().copied()
    }

    pub fn version(&self, name: &str) -> Option<Version<'a>> {
        self.versions.iter().find(|v| v.name == name).copied()
    }

    /// `spec.versions` as Go prints the internal type.
    pub fn print_versions(&self) -> String {
        match self.node.get("versions") {
            None | Some(Node::Null) => "null".into(),
            _ => {
                let texts: Vec<String> = self.versions.iter().map(|v| v.print(&self.shared)).collect();
                format!("[{}]", texts.join(","))
            }
        }
    }
}

impl<'a> Version<'a> {
    /// `schema.openAPIV3Schema`.
    pub fn schema(&self) -> Option<&'a Node> {
        self.node.at(&["schema", "openAPIV3Schema"]).filter(|s| !s.is_null())
    }

    pub fn flag(&self, name: &str) -> bool {
        props::flag(self.node, name)
    }

    pub fn has_status(&self) -> bool {
        self.node.at(&["subresources", "status"]).is_some_and(|s| !s.is_null())
    }

    fn print(&self, shared: &Shared) -> String {
        let value = |key: &str| json::to_string(self.node.get(key).unwrap_or(&Node::Null));
        let schema = match self.node.get("schema") {
            Some(schema) if !shared.schema && !schema.is_null() => format!(
                "{{\"OpenAPIV3Schema\":{}}}",
                schema
                    .get("openAPIV3Schema")
                    .filter(|s| !s.is_null())
                    .map_or("null".into(), props::print)
            ),
            _ => "null".into(),
        };
        format!(
            "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{},\"Schema\":{schema},\"Subresources\":{},\"AdditionalPrinterColumns\":{},\"SelectableFields\":{}}}",
            json::to_string(&self.name.into()),
            self.flag("served"),
            self.flag("storage"),
            self.flag("deprecated"),
            value("deprecationWarning"),
            if shared.subresources {
                "null".into()
            } else {
                print_subresources(self.node.get("subresources"))
            },
            if shared.columns {
                "null".into()
            } else {
                print_columns(self.node.get("additionalPrinterColumns"))
            },
            if shared.selectable {
                "null".into()
            } else {
                print_selectable(self.node.get("selectableFields"))
            },
        )
    }
}

fn is_empty_list(node: &Node) -> bool {
    node.is_null() || matches!(node, Node::List(items) if items.is_empty())
}

fn print_subresources(node: Option<&Node>) -> String {
    let Some(node) = node.filter(|n| !n.is_null()) else {
        return "null".into();
    };
    let scale = node
        .get("scale")
        .filter(|s| !s.is_null())
        .map_or("null".into(), |scale| {
            format!(
                "{{\"SpecReplicasPath\":{},\"StatusReplicasPath\":{},\"LabelSelectorPath\":{}}}",
                json::to_string(&scale.str("specReplicasPath").into()),
                json::to_string(&scale.str("statusReplicasPath").into()),
                json::to_string(scale.get("labelSelectorPath").unwrap_or(&Node::Null))
            )
        });
    let status = if node.get("status").is_some_and(|s| !s.is_null()) {
        "{}"
    } else {
        "null"
    };
    format!("{{\"Status\":{status},\"Scale\":{scale}}}")
}

fn print_columns(node: Option<&Node>) -> String {
    let Some(Node::List(columns)) = node else {
        return "null".into();
    };
    let texts: Vec<String> = columns
        .iter()
        .map(|c| {
            let text = |key: &str| json::to_string(&c.str(key).into());
            format!(
                "{{\"Name\":{},\"Type\":{},\"Format\":{},\"Description\":{},\"Priority\":{},\"JSONPath\":{}}}",
                text("name"),
                text("type"),
                text("format"),
                text("description"),
                c.get("priority").and_then(Node::as_i64).unwrap_or(0),
                text("jsonPath")
            )
        })
        .collect();
    format!("[{}]", texts.join(","))
}

fn print_selectable(node: Option<&Node>) -> String {
    let Some(Node::List(fields)) = node else {
        return "null".into();
    };
    let texts: Vec<String> = fields
        .iter()
        .map(|f| format!("{{\"JSONPath\":{}}}", json::to_string(&f.str("jsonPath").into())))
        .collect();
    format!("[{}]", texts.join(","))
}

/// Where a version's part stands in errors: at the top where it is shared.
pub fn place(shared: bool, spec: &FieldPath, index: usize, top: &str, own: &str) -> FieldPath {
    if shared {
        spec.child(top)
    } else {
        spec.child("versions").index(index).child(own)
    }
}
