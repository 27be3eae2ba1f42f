//! Loop's router as an AWS Lambda function, for the events of API Gateway (REST and HTTP APIs), load balancers and function URLs.
#![deny(missing_docs)]

mod event;

use std::convert::Infallible;

use axum::{Router, extract::Request, middleware};
use lambda_http::{
    Adapter,
    lambda_runtime::{self, LambdaEvent},
    request::LambdaRequest,
};
use serde::Serialize;
use tower::{Service, ServiceBuilder};

/// Answers the events of this function with the router, until the platform ends the process.
///
/// # Errors
///
/// What the runtime reports when it cannot be reached.
pub async fn run(router: Router) -> Result<(), lambda_http::Error> {
    lambda_runtime::run(service(router)).await
}

/// The router as a service of events.
pub fn service(router: Router) -> impl Service<LambdaEvent<LambdaRequest>, Response = impl Serialize, Error = Infallible> {
    let router = router.layer(middleware::map_request(async |mut request: Request| {
        event::note_client(&mut request);
        request
    }));
    ServiceBuilder::new()
        .map_request(|event: LambdaEvent<LambdaRequest>| LambdaEvent::new(event::tame(event.payload), event.context))
        .service(Adapter::from(router))
}
