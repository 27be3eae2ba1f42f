//! One operation, put together by what its handler takes and answers.

use std::collections::BTreeMap;

use http::StatusCode;
use utoipa::{
    ToSchema,
    openapi::{
        Content, Header, Object, Ref, RefOr, Required, Response, Responses, Schema, SecurityRequirement, Type,
        path::{Operation, Parameter, ParameterIn, ParameterStyle},
        request_body::RequestBody,
    },
};

use super::{Schemas, shared};

/// A parameter of the query string.
pub(crate) struct QueryParameter {
    pub(crate) name: String,
    /// How several values stand beside each other, where there can be several.
    pub(crate) style: Option<ParameterStyle>,
    pub(crate) schema: RefOr<Schema>,
}

/// An operation that is being put together.
pub(crate) struct OperationDoc<'a> {
    pub(crate) schemas: &'a mut Schemas,
    /// What stands in the places of the path, the last ones of it.
    path: Vec<(RefOr<Schema>, &'static str)>,
    parameters: Vec<Parameter>,
    body: Option<RequestBody>,
    answers: BTreeMap<u16, RefOr<Response>>,
    answer_headers: Vec<(&'static str, Header)>,
    security: Vec<SecurityRequirement>,
}

impl<'a> OperationDoc<'a> {
    /// An operation that anything can go wrong with at any time.
    pub(super) fn new(schemas: &'a mut Schemas) -> Self {
        let mut operation = Self {
            schemas,
            path: Vec::new(),
            parameters: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
            answer_headers: Vec::new(),
            security: Vec::new(),
        };
        operation.errors([StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE]);
        operation.answer_header("X-Request-Id", Object::with_type(Type::String), "The request's id, as it stands in the server's log.");
        operation
    }

    /// What stands in the next place of the path.
    pub(crate) fn in_path(&mut self, schema: RefOr<Schema>, description: &'static str) {
        self.path.push((schema, description));
    }

    /// A parameter of the query string.
    pub(crate) fn in_query(&mut self, parameter: QueryParameter) {
        let QueryParameter { name, style, schema } = parameter;
        let several = if style.is_some() { " Several stand with commas between them." } else { "" };
        let text = format!("{}{several}", shared::parameter(&name));
        let mut documented = self::parameter(&name, ParameterIn::Query, false, schema, &text);
        // An object stands there as JSON.
        if matches!(&documented.schema, Some(RefOr::T(Schema::Object(object))) if object.schema_type == Type::Object.into()) {
            documented.content.insert("application/json".to_owned(), Content::new(documented.schema.take()).into());
        }
        documented.explode = style.as_ref().map(|_| false);
        documented.style = style;
        self.parameters.push(documented);
    }

    /// A header of the request.
    pub(crate) fn in_header(&mut self, name: &'static str, required: bool, schema: impl Into<RefOr<Schema>>, description: &'static str) {
        self.parameters.push(parameter(name, ParameterIn::Header, required, schema.into(), description));
    }

    /// The body, in each of these media types.
    pub(crate) fn body(&mut self, required: bool, contents: impl IntoIterator<Item = (&'static str, RefOr<Schema>)>) {
        let mut body = RequestBody::new();
        body.required = Some(if required { Required::True } else { Required::False });
        body.content = contents.into_iter().map(|(media, schema)| (media.to_owned(), Content::new(Some(schema)).into())).collect();
        self.body = Some(body);
    }

    /// An answer of JSON.
    pub(crate) fn json<T: ToSchema>(&mut self, status: StatusCode, description: &str) {
        let schema = self.schemas.of::<T>();
        self.answer(status, description, Some(("application/json", schema)));
    }

    /// An answer, in each of these media types, or without anything in it.
    pub(crate) fn answer(
        &mut self,
        status: StatusCode,
        description: &str,
        contents: impl IntoIterator<Item = (&'static str, RefOr<Schema>)>,
    ) {
        let mut response = Response::new(description);
        response.content = contents.into_iter().map(|(media, schema)| (media.to_owned(), Content::new(Some(schema)).into())).collect();
        self.answers.insert(status.as_u16(), response.into());
    }

    /// A header of the answers that are no errors.
    pub(crate) fn answer_header(&mut self, name: &'static str, schema: impl Into<RefOr<Schema>>, description: &str) {
        let mut header = Header::new(schema);
        header.description = Some(description.to_owned());
        self.answer_headers.push((name, header));
    }

    /// Errors it may answer.
    pub(crate) fn errors(&mut self, statuses: impl IntoIterator<Item = StatusCode>) {
        for status in statuses {
            self.answers.insert(status.as_u16(), Ref::from_response_name(shared::name(status)).into());
        }
    }

    /// What opens it; of several, any.
    pub(crate) fn security(&mut self, scheme: &str) {
        self.security.push(SecurityRequirement::new(scheme, Vec::<String>::new()));
    }

    /// The operation, at this path.
    pub(super) fn finish(self, path: &str) -> Operation {
        let names: Vec<&str> = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let in_path = names.iter().zip(self.path);
        let mut parameters: Vec<Parameter> =
            in_path.map(|(name, (schema, text))| parameter(name, ParameterIn::Path, true, schema, text)).collect();
        parameters.extend(self.parameters);
        let mut answers = self.answers;
        for (status, answer) in &mut answers {
            if let (200..=299, RefOr::T(answer)) = (*status, answer) {
                let headers = self.answer_headers.iter().map(|(name, header)| ((*name).to_owned(), header.clone().into()));
                answer.headers.extend(headers);
            }
        }
        let mut operation = Operation::new();
        operation.parameters = (!parameters.is_empty()).then(|| parameters.into_iter().map(RefOr::T).collect());
        operation.request_body = self.body.map(RefOr::T);
        operation.responses = Responses::new();
        operation.responses.responses = answers.into_iter().map(|(status, answer)| (status.to_string(), answer)).collect();
        operation.security = Some(self.security);
        operation
    }
}

fn parameter(name: &str, place: ParameterIn, required: bool, schema: RefOr<Schema>, description: &str) -> Parameter {
    let mut parameter = Parameter::new(name);
    parameter.parameter_in = place;
    parameter.required = if required { Required::True } else { Required::False };
    parameter.schema = Some(schema);
    parameter.description = Some(description.to_owned()).filter(|text| !text.is_empty());
    parameter
}
