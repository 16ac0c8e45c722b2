//! The hooks of custom resources, and of CustomResourceDefinitions themselves.

use crate::condition::{self, Condition};
use crate::lifecycle::FINALIZER;
use crate::lifecycle::{self, Lifecycle};
use crate::objects::{self, Part};
use crate::rules::RuleTable;
use crate::{names, validation};
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{Engine, HookContext, Hooks, Request};
use fairlead_schema::{RuleEvaluator, Schema};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// What custom resources need beyond decoding and defaults.
pub struct CustomHooks {
    rules: Option<RuleTable>,
}

impl CustomHooks {
    pub fn new(schema: &Schema) -> CustomHooks {
        CustomHooks {
            rules: RuleTable::new(schema),
        }
    }

    fn check(&self, object: &Node, old: Option<&Node>, part: Part, context: &HookContext, errors: &mut FieldErrors) {
        let mut evaluator = self.rules.as_ref().map(RuleTable::evaluator);
        let rules = evaluator.as_mut().map(|e| e as &mut dyn RuleEvaluator);
        objects::check(object, old, part, context.definition, rules, errors);
    }
}

impl Hooks for CustomHooks {
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
    fn default(&self, crd: &mut Node) {
        DefinitionHooks::fill_in(crd);
    }

    /// Until its objects are gone, a definition stays (apiextensions-apiserver pkg/registry/customresourcedefinition).
    fn keeps_after_delete(&self, crd: &Node) -> bool {
        crd.deletion_timestamp().is_none()
    }

    fn begin_deletion(&self, crd: &mut Node) {
        if !crd.finalizers().any(|f| f == FINALIZER) {
            let finalizers: Vec<Node> = crd.finalizers().chain([FINALIZER]).map(Node::from).collect();
            crd.set_at(&["metadata", "finalizers"], finalizers);
        }
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        let terminating = Condition::new("Terminating", true, "InstanceDeletionPending", message);
        condition::set(crd, &terminating, &self.lifecycle.now());
    }

    fn after_write<'a>(&'a self, request: &'a Request, engine: &'a Engine) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            // The lifecycle's own writes come back here; those of other loops (garbage collection) count.
            if request.internal && request.user_agent == lifecycle::MANAGER {
                return;
            }
            if let Err(status) = self.lifecycle.sync(engine).await {
                tracing::warn!(%status, "custom resource definitions could not be brought in line");
            }
        })
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
