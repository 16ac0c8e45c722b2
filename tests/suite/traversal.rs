//! CVE-2022-3162, NCC RKV, CVE-2015-5305: no spelling of a namespace, a name or a continue token reaches another type's
//! or another namespace's objects.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use fairlead_bench::client::{Call, Connection};
use fairlead_tests::server::Server;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::time::Duration;

/// Resources and namespaces whose names begin like each other's.
const KINDS: [(&str, &str, &str); 4] = [
    ("example.com", "foo", "Foo"),
    ("example.com", "foos", "FooS"),
    ("foo.example.com", "bars", "Bar"),
    ("foo.example.com", "foos", "FooBar"),
];
const NAMESPACES: [&str; 3] = ["a", "a-b", "ab"];
const NAMES: [&str; 3] = ["x", "x-y", "x.y"];
/// What paths are put together from, besides the names above.
const PIECES: [&str; 22] = [
    ".",
    "..",
    "...",
    "%2e",
    "%2e%2e",
    "%2E%2e",
    "%252e%252e",
    "%c0%ae%c0%ae",
    "/",
    "%2f",
    "%2F",
    "%5c",
    "%00",
    "a%00",
    "a%2fx",
    "a/..",
    "a%2f..",
    "..%2fab",
    "%ff",
    ";",
    "%20",
    "foos",
];

#[test]
fn cve_2022_3162_no_spelling_reaches_another_type_or_namespace() -> Result<()> {
    let server = Server::start(&["--controllers="])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = server.connect().await?;
        fill(&mut connection).await?;
        let mut found = 0;
        for (group, plural, kind) in KINDS {
            for namespace in spellings() {
                let list = format!("/apis/{group}/v1/namespaces/{namespace}/{plural}");
                found += look(&mut connection, &list, kind, &namespace).await?;
                let get = format!("/apis/{group}/v1/namespaces/a/{plural}/{namespace}");
                found += look(&mut connection, &get, kind, "a").await?;
            }
            for start in starts() {
                let token = json!({"v": "meta.k8s.io/v1", "rv": -1, "start": start}).to_string();
                let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token);
                let list = format!("/apis/{group}/v1/namespaces/a/{plural}?limit=500&continue={token}");
                found += look(&mut connection, &list, kind, "a").await?;
            }
        }
        // Honest spellings are among them.
        ensure!(
            found > KINDS.len() * NAMESPACES.len() * NAMES.len(),
            "only {found} objects were found at all"
        );
        anyhow::Ok(())
    })?;
    ensure!(!server.log().contains("panicked"), "{}", server.log());
    Ok(())
}

/// Namespaces as a client may spell them: pieces, and two of them joined.
fn spellings() -> Vec<String> {
    let pieces: Vec<&str> = NAMESPACES.into_iter().chain(NAMES).chain(PIECES).collect();
    let pairs = pieces
        .iter()
        .flat_map(|one| pieces.iter().map(move |two| format!("{one}{two}")));
    pieces.iter().map(|piece| (*piece).to_owned()).chain(pairs).collect()
}

/// Where a forged continue token may want to go on.
fn starts() -> Vec<String> {
    let inside = ["x", "", "x\0", "zzz"];
    let outside = [
        "../ab/x",
        "/../ab/x",
        "../../foos/a/x",
        "..",
        "/",
        "//",
        "\0",
        "../a-b/x\0",
        "/ab/x",
        "ab/x",
        "\u{10ffff}",
        "./x",
        "x/../../ab/x",
    ];
    inside.iter().chain(&outside).map(|start| (*start).to_owned()).collect()
}

/// Whatever comes back is of this kind and in this namespace. Answers how many objects it was.
async fn look(connection: &mut Connection, path: &str, kind: &str, namespace: &str) -> Result<usize> {
    // What cannot be sent cannot be answered either.
    let Ok(_) = path.parse::<http::Uri>() else { return Ok(0) };
    let answer = tokio::time::timeout(Duration::from_secs(10), connection.open(&Call::get(path))).await;
    let response = answer
        .with_context(|| format!("{path} is not answered"))?
        .with_context(|| path.to_owned())?;
    let code = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    ensure!(
        code < 500,
        "{path} is answered {code}: {}",
        String::from_utf8_lossy(&body)
    );
    if code != 200 {
        return Ok(0);
    }
    let found: Value = serde_json::from_slice(&body).with_context(|| path.to_owned())?;
    let items = match found["items"].as_array() {
        Some(items) => items.clone(),
        None if found["metadata"]["name"].is_string() => vec![found],
        // A discovery document, where the spelling has become another path.
        None => Vec::new(),
    };
    for item in &items {
        let spelled = percent_decoded(namespace);
        let same = item["kind"] == kind && item["metadata"]["namespace"] == spelled.as_str();
        // `//`, `.` and `..` are cleaned out of paths before anybody looks at them: what is then asked for is authorized.
        let cleaned = namespace.contains('/') || path.contains("/./") || path.contains("/../");
        ensure!(same || cleaned, "{path} yields {item}");
    }
    Ok(items.len())
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let number = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let number = number
            .and_then(|two| u8::from_str_radix(two, 16).ok())
            .filter(|_| *first == b'%');
        bytes.push(number.unwrap_or(*first));
        rest = if number.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn fill(connection: &mut Connection) -> Result<()> {
    for namespace in NAMESPACES {
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        post(connection, "/api/v1/namespaces", &body).await?;
    }
    for (group, plural, kind) in KINDS {
        let body = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group, "scope": "Namespaced",
                "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
            },
        });
        post(
            connection,
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            &body,
        )
        .await?;
        for namespace in NAMESPACES {
            for name in NAMES {
                let body = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": name}});
                post(
                    connection,
                    &format!("/apis/{group}/v1/namespaces/{namespace}/{plural}"),
                    &body,
                )
                .await?;
            }
        }
    }
    Ok(())
}

async fn post(connection: &mut Connection, path: &str, body: &Value) -> Result<()> {
    let call = Call::send(Method::POST, path, "application/json", body.to_string());
    connection.json(&call).await.map(drop)
}
