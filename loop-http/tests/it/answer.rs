//! What the server answered, and what a test looks for in it.

use std::collections::BTreeMap;

use loop_core::Timestamp;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// What the server answered.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_str(&self.text).unwrap()
    }

    #[track_caller]
    fn with_status(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        self.with_status(200)
    }

    #[track_caller]
    pub(crate) fn created(&self) -> Value {
        self.with_status(201)
    }

    #[track_caller]
    pub(crate) fn no_content(&self) {
        assert_eq!((self.status, self.text.as_str()), (204, ""));
    }

    /// The message of an error of this status and code, which has the form that all errors have.
    #[track_caller]
    pub(crate) fn error(&self, status: u16, code: &str) -> String {
        let error = self.with_status(status);
        let mut names: Vec<&str> = error.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        let expected: &[&str] = if code == "validation" { &["code", "details", "error"] } else { &["code", "error"] };
        assert_eq!(names, expected, "{error}");
        assert_eq!(error["code"], code, "{error}");
        error["error"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn not_found(&self, message: &str) {
        assert_eq!(self.error(404, "not_found"), message);
    }

    /// What is wrong with each field, where nothing is wrong with the whole.
    #[track_caller]
    pub(crate) fn field_errors(&self) -> BTreeMap<String, Vec<String>> {
        assert_eq!(self.error(422, "validation"), "Validation error");
        let details = &self.json()["details"];
        assert_eq!(details["formErrors"], json!([]), "{details}");
        assert_eq!(details.as_object().unwrap().len(), 2, "{details}");
        serde_json::from_value(details["fieldErrors"].clone()).unwrap()
    }

    /// That exactly these fields are wrong, each for one reason.
    #[track_caller]
    pub(crate) fn wrong(&self, expected: &[(&str, &str)]) {
        let expected = expected.iter().map(|(name, reason)| ((*name).to_owned(), vec![(*reason).to_owned()])).collect();
        assert_eq!(self.field_errors(), expected);
    }

    /// That exactly these fields refer to nothing.
    #[track_caller]
    pub(crate) fn dangling(&self, fields: &[&str]) {
        self.wrong(&fields.iter().map(|field| (*field, "Refers to something that does not exist")).collect::<Vec<_>>());
    }
}

#[track_caller]
pub(crate) fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

/// The ids of a page's rows.
#[track_caller]
pub(crate) fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(id).collect()
}

pub(crate) fn is_id(value: &Value) -> bool {
    let id = value.as_str().unwrap_or_default();
    id.len() == 24
        && id.starts_with(|char: char| char.is_ascii_lowercase())
        && id.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit())
}

/// Whether this is a time in UTC with milliseconds.
pub(crate) fn is_time(value: &Value) -> bool {
    let time = value.as_str().unwrap_or_default();
    time.parse::<Timestamp>().is_ok_and(|parsed| parsed.to_string() == time)
}

/// That a living row has an id, the times of its creation and last change, a revision if it is of a kind that has one, and besides exactly this.
#[track_caller]
pub(crate) fn assert_row(actual: &Value, expected: &Value) {
    let mut rest = actual.as_object().unwrap().clone();
    assert!(is_id(&rest.remove("id").unwrap()), "{actual}");
    assert!(is_time(&rest.remove("createdAt").unwrap()), "{actual}");
    assert!(is_time(&rest.remove("updatedAt").unwrap()), "{actual}");
    assert_eq!(rest.remove("deletedAt").unwrap(), Value::Null, "{actual}");
    assert!(rest.remove("revision").is_none_or(|revision| revision.as_u64().is_some_and(|revision| revision >= 1)), "{actual}");
    assert_eq!(&Value::Object(rest), expected);
}

/// The row with other values in these fields, the next revision, and a new time of its last change.
#[track_caller]
pub(crate) fn assert_changed(after: &Value, before: &Value, changes: &Value) {
    let mut expected = before.clone();
    for (name, value) in changes.as_object().unwrap() {
        expected[name] = value.clone();
    }
    assert!(after["updatedAt"].as_str() >= before["updatedAt"].as_str());
    expected["updatedAt"] = after["updatedAt"].clone();
    expected["revision"] = (before["revision"].as_i64().unwrap() + 1).into();
    assert_eq!(after, &expected);
}
