//! Lists, pages, tables, collection deletes.

use super::*;

async fn filled() -> Bench {
    let bench = Bench::new();
    for name in ["a", "b", "c"] {
        bench.make(name).await;
    }
    bench
}

#[tokio::test]
async fn pages_are_of_one_state() {
    let bench = filled().await;
    let (_, first, _) = bench.call(Verb::List, "", &[("limit", "2")], Node::Null).await;
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first.at(&["metadata", "remainingItemCount"]), Some(&Node::Int(1)));
    bench.make("bb").await;
    let token = first.str_at(&["metadata", "continue"]).to_owned();
    let (_, second, _) = bench
        .call(Verb::List, "", &[("limit", "2"), ("continue", &token)], Node::Null)
        .await;
    assert_eq!(names(&second), ["c"], "what came later is not in it");
    assert_eq!(
        second.str_at(&["metadata", "resourceVersion"]),
        first.str_at(&["metadata", "resourceVersion"])
    );
    assert_eq!(second.str_at(&["metadata", "continue"]), "");
    let (_, whole, _) = bench
        .call(Verb::List, "", &[("limit", "2"), ("resourceVersion", "0")], Node::Null)
        .await;
    assert_eq!(names(&whole).len(), 4, "reads from anything are not cut");
    let (code, bad, _) = bench.call(Verb::List, "", &[("continue", "abc")], Node::Null).await;
    assert_eq!((code, bad.str("reason")), (400, "BadRequest"));
}

#[tokio::test]
async fn selectors_select() {
    let bench = filled().await;
    let patch = node!({"spec": {"color": "red"}, "metadata": {"labels": {"a": "c"}}});
    bench.patch("application/merge-patch+json", "b", &[], patch).await;
    for (key, value, expected) in [
        ("labelSelector", "a=b", vec!["a", "c"]),
        ("fieldSelector", "spec.color=red", vec!["b"]),
        ("fieldSelector", "metadata.name=c", vec!["c"]),
        ("fieldSelector", "metadata.name!=c", vec!["a", "b"]),
        ("fieldSelector", "metadata.namespace=other", vec![]),
    ] {
        let (_, list, _) = bench.call(Verb::List, "", &[(key, value)], Node::Null).await;
        assert_eq!(names(&list), expected, "{value}");
    }
    let (code, bad, _) = bench
        .call(Verb::List, "", &[("fieldSelector", "spec.nope=1")], Node::Null)
        .await;
    assert_eq!((code, message(&bad)), (400, "field label not supported: spec.nope"));
}

#[tokio::test]
async fn options_are_checked() {
    let bench = filled().await;
    let (code, bad, _) = bench
        .call(Verb::List, "", &[("resourceVersionMatch", "Exact")], Node::Null)
        .await;
    assert_eq!(code, 422);
    assert_eq!(
        message(&bad),
        "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless \
         resourceVersion is provided"
    );
    let (code, bad, _) = bench
        .call(Verb::List, "", &[("resourceVersion", "x")], Node::Null)
        .await;
    assert_eq!(code, 400);
    assert!(message(&bad).starts_with("invalid resource version: resourceVersion: Invalid value"));
    let (code, bad, _) = bench
        .call(Verb::Get, "a", &[("resourceVersion", "x")], Node::Null)
        .await;
    assert_eq!((code, bad.str("reason")), (500, ""));
}

#[tokio::test]
async fn tables_have_cells_and_metadata() {
    let bench = filled().await;
    let mut request = bench.request(Verb::List, "", &[], &Node::Null);
    request.view = View::Table(MetaVersion::V1);
    let (_, table, _) = bench.send(request).await;
    assert_eq!(table.list("columnDefinitions").len(), 2);
    assert_eq!(table.list("rows")[0].list("cells")[0], Node::string("a"));
    assert_eq!(
        table.list("rows")[0].str_at(&["object", "kind"]),
        "PartialObjectMetadata"
    );
    let mut request = bench.request(Verb::Get, "a", &[], &Node::Null);
    request.view = View::MetadataList(MetaVersion::V1);
    let (code, refused, _) = bench.send(request).await;
    assert_eq!(code, 406);
    assert_eq!(
        message(&refused),
        "you requested PartialObjectMetadataList, but the requested object is not a list (*example.Gadget)"
    );
}

#[tokio::test]
async fn selectors_over_many_objects_answer_the_same_with_and_without_an_index() {
    let bench = Bench::new();
    for i in 0..300 {
        bench.make(&format!("g{i:03}")).await;
    }
    for (name, color) in [("g007", "red"), ("g123", "red"), ("g200", "blue"), ("g299", "red")] {
        let patch = node!({"spec": {"color": color}, "metadata": {"labels": {"paint": color}}});
        let (code, _, _) = bench.patch("application/merge-patch+json", name, &[], patch).await;
        assert_eq!(code, 200);
    }
    for selector in [("fieldSelector", "spec.color=red"), ("labelSelector", "paint=red,a=b")] {
        for _ in 0..4 {
            let (_, all, _) = bench.call(Verb::List, "", &[selector], Node::Null).await;
            assert_eq!(names(&all), ["g007", "g123", "g299"]);
        }
        let (_, page, _) = bench
            .call(Verb::List, "", &[selector, ("limit", "2")], Node::Null)
            .await;
        assert_eq!(names(&page), ["g007", "g123"]);
        let token = page.str_at(&["metadata", "continue"]);
        let (_, rest, _) = bench
            .call(Verb::List, "", &[selector, ("continue", token)], Node::Null)
            .await;
        assert_eq!(names(&rest), ["g299"]);
    }
    // The index follows changes, and states before them stay as they were.
    let (_, then, _) = bench.call(Verb::List, "", &[], Node::Null).await;
    let then = then.str_at(&["metadata", "resourceVersion"]);
    let patch = node!({"spec": {"color": "blue"}});
    bench.patch("application/merge-patch+json", "g123", &[], patch).await;
    let red = ("fieldSelector", "spec.color=red");
    let (_, now, _) = bench.call(Verb::List, "", &[red], Node::Null).await;
    assert_eq!(names(&now), ["g007", "g299"]);
    let exact = [red, ("resourceVersion", then), ("resourceVersionMatch", "Exact")];
    let (_, before, _) = bench.call(Verb::List, "", &exact, Node::Null).await;
    assert_eq!(names(&before), ["g007", "g123", "g299"]);
}

#[tokio::test]
async fn kept_cells_are_of_the_object_as_it_is() {
    let bench = filled().await;
    let table = async || {
        let mut request = bench.request(Verb::List, "", &[], &Node::Null);
        request.view = View::Table(MetaVersion::V1);
        bench.send(request).await.1
    };
    let first = table().await;
    assert_eq!(table().await, first);
    let patch = node!({"spec": {"size": 7}});
    bench.patch("application/merge-patch+json", "b", &[], patch).await;
    let changed = table().await;
    let sizes: Vec<&Node> = changed.list("rows").iter().map(|row| &row.list("cells")[1]).collect();
    assert_eq!(sizes, [&Node::Int(1), &Node::Int(7), &Node::Int(1)]);
}

#[tokio::test]
async fn collections_are_deleted() {
    let bench = filled().await;
    let (code, deleted, _) = bench
        .call(Verb::DeleteCollection, "", &[("labelSelector", "a=b")], Node::Null)
        .await;
    assert_eq!(
        (code, names(&deleted)),
        (200, vec!["a".to_owned(), "b".to_owned(), "c".to_owned()])
    );
    let (_, left, _) = bench.call(Verb::List, "", &[], Node::Null).await;
    assert!(names(&left).is_empty());
}
