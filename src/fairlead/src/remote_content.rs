//! [`GatewayContent`]: what backends keep in a namespace that is being deleted, emptied through the gateway.

use fairlead_api::{Node, UserInfo, json, node};
use fairlead_controllers::namespace::{RemoteContent, RemoteLeft, Unreachable, stale};
use fairlead_discovery::RemoteGroupVersion;
use fairlead_gateway::body::{full, read};
use fairlead_gateway::{Gateway, RequestContext};
use futures_util::future::BoxFuture;
use http::{Method, Request, header};
use std::time::Duration;

/// Asks backends as the server itself, which is a member of `system:masters`.
pub struct GatewayContent {
    gateway: Gateway,
    user: UserInfo,
}

const LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
/// Of one request. A backend that takes longer is asked again later.
const TIMEOUT: Duration = Duration::from_secs(10);
const LIMIT: usize = 64 << 20;
/// How many objects are listed at a time.
const PAGE: usize = 500;

impl GatewayContent {
    pub fn new(gateway: Gateway) -> GatewayContent {
        GatewayContent {
            gateway,
            user: UserInfo::new("system:apiserver", &["system:masters", "system:authenticated"]),
        }
    }
}

impl RemoteContent for GatewayContent {
    fn delete<'a>(
        &'a self,
        remote: &'a RemoteGroupVersion,
        namespace: &'a str,
    ) -> BoxFuture<'a, Result<RemoteLeft, Unreachable>> {
        Box::pin(async move {
            let available = self
                .gateway
                .backend(&remote.api_service)
                .is_some_and(|b| b.is_available());
            if remote.stale || remote.learnt.is_none() || !available {
                return Err(Unreachable(stale(remote)));
            }
            let mut left = RemoteLeft::default();
            for resource in remote
                .resources
                .iter()
                .filter(|r| r.str("scope") == "Namespaced" && can(r, "delete"))
            {
                let collection = Collection {
                    content: self,
                    remote,
                    plural: resource.str("resource"),
                    path: format!(
                        "/apis/{}/{}/namespaces/{namespace}/{}",
                        remote.group,
                        remote.version,
                        resource.str("resource")
                    ),
                };
                collection.empty(resource, &mut left).await?;
            }
            Ok(left)
        })
    }
}

/// One resource of one backend in one namespace.
struct Collection<'a> {
    content: &'a GatewayContent,
    remote: &'a RemoteGroupVersion,
    plural: &'a str,
    path: String,
}

/// An answer that is no success.
struct Refused {
    code: u16,
    message: String,
}

impl Collection<'_> {
    async fn empty(&self, resource: &Node, left: &mut RemoteLeft) -> Result<(), Unreachable> {
        let listable = can(resource, "list");
        let mut deleted = false;
        if can(resource, "deletecollection") {
            match self.send(Method::DELETE, "DELETECOLLECTION", &self.path).await? {
                Ok(_) => deleted = true,
                Err(refused) if matches!(refused.code, 404 | 405) => {}
                Err(refused) => left.failures.push(refused.message),
            }
        }
        if listable && !deleted {
            let Some(items) = self.list(left).await? else {
                return Ok(());
            };
            for item in items.iter().filter(|i| i.deletion_timestamp().is_none()) {
                let path = format!("{}/{}", self.path, escaped(item.name()));
                match self.send(Method::DELETE, "DELETE", &path).await? {
                    Err(refused) if !matches!(refused.code, 404 | 405) => left.failures.push(refused.message),
                    _ => {}
                }
            }
        }
        if listable && let Some(items) = self.list(left).await? {
            left.remaining.insert(self.plural.to_owned(), items.len());
            for finalizer in items.iter().flat_map(|i| i.finalizers()) {
                *left.finalizers.entry(finalizer.to_owned()).or_default() += 1;
            }
        }
        Ok(())
    }

    /// All objects; `None` where the backend cannot list them.
    async fn list(&self, left: &mut RemoteLeft) -> Result<Option<Vec<Node>>, Unreachable> {
        let (mut items, mut next) = (Vec::new(), String::new());
        loop {
            let mut path = format!("{}?limit={PAGE}", self.path);
            if !next.is_empty() {
                path.push_str(&format!("&continue={}", escaped(&next)));
            }
            match self.send(Method::GET, "LIST", &path).await? {
                Ok(page) => {
                    items.extend_from_slice(page.list("items"));
                    next = page.str_at(&["metadata", "continue"]).to_owned();
                }
                Err(refused) => {
                    if !matches!(refused.code, 404 | 405) {
                        left.failures.push(refused.message);
                    }
                    return Ok(None);
                }
            }
            if next.is_empty() {
                return Ok(Some(items));
            }
        }
    }

    async fn send(&self, method: Method, verb: &str, path: &str) -> Result<Result<Node, Refused>, Unreachable> {
        let sending = async {
            let body = match method {
                Method::DELETE => json::to_vec(
                    &node!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}),
                ),
                _ => Vec::new(),
            };
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(header::ACCEPT, LIST)
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::CONTENT_LENGTH, body.len())
                .header(header::USER_AGENT, "fairlead")
                .body(full(body))
                .map_err(|error| error.to_string())?;
            let context = RequestContext {
                verb,
                ..RequestContext::default()
            };
            let GatewayContent { gateway, user } = self.content;
            let response = gateway.proxy(&self.remote.api_service, request, user, &context).await;
            let response = response.ok_or_else(|| stale(self.remote))?;
            let code = response.status().as_u16();
            let bytes = read(response.into_body(), LIMIT)
                .await
                .map_err(|error| error.to_string())?;
            Ok::<_, String>((code, bytes))
        };
        let (code, bytes) = match tokio::time::timeout(TIMEOUT, sending).await {
            Ok(answer) => answer.map_err(Unreachable)?,
            Err(_) => {
                return Err(Unreachable(format!(
                    "{} did not answer within {TIMEOUT:?}",
                    self.remote.api_service
                )));
            }
        };
        let answer = json::parse(&bytes).unwrap_or_default();
        if (200..300).contains(&code) {
            return Ok(Ok(answer));
        }
        let message = match answer.str("message") {
            "" => String::from_utf8_lossy(&bytes).trim().chars().take(200).collect(),
            message => message.to_owned(),
        };
        if code == 503 {
            return Err(Unreachable(message));
        }
        Ok(Err(Refused {
            code,
            message: format!("{}.{}: {message}", self.plural, self.remote.group),
        }))
    }
}

fn can(resource: &Node, verb: &str) -> bool {
    resource.list("verbs").iter().any(|v| v.as_str() == Some(verb))
}

/// A path segment or query value.
pub(crate) fn escaped(text: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes()
        .map(|b| {
            if plain(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tokens_stay_within_their_place() {
        assert_eq!(escaped("a-b.c"), "a-b.c");
        assert_eq!(escaped("../x?y=z"), "..%2Fx%3Fy%3Dz");
        assert!(can(&node!({"verbs": ["get", "delete"]}), "delete"));
    }
}
