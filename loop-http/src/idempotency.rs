//! Requests that create: done once for each `Idempotency-Key`, in one transaction with the memory of it.

use std::{marker::PhantomData, net::IpAddr};

use bytes::Bytes;

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    response::{IntoResponse, Response},
};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305,
    aead::{Aead as _, Payload},
};
use hmac::{Hmac, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};
use loop_core::{IdempotentRequest, Once, PlaintextKey, Role, Session, StoredAnswer};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    auth::{Caller, authenticate, client_address},
    error::ApiError,
    extract::{FromBody, api_body, single},
    json::Json,
    state::AppState,
};

pub(crate) const KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const MAX_KEY: usize = 255;

/// A request that creates something: who asks, under which key it is done once, what the path names and what the body says.
pub(crate) struct Post<T, P = ()> {
    caller: Caller,
    key: Option<Key>,
    path: P,
    input: Unread<T>,
}

/// A request to manage keys, by a caller who may.
pub(crate) struct AdminPost<T, P = ()> {
    post: Post<T, P>,
    state: AppState,
    address: Option<IpAddr>,
}

/// A body that is read once it is known that there is something to be done: what was right when it was done may be wrong by now.
struct Unread<T> {
    headers: HeaderMap,
    body: Bytes,
    form: PhantomData<fn() -> T>,
}

impl<T: FromBody> Unread<T> {
    fn read(self) -> Result<T, ApiError> {
        T::from_body(&self.headers, self.body)
    }
}

/// The name that a caller gave a request, and the SHA-256 of what it asks for.
struct Key {
    text: String,
    hash: [u8; 32],
}

impl<T: FromBody, P: FromPath> FromRequest<AppState> for Post<T, P> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        read(request, state, Role::Write).await
    }
}

impl<T: FromBody, P: FromPath> FromRequest<AppState> for AdminPost<T, P> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let address = client_address(&parts, state);
        let post = read(Request::from_parts(parts, body), state, Role::Admin).await?;
        Ok(Self { post, state: state.clone(), address })
    }
}

/// What the path of a request names.
pub(crate) trait FromPath: FromRequestParts<AppState, Rejection: Into<ApiError>> + Send {}

impl<P: FromRequestParts<AppState, Rejection: Into<ApiError>> + Send> FromPath for P {}

/// Takes in a request. Who asks comes before what is asked: without a key, nobody learns whether the rest was right.
async fn read<T, P: FromPath>(request: Request, state: &AppState, needed: Role) -> Result<Post<T, P>, ApiError> {
    let (mut parts, body) = request.into_parts();
    let caller = authenticate(&parts, state, needed).await?;
    let path = P::from_request_parts(&mut parts, state).await.map_err(Into::into)?;
    let key = key(&parts.headers)?;
    let body = api_body(&parts.headers, body).await?;
    let key = key.map(|text| Key { text, hash: hash(&parts, &body) });
    Ok(Post { caller, key, path, input: Unread { headers: parts.headers, body, form: PhantomData } })
}

fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    if !headers.contains_key(KEY) {
        return Ok(None);
    }
    let plain = |value: &&HeaderValue| (1..=MAX_KEY).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    let value = single(headers, KEY).filter(plain).and_then(|value| value.to_str().ok());
    let wrong = || ApiError::invalid_field("Idempotency-Key", format!("Must be given once, with 1 to {MAX_KEY} visible ASCII characters"));
    value.map(|value| Some(value.to_owned())).ok_or_else(wrong)
}

/// Everything that a request asks for. Each part stands behind its length, so that no two requests are the same text.
fn hash(parts: &Parts, body: &[u8]) -> [u8; 32] {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let mut hash = Sha256::new();
    for part in [parts.method.as_str().as_bytes(), target.as_bytes(), body] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The answer to a request that created what `R` is.
pub(crate) struct Created<R>(Answered<R>);

/// The answer to a request that did something, which is `R`.
pub(crate) struct Done<R>(Answered<R>);

/// An answer that was written, and what it is of.
struct Answered<R>(Response, PhantomData<fn() -> R>);

impl<R> IntoResponse for Created<R> {
    fn into_response(self) -> Response {
        self.0.0
    }
}

impl<R> IntoResponse for Done<R> {
    fn into_response(self) -> Response {
        self.0.0
    }
}

impl<T: FromBody, P> Post<T, P> {
    /// Creates what was asked for: once for each key.
    pub(crate) async fn create<R: Serialize>(
        self,
        work: impl AsyncFnOnce(Session<'_>, P, T) -> Result<R, ApiError>,
    ) -> Result<Created<R>, ApiError> {
        self.once(StatusCode::CREATED, work, None).await.map(Created)
    }

    /// Does what was asked for: once for each key.
    pub(crate) async fn run<R: Serialize>(
        self,
        work: impl AsyncFnOnce(Session<'_>, P, T) -> Result<R, ApiError>,
    ) -> Result<Done<R>, ApiError> {
        self.once(StatusCode::OK, work, None).await.map(Done)
    }

    /// Does what was asked for, once for each key. What is kept of an answer is sealed, if there is a seal.
    async fn once<R: Serialize>(
        self,
        status: StatusCode,
        work: impl AsyncFnOnce(Session<'_>, P, T) -> Result<R, ApiError>,
        seal: Option<&Seal>,
    ) -> Result<Answered<R>, ApiError> {
        let Self { caller, key, path, input } = self;
        let Some(key) = key else {
            let done = work(caller.store.session(), path, input.read()?).await?;
            return Ok(Answered((status, Json(done)).into_response(), PhantomData));
        };
        let request = IdempotentRequest { owner: caller.key.as_str(), key: &key.text, hash: key.hash };
        let mut plain = None;
        let once = caller.store.once(request, async |tx| -> Result<_, ApiError> {
            let body = serde_json::to_vec(&work(tx.session(), path, input.read()?).await?).map_err(|_| ApiError::internal())?;
            let kept = match seal {
                Some(seal) => seal.close(&key, plain.insert(body))?,
                None => body,
            };
            Ok(StoredAnswer { status: status.as_u16(), body: kept })
        });
        let response = match once.await? {
            Once::Done(StoredAnswer { body, .. }) => json(status, plain.unwrap_or(body)),
            Once::Replayed(StoredAnswer { status, body }) => {
                let body = match seal {
                    Some(seal) => seal.open(&key, &body)?,
                    None => body,
                };
                let mut response = json(StatusCode::from_u16(status).map_err(|_| ApiError::internal())?, body);
                response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
                response
            }
            Once::InProgress => return Err(ApiError::in_progress()),
            Once::Mismatch => return Err(ApiError::invalid_field("Idempotency-Key", "Was used for another request")),
        };
        Ok(Answered(response, PhantomData))
    }
}

/// Their answers hold a key, so they are kept in a form that only the caller's own key opens.
impl<T: FromBody, P> AdminPost<T, P> {
    /// As [`Post::create`].
    pub(crate) async fn create<R: Serialize>(
        self,
        work: impl AsyncFnOnce(Session<'_>, P, T) -> Result<R, ApiError>,
    ) -> Result<Created<R>, ApiError> {
        self.once(StatusCode::CREATED, work).await.map(Created)
    }

    /// As [`Post::run`].
    pub(crate) async fn run<R: Serialize>(
        self,
        work: impl AsyncFnOnce(Session<'_>, P, T) -> Result<R, ApiError>,
    ) -> Result<Done<R>, ApiError> {
        self.once(StatusCode::OK, work).await.map(Done)
    }

    async fn once<R: Serialize>(
        self,
        status: StatusCode,
        work: impl AsyncFnOnce(Session<'_>, P, T) -> Result<R, ApiError>,
    ) -> Result<Answered<R>, ApiError> {
        let Self { post, state, address } = self;
        let (seal, with) = (Seal::of(&post.caller.secret)?, post.caller.key.clone());
        // What is only answered again makes no key.
        let counted = async |session: Session<'_>, path, input| {
            state.limits().key_creation(address, &with)?;
            work(session, path, input).await
        };
        post.once(status, counted, Some(&seal)).await
    }
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Encryption under a key that is derived from the caller's own, of which the database has only the hash.
struct Seal(XChaCha20Poly1305);

impl Seal {
    const NONCE: usize = 24;

    fn of(secret: &PlaintextKey) -> Result<Self, ApiError> {
        // The caller's key is 32 random bytes, so one pass is enough.
        let mut derived = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()).map_err(|_| ApiError::internal())?;
        derived.update(b"loop: answers kept for idempotency keys");
        Ok(Self(XChaCha20Poly1305::new(&derived.finalize().into_bytes())))
    }

    fn close(&self, key: &Key, plain: &[u8]) -> Result<Vec<u8>, ApiError> {
        let mut nonce = [0; Self::NONCE];
        getrandom::fill(&mut nonce).map_err(|_| ApiError::internal())?;
        let sealed = self.0.encrypt(&nonce.into(), Payload { msg: plain, aad: &key.hash }).map_err(|_| ApiError::internal())?;
        Ok([&nonce[..], &sealed].concat())
    }

    fn open(&self, key: &Key, sealed: &[u8]) -> Result<Vec<u8>, ApiError> {
        let (nonce, sealed) = sealed.split_first_chunk::<{ Self::NONCE }>().ok_or_else(ApiError::internal)?;
        // The caller's key was rotated since.
        let rotated =
            |_| ApiError::invalid_field("Idempotency-Key", "Was used with the key before its rotation, which alone opens the answer");
        self.0.decrypt(&(*nonce).into(), Payload { msg: sealed, aad: &key.hash }).map_err(rotated)
    }
}
