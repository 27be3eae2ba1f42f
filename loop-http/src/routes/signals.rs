use bytes::Bytes;
use http::HeaderMap;
use loop_core::{Ingested, JsonObject, NewSignal, Page, Severity, Signal, SignalFilter, SignalId, Signals, Text};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{
    ToSchema,
    openapi::{ArrayBuilder, OneOfBuilder, RefOr, Schema},
};

use super::{Answer, Posted, answer};
use crate::{
    auth::Reader,
    error::{ApiError, Details},
    extract::{FromBody, Id, json_text},
    fields::{self, Fields, FromFields},
    idempotency::{Created, Post},
    openapi::{BODY_ERRORS, Body, Nested, OperationDoc, Routes, Schemas},
    query::{FromQuery, List, Query},
};

pub(crate) fn routes() -> Routes {
    Routes::tagged("Signals")
        .get("/signals", "listSignals", "List signals", list)
        .post("/signals", "ingestSignal", "Take in a signal, which becomes an issue", create)
        .post("/signals/batch", "ingestSignals", "Take in up to 1000 signals: all of them, or none", batch)
        .get("/signals/{id}", "getSignal", "Get a signal", read)
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

/// The signals of a batch.
struct Batch(Vec<NewSignal>);

impl Nested for Batch {
    fn schema(schemas: &mut Schemas) -> RefOr<Schema> {
        let one = schemas.body::<NewSignal>();
        ArrayBuilder::new().items(one).min_items(Some(1)).max_items(Some(Signals::MAX_BATCH)).description(Some("The signals.")).into()
    }
}

/// A batch is sent as `{"signals": […]}`, or as the list alone.
impl FromBody for Batch {
    fn from_body(headers: &HeaderMap, body: Bytes) -> Result<Self, ApiError> {
        let text = json_text(headers, body)?;
        if text.trim_start().starts_with('[') {
            return signals(&text, "signals").map_err(ApiError::validation);
        }
        fields::read(&text).map(|BatchObject(batch)| batch)
    }

    fn describe(operation: &mut OperationDoc<'_>) {
        let (object, list) = (operation.schemas.body::<BatchObject>(), Self::schema(operation.schemas));
        operation.body(true, [("application/json", OneOfBuilder::new().item(object).item(list).into())]);
        operation.errors(BODY_ERRORS);
    }
}

/// The longer form of a batch.
struct BatchObject(Batch);

impl FromFields for BatchObject {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        fields.required_by("signals", signals).map(Self)
    }
}

impl Body for BatchObject {
    const NAME: &'static str = "NewSignalBatch";
    const TOLD: &'static [(&'static str, &'static str)] = &[];
    type Row = Signal;
}

/// Reads each signal of a batch, and names everything that is wrong with any.
fn signals(json: &str, name: &str) -> Result<Batch, Details> {
    if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(json)
        && !(1..=Signals::MAX_BATCH).contains(&items.len())
    {
        let mut wrong = Details::default();
        wrong.field(name, format!("Must be 1 to {} signals", Signals::MAX_BATCH));
        return Err(wrong);
    }
    fields::objects(json, name).map(Batch)
}

/// What a batch answers: for each signal, in order, it and its issue.
#[derive(Serialize, ToSchema)]
#[schema(as = IngestedBatch)]
struct BatchAnswer {
    /// Each signal with its issue, in order.
    data: Vec<Ingested>,
}

async fn list(Reader(store): Reader, List(filter, page): List<SignalFilter>) -> Answer<Page<Signal>> {
    answer(store.signals().list(&filter, &page).await?)
}

async fn create(post: Post<NewSignal>) -> Posted<Created<Ingested>> {
    post.create(async |session, (), new| Ok(session.signals().ingest(new).await?)).await
}

async fn batch(post: Post<Batch>) -> Posted<Created<BatchAnswer>> {
    post.create(async |session, (), Batch(new)| Ok(BatchAnswer { data: session.signals().ingest_batch(new).await? })).await
}

async fn read(Reader(store): Reader, Id(id): Id<SignalId>) -> Answer<Signal> {
    answer(store.signals().get(&id).await?)
}
