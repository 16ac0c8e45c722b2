//! Watches: initial events, selections, bookmarks, errors.

use super::*;
use crate::request::{EventKind, WatchEvent, WatchStream};

async fn watch(bench: &Bench, query: &[(&str, &str)]) -> Box<dyn WatchStream> {
    let answer = bench
        .engine
        .handle(bench.request(Verb::Watch, "", query, &Node::Null))
        .await;
    match answer.result {
        Ok(Response::Watch(stream)) => stream,
        Err(status) => panic!("{status}"),
        Ok(_) => panic!("not a watch"),
    }
}

async fn next(stream: &mut Box<dyn WatchStream>) -> (EventKind, Node) {
    match stream.next().await.expect("the watch goes on") {
        WatchEvent::Object { kind, object } => (kind, json::parse(&object.json.text()).unwrap()),
        WatchEvent::Node { kind, node } => (kind, node),
    }
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let bench = Bench::new();
    bench.make("a").await;
    let query = [
        ("sendInitialEvents", "true"),
        ("resourceVersionMatch", "NotOlderThan"),
        ("allowWatchBookmarks", "1"),
    ];
    let mut stream = watch(&bench, &query).await;
    let (kind, object) = next(&mut stream).await;
    assert_eq!((kind, object.name()), (EventKind::Added, "a"));
    let (kind, bookmark) = next(&mut stream).await;
    assert_eq!(kind, EventKind::Bookmark);
    assert_eq!(
        bookmark.str_at(&["metadata", "annotations", "k8s.io/initial-events-end"]),
        "true"
    );
    assert_eq!(bookmark.resource_version(), object.resource_version());
    bench.make("b").await;
    let (kind, object) = next(&mut stream).await;
    assert_eq!((kind, object.name()), (EventKind::Added, "b"));
}

#[tokio::test]
async fn selections_turn_changes_into_adds_and_deletes() {
    let bench = Bench::new();
    let made = bench.make("a").await;
    let mut stream = watch(
        &bench,
        &[("labelSelector", "a=b"), ("resourceVersion", made.resource_version())],
    )
    .await;
    let merge = "application/merge-patch+json";
    bench.patch(merge, "a", &[], node!({"spec": {"color": "red"}})).await;
    let (_, out, _) = bench
        .patch(merge, "a", &[], node!({"metadata": {"labels": {"a": "x"}}}))
        .await;
    bench.patch(merge, "a", &[], node!({"spec": {"color": "blue"}})).await;
    bench
        .patch(merge, "a", &[], node!({"metadata": {"labels": {"a": "b"}}}))
        .await;
    bench.call(Verb::Delete, "a", &[], Node::Null).await;
    assert_eq!(next(&mut stream).await.0, EventKind::Modified);
    let (kind, left) = next(&mut stream).await;
    assert_eq!(kind, EventKind::Deleted);
    assert_eq!(
        left.labels().unwrap().get("a"),
        Some(&Node::string("b")),
        "the state before"
    );
    assert_eq!(
        left.resource_version(),
        out.resource_version(),
        "at the revision of the change"
    );
    assert_eq!(next(&mut stream).await.0, EventKind::Added);
    let (kind, deleted) = next(&mut stream).await;
    assert_eq!(kind, EventKind::Deleted);
    assert!(deleted.resource_version().parse::<u64>().unwrap() > out.resource_version().parse::<u64>().unwrap());
}

#[tokio::test]
async fn tables_name_their_columns_once() {
    let bench = Bench::new();
    bench.make("a").await;
    bench.make("b").await;
    let mut request = bench.request(Verb::Watch, "", &[], &Node::Null);
    request.view = View::Table(MetaVersion::V1);
    let Ok(Response::Watch(mut stream)) = bench.engine.handle(request).await.result else {
        panic!("not a watch")
    };
    assert_eq!(next(&mut stream).await.1.list("columnDefinitions").len(), 2);
    assert_eq!(next(&mut stream).await.1.get("columnDefinitions"), Some(&Node::Null));
}

#[tokio::test(start_paused = true)]
async fn watches_end_and_bookmark_before() {
    let bench = Bench::new();
    bench.make("a").await;
    let query = [
        ("resourceVersion", "0"),
        ("timeoutSeconds", "5"),
        ("allowWatchBookmarks", "true"),
    ];
    let mut stream = watch(&bench, &query).await;
    let kinds = [
        next(&mut stream).await.0,
        next(&mut stream).await.0,
        next(&mut stream).await.0,
    ];
    assert_eq!(kinds, [EventKind::Added, EventKind::Bookmark, EventKind::Bookmark]);
    assert!(stream.next().await.is_none());
}
