//! Events, before the router sees them: what `lambda_http` makes of some of them is not what the client asked for.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, Request},
    http::{HeaderMap, HeaderName, header},
};
use lambda_http::request::{LambdaRequest, RequestContext};
use url::{Position, Url};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Makes an event tell what the client asked for.
///
/// - The stage of an API is no part of the path, where `lambda_http` would put it. API Gateway's REST APIs do not send it; HTTP APIs do.
/// - Of a header that was sent several times all values count, as the event has them, where `lambda_http` would keep the last.
/// - A `Host` that is none does not become a part of a URL, which would be a panic there.
pub(crate) fn tame(mut event: LambdaRequest) -> LambdaRequest {
    match &mut event {
        LambdaRequest::ApiGatewayV1(event) => {
            event.request_context.stage = None;
            all_values(&mut event.headers, &event.multi_value_headers);
            tame_host(&mut event.headers);
        }
        LambdaRequest::ApiGatewayV2(event) => {
            if let (Some(stage), Some(path)) = (event.request_context.stage.take(), &mut event.raw_path)
                && stage != "$default"
                && let Some(rest) = path.strip_prefix('/').and_then(|path| path.strip_prefix(stage.as_str()))
                && (rest.is_empty() || rest.starts_with('/'))
            {
                *path = if rest.is_empty() { "/".to_owned() } else { rest.to_owned() };
            }
            tame_host(&mut event.headers);
        }
        LambdaRequest::Alb(event) => {
            all_values(&mut event.headers, &event.multi_value_headers);
            tame_host(&mut event.headers);
        }
        _ => {}
    }
    event
}

/// Takes the values of an event that has them all.
fn all_values(headers: &mut HeaderMap, all: &HeaderMap) {
    if !all.is_empty() {
        *headers = all.clone();
    }
}

/// Leaves out what cannot be the authority or the scheme of a URL.
fn tame_host(headers: &mut HeaderMap) {
    let authority =
        |host: &str| Url::parse(&format!("https://{host}")).is_ok_and(|url| url.path() == "/" && url[Position::AfterPath..].is_empty());
    if headers.get(header::HOST).is_some_and(|host| !host.to_str().is_ok_and(authority)) {
        headers.remove(header::HOST);
    }
    if headers.get(FORWARDED_PROTO).is_some_and(|scheme| scheme != "http" && scheme != "https") {
        headers.remove(FORWARDED_PROTO);
    }
}

/// Notes the address of the client where the router looks for it: the one that the gateway saw, which no client can choose.
pub(crate) fn note_client(request: &mut Request) {
    let address = match request.extensions().get::<RequestContext>() {
        Some(RequestContext::ApiGatewayV1(context)) => context.identity.source_ip.as_deref().and_then(|address| address.parse().ok()),
        Some(RequestContext::ApiGatewayV2(context)) => context.http.source_ip.as_deref().and_then(|address| address.parse().ok()),
        // A load balancer puts the address that it saw behind those that were there.
        Some(RequestContext::Alb(_)) => last_forwarded(request.headers()),
        _ => None,
    };
    if let Some(address) = address {
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(address, 0)));
    }
}

fn last_forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all(FORWARDED_FOR).iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().parse().ok()
}
