//! The hooks of custom resources, and of CustomResourceDefinitions themselves.

use crate::lifecycle::{self, Lifecycle};
use crate::objects::{self, Part};
use crate::rules::RuleTable;
use crate::{names, validation};
use fairlead_api::{FieldErrors, Node, Status, StatusResult};
use fairlead_resource::{Engine, HookContext, Hooks, Request, Verb};
use fairlead_schema::{RuleEvaluator, Schema};
use futures_util::future::BoxFuture;
use std::sync::{Arc, Weak};

/// What custom resources need beyond decoding and defaults.
pub struct CustomHooks {
    rules: Option<RuleTable>,
    /// Set while the definition is being deleted: the last object to go takes it along.
    terminating: Option<Weak<Lifecycle>>,
}

impl CustomHooks {
    pub fn new(schema: &Schema, terminating: Option<Weak<Lifecycle>>) -> CustomHooks {
        CustomHooks {
            rules: RuleTable::new(schema),
            terminating,
        }
    }

    fn check(&self, object: &Node, old: Option<&Node>, part: Part, context: &HookContext, errors: &mut FieldErrors) {
        let mut evaluator = self.rules.as_ref().map(RuleTable::evaluator);
        let rules = evaluator.as_mut().map(|e| e as &mut dyn RuleEvaluator);
        objects::check(object, old, part, context.definition, rules, errors);
    }
}

impl Hooks for CustomHooks {
    fn advertised(&self, verb: Verb) -> bool {
        self.terminating.is_none() || !matches!(verb, Verb::Create | Verb::Patch | Verb::Update)
    }

    fn permit<'a>(
        &'a self,
        object: &'a Node,
        old: Option<&'a Node>,
        context: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<()>> {
        let result = if old.is_none() && self.terminating.is_some() {
            let why = "create not allowed while custom resource definition is terminating";
            Err(Status::forbidden(
                &context.definition.group_resource(),
                object.name(),
                why,
            ))
        } else {
            Ok(())
        };
        Box::pin(std::future::ready(result))
    }

    fn after_write<'a>(&'a self, request: &'a Request, engine: &'a Engine) -> BoxFuture<'a, ()> {
        match self.terminating.as_ref().and_then(Weak::upgrade) {
            Some(lifecycle) => Box::pin(async move { follow(&lifecycle, request, engine).await }),
            None => Box::pin(std::future::ready(())),
        }
    }

    fn validate_create(&self, object: &Node, context: &HookContext, errors: &mut FieldErrors) {
        self.check(object, None, Part::Whole, context, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, context: &HookContext, errors: &mut FieldErrors) {
        self.check(object, Some(old), Part::Whole, context, errors);
    }

    fn validate_status(&self, object: &Node, old: &Node, context: &HookContext, errors: &mut FieldErrors) {
        self.check(object, Some(old), Part::Status, context, errors);
    }

    fn warnings(&self, object: &Node, old: Option<&Node>, context: &HookContext) -> Vec<String> {
        let rules = self.rules.as_ref().zip(old);
        let mut warnings = rules.map_or_else(Vec::new, |(rules, old)| {
            rules.warnings(object, old, context.definition.schema.root())
        });
        warnings.extend(objects::finalizer_warnings(object, old));
        warnings
    }
}

/// Lets the lifecycle follow a write. Its own writes come back here; those of other loops (garbage collection) count.
async fn follow(lifecycle: &Lifecycle, request: &Request, engine: &Engine) {
    if request.internal && request.user_agent == lifecycle::MANAGER {
        return;
    }
    if let Err(status) = lifecycle.sync(engine).await {
        tracing::warn!(%status, "custom resource definitions could not be brought in line");
    }
}

/// The hooks of the resource `customresourcedefinitions`.
pub struct DefinitionHooks {
    pub lifecycle: Arc<Lifecycle>,
}

impl DefinitionHooks {
    /// Fills in what a definition need not say.
    pub(crate) fn fill_in(crd: &mut Node) {
        let kind = crd.str_at(&["spec", "names", "kind"]).to_owned();
        if !kind.is_empty() {
            for (field, value) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
                if crd.str_at(&["spec", "names", field]).is_empty() {
                    crd.set_at(&["spec", "names", field], value);
                }
            }
        }
        if crd.at(&["spec", "conversion"]).is_none() {
            crd.set_at(&["spec", "conversion", "strategy"], "None");
        }
        if let Some(service) = crd.at_mut(&["spec", "conversion", "webhook", "clientConfig", "service"])
            && service.get("port").is_none()
        {
            service.set("port", 443i64);
        }
    }
}

impl Hooks for DefinitionHooks {
    fn prints_status(&self) -> bool {
        false
    }

    fn default(&self, crd: &mut Node) {
        DefinitionHooks::fill_in(crd);
        if crd.get("status").is_some_and(|s| s.list("storedVersions").is_empty()) {
            crd.set_at(&["status", "storedVersions"], names::stored_versions(crd));
        }
    }

    fn after_write<'a>(&'a self, request: &'a Request, engine: &'a Engine) -> BoxFuture<'a, ()> {
        Box::pin(follow(&self.lifecycle, request, engine))
    }

    /// The first delete only marks a definition.
    fn keeps_after_delete(&self, crd: &Node) -> bool {
        crd.deletion_timestamp().is_none()
    }

    fn begin_deletion(&self, crd: &mut Node) {
        lifecycle::begin_deletion(crd);
    }

    fn prepare_create(&self, crd: &mut Node, _: &HookContext) {
        let status = names::initial_status(crd);
        crd.set("status", status);
        crd.set_at(&["metadata", "generation"], 1i64);
    }

    fn prepare_update(&self, crd: &mut Node, old: &Node, _: &HookContext) {
        if let Some(status) = old.get("status") {
            crd.set("status", status.clone());
        }
        // A version that becomes the stored one is recorded, so that it is never removed while objects may be in it.
        let stored = crate::versions(crd)
            .find(|v| v.get("storage").and_then(Node::as_bool) == Some(true))
            .map(|v| Node::from(v.str("name")));
        let list = crd.make_at(&["status", "storedVersions"]);
        if let (Some(stored), Some(list)) = (stored, list.as_list_mut())
            && !list.contains(&stored)
        {
            list.push(stored);
        }
    }

    fn validate_create(&self, crd: &Node, _: &HookContext, errors: &mut FieldErrors) {
        errors.extend(validation::create(crd));
    }

    fn validate_update(&self, crd: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        errors.extend(validation::update(crd, old));
    }

    fn validate_status(&self, crd: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        errors.extend(validation::status(crd));
    }

    fn warnings(&self, crd: &Node, old: Option<&Node>, context: &HookContext) -> Vec<String> {
        if context.subresource.is_empty() {
            validation::warnings(crd, old)
        } else {
            Vec::new()
        }
    }
}
