//! [`Call`]: one request on its way through the engine, with what it leaves behind beside its answer.
// PERFORMANCE: per-request path

use crate::definition::{ResourceDefinition, Subresource, SubresourceBehavior, Verb};
use crate::engine::Engine;
use crate::hooks::HookContext;
use crate::request::{Recording, Request};
use fairlead_admission::{Attributes, Operation};
use fairlead_api::{GroupResource, GroupVersionKind, Node, Status, StatusResult};
use fairlead_codec::protobuf::Protobuf;
use fairlead_storage::cache::Cache;
use std::sync::Arc;

/// A request for a stored resource, or for a subresource of one.
pub struct Call<'a> {
    pub engine: &'a Engine,
    pub request: &'a Request,
    pub definition: &'a ResourceDefinition,
    pub subresource: Option<&'a Subresource>,
    cache: Option<Cache>,
    /// In order; duplicates are removed at the end.
    pub warnings: Vec<String>,
    pub audit: Vec<(String, String)>,
    /// See [`Request::recording`].
    pub recorded: Option<Node>,
}

impl<'a> Call<'a> {
    /// # Errors
    /// NotFound where there is no such subresource, MethodNotAllowed where it lacks the verb.
    pub fn new(engine: &'a Engine, request: &'a Request) -> StatusResult<Call<'a>> {
        let definition = &*request.definition;
        let subresource = match request.subresource.as_str() {
            "" => None,
            name => Some(definition.subresource(name).ok_or_else(|| no_subresource(request))?),
        };
        let cache = if definition.is_stored() {
            Some(engine.config.caches.cache(&definition.storage)?)
        } else {
            None
        };
        Ok(Call {
            engine,
            request,
            definition,
            subresource,
            cache,
            warnings: Vec::new(),
            audit: Vec::new(),
            recorded: None,
        })
    }

    pub fn is_stored(&self) -> bool {
        self.cache.is_some()
    }

    /// Where the objects are.
    pub fn cache(&self) -> &Cache {
        self.cache
            .as_ref()
            .expect("the dispatcher lets only stored resources through to the verbs that need a cache")
    }

    /// The protobuf form of built-in kinds.
    pub fn protobuf(&self) -> Option<&Protobuf> {
        self.engine.config.scheme.protobuf()
    }

    pub fn hook_context(&self, dry_run: bool) -> HookContext<'_> {
        HookContext {
            definition: self.definition,
            clock: &*self.engine.config.clock,
            entropy: &*self.engine.config.entropy,
            user: &self.request.user,
            namespace: &self.request.namespace,
            subresource: &self.request.subresource,
            dry_run,
        }
    }

    pub fn is_status(&self) -> bool {
        matches!(
            self.subresource,
            Some(Subresource {
                behavior: SubresourceBehavior::Status,
                ..
            })
        )
    }

    /// Whether `status` is written through a subresource of its own.
    pub fn has_status(&self) -> bool {
        self.definition
            .subresources
            .iter()
            .any(|s| matches!(s.behavior, SubresourceBehavior::Status))
    }

    /// The namespace that objects of this request have.
    pub fn object_namespace(&self) -> &'a str {
        if self.definition.namespaced() {
            &self.request.namespace
        } else {
            ""
        }
    }

    pub fn is_scale(&self) -> bool {
        matches!(
            self.subresource,
            Some(Subresource {
                behavior: SubresourceBehavior::Scale { .. },
                ..
            })
        )
    }

    /// The kind of bodies and answers: the resource's, or the subresource's own.
    pub fn kind(&self) -> GroupVersionKind {
        match self.subresource {
            Some(subresource) if !self.is_status() => subresource.kind.clone(),
            _ => self.definition.gvk(),
        }
    }

    pub fn group_resource(&self) -> GroupResource {
        self.definition.group_resource()
    }

    /// The key of the object the path names.
    pub fn key(&self) -> String {
        self.key_of(&self.request.name)
    }

    pub fn key_of(&self, name: &str) -> String {
        if self.definition.namespaced() {
            format!("{}/{name}", self.request.namespace)
        } else {
            name.to_owned()
        }
    }

    /// Refuses paths that leave out the namespace where one object is meant.
    ///
    /// # Errors
    /// BadRequest.
    pub fn require_namespace(&self) -> StatusResult<()> {
        if self.definition.namespaced() && self.request.namespace.is_empty() && self.request.verb != Verb::List {
            return Err(Status::bad_request("namespace may not be empty"));
        }
        Ok(())
    }

    /// Keeps the request's object for its audit event, once it is decoded and before anything else changes it.
    pub fn record(&mut self, object: &Node) {
        self.recorded = match self.request.recording {
            Recording::Nothing => return,
            Recording::Metadata => {
                let mut kept = Node::map();
                kept.set("metadata", object.meta().cloned().unwrap_or_default());
                Some(kept)
            }
            Recording::Object => Some(object.clone()),
        };
    }

    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    pub fn warn_all(&mut self, warnings: Vec<String>) {
        self.warnings.extend(warnings);
    }

    /// What admission is asked about. `object` and `old` are in the request's version (or are the subresource's body).
    pub fn attributes(
        &self,
        operation: Operation,
        object: Node,
        old: Arc<Node>,
        options: Node,
        dry_run: bool,
    ) -> Attributes {
        let name = if self.request.name.is_empty() {
            object.name().into()
        } else {
            self.request.name.clone()
        };
        Attributes {
            operation,
            kind: self.kind(),
            resource: self.definition.gvr(),
            subresource: self.request.subresource.clone(),
            namespace: self.admission_namespace(&name),
            name,
            object,
            old_object: old,
            options,
            dry_run,
            user: self.request.user.clone(),
            warnings: Vec::new(),
            audit: Vec::new(),
            deadline: self.request.deadline,
            reinvocation: Default::default(),
            given_owners: None,
        }
    }

    /// Takes over what admission left beside the object.
    pub fn absorb(&mut self, attributes: &mut Attributes) {
        self.warnings.append(&mut attributes.warnings);
        self.audit.append(&mut attributes.audit);
    }

    /// COMPAT: for the resource that is a namespace, admission sees its own name as the namespace.
    fn admission_namespace(&self, name: &str) -> compact_str::CompactString {
        if self.definition.hooks.is_namespace() {
            name.into()
        } else {
            self.request.namespace.clone()
        }
    }
}

/// COMPAT: custom resources say it of the object.
fn no_subresource(request: &Request) -> Status {
    if request.definition.is_custom() {
        Status::not_found(&request.definition.group_resource(), &request.name)
    } else {
        Status::no_such_resource()
    }
}
