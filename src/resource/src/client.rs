//! [`Client`]: the verbs for the server's own loops, in process and in Nodes. Their writes skip admission.

pub use fairlead_storage::Cached;

use crate::definition::{ResourceDefinition, Verb};
use crate::engine::Engine;
use crate::request::{Body, Request, Response, View, WatchStream};
use fairlead_api::{Node, Status, StatusResult, UserInfo, json};
use std::sync::Arc;

/// Ten years: longer than any process.
const FOLLOW_SECONDS: u64 = 315_360_000;

/// Acts as one user on everything the engine serves. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    engine: Engine,
    user: Arc<UserInfo>,
    /// The field manager of its writes.
    manager: String,
}

impl Client {
    /// A client whose writes are recorded under `manager`.
    pub fn new(engine: Engine, manager: &str) -> Client {
        let user = UserInfo::new("system:apiserver", &["system:masters", "system:authenticated"]);
        Client {
            engine,
            user: Arc::new(user),
            manager: manager.into(),
        }
    }

    /// # Errors
    /// NotFound, and what the store says.
    pub async fn get(&self, definition: &Arc<ResourceDefinition>, namespace: &str, name: &str) -> StatusResult<Node> {
        self.node(self.request(Verb::Get, definition, namespace, name)).await
    }

    /// All objects of a namespace, or of all where it is empty.
    pub async fn list(&self, definition: &Arc<ResourceDefinition>, namespace: &str) -> StatusResult<Vec<Node>> {
        let request = self.request(Verb::List, definition, namespace, "");
        match self.engine.handle(request).await.result? {
            Response::List(list) => list.items.iter().map(|item| parse(&item.json.text())).collect(),
            Response::Node { mut node, .. } => match node.remove("items") {
                Some(Node::List(items)) => Ok(items),
                _ => Ok(Vec::new()),
            },
            _ => Err(Status::internal("a list was answered with something else")),
        }
    }

    /// All objects as they are stored, unparsed, in the order of their keys.
    ///
    /// # Errors
    /// What the store says.
    pub async fn list_stored(&self, definition: &Arc<ResourceDefinition>) -> StatusResult<Vec<Arc<Cached>>> {
        let request = self.request(Verb::List, definition, "", "");
        match self.engine.handle(request).await.result? {
            Response::List(list) => Ok(list.items),
            _ => Err(Status::internal("a list was answered with something else")),
        }
    }

    pub async fn create(
        &self,
        definition: &Arc<ResourceDefinition>,
        namespace: &str,
        object: &Node,
    ) -> StatusResult<Node> {
        let request = self.request(Verb::Create, definition, namespace, "");
        self.node(Request {
            body: body(object, "application/json"),
            ..request
        })
        .await
    }

    /// Replaces an object; its resourceVersion, where it has one, must be the current one.
    pub async fn update(&self, definition: &Arc<ResourceDefinition>, object: &Node) -> StatusResult<Node> {
        self.update_subresource(definition, "", object).await
    }

    pub async fn update_subresource(
        &self,
        definition: &Arc<ResourceDefinition>,
        subresource: &str,
        object: &Node,
    ) -> StatusResult<Node> {
        let request = self.request(Verb::Update, definition, object.namespace(), object.name());
        let body = body(object, "application/json");
        self.node(Request {
            body,
            subresource: subresource.into(),
            ..request
        })
        .await
    }

    /// JSON merge patch.
    pub async fn merge_patch(
        &self,
        definition: &Arc<ResourceDefinition>,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Node,
    ) -> StatusResult<Node> {
        let request = self.request(Verb::Patch, definition, namespace, name);
        let body = body(patch, "application/merge-patch+json");
        self.node(Request {
            body,
            subresource: subresource.into(),
            ..request
        })
        .await
    }

    /// Deletes one object; `options` is a `DeleteOptions` or null.
    pub async fn delete(
        &self,
        definition: &Arc<ResourceDefinition>,
        namespace: &str,
        name: &str,
        options: &Node,
    ) -> StatusResult<Node> {
        let request = self.request(Verb::Delete, definition, namespace, name);
        let body = if options.is_null() {
            Body::default()
        } else {
            body(options, "application/json")
        };
        self.node(Request { body, ..request }).await
    }

    pub async fn delete_collection(&self, definition: &Arc<ResourceDefinition>, namespace: &str) -> StatusResult<()> {
        let request = self.request(Verb::DeleteCollection, definition, namespace, "");
        self.engine.handle(request).await.result.map(drop)
    }

    /// Everything that exists as added objects, then changes.
    pub async fn watch(&self, definition: &Arc<ResourceDefinition>) -> StatusResult<Box<dyn WatchStream>> {
        let request = self.request(Verb::Watch, definition, "", "");
        match self.engine.handle(request).await.result? {
            Response::Watch(mut stream) => {
                stream.hurry();
                Ok(stream)
            }
            _ => Err(Status::internal("a watch was answered with something else")),
        }
    }

    /// Everything that exists as added objects, then a bookmark, then changes: of one namespace, or of all where it is
    /// empty, and of one `name` only where that is not empty. Ends when something is wrong, not with age.
    ///
    /// # Errors
    /// What the store says.
    pub async fn follow(
        &self,
        definition: &Arc<ResourceDefinition>,
        namespace: &str,
        name: &str,
    ) -> StatusResult<Box<dyn WatchStream>> {
        let mut request = self.request(Verb::Watch, definition, namespace, "");
        let mut ask = |key: &str, value: String| request.query.push((key.to_owned(), value));
        ask("sendInitialEvents", "true".into());
        ask("resourceVersionMatch", "NotOlderThan".into());
        ask("allowWatchBookmarks", "true".into());
        ask("timeoutSeconds", FOLLOW_SECONDS.to_string());
        if !name.is_empty() {
            ask("fieldSelector", format!("metadata.name={name}"));
        }
        match self.engine.handle(request).await.result? {
            Response::Watch(mut stream) => {
                stream.hurry();
                Ok(stream)
            }
            _ => Err(Status::internal("a watch was answered with something else")),
        }
    }

    /// Server-side apply of a whole object, taking fields over from others.
    ///
    /// # Errors
    /// What is wrong with the object, and what the store says.
    pub async fn apply(
        &self,
        definition: &Arc<ResourceDefinition>,
        manager: &str,
        object: &Node,
    ) -> StatusResult<Node> {
        self.apply_subresource(definition, "", manager, object).await
    }

    /// [`apply`](Client::apply) to a subresource.
    ///
    /// # Errors
    /// What is wrong with the object, and what the store says.
    pub async fn apply_subresource(
        &self,
        definition: &Arc<ResourceDefinition>,
        subresource: &str,
        manager: &str,
        object: &Node,
    ) -> StatusResult<Node> {
        let request = self.request(Verb::Patch, definition, object.namespace(), object.name());
        let query = vec![
            ("fieldManager".to_owned(), manager.to_owned()),
            ("force".to_owned(), "true".to_owned()),
        ];
        let body = body(object, "application/apply-patch+yaml");
        let subresource = subresource.into();
        self.node(Request {
            body,
            query,
            subresource,
            ..request
        })
        .await
    }

    async fn node(&self, request: Request) -> StatusResult<Node> {
        match self.engine.handle(request).await.result? {
            Response::Cached { object, .. } => parse(&object.json.text()),
            Response::Node { node, .. } => Ok(node),
            _ => Err(Status::internal("an object was answered with something else")),
        }
    }

    fn request(&self, verb: Verb, definition: &Arc<ResourceDefinition>, namespace: &str, name: &str) -> Request {
        Request {
            verb,
            definition: definition.clone(),
            namespace: namespace.into(),
            name: name.into(),
            subresource: Default::default(),
            subpath: String::new(),
            query: Vec::new(),
            body: Body::default(),
            view: View::Object,
            user: self.user.clone(),
            user_agent: self.manager.clone(),
            deadline: None,
            internal: true,
            recording: Default::default(),
        }
    }
}

fn body(node: &Node, media_type: &str) -> Body {
    Body {
        bytes: json::to_vec(node).into(),
        media_type: media_type.into(),
    }
}

/// Stored JSON is the engine's own: that it does not parse is damage.
pub fn parse(bytes: &[u8]) -> StatusResult<Node> {
    json::parse(bytes).map_err(|e| Status::internal(format!("a stored object is not JSON: {e}")))
}
