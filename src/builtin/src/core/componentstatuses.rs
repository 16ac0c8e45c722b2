//! ComponentStatuses: no longer kept by anyone. The store is the one component a server knows of.

use crate::cells::Row;
use fairlead_api::{GroupResource, Node, Status, StatusResult, node};
use fairlead_resource::hooks::Serve;
use fairlead_resource::table::{Include, Table};
use fairlead_resource::{Engine, Hooks, Request, Response, Verb, View};
use futures_util::future::BoxFuture;

pub struct ComponentStatuses;

impl Hooks for ComponentStatuses {
    fn serve(&self, subresource: &str) -> Option<&dyn Serve> {
        subresource.is_empty().then_some(self)
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let healthy = object.list("conditions").iter().find(|c| c.str("type") == "Healthy");
        let status = match healthy.map(|c| c.str("status")) {
            None => "Unknown",
            Some("True") => "Healthy",
            Some(_) => "Unhealthy",
        };
        let text = |key| healthy.map_or("", |c| c.str(key));
        Row::named(object, now_seconds)
            .cell(status)
            .cell(text("message"))
            .cell(text("error"))
            .done()
    }
}

/// What upstream calls its store.
const STORE: &str = "etcd-0";

impl Serve for ComponentStatuses {
    fn serve<'a>(&'a self, request: &'a Request, _: &'a Engine) -> BoxFuture<'a, StatusResult<Response>> {
        Box::pin(std::future::ready(answer(request)))
    }
}

fn answer(request: &Request) -> StatusResult<Response> {
    let node = match (request.verb, request.view) {
        (Verb::Get | Verb::List, View::Table(version)) => {
            let mut table = Table::of(&request.definition, version, Include::parse(request)?, 0);
            if request.verb == Verb::Get {
                found(request)?;
            }
            table.push(&store());
            table.finish(true)
        }
        (Verb::Get, _) => {
            found(request)?;
            store()
        }
        (Verb::List, _) => {
            let mut item = store();
            item.remove("kind");
            item.remove("apiVersion");
            let mut list = node!({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}});
            list.set("items", vec![item]);
            list
        }
        _ => return Err(Status::method_not_allowed()),
    };
    Ok(Response::Node { code: 200, node })
}

fn found(request: &Request) -> StatusResult<()> {
    if request.name == STORE {
        return Ok(());
    }
    // COMPAT: the kind stands where a resource should.
    let resource = GroupResource {
        group: Default::default(),
        resource: "componentstatus".into(),
    };
    Err(Status::not_found(&resource, &request.name))
}

/// A server that answers has a store that does.
fn store() -> Node {
    let mut store = node!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {}, "conditions": [
        {"type": "Healthy", "status": "True", "message": "ok"}]});
    store.meta_mut().insert("name", Node::string(STORE));
    store
}
