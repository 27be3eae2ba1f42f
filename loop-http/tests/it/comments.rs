use serde_json::{Value, json};

use crate::support::{Caller, TestApp, assert_changed, assert_row, id};

async fn say(caller: &Caller, issue: &str, body: &str, parent: Option<&Value>) -> Value {
    let parent = parent.map(|parent| &parent["id"]);
    let new = json!({ "body": body, "authorName": "Ada", "authorType": "human", "parentId": parent });
    caller.post(format!("/api/v1/issues/{issue}/comments"), new).await.created()
}

fn thread(comment: &Value, replies: &[Value]) -> Value {
    let mut thread = comment.clone();
    thread["replies"] = json!(replies);
    thread
}

#[tokio::test]
async fn created_and_listed_as_threads() {
    let (_app, admin) = TestApp::with_admin().await;
    let issue = admin.issue("a crash").await;
    let (by_id, by_number) = (id(&issue), issue["number"].to_string());
    let first = say(&admin, &by_id, "first", None).await;
    let expected = json!({ "body": "first", "issueId": by_id, "authorName": "Ada", "authorType": "human", "parentId": null });
    assert_row(&first, &expected);
    let reply = say(&admin, &by_number, "reply", Some(&first)).await;
    assert_eq!(reply["parentId"], first["id"]);
    let deeper = say(&admin, &by_id, "deeper", Some(&reply)).await;
    // Comments are listed by time, to the millisecond.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let second = say(&admin, &by_id, "second", None).await;

    let threads = [thread(&first, &[thread(&reply, &[thread(&deeper, &[])])]), thread(&second, &[])];
    for issue in [&by_id, &by_number] {
        let listed = admin.get(format!("/api/v1/issues/{issue}/comments?total=true")).await.ok();
        assert_eq!(listed, json!({ "data": threads, "nextCursor": null, "total": 2 }));
    }
    let page = admin.get(format!("/api/v1/issues/{by_id}/comments?limit=1")).await.ok();
    assert_eq!(page["data"], json!([threads[0]]));
    let cursor = page["nextCursor"].as_str().unwrap();
    let page = admin.get(format!("/api/v1/issues/{by_id}/comments?limit=1&cursor={cursor}")).await.ok();
    assert_eq!(page, json!({ "data": [threads[1]], "nextCursor": null }));
}

#[tokio::test]
async fn changed_and_deleted() {
    let (_app, admin) = TestApp::with_admin().await;
    let issue = id(&admin.issue("a crash").await);
    let mut comment = say(&admin, &issue, "first", None).await;
    let reply = say(&admin, &issue, "reply", Some(&comment)).await;
    let path = format!("/api/v1/comments/{}", id(&comment));
    for change in [json!({}), json!({ "body": "changed" })] {
        let after = admin.patch(&path, &change).await.ok();
        assert_changed(&after, &comment, &change);
        comment = after;
    }
    admin.delete(&path).await.no_content();
    admin.patch(&path, json!({})).await.not_found("Comment not found");
    admin.delete(&path).await.not_found("Comment not found");

    // A deleted comment keeps its place while there are replies to it, but not what it said.
    let listed = admin.get(format!("/api/v1/issues/{issue}/comments")).await.ok();
    assert_eq!(listed["data"][0]["body"], "");
    assert_ne!(listed["data"][0]["deletedAt"], Value::Null);
    assert_eq!(listed["data"][0]["replies"][0]["id"], reply["id"]);
    admin.delete(format!("/api/v1/comments/{}", id(&reply))).await.no_content();
    assert!(admin.ids(format!("/api/v1/issues/{issue}/comments")).await.is_empty());
}

#[tokio::test]
async fn only_on_an_issue_that_is_there_and_in_reply_to_one_of_its_own() {
    let (_app, admin) = TestApp::with_admin().await;
    let (issue, other) = (id(&admin.issue("a crash").await), id(&admin.issue("another").await));
    let foreign = say(&admin, &other, "of another issue", None).await;
    let gone = say(&admin, &issue, "gone", None).await;
    admin.delete(format!("/api/v1/comments/{}", id(&gone))).await.no_content();
    for parent in [&foreign["id"], &gone["id"], &json!("abcdefghijklmnopqrstuvwx")] {
        let new = json!({ "body": "reply", "authorName": "Ada", "authorType": "agent", "parentId": parent });
        admin.post(format!("/api/v1/issues/{issue}/comments"), new).await.dangling(&["parentId"]);
    }

    admin.delete(format!("/api/v1/issues/{other}")).await.no_content();
    let new = json!({ "body": "late", "authorName": "Ada", "authorType": "human" });
    for missing in [other.as_str(), "abcdefghijklmnopqrstuvwx", "4711"] {
        admin.get(format!("/api/v1/issues/{missing}/comments")).await.not_found("Issue not found");
        admin.post(format!("/api/v1/issues/{missing}/comments"), &new).await.not_found("Issue not found");
    }
    let of_deleted = format!("/api/v1/comments/{}", id(&foreign));
    admin.patch(&of_deleted, json!({ "body": "late" })).await.not_found("Comment not found");
    admin.delete(&of_deleted).await.not_found("Comment not found");
}

#[tokio::test]
async fn a_thread_has_a_bottom() {
    let (_app, admin) = TestApp::with_admin().await;
    let issue = id(&admin.issue("a crash").await);
    let mut last = say(&admin, &issue, "0", None).await;
    for depth in 1..=32 {
        last = say(&admin, &issue, &depth.to_string(), Some(&last)).await;
    }
    let new = json!({ "body": "too deep", "authorName": "Ada", "authorType": "human", "parentId": last["id"] });
    let answer = admin.post(format!("/api/v1/issues/{issue}/comments"), new).await;
    answer.wrong(&[("parentId", "The thread is too deep to reply here")]);
    let mut thread = admin.get(format!("/api/v1/issues/{issue}/comments")).await.ok()["data"][0].clone();
    for _ in 0..32 {
        thread = thread["replies"][0].clone();
    }
    assert_eq!(thread["id"], last["id"]);
}
