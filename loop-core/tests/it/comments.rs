//! Comments and their threads.

use loop_core::{AuthorType, Comment, CommentId, CommentPatch, CommentThread, Entity, IssueId, LoopStore, NewComment, test_util::TestDb};

use crate::support::{
    change, check_changes, comment, everything, invalid, issue, new_comment, not_found, problem, reply, valid, walk, wrong_references,
};

/// A thread as an outline: what is said, and in brackets the replies. `-` is a comment that keeps nothing but its place.
fn outline(threads: &[CommentThread]) -> String {
    let each = threads.iter().map(|thread| {
        let body = if thread.comment.deleted_at.is_some() { "-" } else { &thread.comment.body };
        assert_eq!(thread.comment.deleted_at.is_some(), thread.comment.body.is_empty());
        if thread.replies.is_empty() { body.to_owned() } else { format!("{body}({})", outline(&thread.replies)) }
    });
    each.collect::<Vec<_>>().join(" ")
}

async fn shown(store: &LoopStore, issue: &IssueId) -> String {
    let page = store.comments().list(issue, &everything()).await.unwrap();
    assert_eq!(page.total, Some(i64::try_from(page.data.len()).unwrap()), "the total counts threads");
    outline(&page.data)
}

#[tokio::test]
async fn every_field_comes_back() {
    let db = TestDb::new().await;
    let store = db.store();
    let issue = issue(store, "Issue").await.id;
    let first = comment(store, &issue, "First").await;
    let new = NewComment {
        body: valid("**Done**\r\n🎉"),
        author_name: valid("claude"),
        author_type: AuthorType::Agent,
        parent_id: Some(first.id.clone()),
    };
    let created = store.comments().create(&issue, new.clone()).await.unwrap();
    let expected = Comment {
        id: created.id.clone(),
        body: new.body.into_string(),
        issue_id: issue.clone(),
        author_name: new.author_name,
        author_type: new.author_type,
        parent_id: new.parent_id,
        created_at: created.created_at,
        updated_at: created.created_at,
        deleted_at: None,
        revision: 1,
    };
    assert_eq!(created, expected);
    assert_eq!(store.comments().get(&created.id).await.unwrap(), expected);
    let listed = store.comments().list(&issue, &everything()).await.unwrap().data;
    let reply = CommentThread { comment: expected, replies: vec![] };
    assert_eq!(listed, [CommentThread { comment: first, replies: vec![reply] }]);
}

#[tokio::test]
async fn unknown_and_deleted_comments_are_not_found() {
    let db = TestDb::new().await;
    let store = db.store();
    let issue = issue(store, "Issue").await.id;
    let gone = comment(store, &issue, "Gone").await.id;
    store.comments().delete(&gone).await.unwrap();
    for id in [CommentId::new(), gone] {
        let missing = || not_found(Entity::Comment, &id);
        assert_eq!(problem(store.comments().get(&id).await), missing());
        assert_eq!(problem(store.comments().update(&id, CommentPatch::default()).await), missing());
        assert_eq!(problem(store.comments().delete(&id).await), missing());
        let reply = NewComment { parent_id: Some(id.clone()), ..new_comment("Reply") };
        assert_eq!(problem(store.comments().create(&issue, reply).await), wrong_references(Entity::Comment, &["parentId"]));
    }
    let unknown = IssueId::new();
    assert_eq!(problem(store.comments().list(&unknown, &everything()).await), not_found(Entity::Issue, &unknown));
    // That the issue is not there comes before any complaint about fields.
    let wrong = NewComment { parent_id: Some(CommentId::new()), ..new_comment("Lost") };
    assert_eq!(problem(store.comments().create(&unknown, wrong).await), not_found(Entity::Issue, &unknown));
    assert_eq!(shown(store, &issue).await, "");
}

#[tokio::test]
async fn the_body_is_kept_or_set() {
    let db = TestDb::new().await;
    let store = db.store();
    let issue = issue(store, "Issue").await.id;
    let first = comment(store, &issue, "First").await;
    let before = reply(store, &first, "Before").await;
    let id = before.id.clone();
    let changes = vec![
        change("nothing", CommentPatch::default(), |_| {}),
        change("body", CommentPatch { body: Some(valid("After")) }, |comment: &mut Comment| comment.body = "After".to_owned()),
    ];
    let update = async |patch| store.comments().update(&id, patch).await;
    check_changes(
        before,
        changes,
        |comment| (&mut comment.updated_at, &mut comment.revision),
        update,
        async || store.comments().get(&id).await,
    )
    .await;
}

#[tokio::test]
async fn replies_are_nested_the_oldest_first() {
    let db = TestDb::new().await;
    let store = db.store();
    let (id, other) = (issue(store, "Issue").await.id, issue(store, "Other").await.id);
    let a = comment(store, &id, "a").await;
    let b = comment(store, &id, "b").await;
    let a1 = reply(store, &a, "a1").await;
    reply(store, &b, "b1").await;
    reply(store, &a1, "a11").await;
    reply(store, &a, "a2").await;
    reply(store, &a1, "a12").await;
    comment(store, &other, "x").await;
    // Distinct times in the order of creation, which may all have been within a millisecond.
    store.raw("UPDATE comments SET created_at = '2026-01-01'::date + position(body IN ' a b a1 b1 a11 a2 a12')").await.unwrap();
    assert_eq!(shown(store, &id).await, "a(a1(a11 a12) a2) b(b1)");
    assert_eq!(shown(store, &other).await, "x");

    let walked = walk(1, async |page| store.comments().list(&id, &page).await).await;
    assert_eq!(outline(&walked), "a(a1(a11 a12) a2) b(b1)", "a page holds whole threads");
}

#[tokio::test]
async fn a_deleted_comment_keeps_its_place_while_there_are_replies() {
    let db = TestDb::new().await;
    let store = db.store();
    let id = issue(store, "Issue").await.id;
    let lone = comment(store, &id, "lone").await;
    let top = comment(store, &id, "top").await;
    let middle = reply(store, &top, "middle").await;
    let leaf = reply(store, &middle, "leaf").await;
    store.raw("UPDATE comments SET created_at = '2026-01-01'::date + length(body)").await.unwrap();
    assert_eq!(shown(store, &id).await, "top(middle(leaf)) lone");

    for (delete, left) in [(&lone, "top(middle(leaf))"), (&top, "-(middle(leaf))"), (&middle, "-(-(leaf))"), (&leaf, "")] {
        store.comments().delete(&delete.id).await.unwrap();
        assert_eq!(shown(store, &id).await, left);
    }
}

#[tokio::test]
async fn a_reply_is_about_the_same_issue() {
    let db = TestDb::new().await;
    let store = db.store();
    let (one, other) = (issue(store, "One").await.id, issue(store, "Other").await.id);
    let said = comment(store, &one, "Said").await;
    let stray = NewComment { parent_id: Some(said.id.clone()), ..new_comment("Stray") };
    assert_eq!(problem(store.comments().create(&other, stray).await), wrong_references(Entity::Comment, &["parentId"]));
    assert_eq!((shown(store, &one).await, shown(store, &other).await), ("Said".to_owned(), String::new()));
}

#[tokio::test]
async fn a_thread_is_only_so_deep() {
    let db = TestDb::new().await;
    let store = db.store();
    let id = issue(store, "Issue").await.id;
    let mut deepest = comment(store, &id, "x").await;
    for _ in 0..CommentThread::MAX_DEPTH {
        deepest = reply(store, &deepest, "x").await;
    }
    let deeper = NewComment { parent_id: Some(deepest.id.clone()), ..new_comment("deeper") };
    assert_eq!(problem(store.comments().create(&id, deeper).await), invalid("parentId"));
    let expected = format!("{}x{}", "x(".repeat(32), ")".repeat(32));
    assert_eq!(shown(store, &id).await, expected);
}
