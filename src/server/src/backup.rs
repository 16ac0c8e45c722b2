//! `GET /fairlead/backup`: a copy of the whole store, while it is in use, for whoever may read everything in it.
//!
//! It is a path and not a resource: what RBAC grants for it is a rule on `nonResourceURLs`, which nobody has unasked but
//! `system:masters`.

use crate::body::{Body, Response};
use crate::encode;
use crate::request::Known;
use crate::router::{Shared, failure};
use fairlead_api::Status;
use fairlead_storage::store::{Error, Result};
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method};
use std::fs::File;
use tokio::io::AsyncReadExt;

pub const PATH: &str = "/fairlead/backup";

/// Makes copies of the store.
pub trait BackupSource: Send + Sync {
    /// A checked copy and its length.
    fn backup(&self) -> BoxFuture<'_, Result<(File, u64)>>;
}

const PIECE: usize = 256 << 10;

pub async fn serve(shared: &Shared, known: &Known) -> Response {
    let Some(source) = &shared.services.backup else {
        return encode::page_not_found();
    };
    if known.parts.method != Method::GET {
        return failure(&Status::method_not_allowed(), known);
    }
    match source.backup().await {
        Ok((file, bytes)) => answer(file, bytes),
        Err(error) => {
            tracing::error!(%error, "a backup failed");
            let status = match error {
                Error::Corrupt(_) => Status::internal(error.to_string()),
                error => Status::unavailable(error.to_string()),
            };
            failure(&status, known)
        }
    }
}

fn answer(file: File, bytes: u64) -> Response {
    let file = tokio::fs::File::from_std(file);
    let pieces = futures_util::stream::unfold(file, |mut file| async {
        let mut piece = bytes::BytesMut::with_capacity(PIECE);
        match file.read_buf(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(piece.freeze()), file)),
            Err(error) => Some((Err(error.into()), file)),
        }
    });
    let mut response = Response::new(Body::stream(Box::pin(pieces), Some(bytes)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/vnd.sqlite3"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
