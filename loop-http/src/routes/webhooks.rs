use axum::{
    Json, Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, request::Parts};
use loop_core::{
    Actor, Entity, Error, ProjectId,
    webhook::{Intake, IntakeError, PosthogVerifier, VerifyError, github_signal, posthog_signal, sentry_signal},
};
use serde_json::json;

use crate::{
    auth::client_address,
    error::ApiError,
    extract::read_body,
    query::Query,
    state::{AppState, Room},
};

pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/webhooks/github", post(github)).route("/webhooks/sentry", post(sentry)).route("/webhooks/posthog", post(posthog))
}

async fn github(State(state): State<AppState>, delivery: Delivery) -> Result<Response, ApiError> {
    let verifier = state.webhooks().github.as_ref().ok_or_else(|| not_configured(&state, "GitHub"))?;
    let delivery = delivery.arrive(&state).await?;
    delivery.accept(&state, "GitHub", verifier.verify(&delivery.head.headers, &delivery.body))?;
    delivery.take_in(&state, github_signal).await
}

async fn sentry(State(state): State<AppState>, delivery: Delivery) -> Result<Response, ApiError> {
    let verifier = state.webhooks().sentry.as_ref().ok_or_else(|| not_configured(&state, "Sentry"))?;
    let delivery = delivery.arrive(&state).await?;
    delivery.accept(&state, "Sentry", verifier.verify_hook(&delivery.head.headers, &delivery.body))?;
    delivery.take_in(&state, sentry_signal).await
}

async fn posthog(State(state): State<AppState>, delivery: Delivery) -> Result<Response, ApiError> {
    let verifier = state.webhooks().posthog.as_ref().ok_or_else(|| not_configured(&state, "PostHog"))?;
    let delivery = delivery.arrive(&state).await?;
    delivery.accept(&state, "PostHog", delivery.verify_posthog(verifier))?;
    delivery.take_in(&state, posthog_signal).await
}

fn not_configured(state: &AppState, provider: &'static str) -> ApiError {
    if let Some(metrics) = state.metrics() {
        metrics.count_not_configured(provider);
    }
    ApiError::unavailable("not_configured", format!("{provider} webhooks are not configured"))
}

/// A delivery whose body has not arrived yet.
struct Delivery {
    head: Parts,
    body: Body,
}

impl axum::extract::FromRequest<AppState> for Delivery {
    type Rejection = ApiError;

    async fn from_request(request: axum::extract::Request, _: &AppState) -> Result<Self, ApiError> {
        let (head, body) = request.into_parts();
        Ok(Self { head, body })
    }
}

impl Delivery {
    /// Reads the body, if there is room for it beside those that are being read for others: nobody knows yet who sent any of them.
    async fn arrive(self, state: &AppState) -> Result<Arrived, ApiError> {
        let mut room = state.room();
        let body = read_body(&self.head.headers, self.body, state.webhooks().body_limit, |bytes| room.grow(bytes)).await?;
        Ok(Arrived { head: self.head, body, _room: room })
    }
}

/// A delivery, whole.
struct Arrived {
    head: Parts,
    body: Bytes,
    /// Held as long as the body.
    _room: Room,
}

impl Arrived {
    fn query(&self) -> Query {
        Query::parse(self.head.uri.query().unwrap_or_default())
    }

    /// The project that the query names, if it names one. What else is in the query is the provider's.
    fn project(&self) -> Result<Option<ProjectId>, ApiError> {
        let mut query = self.query();
        let project = query.one("project");
        query.finish_known()?;
        Ok(project)
    }

    /// That PostHog signed this, or that it has one of the shared secrets.
    fn verify_posthog(&self, verifier: &PosthogVerifier) -> Result<(), VerifyError> {
        let verify = |secret: Option<&str>| verifier.verify(&self.head.headers, secret, &self.body);
        match self.query().texts("secret").as_slice() {
            [] => verify(None),
            // People paste a secret into an address as it is, where its `+` is read as a space.
            [secret] if secret.contains(' ') => verify(Some(secret)).or_else(|_| verify(Some(&secret.replace(' ', "+")))),
            [secret] => verify(Some(secret)),
            // Which of two another party believes cannot be known.
            [..] => verify(Some("")),
        }
    }

    /// That the provider was recognised. What is wrong with a signature is for the log: the likeliest cause is a proxy that changed the body.
    fn accept(&self, state: &AppState, provider: &'static str, verified: Result<(), VerifyError>) -> Result<(), ApiError> {
        if let Some(metrics) = state.metrics() {
            metrics.count_delivery(provider, verified);
        }
        let Err(error) = verified else { return Ok(()) };
        tracing::warn!(provider, %error, "a webhook was refused; if the secret is right, something changed the body on its way");
        if !error.is_missing() {
            state.limits().failed_authentication(client_address(&self.head, state), None)?;
        }
        Err(ApiError::webhook(provider, error))
    }

    /// Makes a signal of it.
    async fn take_in(&self, state: &AppState, signal: fn(&HeaderMap, &[u8]) -> Result<Intake, IntakeError>) -> Result<Response, ApiError> {
        let unknown_project = |error| match error {
            Error::InvalidReference { .. } | Error::NotFound { entity: Entity::Project, .. } => {
                ApiError::invalid_field("project", "Refers to something that does not exist")
            }
            other => other.into(),
        };
        let intake = signal(&self.head.headers, &self.body)?;
        let project = self.project()?;
        let mut new = match intake {
            Intake::Signal(new) => *new,
            // Whoever sets a webhook up learns now that later deliveries would be refused.
            Intake::Ping => {
                if let Some(project) = &project {
                    state.store().projects().get(project).await.map_err(unknown_project)?;
                }
                return Ok(Json(json!({ "ok": true, "event": "ping" })).into_response());
            }
        };
        new.project_id = project;
        let store = state.store().acting(&Actor::webhook(new.source.as_str()));
        let ingested = store.signals().ingest(new).await.map_err(unknown_project)?;
        let status = if ingested.redelivered { StatusCode::OK } else { StatusCode::CREATED };
        Ok((status, Json(ingested)).into_response())
    }
}
