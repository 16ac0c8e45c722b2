//! The audit log, as those who read it find it: who did what, and what came of it. Its events are compared field by field
//! with what kube-apiserver writes of the same requests.

use anyhow::{Context, Result, ensure};
use fairlead_bench::client::{Call, Connection};
use fairlead_tests::backend::{Backend, own_address};
use fairlead_tests::kubelet::Kubelet;
use fairlead_tests::server::{Server, USER_TOKEN};
use fairlead_tests::tools::{Kubectl, kubectl};
use http::Method;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server that audits.
struct Audited {
    server: Server,
    directory: TempDir,
}

impl Audited {
    fn start(rules: &Value, flags: &[&str]) -> Result<Audited> {
        let directory = tempfile::tempdir()?;
        let policy = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules});
        std::fs::write(directory.path().join("policy"), policy.to_string())?;
        let policy = format!("--audit-policy-file={}", directory.path().join("policy").display());
        let log = format!("--audit-log-path={}", directory.path().join("audit.log").display());
        let server = Server::start(&[&[policy.as_str(), &log], flags].concat())?;
        Ok(Audited { server, directory })
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("audit.log")
    }

    /// The events of requests that had this audit id, without what no two of them share.
    fn events(&self, id: &str) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.log())?;
        let mut found = Vec::new();
        for line in text.lines() {
            let mut event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            if event["auditID"] != id {
                continue;
            }
            let fields = event.as_object_mut().context("an event is an object")?;
            ensure!(fields.remove("kind") == Some(json!("Event")) && fields.remove("apiVersion").is_some());
            for stamp in ["requestReceivedTimestamp", "stageTimestamp"] {
                let at = fields.remove(stamp).unwrap_or_default();
                let at = at.as_str().unwrap_or_default();
                ensure!(
                    at.len() == "2006-01-02T15:04:05.000000Z".len() && at.ends_with('Z'),
                    "{line}"
                );
            }
            found.push(event);
        }
        Ok(found)
    }

    /// [`Audited::events`] once there are as many: what follows the answer is not waited for by the client.
    fn wait(&self, id: &str, count: usize) -> Result<Vec<Value>> {
        let begun = Instant::now();
        loop {
            let events = self.events(id)?;
            if events.len() >= count {
                return Ok(events);
            }
            ensure!(begun.elapsed() < Duration::from_secs(30), "{count} events: {events:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

async fn ask(connection: &mut Connection, id: &str, mut call: Call) -> Result<u16> {
    call.headers.push(("audit-id", id.to_owned()));
    Ok(connection.call(&call).await?.0)
}

fn post(path: &str, body: &Value) -> Call {
    Call::send(Method::POST, path, "application/json", body.to_string())
}

fn admin() -> Value {
    json!({"username": "admin", "uid": "admin-uid", "groups": ["system:masters", "system:authenticated"]})
}

fn allowed() -> Value {
    json!({"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""})
}

/// An event without the fields that a test does not look at.
fn only(event: &Value, fields: &[&str]) -> Value {
    fields
        .iter()
        .map(|f| ((*f).to_owned(), event[f].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn who_did_what_and_what_came_of_it() -> Result<()> {
    let audited = Audited::start(&json!([{"level": "Metadata"}]), &[])?;
    fairlead_tests::runtime().block_on(async {
        let mut connection = audited.server.connect().await?;
        let maps = "/api/v1/namespaces/default/configmaps";
        let mut create = post(maps, &json!({"metadata": {"name": "a"}}));
        create.headers.push(("user-agent", "tester/1".into()));
        create.headers.push(("x-forwarded-for", "1.2.3.4, 10.0.0.1".into()));
        ensure!(ask(&mut connection, "create", create).await? == 201);
        let event = |stage: &str| {
            json!({
                "level": "Metadata", "auditID": "create", "stage": stage, "requestURI": maps, "verb": "create",
                "user": admin(), "sourceIPs": ["1.2.3.4", "10.0.0.1", "127.0.0.1"], "userAgent": "tester/1",
                "objectRef": {"resource": "configmaps", "namespace": "default", "apiVersion": "v1"},
            })
        };
        let mut complete = event("ResponseComplete");
        complete["objectRef"]["name"] = json!("a");
        complete["responseStatus"] = json!({"metadata": {}, "code": 201});
        complete["annotations"] = allowed();
        // They are there when the client has the answer.
        ensure!(audited.events("create")? == [event("RequestReceived"), complete]);

        ensure!(ask(&mut connection, "again", post(maps, &json!({"metadata": {"name": "a"}}))).await? == 409);
        let events = audited.events("again")?;
        let status = json!({"metadata": {}, "status": "Failure", "message": "configmaps \"a\" already exists",
            "reason": "AlreadyExists", "details": {"name": "a", "kind": "configmaps"}, "code": 409});
        ensure!(events[1]["responseStatus"] == status, "{events:?}");

        let watch = format!("{maps}?watch=1&timeoutSeconds=1");
        ensure!(ask(&mut connection, "watch", Call::get(watch)).await? == 200);
        let stages: Vec<Value> = audited.wait("watch", 3)?.into_iter().map(|e| e["stage"].clone()).collect();
        ensure!(stages == ["RequestReceived", "ResponseStarted", "ResponseComplete"]);

        let mut call = Call::get(maps);
        call.headers.push(("impersonate-user", "bob".into()));
        ensure!(ask(&mut connection, "as-bob", call).await? == 403);
        let events = audited.events("as-bob")?;
        let expected = json!({
            "user": admin(),
            "impersonatedUser": {"username": "bob", "groups": ["system:authenticated"]},
            "annotations": {"authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": ""},
        });
        ensure!(only(&events[1], &["user", "impersonatedUser", "annotations"]) == expected, "{events:?}");

        let mut stranger = audited.server.connect_anonymously().await?;
        let mut call = Call::get(maps);
        call.headers.push(("authorization", "Bearer wrong".into()));
        ensure!(ask(&mut stranger, "stranger", call).await? == 401);
        let events = audited.events("stranger")?;
        let expected = json!({
            "stage": "ResponseStarted", "user": {},
            "responseStatus": {"metadata": {}, "status": "Failure", "message": "Unauthorized", "reason": "Unauthorized", "code": 401},
        });
        ensure!(
            events.len() == 1 && only(&events[0], &["stage", "user", "responseStatus"]) == expected,
            "{events:?}"
        );

        ensure!(ask(&mut connection, "healthz", Call::get("/healthz")).await? == 200);
        let events = audited.events("healthz")?;
        ensure!(events[1]["objectRef"].is_null() && events[1]["responseStatus"]["code"] == 200, "{events:?}");
        Ok(())
    })
}

#[test]
fn bodies_are_recorded_where_the_policy_asks_for_them() -> Result<()> {
    let rules = json!([
        {"level": "None", "resources": [{"group": "", "resources": ["secrets"]}]},
        {"level": "Request", "verbs": ["delete", "patch"]},
        {"level": "RequestResponse", "omitStages": ["RequestReceived"], "omitManagedFields": true},
    ]);
    let audited = Audited::start(&rules, &[])?;
    fairlead_tests::runtime().block_on(async {
        let mut connection = audited.server.connect().await?;
        let maps = "/api/v1/namespaces/default/configmaps";
        let body = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"x": "<1>"}});
        ensure!(ask(&mut connection, "create", post(maps, &body)).await? == 201);
        let events = audited.events("create")?;
        ensure!(events.len() == 1 && events[0]["requestObject"] == body, "{events:?}");
        let answer = &events[0]["responseObject"];
        ensure!(
            answer["data"] == body["data"] && answer["metadata"]["uid"].is_string(),
            "{answer}"
        );
        ensure!(answer["metadata"]["managedFields"].is_null(), "{answer}");

        // However the client reads it, it is recorded in JSON.
        let mut list = Call::get(maps);
        list.accept = "application/vnd.kubernetes.protobuf";
        ensure!(ask(&mut connection, "list", list).await? == 200);
        let events = audited.events("list")?;
        let answer = &events[0]["responseObject"];
        ensure!(
            answer["kind"] == "ConfigMapList" && answer["items"][0]["kind"].is_null(),
            "{answer}"
        );

        let path = format!("{maps}/a");
        let patch = Call::send(
            Method::PATCH,
            path.as_str(),
            "application/merge-patch+json",
            "{ \"data\": {\"y\": \"2\"} }",
        );
        ensure!(ask(&mut connection, "patch", patch).await? == 200);
        let events = audited.events("patch")?;
        ensure!(events[1]["requestObject"] == json!({"data": {"y": "2"}}), "{events:?}");
        ensure!(events[1]["responseObject"].is_null(), "{events:?}");

        let options = json!({"propagationPolicy": "Background"});
        let delete = Call::send(Method::DELETE, path.as_str(), "application/json", options.to_string());
        ensure!(ask(&mut connection, "delete", delete).await? == 200);
        let events = audited.events("delete")?;
        let recorded = &events[1]["requestObject"];
        ensure!(
            recorded["kind"] == "DeleteOptions" && recorded["propagationPolicy"] == "Background",
            "{events:?}"
        );
        ensure!(events[1]["responseStatus"]["details"]["name"] == "a", "{events:?}");

        let secret = post(
            "/api/v1/namespaces/default/secrets",
            &json!({"metadata": {"name": "s"}}),
        );
        ensure!(ask(&mut connection, "secret", secret).await? == 201);
        ensure!(audited.events("secret")?.is_empty());
        let (_, metrics) = text(&mut connection, "/metrics").await?;
        for line in [
            "apiserver_audit_level_total{level=\"None\"}",
            "apiserver_audit_level_total{level=\"RequestResponse\"}",
            "apiserver_audit_event_total ",
            "apiserver_audit_requests_rejected_total 0",
        ] {
            fairlead_tests::has(&metrics, line)?;
        }
        Ok(())
    })
}

async fn text(connection: &mut Connection, path: &str) -> Result<(u16, String)> {
    use http_body_util::BodyExt;
    let response = connection.open(&Call::get(path)).await?;
    let code = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((code, String::from_utf8(body.to_vec())?))
}

#[test]
fn what_is_passed_on_is_recorded_without_bodies() -> Result<()> {
    if own_address().is_none() {
        fairlead_tests::skip("no address to reach a backend at");
        return Ok(());
    }
    let audited = Audited::start(
        &json!([{"level": "RequestResponse", "verbs": ["create", "list"]}]),
        &["--enable-aggregator-routing=true"],
    )?;
    let backend = Backend::start(&audited.server, "audited.example.com", 0)?;
    fairlead_tests::runtime().block_on(async {
        let mut connection = audited.server.connect().await?;
        backend.register(&mut connection).await?;
        backend.wait(&mut connection, "True").await?;
        ensure!(ask(&mut connection, "list", Call::get(backend.parcels())).await? == 200);
        let events = audited.wait("list", 2)?;
        ensure!(
            events[1]["objectRef"]["apiGroup"] == "audited.example.com",
            "{events:?}"
        );
        ensure!(
            events[1]["responseStatus"] == json!({"metadata": {}, "code": 200}),
            "{events:?}"
        );
        ensure!(
            events[1]["responseObject"].is_null() && events[1]["annotations"] == allowed(),
            "{events:?}"
        );
        Ok(())
    })
}

#[test]
fn a_command_in_a_pod_is_complete_when_it_has_ended() -> Result<()> {
    let (Some(program), Some(address)) = (kubectl(), own_address()) else {
        fairlead_tests::skip("this needs kubectl and an address besides loopback");
        return Ok(());
    };
    let kubelet = Kubelet::start(&[&address.to_string()], true)?;
    let mut flags = kubelet.flags();
    flags.push("--disable-admission-plugins=ServiceAccount".into());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let audited = Audited::start(
        &json!([{"level": "RequestResponse", "resources": [
        {"group": "", "resources": ["pods/exec"]}]}]),
        &flags,
    )?;
    let k = Kubectl::new(program, &audited.server);
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {
        "addresses": [{"type": "InternalIP", "address": address.to_string()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port}},
        "declaredFeatures": ["ExtendWebSocketsToKubelet"]}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
        "nodeName": "n", "containers": [{"name": "app", "image": "x"}]}});
    for object in [&node, &pod] {
        k.feed(&["create", "-f", "-"], &object.to_string())?;
    }
    let status = json!({"status": node["status"]});
    k.run(&[
        "patch",
        "node",
        "n",
        "--subresource=status",
        "--type=merge",
        &format!("--patch={status}"),
    ])?;
    let status = r#"--patch={"status":{"phase":"Running"}}"#;
    k.run(&["patch", "pod", "p", "--subresource=status", "--type=merge", status])?;
    let stages = || -> Result<Vec<String>> {
        let text = std::fs::read_to_string(audited.log())?;
        let events = text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<Vec<Value>, _>>()?;
        Ok(events
            .iter()
            .map(|event| {
                format!(
                    "{} {}",
                    event["stage"].as_str().unwrap_or(""),
                    event["responseStatus"]["code"]
                )
            })
            .collect())
    };
    let mut command = k.command(&["exec", "-i", "p", "--", "cat"]);
    let mut running = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = running.stdin.take().context("it reads")?;
    input.write_all(b"hello\n")?;
    let mut line = String::new();
    BufReader::new(running.stdout.take().context("it writes")?).read_line(&mut line)?;
    ensure!(line == "hello\n", "{line:?}");
    ensure!(
        stages()? == ["RequestReceived null", "ResponseStarted 101"],
        "{:?}",
        stages()?
    );
    drop(input);
    running.wait()?;
    let begun = Instant::now();
    while stages()?.last().map(String::as_str) != Some("ResponseComplete 101") {
        ensure!(begun.elapsed() < Duration::from_secs(30), "{:?}", stages()?);
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[test]
fn kubectl_leaves_its_events() -> Result<()> {
    let Some(program) = kubectl() else {
        fairlead_tests::skip("kubectl is not installed and cannot be built");
        return Ok(());
    };
    let rules = json!([{"level": "Metadata", "resources": [{"group": "apps"}], "omitStages": ["RequestReceived"]}]);
    let mut audited = Audited::start(&rules, &["--audit-log-mode=batch"])?;
    Kubectl::new(program, &audited.server).run(&["create", "deployment", "web", "--image=nginx"])?;
    // What waits is written before the end.
    audited.server.stop()?;
    let text = std::fs::read_to_string(audited.log())?;
    let created = |event: &Value| {
        event["verb"] == "create"
            && event["objectRef"]["name"] == "web"
            && event["objectRef"]["resource"] == "deployments"
            && event["userAgent"]
                .as_str()
                .is_some_and(|agent| agent.starts_with("kubectl"))
    };
    let mut events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    ensure!(events.any(|event| created(&event)), "{text}");
    Ok(())
}

#[test]
fn a_policy_that_is_none_ends_the_start() -> Result<()> {
    for (rules, words) in [
        (
            json!([]),
            "loading audit policy file: loaded illegal policy with 0 rules: from file ",
        ),
        (
            json!([{"level": "Some"}]),
            "rules[0].level: Unsupported value: \"Some\"",
        ),
    ] {
        let error = Audited::start(&rules, &[]).err().context("it starts")?;
        fairlead_tests::has(&format!("{error:#}"), words)?;
    }
    Ok(())
}

#[test]
fn a_log_that_cannot_be_written_refuses_or_counts() -> Result<()> {
    // Nothing can be written there, though it can be opened.
    for (mode, code) in [("blocking-strict", 500), ("blocking", 200), ("batch", 200)] {
        let directory = tempfile::tempdir()?;
        let policy = directory.path().join("policy");
        std::fs::write(
            &policy,
            json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [
                {"level": "Metadata", "userGroups": ["suite"]}]})
            .to_string(),
        )?;
        let server = Server::start(&[
            &format!("--audit-policy-file={}", policy.display()),
            "--audit-log-path=/dev/full",
            "--audit-log-maxsize=0",
            &format!("--audit-log-mode={mode}"),
        ])?;
        fairlead_tests::runtime().block_on(async {
            let mut user = server.connect_anonymously().await?;
            let mut call = Call::get("/version");
            call.headers.push(("authorization", format!("Bearer {USER_TOKEN}")));
            let answered = user.call(&call).await?.0;
            ensure!(answered == code, "{mode}: {answered}");
            let mut admin = server.connect().await?;
            let begun = Instant::now();
            loop {
                let (_, metrics) = text(&mut admin, "/metrics").await?;
                let rejected = u8::from(code == 500);
                let lost = fairlead_tests::has(&metrics, "apiserver_audit_error_total{plugin=\"log\"}").is_ok();
                if lost {
                    fairlead_tests::has(&metrics, &format!("apiserver_audit_requests_rejected_total {rejected}"))?;
                    return Ok(());
                }
                ensure!(begun.elapsed() < Duration::from_secs(30), "{mode}: nothing is counted");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })?;
    }
    Ok(())
}
