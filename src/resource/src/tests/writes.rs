//! Creates, updates, patches and deletes.

use super::*;

#[tokio::test]
async fn an_object_lives_and_dies() {
    let bench = Bench::new();
    let mut body = gadget("x");
    body.set_at(&["metadata", "uid"], "mine");
    body.set_at(&["status", "ready"], 3i64);
    let (code, made, _) = bench.call(Verb::Create, "", &[], body).await;
    assert_eq!(code, 201);
    assert_eq!(made.namespace(), "n");
    assert_eq!(made.uid().len(), 36);
    assert_eq!(made.generation(), 1);
    assert_eq!(made.at(&["status", "ready"]), None, "status is cleared on create");
    assert_eq!(made.str_at(&["metadata", "creationTimestamp"]), "2027-01-15T08:00:00Z");
    assert!(!made.resource_version().is_empty());

    let (code, again, _) = bench.call(Verb::Create, "", &[], gadget("x")).await;
    assert_eq!(
        (code, message(&again)),
        (409, "gadgets.example.test \"x\" already exists")
    );

    let (_, got, _) = bench.call(Verb::Get, "x", &[], Node::Null).await;
    assert_eq!(got, made);

    let mut changed = got.clone();
    changed.set_at(&["spec", "color"], "red");
    let (code, updated, _) = bench.call(Verb::Update, "x", &[], changed.clone()).await;
    assert_eq!((code, updated.generation()), (200, 2));
    assert_eq!(
        updated.at(&["spec", "size"]),
        Some(&Node::Int(1)),
        "defaults are filled in"
    );
    let (code, stale, _) = bench.call(Verb::Update, "x", &[], changed).await;
    assert_eq!((code, stale.str("reason")), (409, "Conflict"));

    let (code, same, _) = bench.call(Verb::Update, "x", &[], updated.clone()).await;
    assert_eq!(
        (code, same.resource_version()),
        (200, updated.resource_version()),
        "no change is no write"
    );

    let (code, gone, _) = bench.call(Verb::Delete, "x", &[], Node::Null).await;
    assert_eq!((code, gone.str("status")), (200, "Success"));
    assert_eq!(gone.str_at(&["details", "uid"]), made.uid());
    let (code, missing, _) = bench.call(Verb::Get, "x", &[], Node::Null).await;
    assert_eq!((code, message(&missing)), (404, "gadgets.example.test \"x\" not found"));
}

#[tokio::test]
async fn names_are_generated_and_checked() {
    let bench = Bench::new();
    let body = node!({"metadata": {"generateName": "g-"}});
    let (code, made, _) = bench.call(Verb::Create, "", &[], body.clone()).await;
    assert_eq!((code, made.name().len()), (201, 7));
    assert_eq!(made.str("kind"), "Gadget", "kind and version are what the path says");
    let (code, none, _) = bench.call(Verb::Create, "", &[], node!({"metadata": {}})).await;
    assert_eq!(code, 422);
    assert_eq!(
        message(&none),
        "Gadget.example.test \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
    let (code, other, _) = bench.call(Verb::Update, "y", &[], gadget("z")).await;
    assert_eq!(
        (code, message(&other)),
        (400, "the name of the object (z) does not match the name on the URL (y)")
    );
    let (code, absent, _) = bench.call(Verb::Update, "y", &[], gadget("y")).await;
    assert_eq!((code, absent.str("reason")), (404, "NotFound"));
}

#[tokio::test]
async fn unknown_fields_warn_or_refuse() {
    let bench = Bench::new();
    let mut body = gadget("x");
    body.set_at(&["spec", "bogus"], 1i64);
    let (code, _, warnings) = bench.call(Verb::Create, "", &[("dryRun", "All")], body.clone()).await;
    assert_eq!((code, warnings), (201, vec!["unknown field \"spec.bogus\"".to_owned()]));
    let (code, refused, _) = bench
        .call(Verb::Create, "", &[("fieldValidation", "Strict")], body.clone())
        .await;
    assert_eq!(code, 400);
    assert_eq!(
        message(&refused),
        "Gadget in version \"v1\" cannot be handled as a Gadget: strict decoding error: unknown field \"spec.bogus\""
    );
    let (code, _, warnings) = bench
        .call(Verb::Create, "", &[("fieldValidation", "Ignore")], body)
        .await;
    assert_eq!((code, warnings.len()), (201, 0));
    let (code, wrong, _) = bench
        .call(Verb::Create, "", &[], node!({"kind": "Gizmo", "apiVersion": "v2"}))
        .await;
    assert_eq!(code, 400);
    assert_eq!(
        message(&wrong),
        "Gizmo in version \"v2\" cannot be handled as a Gadget: no kind \"Gizmo\" is registered for version \"v2\" in \
         scheme \"pkg/api/legacyscheme/scheme.go:30\""
    );
}

#[tokio::test]
async fn dry_runs_change_nothing() {
    let bench = Bench::new();
    let (code, shown, _) = bench.call(Verb::Create, "", &[("dryRun", "All")], gadget("x")).await;
    assert_eq!((code, shown.resource_version()), (201, ""));
    assert_eq!(bench.call(Verb::Get, "x", &[], Node::Null).await.0, 404);
    let made = bench.make("x").await;
    let patch = node!({"spec": {"color": "red"}});
    let (_, shown, _) = bench
        .patch("application/merge-patch+json", "x", &[("dryRun", "All")], patch)
        .await;
    assert_eq!(shown.str_at(&["spec", "color"]), "red");
    assert_eq!(
        bench.call(Verb::Delete, "x", &[("dryRun", "All")], Node::Null).await.0,
        200
    );
    assert_eq!(bench.call(Verb::Get, "x", &[], Node::Null).await.1, made);
    let (code, bad, _) = bench.call(Verb::Delete, "x", &[("dryRun", "Some")], Node::Null).await;
    assert_eq!((code, bad.str("reason")), (422, "Invalid"));
}

#[tokio::test]
async fn patches_of_all_kinds() {
    let bench = Bench::new();
    bench.make("x").await;
    let (code, merged, _) = bench
        .patch(
            "application/merge-patch+json",
            "x",
            &[],
            node!({"spec": {"color": "red"}}),
        )
        .await;
    assert_eq!((code, merged.str_at(&["spec", "color"])), (200, "red"));
    let operations = node!([{"op": "replace", "path": "/spec/color", "value": "blue"}]);
    let (code, patched, _) = bench.patch("application/json-patch+json", "x", &[], operations).await;
    assert_eq!((code, patched.str_at(&["spec", "color"])), (200, "blue"));
    let (code, strategic, _) = bench
        .patch(
            "application/strategic-merge-patch+json",
            "x",
            &[],
            node!({"spec": {"size": 5}}),
        )
        .await;
    assert_eq!((code, strategic.at(&["spec", "size"])), (200, Some(&Node::Int(5))));
    let (code, wrong, _) = bench
        .patch(
            "application/strategic-merge-patch+json",
            "x",
            &[],
            node!({"spec": {"size": "five"}}),
        )
        .await;
    assert_eq!(code, 422);
    assert_eq!(
        message(&wrong),
        " \"\" is invalid: patch: Invalid value: \"map[spec:map[size:five]]\": unrecognized type: int64"
    );
    let (code, absent, _) = bench
        .patch("application/merge-patch+json", "nope", &[], node!([]))
        .await;
    assert_eq!((code, absent.str("reason")), (404, "NotFound"));
    let (code, unsupported, _) = bench.patch("text/plain", "x", &[], node!({})).await;
    assert_eq!((code, unsupported.str("reason")), (415, "UnsupportedMediaType"));
}

#[tokio::test]
async fn apply_creates_and_conflicts() {
    let bench = Bench::new();
    let apply = "application/apply-patch+yaml";
    let mut config = gadget("x");
    config.set_at(&["spec", "color"], "red");
    let (code, made, _) = bench
        .patch(apply, "x", &[("fieldManager", "one")], config.clone())
        .await;
    assert_eq!(code, 201, "{}", json::to_string(&made));
    let managers = made.at(&["metadata", "managedFields"]).unwrap();
    assert_eq!(managers.as_list().unwrap()[0].str("manager"), "one");
    config.set_at(&["spec", "color"], "blue");
    let (code, refused, _) = bench
        .patch(apply, "x", &[("fieldManager", "two")], config.clone())
        .await;
    assert_eq!((code, refused.str("reason")), (409, "Conflict"));
    let query = [("fieldManager", "two"), ("force", "true")];
    let (code, forced, _) = bench.patch(apply, "x", &query, config).await;
    assert_eq!((code, forced.str_at(&["spec", "color"])), (200, "blue"));
    let (code, missing, _) = bench.patch(apply, "x", &[], gadget("x")).await;
    assert_eq!(code, 422);
    assert_eq!(
        message(&missing),
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let bench = Bench::new();
    let mut body = gadget("x");
    body.set_at(&["metadata", "finalizers"], vec![Node::string("example.test/hold")]);
    bench.call(Verb::Create, "", &[], body).await;
    let (code, held, _) = bench.call(Verb::Delete, "x", &[], Node::Null).await;
    assert_eq!(code, 200);
    assert_eq!(held.deletion_timestamp(), Some("2027-01-15T08:00:00Z"));
    assert_eq!(
        held.at(&["metadata", "deletionGracePeriodSeconds"]),
        Some(&Node::Int(0))
    );
    assert_eq!(held.generation(), 2);
    let (code, terminating, _) = bench.call(Verb::Create, "", &[], gadget("x")).await;
    assert_eq!(code, 409);
    assert!(message(&terminating).starts_with("object is being deleted: "));
    let (code, released, _) = bench
        .patch(
            "application/merge-patch+json",
            "x",
            &[],
            node!({"metadata": {"finalizers": null}}),
        )
        .await;
    assert_eq!((code, released.name()), (200, "x"));
    assert_eq!(bench.call(Verb::Get, "x", &[], Node::Null).await.0, 404);
}

#[tokio::test]
async fn deletes_take_preconditions_and_policies() {
    let bench = Bench::new();
    let made = bench.make("x").await;
    let (code, refused, _) = bench
        .call(Verb::Delete, "x", &[], node!({"preconditions": {"uid": "other"}}))
        .await;
    assert_eq!(code, 409);
    assert_eq!(
        message(&refused),
        format!(
            "Operation cannot be fulfilled on Gadget.example.test \"x\": the UID in the precondition (other) does not match \
             the UID in record ({}). The object might have been deleted and then recreated",
            made.uid()
        )
    );
    let (code, held, _) = bench
        .call(Verb::Delete, "x", &[("propagationPolicy", "Foreground")], Node::Null)
        .await;
    assert_eq!(code, 200);
    assert_eq!(held.finalizers().collect::<Vec<_>>(), ["foregroundDeletion"]);
    let (code, bad, _) = bench
        .call(Verb::Delete, "x", &[("propagationPolicy", "Bogus")], Node::Null)
        .await;
    assert_eq!((code, bad.str("reason")), (422, "Invalid"));
}

#[tokio::test]
async fn status_and_scale_are_parts() {
    let bench = Bench::new();
    let made = bench.make("x").await;
    let mut body = made.clone();
    body.set_at(&["status", "ready"], 2i64);
    body.set_at(&["spec", "size"], 9i64);
    let mut request = bench.request(Verb::Update, "x", &[], &body);
    request.subresource = "status".into();
    let (code, updated, _) = bench.send(request).await;
    assert_eq!(code, 200);
    assert_eq!(updated.at(&["status", "ready"]), Some(&Node::Int(2)));
    assert_eq!(
        updated.at(&["spec", "size"]),
        Some(&Node::Int(1)),
        "spec is what it was"
    );
    assert_eq!(updated.generation(), 1);

    let patch = node!({"spec": {"replicas": 4}});
    let mut request = bench.request(Verb::Patch, "x", &[], &patch);
    request.subresource = "scale".into();
    request.body.media_type = "application/merge-patch+json".into();
    let (code, scale, _) = bench.send(request).await;
    assert_eq!((code, scale.str("kind")), (200, "Scale"), "{}", json::to_string(&scale));
    assert_eq!(scale.at(&["spec", "replicas"]), Some(&Node::Int(4)));
    assert_eq!(scale.at(&["status", "replicas"]), Some(&Node::Int(2)));
    let (_, got, _) = bench.call(Verb::Get, "x", &[], Node::Null).await;
    assert_eq!(got.at(&["spec", "size"]), Some(&Node::Int(4)));
    assert_eq!(got.generation(), 2);
    let mut request = bench.request(Verb::Get, "x", &[], &Node::Null);
    request.subresource = "nope".into();
    assert_eq!(bench.send(request).await.0, 404);
}
