//! LIST: whole or in pages, of now, of at least then, or of exactly then.
// PERFORMANCE: per-request path

use crate::assembled::Assembled;
use crate::call::Call;
use crate::continuation::{self, Continuation};
use crate::definition::Conversion;
use crate::options::{ListOptions, Match, parse_resource_version};
use crate::request::{List, Response, View};
use crate::selection::Selection;
use crate::table::{Include, Table};
use crate::view::{self, no_list_view, partial_head};
use crate::{convert, store_error};
use bytes::Bytes;
use fairlead_api::{Node, Status, StatusResult};
use fairlead_storage::{Cached, Error, Revision, Snapshot, Term};
use std::sync::Arc;

/// A page of objects in their stored version.
pub struct Page {
    pub items: Vec<Arc<Cached>>,
    pub revision: Revision,
    /// Empty on the last page.
    pub continue_token: String,
    pub remaining: Option<usize>,
}

/// # Errors
/// BadRequest and Invalid for options, Expired for what is gone, Timeout for what lies ahead.
pub async fn list(call: &Call<'_>) -> StatusResult<Response> {
    let options = ListOptions::parse(call.request, false)?;
    let selection = Selection::parse(call.request)?;
    let page = page(call, &options, &selection).await?;
    respond(call, page).await
}

/// Reads one page. Shared with collection deletes.
///
/// # Errors
/// As [`list`].
pub async fn page(call: &Call<'_>, options: &ListOptions, selection: &Selection) -> StatusResult<Page> {
    let single = selection.key().filter(|_| options.continue_token.is_empty());
    if let Some(key) = single {
        let snapshot = snapshot(call, options, None).await?;
        let items = snapshot
            .get(&key)
            .filter(|object| selection.matches(object))
            .cloned()
            .into_iter()
            .collect();
        return Ok(Page {
            items,
            revision: snapshot.revision,
            continue_token: String::new(),
            remaining: None,
        });
    }
    let prefix = selection.prefix();
    let continuation = if options.continue_token.is_empty() {
        None
    } else {
        let decoded = continuation::decode(&options.continue_token)
            .map_err(|why| Status::bad_request(format!("invalid continue token: {why}")))?;
        if !matches!(options.resource_version.as_str(), "" | "0") {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        Some(decoded)
    };
    let snapshot = snapshot(call, options, continuation.as_ref()).await?;
    let start = continuation.map_or_else(String::new, |c| format!("{prefix}{}", c.start));
    // COMPAT: reads "from anything" are never cut into pages.
    let limited = options.limit > 0 && (options.resource_version != "0" || !options.continue_token.is_empty());
    let limit = if limited {
        usize::try_from(options.limit).unwrap_or(usize::MAX)
    } else {
        usize::MAX
    };
    Ok(fill(call, &snapshot, selection, (&prefix, &start), limit))
}

fn fill(call: &Call, snapshot: &Snapshot, selection: &Selection, (prefix, start): (&str, &str), limit: usize) -> Page {
    let everything = selection.is_empty();
    let cache = call.cache();
    let find = |(term, value): (Term, &str)| {
        let found = cache.select(snapshot, &term, value, prefix, start)?;
        Some((term, found))
    };
    let items = match selection.term().and_then(find) {
        Some((term, found)) => {
            let items = take(found.iter(), selection, limit);
            cache.listed(&term.to_string(), found.len(), items.len());
            items
        }
        None => {
            let mut fetched = 0;
            let objects = snapshot.range(prefix, start).inspect(|_| fetched += 1);
            let items = match everything && limit == usize::MAX {
                true => objects.cloned().collect(),
                false => take(objects, selection, limit),
            };
            cache.listed("", fetched, items.len());
            items
        }
    };
    let mut page = Page {
        items,
        revision: snapshot.revision,
        continue_token: String::new(),
        remaining: None,
    };
    if let Some(last) = page.items.get(limit.wrapping_sub(1)) {
        // The range is cut off by a count, so its upper bound is what is left.
        let rest = snapshot.range(prefix, &format!("{}\0", last.key));
        let remaining = rest.size_hint().1.unwrap_or(0);
        if remaining > 0 {
            let next = format!("{}\0", &last.key[prefix.len()..]);
            page.continue_token = continuation::encode(&next, i64::try_from(snapshot.revision.0).unwrap_or(i64::MAX));
            // Objects that do not match are not counted, so with a selector nothing is told.
            page.remaining = everything.then_some(remaining);
        }
    }
    page
}

fn take<'a>(objects: impl Iterator<Item = &'a Arc<Cached>>, selection: &Selection, limit: usize) -> Vec<Arc<Cached>> {
    objects
        .filter(|object| selection.matches(object))
        .take(limit)
        .cloned()
        .collect()
}

/// The state a list is to be read from.
async fn snapshot(
    call: &Call<'_>,
    options: &ListOptions,
    continuation: Option<&Continuation>,
) -> StatusResult<Snapshot> {
    let cache = call.cache();
    let invalid = |why| Status::bad_request(format!("invalid resource version: {why}"));
    if let Some(continuation) = continuation {
        return match continuation.revision {
            Some(revision) => cache.exact(Revision(revision)).await.map_err(|error| match error {
                Error::Compacted { .. } => expired_continue(continuation),
                other => store_error::read_status(other, &call.group_resource(), "list", revision),
            }),
            None => fresh(call).await,
        };
    }
    let requested = parse_resource_version(&options.resource_version).map_err(invalid)?;
    let exact = match options.version_match {
        Match::Exact => true,
        Match::NotOlderThan => false,
        Match::Unset => options.limit > 0 && requested > 0,
    };
    let result = match (options.resource_version.as_str(), requested) {
        ("", _) => return fresh(call).await,
        (_, 0) if cache.latest().revision.0 > 0 => return Ok(cache.latest()),
        (_, 0) => return fresh(call).await,
        _ if exact => cache.exact(Revision(requested)).await,
        _ => cache.at_least(Revision(requested)).await,
    };
    result.map_err(|error| store_error::read_status(error, &call.group_resource(), "list", requested))
}

async fn fresh(call: &Call<'_>) -> StatusResult<Snapshot> {
    call.cache()
        .fresh()
        .await
        .map_err(|error| store_error::status(error, &call.group_resource(), "list"))
}

/// A page of a state that is gone; the token in the answer goes on with the latest state.
fn expired_continue(continuation: &Continuation) -> Status {
    Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    )
    .with_continue(continuation::encode(&continuation.start, -1))
}

/// Answers a page in the requested view.
///
/// # Errors
/// NotAcceptable for a view that lists do not have; what a conversion webhook answers.
pub async fn respond(call: &Call<'_>, page: Page) -> StatusResult<Response> {
    let metadata = metadata(&page);
    let definition = call.definition;
    let version = match call.request.view {
        View::Object => {
            let items = convert::objects(definition, page.items).await?;
            let mut metadata = metadata;
            if definition.is_custom() && metadata.get("continue").is_none() {
                // COMPAT: lists of custom resources always say it.
                metadata.set("continue", "");
            }
            return Ok(Response::List(List {
                api_version: definition.group_version().to_string(),
                kind: definition.list_kind.to_string(),
                metadata,
                items,
                typed_items: definition.is_custom(),
            }));
        }
        View::Metadata(_) => return Err(no_list_view(definition)),
        View::MetadataList(version) => version,
        View::Table(version) => {
            let mut table = Table::new(call, version, Include::parse(call.request)?);
            table.metadata = metadata;
            let items = convert::objects(definition, page.items).await?;
            let mut rows = Vec::with_capacity(items.len());
            for (at, item) in items.iter().enumerate() {
                rows.push(table.row(item)?);
                breathe(at).await;
            }
            return Ok(Response::Assembled(table.assemble(rows)));
        }
    };
    let converted = match &definition.conversion {
        // Labels and annotations are the webhook's to change.
        Conversion::Webhook(_) => convert::objects(definition, page.items).await?,
        Conversion::None | Conversion::Builtin(_) => page.items,
    };
    if converted.is_empty() {
        // COMPAT: an empty list of metadata is null.
        let mut node = Node::map();
        node.set("kind", METADATA_LIST);
        node.set("apiVersion", version.api_version());
        node.set("metadata", metadata);
        node.set("items", Node::Null);
        return Ok(Response::Node { code: 200, node });
    }
    let mut items = Vec::with_capacity(converted.len());
    for (at, item) in converted.iter().enumerate() {
        items.push([Bytes::new(), view::metadata(item, definition)]);
        breathe(at).await;
    }
    Ok(Response::Assembled(Assembled {
        head: Assembled::open(METADATA_LIST, version.api_version(), &metadata, &[], "items"),
        around: [partial_head(version), String::new(), "}".into()],
        items,
        tail: "]}",
    }))
}

const METADATA_LIST: &str = "PartialObjectMetadataList";

/// Lets others run now and then while a long list is made.
async fn breathe(at: usize) {
    if at % 256 == 255 {
        tokio::task::yield_now().await;
    }
}

fn metadata(page: &Page) -> Node {
    let mut metadata = Node::map();
    metadata.set("resourceVersion", page.revision.0.to_string());
    if !page.continue_token.is_empty() {
        metadata.set("continue", page.continue_token.as_str());
    }
    if let Some(remaining) = page.remaining {
        metadata.set("remainingItemCount", i64::try_from(remaining).unwrap_or(i64::MAX));
    }
    metadata
}
