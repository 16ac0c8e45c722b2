//! Answers to GETs that carry an ETag, kept so that their bodies need not be made and sent again.
//!
//! The backend is asked every time: what is kept is sent only when it says that it still holds, to the same user, who
//! asked for the same thing in the same words.
// PERFORMANCE: per-request path

use super::{Answer, Answering, Next, Step};
use crate::body::{Body, full};
use crate::metrics::BackendMetrics;
use crate::policy::{CacheLimits, Live};
use crate::pool::Outgoing;
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

pub struct EtagCache {
    live: Live,
    kept: Arc<Kept>,
    metrics: BackendMetrics,
}

#[derive(Default)]
struct Kept {
    entries: Mutex<Entries>,
    /// Whether there may be any.
    any: AtomicBool,
}

#[derive(Default)]
struct Entries {
    by_key: HashMap<Arc<[u8]>, Entry>,
    /// By when they were used last.
    by_use: BTreeMap<u64, Arc<[u8]>>,
    uses: u64,
    size: usize,
}

#[derive(Clone)]
struct Entry {
    etag: HeaderValue,
    headers: HeaderMap,
    body: Bytes,
    used: u64,
}

/// What an entry takes beside key and body.
const OVERHEAD: usize = 1024;

impl EtagCache {
    pub fn new(live: Live, metrics: BackendMetrics) -> EtagCache {
        EtagCache {
            live,
            kept: Arc::default(),
            metrics,
        }
    }
}

impl Step for EtagCache {
    fn call<S: Next>(self: &Arc<Self>, mut outgoing: Outgoing, next: &mut S) -> Answering {
        let policy = self.live.load();
        let Some(limits) = policy.cache.clone().filter(|_| is_cacheable(&outgoing)) else {
            if policy.cache.is_none() {
                self.kept.forget_all();
            }
            return next.call(outgoing);
        };
        let key: Arc<[u8]> = key(&outgoing).into();
        let entry = self.kept.find(&key);
        if let Some(entry) = &entry {
            outgoing.headers.insert(header::IF_NONE_MATCH, entry.etag.clone());
        }
        let answering = next.call(outgoing);
        let this = self.clone();
        Box::pin(async move {
            let answer: Answer = answering.await?;
            Ok(answer.map(|response| match entry {
                Some(entry) if response.status() == StatusCode::NOT_MODIFIED => {
                    this.metrics.cached(true);
                    entry.answer(response)
                }
                _ => {
                    this.metrics.cached(false);
                    this.keep(key, response, limits)
                }
            }))
        })
    }
}

impl EtagCache {
    /// Passes an answer on, and keeps it once it has gone through as a whole.
    fn keep(&self, key: Arc<[u8]>, response: Response<Body>, limits: CacheLimits) -> Response<Body> {
        let etag = response.headers().get(header::ETAG).cloned();
        let Some(etag) = etag.filter(|_| may_be_kept(&response, &limits)) else {
            return response;
        };
        let (parts, body) = response.into_parts();
        let capture = Capture {
            body,
            taken: BytesMut::new(),
            limits,
            into: Some((self.kept.clone(), key, etag, parts.headers.clone())),
        };
        Response::from_parts(parts, Body::new(capture))
    }
}

/// Only what the client does not revalidate itself.
fn is_cacheable(outgoing: &Outgoing) -> bool {
    const CONDITIONS: [HeaderName; 4] = [
        header::IF_NONE_MATCH,
        header::IF_MATCH,
        header::IF_MODIFIED_SINCE,
        header::RANGE,
    ];
    outgoing.method == Method::GET
        && !outgoing.long_running
        && outgoing.body.is_empty()
        && !CONDITIONS.iter().any(|c| outgoing.headers.contains_key(c))
}

fn may_be_kept(response: &Response<Body>, limits: &CacheLimits) -> bool {
    let headers = response.headers();
    let says = |name: HeaderName, word: &str| {
        let mut values = headers.get_all(name).iter();
        values.any(|v| v.to_str().is_ok_and(|v| v.to_ascii_lowercase().contains(word)))
    };
    // What the answer depends on besides is not part of the key.
    let varies = headers.get_all(header::VARY).iter().any(|vary| {
        let names = vary.to_str().unwrap_or("*").split(',').map(str::trim);
        let known = |name: &str| {
            ["accept", "accept-encoding", "authorization"]
                .iter()
                .any(|k| name.eq_ignore_ascii_case(k))
        };
        !names.into_iter().all(known)
    });
    let too_large = response.body().size_hint().lower() > limits.object as u64;
    response.status() == StatusCode::OK && !says(header::CACHE_CONTROL, "no-store") && !varies && !too_large
}

/// What is asked, in which form, and by whom: backends answer by what a user may see.
fn key(outgoing: &Outgoing) -> Vec<u8> {
    let mut key = Vec::with_capacity(256);
    key.extend_from_slice(outgoing.path_and_query.as_str().as_bytes());
    let mut told: Vec<(&HeaderName, &HeaderValue)> = outgoing
        .headers
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            name.starts_with("accept") || name.starts_with("x-remote-") || name == "authorization"
        })
        .collect();
    told.sort_by_key(|(name, value)| (name.as_str(), value.as_bytes()));
    for (name, value) in told {
        for part in [name.as_str().as_bytes(), value.as_bytes()] {
            // Neither can hold a line feed.
            key.push(b'\n');
            key.extend_from_slice(part);
        }
    }
    key
}

impl Entry {
    /// The kept answer, with what the new one says of itself.
    fn answer(self, fresh: Response<Body>) -> Response<Body> {
        let mut headers = self.headers;
        for (name, value) in fresh.headers() {
            if !name.as_str().starts_with("content-") && *name != header::TRANSFER_ENCODING {
                headers.insert(name, value.clone());
            }
        }
        let mut response = Response::new(full(self.body));
        *response.headers_mut() = headers;
        response
    }

    fn size(&self, key: &[u8]) -> usize {
        self.body.len() + key.len() + OVERHEAD
    }
}

impl Kept {
    fn find(&self, key: &Arc<[u8]>) -> Option<Entry> {
        let mut entries = self.lock();
        let Entries {
            by_key, by_use, uses, ..
        } = &mut *entries;
        let entry = by_key.get_mut(key)?;
        *uses += 1;
        by_use.remove(&entry.used);
        entry.used = *uses;
        by_use.insert(*uses, key.clone());
        Some(entry.clone())
    }

    fn insert(&self, key: Arc<[u8]>, mut entry: Entry, limits: &CacheLimits) {
        let mut entries = self.lock();
        self.any.store(true, Ordering::Relaxed);
        entries.remove(&key);
        entries.uses += 1;
        entry.used = entries.uses;
        entries.size += entry.size(&key);
        entries.by_use.insert(entry.used, key.clone());
        entries.by_key.insert(key, entry);
        while entries.size > limits.total {
            let Some(oldest) = entries.by_use.values().next().cloned() else {
                return;
            };
            entries.remove(&oldest);
        }
    }

    fn forget_all(&self) {
        if self.any.load(Ordering::Relaxed) {
            *self.lock() = Entries::default();
            self.any.store(false, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn remove(&mut self, key: &Arc<[u8]>) {
        if let Some(entry) = self.by_key.remove(key) {
            self.by_use.remove(&entry.used);
            self.size -= entry.size(key);
        }
    }
}

/// A body on its way to the client that is kept when it ends as it should.
struct Capture {
    body: Body,
    taken: BytesMut,
    limits: CacheLimits,
    into: Option<(Arc<Kept>, Arc<[u8]>, HeaderValue, HeaderMap)>,
}

impl Capture {
    fn done(&mut self) {
        if let Some((kept, key, etag, headers)) = self.into.take() {
            let entry = Entry {
                etag,
                headers,
                body: std::mem::take(&mut self.taken).freeze(),
                used: 0,
            };
            kept.insert(key, entry, &self.limits);
        }
    }

    fn give_up(&mut self) {
        self.into = None;
        self.taken = BytesMut::new();
    }
}

impl HttpBody for Capture {
    type Data = Bytes;
    type Error = crate::body::BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            None => self.done(),
            Some(Err(_)) => self.give_up(),
            Some(Ok(frame)) => match frame.data_ref() {
                Some(data) if self.taken.len() + data.len() > self.limits.object => self.give_up(),
                Some(data) if self.into.is_some() => self.taken.extend_from_slice(data),
                // Trailers would have to be kept, too.
                None => self.give_up(),
                Some(_) => {}
            },
        }
        if self.body.is_end_stream() {
            self.done();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::super::layer;
    use super::super::testing::{Bottom, get, live, metrics, send};
    use super::*;
    use http_body_util::BodyExt;
    use std::sync::atomic::AtomicUsize;
    use tower::Layer;

    async fn text(answer: Answer) -> (u16, String) {
        let response = answer.expect("an answer");
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(bytes.to_vec()).expect("text"))
    }

    fn by(user: &'static str, path: &'static str) -> Outgoing {
        let mut outgoing = get(path);
        outgoing.headers.insert("x-remote-user", HeaderValue::from_static(user));
        outgoing
    }

    #[tokio::test]
    async fn bodies_are_sent_again_to_the_same_user_while_they_hold() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let bottom = Bottom(move |outgoing: Outgoing| {
            let user = outgoing.headers["x-remote-user"].to_str().expect("text").to_owned();
            let known = outgoing
                .headers
                .get(header::IF_NONE_MATCH)
                .is_some_and(|e| e == "\"1\"");
            let mut response = Response::new(full(format!("for {user}")));
            if known {
                response = Response::new(full(""));
                *response.status_mut() = StatusCode::NOT_MODIFIED;
            } else {
                count.fetch_add(1, Ordering::Relaxed);
            }
            response
                .headers_mut()
                .insert(header::ETAG, HeaderValue::from_static("\"1\""));
            async move { Ok(response) }
        });
        let live = live(|p| {
            p.cache = Some(CacheLimits {
                total: 4 * (OVERHEAD + 100),
                object: 100,
            });
        });
        let service = layer(EtagCache::new(live, metrics())).layer(bottom);
        for _ in 0..3 {
            assert_eq!(
                text(send(&service, by("alice", "/a")).await).await,
                (200, "for alice".into())
            );
            assert_eq!(
                text(send(&service, by("bob", "/a")).await).await,
                (200, "for bob".into())
            );
        }
        assert_eq!(made.load(Ordering::Relaxed), 2);
        // A client that asks by itself gets what the backend says.
        let mut own = by("alice", "/a");
        own.headers
            .insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"1\""));
        assert_eq!(text(send(&service, own).await).await.0, 304);
        // Room for four: what was used longest ago goes.
        for path in ["/b", "/c", "/d"] {
            text(send(&service, by("alice", path)).await).await;
        }
        made.store(0, Ordering::Relaxed);
        text(send(&service, by("bob", "/a")).await).await;
        assert_eq!(made.load(Ordering::Relaxed), 0);
        text(send(&service, by("alice", "/a")).await).await;
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn some_answers_are_not_kept() {
        let limits = CacheLimits { total: 100, object: 10 };
        let kept = |name: HeaderName, value: &'static str, body: &'static str| {
            let mut response = Response::new(full(body));
            response.headers_mut().insert(name, HeaderValue::from_static(value));
            may_be_kept(&response, &limits)
        };
        assert!(kept(header::ETAG, "x", "short"));
        assert!(kept(header::VARY, "Accept, accept-encoding", "short"));
        assert!(!kept(header::VARY, "Cookie", "short"));
        assert!(!kept(header::CACHE_CONTROL, "private, No-Store", "short"));
        assert!(!kept(header::ETAG, "x", "much too long"));
    }
}
