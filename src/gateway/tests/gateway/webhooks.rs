//! Webhooks called over loopback: by URL and by Service, and every way a call can fail.

use crate::common::{World, text};
use base64::Engine as _;
use bytes::Bytes;
use fairlead_api::{Node, node};
use fairlead_gateway::{WebhookClient, Webhooks};
use http_body_util::BodyExt;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

const TEN: Duration = Duration::from_secs(10);

async fn hook(world: &mut World) -> SocketAddr {
    world
        .backend(&["h2", "http/1.1"], |request| {
            Box::pin(async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                match parts.uri.path() {
                    "/slow" => std::future::pending().await,
                    "/redirect" => {
                        let mut response = text(302, "moved");
                        response.headers_mut().insert("location", "/echo".parse().unwrap());
                        response
                    }
                    "/broken" => {
                        let mut response = text(500, "oops");
                        response
                            .headers_mut()
                            .insert("content-type", "text/plain".parse().unwrap());
                        response
                    }
                    _ => {
                        let agent = parts.headers["user-agent"].to_str().unwrap();
                        let query = parts.uri.query().unwrap();
                        let mut response = text(200, &format!("{agent} {query} {}", String::from_utf8_lossy(&body)));
                        response
                            .headers_mut()
                            .insert("content-type", "application/json".parse().unwrap());
                        response
                    }
                }
            })
        })
        .await
}

fn bundle(world: &World) -> String {
    base64::engine::general_purpose::STANDARD.encode(&world.serving.pem)
}

fn by_service(world: &World, path: &str, port: i64) -> Node {
    node!({"service": {"namespace": "default", "name": "shipping", "path": path, "port": port}, "caBundle": (bundle(world))})
}

async fn call(webhooks: &Webhooks, config: &Node, timeout: Duration) -> Result<String, String> {
    let answer = webhooks.call(config, Bytes::from_static(b"{}"), timeout).await;
    answer
        .map(|b| String::from_utf8_lossy(&b).into_owned())
        .map_err(|e| e.to_string())
}

#[tokio::test]
async fn webhooks_by_service() {
    let mut world = World::new();
    let address = hook(&mut world).await;
    world.register(&[address], true);
    let webhooks = world.gateway.webhooks(None);
    let answer = call(&webhooks, &by_service(&world, "/echo", 443), TEN).await;
    assert_eq!(answer.unwrap(), "kube-apiserver-admission timeout=10s {}");

    let error = call(&webhooks, &by_service(&world, "x", 9), TEN).await.unwrap_err();
    let url = "https://shipping.default.svc";
    assert_eq!(
        error,
        format!("Post \"{url}:9/x?timeout=10s\": no service port 9 found for service \"shipping\"")
    );
    world.put_slice(&[]);
    let error = call(&webhooks, &by_service(&world, "/echo", 443), TEN)
        .await
        .unwrap_err();
    assert_eq!(
        error,
        format!("Post \"{url}:443/echo?timeout=10s\": no endpoints available for service \"shipping\"")
    );
    world.put_slice(&[address]);
    let error = call(&webhooks, &by_service(&world, "/broken", 443), TEN)
        .await
        .unwrap_err();
    assert_eq!(
        error,
        "an error on the server (\"oops\") has prevented the request from succeeding"
    );
    let error = call(&webhooks, &by_service(&world, "/slow", 443), Duration::from_millis(100))
        .await
        .unwrap_err();
    assert_eq!(
        error,
        format!("Post \"{url}:443/slow?timeout=100ms\": context deadline exceeded")
    );
    // CVE-2020-8561.
    let error = call(&webhooks, &by_service(&world, "/redirect", 443), TEN)
        .await
        .unwrap_err();
    assert_eq!(
        error,
        "the server responded with the status code 302 but did not return more information"
    );
}

#[tokio::test]
async fn webhooks_by_url() {
    let mut world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let webhooks = world.gateway.webhooks(None);
    let error = call(&webhooks, &node!({"url": (format!("https://{nobody}/x"))}), TEN)
        .await
        .unwrap_err();
    assert_eq!(
        error,
        format!("Post \"https://{nobody}/x?timeout=10s\": dial tcp {nobody}: connect: connection refused")
    );

    let address = hook(&mut world).await;
    let url = format!("https://127.0.0.1:{}/x", address.port());
    let stranger = node!({"url": (url.as_str())});
    let config = node!({"url": (url.as_str()), "caBundle": (bundle(&world))});
    let failed = |why: &str| format!("Post \"{url}?timeout=10s\": tls: failed to verify certificate: x509: {why}");
    let no_ip = "cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs";
    assert_eq!(call(&webhooks, &config, TEN).await.unwrap_err(), failed(no_ip));
    assert_eq!(call(&webhooks, &stranger, TEN).await.unwrap_err(), failed(no_ip));
}
