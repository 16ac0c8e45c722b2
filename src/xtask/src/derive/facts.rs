//! `fields.tsv`: every field of every versioned type.

use super::PACKAGES;
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::path::Path;

#[derive(Default)]
pub struct Facts {
    types: HashMap<(String, String), FactType>,
}

#[derive(Default)]
pub struct FactType {
    pub fields: Vec<FactField>,
    /// The embedded types, except `TypeMeta`.
    pub inline: Vec<Expression>,
    pub inline_numbers: Vec<u32>,
    /// Has apiVersion and kind.
    pub object: bool,
    pub atomic: bool,
    /// Of a named type that is no struct.
    pub alias: Option<Expression>,
}

pub struct FactField {
    pub name: String,
    pub expression: Expression,
    pub omit_empty: bool,
    pub omit_zero: bool,
    pub number: u32,
    pub patch: String,
    pub merge_key: String,
    pub markers: Vec<String>,
}

/// A Go type expression: `*T`, `[]T`, `map[K]T` around a base name.
#[derive(Clone, Debug, Default)]
pub struct Expression {
    pub pointer: bool,
    /// From the outside in: `[` for a list, `{` for a map.
    pub wraps: Vec<char>,
    pub base: String,
    /// The key type of the outermost map.
    pub key: String,
}

impl Facts {
    pub fn read(path: &Path) -> Result<Facts> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let mut facts = Facts::default();
        for line in text.lines().skip(1) {
            let columns: Vec<&str> = line.split('\t').collect();
            let [api, name, field, expression, omit, wire, patch, markers] = columns[..] else {
                anyhow::bail!("a line of {} columns: {line}", columns.len());
            };
            let ty = facts.types.entry((api.to_owned(), name.to_owned())).or_default();
            let markers: Vec<String> = markers
                .split(" ; ")
                .filter(|m| !m.is_empty())
                .map(str::to_owned)
                .collect();
            let number = wire.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            match (field, omit) {
                ("", "inline") if expression.ends_with("TypeMeta") => ty.object = true,
                ("", "inline") => {
                    ty.inline.push(Expression::parse(expression));
                    ty.inline_numbers.push(number);
                }
                ("", _) if expression == "struct" => ty.atomic |= markers.iter().any(|m| m == "+structType=atomic"),
                ("", _) => ty.alias = Some(Expression::parse(expression)),
                _ => {
                    let (patch, merge_key) = patch.split_once(' ').unwrap_or((patch, ""));
                    ty.fields.push(FactField {
                        name: field.to_owned(),
                        expression: Expression::parse(expression),
                        omit_empty: omit.contains("omit"),
                        omit_zero: omit.contains("omitzero"),
                        number,
                        patch: patch.to_owned(),
                        merge_key: merge_key.to_owned(),
                        markers,
                    });
                }
            }
        }
        Ok(facts)
    }

    pub fn get(&self, api: &str, name: &str) -> Option<&FactType> {
        self.types.get(&(api.to_owned(), name.to_owned()))
    }

    /// Where a base name of package `api` is declared; `None` for Go's own and the special types.
    pub fn named(&self, api: &str, base: &str) -> Option<(&'static str, String)> {
        let (alias, name) = base.split_once('.').unwrap_or(("", base));
        let candidates: &[&str] = match alias {
            "" => &[api],
            "v1" => &["core/v1", "meta/v1"],
            "metav1" => &["meta/v1"],
            "corev1" | "apiv1" => &["core/v1"],
            "authenticationv1" => &["authentication/v1"],
            "autoscalingv1" => &["autoscaling/v1"],
            _ => &[],
        };
        let found = candidates
            .iter()
            .find(|api| self.types.contains_key(&((**api).to_owned(), name.to_owned())))?;
        let package = PACKAGES.iter().find(|p| p.api == *found)?;
        (!special(&format!("{found}.{name}"))).then(|| (package.api, name.to_owned()))
    }

    /// Whether a type has a wire form of its own.
    pub fn special(&self, api: &str, name: &str) -> bool {
        special(&format!("{api}.{name}"))
    }

    /// The item type of an ordinary `…List` kind, whose shape needs no declaration.
    pub fn list_of(&self, api: &str, name: &str) -> Option<&str> {
        let ty = self.get(api, name)?;
        let [metadata, items] = &ty.fields[..] else { return None };
        let ordinary = ty.object
            && metadata.name == "metadata"
            && metadata.expression.base.ends_with("ListMeta")
            && metadata.omit_empty
            && items.name == "items"
            && (metadata.number, items.number) == (1, 2)
            && name.strip_suffix("List") == Some(items.expression.base.as_str());
        ordinary.then_some(items.expression.base.as_str())
    }
}

/// Types with a wire form of their own.
fn special(name: &str) -> bool {
    matches!(
        name,
        "meta/v1.Time" | "meta/v1.MicroTime" | "meta/v1.Duration" | "meta/v1.FieldsV1"
    )
}

impl Expression {
    pub fn parse(text: &str) -> Expression {
        let mut expression = Expression::default();
        let mut rest = text;
        if let Some(inner) = rest.strip_prefix('*') {
            expression.pointer = true;
            rest = inner;
        }
        while rest != "[]byte" {
            if let Some(inner) = rest.strip_prefix("[]") {
                expression.wraps.push('[');
                rest = inner;
            } else if let Some((key, inner)) = rest.strip_prefix("map[").and_then(|r| r.split_once(']')) {
                expression.wraps.push('{');
                if expression.key.is_empty() {
                    expression.key = key.to_owned();
                }
                rest = inner;
            } else {
                break;
            }
        }
        expression.base = rest.to_owned();
        expression
    }
}

impl FactField {
    /// The value of the marker `name=`, e.g. `+listType`.
    pub fn marker(&self, name: &str) -> Option<&str> {
        self.markers
            .iter()
            .find_map(|m| m.strip_prefix(name)?.strip_prefix('='))
    }

    pub fn marker_values(&self, name: &str) -> Vec<&str> {
        self.markers
            .iter()
            .filter_map(|m| m.strip_prefix(name)?.strip_prefix('='))
            .collect()
    }
}
