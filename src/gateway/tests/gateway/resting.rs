//! Connections without requests: they cost nothing.

use crate::common::{World, echo};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Passes bytes on, and counts how often something comes from the client.
async fn wire(world: &mut World, backend: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, sent) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = sent.clone();
    world.tasks.spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_backend, mut to_backend) = TcpStream::connect(backend).await.unwrap().into_split();
        let forth = async {
            let mut buffer = vec![0; 8192];
            while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
                count.fetch_add(1, Ordering::SeqCst);
                if to_backend.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(forth, async {
            drop(tokio::io::copy(&mut from_backend, &mut to_client).await)
        });
    });
    (address, sent)
}

#[tokio::test]
async fn nobody_is_pinged_without_a_request_under_way() {
    let mut world = World::new();
    let backend = world.backend(&["h2"], echo).await;
    let (address, sent) = wire(&mut world, backend).await;
    world.register(&[address], true);
    for _ in 0..3 {
        assert_eq!(world.get("/apis/shipping.example.com/v1alpha1/x").await.status(), 200);
    }
    // The last answer may still be acknowledged.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = sent.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(sent.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn a_backend_at_rest_is_asked_and_not_pinged() {
    let mut world = World::new();
    let backend = world.extension_server().await;
    let (address, sent) = wire(&mut world, backend).await;
    world.register(&[address], false);
    world.run();
    world.reason("Passed").await;
    tokio::time::sleep(Duration::from_millis(2000)).await;
    let before = sent.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(4000)).await;
    // Two or three rounds, in which both questions travel together.
    let sent = sent.load(Ordering::SeqCst) - before;
    assert!((2..=6).contains(&sent), "{sent}");
}

/// A watch, which garbage collection keeps to every backend.
#[tokio::test]
async fn a_watch_costs_no_pings_beside_the_questions() {
    let mut world = World::new();
    let backend = world.extension_server().await;
    let (address, sent) = wire(&mut world, backend).await;
    world.register(&[address], false);
    world.run();
    world.reason("Passed").await;
    let watch = world
        .get("/apis/shipping.example.com/v1alpha1/parcels?watch=true")
        .await;
    assert_eq!(watch.status(), 200);
    tokio::time::sleep(Duration::from_millis(2000)).await;
    let before = sent.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(4000)).await;
    let sent = sent.load(Ordering::SeqCst) - before;
    assert!((2..=6).contains(&sent), "{sent}");
    drop(watch);
}
