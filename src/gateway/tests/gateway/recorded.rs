//! Requests that kube-apiserver proxied to the recordings' own backend, sent again through the gateway.
//!
//! Needs the recordings (FAIRLEAD_CONFORMANCE) and `python3` for their backend; says so and passes without.

use crate::common::{NAME, World, body};
use base64::Engine as _;
use bytes::Bytes;
use fairlead_api::{Node, UserInfo, json, node};
use fairlead_gateway::objects::API_SERVICES;
use fairlead_gateway::{ObjectSource, RequestContext};
use http::Request;
use http_body_util::Full;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

const NS: &str = "recorded";

fn recordings() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let found = std::env::var_os("FAIRLEAD_CONFORMANCE").map_or_else(beside, PathBuf::from);
    found.join("echo_backend.py").exists().then_some(found)
}

#[tokio::test]
async fn proxied_requests_and_answers_are_those_of_kube_apiserver() {
    let Some(recordings) = recordings() else {
        println!("skipped: FAIRLEAD_CONFORMANCE leads to no recordings");
        return;
    };
    let world = World::new();
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let Some(_backend) = start(&recordings, &world, port).await else {
        println!("skipped: the recordings' backend does not start");
        return;
    };
    world.register(&[([127, 0, 0, 1], port).into()], true);
    trust(&world, &recordings.join("backend/ca.crt"));

    let mut gz = Vec::new();
    let file = std::fs::File::open(recordings.join("transcripts/streams-aggregation.jsonl.gz")).unwrap();
    flate2::read::GzDecoder::new(file).read_to_end(&mut gz).unwrap();
    let (mut compared, mut wrong) = (0, Vec::new());
    for line in gz.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        let text = String::from_utf8_lossy(line).replace("${ns}", NS);
        let scenario = json::parse(text.as_bytes()).unwrap();
        if !scenario.str("id").starts_with("aggregation/proxy/") {
            continue;
        }
        for step in scenario.list("flow").iter().filter(|s| is_proxied(s)) {
            compared += 1;
            if let Some(difference) = compare(&world, step).await {
                wrong.push(format!(
                    "{} {}: {difference}",
                    scenario.str("id"),
                    json::to_string(step)
                ));
            }
        }
    }
    assert!(compared > 100, "{compared}");
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
}

async fn start(recordings: &Path, world: &World, port: u16) -> Option<Child> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("recorded-{port}"));
    std::fs::create_dir_all(&directory).unwrap();
    let ca = directory.join("front-proxy-ca.crt");
    std::fs::write(&ca, &world.front_proxy.pem).unwrap();
    let child = Command::new("python3")
        .arg(recordings.join("echo_backend.py"))
        .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--client-ca"])
        .arg(&ca)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    for _ in 0..100 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Some(child);
        }
        // Another process, which tells nobody when it listens.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

fn trust(world: &World, ca: &Path) {
    let mut object = world.objects.get(API_SERVICES, "", NAME).unwrap().as_ref().clone();
    let ca = base64::engine::general_purpose::STANDARD.encode(std::fs::read(ca).unwrap());
    object.set_at(&["spec", "caBundle"], ca);
    object.set_at(&["spec", "service", "name"], "shipping");
    world.objects.put(API_SERVICES, object);
}

/// Steps that get as far as the backend, and whose answer no other part of the server makes.
fn is_proxied(step: &Node) -> bool {
    let is_here = step.str("path").starts_with(&format!("/apis/{NS}.agg.example.com/v1"));
    let user = step.get("headers").map_or("", |h| h.str("Impersonate-User"));
    let answered_elsewhere = ["until", "watch", "upgrade", "chunked"].iter().any(|k| step.get(k).is_some())
        || step.at(&["query", "timeout"]).is_some()
        || step.at(&["expect", "status"]).is_none()
        // What the authorizer refused did not come this far.
        || step.at(&["expect", "body"]).is_some_and(|b| b.str("message").contains(" is forbidden: "));
    is_here && !user.is_empty() && !answered_elsewhere
}

async fn compare(world: &World, step: &Node) -> Option<String> {
    let (request, user) = request(step);
    let context = RequestContext {
        verb: "GET",
        client: Some([127, 0, 0, 1].into()),
        audit_id: "a",
        ..RequestContext::default()
    };
    let response = world.gateway.proxy(NAME, request, &user, &context).await.unwrap();
    let expected = step.get("expect").unwrap();
    let status = i64::from(response.status().as_u16());
    if expected.get("status").and_then(Node::as_i64) != Some(status) {
        return Some(format!("status {status}: {}", body(response).await));
    }
    for name in ["content-type", "retry-after", "location", "x-content-type-options"] {
        let got = response
            .headers()
            .get(name)
            .map_or("", |v| v.to_str().unwrap())
            .replace("; ", ";")
            .to_lowercase();
        let wanted = expected.at(&["headers", name]).and_then(Node::as_str).unwrap_or("");
        if expected.get("headers").is_some() && got != wanted {
            return Some(format!("{name}: {got:?}, not {wanted:?}"));
        }
    }
    let wanted = expected.get("body").filter(|_| step.get("headersOnly").is_none())?;
    let text = body(response).await;
    let mut got = json::parse(text.as_bytes())
        .ok()
        .filter(|n| n.as_map().is_some())
        .unwrap_or(Node::string(text));
    let only = step.list("only");
    if !only.is_empty() {
        let mut picked = Node::map();
        for pointer in only.iter().filter_map(Node::as_str) {
            let path: Vec<&str> = pointer.split('/').skip(1).collect();
            picked.set(pointer, got.at(&path).cloned().unwrap_or_default());
        }
        got = picked;
    }
    let mut wanted = wanted.clone();
    for side in [&mut got, &mut wanted] {
        for ignored in ["audit-id", "host", "x-forwarded-for", "x-forwarded-host"] {
            side.remove_at(&["headers", ignored]);
        }
        // A body that is empty is recorded as none.
        if side.as_str() == Some("") {
            *side = Node::Null;
        }
    }
    (got != wanted).then(|| format!("got {}", json::to_string(&got)))
}

fn request(step: &Node) -> (Request<Full<Bytes>>, UserInfo) {
    let query = match step.get("query") {
        Some(Node::String(query)) => format!("?{query}"),
        Some(Node::Map(pairs)) => {
            let escaped = |v: &str| {
                v.replace('%', "%25")
                    .replace('&', "%26")
                    .replace(' ', "%20")
                    .replace('+', "%2B")
            };
            let pairs: Vec<String> = pairs
                .iter()
                .map(|(k, v)| format!("{k}={}", escaped(v.as_str().unwrap())))
                .collect();
            format!("?{}", pairs.join("&"))
        }
        _ => String::new(),
    };
    let sent = match (step.get("body"), step.get("bodyText")) {
        // As Python writes JSON.
        (Some(body), _) => Some(json::to_string(body).replace(':', ": ").replace(',', ", ")),
        (None, Some(text)) => Some(text.as_str().unwrap().to_owned()),
        _ => None,
    };
    let mut headers = node!({"Accept": "application/json", "User-Agent": "conformance/1.0"});
    if let Some(sent) = &sent {
        headers.set("Content-Type", "application/json");
        headers.set("Content-Length", sent.len().to_string());
    }
    let mut user = UserInfo::default();
    let mut request = Request::builder()
        .method(step.str("method"))
        .uri(format!("{}{query}", step.str("path")));
    for (name, value) in step.get("headers").and_then(Node::as_map).unwrap().iter() {
        let values: Vec<String> = match value {
            Node::List(values) => values.iter().map(|v| v.as_str().unwrap().to_owned()).collect(),
            Node::String(value) => vec![value.to_string()],
            _ => Vec::new(),
        };
        match name.to_lowercase().as_str() {
            "impersonate-user" => user.name = values[0].as_str().into(),
            "impersonate-uid" => user.uid = values[0].as_str().into(),
            "impersonate-group" => user.groups = values.iter().map(|v| v.as_str().into()).collect(),
            extra if extra.starts_with("impersonate-extra-") => {
                let key = extra.trim_start_matches("impersonate-extra-").replace("%2f", "/");
                user.extra.insert(key, values);
            }
            _ => {
                headers.remove(name);
                for value in values {
                    request = request.header(name.as_str(), value);
                }
            }
        }
    }
    for (name, value) in headers.as_map().unwrap().iter() {
        request = request.header(name.as_str(), value.as_str().unwrap());
    }
    if user.name.starts_with("system:serviceaccount:") && !user.in_group("system:serviceaccounts") {
        user.groups.push("system:serviceaccounts".into());
    }
    user.groups.push("system:authenticated".into());
    (request.body(Full::new(sent.unwrap_or_default().into())).unwrap(), user)
}
