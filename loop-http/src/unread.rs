//! What no handler read of a body.
//!
//! A client that writes before it reads sees a broken connection, and not the answer, if the server closes while something is on its way.
//! So what is left of a body is read and forgotten before the answer is given, within limits.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    response::Response,
};
use http::{HeaderMap, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use loop_core::time_limit::limited;

/// How much is read. Who sends more is cut off.
const LIMIT: usize = 32 << 20;
/// How long that may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Who sends nothing for so long is not in the middle of writing.
const PAUSE: Duration = Duration::from_secs(1);

/// Answers a request, and reads what that left of its body.
pub(crate) async fn drain(request: Request, answer: impl AsyncFnOnce(Request) -> Response) -> Response {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return answer(Request::from_parts(parts, body)).await;
    }
    let asks_first = asks_first(&parts.headers);
    let shared = Shared(Arc::new(Mutex::new(Rest { body: Some(body), begun: false })));
    let response = answer(Request::from_parts(parts, Body::new(shared.clone()))).await;
    // Who asked before sending, and was not told to go on, sends nothing.
    if !shared.is_end_stream() && (!asks_first || shared.is_begun()) {
        forget(shared).await;
    }
    response
}

fn asks_first(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

async fn forget(mut body: Shared) {
    let all = async {
        let mut read = 0;
        while let Some(Some(Ok(frame))) = limited(PAUSE, body.frame()).await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > LIMIT {
                break;
            }
        }
    };
    let _ = limited(TIMEOUT, all).await;
}

/// A body that is read by a handler first, and then by whoever clears up.
#[derive(Clone)]
struct Shared(Arc<Mutex<Rest>>);

struct Rest {
    /// Until its end.
    body: Option<Body>,
    /// Whether anybody asked for it, upon which the client is told to go on.
    begun: bool,
}

impl Shared {
    fn with<T>(&self, look: impl FnOnce(&mut Rest) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_begun(&self) -> bool {
        self.with(|rest| rest.begun)
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.with(|rest| {
            rest.begun = true;
            let Some(body) = &mut rest.body else { return Poll::Ready(None) };
            let polled = Pin::new(body).poll_frame(context);
            if let Poll::Ready(None | Some(Err(_))) = polled {
                rest.body = None;
            }
            polled
        })
    }

    fn is_end_stream(&self) -> bool {
        self.with(|rest| rest.body.as_ref().is_none_or(HttpBody::is_end_stream))
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|rest| rest.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint))
    }
}
