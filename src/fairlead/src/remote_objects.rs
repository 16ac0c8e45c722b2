//! [`GatewayRemoteObjects`]: objects of other API servers, reached through the gateway, as garbage collection sees them.

use crate::remote_content::escaped;
use bytes::{Bytes, BytesMut};
use fairlead_api::{Node, Status, StatusResult, UserInfo, json};
use fairlead_controllers::remote::{RemoteEvent, RemoteObjects, RemoteResource};
use fairlead_gateway::body::{full, read};
use fairlead_gateway::{Body, Gateway, RequestContext};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use http::{Method, Request, Response, header};
use http_body_util::BodyExt;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Asks backends as the server itself, which is a member of `system:masters`.
#[derive(Clone)]
pub struct GatewayRemoteObjects {
    gateway: Gateway,
    user: Arc<UserInfo>,
}

/// Only metadata, from backends that can.
const OBJECT: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
/// Of one request that is no watch.
const TIMEOUT: Duration = Duration::from_secs(10);
const LIMIT: usize = 64 << 20;
/// An event larger than this is none of an API server.
const MAX_EVENT: usize = 4 << 20;
/// How many objects are listed at a time.
const PAGE: usize = 500;
/// A watch is begun anew after this: with it, whatever a proxy between has silently dropped.
const WATCH_SECONDS: u64 = 300;

/// Between a watch that the server ended and the next.
const AGAIN: Duration = Duration::from_millis(200);

struct Asked {
    method: Method,
    verb: &'static str,
    path: String,
    accept: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Asked {
    fn read(verb: &'static str, path: String, accept: &'static str) -> Asked {
        Asked {
            method: Method::GET,
            verb,
            path,
            accept,
            content_type: "application/json",
            body: Vec::new(),
        }
    }
}

impl GatewayRemoteObjects {
    pub fn new(gateway: Gateway) -> GatewayRemoteObjects {
        GatewayRemoteObjects {
            gateway,
            user: Arc::new(UserInfo::new(
                "system:apiserver",
                &["system:masters", "system:authenticated"],
            )),
        }
    }

    async fn send(&self, resource: &RemoteResource, asked: Asked) -> StatusResult<Response<Body>> {
        let request = Request::builder()
            .method(asked.method)
            .uri(asked.path)
            .header(header::ACCEPT, asked.accept)
            .header(header::CONTENT_TYPE, asked.content_type)
            .header(header::CONTENT_LENGTH, asked.body.len())
            .header(header::USER_AGENT, "fairlead")
            .body(full(asked.body))
            .map_err(Status::internal)?;
        let context = RequestContext {
            verb: asked.verb,
            long_running: asked.verb == "WATCH",
            ..RequestContext::default()
        };
        let sent = self.gateway.proxy(&resource.api_service, request, &self.user, &context);
        sent.await.ok_or_else(|| unreachable(resource))
    }

    /// Asks and reads the whole answer, which is an error where it is no success.
    async fn ask(&self, resource: &RemoteResource, asked: Asked) -> StatusResult<Node> {
        let asking = async {
            let response = self.send(resource, asked).await?;
            let code = response.status().as_u16();
            let bytes = read(response.into_body(), LIMIT).await;
            Ok((code, bytes.map_err(|error| Status::unavailable(error.to_string()))?))
        };
        let (code, bytes) = tokio::time::timeout(TIMEOUT, asking)
            .await
            .unwrap_or_else(|_| Err(unreachable(resource)))?;
        let answer = json::parse(&bytes).unwrap_or_default();
        if (200..300).contains(&code) {
            return Ok(answer);
        }
        Err(failure(code, &answer, &bytes))
    }

    /// Lists everything; answers the version to watch from.
    async fn list(&self, resource: &RemoteResource, events: &mut VecDeque<RemoteEvent>) -> StatusResult<String> {
        let mut next = String::new();
        loop {
            let mut path = format!("{}?limit={PAGE}", collection(resource, ""));
            if !next.is_empty() {
                path.push_str(&format!("&continue={}", escaped(&next)));
            }
            let page = self.ask(resource, Asked::read("LIST", path, LIST)).await?;
            events.extend(
                page.list("items")
                    .iter()
                    .map(|item| RemoteEvent::Changed(metadata(item))),
            );
            next = page.str_at(&["metadata", "continue"]).to_owned();
            if next.is_empty() {
                events.push_back(RemoteEvent::Complete);
                return Ok(page.str_at(&["metadata", "resourceVersion"]).to_owned());
            }
        }
    }

    async fn watch(&self, resource: &RemoteResource, from: &str) -> StatusResult<Body> {
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={}",
            collection(resource, ""),
            escaped(from)
        );
        let response = self.send(resource, Asked::read("WATCH", path, OBJECT)).await?;
        match response.status().as_u16() {
            200 => Ok(response.into_body()),
            code => Err(failure(code, &Node::Null, &[])),
        }
    }
}

impl RemoteObjects for GatewayRemoteObjects {
    fn follow(&self, resource: Arc<RemoteResource>) -> BoxStream<'static, RemoteEvent> {
        let following = Following {
            objects: self.clone(),
            resource,
            told: VecDeque::new(),
            state: State::New,
        };
        stream::unfold(following, |mut following| async move {
            let event = following.next().await?;
            Some((event, following))
        })
        .boxed()
    }

    fn get<'a>(
        &'a self,
        resource: &'a RemoteResource,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, StatusResult<Node>> {
        let asked = Asked::read("GET", object(resource, namespace, name), OBJECT);
        self.ask(resource, asked).boxed()
    }

    fn patch<'a>(
        &'a self,
        resource: &'a RemoteResource,
        namespace: &'a str,
        name: &'a str,
        patch: &'a Node,
    ) -> BoxFuture<'a, StatusResult<Node>> {
        let asked = Asked {
            method: Method::PATCH,
            content_type: "application/merge-patch+json",
            body: json::to_vec(patch),
            ..Asked::read("PATCH", object(resource, namespace, name), OBJECT)
        };
        self.ask(resource, asked).boxed()
    }

    fn delete<'a>(
        &'a self,
        resource: &'a RemoteResource,
        namespace: &'a str,
        name: &'a str,
        options: &'a Node,
    ) -> BoxFuture<'a, StatusResult<()>> {
        let asked = Asked {
            method: Method::DELETE,
            body: json::to_vec(options),
            ..Asked::read("DELETE", object(resource, namespace, name), "application/json")
        };
        async move { self.ask(resource, asked).await.map(drop) }.boxed()
    }
}

/// A list that is followed by a watch.
struct Following {
    objects: GatewayRemoteObjects,
    resource: Arc<RemoteResource>,
    told: VecDeque<RemoteEvent>,
    state: State,
}

enum State {
    New,
    /// From this version.
    Listed(String),
    Watching {
        body: Body,
        buffer: BytesMut,
        version: String,
    },
    Ended,
}

impl Following {
    /// The next event; `None` when it is not known any more what there is.
    async fn next(&mut self) -> Option<RemoteEvent> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Some(event);
            }
            self.state = match std::mem::replace(&mut self.state, State::Ended) {
                State::New => {
                    // Until then there is nothing to be had.
                    let backend = self.objects.gateway.backend(&self.resource.api_service)?;
                    backend.verdicts().wait_for(|verdict| verdict.is_true()).await.ok()?;
                    State::Listed(self.objects.list(&self.resource, &mut self.told).await.ok()?)
                }
                State::Listed(version) => State::Watching {
                    body: self.objects.watch(&self.resource, &version).await.ok()?,
                    buffer: BytesMut::new(),
                    version,
                },
                State::Watching {
                    mut body,
                    mut buffer,
                    mut version,
                } => match body.frame().await {
                    Some(Ok(frame)) => {
                        buffer.extend_from_slice(&frame.into_data().unwrap_or_default());
                        if buffer.len() > MAX_EVENT {
                            return None;
                        }
                        while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
                            let line = buffer.split_to(end + 1).freeze();
                            self.told.extend(event(&line, &mut version)?);
                        }
                        State::Watching { body, buffer, version }
                    }
                    // The server ends watches from time to time: nothing has been missed.
                    None if !version.is_empty() => {
                        tokio::time::sleep(AGAIN).await;
                        State::Listed(version)
                    }
                    _ => return None,
                },
                State::Ended => return None,
            };
        }
    }
}

/// What a line of a watch says; `None` where it says that the watch is of no use any more.
fn event(line: &Bytes, version: &mut String) -> Option<Option<RemoteEvent>> {
    let event = json::parse(line).ok()?;
    let object = event.get("object")?;
    let told = match event.str("type") {
        "ADDED" | "MODIFIED" => Some(RemoteEvent::Changed(metadata(object))),
        "DELETED" => Some(RemoteEvent::Deleted(metadata(object))),
        "BOOKMARK" => None,
        _ => return None,
    };
    let seen = object.resource_version();
    if !seen.is_empty() {
        *version = seen.to_owned();
    }
    Some(told)
}

/// What matters of an object, whatever form the backend has sent it in.
fn metadata(object: &Node) -> Node {
    let mut kept = Node::map();
    if let Some(metadata) = object.get("metadata") {
        for key in [
            "name",
            "namespace",
            "uid",
            "ownerReferences",
            "finalizers",
            "deletionTimestamp",
        ] {
            if let Some(value) = metadata.get(key) {
                kept.set_at(&["metadata", key], value.clone());
            }
        }
    }
    kept
}

fn collection(resource: &RemoteResource, namespace: &str) -> String {
    let RemoteResource {
        group, version, plural, ..
    } = resource;
    match namespace {
        "" => format!("/apis/{group}/{version}/{plural}"),
        namespace => format!("/apis/{group}/{version}/namespaces/{}/{plural}", escaped(namespace)),
    }
}

fn object(resource: &RemoteResource, namespace: &str, name: &str) -> String {
    format!("{}/{}", collection(resource, namespace), escaped(name))
}

fn unreachable(resource: &RemoteResource) -> Status {
    Status::unavailable(format!(
        "the API server of {}/{} does not answer",
        resource.group, resource.version
    ))
}

fn failure(code: u16, answer: &Node, bytes: &[u8]) -> Status {
    let message = match answer.str("message") {
        "" => String::from_utf8_lossy(bytes).trim().chars().take(200).collect(),
        message => message.to_owned(),
    };
    match code {
        404 => Status::new(404, "NotFound", message),
        409 => Status::new(409, "Conflict", message),
        code => Status::new(code, answer.str("reason").to_owned(), message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_watch_are_read() {
        let mut version = "1".to_owned();
        let line = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let added =
            line(r#"{"type":"ADDED","object":{"metadata":{"name":"a","uid":"u","resourceVersion":"5"},"spec":{}}}"#);
        let Some(Some(RemoteEvent::Changed(object))) = event(&added, &mut version) else {
            panic!("not an object")
        };
        assert_eq!((object.uid(), object.get("spec"), version.as_str()), ("u", None, "5"));
        let bookmark = line(r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#);
        assert!(matches!(event(&bookmark, &mut version), Some(None)));
        assert_eq!(version, "9");
        let expired = line(r#"{"type":"ERROR","object":{"kind":"Status","code":410}}"#);
        assert!(event(&expired, &mut version).is_none());
        assert!(event(&line("<html>"), &mut version).is_none());
    }
}
