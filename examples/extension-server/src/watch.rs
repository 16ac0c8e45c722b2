//! The stream of changes of one collection.

use crate::kinds::Kind;
use crate::selector::Selector;
use crate::storage::{Change, Storage};
use bytes::Bytes;
use http_body_util::channel::{Channel, SendError, Sender};
use hyper::body::{Body, Frame};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

pub struct Watch {
    pub storage: Arc<Storage>,
    pub kind: &'static Kind,
    pub namespace: String,
    pub selector: Selector,
    /// Send changes after this revision; `None` begins with everything there is.
    pub since: Option<u64>,
    /// Whether to tell, by a bookmark, when everything there is has been sent.
    pub send_initial_events: bool,
    pub as_table: bool,
    pub timeout: Duration,
}

impl Watch {
    /// The body of the answer. It ends with the timeout, or when the client goes away and the body is dropped.
    pub fn body(self) -> WatchBody {
        let (sender, lines) = Channel::new(16);
        WatchBody {
            lines,
            writer: Some(Box::pin(self.run(sender))),
        }
    }

    async fn run(self, mut sender: Sender<Bytes>) -> Result<(), SendError> {
        let deadline = Instant::now() + self.timeout;
        let mut written = self.storage.subscribe();
        let mut seen = match self.since {
            Some(revision) => revision,
            None => self.send_all(&mut sender).await?,
        };
        loop {
            // Marked as seen before looking, so that a write in between wakes us again.
            written.borrow_and_update();
            let Some((changes, revision)) = self.storage.changes_since(seen, self.kind) else {
                let gone = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410,
                    "reason": "Expired", "message": format!("too old resource version: {seen}"),
                });
                return sender.send_data(line("ERROR", &gone)).await;
            };
            seen = revision;
            for change in changes {
                if let Some((event, object)) = self.event(&change) {
                    sender.send_data(line(event, &self.view(object))).await?;
                }
            }
            tokio::select! {
                woken = written.changed() => if woken.is_err() { return Ok(()) },
                () = tokio::time::sleep_until(deadline) => return Ok(()),
            }
        }
    }

    async fn send_all(&self, sender: &mut Sender<Bytes>) -> Result<u64, SendError> {
        let (objects, revision) = self.storage.list(self.kind, &self.namespace);
        for object in objects.iter().filter(|o| self.selector.matches(o)) {
            sender.send_data(line("ADDED", &self.view(object))).await?;
        }
        if self.send_initial_events {
            let mark = json!({
                "kind": self.kind.kind, "apiVersion": crate::GROUP_VERSION,
                "metadata": {"resourceVersion": revision.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}},
            });
            sender.send_data(line("BOOKMARK", &mark)).await?;
        }
        Ok(revision)
    }

    /// An object that begins to match the selector is added for this watcher, one that ceases to is deleted.
    fn event<'a>(&self, change: &'a Change) -> Option<(&'static str, &'a Value)> {
        if !self.namespace.is_empty() && change.new["metadata"]["namespace"] != self.namespace.as_str() {
            return None;
        }
        let before = change.old.as_ref().is_some_and(|old| self.selector.matches(old));
        let after = !change.deleted && self.selector.matches(&change.new);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(("ADDED", &change.new)),
            (true, true) => Some(("MODIFIED", &change.new)),
            (true, false) => Some(("DELETED", &change.new)),
        }
    }

    fn view(&self, object: &Value) -> Value {
        if !self.as_table {
            return object.clone();
        }
        let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        self.kind.table(std::slice::from_ref(object), version)
    }
}

type Writer = Pin<Box<dyn Future<Output = Result<(), SendError>> + Send>>;

/// What the writer has written. Reading it drives the writer, so that no task outlives the answer.
pub struct WatchBody {
    lines: Channel<Bytes>,
    writer: Option<Writer>,
}

impl Body for WatchBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = &mut *self;
        if let Some(writer) = &mut body.writer
            && writer.as_mut().poll(context).is_ready()
        {
            body.writer = None;
        }
        Pin::new(&mut body.lines).poll_frame(context)
    }
}

fn line(event: &str, object: &Value) -> Bytes {
    let mut line = json!({"type": event, "object": object}).to_string();
    line.push('\n');
    line.into()
}
