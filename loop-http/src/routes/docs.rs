use axum::{
    extract::FromRequestParts,
    response::{Html, IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use utoipa::openapi::{Object, ObjectBuilder, Type};

use crate::{
    error::ApiError,
    extract::path_parameters,
    openapi::{Described, OperationDoc, Routes},
};

pub(crate) fn routes() -> Routes {
    Routes::tagged("Service").get("/docs", "getDocumentation", "Read the documentation of the API in a browser", page).get(
        "/docs/{file}",
        "getDocumentationFile",
        "Get a part of that page",
        part,
    )
}

/// Nothing but what is served here is loaded, and nobody else is told anything. Swagger UI sets styles on its elements.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The parts of the page, with their types. The large ones are compressed: every browser reads that, and nobody else has a use for them.
const PARTS: [Part; 3] = [
    Part { name: "start.js", media: "text/javascript", gzip: false, bytes: include_bytes!("../../assets/docs.js") },
    Part {
        name: "swagger-ui-bundle.js",
        media: "text/javascript",
        gzip: true,
        bytes: include_bytes!("../../assets/swagger-ui/swagger-ui-bundle.js.gz"),
    },
    Part { name: "swagger-ui.css", media: "text/css", gzip: true, bytes: include_bytes!("../../assets/swagger-ui/swagger-ui.css.gz") },
];

/// A part of the page.
#[derive(Clone, Copy)]
struct Part {
    name: &'static str,
    media: &'static str,
    gzip: bool,
    bytes: &'static [u8],
}

impl<S: Send + Sync> FromRequestParts<S> for Part {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let [name] = path_parameters(parts, state).await.ok_or_else(ApiError::no_route)?;
        PARTS.into_iter().find(|part| part.name == name).ok_or_else(ApiError::no_route)
    }
}

impl Described for Part {
    fn describe(operation: &mut OperationDoc<'_>) {
        let names = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(PARTS.map(|part| part.name)));
        operation.in_path(names.into(), "The part's name.");
        operation.errors([StatusCode::NOT_FOUND]);
    }
}

/// A part as it is answered.
struct File(Part);

impl IntoResponse for File {
    fn into_response(self) -> Response {
        let Self(Part { media, gzip, bytes, .. }) = self;
        let headers =
            [(header::CONTENT_TYPE, media), (header::CACHE_CONTROL, "public, max-age=86400"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
        let mut response = (headers, bytes).into_response();
        if gzip {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

impl Described for File {
    fn describe(operation: &mut OperationDoc<'_>) {
        let content = |media| (media, Object::with_type(Type::String).into());
        operation.answer(StatusCode::OK, "The part.", ["text/css", "text/javascript"].map(content));
    }
}

/// The page, with what a browser may load for it.
struct Page;

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(include_str!("../../assets/docs.html"))).into_response()
    }
}

impl Described for Page {
    fn describe(operation: &mut OperationDoc<'_>) {
        operation.answer(StatusCode::OK, "The page.", Some(("text/html", Object::with_type(Type::String).into())));
    }
}

async fn page() -> Page {
    Page
}

async fn part(part: Part) -> File {
    File(part)
}
