use axum::{
    Router,
    routing::{get, post},
};
use bytes::Bytes;
use http::HeaderMap;
use loop_core::{Ingested, JsonObject, NewSignal, Page, Severity, Signal, SignalFilter, SignalId, Signals, Text};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Answer, Posted, answer};
use crate::{
    auth::Reader,
    error::{ApiError, Details},
    extract::{FromBody, Id, json_text},
    fields::{self, Fields, FromFields},
    idempotency::Post,
    query::{FromQuery, List, Query},
    state::AppState,
};

pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/signals", get(list).post(create)).route("/signals/batch", post(batch)).route("/signals/{id}", get(read))
}

impl FromQuery for SignalFilter {
    fn from_query(query: &mut Query) -> Self {
        let mut filter = Self::default().with_severity(query.several("severity"));
        if let Some(source) = query.one("source") {
            filter = filter.with_source(source);
        }
        if let Some(kind) = query.one("type") {
            filter = filter.with_kind(kind);
        }
        if let Some(project) = query.one("projectId") {
            filter = filter.with_project(project);
        }
        if let Some(issue) = query.one("issueId") {
            filter = filter.with_issue(issue);
        }
        if let Some(metadata) = query.one("metadata") {
            filter = filter.with_metadata(metadata);
        }
        filter
    }
}

impl FromFields for NewSignal {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let (source, kind) = (fields.required("source"), fields.required("type"));
        let severity = fields.or("severity", Severity::Medium);
        let payload = fields.or("payload", JsonObject::default());
        let source_id = fields.optional("sourceId");
        let tags = fields.optional::<Vec<Text>>("tags").unwrap_or_default();
        let project_id = fields.optional("projectId");
        let fingerprint = fields.optional("fingerprint");
        Some(Self { source_id, tags, project_id, fingerprint, ..Self::new(source?, kind?, severity, payload) })
    }
}

/// The signals of a batch: `{"signals": […]}`, or the list alone.
struct Batch(Vec<NewSignal>);

impl FromBody for Batch {
    fn from_body(headers: &HeaderMap, body: Bytes) -> Result<Self, ApiError> {
        let text = json_text(headers, body)?;
        if text.trim_start().starts_with('[') {
            return signals(&text, "signals").map(Self).map_err(ApiError::validation);
        }
        fields::read(&text).map(|BatchObject(signals)| Self(signals))
    }
}

/// The longer form of a batch.
struct BatchObject(Vec<NewSignal>);

impl FromFields for BatchObject {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        fields.required_by("signals", signals).map(Self)
    }
}

/// Reads each signal of a batch, and names everything that is wrong with any.
fn signals(json: &str, name: &str) -> Result<Vec<NewSignal>, Details> {
    if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(json)
        && !(1..=Signals::MAX_BATCH).contains(&items.len())
    {
        let mut wrong = Details::default();
        wrong.field(name, format!("Must be 1 to {} signals", Signals::MAX_BATCH));
        return Err(wrong);
    }
    fields::objects(json, name)
}

/// What a batch answers: for each signal, in order, it and its issue.
#[derive(Serialize)]
struct BatchAnswer {
    data: Vec<Ingested>,
}

async fn list(Reader(store): Reader, List(filter, page): List<SignalFilter>) -> Answer<Page<Signal>> {
    answer(store.signals().list(&filter, &page).await?)
}

async fn create(post: Post<NewSignal>) -> Posted {
    post.create(async |session, (), new| Ok(session.signals().ingest(new).await?)).await
}

async fn batch(post: Post<Batch>) -> Posted {
    post.create(async |session, (), Batch(new)| Ok(BatchAnswer { data: session.signals().ingest_batch(new).await? })).await
}

async fn read(Reader(store): Reader, Id(id): Id<SignalId>) -> Answer<Signal> {
    answer(store.signals().get(&id).await?)
}
