//! The loops beside the server, through kubectl: what follows from a create or a delete without anybody doing more.

use crate::aggregation::{eventually, registered, registered_again};
use anyhow::{Context, Result, ensure};
use fairlead_tests::server::Server;
use fairlead_tests::tools::{Kubectl, kubectl};
use std::time::{Duration, Instant};

fn session(arguments: &[&str]) -> Result<Option<(Server, Kubectl)>> {
    let Some(program) = kubectl() else {
        fairlead_tests::skip("kubectl is not installed and cannot be built");
        return Ok(None);
    };
    let server = Server::start(arguments)?;
    let kubectl = Kubectl::new(program, &server);
    Ok(Some((server, kubectl)))
}

fn names(k: &Kubectl, resource: &str, namespace: &str) -> Result<Vec<String>> {
    let text = k.run(&["get", resource, "-n", namespace, "-o", "name"])?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Waits until nothing of this name is there.
fn gone(k: &Kubectl, object: &str) -> Result<()> {
    k.run(&["wait", "--for=delete", object, "--timeout=30s"]).map(drop)
}

#[test]
fn a_namespace_is_furnished_and_goes_with_what_it_holds() -> Result<()> {
    let Some((_server, k)) = session(&[])? else {
        return Ok(());
    };
    k.run(&["create", "namespace", "tour"])?;
    k.run(&[
        "wait",
        "--for=create",
        "-n",
        "tour",
        "serviceaccount/default",
        "--timeout=30s",
    ])?;
    k.run(&[
        "wait",
        "--for=create",
        "-n",
        "tour",
        "configmap/kube-root-ca.crt",
        "--timeout=30s",
    ])?;
    let pem = k.run(&[
        "get",
        "-n",
        "tour",
        "configmap/kube-root-ca.crt",
        "-o",
        r"jsonpath={.data.ca\.crt}",
    ])?;
    ensure!(pem.contains("BEGIN CERTIFICATE"), "{pem}");
    k.run(&["run", "-n", "tour", "--image=busybox", "shell"])?;
    k.run(&[
        "create",
        "secret",
        "generic",
        "-n",
        "tour",
        "login",
        "--from-literal=a=b",
    ])?;
    k.run(&["create", "deployment", "-n", "tour", "web", "--image=nginx"])?;
    k.run(&["create", "quota", "-n", "tour", "few", "--hard=secrets=3"])?;
    eventually(|| {
        let used = k.run(&[
            "get",
            "quota",
            "-n",
            "tour",
            "few",
            "-o",
            "jsonpath={.status.used.secrets}",
        ])?;
        ensure!(used == "1", "{used}");
        Ok(())
    })?;
    k.run(&["delete", "namespace", "tour", "--timeout=30s"])?;
    for resource in [
        "pods",
        "secrets",
        "deployments",
        "serviceaccounts",
        "configmaps",
        "resourcequotas",
    ] {
        ensure!(names(&k, resource, "tour")?.is_empty(), "{resource} are left");
    }
    // An empty one goes as fast as it is asked; kubectl's own start and watch are most of this.
    k.run(&["create", "namespace", "brief"])?;
    let begun = Instant::now();
    k.run(&["delete", "namespace", "brief"])?;
    ensure!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    Ok(())
}

#[test]
fn what_waits_in_a_namespace_is_told() -> Result<()> {
    let Some((_server, k)) = session(&[])? else {
        return Ok(());
    };
    k.run(&["create", "namespace", "stuck"])?;
    k.run(&["create", "configmap", "-n", "stuck", "kept"])?;
    k.run(&[
        "patch",
        "configmap",
        "-n",
        "stuck",
        "kept",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":["example.com/wait"]}}"#,
    ])?;
    k.run(&["delete", "namespace", "stuck", "--wait=false"])?;
    k.run(&[
        "wait",
        "--for=condition=NamespaceFinalizersRemaining",
        "namespace/stuck",
        "--timeout=30s",
    ])?;
    let text = k.run(&["get", "namespace", "stuck", "-o", "jsonpath={.status}"])?;
    for word in [
        r#""phase":"Terminating""#,
        "configmaps. has 1 resource instances",
        "example.com/wait in 1 resource instances",
    ] {
        ensure!(text.contains(word), "{word:?} is missing in:\n{text}");
    }
    k.run(&[
        "patch",
        "configmap",
        "-n",
        "stuck",
        "kept",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ])?;
    gone(&k, "namespace/stuck")
}

/// A Deployment, its ReplicaSet and its Pod, as controllers would have made them.
fn chain(k: &Kubectl, name: &str) -> Result<()> {
    k.run(&["create", "deployment", name, "--image=nginx"])?;
    let owned = |kind: &str, owner: &str, owner_kind: &str, api_version: &str, spec: &str, own: &str| -> Result<()> {
        let uid = k.run(&["get", owner, "-o", "jsonpath={.metadata.uid}"])?;
        let manifest = format!(
            "apiVersion: {own}\nkind: {kind}\nmetadata:\n  name: {name}\n  labels: {{app: {name}}}\n  ownerReferences:\n  - \
             {{apiVersion: {api_version}, kind: {owner_kind}, name: {name}, uid: {uid}, controller: true, \
             blockOwnerDeletion: true}}\n{spec}"
        );
        k.feed(&["create", "-f", "-"], &manifest).map(drop)
    };
    let spec = format!(
        "spec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    \
         spec: {{containers: [{{name: c, image: nginx}}]}}\n"
    );
    owned(
        "ReplicaSet",
        &format!("deployment/{name}"),
        "Deployment",
        "apps/v1",
        &spec,
        "apps/v1",
    )?;
    let spec = "spec: {containers: [{name: c, image: nginx}]}\n";
    owned(
        "Pod",
        &format!("replicaset/{name}"),
        "ReplicaSet",
        "apps/v1",
        spec,
        "v1",
    )
}

#[test]
fn deletes_cascade_as_they_are_asked_to() -> Result<()> {
    let Some((_server, k)) = session(&[])? else {
        return Ok(());
    };
    k.run(&["wait", "--for=create", "serviceaccount/default", "--timeout=30s"])?;
    chain(&k, "background")?;
    k.run(&["delete", "deployment/background"])?;
    gone(&k, "replicaset/background")?;
    gone(&k, "pod/background")?;

    chain(&k, "orphan")?;
    k.run(&["delete", "deployment/orphan", "--cascade=orphan"])?;
    gone(&k, "deployment/orphan")?;
    let owners = |object: &str| k.run(&["get", object, "-o", "jsonpath={.metadata.ownerReferences[*].kind}"]);
    eventually(|| {
        let left = owners("replicaset/orphan")?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })?;
    ensure!(owners("pod/orphan")? == "ReplicaSet");

    chain(&k, "foreground")?;
    let hold = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
    k.run(&["patch", "pod/foreground", "--type=merge", "-p", hold])?;
    k.run(&[
        "delete",
        "deployment/foreground",
        "--cascade=foreground",
        "--wait=false",
    ])?;
    eventually(|| {
        let since = k.run(&["get", "pod/foreground", "-o", "jsonpath={.metadata.deletionTimestamp}"])?;
        ensure!(!since.is_empty(), "the pod is not being deleted");
        Ok(())
    })?;
    // Those above it wait.
    for object in ["deployment/foreground", "replicaset/foreground"] {
        let text = k.run(&["get", object, "-o", "jsonpath={.metadata.finalizers}"])?;
        ensure!(text.contains("foregroundDeletion"), "{object}: {text}");
    }
    k.run(&[
        "patch",
        "pod/foreground",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ])?;
    for object in ["pod/foreground", "replicaset/foreground", "deployment/foreground"] {
        gone(&k, object)?;
    }
    Ok(())
}

#[test]
fn what_happened_without_the_collector_is_made_up_for() -> Result<()> {
    let Some((mut server, k)) = session(&["--controllers=serviceaccount"])? else {
        return Ok(());
    };
    k.run(&["wait", "--for=create", "serviceaccount/default", "--timeout=30s"])?;
    for name in ["background", "orphan", "foreground"] {
        chain(&k, name)?;
        k.run(&[
            "delete",
            &format!("deployment/{name}"),
            &format!("--cascade={name}"),
            "--wait=false",
        ])?;
    }
    ensure!(names(&k, "pods", "default")?.len() == 3);
    server.restart_with(&["--controllers=garbagecollector"])?;
    let program = kubectl().context("it was there before")?;
    let k = Kubectl::new(program, &server);
    for name in ["background", "foreground"] {
        for kind in ["pod", "replicaset", "deployment"] {
            gone(&k, &format!("{kind}/{name}"))?;
        }
    }
    gone(&k, "deployment/orphan")?;
    ensure!(names(&k, "replicasets,pods", "default")? == ["replicaset.apps/orphan", "pod/orphan"]);
    let left = k.run(&["get", "replicaset/orphan", "-o", "jsonpath={.metadata.ownerReferences}"])?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

#[test]
fn loops_can_be_left_out() -> Result<()> {
    let Some((_server, k)) = session(&["--controllers=*,-garbagecollector,-namespace-controller"])? else {
        return Ok(());
    };
    k.run(&["create", "namespace", "stays"])?;
    k.run(&[
        "wait",
        "--for=create",
        "-n",
        "stays",
        "serviceaccount/default",
        "--timeout=30s",
    ])?;
    k.run(&["delete", "namespace", "stays", "--wait=false"])?;
    let phase = k.run(&[
        "get",
        "namespace",
        "stays",
        "-o",
        "jsonpath={.status.phase}{.spec.finalizers}",
    ])?;
    ensure!(phase == r#"Terminating["kubernetes"]"#, "{phase}");
    ensure!(names(&k, "serviceaccounts", "stays")? == ["serviceaccount/default"]);
    Ok(())
}

#[test]
fn a_dead_backend_is_named_and_holds_up_nothing_else() -> Result<()> {
    let Some((server, k, extension)) = registered()? else {
        return Ok(());
    };
    let parcel = |namespace: &str| {
        format!(
            "apiVersion: shipping.example.com/v1alpha1\nkind: Parcel\nmetadata: {{name: p, namespace: {namespace}}}\n\
             spec: {{carrier: post, destination: Main Street 1, weightGrams: 800}}\n"
        )
    };
    for namespace in ["alive", "dead"] {
        k.run(&["create", "namespace", namespace])?;
        k.run(&["create", "configmap", "-n", namespace, "content"])?;
        eventually(|| k.feed(&["create", "-f", "-"], &parcel(namespace)).map(drop))?;
    }
    // A backend that answers is emptied with the rest.
    k.run(&["delete", "namespace", "alive", "--timeout=30s"])?;
    let left = k.run(&["get", "parcels", "-A", "-o", "jsonpath={.items[*].metadata.namespace}"])?;
    ensure!(left == "dead", "{left}");

    let port = extension.address.port();
    drop(extension);
    k.run(&["delete", "namespace", "dead", "--wait=false"])?;
    k.run(&[
        "wait",
        "--for=condition=NamespaceDeletionDiscoveryFailure",
        "namespace/dead",
        "--timeout=30s",
    ])?;
    let message = r#"jsonpath={.status.conditions[?(@.type=="NamespaceDeletionDiscoveryFailure")].message}"#;
    let message = k.run(&["get", "namespace", "dead", "-o", message])?;
    ensure!(
        message.contains("shipping.example.com/v1alpha1"),
        "the culprit is not named: {message}"
    );
    eventually(|| {
        let left = names(&k, "configmaps", "dead")?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    // One without such content waits, too: nobody knows what the backend has. Deletes of other things do not.
    k.run(&["create", "configmap", "unharmed"])?;
    k.run(&["delete", "configmap", "unharmed", "--timeout=10s"])?;
    let again = registered_again(&server, &k, port).context("the backend does not come back")?;
    gone(&k, "namespace/dead")?;
    drop(again);
    Ok(())
}
