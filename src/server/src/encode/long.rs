//! Long lists as YAML or as indented JSON: in pieces, with a pause before each, so that neither memory nor other requests
//! feel how many objects there are.
// PERFORMANCE: per-request path

use super::assembled::Pieces as Parts;
use super::list::Pieces;
use super::pretty::Indent;
use super::{GZIP_THRESHOLD, PIECE, compress, mark_compressed};
use crate::body::{Body, BoxError, ByteStream, Response};
use crate::negotiate::{Agreed, Format};
use bytes::Bytes;
use fairlead_api::{Map, Node, json};
use fairlead_codec::yaml_writer;
use fairlead_resource::assembled::Assembled;
use fairlead_resource::request::List;
use http::HeaderValue;
use http::header::CONTENT_TYPE;

/// Whether a list of so many bytes of JSON is written in pieces.
pub fn is_long(bytes: usize) -> bool {
    bytes > PIECE
}

/// A list of objects.
pub fn list(list: List, agreed: Agreed, gzip: bool) -> Response {
    let pieces = match agreed.format {
        Format::Yaml => {
            let mut around = Node::map();
            around.set("kind", list.kind.as_str());
            around.set("apiVersion", list.api_version.as_str());
            around.set("metadata", list.metadata);
            let typed = list.typed_items;
            let items = list.items.into_iter().map(move |object| {
                let mut item = json::parse(&object.json.text())?;
                if !typed {
                    item.remove("kind");
                    item.remove("apiVersion");
                }
                Ok(item)
            });
            yaml(&around, "items", items)
        }
        _ => indented(Pieces::new(list)),
    };
    respond(pieces, agreed, gzip)
}

/// A Table or a list of metadata.
///
/// # Errors
/// Its head is not JSON.
pub fn made(assembled: Assembled, agreed: Agreed, gzip: bool) -> Result<Response, json::SyntaxError> {
    let pieces = match agreed.format {
        Format::Yaml => {
            let around = json::parse(&[assembled.head.as_slice(), assembled.tail.as_bytes()].concat())?;
            let mut names = assembled.head.rsplit(|b| *b == b'"').skip(1);
            let name = String::from_utf8_lossy(names.next().unwrap_or_default()).into_owned();
            let items = (0..assembled.items.len()).map(move |at| {
                let mut item = Vec::new();
                assembled.write_item(at, &mut item);
                json::parse(&item[usize::from(at > 0)..])
            });
            yaml(&around, &name, items)
        }
        _ => indented(Parts::new(assembled)),
    };
    Ok(respond(pieces, agreed, gzip))
}

fn respond(pieces: ByteStream, agreed: Agreed, gzip: bool) -> Response {
    // What is long as compact JSON is longer so.
    const { assert!(PIECE * 2 >= GZIP_THRESHOLD) };
    let mut response = Response::new(match gzip {
        true => compress::stream(pieces),
        false => Body::stream(pieces, None),
    });
    let media_type = HeaderValue::from_static(agreed.format.media_type());
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    if gzip {
        mark_compressed(&mut response);
    }
    response
}

/// `around` with `items`, which there is at least one of, as its member `name`. Keys are in order, as in any YAML.
fn yaml<I>(around: &Node, name: &str, items: I) -> ByteStream
where
    I: Iterator<Item = Result<Node, json::SyntaxError>> + Send + 'static,
{
    let part = |wanted: &dyn Fn(&str) -> bool| {
        let members = around.as_map().into_iter().flat_map(Map::iter);
        let members: Vec<_> = members
            .filter(|(key, _)| wanted(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        match members.is_empty() {
            true => Vec::new(),
            false => yaml_writer::write(&Node::Map(Map::from_entries(members))),
        }
    };
    let mut head = part(&|key| key < name);
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b":\n");
    let behind = part(&|key| key > name);
    let parts = std::iter::once(Ok(head))
        .chain(items.map(|item| Ok(yaml_writer::write(&Node::List(vec![item?])))))
        .chain(std::iter::once(Ok(behind)));
    paced(gathered(parts))
}

fn indented(pieces: impl Iterator<Item = Bytes> + Send + 'static) -> ByteStream {
    let mut indent = Indent::by("  ");
    paced(pieces.map(move |piece| {
        let mut out = Vec::with_capacity(piece.len() * 2);
        indent.write(&piece, &mut out);
        Ok(out.into())
    }))
}

/// Parts joined to pieces worth a write.
fn gathered<I>(mut parts: I) -> impl Iterator<Item = Result<Bytes, BoxError>> + Send + use<I>
where
    I: Iterator<Item = Result<Vec<u8>, json::SyntaxError>> + Send + 'static,
{
    std::iter::from_fn(move || {
        let mut piece = Vec::new();
        while piece.len() < PIECE {
            match parts.next() {
                Some(Ok(part)) => piece.extend_from_slice(&part),
                Some(Err(error)) => return Some(Err(error.into())),
                None => break,
            }
        }
        (!piece.is_empty()).then(|| Ok(piece.into()))
    })
}

/// Lets others run before each piece.
fn paced(pieces: impl Iterator<Item = Result<Bytes, BoxError>> + Send + 'static) -> ByteStream {
    Box::pin(futures_util::stream::unfold(pieces, |mut pieces| async move {
        tokio::task::yield_now().await;
        pieces.next().map(|piece| (piece, pieces))
    }))
}

#[cfg(test)]
mod tests {
    use super::super::{list as whole, pretty};
    use super::*;
    use fairlead_api::node;
    use fairlead_storage::{Cached, Forms, Header, Revision};
    use futures_util::StreamExt;
    use std::sync::Arc;

    fn objects(count: usize) -> List {
        let object = |i: usize| {
            let text = format!(
                r#"{{"kind":"K","apiVersion":"v1","metadata":{{"name":"n{i}"}},"e":{{}},"l":[],"t":"a: b\n  c\n\n","x":[{{"y":[1,"{i}"]}}]}}"#
            );
            Arc::new(Cached {
                key: i.to_string().into(),
                revision: Revision(1),
                json: text.into(),
                header: Header::default(),
                forms: Forms::default(),
            })
        };
        List {
            api_version: "v1".into(),
            kind: "KList".into(),
            metadata: node!({"resourceVersion": "7"}),
            items: (0..count).map(object).collect(),
            typed_items: count.is_multiple_of(2),
        }
    }

    async fn joined(mut pieces: ByteStream) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.unwrap();
            assert!(piece.len() < 4 * PIECE);
            out.extend_from_slice(&piece);
        }
        out
    }

    #[tokio::test]
    async fn yaml_in_pieces_reads_as_in_one() {
        for count in [1, 2, 3001] {
            let expected = yaml_writer::write(&whole::to_node(objects(count)).unwrap());
            let agreed = Agreed {
                format: Format::Yaml,
                ..Agreed::default()
            };
            use http_body_util::BodyExt;
            let body = list(objects(count), agreed, false).into_body();
            let found = body.collect().await.unwrap().to_bytes();
            assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(&expected));
        }
    }

    #[tokio::test]
    async fn a_table_is_the_same_in_pieces() {
        let item = || [Bytes::from_static(b"[1,\"a\"]"), Bytes::from_static(b"{\"m\":{}}")];
        let table = Assembled {
            head: b"{\"kind\":\"Table\",\"apiVersion\":\"v1\",\"metadata\":{},\"columnDefinitions\":[{\"a\":1}],\"rows\":[".to_vec(),
            around: ["{\"cells\":".into(), ",\"object\":".into(), "}".into()],
            items: (0..3).map(|_| item()).collect(),
            tail: "]}",
        };
        let expected = yaml_writer::write(&table.clone().to_node().unwrap());
        let agreed = Agreed {
            format: Format::Yaml,
            ..Agreed::default()
        };
        use http_body_util::BodyExt;
        let body = made(table, agreed, false).unwrap().into_body();
        let found = body.collect().await.unwrap().to_bytes();
        assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(&expected));
    }

    #[tokio::test]
    async fn indentation_goes_on_from_piece_to_piece() {
        let compact: Vec<u8> = Pieces::new(objects(3001)).flat_map(|piece| piece.to_vec()).collect();
        let found = joined(indented(Pieces::new(objects(3001)))).await;
        assert!(found == pretty::indent(&compact), "{}", found.len());
    }
}
