//! Objects in the versions that the owners of their fields speak, on the way through server-side apply.
//!
//! The merge is not async, a conversion webhook is: what it needs converted is noted down, converted, and the merge is
//! done again. Only requests whose object has owners of another version ask a webhook at all.
//! Source of the texts: apiextensions-apiserver pkg/apiserver/conversion/converter.go.
// PERFORMANCE: per-request path

use crate::definition::{Conversion, ResourceDefinition};
use fairlead_api::field::go_quote;
use fairlead_api::{GroupVersion, Node};
use std::cell::RefCell;

/// Conversions of one request.
#[derive(Default)]
pub struct Converted {
    known: Vec<(Asked, Result<Node, String>)>,
    wanted: RefCell<Option<Asked>>,
}

/// An object, and the apiVersion it is wanted in.
#[derive(Clone, PartialEq)]
struct Asked {
    object: Node,
    version: String,
}

impl Converted {
    /// `object` in another version of its kind. Upstream goes by way of the request's version.
    ///
    /// # Errors
    /// Why there is no such object. Where a webhook has to be asked first, [`Converted::learn`] does so.
    pub fn get(&self, definition: &ResourceDefinition, object: &Node, version: &str) -> Result<Node, String> {
        if !definition.is_custom() {
            let mut converted = object.clone();
            if let Conversion::Builtin(convert) = &definition.conversion {
                convert(&mut converted, version);
            }
            converted.set("apiVersion", version);
            return Ok(converted);
        }
        let own = definition.group_version().to_string();
        let from = object.str("apiVersion");
        if from != own && version != own {
            let object = self.one_step(definition, object, &own)?;
            return self.one_step(definition, &object, version);
        }
        self.one_step(definition, object, version)
    }

    fn one_step(&self, definition: &ResourceDefinition, object: &Node, version: &str) -> Result<Node, String> {
        check_versions(definition, object, version)?;
        let is_empty = object.as_map().is_none_or(|members| members.len() <= 2);
        if object.str("apiVersion") == version {
            return Ok(object.clone());
        }
        match &definition.conversion {
            Conversion::Webhook(_) if !is_empty => {}
            _ => {
                let mut converted = object.clone();
                converted.set("apiVersion", version);
                return Ok(converted);
            }
        }
        let asked = Asked {
            object: object.clone(),
            version: version.to_owned(),
        };
        if let Some((_, answer)) = self.known.iter().find(|(known, _)| *known == asked) {
            return answer.clone();
        }
        let why = format!("{} has not been converted", definition.kind);
        self.wanted.replace(Some(asked));
        Err(why)
    }

    /// Asks the webhook for what was missing. Answers whether anything was.
    pub async fn learn(&mut self, definition: &ResourceDefinition) -> bool {
        let Some(asked) = self.wanted.take() else {
            return false;
        };
        let Conversion::Webhook(converter) = &definition.conversion else {
            return false;
        };
        let answer = converter.convert(vec![asked.object.clone()], &asked.version).await;
        let answer = match answer {
            Ok(mut objects) => objects.pop().ok_or_else(|| "the conversion lost the object".to_owned()),
            Err(status) => Err(status.message().to_owned()),
        };
        self.known.push((asked, answer));
        true
    }
}

/// Only versions of the definition are converted between, whether they are served or not.
fn check_versions(definition: &ResourceDefinition, object: &Node, version: &str) -> Result<(), String> {
    let wanted = GroupVersion::parse(version).unwrap_or_default();
    let from = object.type_meta();
    if wanted.group != from.group {
        let version = go_quote(version);
        return Err(format!(
            "{from} is unstructured and is not suitable for converting to {version}"
        ));
    }
    let is_known = |gv: &GroupVersion| gv.group == definition.group && definition.schema_of(&gv.version).is_some();
    if !is_known(&wanted) {
        return Err(format!("request to convert CR to an invalid group/version: {version}"));
    }
    let from = from.group_version();
    match is_known(&from) {
        true => Ok(()),
        false => Err(format!("request to convert CR from an invalid group/version: {from}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{Converter, Origin};
    use fairlead_api::{Status, StatusResult, node};
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Writes down where an object came from, and counts how often it is asked.
    #[derive(Default)]
    struct Noting(AtomicUsize);

    impl Converter for Noting {
        fn convert<'a>(&'a self, objects: Vec<Node>, version: &'a str) -> BoxFuture<'a, StatusResult<Vec<Node>>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let convert = |mut object: Node| {
                if object.get("broken").is_some() {
                    return Err(Status::new(500, "", "broken"));
                }
                let from = object.str("apiVersion").to_owned();
                object.set("from", from);
                object.set("apiVersion", version);
                Ok(object)
            };
            Box::pin(std::future::ready(objects.into_iter().map(convert).collect()))
        }
    }

    fn custom(conversion: Conversion) -> ResourceDefinition {
        let mut definition = crate::tests::definition();
        definition.origin = Origin::Custom("gadgets.example.test".into());
        definition.conversion = conversion;
        let versions = ["v1", "v2", "v3"];
        definition.schemas = versions.map(|v| (v.into(), definition.schema.clone())).into();
        definition
    }

    fn gadget(version: &str) -> Node {
        let mut object = node!({"kind": "Gadget", "spec": {"size": 1}});
        object.set("apiVersion", format!("example.test/{version}"));
        object
    }

    #[test]
    fn a_webhook_is_asked_once_for_each_object_and_by_way_of_the_requests_version() {
        let noting = Arc::new(Noting::default());
        let definition = custom(Conversion::Webhook(noting.clone()));
        let mut converted = Converted::default();
        let object = gadget("v2");
        let wanted = loop {
            let wanted = converted.get(&definition, &object, "example.test/v3");
            if !converted.learn(&definition).now_or_never().expect("nothing waits") {
                break wanted;
            }
        };
        let wanted = wanted.unwrap();
        assert_eq!(
            (wanted.str("apiVersion"), wanted.str("from")),
            ("example.test/v3", "example.test/v1")
        );
        assert_eq!(noting.0.load(Ordering::Relaxed), 2);
        let mut broken = gadget("v1");
        broken.set("broken", true);
        assert!(converted.get(&definition, &broken, "example.test/v2").is_err());
        assert!(converted.learn(&definition).now_or_never().expect("nothing waits"));
        assert_eq!(
            converted.get(&definition, &broken, "example.test/v2"),
            Err("broken".into())
        );
    }

    #[test]
    fn only_versions_of_the_definition_are_converted_between() {
        let definition = custom(Conversion::None);
        let converted = Converted::default();
        let told = |version: &str| {
            converted
                .get(&definition, &gadget("v1"), version)
                .map(|o| o.str("apiVersion").to_owned())
        };
        assert_eq!(told("example.test/v2"), Ok("example.test/v2".into()));
        assert_eq!(
            told("example.test/v9"),
            Err("request to convert CR to an invalid group/version: example.test/v9".into())
        );
        assert_eq!(
            told("other.test/v1"),
            Err(
                "example.test/v1, Kind=Gadget is unstructured and is not suitable for converting to \"other.test/v1\""
                    .into()
            )
        );
    }
}
