//! A session with the real kubectl: built-in groups, then a CRD. What a user does in the first hour.

use anyhow::{Context, Result, ensure};
use fairlead_tests::server::Server;
use fairlead_tests::tools::{Kubectl, kubectl};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

fn session() -> Result<Option<(Server, Kubectl)>> {
    let Some(program) = kubectl() else {
        fairlead_tests::skip("kubectl is not installed and cannot be built");
        return Ok(None);
    };
    let server = Server::start(&[])?;
    let kubectl = Kubectl::new(program, &server);
    Ok(Some((server, kubectl)))
}

fn has(text: &str, words: &[&str]) -> Result<()> {
    words.iter().try_for_each(|word| fairlead_tests::has(text, word))
}

const DEPLOYMENT: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - {name: web, image: 'nginx:1.27', ports: [{containerPort: 80}]}
";

#[test]
fn built_in_groups() -> Result<()> {
    let Some((_server, k)) = session()? else { return Ok(()) };
    built_in_session(&k)
}

/// What a user does with built-in groups.
pub fn built_in_session(k: &Kubectl) -> Result<()> {
    has(
        &k.run(&["get", "namespaces"])?,
        &["default", "kube-system", "kube-public", "kube-node-lease", "Active"],
    )?;
    has(&k.run(&["create", "namespace", "tour"])?, &["namespace/tour created"])?;
    has(
        &k.run(&[
            "create",
            "configmap",
            "settings",
            "-n",
            "tour",
            "--from-literal=a=1",
            "--from-literal=b=2",
        ])?,
        &["created"],
    )?;
    k.run(&[
        "create",
        "secret",
        "generic",
        "login",
        "-n",
        "tour",
        "--from-literal=password=hunter2",
    ])?;
    k.run(&[
        "create",
        "role",
        "reader",
        "-n",
        "tour",
        "--verb=get,list",
        "--resource=pods",
    ])?;
    k.run(&[
        "create",
        "rolebinding",
        "readers",
        "-n",
        "tour",
        "--role=reader",
        "--user=jane",
    ])?;
    k.run(&[
        "run",
        "-n",
        "tour",
        "--image=busybox",
        "shell",
        "--labels=app=shell",
        "--",
        "sleep",
        "1d",
    ])?;
    has(
        &k.feed(&["apply", "-n", "tour", "-f", "-"], DEPLOYMENT)?,
        &["deployment.apps/web created"],
    )?;
    k.run(&["expose", "-n", "tour", "deployment/web", "--port=80"])?;

    has(
        &k.run(&["get", "-n", "tour", "configmap/settings", "-o", "yaml"])?,
        &["a: \"1\"", "kind: ConfigMap"],
    )?;
    has(
        &k.run(&["get", "-n", "tour", "configmap/settings", "-o", "json"])?,
        &["\"b\": \"2\""],
    )?;
    let path = "jsonpath={.data.a}{.metadata.namespace}";
    ensure!(k.run(&["get", "-n", "tour", "configmap/settings", "-o", path])? == "1tour");
    has(
        &k.run(&[
            "get",
            "-n",
            "tour",
            "deploy",
            "-o",
            "custom-columns=N:.metadata.name,R:.spec.replicas",
        ])?,
        &["N", "web", "2"],
    )?;
    has(
        &k.run(&["get", "-n", "tour", "deployment,pod,service", "-o", "wide"])?,
        &["CONTAINERS", "nginx:1.27", "shell", "CLUSTER-IP"],
    )?;
    has(
        &k.run(&["get", "pods", "-A", "-l", "app=shell"])?,
        &["NAMESPACE", "tour", "shell", "Pending"],
    )?;
    ensure!(
        !k.run(&["get", "pods", "-A", "-l", "app!=shell", "--no-headers"])?
            .contains("shell")
    );
    has(
        &k.run(&[
            "get",
            "configmaps",
            "-n",
            "tour",
            "--field-selector",
            "metadata.name=settings",
        ])?,
        &["settings"],
    )?;
    for n in 0..7 {
        k.run(&["create", "configmap", "-n", "tour", &format!("page-{n}")])?;
    }
    let paged = k.run(&["get", "configmaps", "-n", "tour", "--chunk-size=3", "--no-headers"])?;
    ensure!(paged.lines().filter(|l| l.starts_with("page-")).count() == 7, "{paged}");
    has(
        &k.run(&["describe", "-n", "tour", "deployment/web"])?,
        &["RollingUpdateStrategy", "nginx:1.27", "25% max unavailable"],
    )?;
    has(
        &k.run(&["describe", "-n", "tour", "pod/shell"])?,
        &["busybox", "Tolerations"],
    )?;

    has(
        &k.run(&["scale", "-n", "tour", "deployment/web", "--replicas=5"])?,
        &["scaled"],
    )?;
    ensure!(k.run(&["get", "-n", "tour", "deployment/web", "-o", "jsonpath={.spec.replicas}"])? == "5");
    k.run(&[
        "patch",
        "-n",
        "tour",
        "deployment/web",
        "-p",
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"nginx:1.28"}]}}}}"#,
    ])?;
    k.run(&["set", "image", "-n", "tour", "deployment/web", "web=nginx:1.29"])?;
    ensure!(k.run(&["get", "-n", "tour", "deployment/web", "-o", "jsonpath={..image}"])? == "nginx:1.29");
    k.run(&["label", "-n", "tour", "deployment/web", "tier=front"])?;
    k.run(&["annotate", "-n", "tour", "deployment/web", "note=hello"])?;
    has(
        &k.run(&["get", "-n", "tour", "deploy", "-l", "tier=front", "--show-labels"])?,
        &["tier=front"],
    )?;

    let edited = k
        .command(&["edit", "-n", "tour", "configmap/settings"])
        .env("KUBE_EDITOR", "sed -i 's/a: .1./a: edited/'")
        .output()?;
    has(&String::from_utf8_lossy(&edited.stdout), &["configmap/settings edited"])?;
    ensure!(k.run(&["get", "-n", "tour", "configmap/settings", "-o", "jsonpath={.data.a}"])? == "edited");

    let changed = DEPLOYMENT.replace("replicas: 2", "replicas: 3");
    let diff = k.pipe(&["diff", "-n", "tour", "-f", "-"], &changed)?;
    has(
        &String::from_utf8_lossy(&diff.stdout),
        &["-  replicas: 5", "+  replicas: 3"],
    )?;
    has(&k.feed(&["apply", "-n", "tour", "-f", "-"], &changed)?, &["configured"])?;
    let refused = k.refused(
        &[
            "apply",
            "-n",
            "tour",
            "--server-side",
            "--field-manager=other",
            "-f",
            "-",
        ],
        DEPLOYMENT,
    )?;
    has(&refused, &["conflict", ".spec.replicas"])?;
    has(
        &k.feed(
            &["apply", "-n", "tour", "--server-side", "--force-conflicts", "-f", "-"],
            DEPLOYMENT,
        )?,
        &["serverside-applied"],
    )?;

    has(
        &k.run(&["explain", "deployment.spec.replicas"])?,
        &["FIELD: replicas", "integer", "DESCRIPTION"],
    )?;
    has(
        &k.run(&["explain", "pods", "--recursive"])?,
        &["containers", "imagePullPolicy"],
    )?;
    has(
        &k.run(&["api-resources"])?,
        &["deployments", "apps/v1", "customresourcedefinitions"],
    )?;
    has(&k.run(&["api-versions"])?, &["apps/v1", "rbac.authorization.k8s.io/v1"])?;
    has(&k.run(&["auth", "can-i", "create", "pods"])?, &["yes"])?;
    has(
        &k.run(&["auth", "can-i", "--list", "-n", "tour", "--as=jane"])?,
        &["pods", "[get list]"],
    )?;
    let denied = k
        .command(&["auth", "can-i", "delete", "pods", "-n", "tour", "--as=jane"])
        .output()?;
    has(&String::from_utf8_lossy(&denied.stdout), &["no"])?;
    has(&k.run(&["auth", "whoami"])?, &["system:masters"])?;
    has(
        &k.run(&["get", "--raw", "/version"])?,
        &["\"major\": \"1\"", "\"minor\": \"36\""],
    )?;
    has(
        &k.run(&["get", "--raw", "/readyz?verbose"])?,
        &["[+]ping ok", "readyz check passed"],
    )?;
    k.run(&[
        "wait",
        "-n",
        "tour",
        "--for=jsonpath={.spec.replicas}=2",
        "deployment/web",
        "--timeout=5s",
    ])?;

    has(&k.run(&["delete", "-n", "tour", "pod/shell", "--now"])?, &["deleted"])?;
    has(&k.run(&["delete", "namespace", "tour", "--timeout=30s"])?, &["deleted"])?;
    has(&k.refused(&["get", "namespace", "tour"], "")?, &["NotFound"])?;
    Ok(())
}

#[test]
fn a_watch_shows_changes_as_they_happen() -> Result<()> {
    let Some((_server, k)) = session()? else { return Ok(()) };
    watch_session(&k)
}

/// A watch, and what it shows.
pub fn watch_session(k: &Kubectl) -> Result<()> {
    let mut watch = k
        .command(&["get", "configmaps", "-w", "--no-headers", "-l", "seen=yes"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(watch.stdout.take().context("no standard output")?).lines();
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: seen, labels: {seen: 'yes'}}\n";
    k.feed(&["create", "-f", "-"], manifest)?;
    let first = lines.next().context("the watch ended")??;
    watch.kill()?;
    watch.wait()?;
    has(&first, &["seen"])
}

#[test]
fn a_custom_resource() -> Result<()> {
    let Some((_server, k)) = session()? else { return Ok(()) };
    custom_session(&k)
}

/// What a user does with a CRD.
pub fn custom_session(k: &Kubectl) -> Result<()> {
    has(&k.run(&["apply", "-f", "examples/crd.yaml"])?, &["created"])?;
    k.run(&[
        "wait",
        "--for=condition=Established",
        "crd/pipelines.flow.example.com",
        "--timeout=5s",
    ])?;
    has(
        &k.run(&["apply", "-f", "examples/crd-objects.yaml"])?,
        &["pipeline.flow.example.com/smallest created"],
    )?;
    let value = |name: &str, path: &str| k.run(&["get", "pipeline", name, "-o", &format!("jsonpath={{{path}}}")]);
    ensure!(value("smallest", ".spec.mode")? == "Stream", "defaults are filled in");
    ensure!(
        value("smallest", ".spec.steps[0].onError.action")? == "Fail",
        "defaults in lists are filled in"
    );
    has(
        &k.run(&["get", "pipelines"])?,
        &["PRIORITY", "WORKERS", "nightly-report", "High", "4"],
    )?;
    has(
        &k.run(&["get", "pl", "-A", "-o", "wide"])?,
        &["SOURCE", "s3://ledger/2026"],
    )?;
    has(
        &k.run(&["get", "pipelines", "--field-selector", "spec.priority=High"])?,
        &["nightly-report"],
    )?;

    let object = "apiVersion: flow.example.com/v1\nkind: Pipeline\nmetadata: {name: wrong}\nspec: {workers: 9999, source: {url: ftp://x}, steps: [{name: a, type: Nope}]}\n";
    let refused = k.refused(&["create", "-f", "-"], object)?;
    has(
        &refused,
        &["spec.workers", "spec.source.url", "Unsupported value: \"Nope\""],
    )?;
    let unknown = "apiVersion: flow.example.com/v1\nkind: Pipeline\nmetadata: {name: pruned}\nspec: {nonsense: 1, source: {url: 'https://x'}, steps: [{name: a, type: Map}]}\n";
    has(
        &k.refused(&["create", "-f", "-"], unknown)?,
        &["unknown field \"spec.nonsense\""],
    )?;
    k.feed(&["create", "--validate=ignore", "-f", "-"], unknown)?;
    ensure!(
        value("pruned", ".spec.nonsense")?.is_empty(),
        "unknown fields are pruned"
    );

    k.run(&[
        "patch",
        "pipeline",
        "smallest",
        "--type=merge",
        "-p",
        r#"{"spec":{"paused":true}}"#,
    ])?;
    ensure!(value("smallest", ".metadata.generation")? == "2");
    k.run(&[
        "patch",
        "pipeline",
        "smallest",
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status":{"phase":"Running"}}"#,
    ])?;
    ensure!(value("smallest", ".status.phase")? == "Running" && value("smallest", ".metadata.generation")? == "2");
    has(&k.run(&["scale", "pipeline/smallest", "--replicas=7"])?, &["scaled"])?;
    ensure!(value("smallest", ".spec.workers")? == "7");
    let applied = "apiVersion: flow.example.com/v1\nkind: Pipeline\nmetadata: {name: smallest}\nspec: {steps: [{name: more, type: Join}]}\n";
    k.feed(&["apply", "--server-side", "-f", "-"], applied)?;
    ensure!(
        value("smallest", ".spec.steps[*].name")? == "all more",
        "lists are merged by key"
    );
    has(
        &k.run(&["explain", "pipeline.spec.steps"])?,
        &["FIELDS", "timeoutSeconds"],
    )?;
    has(&k.run(&["api-resources"])?, &["pipelines"])?;
    has(
        &k.run(&["delete", "crd", "pipelines.flow.example.com", "--timeout=10s"])?,
        &["deleted"],
    )?;
    has(
        &k.refused(&["get", "--raw", "/apis/flow.example.com/v1/pipelines"], "")?,
        &["NotFound"],
    )
}
