//! Logs, commands, ports and proxies, with a kubelet that is only half one.

use anyhow::{Context, Result, ensure};
use fairlead_bench::client::{Call, Connection, Target};
use fairlead_tests::backend::{own_address, target};
use fairlead_tests::kubelet::Kubelet;
use fairlead_tests::server::{Server, USER_TOKEN};
use fairlead_tests::tools::{Kubectl, kubectl};
use fairlead_tests::{has, runtime, skip, slow};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server, its administrator's kubectl, and a kubelet whose node has pods.
struct World {
    server: Server,
    kubelet: Kubelet,
    k: Kubectl,
    address: String,
}

impl World {
    /// With a kubelet of 1.36 or later.
    fn start() -> Result<Option<World>> {
        World::with(true, true)
    }

    /// `declared` is whether the node tells that its kubelet understands WebSockets, `websockets` whether it does.
    fn with(declared: bool, websockets: bool) -> Result<Option<World>> {
        let (Some(program), Some(address)) = (kubectl(), own_address()) else {
            skip("this needs kubectl and an address besides loopback");
            return Ok(None);
        };
        let address = address.to_string();
        let kubelet = Kubelet::start(&[&address, "127.0.0.1"], websockets)?;
        let flags = kubelet.flags();
        let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        flags.push("--disable-admission-plugins=ServiceAccount");
        let server = Server::start(&flags)?;
        let k = Kubectl::new(program, &server);
        let world = World {
            server,
            kubelet,
            k,
            address,
        };
        world.node("n", &world.address, world.kubelet.port, declared)?;
        world.pod("p", Some("n"), &["app", "broken", "missing", "moved"])?;
        world.pod("one", Some("n"), &["app"])?;
        Ok(Some(world))
    }

    fn node(&self, name: &str, address: &str, port: u16, websockets: bool) -> Result<()> {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        self.k.feed(&["create", "-f", "-"], &node.to_string())?;
        let features = if websockets {
            json!(["ExtendWebSocketsToKubelet"])
        } else {
            json!([])
        };
        let status = json!({"status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "declaredFeatures": features,
        }});
        let patch = format!("--patch={status}");
        self.k
            .run(&["patch", "node", name, "--subresource=status", "--type=merge", &patch])?;
        Ok(())
    }

    fn pod(&self, name: &str, node: Option<&str>, containers: &[&str]) -> Result<()> {
        let containers: Vec<Value> = containers
            .iter()
            .map(|c| json!({"name": c, "image": "x", "ports": [{"containerPort": self.kubelet.port}]}))
            .collect();
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"containers": containers}});
        if let Some(node) = node {
            pod["spec"]["nodeName"] = node.into();
        }
        self.k.feed(&["create", "-f", "-"], &pod.to_string())?;
        let status = json!({"status": {"phase": "Running", "podIP": self.address, "podIPs": [{"ip": self.address}]}});
        let patch = format!("--patch={status}");
        self.k
            .run(&["patch", "pod", name, "--subresource=status", "--type=merge", &patch])?;
        Ok(())
    }
}

/// Code and answer of a request.
async fn ask(connection: &mut Connection, path: &str) -> Result<(u16, String)> {
    send(connection, Call::get(path)).await
}

async fn send(connection: &mut Connection, call: Call) -> Result<(u16, String)> {
    let response = connection.open(&call).await?;
    let code = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((code, String::from_utf8(body.to_vec())?))
}

fn message(text: &str) -> String {
    let status: Value = serde_json::from_str(text).unwrap_or_default();
    status["message"].as_str().unwrap_or(text).to_owned()
}

const POD: &str = "/api/v1/namespaces/default/pods";

#[test]
fn logs_are_followed_and_their_errors_told_in_upstreams_words() -> Result<()> {
    let Some(mut world) = World::start()? else {
        return Ok(());
    };
    let log = world.k.run(&["logs", "p", "-c", "app", "--tail=5", "--timestamps"])?;
    assert_eq!(log, "asked /containerLogs/default/p/app?tailLines=5&timestamps=true\n");

    let mut following = Running::start(&world.k, &["logs", "-f", "one"])?;
    assert_eq!(following.line()?, "asked /containerLogs/default/one/app?follow=true\n");
    for line in ["line 1\n", "line 2\n"] {
        world.kubelet.more();
        assert_eq!(following.line()?, line);
    }
    assert_eq!(following.end()?, 0);

    // Whoever follows a log and leaves is not waited for.
    let mut leaving = Running::start(&world.k, &["logs", "-f", "one"])?;
    leaving.line()?;
    assert_eq!(world.kubelet.followed(), 1);
    drop(leaving);
    let begun = Instant::now();
    while world.kubelet.followed() > 0 {
        ensure!(
            begun.elapsed() < Duration::from_secs(20),
            "the kubelet still sends to nobody"
        );
        std::thread::sleep(Duration::from_millis(10));
    }

    world.pod("lost", None, &["app"])?;
    world.pod("orphan", Some("gone"), &["app"])?;
    world.node("dead", "127.0.0.1", 1, true)?;
    world.pod("dead", Some("dead"), &["app"])?;
    runtime().block_on(async {
        let mut connection = target(&world.server)?.connect().await?;
        for (path, code, expected) in [
            ("p/log", 400, "a container name must be specified for pod p, choose one of: [app broken missing moved]"),
            ("p/log?container=x", 400, "container x is not valid for pod p"),
            ("p/log?container=broken", 500, "Internal error occurred: the log is broken"),
            ("p/log?container=missing", 404, "the server could not find the requested resource ( pods/log p)"),
            ("p/log?container=moved", 500, "Get \"https://192.0.2.1/\": redirects forbidden"),
            ("p/log?tailLines=-1", 422, "PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"),
            ("p/log?limitBytes=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("none/log", 404, "pods \"none\" not found"),
            ("orphan/log", 404, "pods \"gone\" not found"),
            ("lost/log", 204, ""),
            ("dead/log", 500, "Get \"https://127.0.0.1:1/containerLogs/default/dead/app\": dial tcp 127.0.0.1:1: connect: connection refused"),
        ] {
            let (found, text) = ask(&mut connection, &format!("{POD}/{path}")).await?;
            assert_eq!((found, message(&text).as_str()), (code, expected), "{path}");
        }
        // A certificate is checked unless the client does not want it to be.
        let port = world.kubelet.port;
        world.node("stranger", "localhost", port, true)?;
        world.pod("stranger", Some("stranger"), &["app"])?;
        let (code, text) = ask(&mut connection, &format!("{POD}/stranger/log")).await?;
        ensure!(code == 500, "{code} {text}");
        has(&message(&text), "x509: certificate is")?;
        let unverified = format!("{POD}/stranger/log?insecureSkipTLSVerifyBackend=true");
        assert_eq!(ask(&mut connection, &unverified).await?.0, 200);
        let (_, metrics) = ask(&mut connection, "/metrics").await?;
        has(&metrics, "kube_apiserver_pod_logs_insecure_backend_total{usage=\"skip_tls_allowed\"} 1")?;
        has(&metrics, "kube_apiserver_pod_logs_backend_tls_failure_total 1")
    })?;
    world.kubelet.stop();
    Ok(())
}

#[test]
fn commands_run_over_websockets() -> Result<()> {
    let Some(world) = World::start()? else { return Ok(()) };
    commands(&world)?;
    counted(
        &world,
        "apiserver_websocket_streaming_requests_total{proxy_type=\"proxied_to_kubelet\",subresource=\"exec\"}",
    )
}

/// A kubelet of before 1.36: its WebSockets end here.
#[test]
fn commands_are_translated_for_kubelets_that_know_only_spdy() -> Result<()> {
    let Some(world) = World::with(false, false)? else {
        return Ok(());
    };
    commands(&world)?;
    let seen = world.kubelet.seen();
    ensure!(!seen.iter().any(|s| s.starts_with("GET /exec")), "{seen:?}");
    counted(&world, "apiserver_stream_translator_requests_total{code=\"200\"}")?;
    world.node("dead", "127.0.0.1", 1, false)?;
    world.pod("dead", Some("dead"), &["app"])?;
    let refused = world.k.refused(&["exec", "dead", "--", "cat"], "")?;
    let why = "Internal error occurred: error sending request: Post \"https://127.0.0.1:1/exec/default/dead/app";
    has(&refused, why)?;
    has(&refused, "dial tcp 127.0.0.1:1: connect: connection refused")?;
    counted(&world, "apiserver_stream_translator_requests_total{code=\"500\"}")
}

#[test]
fn kubectl_falls_back_to_spdy() -> Result<()> {
    let Some(world) = World::with(true, false)? else {
        return Ok(());
    };
    commands(&world)?;
    let seen = world.kubelet.seen();
    let both = ["GET /exec", "POST /exec"]
        .iter()
        .all(|asked| seen.iter().any(|s| s.starts_with(asked)));
    ensure!(both, "{seen:?}");
    world.node("dead", "127.0.0.1", 1, true)?;
    world.pod("dead", Some("dead"), &["app"])?;
    let refused = world.k.refused(&["exec", "dead", "--", "cat"], "")?;
    has(
        &refused,
        "error dialing backend: dial tcp 127.0.0.1:1: connect: connection refused",
    )
}

#[test]
fn ports_are_forwarded_over_websockets_and_spdy() -> Result<()> {
    let Some(world) = World::with(false, false)? else {
        return Ok(());
    };
    for websockets in ["true", "false"] {
        let mut command = world.k.command(&["port-forward", "pod/one", ":80"]);
        command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets);
        let mut forwarding = Running::spawn(command)?;
        let line = forwarding.line()?;
        let address = line.strip_prefix("Forwarding from ").and_then(|l| l.split(' ').next());
        let address = address.with_context(|| format!("unexpected {line:?}"))?.to_owned();
        for round in 0..3 {
            let mut stream = TcpStream::connect(&address)?;
            stream.write_all(format!("hello {round}").as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            let mut echo = String::new();
            stream.read_to_string(&mut echo)?;
            assert_eq!(echo, format!("port 80: hello {round}"), "{websockets}");
        }
    }
    counted(&world, "apiserver_stream_tunnel_requests_total{code=\"101\"} 1")
}

fn counted(world: &World, series: &str) -> Result<()> {
    runtime().block_on(async {
        let mut connection = target(&world.server)?.connect().await?;
        let (_, metrics) = ask(&mut connection, "/metrics").await?;
        has(&metrics, series)
    })
}

/// The same with any kubelet.
fn commands(world: &World) -> Result<()> {
    let piped = world.k.pipe(&["exec", "-i", "one", "--", "cat"], "hello\nkubelet\n")?;
    assert_eq!(String::from_utf8_lossy(&piped.stderr), "");
    assert_eq!(String::from_utf8_lossy(&piped.stdout), "hello\nkubelet\n");
    let long = "0123456789abcdef".repeat(20_000);
    let piped = world.k.pipe(&["exec", "-i", "one", "--", "cat"], &long)?;
    ensure!(
        String::from_utf8_lossy(&piped.stdout) == long,
        "{} bytes came back",
        piped.stdout.len()
    );
    let asked = world.k.run(&["exec", "p", "-c", "app", "--", "print", "a b"])?;
    has(&asked, "asked command=print&command=a+b&error=1&output=1")?;
    let failed = world.k.command(&["exec", "one", "--", "fail"]).output()?;
    assert_eq!(failed.status.code(), Some(3));
    has(&String::from_utf8_lossy(&failed.stderr), "it failed")?;
    let attached = world.k.pipe(&["attach", "-i", "one"], "to attach\n")?;
    has(&String::from_utf8_lossy(&attached.stdout), "to attach")
}

#[test]
fn proxies_lead_to_nodes_pods_and_services() -> Result<()> {
    let Some(world) = World::start()? else {
        return Ok(());
    };
    world.node("local", "127.0.0.1", world.kubelet.port, true)?;
    let (port, plain) = (world.kubelet.port, world.kubelet.plain);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"ports": [{"name": "web", "port": 80}, {"name": "tls", "port": 443}]}});
    let target_ref = json!({"kind": "Pod", "namespace": "default", "name": "one"});
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "s"}, "subsets": [
        {"addresses": [{"ip": world.address, "targetRef": target_ref}], "ports": [{"name": "web", "port": plain}, {"name": "tls", "port": port}]}]});
    let forged = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "forged"}, "subsets": [
        {"addresses": [{"ip": "192.0.2.7", "targetRef": target_ref}], "ports": [{"name": "web", "port": port}]}]});
    for object in [service, endpoints, forged] {
        world.k.feed(&["create", "-f", "-"], &object.to_string())?;
    }
    runtime().block_on(async {
        let mut connection = target(&world.server)?.connect().await?;
        let ns = "/api/v1/namespaces/default";
        for (path, expected) in [
            ("/api/v1/nodes/n/proxy/stats/summary?a=b".to_owned(), "/stats/summary"),
            (format!("/api/v1/nodes/https:n:{port}/proxy/a/"), "/a/"),
        ] {
            let echo = connection.json(&Call::get(path.as_str())).await?;
            assert_eq!(echo["path"], expected);
            ensure!(
                echo["headers"]["authorization"].is_null(),
                "credentials reached a kubelet: {echo}"
            );
        }
        for path in [
            format!("{ns}/pods/one:{plain}/proxy/a%20b/c?x=%2F"),
            format!("{ns}/pods/http:one:{plain}/proxy/a%20b/c?x=%2F"),
            format!("{ns}/services/s:web/proxy/a%20b/c?x=%2F"),
            format!("{ns}/services/s:80/proxy/a%20b/c?x=%2F"),
            format!("{ns}/services/http:s:web/proxy/../../a%20b/c?x=%2F"),
        ] {
            let echo = connection.json(&Call::get(path.as_str())).await.context(path)?;
            assert_eq!((&echo["path"], &echo["query"]), (&json!("/a%20b/c"), &json!("x=%2F")));
            ensure!(
                echo["headers"]["authorization"].is_null(),
                "credentials reached a pod: {echo}"
            );
        }
        // The echo wants a client certificate, which only kubelets are shown: nobody else's port of a node is.
        for path in [
            format!("{ns}/pods/https:one:{port}/proxy/x"),
            format!("{ns}/services/https:s:tls/proxy/x"),
        ] {
            let (code, text) = ask(&mut connection, &path).await?;
            ensure!(code == 503, "{path}: {code} {text}");
            has(
                &message(&text),
                "error trying to reach service: remote error: tls: certificate required",
            )?;
        }
        for (path, code, expected) in [
            ("/api/v1/nodes/none/proxy/".to_owned(), 404, "nodes \"none\" not found"),
            ("/api/v1/nodes/local/proxy/".to_owned(), 400, "address not allowed"),
            (
                "/api/v1/nodes/a:b:c:d/proxy/".to_owned(),
                400,
                "invalid node request \"a:b:c:d\"",
            ),
            (
                format!("{ns}/pods/ftp:one:80/proxy/"),
                400,
                "invalid pod request \"ftp:one:80\"",
            ),
            (
                format!("{ns}/services/s:81/proxy/"),
                503,
                "no service port 81 found for service \"s\"",
            ),
            (
                format!("{ns}/services/s:x/proxy/"),
                503,
                "no endpoints available for service \"s:x\"",
            ),
            (format!("{ns}/services/none/proxy/"), 404, "services \"none\" not found"),
            (
                format!("{ns}/services/forged:web/proxy/"),
                503,
                "no endpoints available for service \"forged:web\"",
            ),
            (
                format!("{ns}/pods/one/exec?command=x&stdout=1"),
                400,
                "Upgrade request required",
            ),
            (format!("{ns}/pods/one/exec?dryRun=All"), 400, "dryRun is not supported"),
        ] {
            let (found, text) = ask(&mut connection, &path).await?;
            assert_eq!((found, message(&text).as_str()), (code, expected), "{path}");
        }
        let call = Call::send(
            Method::PUT,
            format!("{POD}/one/log"),
            "application/json",
            "{}".to_owned(),
        );
        assert_eq!(send(&mut connection, call).await?.0, 405);
        // CVE-2019-11250 in spirit: a browser's token among the protocols goes to nobody.
        let mut call = Call::get("/api/v1/nodes/n/proxy/x");
        let hidden = "base64url.bearer.authorization.k8s.io.c2VjcmV0, v4.channel.k8s.io";
        call.headers.push(("sec-websocket-protocol", hidden.into()));
        let echo = connection.json(&call).await?;
        assert_eq!(echo["headers"]["sec-websocket-protocol"], "v4.channel.k8s.io");
        let redirect = connection.open(&Call::get("/api/v1/nodes/n/proxy?a=b")).await?;
        assert_eq!(redirect.status(), 301);
        assert_eq!(redirect.headers()["location"], "/api/v1/nodes/n/proxy/?a=b");
        let redirect = connection.open(&Call::get("/api/v1/nodes/n/proxy/elsewhere")).await?;
        assert_eq!(redirect.status(), 302);
        assert_eq!(redirect.headers()["location"], "/api/v1/nodes/n/proxy/login?x=1");
        let put = Call::send(
            Method::PUT,
            "/api/v1/nodes/n/proxy/x",
            "text/plain",
            "content".to_owned(),
        );
        let (code, text) = send(&mut connection, put).await?;
        assert_eq!(code, 200);
        let echo: Value = serde_json::from_str(&text)?;
        assert_eq!((&echo["method"], &echo["body"]), (&json!("PUT"), &json!("content")));
        assert_eq!(echo["headers"]["x-forwarded-uri"], "/api/v1/nodes/n/proxy/x");
        Ok(())
    })
}

/// kubernetes/kubernetes#133515: a WebSocket begins with GET, and what it does is more than reading.
#[test]
fn commands_need_the_permission_to_create_and_pass_admission() -> Result<()> {
    let Some(world) = World::start()? else {
        return Ok(());
    };
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["pods/exec", "pods/portforward"], "verbs": ["get"]}]});
    world.k.feed(&["create", "-f", "-"], &role.to_string())?;
    world
        .k
        .run(&["create", "rolebinding", "reader", "--role=reader", "--user=suite-user"])?;
    world.k.run(&[
        "create",
        "clusterrole",
        "node-reader",
        "--verb=get",
        "--resource=nodes/proxy",
    ])?;
    world.k.run(&[
        "create",
        "clusterrolebinding",
        "node-reader",
        "--clusterrole=node-reader",
        "--user=suite-user",
    ])?;
    runtime().block_on(async {
        let user = Target::new(world.server.address(), Some(USER_TOKEN.into()), None, false)?;
        let mut connection = user.connect().await?;
        for path in ["one/exec?command=x", "one/portforward"] {
            let (code, text) = ask(&mut connection, &format!("{POD}/{path}")).await?;
            assert_eq!((code, message(&text).as_str()), (403, "pods \"one\" is forbidden: "));
        }
        // NCC WV3: with a kubelet, reading with a WebSocket is running commands.
        let user = Target::new(world.server.address(), Some(USER_TOKEN.into()), None, true)?;
        let mut connection = user.connect().await?;
        let mut call = Call::get("/api/v1/nodes/n/proxy/exec/default/one/app?command=x");
        let (code, text) = send(&mut connection, call.clone()).await?;
        let unasked = "backend tried to switch protocol \"SPDY/3.1\" when \"\" was requested";
        assert_eq!((code, message(&text).as_str()), (500, unasked));
        call.headers
            .extend([("connection", "Upgrade".into()), ("upgrade", "websocket".into())]);
        let (code, text) = send(&mut connection, call).await?;
        assert_eq!((code, message(&text).as_str()), (403, "nodes \"n\" is forbidden: "));
        anyhow::Ok(())
    })?;
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "no-shells"}, "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"],
                "resources": ["pods/exec"]}]},
            "validations": [{"expression": "request.kind.kind == 'PodExecOptions' && object.container != 'x' && !('sh' in object.command)",
                "message": "no shells"}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "no-shells"}, "spec": {"policyName": "no-shells", "validationActions": ["Deny"]}});
    for object in [policy, binding] {
        world.k.feed(&["create", "-f", "-"], &object.to_string())?;
    }
    let refused = world.k.refused(&["exec", "one", "-c", "app", "--", "sh"], "")?;
    has(&refused, "no shells")?;
    let asked = world.k.run(&["exec", "one", "-c", "app", "--", "print"])?;
    has(&asked, "command=print")
}

/// A kubelet that takes a connection and says nothing: Go gives up on TLS after ten seconds.
#[test]
fn a_kubelet_that_hangs_is_not_waited_for_for_ever() -> Result<()> {
    if !slow() {
        return Ok(());
    }
    let Some(world) = World::start()? else { return Ok(()) };
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let port = silent.local_addr()?.port();
    world.node("silent", "127.0.0.1", port, true)?;
    world.pod("silent", Some("silent"), &["app"])?;
    runtime().block_on(async {
        let mut connection = target(&world.server)?.connect().await?;
        let (code, text) = ask(&mut connection, &format!("{POD}/silent/log")).await?;
        ensure!(code == 500, "{code} {text}");
        has(&message(&text), "net/http: TLS handshake timeout")
    })
}

/// A kubectl that goes on.
struct Running {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(k: &Kubectl, arguments: &[&str]) -> Result<Running> {
        Running::spawn(k.command(arguments))
    }

    fn spawn(mut command: Command) -> Result<Running> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Running { child, output })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }

    fn end(&mut self) -> Result<i32> {
        self.child.wait()?.code().context("killed")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
