//! Compaction of a cluster that several servers share: every interval, one of them compacts to where the cluster was an
//! interval ago. The protocol is kube-apiserver's (kubernetes/apiserver pkg/storage/etcd3/compact.go), so that it takes
//! part: a key's version is the term, its value the revision last compacted to. Who finds the version it expects goes
//! on; the others have learnt the new version and try again an interval later.

use crate::etcd::keys::revision;
use crate::etcd::members::{Call, Clients};
use crate::etcd::{Etcd, plain};
use crate::store::{Result, Revision, Store};
use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse};
use std::sync::Arc;
use std::time::Duration;

/// Outside every prefix: clusters are compacted as a whole.
const KEY: &str = "compact_rev_key";

/// What one server knows of the terms.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Term {
    version: i64,
    /// Where the cluster was when the term began.
    revision: Revision,
}

/// Compacts whenever it is this server's turn. Runs until it is dropped.
pub async fn run(store: Etcd, interval: Duration) {
    let mut term = Term::default();
    loop {
        tokio::time::sleep(interval).await;
        match turn(&store, &mut term).await {
            Ok(None) => {}
            Ok(Some(at)) => tracing::debug!(revision = at.0, "etcd was compacted"),
            Err(error) => tracing::warn!(%error, "etcd was not compacted"),
        }
    }
}

/// Ends `term` and begins the next. Answers the revision compacted to where that was this server's to do.
pub(super) async fn turn(store: &Etcd, term: &mut Term) -> Result<Option<Revision>> {
    let expected = *term;
    let attempt = |clients: Arc<Clients>| {
        let txn = Txn::new()
            .when([Compare::version(KEY, CompareOp::Equal, expected.version)])
            .and_then([TxnOp::put(KEY, expected.revision.0.to_string(), None)])
            .or_else([TxnOp::get(KEY, None)]);
        async move { clients.kv.clone().txn(txn).await }
    };
    let answer = store.0.members.ask(Call::Write, attempt).await.map_err(plain)?;
    let now = answer
        .header()
        .map(|header| revision(header.revision()))
        .unwrap_or_default();
    term.revision = now;
    if !answer.succeeded() {
        let version = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(found) => found.kvs().first().map(|kv| kv.version()),
            _ => None,
        });
        // Deleted in the meantime: the terms begin anew.
        term.version = version.unwrap_or(0);
        return Ok(None);
    }
    term.version += 1;
    if expected.revision == Revision::default() {
        // Nothing is known to be an interval old.
        return Ok(None);
    }
    store.compact(expected.revision).await?;
    Ok(Some(expected.revision))
}
