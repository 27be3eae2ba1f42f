//! Lists of issues: each filter, the text search, each order, and cursors that do not fit.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use loop_core::{
    Cursor, Issue, IssueFilter, IssueId, IssuePriority, IssueSort, IssueStatus, IssueType, LabelId, LoopStore, NewIssue, PageRequest,
    Start, test_util::TestDb,
};

use crate::support::{Problem, at, child, everything, invalid, issue, label, limit_of, new_issue, problem, project, valid, walk};

async fn titles(store: &LoopStore, filter: IssueFilter) -> Vec<String> {
    let page = store.issues().list(&filter.with_sort(IssueSort::NumberAsc), &everything()).await.unwrap();
    assert_eq!(page.total, Some(i64::try_from(page.data.len()).unwrap()), "the total is of what the filter matches");
    page.data.into_iter().map(|issue| issue.title.into_string()).collect()
}

#[tokio::test]
async fn each_filter_alone_and_all_together() {
    let db = TestDb::new().await;
    let store = db.store();
    let (shop, blog) = (project(store, "Shop").await, project(store, "Blog").await);
    let (red, blue) = (label(store, "red").await, label(store, "blue").await);
    let top = issue(store, "top").await;
    let create = async |title: &str, change: &dyn Fn(&mut NewIssue)| {
        let mut new = new_issue(title);
        change(&mut new);
        store.issues().create(new).await.unwrap()
    };
    create("bug", &|new| new.kind = IssueType::Bug).await;
    create("plan", &|new| new.kind = IssueType::Plan).await;
    create("closed", &|new| new.status = IssueStatus::Closed).await;
    create("triage", &|new| new.status = IssueStatus::Triage).await;
    create("low", &|new| new.priority = IssuePriority::Low).await;
    create("critical", &|new| new.priority = IssuePriority::Critical).await;
    create("shop", &|new| new.project_id = Some(shop.id.clone())).await;
    create("blog", &|new| new.project_id = Some(blog.id.clone())).await;
    create("red", &|new| new.label_ids = vec![red.id.clone()]).await;
    create("purple", &|new| new.label_ids = vec![red.id.clone(), blue.id.clone()]).await;
    child(store, &top.id, "part").await;
    let all = |new: &mut NewIssue| {
        (new.kind, new.status, new.priority) = (IssueType::Bug, IssueStatus::Closed, IssuePriority::Low);
        (new.project_id, new.parent_id, new.label_ids) = (Some(shop.id.clone()), Some(top.id.clone()), vec![blue.id.clone()]);
    };
    create("everything", &all).await;
    store.raw("UPDATE issues SET created_at = '2026-01-01T00:00:00Z' WHERE title = 'everything'").await.unwrap();
    store.raw("UPDATE issues SET created_at = '2026-01-02T00:00:00Z' WHERE title <> 'everything'").await.unwrap();

    let filter = IssueFilter::default;
    assert_eq!(titles(store, filter()).await.len(), 13);
    let first = at("2026-01-01T00:00:00.000Z");
    for (name, filter, expected) in [
        ("types", filter().with_kind([IssueType::Bug, IssueType::Plan]), &["bug", "plan", "everything"][..]),
        ("one type", filter().with_kind([IssueType::Plan]), &["plan"]),
        ("statuses", filter().with_status([IssueStatus::Closed, IssueStatus::Triage]), &["closed", "triage", "everything"]),
        ("priorities", filter().with_priority([IssuePriority::Low, IssuePriority::Critical]), &["low", "critical", "everything"]),
        ("project", filter().with_project(shop.id.clone()), &["shop", "everything"]),
        ("label", filter().with_label(red.id.clone()), &["red", "purple"]),
        ("other label", filter().with_label(blue.id.clone()), &["purple", "everything"]),
        ("unknown label", filter().with_label(LabelId::new()), &[]),
        ("parent", filter().with_parent(top.id.clone()), &["part", "everything"]),
        ("unknown parent", filter().with_parent(IssueId::new()), &[]),
        ("text", filter().with_text(&valid("purple")), &["purple"]),
        ("created before, which is exclusive", filter().with_created_before(at("2026-01-02T00:00:00.000Z")), &["everything"]),
        ("created before the first", filter().with_created_before(first), &[]),
        ("created after, which is exclusive", filter().with_created_after(first).with_label(red.id.clone()), &["red", "purple"]),
        ("created after the last", filter().with_created_after(at("2026-01-02T00:00:00.000Z")), &[]),
        ("nothing to choose from", filter().with_kind([]).with_status([]).with_priority([]).with_label(red.id.clone()), &["red", "purple"]),
        (
            "all",
            filter()
                .with_kind([IssueType::Bug])
                .with_status([IssueStatus::Closed])
                .with_priority([IssuePriority::Low])
                .with_project(shop.id.clone())
                .with_label(blue.id.clone())
                .with_parent(top.id.clone())
                .with_text(&valid("everything"))
                .with_created_after(at("2025-12-31T23:59:59.999Z"))
                .with_created_before(at("2026-01-01T00:00:00.001Z")),
            &["everything"],
        ),
    ] {
        assert_eq!(titles(store, filter).await, expected, "{name}");
    }

    store.labels().delete(&red.id).await.unwrap();
    assert_eq!(titles(store, filter().with_label(red.id)).await, [""; 0], "a deleted label");
}

#[tokio::test]
async fn words_are_found_in_titles_and_descriptions() {
    let db = TestDb::new().await;
    let store = db.store();
    let long = format!("{} needle", "hay ".repeat(20_000));
    let too_long = format!("{} needle", "hay ".repeat(30_000));
    for (title, description) in [
        ("Checkout is SLOW", None),
        ("Search", Some("The results are slow to arrive")),
        ("Zahlungsübersicht", Some("Größe fehlt")),
        ("Long", Some(long.as_str())),
        ("Longer", Some(too_long.as_str())),
    ] {
        let new = NewIssue { description: description.map(valid), ..new_issue(title) };
        store.issues().create(new).await.unwrap();
    }
    for (query, expected) in [
        ("slow", &["Checkout is SLOW", "Search"][..]),
        ("Slow CHECKOUT", &["Checkout is SLOW"]),
        ("slow -checkout", &["Search"]),
        ("checkout or größe", &["Checkout is SLOW", "Zahlungsübersicht"]),
        ("\"slow to arrive\"", &["Search"]),
        ("\"arrive to slow\"", &[]),
        ("zahlungsübersicht", &["Zahlungsübersicht"]),
        ("needle", &["Long"]),
        ("hay", &["Long", "Longer"]),
        ("check", &[]),
        ("", &[]),
        ("it's \\ % _ ' & | ! ( ) <-> :* \"", &[]),
    ] {
        assert_eq!(titles(store, IssueFilter::default().with_text(&valid(query))).await, expected, "{query}");
    }
}

#[tokio::test]
async fn the_longest_descriptions_are_stored() {
    let db = TestDb::new().await;
    // Many different words, each long in bytes: what a text search vector has least room for.
    let letter = |number: u32| char::from_u32(0x1_0400 + number % 38).unwrap();
    let word = |number: u32| [letter(number), letter(number / 38), letter(number / 1444), '-', letter(number / 7), letter(number)];
    let description: String = (0..40_000).flat_map(|number| word(number).into_iter().chain([' '])).collect();
    assert!(description.chars().count() > 200_000);
    let new = NewIssue { description: Some(valid(&description)), ..new_issue("Long") };
    let created = db.store().issues().create(new).await.unwrap();
    assert_eq!(created.description.unwrap().as_str(), description);
}

/// Issues of which many share their times and their priorities.
async fn alike(store: &LoopStore) -> Vec<Issue> {
    for number in 0..23 {
        let priority = IssuePriority::ALL[number % 4];
        store.issues().create(NewIssue { priority, ..new_issue("Alike") }).await.unwrap();
    }
    let times = "created_at = timestamptz '2026-01-01T00:00:00Z' + number % 3 * interval '1 ms', updated_at = '2026-01-02T00:00:00Z', deleted_at = NULL";
    store.raw(&format!("UPDATE issues SET {times}")).await.unwrap();
    store.raw("UPDATE issues SET updated_at = updated_at + number % 5 * interval '1 day'").await.unwrap();
    store.issues().list(&IssueFilter::default(), &everything()).await.unwrap().data
}

fn sorted(issues: &[Issue], sort: IssueSort) -> Vec<Issue> {
    let mut sorted = issues.to_vec();
    match sort {
        IssueSort::CreatedAsc | IssueSort::CreatedDesc => sorted.sort_by_key(|issue| (issue.created_at, issue.id.clone())),
        IssueSort::UpdatedAsc | IssueSort::UpdatedDesc => sorted.sort_by_key(|issue| (issue.updated_at, issue.id.clone())),
        IssueSort::PriorityAsc | IssueSort::PriorityDesc => sorted.sort_by_key(|issue| (issue.priority, issue.id.clone())),
        IssueSort::NumberAsc | IssueSort::NumberDesc => sorted.sort_by_key(|issue| issue.number),
    }
    if sort.as_str().starts_with('-') {
        sorted.reverse();
    }
    sorted
}

#[tokio::test]
async fn cursors_walk_every_order() {
    let db = TestDb::new().await;
    let store = db.store();
    let issues = alike(store).await;
    assert_eq!(issues.len(), 23);
    for word in IssueSort::WORDS {
        let sort: IssueSort = valid(word);
        let filter = IssueFilter::default().with_sort(sort);
        let expected = sorted(&issues, sort);
        for limit in [1, 4, 22, 23, 200] {
            let walked = walk(limit, async |page| store.issues().list(&filter, &page).await).await;
            assert_eq!(walked, expected, "{word}, {limit} at a time");
        }
        let part = filter.with_priority([IssuePriority::High]);
        let expected: Vec<_> = expected.into_iter().filter(|issue| issue.priority == IssuePriority::High).collect();
        let walked = walk(2, async |page| store.issues().list(&part, &page).await).await;
        assert_eq!((walked.len(), walked), (6, expected), "{word}, filtered");
    }
}

#[tokio::test]
async fn a_walk_sees_what_is_older_than_its_start_and_nothing_twice() {
    let db = TestDb::new().await;
    let store = db.store();
    let issues = alike(store).await;
    let filter = IssueFilter::default();
    let page = store.issues().list(&filter, &PageRequest::first().with_limit(limit_of(10))).await.unwrap();
    assert_eq!(page.data, issues[..10]);
    issue(store, "Newer").await;
    store.issues().delete(&issues[9].id).await.unwrap();
    store.issues().delete(&issues[10].id).await.unwrap();
    let rest = PageRequest::after(Cursor::parse(&page.next_cursor.unwrap()).unwrap());
    assert_eq!(store.issues().list(&filter, &rest).await.unwrap().data, issues[11..]);
}

#[tokio::test]
async fn offsets_and_totals() {
    let db = TestDb::new().await;
    let store = db.store();
    let issues = alike(store).await;
    let list = async |start, limit, total| {
        let page = PageRequest { limit: limit_of(limit), start, total };
        let page = store.issues().list(&IssueFilter::default(), &page).await.unwrap();
        (page.data, page.next_cursor, page.total)
    };
    for (offset, limit, length) in [(0, 23, 23), (5, 200, 18), (22, 10, 1), (23, 10, 0), (u32::MAX, 10, 0)] {
        let from = usize::try_from(offset).unwrap().min(23);
        let expected = issues[from..from + length].to_vec();
        assert_eq!(list(Start::Offset(offset), limit, true).await, (expected, None, Some(23)), "offset {offset}");
    }
    // From an offset one can go on by cursor, and the total is of all rows wherever the page begins.
    let (data, cursor, total) = list(Start::Offset(5), 10, false).await;
    assert_eq!((data, total), (issues[5..15].to_vec(), None));
    let cursor = Cursor::parse(&cursor.unwrap()).unwrap();
    assert_eq!(list(Start::After(cursor), 10, true).await, (issues[15..].to_vec(), None, Some(23)));
    // Fifty rows are a page unless said otherwise.
    store.raw("INSERT INTO issues (id, title) SELECT 'x' || n, 'Filler' FROM generate_series(100, 127) AS n").await.unwrap();
    let page = store.issues().list(&IssueFilter::default(), &PageRequest::first()).await.unwrap();
    assert_eq!((page.data.len(), page.next_cursor.is_some(), page.total), (50, true, None));
}

#[tokio::test]
async fn cursors_that_do_not_fit_are_refused() {
    let db = TestDb::new().await;
    let store = db.store();
    alike(store).await;
    let id = IssueId::new();
    for (sort, text) in [
        ("createdAt", format!("-createdAt|1|{id}")),
        ("-createdAt", format!("createdAt|1|{id}")),
        ("-createdAt", format!("-updatedAt|1|{id}")),
        ("number", format!("priority|1|{id}")),
        ("number", format!("number|1|{id}|")),
        ("number", format!("number|1.5|{id}")),
        ("number", format!("number||{id}")),
        ("number", format!("number|9223372036854775808|{id}")),
        ("number", "number|1|Not-An-Id".to_owned()),
        ("number", "number|1".to_owned()),
        ("number", String::new()),
        ("createdAt", format!("createdAt|{}|{id}", i64::MAX)),
        ("-createdAt", format!("-createdAt|{}|{id}", i64::MIN)),
        ("createdAt", format!("createdAt|253402300800000|{id}")),
        ("priority", format!("priority|0|{id}")),
        ("priority", format!("priority|5|{id}")),
        ("-priority", format!("-priority|-1|{id}")),
        ("-priority", format!("-priority|{}|{id}", i64::MAX)),
    ] {
        let cursor = Cursor::parse(&URL_SAFE_NO_PAD.encode(&text)).unwrap();
        let filter = IssueFilter::default().with_sort(valid(sort));
        assert_eq!(problem(store.issues().list(&filter, &PageRequest::after(cursor)).await), Problem::MalformedCursor, "{sort}: {text}");
    }
    for text in ["!", "a", "AAAA=", "__8", "ü"] {
        assert_eq!(problem(Cursor::parse(text)), Problem::MalformedCursor, "{text}");
    }
    // A cursor at either end of what a key can be is one like any other.
    for (sort, key, length) in [("number", i64::MAX, 0), ("number", i64::MIN, 23), ("createdAt", -62_135_596_800_000, 23)] {
        let cursor = Cursor::parse(&URL_SAFE_NO_PAD.encode(format!("{sort}|{key}|{id}"))).unwrap();
        let filter = IssueFilter::default().with_sort(valid(sort));
        assert_eq!(store.issues().list(&filter, &PageRequest::after(cursor)).await.unwrap().data.len(), length, "{sort} {key}");
    }
}

#[tokio::test]
async fn a_search_of_hyphens_is_a_search_of_nothing() {
    let db = TestDb::new().await;
    let store = db.store();
    for title in ["first-rate", "second"] {
        issue(store, title).await;
    }
    for query in ["-".repeat(50), "-".repeat(1000), "- ".repeat(200), "\"-".repeat(100)] {
        assert_eq!(titles(store, IssueFilter::default().with_text(&valid(&query))).await, <[&str; 0]>::default(), "{query}");
    }
    assert_eq!(titles(store, IssueFilter::default().with_text(&valid(&format!("{} second", "-".repeat(60))))).await, ["second"]);
    assert_eq!(titles(store, IssueFilter::default().with_text(&valid("first-rate --- "))).await, ["first-rate"]);
    // What is left to PostgreSQL and is too much for it names the parameter.
    let too_much = IssueFilter::default().with_text(&valid(&"-a or ".repeat(166)));
    if let Err(error) = store.issues().list(&too_much, &everything()).await {
        assert_eq!(problem::<()>(Err(error)), invalid("q"));
    }
    assert!("a".repeat(1001).parse::<loop_core::Search>().is_err());
}
