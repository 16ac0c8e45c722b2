//! What expressions of admission webhooks and policies may name, and what they must evaluate to.
//!
//! Source: kubernetes/apiserver pkg/admission/plugin/cel/{compile,composition}.go.

use crate::program::{CompileError, Program};
use crate::types::Runtime;
use crate::{Env, LazyValue, Type};
use std::collections::BTreeMap;

/// What one web of match conditions may cost.
pub const MATCH_BUDGET: u64 = 2_500_000;
/// What the validations of one binding may cost.
pub const BUDGET: u64 = 10_000_000;

/// Places of the variables; all have one, declared or not.
pub const OBJECT: usize = 0;
pub const OLD_OBJECT: usize = 1;
pub const NAMESPACE_OBJECT: usize = 2;
pub const REQUEST: usize = 3;
pub const PARAMS: usize = 4;
pub const AUTHORIZER: usize = 5;
pub const REQUEST_RESOURCE: usize = 6;
/// How many places there are.
pub const PLACES: usize = 7;

/// The name of the values that later expressions of a policy may use.
const VARIABLES: &str = "variables";

/// What is declared beside the objects and the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    pub params: bool,
    pub authorizer: bool,
    /// The types that patches are made of.
    pub patches: bool,
}

/// What an expression must evaluate to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Bool,
    String,
    StringOrNull,
    Any,
    /// An `Object`.
    ApplyConfiguration,
    /// A list of `JSONPatch`.
    JsonPatch,
}

/// Why an expression cannot be compiled, in the words clients are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Invalid(String),
    Internal(String),
}

/// Compiles expressions of one object; later ones may use the variables defined before.
#[derive(Debug, Default)]
pub struct Compiler {
    /// Names and types of variables; `None` where there can be none.
    variables: Option<Vec<(String, Type)>>,
}

impl Compiler {
    /// Without variables.
    pub fn plain() -> Compiler {
        Compiler { variables: None }
    }

    /// With the variables that will be defined.
    pub fn composing() -> Compiler {
        Compiler {
            variables: Some(Vec::new()),
        }
    }

    /// # Errors
    /// What is wrong with the expression.
    pub fn compile(&self, text: &str, declared: Declared, output: Output) -> Result<Program, Refusal> {
        let env = self.env(declared);
        let program = Program::compile(text, &env, None).map_err(|error| match error {
            CompileError::Issues(issues) => Refusal::Invalid(format!("compilation failed: {issues}")),
            CompileError::Instantiation(why) => Refusal::Internal(format!("program instantiation failed: {why}")),
        })?;
        match output.refuses(program.output()) {
            Some(why) => Err(Refusal::Invalid(why)),
            None => Ok(program),
        }
    }

    /// Compiles a variable and makes it known, also where it is wrong: what uses it is then not.
    ///
    /// # Errors
    /// What is wrong with the expression.
    pub fn define(&mut self, name: &str, text: &str, declared: Declared) -> Result<LazyValue, (LazyValue, Refusal)> {
        let compiled = self.compile(text, declared, Output::Any);
        let ty = compiled.as_ref().map_or(Type::Dyn, |program| shared(program.output()));
        if let Some(variables) = &mut self.variables {
            variables.push((name.to_owned(), ty));
        }
        let name = name.to_owned();
        match compiled {
            Ok(program) => Ok(LazyValue {
                name,
                program: Ok(program),
            }),
            Err(refusal) => {
                let program = Err(refusal.text().to_owned());
                Err((LazyValue { name, program }, refusal))
            }
        }
    }

    fn env(&self, declared: Declared) -> Env {
        // What is not declared keeps its place under a name that no expression has.
        let when = |declared: bool, name: &'static str| if declared { name } else { "" };
        let authz = |name: &str| Type::object(format!("kubernetes.authorization.{name}"), BTreeMap::new());
        let mut env = Env::new()
            .with("object", Type::Dyn)
            .with("oldObject", Type::Dyn)
            .with("namespaceObject", namespace())
            .with("request", request())
            .with(when(declared.params, "params"), Type::Dyn)
            .with(when(declared.authorizer, "authorizer"), authz("Authorizer"))
            .with(
                when(declared.authorizer, "authorizer.requestResource"),
                authz("ResourceCheck"),
            );
        if declared.patches {
            env = env.with_patches();
        }
        match &self.variables {
            Some(variables) => env.with_lazy(VARIABLES, variables.clone()),
            None => env,
        }
    }
}

impl Refusal {
    pub fn text(&self) -> &str {
        match self {
            Refusal::Invalid(text) | Refusal::Internal(text) => text,
        }
    }
}

impl Output {
    /// Why a result of this type does not do.
    fn refuses(self, found: &Type) -> Option<String> {
        let named = |wanted: &str| matches!(found, Type::Object(object) if object.name == wanted);
        let (fits, wanted) = match self {
            Output::Any => return None,
            Output::Bool => (matches!(found, Type::Bool), "bool"),
            Output::String => (matches!(found, Type::String), "string"),
            Output::StringOrNull => (matches!(found, Type::String | Type::Null), "one of [string null_type]"),
            Output::ApplyConfiguration => (named("Object"), "Object"),
            Output::JsonPatch => {
                let patch = |item: &Type| matches!(item, Type::Object(object) if object.name == "JSONPatch");
                (matches!(found, Type::List(items) if patch(items)), "list(JSONPatch)")
            }
        };
        (!fits).then(|| format!("must evaluate to {wanted} but got {}", Runtime(found)))
    }
}

/// What later expressions know of a variable's type.
fn shared(ty: &Type) -> Type {
    match ty {
        Type::List(items) => Type::list(shared(items)),
        Type::Map(of) => Type::map(shared(&of.0), shared(&of.1)),
        Type::Bool
        | Type::Bytes
        | Type::Double
        | Type::Duration
        | Type::Int
        | Type::Null
        | Type::String
        | Type::Timestamp
        | Type::Uint => ty.clone(),
        _ => Type::Dyn,
    }
}

fn object(name: &str, fields: &[(&str, Type)]) -> Type {
    let fields = fields.iter().map(|(name, ty)| ((*name).to_owned(), ty.clone()));
    Type::object(format!("kubernetes.{name}"), fields.collect())
}

fn request() -> Type {
    let text = || Type::String;
    let kind = object(
        "GroupVersionKind",
        &[("group", text()), ("version", text()), ("kind", text())],
    );
    let resource = object(
        "GroupVersionResource",
        &[("group", text()), ("version", text()), ("resource", text())],
    );
    let user = object(
        "UserInfo",
        &[
            ("username", text()),
            ("uid", text()),
            ("groups", Type::list(text())),
            ("extra", Type::map(text(), Type::list(text()))),
        ],
    );
    object(
        "AdmissionRequest",
        &[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", text()),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", Type::Bool),
            ("options", Type::Dyn),
        ],
    )
}

/// What of a namespace may be named. The fields are as upstream spells them, `UID` included.
fn namespace() -> Type {
    let text = || Type::String;
    let texts = || Type::map(text(), text());
    let condition = object(
        "NamespaceCondition",
        &[
            ("status", text()),
            ("type", text()),
            ("lastTransitionTime", Type::Timestamp),
            ("message", text()),
            ("reason", text()),
        ],
    );
    let metadata = object(
        "NamespaceMetadata",
        &[
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", texts()),
            ("annotations", texts()),
            ("UID", text()),
            ("creationTimestamp", Type::Timestamp),
            ("deletionGracePeriodSeconds", Type::Int),
            ("deletionTimestamp", Type::Timestamp),
            ("generation", Type::Int),
            ("resourceVersion", text()),
            ("finalizers", Type::list(text())),
        ],
    );
    let spec = object("NamespaceSpec", &[("finalizers", Type::list(text()))]);
    let status = object(
        "NamespaceStatus",
        &[("conditions", Type::list(condition)), ("phase", text())],
    );
    object(
        "Namespace",
        &[("metadata", metadata), ("spec", spec), ("status", status)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{EvalError, Extension};
    use crate::{Authority, Authz, Lazy, Question, Ruling, Target, Value};
    use fairlead_api::{Node, node};
    use std::sync::{Arc, Mutex};

    const ALL: Declared = Declared {
        params: true,
        authorizer: true,
        patches: false,
    };

    /// Allows what it has been asked before.
    #[derive(Default)]
    struct Slow(Mutex<Vec<Question>>);

    impl Authority for Slow {
        fn rule(&self, question: &Question) -> Option<Ruling> {
            let mut known = self.0.lock().unwrap();
            if known.contains(question) {
                let allowed = question.verb == "get";
                return Some(Ruling {
                    allowed,
                    ..Ruling::default()
                });
            }
            known.push(question.clone());
            None
        }
    }

    fn refusal(text: &str, declared: Declared, output: Output) -> String {
        let refusal = Compiler::plain().compile(text, declared, output).unwrap_err();
        refusal.text().to_owned()
    }

    #[test]
    fn what_is_not_declared_is_told() {
        let none = Declared::default();
        assert_eq!(
            refusal("authorizer.path('/x')", none, Output::Any),
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'authorizer' (in container '')\n | authorizer.path('/x')\n | ^"
        );
        assert!(refusal("params.x", none, Output::Bool).contains("undeclared reference to 'params'"));
        assert!(refusal("variables.x", ALL, Output::Bool).contains("undeclared reference to 'variables'"));
        assert!(refusal("request.nope == ''", ALL, Output::Bool).contains("undefined field 'nope'"));
        assert!(refusal("jsonpatch.escapeKey('a')", ALL, Output::Any).contains("undeclared reference to 'jsonpatch'"));
    }

    #[test]
    fn outputs_are_exact() {
        assert_eq!(
            refusal("object.spec", ALL, Output::Bool),
            "must evaluate to bool but got dyn"
        );
        assert_eq!(
            refusal("1", ALL, Output::StringOrNull),
            "must evaluate to one of [string null_type] but got int"
        );
        assert_eq!(
            refusal("[duration('1s')]", ALL, Output::String),
            "must evaluate to string but got list(google.protobuf.Duration)"
        );
        let patches = Declared { patches: true, ..ALL };
        assert_eq!(
            refusal("[]", patches, Output::JsonPatch),
            "must evaluate to list(JSONPatch) but got list(dyn)"
        );
        let compiler = Compiler::plain();
        let fits = |text: &str, output| compiler.compile(text, patches, output).is_ok();
        assert!(fits(
            "[JSONPatch{op: 'add', path: '/a' + jsonpatch.escapeKey('b'), value: Object.a{b: 1}}]",
            Output::JsonPatch
        ));
        assert!(fits(
            "Object{spec: Object.spec{replicas: object.spec.replicas + 1}}",
            Output::ApplyConfiguration
        ));
        assert!(!fits("[JSONPatch{operation: 'add'}]", Output::JsonPatch));
        assert!(fits(
            "request.namespace == 'a' && namespaceObject.metadata.labels['x'] == 'y'",
            Output::Bool
        ));
    }

    #[test]
    fn nothing_has_no_fields() {
        let null = Node::Null;
        let values = [Some(Value::untyped(&null))];
        let run = |text: &str| {
            let program = Compiler::plain().compile(text, ALL, Output::Any).unwrap();
            program.run(&values, 1000).value
        };
        assert!(matches!(run("has(object.metadata)"), Ok(Value::Bool(false))));
        assert_eq!(
            run("object.metadata.name").unwrap_err(),
            EvalError::no_such_key("metadata")
        );
        assert_eq!(run("object['a']").unwrap_err(), EvalError::no_such_key("a"));
        assert!(matches!(run("object.?metadata.?name.orValue(1)"), Ok(Value::Int(1))));
        assert_eq!(
            run("params.x").unwrap_err(),
            EvalError::new("no such attribute(s): params")
        );
    }

    #[test]
    fn variables_are_worked_out_once_and_only_when_used() {
        let mut compiler = Compiler::composing();
        let texts = [
            ("n", "size(object.items)"),
            ("bad", "object.nope"),
            ("m", "variables.n + 1"),
        ];
        let values: Vec<LazyValue> = texts
            .iter()
            .map(|(name, text)| compiler.define(name, text, ALL).unwrap())
            .collect();
        let object = node!({"items": [1, 2]});
        let slots = [Some(Value::untyped(&object))];
        let run = |text: &str| {
            let program = compiler.compile(text, ALL, Output::Any).unwrap();
            let lazy = Lazy::new(&values);
            let value = program.run_with(&slots, Some(&lazy), 1000).value;
            (
                value.map(|v| v.as_str().map_or(format!("{v:?}"), str::to_owned)),
                lazy.take_cost(),
            )
        };
        let (value, cost) = run("string(variables.n + variables.n + variables.m)");
        assert_eq!(value.unwrap(), "7");
        assert!(cost > 0);
        assert_eq!(
            run("has(object.x) && variables.bad == 1 ? 'a' : 'b'"),
            (Ok("b".into()), 0)
        );
        assert_eq!(
            run("variables.bad").0.unwrap_err().to_string(),
            "composited variable \"bad\" fails to evaluate: no such key: nope"
        );
        assert_eq!(
            run("variables.?n.orValue(0) == 2 && has(variables.m) ? 'a' : 'b'")
                .0
                .unwrap(),
            "a"
        );
    }

    #[test]
    fn an_evaluation_is_made_again_once_the_authorizer_has_decided() {
        let authority: Arc<Slow> = Arc::default();
        let target = Target::Path("/x".into());
        let mut slots: [Option<Value>; PLACES] = Default::default();
        let place = |authz| Some(Value::extension(Extension::Authz(authz)));
        slots[AUTHORIZER] = place(Authz::authorizer(authority.clone()));
        slots[REQUEST_RESOURCE] = place(Authz::request_resource(authority.clone(), target));
        let text = "authorizer.group('').resource('pods').namespace('n').check('get').allowed() || \
                    authorizer.requestResource.check('get').allowed()";
        let program = Compiler::plain().compile(text, ALL, Output::Bool).unwrap();
        let run = || program.run(&slots, 2_000_000).value;
        assert_eq!(run().unwrap_err(), EvalError::Pending);
        assert!(matches!(run(), Ok(Value::Bool(true))));
        let text = "authorizer.serviceAccount('A', 'b').path('/x').check('get').errored()";
        let program = Compiler::plain().compile(text, ALL, Output::Bool).unwrap();
        assert_eq!(
            program.run(&slots, 2_000_000).value.unwrap_err(),
            EvalError::new("Invalid service account namespace")
        );
    }
}
