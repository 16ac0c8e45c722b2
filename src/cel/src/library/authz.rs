//! Asking the authorizer.
//!
//! Source: kubernetes/apiserver pkg/cel/library/authz.go.
// PERFORMANCE: per-request path

use super::Row;
use crate::value::{EvalError, Extension, Result, Value};
use fairlead_api::name;
use std::fmt;
use std::sync::Arc;

/// Who decides what somebody may do, for one request.
///
/// **Non-guarantees**: a decision may take longer than an evaluation can wait.
pub trait Authority: Send + Sync {
    /// The decision, or `None` where it is not known yet: the evaluation then ends with [`EvalError::Pending`].
    fn rule(&self, question: &Question) -> Option<Ruling>;
}

/// Whether somebody may do something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// Namespace and name of a service account; `None` is the user of the request.
    pub service_account: Option<(String, String)>,
    pub verb: String,
    pub target: Target,
}

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Path(String),
    Resource {
        group: String,
        resource: String,
        subresource: String,
        namespace: String,
        name: String,
        field_selector: String,
        label_selector: String,
    },
}

/// A decision of an authorizer.
#[derive(Clone, Debug, Default)]
pub struct Ruling {
    pub allowed: bool,
    pub reason: String,
    pub error: Option<String>,
}

/// The steps from an authorizer to its decision.
#[derive(Clone)]
pub enum Authz {
    Authorizer(Asker),
    Path(Asker, String),
    Group(Asker, String),
    Resource(Asker, Target),
    Decision(Ruling),
}

/// Whom to ask, and in whose name.
#[derive(Clone)]
pub struct Asker {
    authority: Arc<dyn Authority>,
    service_account: Option<(String, String)>,
}

impl Authz {
    /// What `authorizer` is.
    pub fn authorizer(authority: Arc<dyn Authority>) -> Authz {
        Authz::Authorizer(Asker {
            authority,
            service_account: None,
        })
    }

    /// What `authorizer.requestResource` is.
    pub fn request_resource(authority: Arc<dyn Authority>, target: Target) -> Authz {
        let service_account = None;
        Authz::Resource(
            Asker {
                authority,
                service_account,
            },
            target,
        )
    }

    pub fn type_name(&self) -> &'static str {
        match self {
            Authz::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Authz::Path(..) => "kubernetes.authorization.PathCheck",
            Authz::Group(..) => "kubernetes.authorization.GroupCheck",
            Authz::Resource(..) => "kubernetes.authorization.ResourceCheck",
            Authz::Decision(_) => "kubernetes.authorization.Decision",
        }
    }
}

impl fmt::Debug for Authz {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

pub const FUNCTIONS: &[Row] = &[
    ("path", &[("authorizer_path", "authorizer.(string) -> path")], |args| {
        let (Authz::Authorizer(asker), path) = (of(args)?, text(args, 1)?) else {
            return Err(EvalError::no_such_overload());
        };
        match path.trim() {
            "" => Err(EvalError::new("path must not be empty")),
            _ => made(Authz::Path(asker.clone(), path.to_owned())),
        }
    }),
    (
        "group",
        &[("authorizer_group", "authorizer.(string) -> group")],
        |args| match (of(args)?, text(args, 1)?) {
            (Authz::Authorizer(asker), group) => made(Authz::Group(asker.clone(), group.to_owned())),
            _ => Err(EvalError::no_such_overload()),
        },
    ),
    (
        "serviceAccount",
        &[("authorizer_serviceaccount", "authorizer.(string, string) -> authorizer")],
        service_account,
    ),
    (
        "resource",
        &[("groupcheck_resource", "group.(string) -> resource")],
        |args| {
            let (Authz::Group(asker, group), resource) = (of(args)?, text(args, 1)?) else {
                return Err(EvalError::no_such_overload());
            };
            if resource.trim().is_empty() {
                return Err(EvalError::new("resource must not be empty"));
            }
            let target = Target::Resource {
                group: group.clone(),
                resource: resource.to_owned(),
                subresource: String::new(),
                namespace: String::new(),
                name: String::new(),
                field_selector: String::new(),
                label_selector: String::new(),
            };
            made(Authz::Resource(asker.clone(), target))
        },
    ),
    (
        "subresource",
        &[("resourcecheck_subresource", "resource.(string) -> resource")],
        |args| narrowed(args, |target| target.0),
    ),
    (
        "namespace",
        &[("resourcecheck_namespace", "resource.(string) -> resource")],
        |args| narrowed(args, |target| target.1),
    ),
    (
        "name",
        &[("resourcecheck_name", "resource.(string) -> resource")],
        |args| narrowed(args, |target| target.2),
    ),
    (
        "fieldSelector",
        &[("authorizer_fieldselector", "resource.(string) -> resource")],
        |args| narrowed(args, |target| target.3),
    ),
    (
        "labelSelector",
        &[("authorizer_labelselector", "resource.(string) -> resource")],
        |args| narrowed(args, |target| target.4),
    ),
    (
        "check",
        &[
            ("pathcheck_check", "path.(string) -> decision"),
            ("resourcecheck_check", "resource.(string) -> decision"),
        ],
        check,
    ),
    ("errored", &[("decision_errored", "decision.() -> bool")], |args| {
        Ok(Value::Bool(ruling(args)?.error.is_some()))
    }),
    ("error", &[("decision_error", "decision.() -> string")], |args| {
        Ok(Value::string(ruling(args)?.error.clone().unwrap_or_default()))
    }),
    ("allowed", &[("decision_allowed", "decision.() -> bool")], |args| {
        Ok(Value::Bool(ruling(args)?.allowed))
    }),
    ("reason", &[("decision_reason", "decision.() -> string")], |args| {
        Ok(Value::string(ruling(args)?.reason.clone()))
    }),
];

fn made<'a>(of: Authz) -> Result<Value<'a>> {
    Ok(Value::extension(Extension::Authz(of)))
}

fn of<'v>(args: &'v [Value]) -> Result<&'v Authz> {
    match &args[0] {
        Value::Extension(extension) => match &**extension {
            Extension::Authz(of) => Ok(of),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn text<'v>(args: &'v [Value], place: usize) -> Result<&'v str> {
    args[place].as_str().ok_or_else(EvalError::no_such_overload)
}

fn ruling<'v>(args: &'v [Value]) -> Result<&'v Ruling> {
    match of(args)? {
        Authz::Decision(ruling) => Ok(ruling),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn service_account<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let (Authz::Authorizer(asker), namespace, account) = (of(args)?, text(args, 1)?, text(args, 2)?) else {
        return Err(EvalError::no_such_overload());
    };
    if !name::is_dns1123_subdomain(account).is_empty() {
        return Err(EvalError::new("Invalid service account name"));
    }
    if !name::is_dns1123_label(namespace).is_empty() {
        return Err(EvalError::new("Invalid service account namespace"));
    }
    made(Authz::Authorizer(Asker {
        authority: asker.authority.clone(),
        service_account: Some((namespace.to_owned(), account.to_owned())),
    }))
}

/// The parts of a resource that calls set: subresource, namespace, name, field selector, label selector.
type Parts<'t> = (
    &'t mut String,
    &'t mut String,
    &'t mut String,
    &'t mut String,
    &'t mut String,
);

/// The check with one more part set.
fn narrowed<'a>(args: &[Value<'a>], part: for<'t> fn(Parts<'t>) -> &'t mut String) -> Result<Value<'a>> {
    let (Authz::Resource(asker, target), value) = (of(args)?, text(args, 1)?) else {
        return Err(EvalError::no_such_overload());
    };
    let mut target = target.clone();
    if let Target::Resource {
        subresource,
        namespace,
        name,
        field_selector,
        label_selector,
        ..
    } = &mut target
    {
        *part((subresource, namespace, name, field_selector, label_selector)) = value.to_owned();
    }
    made(Authz::Resource(asker.clone(), target))
}

fn check<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let (asker, target) = match of(args)? {
        Authz::Path(asker, path) => (asker, Target::Path(path.clone())),
        Authz::Resource(asker, target) => (asker, target.clone()),
        _ => return Err(EvalError::no_such_overload()),
    };
    let question = Question {
        service_account: asker.service_account.clone(),
        verb: text(args, 1)?.to_owned(),
        target,
    };
    match asker.authority.rule(&question) {
        Some(ruling) => made(Authz::Decision(ruling)),
        None => Err(EvalError::Pending),
    }
}
