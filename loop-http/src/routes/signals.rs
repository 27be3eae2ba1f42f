use axum::{
    Json,
    extract::{FromRequest, Request},
};
use http::StatusCode;
use loop_core::{Ingested, JsonObject, NewSignal, Page, Severity, Signal, SignalFilter, SignalId, Signals, Text};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{
    ToSchema,
    openapi::{ArrayBuilder, OneOfBuilder, RefOr, Schema},
};

use super::{Answer, Created, answer, created};
use crate::{
    auth::{Reader, Writer},
    error::{ApiError, Details},
    extract::{Id, Input, json_body},
    fields::{self, Fields, FromFields},
    openapi::{Body, Described, Nested, OperationDoc, Routes, Schemas},
    query::{FromQuery, List, Query},
    state::AppState,
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
        Some(Self { source_id, tags, project_id, ..Self::new(source?, kind?, severity, payload) })
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

/// A batch as it is sent: `{"signals": […]}`, or the list alone.
struct BatchBody(Batch);

impl FromRequest<AppState> for BatchBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, ApiError> {
        let body = json_body(request).await?;
        let text = body.text();
        if text.trim_start().starts_with('[') {
            return signals(text, "signals").map(Self).map_err(ApiError::validation);
        }
        fields::read(text)
    }
}

impl FromFields for BatchBody {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        fields.required_by("signals", signals).map(Self)
    }
}

impl Body for BatchBody {
    const NAME: &'static str = "NewSignalBatch";
    const TOLD: &'static [(&'static str, &'static str)] = &[];
    type Row = Signal;
}

impl Described for BatchBody {
    fn describe(operation: &mut OperationDoc<'_>) {
        Input::<Self>::describe(operation);
        let (object, list) = (operation.schemas.body::<Self>(), Batch::schema(operation.schemas));
        operation.body(true, [("application/json", OneOfBuilder::new().item(object).item(list).into())]);
    }
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

async fn create(Writer(store): Writer, Input(new): Input<NewSignal>) -> Created<Ingested> {
    created(store.signals().ingest(new).await?)
}

async fn batch(Writer(store): Writer, BatchBody(Batch(new)): BatchBody) -> Result<(StatusCode, Json<BatchAnswer>), ApiError> {
    created(BatchAnswer { data: store.signals().ingest_batch(new).await? })
}

async fn read(Reader(store): Reader, Id(id): Id<SignalId>) -> Answer<Signal> {
    answer(store.signals().get(&id).await?)
}
