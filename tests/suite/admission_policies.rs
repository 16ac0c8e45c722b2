//! Admission policies as an operator meets them: checked when they are written, in force at once, gone at once.

use anyhow::{Result, ensure};
use fairlead_tests::has;
use fairlead_tests::server::Server;
use fairlead_tests::tools::{Kubectl, kubectl};

const RULES: &str =
    "{resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}]}";

#[test]
fn policies_are_in_force_at_once() -> Result<()> {
    let Some(program) = kubectl() else {
        fairlead_tests::skip("this needs kubectl");
        return Ok(());
    };
    let server = Server::start(&["--controllers="])?;
    let k = Kubectl::new(program, &server);
    let policy = |expression: &str| {
        format!(
            "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: few-keys}}
spec:
  paramKind: {{apiVersion: v1, kind: ConfigMap}}
  matchConstraints: {RULES}
  matchConditions: [{{name: not-the-limit, expression: \"object.metadata.name != 'limit'\"}}]
  variables: [{{name: keys, expression: size(object.data)}}]
  validations:
  - expression: {expression}
    messageExpression: \"'at most ' + params.data.max + ' keys, not ' + string(variables.keys)\"
    reason: Forbidden
"
        )
    };
    let wrong = k.refused(&["create", "-f", "-"], &policy("variables.m < 1"))?;
    has(
        &wrong,
        "spec.validations[0].expression: Invalid value: \"variables.m < 1\": compilation failed",
    )?;
    has(&wrong, "undefined field 'm'")?;

    k.run(&["create", "configmap", "limit", "--from-literal=max=1"])?;
    k.feed(
        &["create", "-f", "-"],
        &policy("variables.keys <= int(params.data.max)"),
    )?;
    k.run(&[
        "create",
        "configmap",
        "unbound",
        "--from-literal=a=1",
        "--from-literal=b=2",
    ])?;
    let binding = |action: &str| {
        format!(
            "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: few-keys}}
spec:
  policyName: few-keys
  validationActions: [{action}]
  paramRef: {{name: limit, namespace: default, parameterNotFoundAction: Deny}}
"
        )
    };
    k.feed(&["create", "-f", "-"], &binding("Deny"))?;
    let two = ["create", "configmap", "two", "--from-literal=a=1", "--from-literal=b=2"];
    has(
        &k.refused(&two, "")?,
        "ValidatingAdmissionPolicy 'few-keys' with binding 'few-keys' denied request: at most 1 keys, not 2",
    )?;
    k.run(&["create", "configmap", "one", "--from-literal=a=1"])?;

    k.feed(&["apply", "-f", "-"], &binding("Warn"))?;
    let warned = k.command(&two).output()?;
    ensure!(warned.status.success(), "a warning refuses nothing");
    has(
        &String::from_utf8_lossy(&warned.stderr),
        "Warning: Validation failed for ValidatingAdmissionPolicy",
    )?;
    k.run(&["delete", "configmap", "two"])?;

    k.feed(&["apply", "-f", "-"], &binding("Deny"))?;
    k.run(&["patch", "configmap", "limit", "-p", "{\"data\":{\"max\":\"2\"}}"])?;
    k.run(&two)?;
    Ok(())
}

#[test]
fn objects_are_changed_on_their_way() -> Result<()> {
    let Some(program) = kubectl() else {
        fairlead_tests::skip("this needs kubectl");
        return Ok(());
    };
    let server = Server::start(&["--controllers="])?;
    let k = Kubectl::new(program, &server);
    let policy = |name: &str, mutation: &str| {
        format!(
            "---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {{name: {name}}}
spec:
  matchConstraints: {RULES}
  reinvocationPolicy: Never
  mutations: [{mutation}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {{name: {name}}}
spec: {{policyName: {name}}}
"
        )
    };
    let apply = "{patchType: ApplyConfiguration, applyConfiguration: {expression: \
                 \"Object{metadata: Object.metadata{labels: {'made-in': request.namespace}}}\"}}";
    let patch = "{patchType: JSONPatch, jsonPatch: {expression: \
                 \"[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: object.metadata.labels['made-in']}]\"}}";
    k.feed(
        &["create", "-f", "-"],
        &(policy("a-label", apply) + &policy("b-key", patch)),
    )?;
    k.run(&["create", "configmap", "made", "--from-literal=a=1"])?;
    let made = k.run(&[
        "get",
        "configmap",
        "made",
        "-o",
        "jsonpath={.metadata.labels.made-in} {.metadata.labels.a/b}",
    ])?;
    ensure!(made == "default default", "{made}");
    k.run(&["delete", "mutatingadmissionpolicybinding", "b-key"])?;
    k.run(&["create", "configmap", "later", "--from-literal=a=1"])?;
    let later = k.run(&[
        "get",
        "configmap",
        "later",
        "-o",
        "jsonpath={.metadata.labels.made-in} {.metadata.labels.a/b}",
    ])?;
    ensure!(later == "default ", "{later}");
    Ok(())
}
