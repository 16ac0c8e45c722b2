//! Connections without requests: they cost nothing. Time is the test's own.

use crate::common::{World, echo};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, yield_now};
use tokio::time::advance;

/// Passes bytes on, and counts how often something comes from the client.
async fn wire(world: &mut World, backend: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, sent) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = sent.clone();
    world.tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let there = TcpStream::connect(backend).await.unwrap();
            connections.spawn(pass_on(client, there, count.clone()));
        }
    });
    (address, sent)
}

async fn pass_on(here: TcpStream, there: TcpStream, count: Arc<AtomicUsize>) {
    let ((mut from_client, mut to_client), (mut from_backend, mut to_backend)) =
        (here.into_split(), there.into_split());
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
}

/// Lets time pass, a little at a time: whoever has something to do does it in between, however busy the machine is.
async fn pass(time: Duration) {
    const STEP: Duration = Duration::from_millis(50);
    for _ in 0..time.as_millis() / STEP.as_millis() {
        advance(STEP).await;
        // As long as somebody is always ready, time does not pass by itself; the kernel may need a moment.
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(2) {
            yield_now().await;
        }
    }
}

async fn passing<T>(future: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        done = future => done,
        () = pass(Duration::from_secs(60)) => panic!("it has not come to an end within a minute"),
    }
}

/// What is sent within eight seconds, once all is quiet.
async fn sent_at_rest(sent: &AtomicUsize) -> usize {
    pass(Duration::from_secs(3)).await;
    let before = sent.load(Ordering::SeqCst);
    pass(Duration::from_secs(8)).await;
    sent.load(Ordering::SeqCst) - before
}

#[tokio::test(start_paused = true)]
async fn nobody_is_pinged_without_a_request_under_way() {
    let mut world = World::new();
    let backend = world.backend(&["h2"], echo).await;
    let (address, sent) = wire(&mut world, backend).await;
    world.register(&[address], true);
    for _ in 0..3 {
        let answer = passing(world.get("/apis/shipping.example.com/v1alpha1/x")).await;
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(sent_at_rest(&sent).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_backend_at_rest_is_asked_and_not_pinged() {
    let mut world = World::new();
    let backend = world.extension_server().await;
    let (address, sent) = wire(&mut world, backend).await;
    world.register(&[address], false);
    world.run();
    passing(world.reason("Passed")).await;
    // Every 1.75 seconds, and both questions travel together.
    let sent = sent_at_rest(&sent).await;
    assert!((4..=6).contains(&sent), "{sent}");
}

/// A watch, which garbage collection keeps to every backend. Many share a budget: see the tests of `keepalive`.
#[tokio::test(start_paused = true)]
async fn a_watch_costs_at_most_four_pings_a_second_beside_the_questions() {
    let mut world = World::new();
    let backend = world.extension_server().await;
    let (address, sent) = wire(&mut world, backend).await;
    world.register(&[address], false);
    world.run();
    passing(world.reason("Passed")).await;
    let watch = passing(world.get("/apis/shipping.example.com/v1alpha1/parcels?watch=true")).await;
    assert_eq!(watch.status(), 200);
    let sent = sent_at_rest(&sent).await;
    // By the test's coarse clock it is about one ping a second.
    assert!((10..=38).contains(&sent), "{sent}");
    drop(watch);
}
