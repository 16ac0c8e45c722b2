//! Defects that servers of this kind have had, by the name of their origin. Others of them are tested where their
//! subject is: upgrades, redirects and certificates beside this file, names and addresses in `connect` and `resolve`.

use crate::common::{World, body, echo, service, text};
use crate::upgrades::{PATH, front, raw_backend, upgrade_request};
use bytes::Bytes;
use fairlead_api::node;
use fairlead_gateway::AddressPolicy;
use fairlead_gateway::objects::{ENDPOINT_SLICES, ObjectSource, SERVICES};
use http::{Request, StatusCode};
use http_body_util::Full;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const THINGS: &str = "/apis/shipping.example.com/v1alpha1/namespaces/default/parcels";

/// A host that nobody has any business with; counts who connects.
async fn trap(world: &mut World) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let caught = Arc::new(AtomicUsize::new(0));
    let count = caught.clone();
    world.tasks.spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (address, caught)
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    drop(client.read_to_end(&mut all).await);
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn cve_2020_8559_a_redirect_is_no_answer_to_an_upgrade() {
    for code in [301, 302, 303, 307, 308] {
        let mut world = World::new();
        let (elsewhere, caught) = trap(&mut world).await;
        let reply = format!("HTTP/1.1 {code} Elsewhere\r\nLocation: https://{elsewhere}/\r\nContent-Length: 0\r\n\r\n");
        let requests = raw_backend(&mut world, reply.leak()).await;
        let front = front(&mut world).await;
        let answer = exchange(front, &upgrade_request("websocket")).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(!answer.contains(&elsewhere.to_string()), "{answer}");
        assert_eq!((requests.load(Ordering::SeqCst), caught.load(Ordering::SeqCst)), (1, 0));
    }
}

/// Probes, discovery and OpenAPI carry the front proxy's certificate: they go nowhere else with it.
#[tokio::test]
async fn cve_2022_3172_probes_and_documents_follow_no_redirect() {
    let mut world = World::new();
    let (elsewhere, caught) = trap(&mut world).await;
    let well = Arc::new(AtomicBool::new(false));
    let is_well = well.clone();
    let address = world
        .backend(&["h2"], move |request| {
            let well = is_well.load(Ordering::SeqCst);
            Box::pin(async move {
                if well && request.uri().path() == "/apis/shipping.example.com/v1alpha1" {
                    return text(
                        200,
                        r#"{"kind":"APIResourceList","groupVersion":"shipping.example.com/v1alpha1","resources":[]}"#,
                    );
                }
                let mut response = text(308, "");
                let target = format!("https://{elsewhere}{}", request.uri().path());
                response.headers_mut().insert("location", target.parse().unwrap());
                response
            })
        })
        .await;
    world.register(&[address], false);
    let mut changes = world.gateway.group_changes();
    world.run();
    assert!(world.reason("FailedDiscoveryCheck").await.ends_with(": 308"));
    // Only aggregated discovery and OpenAPI lead elsewhere now.
    well.store(true, Ordering::SeqCst);
    world.put_slice(&[]);
    world.put_slice(&[address]);
    world.reason("Passed").await;
    while world.gateway.remote_groups().values().all(|g| g.learnt.at().is_none()) {
        changes.changed().await.unwrap();
    }
    assert_eq!(world.get(THINGS).await.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(caught.load(Ordering::SeqCst), 0);
}

/// NCC YVU and HFV: the upgrade path sets headers like the plain one.
#[tokio::test]
async fn ncc_yvu_spoofed_identities_do_not_pass_with_an_upgrade() {
    let mut world = World::new();
    let address = world
        .backend(&["http/1.1"], |request| {
            Box::pin(async move {
                let mut response = echo(request).await;
                // An error is passed on whole.
                *response.status_mut() = StatusCode::BAD_REQUEST;
                response
            })
        })
        .await;
    world.register(&[address], true);
    let front = front(&mut world).await;
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: evil.example.com\r\nConnection: Upgrade, X-Remote-User, X-Remote-Group\r\n\
         Upgrade: websocket\r\nAuthorization: Bearer secret\r\nX-Remote-User: evil\r\nx_remote_user: evil\r\n\
         X-REMOTE-GROUP: system:masters\r\nX-Remote-Group: more:masters\r\nX-Remote-Extra-Scopes: evil\r\nX-Remote-Uid: evil\r\n\
         Impersonate-User: evil\r\nImpersonate-Group: system:masters\r\nX-Forwarded-Uri: /evil\r\nX-Forwarded-Host: evil.example.com\r\n\r\n"
    );
    let answer = exchange(front, &request).await;
    let echoed = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(format!("{echoed}\n").contains("x-remote-user: alice\n"), "{echoed}");
    assert_eq!(echoed.matches("x-remote-user").count(), 1, "{echoed}");
    for gone in ["evil", "masters", "secret"] {
        assert!(!echoed.contains(gone), "{gone} in {echoed}");
    }
    assert!(
        echoed.contains("connection: Upgrade") && echoed.contains("upgrade: websocket"),
        "{echoed}"
    );
}

/// CVE-2021-25737 and CVE-2021-25740: endpoints on this machine, or in somebody else's namespace, get nothing.
#[tokio::test]
async fn cve_2021_25737_endpoints_here_and_of_others_are_not_dialed() {
    let mut world = World::with(|c| c.addresses = AddressPolicy::default());
    let (address, caught) = trap(&mut world).await;
    world.run();
    for ip in ["127.0.0.1", "127.8.8.8", "169.254.169.254", "0.0.0.0"] {
        let mut refused = address;
        refused.set_ip(ip.parse().unwrap());
        world.register(&[refused], false);
        while !world
            .reason("FailedDiscoveryCheck")
            .await
            .contains(&format!("{ip} is not allowed"))
        {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.get(THINGS).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(caught.load(Ordering::SeqCst), 0);

    let mut world = World::new();
    let (address, caught) = trap(&mut world).await;
    world.register(&[], true);
    // A slice that says it belongs to the service, but lies in another namespace.
    let slice = node!({
        "metadata": {"name": "shipping-9", "namespace": "evil", "labels": {"kubernetes.io/service-name": "shipping"}},
        "addressType": "IPv4", "endpoints": [{"addresses": [(address.ip().to_string())]}],
        "ports": [{"name": "https", "port": (address.port())}],
    });
    world.objects.put(ENDPOINT_SLICES, slice);
    world.objects.put(SERVICES, service());
    assert_eq!(world.objects.list(ENDPOINT_SLICES).len(), 1);
    assert_eq!(body(world.get(THINGS).await).await, "service unavailable\n");
    assert_eq!(caught.load(Ordering::SeqCst), 0);
}

/// NCC MRE: SHA-1 proves nothing.
#[tokio::test]
async fn ncc_mre_a_certificate_signed_with_sha1_is_refused() {
    let directory = std::env::temp_dir().join(format!("fairlead-sha1-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let openssl = |arguments: &str| {
        let arguments = arguments.split(' ');
        Command::new("openssl")
            .args(arguments)
            .current_dir(&directory)
            .output()
            .is_ok_and(|o| o.status.success())
    };
    std::fs::write(directory.join("san"), "subjectAltName=DNS:shipping.default.svc").unwrap();
    let made = openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=ca -days 2")
        && openssl("req -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /CN=shipping")
        && openssl(
            "x509 -req -in leaf.csr -CA ca.crt -CAkey ca.key -CAcreateserial -sha1 -extfile san -out leaf.crt -days 2",
        );
    if !made {
        eprintln!("skipped: openssl is not installed, or makes no SHA-1 signatures");
        return;
    }
    use rustls_pki_types::pem::PemObject;
    let mut world = World::new();
    world.serving.pem = std::fs::read_to_string(directory.join("ca.crt")).unwrap();
    let certificate = crate::common::Certificate {
        chain_pem: String::new(),
        key_pem: String::new(),
        der: rustls_pki_types::CertificateDer::from_pem_file(directory.join("leaf.crt")).unwrap(),
        key: rustls_pki_types::PrivateKeyDer::from_pem_file(directory.join("leaf.key")).unwrap(),
    };
    std::fs::remove_dir_all(&directory).unwrap();
    let acceptor = world.acceptor(certificate, &["h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.register(&[listener.local_addr().unwrap()], true);
    world.tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(acceptor.accept(stream).await);
        }
    });
    assert_eq!(
        body(world.get(THINGS).await).await,
        "error trying to reach service: tls: failed to verify certificate: x509: certificate signed by unknown authority\n"
    );
}

/// A backend that speaks HTTP/1.1 reads one request where one was sent, whatever the headers say of its length.
#[tokio::test]
async fn smuggling_no_length_is_taken_from_the_client() {
    const HIDDEN: &str =
        "0\r\n\r\nGET /apis/shipping.example.com/v1alpha1/namespaces/other/parcels HTTP/1.1\r\nHost: x\r\n\r\n";
    for headers in [
        &[("transfer-encoding", "chunked"), ("content-length", "4")][..],
        &[("transfer-encoding", "chunked, identity"), ("content-length", "4")],
        &[("transfer-encoding", "xchunked")],
        &[("content-length", "4"), ("connection", "content-length")],
    ] {
        let mut world = World::new();
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        let address = world
            .backend(&["http/1.1"], move |request| {
                count.fetch_add(1, Ordering::SeqCst);
                echo(request)
            })
            .await;
        world.register(&[address], true);
        let mut request = Request::post(THINGS);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = world.send(request.body(Full::new(Bytes::from(HIDDEN))).unwrap()).await;
        let status = response.status();
        let answer = body(response).await;
        // Either refused, or the backend has read all of the body as one.
        assert!(
            !status.is_success() || answer.starts_with(&format!("POST {THINGS} {HIDDEN}")),
            "{headers:?}: {answer}"
        );
        // And whatever stays on the connection is no request.
        assert!(
            body(world.get(THINGS).await)
                .await
                .starts_with(&format!("GET {THINGS}"))
        );
        assert!(requests.load(Ordering::SeqCst) <= 2, "{headers:?}");
    }
}
