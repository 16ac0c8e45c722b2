//! Bad input from outside: the documented error or a closed connection, never a panic, a hang or a lost write.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use fairlead_bench::client::{Call, Connection};
use fairlead_tests::server::Server;
use http::Method;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn post(content_type: &'static str, body: impl Into<Bytes>) -> Call {
    Call::send(Method::POST, MAPS, content_type, body)
}

#[test]
fn bad_requests_get_their_errors() -> Result<()> {
    let server = Server::start(&[])?;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let wide = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"w"}},"data":{{"a":"{}"}}}}"#,
        "x".repeat(4 << 20)
    );
    let mut aliases = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
    for (name, before) in ["b", "c", "d", "e", "f", "g", "h", "i"]
        .iter()
        .zip(["a", "b", "c", "d", "e", "f", "g", "h"])
    {
        aliases += &format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(","));
    }
    let cases: Vec<(&str, Call, &[u16])> = vec![
        ("no JSON", post("application/json", "{"), &[400]),
        ("no object", post("application/json", "[]"), &[400]),
        ("nothing", post("application/json", ""), &[400]),
        (
            "another kind",
            post("application/json", r#"{"apiVersion":"v1","kind":"Pod"}"#),
            &[400],
        ),
        ("deep nesting", post("application/json", deep.clone()), &[400]),
        ("deep YAML", post("application/yaml", deep), &[400]),
        ("alias bomb", post("application/yaml", aliases), &[400]),
        ("too large", post("application/json", wide), &[413]),
        (
            "invalid UTF-8",
            post("application/json", &b"{\"kind\":\"\xff\xfe\"}"[..]),
            &[400],
        ),
        ("wrong media type", post("text/plain", "hello"), &[415]),
        (
            "broken protobuf",
            post("application/vnd.kubernetes.protobuf", &b"k8s\0\xff\xff\xff\xff\xff"[..]),
            &[400],
        ),
        (
            "not protobuf",
            post("application/vnd.kubernetes.protobuf", "hello"),
            &[400],
        ),
        ("unknown resource", Call::get("/api/v1/nothings"), &[404]),
        (
            "unknown group",
            Call::get("/apis/nowhere.example.com/v1/things"),
            &[404],
        ),
        ("unknown path", Call::get("/nowhere"), &[404]),
        (
            "traversal",
            Call::get("/api/v1/namespaces/..%2f..%2fkube-system/configmaps"),
            &[200, 400, 404],
        ),
        ("a name that is none", Call::get(format!("{MAPS}/%00")), &[400, 404]),
        ("a limit that is none", Call::get(format!("{MAPS}?limit=many")), &[400]),
        (
            "a version that is none",
            Call::get(format!("{MAPS}?resourceVersion=yesterday")),
            &[400],
        ),
        (
            "a version of the future",
            Call::get(format!("{MAPS}?resourceVersion=999999999")),
            &[504],
        ),
        (
            "a token that is none",
            Call::get(format!("{MAPS}?continue=nonsense")),
            &[400],
        ),
        (
            "a selector that is none",
            Call::get(format!("{MAPS}?labelSelector=a%3D%3D%3Db")),
            &[400],
        ),
        (
            "a method that is none",
            Call::send(Method::PUT, MAPS, "application/json", "{}"),
            &[405],
        ),
        (
            "an accept that is none",
            Call {
                accept: "image/png",
                ..Call::get(MAPS)
            },
            &[406],
        ),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        for (what, call, codes) in cases {
            // A server may close the connection of a body it refuses: each case has its own.
            let mut connection = server.connect().await?;
            let answer = tokio::time::timeout(Duration::from_secs(10), connection.call(&call)).await;
            let (code, _) = answer
                .with_context(|| format!("{what}: no answer in 10 s"))?
                .with_context(|| what.to_owned())?;
            ensure!(codes.contains(&code), "{what}: {code} instead of {codes:?}");
        }
        let mut connection = server.connect().await?;
        healthy(&mut connection).await
    })?;
    ensure!(!server.log().contains("panicked"), "{}", server.log());
    Ok(())
}

#[test]
fn broken_connections_are_closed_and_harm_nobody() -> Result<()> {
    let server = Server::start(&[])?;
    let address = server.address().trim_start_matches("https://").to_owned();
    // Half-open: connected, and silent.
    let silent: Vec<TcpStream> = (0..50)
        .map(|_| TcpStream::connect(&address))
        .collect::<std::io::Result<_>>()?;
    // Plain HTTP, noise, and the beginning of a handshake that never goes on.
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0xff; 300],
        &[0x16, 0x03, 0x01, 0x40, 0x00, 0x01],
    ] {
        let mut stream = TcpStream::connect(&address)?;
        stream.write_all(bytes)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.set_read_timeout(Some(Duration::from_secs(15)))?;
        let begun = Instant::now();
        let mut rest = Vec::new();
        // A reset is a closed connection, too.
        let _ = stream.read_to_end(&mut rest);
        ensure!(
            begun.elapsed() < Duration::from_secs(14),
            "a broken connection was kept open"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { healthy(&mut server.connect().await?).await })?;
    drop(silent);
    ensure!(!server.log().contains("panicked"), "{}", server.log());
    Ok(())
}

async fn healthy(connection: &mut Connection) -> Result<()> {
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"healthy-"}}"#;
    let made = connection.json(&post("application/json", body)).await?;
    let name = made["metadata"]["name"].as_str().context("no name")?;
    let (code, _) = connection.call(&Call::get(format!("{MAPS}/{name}"))).await?;
    ensure!(code == 200, "the server answers {code}");
    Ok(())
}
