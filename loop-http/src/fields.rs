//! Reading the fields of a JSON object so that every wrong one is named, and not only the first.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
};

use loop_core::Patch;
use serde::{
    Serialize,
    de::{Deserialize, DeserializeOwned, Deserializer, Error as _, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use utoipa::{
    ToSchema,
    openapi::{Object, RefOr, Schema, Type, schema::AdditionalProperties},
};

use crate::{
    error::{ApiError, Details},
    openapi::{Nested, Schemas, nullable, with_default},
};

/// How many fields an object of a request may have, which is many more than any has.
const MAX_FIELDS: usize = 1000;
const TOO_MANY: &str = "Must have at most 1000 fields";

/// What a request body becomes.
pub(crate) trait FromFields: Sized {
    /// Reads every field first, so that all of them are checked, and answers `None` if a required one is not there or wrong.
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self>;
}

/// The fields of a JSON object that were not read yet, and what was wrong with those that were.
pub(crate) struct Fields<'a> {
    unread: BTreeMap<String, &'a RawValue>,
    /// What stands before a field's name, as for the items of a batch.
    prefix: String,
    wrong: Details,
    /// Where the document is written, in place of a request being read.
    noted: Option<Noted>,
}

/// What fields there are.
struct Noted {
    object: Object,
    schemas: Schemas,
}

/// Whether a field must be there, and whether it may be null.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Required,
    Optional,
    Nullable,
}

/// The members of a JSON object. Which of two of one name another party believes cannot be known, so those are named.
#[derive(Default)]
struct Members<'a> {
    values: BTreeMap<String, &'a RawValue>,
    repeated: BTreeSet<String>,
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members::default();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if members.values.len() >= MAX_FIELDS {
                        return Err(A::Error::custom(TOO_MANY));
                    }
                    match members.values.entry(name) {
                        Entry::Vacant(place) => {
                            place.insert(value);
                        }
                        Entry::Occupied(place) => {
                            members.repeated.insert(place.key().clone());
                        }
                    }
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// Reads a JSON text as `T`.
pub(crate) fn read<T: FromFields>(json: &str) -> Result<T, ApiError> {
    read_item(json, String::new()).map_err(ApiError::validation)
}

/// Reads one object of several, whose name is `prefix`.
pub(crate) fn read_item<T: FromFields>(json: &str, prefix: String) -> Result<T, Details> {
    let mut wrong = Details::default();
    let read: Result<Members<'_>, serde_json::Error> = serde_json::from_str(json);
    let Ok(Members { values: unread, repeated }) = read else {
        let too_many = read.is_err_and(|error| error.to_string().starts_with(TOO_MANY));
        let reason = if too_many { TOO_MANY } else { "Must be a JSON object" };
        if prefix.is_empty() {
            wrong.form_errors.push(reason.to_owned());
        } else {
            wrong.field(prefix.trim_end_matches('.'), reason);
        }
        return Err(wrong);
    };
    let mut fields = Fields { unread, prefix, wrong, noted: None };
    for name in repeated {
        fields.complain(&name, "Must be given once");
    }
    let value = T::from_fields(&mut fields);
    let unknown: Vec<String> = std::mem::take(&mut fields.unread).into_keys().collect();
    for name in unknown {
        fields.complain(&name, "Unknown field");
    }
    match value {
        Some(value) if fields.wrong.is_empty() => Ok(value),
        _ => Err(fields.wrong),
    }
}

/// The schema of a body: its reader reads nothing, and every field it asks for is noted.
pub(crate) fn describe<T: FromFields>(schemas: &mut Schemas) -> Object {
    let mut object = Object::with_type(Type::Object);
    object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    let noted = Some(Noted { object, schemas: std::mem::take(schemas) });
    let mut fields = Fields { unread: BTreeMap::new(), prefix: String::new(), wrong: Details::default(), noted };
    // Nothing is there, so nothing comes of it.
    let _ = T::from_fields(&mut fields);
    let Noted { object, schemas: noted } = fields.noted.unwrap_or_else(|| Noted { object: Object::new(), schemas: Schemas::default() });
    *schemas = noted;
    object
}

/// Reads the object that a field holds. Its fields are named after the field, as in `hypothesis.statement`.
pub(crate) fn object<T: FromFields>(json: &str, name: &str) -> Result<T, Details> {
    read_item(json, format!("{name}."))
}

/// Reads the list of objects that a field holds. Their fields are named after the field and the place, as in `commits[1].sha`.
pub(crate) fn objects<T: FromFields>(json: &str, name: &str) -> Result<Vec<T>, Details> {
    let mut wrong = Details::default();
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(json) else {
        wrong.field(name, "Must be a list");
        return Err(wrong);
    };
    let mut read = Vec::with_capacity(items.len());
    for (place, item) in items.into_iter().enumerate() {
        match object(item.get(), &format!("{name}[{place}]")) {
            Ok(value) => read.push(value),
            Err(details) => wrong.extend("", details),
        }
    }
    if wrong.is_empty() { Ok(read) } else { Err(wrong) }
}

impl Fields<'_> {
    /// A field that must be there.
    pub(crate) fn required<T: DeserializeOwned + ToSchema>(&mut self, name: &str) -> Option<T> {
        self.note(name, Presence::Required, None, Schemas::of::<T>);
        let Some(raw) = self.unread.remove(name) else {
            self.complain(name, "Required");
            return None;
        };
        self.value(name, raw)
    }

    /// A field that need not be there, and may be null.
    pub(crate) fn optional<T: DeserializeOwned + ToSchema>(&mut self, name: &str) -> Option<T> {
        self.note(name, Presence::Nullable, None, Schemas::of::<T>);
        let raw = self.unread.remove(name).filter(|raw| raw.get() != "null")?;
        self.value(name, raw)
    }

    /// A field that need not be there, but cannot be null. For a partial update of a value that is always there.
    pub(crate) fn set<T: DeserializeOwned + ToSchema>(&mut self, name: &str) -> Option<T> {
        self.note(name, Presence::Optional, None, Schemas::of::<T>);
        let raw = self.unread.remove(name)?;
        self.value(name, raw)
    }

    /// A field with a default.
    pub(crate) fn or<T: DeserializeOwned + Serialize + ToSchema>(&mut self, name: &str, default: T) -> T {
        if self.noted.is_some() {
            self.note(name, Presence::Optional, serde_json::to_value(&default).ok(), Schemas::of::<T>);
            return default;
        }
        self.set(name).unwrap_or(default)
    }

    /// A field of a partial update: absent keeps, null clears.
    pub(crate) fn patch<T: DeserializeOwned + ToSchema>(&mut self, name: &str) -> Patch<T> {
        self.note(name, Presence::Nullable, None, Schemas::of::<T>);
        match self.unread.remove(name) {
            None => Patch::Keep,
            Some(raw) if raw.get() == "null" => Patch::Clear,
            Some(raw) => self.value(name, raw).map_or(Patch::Keep, Patch::Set),
        }
    }

    /// A field that need not be there, and may be null, whose parts are read by [`object`] or [`objects`].
    pub(crate) fn optional_by<T: Nested>(&mut self, name: &str, read: fn(&str, &str) -> Result<T, Details>) -> Option<T> {
        match self.patch_by(name, read) {
            Patch::Set(value) => Some(value),
            Patch::Keep | Patch::Clear => None,
        }
    }

    /// The same field of a partial update: absent keeps, null clears.
    pub(crate) fn patch_by<T: Nested>(&mut self, name: &str, read: fn(&str, &str) -> Result<T, Details>) -> Patch<T> {
        self.note(name, Presence::Nullable, None, T::schema);
        match self.unread.remove(name) {
            None => Patch::Keep,
            Some(raw) if raw.get() == "null" => Patch::Clear,
            Some(raw) => match read(raw.get(), name) {
                Ok(value) => Patch::Set(value),
                Err(wrong) => {
                    self.complain_all(wrong);
                    Patch::Keep
                }
            },
        }
    }

    /// A field that must be there, whose parts are read by [`object`] or [`objects`].
    pub(crate) fn required_by<T: Nested>(&mut self, name: &str, read: fn(&str, &str) -> Result<T, Details>) -> Option<T> {
        self.note(name, Presence::Required, None, T::schema);
        let Some(raw) = self.unread.remove(name) else {
            self.complain(name, "Required");
            return None;
        };
        read(raw.get(), name).map_err(|wrong| self.complain_all(wrong)).ok()
    }

    /// Notes what is wrong with a field.
    pub(crate) fn complain(&mut self, name: &str, reason: impl Into<String>) {
        let name = format!("{}{name}", self.prefix);
        self.wrong.field(name, reason);
    }

    /// Notes what is wrong with the parts of a field.
    pub(crate) fn complain_all(&mut self, wrong: Details) {
        self.wrong.extend(&self.prefix, wrong);
    }

    /// Notes that there is such a field, where the document is written.
    fn note(&mut self, name: &str, presence: Presence, default: Option<Value>, schema: fn(&mut Schemas) -> RefOr<Schema>) {
        let Some(Noted { object, schemas }) = &mut self.noted else { return };
        let schema = schema(schemas);
        let schema = if presence == Presence::Nullable { nullable(schema) } else { schema };
        object.properties.insert(name.to_owned(), with_default(schema, default));
        if presence == Presence::Required {
            object.required.push(name.to_owned());
        }
    }

    fn value<T: DeserializeOwned>(&mut self, name: &str, raw: &RawValue) -> Option<T> {
        match serde_json::from_str(whole(raw.get())) {
            Ok(value) => Some(value),
            Err(error) => {
                let part = part::<T>(raw.get());
                self.complain(&format!("{name}{part}"), reason(&error.to_string(), raw.get() == "null"));
                None
            }
        }
    }
}

/// JSON has one kind of number, and schemas take `35.0` for the whole number that it is.
fn whole(json: &str) -> &str {
    match json.split_once('.') {
        Some((whole, places)) if whole.bytes().all(|byte| byte.is_ascii_digit()) && places.bytes().all(|byte| byte == b'0') => whole,
        _ => json,
    }
}

/// Which part of a value is wrong, such as `.statement` or `[1].sha`; nothing for the whole.
fn part<T: DeserializeOwned>(json: &str) -> String {
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_str(json)) else { return String::new() };
    match error.path().to_string().as_str() {
        "." => String::new(),
        path if path.starts_with('[') => path.to_owned(),
        path => format!(".{path}"),
    }
}

/// What is wrong with a value, for people: without the place in the text, which is a place in the field's text alone.
fn reason(error: &str, null: bool) -> String {
    if null {
        return "Must not be null".to_owned();
    }
    let error = error.rfind(" at line ").map_or(error, |place| &error[..place]);
    let found = error.strip_prefix("invalid type: ").or_else(|| error.strip_prefix("invalid value: "));
    // What was found may be a text with anything in it, so what was expected is what comes last.
    match found.and_then(|found| found.rsplit_once(", expected ")) {
        Some((_, expected)) => format!("Must be {}", in_words(expected)),
        None => error.to_owned(),
    }
}

/// What was expected, for people who do not know Rust's types.
fn in_words(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "f64" => "a number",
        "i64" => "a whole number",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number, and not negative",
        structure if structure.starts_with("struct ") => "an object",
        other => other,
    }
}
