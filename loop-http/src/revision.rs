//! Revisions of rows as entity tags: `ETag` on what is read and changed, `If-Match` for changes of what was read.

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, header, request::Parts};
use loop_core::{Comment, Goal, Issue, IssueDetail, Label, Project, ProjectDetail, PromptTemplate, TemplateDetail};
use serde::Serialize;

use crate::{error::ApiError, json::Json};

/// What has a revision.
pub(crate) trait Revised: Serialize {
    fn revision(&self) -> i64;
}

macro_rules! revised {
    ($($row:ty: $($path:ident).+,)+) => {
        $(impl Revised for $row {
            fn revision(&self) -> i64 {
                self.$($path).+
            }
        })+
    };
}

revised! {
    Comment: revision,
    Goal: revision,
    Issue: revision,
    IssueDetail: issue.revision,
    Label: revision,
    Project: revision,
    ProjectDetail: project.revision,
    PromptTemplate: revision,
    TemplateDetail: template.revision,
}

/// A row as JSON, with its revision as the entity tag.
pub(crate) struct Tagged<T>(pub(crate) T);

impl<T: Revised> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        // Digits between quotation marks are a header's value.
        let tag = HeaderValue::from_str(&format!("\"{}\"", self.0.revision())).ok();
        let mut response = Json(self.0).into_response();
        if let Some(tag) = tag {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// The revisions that `If-Match` names, if it is there and is not `*`: the request is meant for the row at one of these, and for no other.
pub(crate) struct IfMatch(pub(crate) Option<Vec<i64>>);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        read(&parts.headers).ok_or_else(|| ApiError::bad_request("malformed_if_match", "Malformed If-Match header"))
    }
}

/// Reads the header, a list of entity tags. A tag that is none of ours, or a weak one, is at no revision: If-Match compares strongly (RFC 9110,
/// section 13.1.1).
fn read(headers: &HeaderMap) -> Option<IfMatch> {
    if !headers.contains_key(header::IF_MATCH) {
        return Some(IfMatch(None));
    }
    let mut revisions = Vec::new();
    for value in headers.get_all(header::IF_MATCH) {
        let mut rest = value.to_str().ok()?.trim_matches([' ', '\t']);
        if rest == "*" {
            // It must be alone; any row that is there will do.
            return (headers.get_all(header::IF_MATCH).iter().count() == 1).then_some(IfMatch(None));
        }
        let mut tags = 0;
        loop {
            // Elements of a list may be empty (RFC 9110, section 5.6.1.2), but not all of them.
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                break;
            }
            let (weak, tag) = rest.strip_prefix("W/").map_or((false, rest), |tag| (true, tag));
            let (tag, after) = tag.strip_prefix('"')?.split_once('"')?;
            // A revision has one spelling.
            revisions.extend(tag.parse().ok().filter(|revision: &i64| !weak && revision.to_string() == tag));
            tags += 1;
            rest = after.trim_start_matches([' ', '\t']);
            if !rest.is_empty() && !rest.starts_with(',') {
                return None;
            }
        }
        if tags == 0 {
            return None;
        }
    }
    Some(IfMatch(Some(revisions)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The revisions that these values of the header name; `None` for any.
    fn revisions(values: &[&str]) -> Option<Vec<i64>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_str(value).unwrap());
        }
        // What is malformed is at a revision that there is not.
        read(&headers).map_or(Some(vec![-1]), |IfMatch(revisions)| revisions)
    }

    #[test]
    fn lists_of_tags_are_read() {
        assert_eq!((revisions(&[]), revisions(&["*"]), revisions(&[" * "])), (None, None, None));
        assert_eq!(revisions(&["\"3\""]), Some(vec![3]));
        assert_eq!(revisions(&["\"3\",\"4\" , \"5\"", "\"6\""]), Some(vec![3, 4, 5, 6]));
        assert_eq!((revisions(&["\"3\","]), revisions(&[",\"3\", ,\"4\""])), (Some(vec![3]), Some(vec![3, 4])));
        for none in ["\"\"", "\"abc\"", "W/\"3\"", "\"03\"", "\"+3\"", "\"99999999999999999999\"", "\"a,b\""] {
            assert_eq!(revisions(&[none]), Some(vec![]), "{none}");
        }
        for malformed in ["", "3", "\"3", "3\"", "\"3\" \"4\"", ",", "w/\"3\"", "*, \"3\"", "\"3\", *"] {
            assert_eq!(revisions(&[malformed]), Some(vec![-1]), "{malformed}");
        }
        assert_eq!(revisions(&["*", "\"3\""]), Some(vec![-1]));
    }
}
