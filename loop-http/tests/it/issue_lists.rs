use serde_json::{Value, json};

use crate::support::{Caller, TestApp, id, ids};

async fn create(caller: &Caller, new: Value) -> String {
    let created = id(&caller.post("/api/v1/issues", new).await.created());
    // Times are to the millisecond, and lists are in their order.
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    created
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[tokio::test]
async fn filtered() {
    let (_app, admin) = TestApp::with_admin().await;
    let (project, label) = (admin.project("Shop").await, admin.label("urgent").await);
    let first = create(&admin, json!({ "title": "The login page is blank", "type": "bug", "priority": "critical" })).await;
    let second = create(
        &admin,
        json!({ "title": "Faster checkout", "type": "feature", "status": "triage", "projectId": project, "labelIds": [label] }),
    );
    let second = second.await;
    let third =
        create(&admin, json!({ "title": "Child", "description": "of the LOGIN page", "status": "closed", "parentId": first })).await;
    let middle = admin.get(format!("/api/v1/issues/{second}")).await.ok()["createdAt"].as_str().unwrap().to_owned();
    let all = [&first, &second, &third];

    for (query, expected) in [
        (String::new(), vec![2, 1, 0]),
        ("status=triage".to_owned(), vec![1]),
        ("status=triage,closed".to_owned(), vec![2, 1]),
        ("status=triage, closed".to_owned(), vec![2, 1]),
        ("status=open&status=closed".to_owned(), vec![2, 0]),
        ("type=bug,feature".to_owned(), vec![1, 0]),
        ("type=monitor".to_owned(), vec![]),
        ("priority=critical".to_owned(), vec![0]),
        ("priority=medium,low&type=task".to_owned(), vec![2]),
        (format!("projectId={project}"), vec![1]),
        (format!("labelId={label}"), vec![1]),
        (format!("labelId={label}&status=open"), vec![]),
        (format!("parentId={first}"), vec![2]),
        ("q=login".to_owned(), vec![2, 0]),
        ("q=login+-child".to_owned(), vec![0]),
        ("q=checkout+or+blank".to_owned(), vec![1, 0]),
        (format!("q={}", encoded("\"login page is\"")), vec![0]),
        ("q=nowhere".to_owned(), vec![]),
        ("q=".to_owned(), vec![2, 1, 0]),
        ("q=+&status=open".to_owned(), vec![0]),
        (format!("q={}", encoded("'); DROP TABLE issues; --")), vec![]),
        (format!("createdAfter={middle}"), vec![2]),
        (format!("createdBefore={middle}"), vec![0]),
        (format!("createdAfter={}", encoded("2020-01-01T01:00:00+01:00")), vec![2, 1, 0]),
        (format!("createdAfter={middle}&createdBefore={middle}"), vec![]),
    ] {
        let page = admin.get(format!("/api/v1/issues?total=true&{query}")).await.ok();
        let expected: Vec<_> = expected.into_iter().map(|place: usize| all[place].clone()).collect();
        assert_eq!(ids(&page), expected, "{query}");
        assert_eq!(page["total"], expected.len(), "{query}");
    }
}

#[tokio::test]
async fn a_list_holds_issues_without_what_their_signals_said() {
    let (_app, admin) = TestApp::with_admin().await;
    let new = json!({ "title": "a crash", "signalSource": "sentry", "signalPayload": { "large": "payload" } });
    let mut issue = admin.post("/api/v1/issues", new).await.created();
    issue.as_object_mut().unwrap().remove("signalPayload");
    assert_eq!(admin.get("/api/v1/issues").await.ok(), json!({ "data": [issue], "nextCursor": null }));
}

#[tokio::test]
async fn sorted_and_paged_in_every_order() {
    let (_app, admin) = TestApp::with_admin().await;
    let mut issues = Vec::new();
    for priority in ["low", "critical", "medium", "high", "critical"] {
        issues.push(create(&admin, json!({ "title": priority, "priority": priority })).await);
    }
    // The first is the last that was changed.
    admin.patch(format!("/api/v1/issues/{}", issues[0]), json!({ "description": "changed" })).await.ok();
    // Where the priority is the same, the id decides.
    let (one, other) = if issues[1] < issues[4] { (1, 4) } else { (4, 1) };
    for (sort, expected) in [
        ("", [4, 3, 2, 1, 0]),
        ("-createdAt", [4, 3, 2, 1, 0]),
        ("createdAt", [0, 1, 2, 3, 4]),
        ("-updatedAt", [0, 4, 3, 2, 1]),
        ("updatedAt", [1, 2, 3, 4, 0]),
        ("priority", [one, other, 3, 2, 0]),
        ("-priority", [0, 2, 3, other, one]),
        ("number", [0, 1, 2, 3, 4]),
        ("-number", [4, 3, 2, 1, 0]),
    ] {
        let expected = expected.map(|place: usize| issues[place].clone());
        let sort = if sort.is_empty() { String::new() } else { format!("&sort={sort}") };
        assert_eq!(admin.ids(format!("/api/v1/issues?limit=200{sort}")).await, expected, "{sort}");

        let mut walked = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = admin.get(format!("/api/v1/issues?limit=2{sort}{cursor}")).await.ok();
            walked.extend(ids(&page));
            let Some(next) = page["nextCursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(walked, expected, "{sort}");
    }
}

#[tokio::test]
async fn a_cursor_belongs_to_its_order() {
    let (_app, admin) = TestApp::with_admin().await;
    create(&admin, json!({ "title": "one" })).await;
    create(&admin, json!({ "title": "two" })).await;
    let page = admin.get("/api/v1/issues?limit=1&sort=priority").await.ok();
    let cursor = page["nextCursor"].as_str().unwrap();
    admin.get(format!("/api/v1/issues?limit=1&sort=priority&cursor={cursor}")).await.ok();
    for other in ["sort=-priority", "sort=number", "limit=1"] {
        let answer = admin.get(format!("/api/v1/issues?{other}&cursor={cursor}")).await;
        assert_eq!(answer.error(400, "malformed_cursor"), "Malformed cursor");
    }
}

#[tokio::test]
async fn rows_that_come_and_go_do_not_disturb_a_walk() {
    let (_app, admin) = TestApp::with_admin().await;
    let mut issues = Vec::new();
    for title in ["one", "two", "three", "four"] {
        issues.push(create(&admin, json!({ "title": title })).await);
    }
    let page = admin.get("/api/v1/issues?limit=2").await.ok();
    assert_eq!(ids(&page), [issues[3].clone(), issues[2].clone()]);
    // The row that the cursor names goes, and a new one comes before it.
    admin.delete(format!("/api/v1/issues/{}", issues[2])).await.no_content();
    create(&admin, json!({ "title": "five" })).await;
    let cursor = page["nextCursor"].as_str().unwrap();
    assert_eq!(admin.ids(format!("/api/v1/issues?limit=2&cursor={cursor}")).await, [issues[1].clone(), issues[0].clone()]);
}

#[tokio::test]
async fn wrong_filters_are_all_named() {
    let (_app, admin) = TestApp::with_admin().await;
    let query =
        "status=open,bogus&type=&priority=urgent&projectId=1&labelId=X&parentId=&q=%00&createdAfter=yesterday&createdBefore=1&sort=age";
    let time = "Must be a date and time as in RFC 3339, such as 2026-01-31T12:00:00.000Z";
    admin.get(format!("/api/v1/issues?{query}")).await.wrong(&[
        ("status", "Must be one of triage, backlog, open, in_progress, resolved, closed"),
        ("type", "Must be one of bug, feature, task, improvement, signal, hypothesis, plan, monitor"),
        ("priority", "Must be one of critical, high, medium, low"),
        ("projectId", "Not an id"),
        ("labelId", "Not an id"),
        ("parentId", "Not an id"),
        ("q", "Must not contain NUL characters"),
        ("createdAfter", time),
        ("createdBefore", time),
        ("sort", "Must be one of -createdAt, createdAt, -updatedAt, updatedAt, priority, -priority, number, -number"),
    ]);
}
