//! Reading the query string so that every wrong or unknown parameter is named.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use axum::extract::FromRequestParts;
use http::request::Parts;
use loop_core::{Cursor, Limit, PageRequest, Start};
use utoipa::{
    ToSchema,
    openapi::{ArrayBuilder, ObjectBuilder, RefOr, Schema, Type, path::ParameterStyle},
};

use crate::{
    error::{ApiError, Details},
    openapi::{QueryParameter, Schemas},
};

/// What a query string becomes.
pub(crate) trait FromQuery: Sized {
    /// Reads every parameter.
    fn from_query(query: &mut Query) -> Self;
}

/// The parameters of a request, read as `T`, with those of the page.
pub(crate) struct List<T>(pub(crate) T, pub(crate) PageRequest);

/// The parameters that were not read yet, and what was wrong with those that were.
pub(crate) struct Query {
    unread: BTreeMap<String, Vec<String>>,
    wrong: Details,
    malformed_cursor: bool,
    /// Where the document is written, in place of a query being read.
    noted: Option<Noted>,
}

/// What parameters there are.
struct Noted {
    parameters: Vec<QueryParameter>,
    schemas: Schemas,
}

impl Query {
    /// The parameters of lists that `T` filters: nothing is read, and every parameter that is asked for is noted.
    pub(crate) fn describe<T: FromQuery>(schemas: &mut Schemas) -> Vec<QueryParameter> {
        let mut query = Self::parse("");
        query.noted = Some(Noted { parameters: Vec::new(), schemas: std::mem::take(schemas) });
        T::from_query(&mut query);
        query.page();
        let Some(noted) = query.noted else { return Vec::new() };
        *schemas = noted.schemas;
        noted.parameters
    }

    fn note(&mut self, name: &str, style: Option<ParameterStyle>, schema: impl FnOnce(&mut Schemas) -> RefOr<Schema>) {
        if let Some(Noted { parameters, schemas }) = &mut self.noted {
            parameters.push(QueryParameter { name: name.to_owned(), style, schema: schema(schemas) });
        }
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut unread: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            unread.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        Self { unread, wrong: Details::default(), malformed_cursor: false, noted: None }
    }

    /// A parameter's texts, as often as it is given.
    pub(crate) fn texts(&mut self, name: &str) -> Vec<String> {
        self.unread.remove(name).unwrap_or_default()
    }

    /// A parameter's text. It can be given once.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let mut values = self.texts(name);
        if values.len() > 1 {
            self.wrong.field(name, "Must be given once");
        }
        values.pop()
    }

    /// A parameter's value.
    pub(crate) fn one<T: FromStr<Err: Display> + ToSchema>(&mut self, name: &str) -> Option<T> {
        self.note(name, None, Schemas::of::<T>);
        let text = self.text(name)?;
        self.value(name, &text)
    }

    /// A parameter's values: one or several with commas between them, or the parameter several times.
    pub(crate) fn several<T: FromStr<Err: Display> + ToSchema>(&mut self, name: &str) -> Vec<T> {
        let list = |schemas: &mut Schemas| ArrayBuilder::new().items(schemas.of::<T>()).min_items(Some(1)).into();
        self.note(name, Some(ParameterStyle::Form), list);
        let values = self.texts(name);
        values.iter().flat_map(|list| list.split(',')).filter_map(|text| self.value(name, text.trim())).collect()
    }

    /// What is left when everything was read: nothing, or an error.
    pub(crate) fn finish(mut self) -> Result<(), ApiError> {
        for name in std::mem::take(&mut self.unread).into_keys() {
            self.wrong.field(name, "Unknown parameter");
        }
        self.finish_known()
    }

    /// As [`finish`](Self::finish), where parameters that were not read are nobody's fault.
    pub(crate) fn finish_known(self) -> Result<(), ApiError> {
        match (self.wrong.is_empty(), self.malformed_cursor) {
            (false, _) => Err(ApiError::validation(self.wrong)),
            (true, true) => Err(loop_core::Error::MalformedCursor.into()),
            (true, false) => Ok(()),
        }
    }

    fn value<T: FromStr<Err: Display>>(&mut self, name: &str, text: &str) -> Option<T> {
        text.parse().inspect_err(|error: &T::Err| self.wrong.field(name, error.to_string())).ok()
    }

    /// `limit`, `cursor` or `offset`, and `total`.
    fn page(&mut self) -> PageRequest {
        let whole = |from: u32, to: u32| {
            let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(from)).maximum(Some(to));
            move |_: &mut Schemas| -> RefOr<Schema> { number.into() }
        };
        self.note("limit", None, whole(1, Limit::MAX.into()));
        self.note("cursor", None, |_| ObjectBuilder::new().schema_type(Type::String).into());
        self.note("offset", None, whole(0, u32::MAX));
        self.note("total", None, |_| ObjectBuilder::new().schema_type(Type::Boolean).default(Some(false.into())).into());
        let limit = self.text("limit").map_or_else(Limit::default, |text| {
            text.parse().ok().and_then(Limit::new).unwrap_or_else(|| {
                self.wrong.field("limit", format!("Must be a whole number from 1 to {}", Limit::MAX));
                Limit::default()
            })
        });
        let offset = self.text("offset");
        let cursor = self.text("cursor");
        if offset.is_some() && cursor.is_some() {
            self.wrong.field("offset", "Cannot be given together with cursor");
        }
        let start = match (cursor, offset.as_deref().map(str::parse)) {
            (Some(cursor), _) => Cursor::parse(&cursor).map_or_else(
                |_| {
                    self.malformed_cursor = true;
                    Start::First
                },
                Start::After,
            ),
            (None, Some(Ok(offset))) => Start::Offset(offset),
            (None, Some(Err(_))) => {
                self.wrong.field("offset", format!("Must be a whole number from 0 to {}", u32::MAX));
                Start::First
            }
            (None, None) => Start::First,
        };
        let total = match self.text("total").as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                self.wrong.field("total", "Must be true or false");
                false
            }
        };
        PageRequest { limit, start, total }
    }
}

/// A list without filters.
impl FromQuery for () {
    fn from_query(_: &mut Query) -> Self {}
}

impl<S: Sync, T: FromQuery> FromRequestParts<S> for List<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut query = Query::parse(parts.uri.query().unwrap_or_default());
        let filter = T::from_query(&mut query);
        let page = query.page();
        query.finish()?;
        Ok(Self(filter, page))
    }
}
