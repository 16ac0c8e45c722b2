//! What the suite cannot know of: real servers that die, freeze and come back, leases, compaction among several.

mod chaos;

use super::compactor::{Term, turn};
use super::server::Cluster;
use super::{Etcd, EtcdConfig, Tls};
use crate::cache::{Cache, CacheConfig};
use crate::store::{Error, Expect, Revision, Store};
use crate::suite::{Bench, suite, until};
use crate::testing::{AtRevision, bytes};
use etcd_client::{Txn, TxnOp};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(cluster: &Cluster) -> Etcd {
    connect_to(cluster.urls()).await
}

async fn connect_to(servers: Vec<String>) -> Etcd {
    let config = EtcdConfig {
        servers,
        ..EtcdConfig::default()
    };
    Etcd::connect(config, PATIENCE).await.unwrap()
}

/// A store on a cluster of its own.
async fn bench() -> Option<Bench> {
    let cluster = Cluster::start(1).unwrap()?;
    let store = connect(&cluster).await;
    let cluster = Arc::new(Mutex::new(cluster));
    let restarted = cluster.clone();
    Some(Bench {
        store: Arc::new(store),
        lifetime: Duration::from_secs(2),
        pass: Arc::new(|time| Box::pin(tokio::time::sleep(time))),
        restart: Arc::new(move || {
            let config = {
                let mut cluster = restarted.lock().unwrap();
                cluster.kill(0).unwrap();
                cluster.restart(0).unwrap();
                EtcdConfig {
                    servers: cluster.urls(),
                    ..EtcdConfig::default()
                }
            };
            Box::pin(async move { Arc::new(Etcd::connect(config, PATIENCE).await.unwrap()) as Arc<dyn Store> })
        }),
        _keep: Box::new(cluster),
    })
}

suite!(conformance, bench);

async fn put(store: &Etcd, key: &str, value: &str) -> Revision {
    store.put(key, bytes(value), Expect::Absent, None).await.unwrap()
}

#[tokio::test]
async fn values_with_a_lifetime_share_a_lease_and_vanish() {
    let Some(cluster) = Cluster::start(1).unwrap() else {
        return;
    };
    let store = connect(&cluster).await;
    let began = Instant::now();
    let second = Some(Duration::from_secs(1));
    for key in ["/a/x", "/a/y", "/a/z"] {
        store.put(key, bytes("1"), Expect::Absent, second).await.unwrap();
    }
    let kept = store.get("/a/z").await.unwrap().0.unwrap();
    store
        .put("/a/z", bytes("2"), Expect::Unchanged(kept.mod_revision), None)
        .await
        .unwrap();
    let leases = store.0.members.pick().clients().lease.clone().leases().await.unwrap();
    assert_eq!(leases.leases().len(), 1);
    let mut watch = store.watch("/a/", Revision(5)).await.unwrap();
    // Both in one revision: the lease ends.
    let batch = until(&mut watch, Revision(5), Revision(6)).await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    let gone: Vec<&str> = batch.changes.iter().map(|change| &*change.key).collect();
    assert_eq!(gone, ["/a/x", "/a/y"]);
    assert!(
        batch
            .changes
            .iter()
            .all(|change| change.value.is_none() && change.previous.is_some())
    );
    assert!(store.get("/a/z").await.unwrap().0.is_some());
}

#[tokio::test]
async fn a_lease_that_is_gone_is_replaced() {
    let Some(cluster) = Cluster::start(1).unwrap() else {
        return;
    };
    let store = connect(&cluster).await;
    let hour = Some(Duration::from_secs(3600));
    store.put("/a/x", bytes("1"), Expect::Absent, hour).await.unwrap();
    let mut leases = store.0.members.pick().clients().lease.clone();
    let id = leases.leases().await.unwrap().leases()[0].id();
    leases.revoke(id).await.unwrap();
    store.put("/a/x", bytes("2"), Expect::Absent, hour).await.unwrap();
}

#[tokio::test]
async fn changes_of_others_come_in_whole_revisions() {
    let Some(cluster) = Cluster::start(1).unwrap() else {
        return;
    };
    let store = connect(&cluster).await;
    let mut watch = store.watch("/a/", Revision(1)).await.unwrap();
    let mut kv = store.0.members.pick().clients().kv.clone();
    let puts: Vec<TxnOp> = (0..100)
        .map(|i| TxnOp::put(format!("/registry/a/{i:03}"), "1", None))
        .collect();
    kv.txn(Txn::new().and_then(puts)).await.unwrap();
    kv.put("somebody/else", "1", None).await.unwrap();
    kv.put([0xff, 0xfe], "1", None).await.unwrap();
    let batch = until(&mut watch, Revision(1), Revision(4)).await;
    assert_eq!(batch.changes.len(), 100);
    assert!(batch.changes.iter().all(|change| change.revision == Revision(2)));
    assert_eq!(store.revision().await.unwrap(), Revision(4));
    let range = store.range("", "", 1000, None).await.unwrap();
    assert_eq!(range.entries.len(), 100);
}

#[tokio::test]
async fn large_ranges_come_in_pages_of_one_revision() {
    let Some(cluster) = Cluster::start(1).unwrap() else {
        return;
    };
    let store = connect(&cluster).await;
    let mut kv = store.0.members.pick().clients().kv.clone();
    for part in 0..25 {
        let puts: Vec<TxnOp> = (0..100)
            .map(|i| TxnOp::put(format!("/registry/a/{:04}", part * 100 + i), "1", None))
            .collect();
        kv.txn(Txn::new().and_then(puts)).await.unwrap();
    }
    let range = store.range("/a/", "", usize::MAX, None).await.unwrap();
    assert_eq!(
        (range.entries.len(), range.more, range.revision),
        (2500, false, Revision(26))
    );
    let range = store.range("/a/", "/a/0100", 1500, None).await.unwrap();
    assert_eq!((range.entries.len(), range.more), (1500, true));
    assert_eq!(
        (&*range.entries[0].key, &*range.entries[1499].key),
        ("/a/0100", "/a/1599")
    );
}

#[tokio::test]
async fn one_of_several_servers_compacts() {
    let Some(cluster) = Cluster::start(1).unwrap() else {
        return;
    };
    let (one, other) = (connect(&cluster).await, connect(&cluster).await);
    let (mut ours, mut theirs) = (Term::default(), Term::default());
    assert_eq!(turn(&one, &mut ours).await.unwrap(), None, "nothing is old yet");
    assert_eq!(turn(&other, &mut theirs).await.unwrap(), None, "somebody was faster");
    let old = put(&one, "/a/x", "1").await;
    assert_eq!(turn(&one, &mut ours).await.unwrap(), Some(Revision(2)));
    assert_eq!(turn(&other, &mut theirs).await.unwrap(), None);
    // The first has died: the other takes over where it found the cluster last.
    let compacted = turn(&other, &mut theirs).await.unwrap().unwrap();
    assert!(compacted > old);
    let gone = one.range("/", "", 9, Some(Revision(2))).await.unwrap_err();
    assert_eq!(gone, Error::Compacted { oldest: compacted });
}

#[tokio::test]
async fn a_gap_makes_readers_begin_again() {
    let Some(cluster) = Cluster::start(1).unwrap() else {
        return;
    };
    let store = connect(&cluster).await;
    let config = CacheConfig {
        prefix: "/a/".into(),
        decode: Arc::new(AtRevision),
        ring_bytes: 1 << 20,
    };
    let cache = Cache::start(Arc::new(store.clone()), config);
    cache.ready().await.unwrap();
    let mut watch = store.watch("/a/", Revision(1)).await.unwrap();
    store.0.log.begin_again(1).await;
    assert_eq!(
        watch.next().await.unwrap_err(),
        Error::Compacted { oldest: Revision(1) }
    );
    let object = cache.create("x", bytes("1"), None).await.unwrap();
    assert_eq!(cache.fresh().await.unwrap().get("x").unwrap().revision, object.revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_down_is_found_again() {
    let Some(mut cluster) = Cluster::start(1).unwrap() else {
        return;
    };
    let store = connect(&cluster).await;
    let mut watch = store.watch("/a/", Revision(1)).await.unwrap();
    let one = put(&store, "/a/1", "1").await;
    until(&mut watch, Revision(1), one).await;
    cluster.kill(0).unwrap();
    assert!(
        matches!(store.revision().await, Err(Error::Unavailable(_))),
        "nothing old is told as if it were new"
    );
    let refused = store.put("/a/2", bytes("1"), Expect::Absent, None).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable(_)), "it was not sent: {refused}");
    assert!(
        store
            .health()
            .await
            .unwrap_err()
            .to_string()
            .contains(&cluster.urls()[0])
    );
    cluster.restart(0).unwrap();
    let mut last = Err(refused);
    for _ in 0..100 {
        last = store.put("/a/2", bytes("1"), Expect::Absent, None).await;
        if last.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let two = last.unwrap();
    let batch = until(&mut watch, one, two).await;
    assert!(batch.changes.iter().map(|change| change.revision).eq([two]));
    store.health().await.unwrap();
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_named() {
    let config = EtcdConfig {
        servers: vec!["http://127.0.0.1:1".into()],
        ..EtcdConfig::default()
    };
    let error = Etcd::connect(config, Duration::from_millis(10)).await.unwrap_err();
    assert!(error.to_string().contains("http://127.0.0.1:1"), "{error}");
}

/// An authority, and a certificate of it for both ends, as files.
fn certificates(directory: &std::path::Path) -> Tls {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let path = |name: &str| directory.join(name);
    std::fs::write(path("ca.crt"), authority.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()]).unwrap();
    std::fs::write(path("tls.crt"), leaf.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    std::fs::write(path("tls.key"), key.serialize_pem()).unwrap();
    Tls {
        ca: Some(path("ca.crt")),
        identity: Some((path("tls.crt"), path("tls.key"))),
    }
}

#[tokio::test]
async fn connections_are_encrypted_and_both_ends_known() {
    let directory = tempfile::tempdir().unwrap();
    let tls = certificates(directory.path());
    let file = |flag: &str, name: &str| format!("--{flag}={}", directory.path().join(name).display());
    let arguments = [
        file("cert-file", "tls.crt"),
        file("key-file", "tls.key"),
        file("trusted-ca-file", "ca.crt"),
        "--client-cert-auth".to_owned(),
    ];
    let Some(cluster) = Cluster::with(1, &arguments).unwrap() else {
        return;
    };
    let with = |tls: Option<Tls>| EtcdConfig {
        servers: cluster.urls(),
        tls,
        ..EtcdConfig::default()
    };
    let store = Etcd::connect(with(Some(tls.clone())), PATIENCE).await.unwrap();
    assert_eq!(put(&store, "/a/x", "1").await, Revision(2));
    store.0.members.reload().await.unwrap();
    assert_eq!(put(&store, "/a/y", "1").await, Revision(3));
    let nobody = Tls { identity: None, ..tls };
    assert!(
        Etcd::connect(with(Some(nobody)), Duration::from_millis(10))
            .await
            .is_err()
    );
    let missing = Tls {
        ca: Some("/none".into()),
        identity: None,
    };
    let error = Etcd::connect(with(Some(missing)), Duration::from_millis(10))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/none"), "{error}");
}
