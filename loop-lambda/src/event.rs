//! Events, before the router sees them: what `lambda_http` makes of some of them is not what the client asked for.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, Request},
    http::{HeaderMap, HeaderName, header},
};
use lambda_http::{
    aws_lambda_events::apigw::ApiGatewayProxyRequest,
    request::{LambdaRequest, RequestContext},
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use url::{Position, Url};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What cannot stand in the query of a URL. What is escaped already stays as it is.
const NOT_IN_QUERIES: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');

/// Makes an event tell what the client asked for.
///
/// - The stage of an API is no part of the path, where `lambda_http` would put it. API Gateway's REST APIs do not send it; HTTP APIs do, in
///   both forms of their events.
/// - Of a header that was sent several times all values count, as the event has them, where `lambda_http` would keep the last.
/// - A `Host`, a path or a query that cannot be one does not become a part of a URL, which would be a panic there.
pub(crate) fn tame(mut event: LambdaRequest) -> LambdaRequest {
    match &mut event {
        LambdaRequest::ApiGatewayV1(event) => {
            let stage = event.request_context.stage.take().filter(|stage| older_form_with_stage(event, stage));
            tame_path(&mut event.path, stage.as_deref());
            all_values(&mut event.headers, &event.multi_value_headers);
            tame_host(&mut event.headers);
        }
        LambdaRequest::ApiGatewayV2(event) => {
            let stage = event.request_context.stage.take();
            tame_path(&mut event.raw_path, stage.as_deref());
            if let Some(query) = &mut event.raw_query_string {
                *query = utf8_percent_encode(query, NOT_IN_QUERIES).to_string();
            }
            tame_host(&mut event.headers);
        }
        LambdaRequest::Alb(event) => {
            tame_path(&mut event.path, None);
            all_values(&mut event.headers, &event.multi_value_headers);
            tame_host(&mut event.headers);
        }
        _ => {}
    }
    event
}

/// Takes the stage out of a path that begins with it, and lets no path be read as a part of the authority before it.
fn tame_path(path: &mut Option<String>, stage: Option<&str>) {
    let Some(path) = path else { return };
    if let Some(stage) = stage.filter(|stage| *stage != "$default")
        && let Some(rest) = path.strip_prefix('/').and_then(|path| path.strip_prefix(stage))
        && (rest.is_empty() || rest.starts_with('/'))
    {
        *path = rest.to_owned();
    }
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
}

/// Whether this is the older form of an HTTP API's event, with the stage in the path: the route has captured what is behind it, or captures
/// nothing. A REST API at a domain of its own sends the same with a path that only begins like the stage.
fn older_form_with_stage(event: &ApiGatewayProxyRequest, stage: &str) -> bool {
    let Some(path) = event.path.as_deref().filter(|path| event.request_context.path.as_deref() == Some(path)) else { return false };
    match event.path_parameters.get("proxy") {
        Some(captured) => path.strip_prefix('/').and_then(|path| path.strip_prefix(stage)?.strip_prefix('/')) == Some(captured),
        None => event.resource.as_deref() == Some("$default"),
    }
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
    let last = last.rsplit(',').next()?.trim();
    // The load balancer can be told to keep the client's port with the address.
    last.parse().ok().or_else(|| last.parse().ok().map(|address: SocketAddr| address.ip()))
}
