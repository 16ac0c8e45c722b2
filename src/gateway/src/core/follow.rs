//! Collections of the core, listed and watched for as long as somebody cares.

use super::{Core, CoreError};
use fairlead_api::{Node, json};
use http_body_util::BodyExt;
use std::time::Duration;

/// Between two tries of what failed.
const PAUSE: Duration = Duration::from_secs(1);

/// One change of a collection of the core.
pub enum Event {
    /// All there is.
    All(Vec<Node>),
    Put(Node),
    Gone(Node),
}

/// Lists and watches a collection for ever.
pub async fn follow(core: Core, path: &'static str, mut take: impl FnMut(Event)) {
    loop {
        if let Err(error) = follow_once(&core, path, &mut take).await {
            tracing::debug!(path, %error, "the core is listed again");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow_once(core: &Core, path: &str, take: &mut impl FnMut(Event)) -> Result<(), CoreError> {
    let mut list = core.json(path).await?;
    let version = list.str_at(&["metadata", "resourceVersion"]).to_owned();
    let items = match list.remove("items") {
        Some(Node::List(items)) => items,
        _ => Vec::new(),
    };
    take(Event::All(items));
    let watch = format!("{path}?watch=true&allowWatchBookmarks=true&resourceVersion={version}");
    let mut body = core.watch(&watch).await?;
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| CoreError::Send(e.to_string()))?;
        rest.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d));
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let mut event = json::parse(&line).map_err(|_| CoreError::Document)?;
            let object = event.remove("object").unwrap_or_default();
            match event.str("type") {
                "ADDED" | "MODIFIED" => take(Event::Put(object)),
                "DELETED" => take(Event::Gone(object)),
                "BOOKMARK" => {}
                // Too old, most likely.
                _ => return Ok(()),
            }
        }
    }
    Ok(())
}
