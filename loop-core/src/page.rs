//! Pages of lists, by cursor or by offset.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;

use crate::Error;

/// How many rows a page holds: 1 to 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(u8);

impl Limit {
    /// The most rows a page holds.
    pub const MAX: u8 = 200;

    /// That many rows, if it is 1 to 200.
    pub const fn new(limit: u8) -> Option<Self> {
        if limit >= 1 && limit <= Self::MAX { Some(Self(limit)) } else { None }
    }

    pub(crate) fn get(self) -> usize {
        self.0.into()
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

/// Where a page begins.
#[derive(Debug, Clone, Default)]
pub enum Start {
    /// At the first row.
    #[default]
    First,
    /// After the row that the cursor of the page before names. The cost does not depend on how far that is.
    After(Cursor),
    /// After that many rows. The cost grows with them.
    Offset(u32),
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// How many rows, 50 unless said otherwise.
    pub limit: Limit,
    /// From where.
    pub start: Start,
    /// Whether to count all rows the filter matches, which costs more the more there are.
    pub total: bool,
}

impl PageRequest {
    /// The first page.
    pub fn first() -> Self {
        Self::default()
    }

    /// The page after the one that gave this cursor.
    pub fn after(cursor: Cursor) -> Self {
        Self { start: Start::After(cursor), ..Self::default() }
    }

    /// With that many rows.
    pub fn with_limit(mut self, limit: Limit) -> Self {
        self.limit = limit;
        self
    }

    /// With the exact number of all rows.
    pub fn with_total(mut self) -> Self {
        self.total = true;
        self
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The rows.
    pub data: Vec<T>,
    /// What [`PageRequest::after`] takes for the next page; `None` on the last.
    pub next_cursor: Option<String>,
    /// How many rows there are in all, if asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
}

impl<T> Page<T> {
    pub(crate) fn map<U>(self, each: impl FnMut(T) -> U) -> Page<U> {
        Page { data: self.data.into_iter().map(each).collect(), next_cursor: self.next_cursor, total: self.total }
    }
}

#[cfg(feature = "openapi")]
impl<T: utoipa::ToSchema> utoipa::PartialSchema for Page<T> {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        use utoipa::openapi::{ArrayBuilder, ObjectBuilder, Ref, Type, schema::SchemaType};

        let row = Ref::from_schema_name(T::name());
        let cursor = ObjectBuilder::new()
            .schema_type(SchemaType::Array(vec![Type::String, Type::Null]))
            .description(Some("What `cursor` takes for the next page; null on the last."));
        let total =
            ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).description(Some("How many rows there are in all, if asked."));
        ObjectBuilder::new()
            .description(Some("A part of a list."))
            .property("data", ArrayBuilder::new().items(row).description(Some("The rows.")))
            .property("nextCursor", cursor)
            .property("total", total)
            .into()
    }
}

/// A page of issues is an `IssuePage`.
#[cfg(feature = "openapi")]
impl<T: utoipa::ToSchema> utoipa::ToSchema for Page<T> {
    fn name() -> std::borrow::Cow<'static, str> {
        format!("{}Page", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

/// A place between two rows of a list under one order. Opaque to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// Reads what a page gave as `next_cursor`. Whether it fits a list is seen when it is used there.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Error::MalformedCursor)?;
        String::from_utf8(bytes).map(Self).map_err(|_| Error::MalformedCursor)
    }

    /// The cursor after the row with this key and id, under the order of this word.
    pub(crate) fn encode(order: &str, key: i64, id: &str) -> String {
        URL_SAFE_NO_PAD.encode(format!("{order}|{key}|{id}"))
    }

    /// The key and id of the row this cursor stands behind.
    pub(crate) fn decode<Id: std::str::FromStr>(&self, order: &str) -> Result<(i64, Id), Error> {
        let mut parts = self.0.split('|');
        let (found, key, id) = (parts.next(), parts.next(), parts.next());
        let key = key.and_then(|key| key.parse().ok());
        let id = id.and_then(|id| id.parse().ok());
        match (found == Some(order) && parts.next().is_none(), key, id) {
            (true, Some(key), Some(id)) => Ok((key, id)),
            _ => Err(Error::MalformedCursor),
        }
    }
}
