//! What is said once and holds everywhere: the errors, the parameters of lists, the tags, what opens a route.

use http::StatusCode;
use utoipa::openapi::{
    Content, Header, HeaderBuilder, ObjectBuilder, Ref, Response, Type,
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};

/// Every status of an error, the name of its answer, and when it is given.
const ERRORS: &[(StatusCode, &str, &str)] = &[
    (
        StatusCode::BAD_REQUEST,
        "BadRequest",
        "The body is not JSON, or broke off, a cursor is not one of this list, or `If-Match` is malformed.",
    ),
    (StatusCode::UNAUTHORIZED, "Unauthorized", "Whoever asks could not be recognised."),
    (StatusCode::FORBIDDEN, "Forbidden", "The key's role, or the project it is bound to, does not allow this."),
    (StatusCode::NOT_FOUND, "NotFound", "There is no such thing, or none that this key may see."),
    (StatusCode::REQUEST_TIMEOUT, "RequestTimeout", "The body did not arrive in time."),
    (
        StatusCode::CONFLICT,
        "Conflict",
        "A unique name is taken, somebody changed the same at the same moment, or a request with this `Idempotency-Key` is under way.",
    ),
    (StatusCode::PRECONDITION_FAILED, "Stale", "The row is at none of the revisions that `If-Match` names."),
    (StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLarge", "The body is too large."),
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", "The content type is not one of this operation."),
    (StatusCode::UNPROCESSABLE_ENTITY, "Invalid", "Fields or parameters are wrong; all of them are named."),
    (
        StatusCode::TOO_MANY_REQUESTS,
        "TooManyRequests",
        "Too many failed authentications or too many keys made from one address or with one key, or more requests than one key may make.",
    ),
    (StatusCode::INTERNAL_SERVER_ERROR, "Internal", "Something is wrong with the server. It is in its log."),
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "Unavailable",
        "The database is away, there is too much at once, or something is not configured. Try again.",
    ),
];

/// The name of the answer with this status.
pub(super) fn name(status: StatusCode) -> &'static str {
    ERRORS.iter().find(|(known, ..)| *known == status).map_or("Internal", |(_, name, _)| name)
}

/// The answers of all errors, by name.
pub(super) fn responses() -> impl Iterator<Item = (&'static str, Response)> {
    ERRORS.iter().map(|(status, name, description)| {
        let mut response = Response::new(*description);
        response.content.insert("application/json".to_owned(), Content::new(Some(Ref::from_schema_name("Error"))).into());
        let header = match *status {
            StatusCode::UNAUTHORIZED => Some(("WWW-Authenticate", header(Type::String, "How to authenticate, where a token does it."))),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Some(("Retry-After", header(Type::Integer, "How many seconds to wait, where that is known.")))
            }
            _ => None,
        };
        response.headers.extend(header.map(|(name, header)| (name.to_owned(), header.into())));
        (*name, response)
    })
}

fn header(schema_type: Type, description: &str) -> Header {
    HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(schema_type))).description(Some(description)).build()
}

/// What a parameter of a list asks for.
pub(super) fn parameter(name: &str) -> &'static str {
    match name {
        "status" => "Only those in one of these statuses.",
        "type" => "Only those of this type.",
        "priority" => "Only those of one of these priorities.",
        "severity" => "Only those of one of these severities.",
        "health" => "Only those of one of these healths.",
        "projectId" => "Only those of this project.",
        "goalId" => "Only those that pursue this goal.",
        "labelId" => "Only those with this label.",
        "parentId" => "Only the parts of this issue.",
        "issueId" => "Only those that became this issue.",
        "q" => "Only those whose title or description has these words, in the manner of a web search: `\"a phrase\"`, `or`, `-without`.",
        "createdAfter" => "Only those created after this moment.",
        "createdBefore" => "Only those created before this moment.",
        "source" => "Only those from this source.",
        "metadata" => "Only those whose metadata contains this JSON object.",
        "slug" => "Only the one with this slug.",
        "sort" => "The order: a field, with `-` before it for the descending order. `-createdAt` without.",
        "limit" => "How many rows a page holds; 50 without.",
        "cursor" => "Where the page begins: the `nextCursor` of the page before.",
        "offset" => "Where the page begins: after so many rows. Cannot be given together with `cursor`.",
        "total" => "Whether to count all rows.",
        "project" => "The project that the signal belongs to.",
        _ => "",
    }
}

/// What is opened by what.
pub(super) fn security_schemes() -> [(&'static str, SecurityScheme); 8] {
    let bearer = |text: &str| SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build());
    let header = |name: &str, text: &str| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, text)));
    [
        ("apiKey", bearer("A key of Loop's, `loop_…`. It has a role (`read`, `write`, `admin`) and may be bound to a project.")),
        ("adminSecret", bearer("What `LOOP_ADMIN_SECRET` says.")),
        ("metricsToken", bearer("The token in `LOOP_METRICS`, if it holds one.")),
        ("githubSignature", header("X-Hub-Signature-256", "`sha256=` and the HMAC-SHA256 of the body in hexadecimal digits.")),
        ("sentrySignature", header("Sentry-Hook-Signature", "The HMAC-SHA256 of the body in hexadecimal digits.")),
        ("posthogSecret", header("X-PostHog-Secret", "The shared secret.")),
        (
            "posthogQuerySecret",
            SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::with_description("secret", "The same, where no header can be sent."))),
        ),
        ("posthogSignature", header("Webhook-Signature", "The signature of Standard Webhooks, with `Webhook-Id` and `Webhook-Timestamp`.")),
    ]
}

/// What the API is.
pub(super) const DESCRIPTION: &str = "Loop turns signals into triaged issues in PostgreSQL, and keeps projects, goals and versioned prompt \
templates beside them. Lists answer pages: `nextCursor` is what `cursor` takes for the next one. In a `PATCH` an absent field is kept and a \
`null` one cleared. A field or parameter that is not known is refused.";
