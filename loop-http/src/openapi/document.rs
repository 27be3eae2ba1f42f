//! The document as a whole.

use std::sync::{Arc, OnceLock};

use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use http::{StatusCode, header};
use utoipa::openapi::{
    Components, Info, License, ObjectBuilder, OpenApi, OpenApiBuilder, Paths, Schema, Server, path::PathItem, schema::AdditionalProperties,
    tag::TagBuilder,
};

use super::{OperationDoc, Schemas, routes::Entry, shared};
use crate::{error::ErrorBody, state::AppState};

/// The document of these routes. It is written when it is asked for first, and kept.
pub(super) fn serve(entries: Vec<Entry>) -> MethodRouter<AppState> {
    let document = Arc::new((entries, OnceLock::new()));
    get(async move || {
        let (entries, text) = &*document;
        let text: &Bytes = text.get_or_init(|| serde_json::to_vec(&write(entries)).unwrap_or_default().into());
        ([(header::CONTENT_TYPE, "application/json")], text.clone())
    })
}

/// What the document says of itself.
pub(super) fn describe(operation: &mut OperationDoc<'_>) {
    let anything = AdditionalProperties::<Schema>::FreeForm(true);
    let schema = ObjectBuilder::new().description(Some("An OpenAPI document.")).additional_properties(Some(anything));
    operation.answer(StatusCode::OK, "The OpenAPI 3.1 document of every route.", Some(("application/json", schema.into())));
}

fn write(entries: &[Entry]) -> OpenApi {
    let mut schemas = Schemas::default();
    schemas.of::<ErrorBody<'static>>();
    let mut paths = Paths::new();
    for entry in entries {
        let mut operation = OperationDoc::new(&mut schemas);
        for describe in &entry.describe {
            describe(&mut operation);
        }
        let mut operation = operation.finish(&entry.path);
        operation.tags = Some(vec![entry.tag.to_owned()]);
        operation.operation_id = Some(entry.id.to_owned());
        operation.summary = Some(entry.summary.to_owned());
        let item = PathItem::new(entry.method.clone(), operation);
        match paths.paths.get_mut(&entry.path) {
            Some(existing) => existing.merge_operations(item),
            None => {
                paths.paths.insert(entry.path.clone(), item);
            }
        }
    }
    let mut components = Components::new();
    components.schemas.extend(schemas.finish());
    components.responses.extend(shared::responses().map(|(name, response)| (name.to_owned(), response.into())));
    components.security_schemes.extend(shared::security_schemes().map(|(name, scheme)| (name.to_owned(), scheme.into())));
    let mut tags: Vec<&str> = Vec::new();
    for entry in entries {
        if !tags.contains(&entry.tag) {
            tags.push(entry.tag);
        }
    }
    let mut info = Info::new("Loop", env!("CARGO_PKG_VERSION"));
    info.description = Some(shared::DESCRIPTION.to_owned());
    info.license = Some(license());
    OpenApiBuilder::new()
        .info(info)
        // Wherever the router is mounted, its routes are beside the document.
        .servers(Some([Server::new(".")]))
        .paths(paths)
        .components(Some(components))
        .tags(Some(tags.into_iter().map(|tag| TagBuilder::new().name(tag).build())))
        .build()
}

fn license() -> License {
    let mut license = License::new("MIT OR Apache-2.0");
    license.identifier = Some("MIT OR Apache-2.0".to_owned());
    license
}
