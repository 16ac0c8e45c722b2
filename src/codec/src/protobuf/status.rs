//! `Status`, without tables: failures are answered before anything else is known.

use super::envelope;
use super::wire::Writer;
use fairlead_api::Node;

/// A `Status` as a document.
pub fn status(status: &Node) -> Vec<u8> {
    let mut out = Writer::with_capacity(512);
    let text = |node: &Node, key: &str, number: u32, out: &mut Writer| out.field(number, node.str(key).as_bytes());
    let int = |node: &Node, key: &str| node.get(key).and_then(Node::as_i64).unwrap_or(0) as u64;
    out.number(6, int(status, "code"));
    if let Some(details) = status.get("details").filter(|d| !d.is_null()) {
        let mark = out.len();
        text(details, "uid", 6, &mut out);
        out.number(5, int(details, "retryAfterSeconds"));
        for cause in details.list("causes").iter().rev() {
            let mark = out.len();
            text(cause, "field", 3, &mut out);
            text(cause, "message", 2, &mut out);
            text(cause, "reason", 1, &mut out);
            out.close(4, mark);
        }
        text(details, "kind", 3, &mut out);
        text(details, "group", 2, &mut out);
        text(details, "name", 1, &mut out);
        out.close(5, mark);
    }
    text(status, "reason", 4, &mut out);
    text(status, "message", 3, &mut out);
    text(status, "status", 2, &mut out);
    let mark = out.len();
    let empty = Node::map();
    let metadata = status.get("metadata").unwrap_or(&empty);
    if let Some(count) = metadata.get("remainingItemCount").and_then(Node::as_i64) {
        out.number(4, count as u64);
    }
    text(metadata, "continue", 3, &mut out);
    text(metadata, "resourceVersion", 2, &mut out);
    text(metadata, "selfLink", 1, &mut out);
    out.close(1, mark);
    envelope::seal("v1", "Status", &out.finish())
}
