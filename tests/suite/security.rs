//! Defects that servers of this kind have had, by the name of their origin, as a client on the wire would try them.
//! What needs no whole server is tested in `src/gateway/tests`, `src/auth` and `src/server`.

use crate::aggregation::eventually;
use anyhow::{Context, Result, ensure};
use fairlead_bench::client::{Call, Connection};
use fairlead_tests::backend::{Backend, own_address, target};
use fairlead_tests::server::{Server, TOKEN, USER_TOKEN};
use fairlead_tests::tools::on_path;
use http::Method;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const GROUP: &str = "locks.example.com";

/// A server with a backend, and an administrator's connection.
struct World {
    server: Server,
    backend: Backend,
    admin: Connection,
    runtime: tokio::runtime::Runtime,
}

fn world(arguments: &[&str]) -> Result<Option<World>> {
    if own_address().is_none() || !on_path("openssl") {
        fairlead_tests::skip("this needs openssl and an address besides loopback");
        return Ok(None);
    }
    let server = Server::start(&[&["--enable-aggregator-routing=true"], arguments].concat())?;
    let backend = Backend::start(&server, GROUP, 0)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let admin = runtime.block_on(async {
        let mut admin = target(&server)?.connect().await?;
        backend.register(&mut admin).await?;
        backend.wait(&mut admin, "True").await?;
        anyhow::Ok(admin)
    })?;
    Ok(Some(World {
        server,
        backend,
        admin,
        runtime,
    }))
}

impl World {
    fn json(&mut self, call: &Call) -> Result<Value> {
        self.runtime.block_on(self.admin.json(call))
    }

    fn post(&mut self, path: &str, object: &Value) -> Result<Value> {
        self.json(&Call::send(Method::POST, path, "application/json", object.to_string()))
    }

    /// The status of an answer, and its text.
    fn call(&mut self, call: &Call) -> Result<(u16, String)> {
        use http_body_util::BodyExt;
        self.runtime.block_on(async {
            let response = self.admin.open(call).await?;
            let code = response.status().as_u16();
            let body = response.into_body().collect().await?.to_bytes();
            Ok((code, String::from_utf8_lossy(&body).into_owned()))
        })
    }
}

/// Sends bytes over TLS as they are, with further options of `openssl s_client`, and answers what comes back until the
/// server closes or is silent.
fn raw(server: &Server, options: &[&str], bytes: &str) -> Result<String> {
    let address = server.address().trim_start_matches("https://");
    let mut child = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", address])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().context("no standard input")?;
    input.write_all(bytes.as_bytes())?;
    let mut output = child.stdout.take().context("no standard output")?;
    let (sender, receiver) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(n @ 1..) = output.read(&mut buffer) {
            if sender.send(buffer[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut all = Vec::new();
    let first = Instant::now() + Duration::from_secs(10);
    loop {
        // Long for the first answer, then until it falls silent.
        let wait = match all.is_empty() {
            true => first.saturating_duration_since(Instant::now()),
            false => Duration::from_millis(400),
        };
        match receiver.recv_timeout(wait) {
            Ok(piece) => all.extend(piece),
            Err(_) => break,
        }
    }
    drop(input);
    child.kill()?;
    child.wait()?;
    drop(reader.join());
    Ok(String::from_utf8_lossy(&all).into_owned())
}

fn codes(answers: &str) -> Vec<&str> {
    answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|a| a.get(..3).unwrap_or(""))
        .collect()
}

/// A host that nobody has any business with; counts who connects.
fn trap() -> Result<(u16, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("0.0.0.0:0")?;
    let (port, caught) = (listener.local_addr()?.port(), Arc::new(AtomicUsize::new(0)));
    let count = caught.clone();
    std::thread::spawn(move || {
        for _ in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    Ok((port, caught))
}

fn openssl(directory: &Path, arguments: &str) -> Result<()> {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .output()?;
    ensure!(
        output.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// What a review says of the user of a raw request with these headers.
fn who(server: &Server, options: &[&str], headers: &str) -> Result<String> {
    let body = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
    let length = body.len();
    raw(
        server,
        options,
        &format!(
            "POST /apis/authentication.k8s.io/v1/selfsubjectreviews HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        ),
    )
}

/// CVE-2018-1002102 and CVE-2022-3172: nothing that leads elsewhere, from nodes or from backends.
#[test]
fn cve_2018_1002102_and_cve_2022_3172_no_redirect_reaches_a_client() -> Result<()> {
    let Some(mut world) = world(&[])? else { return Ok(()) };
    let (port, caught) = trap()?;
    let address = own_address().context("the address is gone")?;
    // The backend is a node's agent as well, which says the same to everybody.
    let agent = world.backend.address.port();
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
        "status": {"addresses": [{"type": "InternalIP", "address": address}], "daemonEndpoints": {"kubeletEndpoint": {"Port": agent}}}});
    world.post("/api/v1/nodes", &node)?;
    world.backend.order(&format!("redirect=https://{address}:{port}/"))?;
    let parcels = world.backend.parcels();
    for (path, may_be_told) in [
        // COMPAT: kube-apiserver passes on what a node says, too.
        ("/api/v1/nodes/n/proxy/logs", true),
        ("/api/v1/nodes/n:9999/proxy/", true),
        ("/api/v1/proxy/nodes/n/logs", false),
        (&*parcels, false),
        ("/apis/locks.example.com/v1alpha1", false),
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n");
        let answer = raw(&world.server, &[], &request)?;
        let head = answer.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
        ensure!(codes(&answer).len() == 1, "{path}: {answer}");
        let told = codes(&answer)[0].starts_with('3') || head.contains("location:");
        ensure!(!told || may_be_told, "{path}: {answer}");
    }
    ensure!(
        world.backend.struck()?.values().sum::<u64>() >= 2,
        "nobody was told to go elsewhere"
    );
    // The probe that follows does not go there either.
    world.runtime.block_on(world.backend.wait(&mut world.admin, "False"))?;
    ensure!(caught.load(Ordering::SeqCst) == 0, "somebody followed");
    Ok(())
}

/// CVE-2022-3294: metadata services, this machine and this very server are no backends.
#[test]
fn cve_2022_3294_forbidden_addresses_are_not_dialed() -> Result<()> {
    let Some(mut world) = world(&[])? else { return Ok(()) };
    let own = own_address().context("the address is gone")?;
    let port: u16 = world.server.address().rsplit(':').next().context("no port")?.parse()?;
    let (trapped, caught) = trap()?;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/locks";
    for (address, port) in [
        ("169.254.169.254".to_owned(), 80),
        ("127.0.0.1".to_owned(), trapped),
        (own.to_string(), port),
    ] {
        // Validation may refuse it at once; if not, the gateway does.
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "locks"},
            "addressType": "IPv4", "endpoints": [{"addresses": [address]}], "ports": [{"name": "https", "port": port}]});
        let call = Call::send(Method::PATCH, slices, "application/merge-patch+json", slice.to_string());
        let (code, text) = world.call(&call)?;
        if code == 422 {
            continue;
        }
        ensure!(code == 200, "{address}: {code} {text}");
        let parcels = world.backend.parcels();
        let (code, text) = world.call(&Call::get(&parcels))?;
        ensure!(code == 503 && !text.contains(&address), "{address}: {code} {text}");
        let (server, backend) = (&world.server, &world.backend);
        let status = || -> Result<String> {
            let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{}", backend.api_service());
            let found = world.runtime.block_on(server.get(&path))?;
            Ok(found["status"]["conditions"][0]["message"]
                .as_str()
                .unwrap_or_default()
                .to_owned())
        };
        eventually(|| {
            let message = status()?;
            ensure!(message.contains(&format!("{address} is not allowed")), "{message}");
            Ok(())
        })?;
    }
    ensure!(caught.load(Ordering::SeqCst) == 0, "somebody was dialed");
    Ok(())
}

/// NCC F9W: who trusts one CA for both must say whose certificates are proxies.
#[test]
fn ncc_f9w_a_shared_ca_is_refused_at_start() -> Result<()> {
    let server = Server::start(&[])?;
    let ca = server.path("data/pki/ca.crt").display().to_string();
    let (client, proxy) = (
        format!("--client-ca-file={ca}"),
        format!("--requestheader-client-ca-file={ca}"),
    );
    let error = Server::start(&[&client, &proxy])
        .err()
        .context("it started")?
        .to_string();
    ensure!(error.contains("--requestheader-allowed-names"), "{error}");
    Server::start(&[&client, &proxy, "--requestheader-allowed-names=front-proxy-client"]).map(drop)
}

/// NCC F9W: a client certificate is nobody's word but its own. It is of version 1, which kube-apiserver takes, too.
#[test]
fn ncc_f9w_x_remote_user_beside_an_ordinary_certificate_is_ignored() -> Result<()> {
    if !on_path("openssl") {
        fairlead_tests::skip("openssl is not installed");
        return Ok(());
    }
    let server = Server::start(&[])?;
    let directory = server.path("client");
    std::fs::create_dir(&directory)?;
    let pki = server.path("data/pki");
    let pki = pki.display();
    for kind in [
        "ec -pkeyopt ec_paramgen_curve:P-256",
        "rsa -pkeyopt rsa_keygen_bits:2048",
    ] {
        openssl(&directory, &format!("genpkey -algorithm {kind} -out bob.key"))?;
        openssl(
            &directory,
            "req -new -key bob.key -subj /O=builders/CN=bob -out bob.csr",
        )?;
        openssl(
            &directory,
            &format!("x509 -req -in bob.csr -CA {pki}/ca.crt -CAkey {pki}/ca.key -set_serial 7 -out bob.crt -days 2"),
        )?;
        let (certificate, key) = (directory.join("bob.crt"), directory.join("bob.key"));
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        for version in ["-tls1_3", "-tls1_2"] {
            let answer = who(
                &server,
                &["-cert", &certificate, "-key", &key, version],
                "X-Remote-User: admin\r\nX-Remote-Group: system:masters\r\nX-Remote-Extra-Scopes: all\r\n",
            )?;
            ensure!(
                codes(&answer) == ["201"] && answer.contains(r#""username":"bob""#),
                "{kind} {version}: {answer}"
            );
            ensure!(answer.contains("builders") && !answer.contains("masters"), "{answer}");
        }
    }
    // Nor do they count beside no certificate, or a token.
    let answer = who(
        &server,
        &[],
        "X-Remote-User: admin\r\nX-Remote-Group: system:masters\r\n",
    )?;
    ensure!(
        codes(&answer) == ["403"] || answer.contains("system:anonymous"),
        "{answer}"
    );
    let headers = format!("Authorization: Bearer {USER_TOKEN}\r\nX-Remote-User: admin\r\n");
    ensure!(who(&server, &[], &headers)?.contains(r#""username":"suite-user""#));
    Ok(())
}

/// NCC YVU and HFV, through the whole server: what the backend hears of the user is what this server found out.
#[test]
fn ncc_yvu_spoofed_identities_do_not_reach_a_backend() -> Result<()> {
    let Some(world) = world(&[])? else { return Ok(()) };
    for (n, spoofed) in [
        "X-Remote-User: evil",
        "x-remote-user: evil\r\nX-REMOTE-USER: evil",
        "X_Remote_User: evil",
        "X-Remote-User: evil\r\nConnection: X-Remote-User",
        "Connection: X-Remote-User, X-Remote-Group, close",
    ]
    .iter()
    .enumerate()
    {
        let body = format!(r#"{{"metadata":{{"name":"p{n}"}},"spec":{{"carrier":"post","destination":"x"}}}}"#);
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n{spoofed}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            world.backend.parcels(),
            body.len()
        );
        let answer = raw(&world.server, &[], &request)?;
        ensure!(codes(&answer) == ["201"], "{spoofed}: {answer}");
        ensure!(
            answer.contains(r#"/created-by":"admin""#) && !answer.contains("evil"),
            "{spoofed}: {answer}"
        );
    }
    Ok(())
}

/// CVE-2020-8561: a webhook leads nowhere else, and what it says is in no log, however talkative.
#[test]
fn cve_2020_8561_webhooks_neither_redirect_nor_fill_the_log() -> Result<()> {
    let Some(mut world) = world(&["-v=10"])? else {
        return Ok(());
    };
    let (port, caught) = trap()?;
    let url = format!("https://localhost:{}/hook", world.backend.address.port());
    let hook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "h"},
        "webhooks": [{"name": "h.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
            "clientConfig": {"url": url, "caBundle": world.backend.ca()},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}]}]});
    world.post(
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
        &hook,
    )?;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}}).to_string();
    let create = Call::send(
        Method::POST,
        "/api/v1/namespaces/default/configmaps",
        "application/json",
        map,
    );
    for fault in [&format!("redirect=https://localhost:{port}/"), "status=500", "html"] {
        world.backend.order(fault)?;
        let (code, text) = world.call(&create)?;
        ensure!(
            code == 500 && text.contains("failed calling webhook"),
            "{fault}: {code} {text}"
        );
    }
    ensure!(caught.load(Ordering::SeqCst) == 0, "somebody followed");
    let log = std::fs::read_to_string(world.server.path("stderr"))?;
    for said in ["out of order", "log in</title>", "elsewhere"] {
        ensure!(!log.contains(said), "{said:?} is in the log");
    }
    for secret in [TOKEN, USER_TOKEN] {
        ensure!(!log.contains(secret), "a token is in the log");
    }
    Ok(())
}

/// NCC MRE: either a bundle or no verification, never both; and a backend without the right certificate gets nothing.
#[test]
fn ncc_mre_verification_is_not_skipped() -> Result<()> {
    let Some(mut world) = world(&[])? else { return Ok(()) };
    let path = format!(
        "/apis/apiregistration.k8s.io/v1/apiservices/{}",
        world.backend.api_service()
    );
    let both = json!({"spec": {"insecureSkipTLSVerify": true}}).to_string();
    let (code, text) = world.call(&Call::send(Method::PATCH, &path, "application/merge-patch+json", both))?;
    ensure!(
        code == 422 && text.contains("may not be true if caBundle is present"),
        "{code} {text}"
    );
    let parcels = world.backend.parcels();
    for fault in ["other-ca", "other-name", "expired"] {
        world.backend.order(fault)?;
        world.runtime.block_on(world.backend.wait(&mut world.admin, "False"))?;
        let (code, text) = world.call(&Call::get(&parcels))?;
        ensure!(code == 503, "{fault}: {code} {text}");
        world.backend.order("none")?;
        world.runtime.block_on(world.backend.wait(&mut world.admin, "True"))?;
    }
    let skip = json!({"spec": {"insecureSkipTLSVerify": true, "caBundle": null}}).to_string();
    world.json(&Call::send(Method::PATCH, &path, "application/merge-patch+json", skip))?;
    world.backend.order("other-name")?;
    // It was available before, too: the new certificate may not be there yet.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (code, text) = world.call(&Call::get(&parcels))?;
        if code == 200 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "nobody verifies, and yet: {code} {text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// NCC 47W, PCK, TTV and WHE: the server needs no token to talk to itself, so there is none to find. (Tokens are compared
/// as digests and in constant time: `fairlead_auth::authentication::token_file`.)
#[test]
fn ncc_47w_there_is_no_loopback_token() -> Result<()> {
    if !on_path("openssl") {
        fairlead_tests::skip("openssl is not installed");
        return Ok(());
    }
    let server = Server::start(&[])?;
    let mut candidates = vec!["system:apiserver".to_owned(), "loopback".into(), "x".repeat(5000)];
    for entry in std::fs::read_dir(server.path("data/pki"))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        ensure!(
            text.starts_with("-----BEGIN "),
            "{} is no certificate or key",
            path.display()
        );
        candidates.push(text.lines().nth(1).unwrap_or_default().to_owned());
        if path.extension().is_some_and(|e| e == "key") {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&path)?.permissions().mode() & 0o777;
            ensure!(mode == 0o600, "{} has mode {mode:o}", path.display());
        }
    }
    let kubeconfig = std::fs::read_to_string(server.kubeconfig())?;
    ensure!(!kubeconfig.contains("token"), "the kubeconfig holds a token");
    for token in candidates {
        let answer = who(&server, &[], &format!("Authorization: Bearer {token}\r\n"))?;
        ensure!(codes(&answer) == ["401"], "{token}: {answer}");
    }
    // Nor does a name do, from wherever.
    let answer = who(&server, &[], "Impersonate-User: system:apiserver\r\n")?;
    ensure!(codes(&answer) == ["403"], "{answer}");
    Ok(())
}

/// k/k#58070: clients learn which group is in trouble, and not where it lives.
#[test]
fn kk_58070_errors_name_no_backend() -> Result<()> {
    let Some(mut world) = world(&[])? else { return Ok(()) };
    let parcels = world.backend.parcels();
    let address = own_address().context("the address is gone")?.to_string();
    let port = world.backend.address.port().to_string();
    for fault in [
        "reset",
        "other-ca",
        "other-name",
        "expired",
        "objects:reset-stream",
        "blackhole",
        "crash",
    ] {
        world.backend.order(fault)?;
        for path in [&parcels, "/apis/locks.example.com/v1alpha1"] {
            let (code, text) = world.call(&Call::get(path))?;
            ensure!(code == 503 || code == 200, "{fault}: {code} {text}");
            for leak in [&address, &port, "default.svc", "extension-server"] {
                ensure!(code == 200 || !text.contains(leak), "{fault}: {text}");
            }
        }
        if fault != "crash" {
            world.backend.order("none")?;
            world.runtime.block_on(world.backend.wait(&mut world.admin, "True"))?;
        }
    }
    Ok(())
}

/// k/k#119662: whatever a backend says about itself, other groups stay what they are.
#[test]
fn kk_119662_a_lying_backend_changes_no_other_group() -> Result<()> {
    let Some(mut world) = world(&[])? else { return Ok(()) };
    let others = |mut document: Value| {
        let items = document["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        items
            .into_iter()
            .filter(|i| i["metadata"]["name"] != GROUP)
            .collect::<Vec<_>>()
    };
    let discovery = Call {
        accept: "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        ..Call::get("/apis")
    };
    let before = others(world.json(&discovery)?);
    ensure!(before.len() > 10, "{before:?}");
    for lie in [
        "html",
        "not-acceptable",
        "empty",
        "other-groups",
        "status=403",
        "redirect=https://192.0.2.1/",
        "big-body=9000000",
    ] {
        world.backend.order(lie)?;
        // Something that is learnt anew: the registration changes.
        let path = format!(
            "/apis/apiregistration.k8s.io/v1/apiservices/{}",
            world.backend.api_service()
        );
        let change = json!({"spec": {"versionPriority": 10 + lie.len()}}).to_string();
        world.json(&Call::send(
            Method::PATCH,
            &path,
            "application/merge-patch+json",
            change,
        ))?;
        std::thread::sleep(Duration::from_millis(300));
        let after = others(world.json(&discovery)?);
        ensure!(after == before, "{lie}: other groups changed");
        let (code, _) = world.call(&Call::get("/apis/apps/v1/namespaces/default/deployments"))?;
        ensure!(code == 200, "{lie}: apps answers {code}");
    }
    world.backend.order("none")?;
    world.runtime.block_on(world.backend.wait(&mut world.admin, "True"))
}

/// Request smuggling: one request in is one request judged, routed and sent on.
#[test]
fn smuggling_requests_are_what_they_were_judged_as() -> Result<()> {
    let Some(mut world) = world(&[])? else { return Ok(()) };
    // May read parcels of one namespace, and nothing else.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"},
        "rules": [{"apiGroups": [GROUP], "resources": ["parcels"], "verbs": ["get", "list", "create"]}]});
    world.post("/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles", &role)?;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "suite-user", "apiGroup": "rbac.authorization.k8s.io"}]});
    world.post(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
        &binding,
    )?;
    for (name, namespace) in [("mine", "default"), ("canary", "other")] {
        let parcel = json!({"metadata": {"name": name}, "spec": {"carrier": "post", "destination": name}});
        world.post(
            &format!("/apis/{GROUP}/v1alpha1/namespaces/{namespace}/parcels"),
            &parcel,
        )?;
    }
    let user = format!("Host: x\r\nAuthorization: Bearer {USER_TOKEN}\r\n");
    let base = format!("/apis/{GROUP}/v1alpha1/namespaces");
    let get = |path: &str| raw(&world.server, &[], &format!("GET {path} HTTP/1.1\r\n{user}\r\n"));

    // The honest ones work, in the forms a client may choose.
    for path in [
        format!("{base}/default/parcels/mine"),
        format!("{base}/default/%70arcels/m%69ne"),
        format!("https://other.example.com{base}/default/parcels/mine"),
    ] {
        let answer = get(&path)?;
        ensure!(
            codes(&answer) == ["200"] && answer.contains(r#""name":"mine""#),
            "{path}: {answer}"
        );
    }
    // Nothing else gets at what he may not see, however it is written.
    for path in [
        format!("{base}/other/parcels/canary"),
        format!("{base}/default/parcels/../../other/parcels/canary"),
        format!("{base}/default/parcels/..%2f..%2fother%2fparcels%2fcanary"),
        format!("{base}/default/parcels/%2e%2e/%2e%2e/other/parcels/canary"),
        format!("{base}/default/../other/parcels/canary"),
        format!("{base}/default%2fparcels%2f..%2f..%2fother/parcels/canary"),
        format!("{base}/default;/../other/parcels/canary"),
        format!("{base}/default/parcels;/../../other/parcels/canary"),
        format!("{base}//other/parcels/canary"),
        format!("{base}/default//parcels/canary"),
        format!("//apis/{GROUP}/v1alpha1/namespaces/other/parcels/canary"),
        format!("/apis//{GROUP}/v1alpha1/namespaces/other/parcels/canary"),
        format!("/apis/{GROUP}/v1alpha1/parcels?namespace=other"),
        format!("{base}/other/parcels/canary%00"),
        format!("{base}/other/parcels/canary%ff"),
        format!("{base}/default/parcels?x=1;/../../other/parcels"),
        format!("https://x{base}/other/parcels/canary"),
        format!("{base}/default/parcels/mine%3f/../../other/parcels/canary"),
        format!("{base}/other/parcels/canary#/default"),
        format!("{base}\\..\\other\\parcels\\canary"),
    ] {
        let answer = get(&path)?;
        ensure!(!answer.contains(r#""destination":"canary""#), "{path}: {answer}");
        ensure!(codes(&answer).len() == 1, "{path}: {answer}");
    }
    // A second request hidden in the first one's body is a body.
    let hidden = format!("GET {base}/default/parcels/mine HTTP/1.1\r\n{user}\r\n");
    let chunked = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    let post = format!("POST {base}/default/parcels HTTP/1.1\r\n{user}Content-Type: application/json\r\n");
    let length = hidden.len();
    for (request, refused) in [
        // CL.TE and TE.CL: the coding counts, or the request is refused.
        (
            format!("{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"),
            false,
        ),
        (
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n{hidden}"),
            true,
        ),
        (
            format!("{post}Content-Length: {length}\r\nContent-Length: 0\r\n\r\n{hidden}"),
            true,
        ),
        (format!("{post}Content-Length: +{length}\r\n\r\n{hidden}"), true),
        (format!("{post}Transfer-Encoding: xchunked\r\n\r\n{hidden}"), true),
        (
            format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
            true,
        ),
        (
            format!("{post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"),
            true,
        ),
        (
            format!("{post}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n{hidden}"),
            true,
        ),
    ] {
        let answer = raw(&world.server, &[], &request)?;
        let found = codes(&answer);
        // The honest framing of the second may be answered twice: then both are this user's own, judged one by one.
        ensure!(!found.is_empty() || refused, "{request}: no answer");
        ensure!(
            found.len() <= 2 && !answer.contains(r#""destination":"canary""#),
            "{request}: {answer}"
        );
        if let [first] = found.as_slice() {
            ensure!(first.starts_with('4'), "{request}: {answer}");
        }
    }
    Ok(())
}
