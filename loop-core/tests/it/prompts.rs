//! Prompt templates, their versions and the reviews of those.

use loop_core::{
    AuthorType, Entity, IssueId, LoopStore, NewReview, NewTemplate, NewVersion, ProjectId, PromptReview, PromptTemplate, PromptVersion,
    TemplateDetail, TemplateFilter, TemplateId, TemplatePatch, VersionId, VersionStatus, test_util::TestDb,
};

use crate::support::{
    Problem, change, check_changes, deleted_issue, deleted_project, everything, issue, new_review, new_template, new_version, not_found,
    nullables, problem, project, sets, template, valid, version, wrong_references,
};

async fn full(store: &LoopStore) -> (NewTemplate, PromptTemplate) {
    let new = NewTemplate {
        slug: valid("triage-2"),
        name: valid("Triage"),
        description: Some(valid("Sorts what arrives")),
        conditions: valid(r#"{"type": ["signal"], "n": 1.50}"#),
        specificity: 100.try_into().unwrap(),
        project_id: Some(project(store, "Shop").await.id),
    };
    (new.clone(), store.templates().create(new).await.unwrap())
}

#[tokio::test]
async fn every_field_of_a_template_comes_back() {
    let db = TestDb::new().await;
    let store = db.store();
    let (new, created) = full(store).await;
    let PromptTemplate { id, created_at, .. } = created.clone();
    let NewTemplate { slug, name, description, conditions, specificity, project_id } = new;
    let expected = PromptTemplate {
        id,
        slug,
        name,
        description,
        conditions,
        specificity: specificity.get(),
        project_id,
        active_version_id: None,
        created_at,
        updated_at: created_at,
        deleted_at: None,
        revision: 1,
    };
    assert_eq!(created, expected);
    assert_eq!(store.templates().get(&created.id).await.unwrap(), expected);
    assert_eq!(store.templates().list(&TemplateFilter::default(), &everything()).await.unwrap().data, std::slice::from_ref(&expected));
    let detail = store.templates().detail(&created.id).await.unwrap();
    assert_eq!(detail, TemplateDetail { template: expected, active_version: None });

    let bare = template(store, "0").await;
    assert_eq!((bare.specificity, bare.conditions.as_str(), bare.description, bare.project_id), (10, "{}", None, None));
}

#[tokio::test]
async fn unknown_and_deleted_templates_are_not_found() {
    let db = TestDb::new().await;
    let store = db.store();
    let gone = template(store, "gone").await;
    let of_gone = version(store, &gone, "Do it").await.id;
    let reviewed = issue(store, "Issue").await.id;
    store.templates().delete(&gone.id).await.unwrap();
    for id in [TemplateId::new(), gone.id] {
        let missing = || not_found(Entity::PromptTemplate, &id);
        assert_eq!(problem(store.templates().get(&id).await), missing());
        assert_eq!(problem(store.templates().detail(&id).await), missing());
        assert_eq!(problem(store.templates().update(&id, TemplatePatch::default()).await), missing());
        assert_eq!(problem(store.templates().delete(&id).await), missing());
        assert_eq!(problem(store.versions().list(&id, &everything()).await), missing());
        assert_eq!(problem(store.versions().create(&id, new_version("More")).await), missing());
        assert_eq!(problem(store.reviews().list(&id, &everything()).await), missing());
        let no_version = || not_found(Entity::PromptVersion, &of_gone);
        assert_eq!(problem(store.versions().get(&id, &of_gone).await), no_version());
        assert_eq!(problem(store.versions().promote(&id, &of_gone).await), no_version());
    }
    let review = new_review(&of_gone, &reviewed, [1, 1, 1]);
    assert_eq!(problem(store.reviews().create(review).await), wrong_references(Entity::PromptReview, &["versionId"]));
    let page = store.templates().list(&TemplateFilter::default(), &everything()).await.unwrap();
    assert_eq!((page.data, page.total), (vec![], Some(0)));
}

#[tokio::test]
async fn each_field_of_a_template_is_kept_cleared_or_set() {
    let db = TestDb::new().await;
    let store = db.store();
    let (_, full) = full(store).await;
    version(store, &full, "Do it").await;
    let full = store.templates().get(&full.id).await.unwrap();
    let id = full.id.clone();
    let mut changes = sets!(TemplatePatch to PromptTemplate: slug = valid("new"), name = valid("New"), conditions = valid(r#"{"a": []}"#));
    let specificity = TemplatePatch { specificity: Some(0.try_into().unwrap()), ..TemplatePatch::default() };
    changes.push(change("specificity", specificity, |template: &mut PromptTemplate| template.specificity = 0));
    changes.push(change("nothing", TemplatePatch::default(), |_| {}));
    changes.extend(nullables!(TemplatePatch to PromptTemplate like None; description, project_id));
    changes.extend(nullables!(TemplatePatch to PromptTemplate like Some(&full); description, project_id));
    let update = async |patch| store.templates().update(&id, patch).await;
    check_changes(
        full,
        changes,
        |template| (&mut template.updated_at, &mut template.revision),
        update,
        async || store.templates().get(&id).await,
    )
    .await;
}

#[tokio::test]
async fn each_filter_alone_and_all_together() {
    let db = TestDb::new().await;
    let store = db.store();
    let (_, full) = full(store).await;
    let plain = template(store, "plain").await;
    store.raw("UPDATE prompt_templates SET created_at = '2026-01-01'::date + length(slug)").await.unwrap();
    let (shop, filter) = (full.project_id.clone().unwrap(), TemplateFilter::default);
    for (filter, expected) in [
        (filter(), vec![&full.id, &plain.id]),
        (filter().with_project(shop.clone()), vec![&full.id]),
        (filter().with_project(ProjectId::new()), vec![]),
        (filter().with_slug(valid("plain")), vec![&plain.id]),
        (filter().with_slug(valid("other")), vec![]),
        (filter().with_slug(valid("triage-2")).with_project(shop.clone()), vec![&full.id]),
        (filter().with_slug(valid("plain")).with_project(shop), vec![]),
    ] {
        let page = store.templates().list(&filter, &everything()).await.unwrap();
        assert_eq!(page.data.iter().map(|template| &template.id).collect::<Vec<_>>(), expected, "{filter:?}");
        assert_eq!(page.total, Some(i64::try_from(expected.len()).unwrap()), "{filter:?}");
    }
}

#[tokio::test]
async fn a_slug_is_taken_until_its_template_is_deleted() {
    let db = TestDb::new().await;
    let store = db.store();
    let (first, other) = (template(store, "triage").await, template(store, "other").await);
    let taken = || Problem::Conflict(Entity::PromptTemplate, "prompt_templates_slug_key");
    assert_eq!(problem(store.templates().create(new_template("triage")).await), taken());
    let rename = TemplatePatch { slug: Some(valid("triage")), ..TemplatePatch::default() };
    assert_eq!(problem(store.templates().update(&other.id, rename.clone()).await), taken());
    assert_eq!(store.templates().get(&other.id).await.unwrap(), other);
    store.templates().delete(&first.id).await.unwrap();
    assert_eq!(store.templates().update(&other.id, rename).await.unwrap().slug.as_str(), "triage");
}

#[tokio::test]
async fn a_project_must_be_there() {
    let db = TestDb::new().await;
    let store = db.store();
    let target = template(store, "target").await;
    for project in [ProjectId::new(), deleted_project(store).await] {
        let wrong = || wrong_references(Entity::PromptTemplate, &["projectId"]);
        let new = NewTemplate { project_id: Some(project.clone()), ..new_template("new") };
        assert_eq!(problem(store.templates().create(new).await), wrong());
        let patch = TemplatePatch { name: Some(valid("Changed")), project_id: project.into(), ..TemplatePatch::default() };
        assert_eq!(problem(store.templates().update(&target.id, patch).await), wrong());
    }
    assert_eq!(store.templates().list(&TemplateFilter::default(), &everything()).await.unwrap().data, [target]);
}

#[tokio::test]
async fn versions_are_numbered_and_the_first_is_active() {
    let db = TestDb::new().await;
    let store = db.store();
    let (one, other) = (template(store, "one").await, template(store, "other").await);
    let new = NewVersion {
        content: valid("# Do it\n{{issue.title}} 🛠"),
        changelog: Some(valid("First")),
        author_type: AuthorType::Human,
        author_name: valid("Ada"),
    };
    let first = store.versions().create(&one.id, new.clone()).await.unwrap();
    let expected = PromptVersion {
        id: first.id.clone(),
        template_id: one.id.clone(),
        version: 1,
        content: new.content,
        changelog: new.changelog,
        author_type: new.author_type,
        author_name: new.author_name,
        status: VersionStatus::Active,
        usage_count: 0,
        completion_rate: None,
        avg_duration_ms: None,
        review_score: None,
        created_at: first.created_at,
        updated_at: first.created_at,
        deleted_at: None,
    };
    assert_eq!(first, expected);
    assert_eq!(store.versions().get(&one.id, &first.id).await.unwrap(), expected);
    let detail = store.templates().detail(&one.id).await.unwrap();
    assert_eq!((detail.template.active_version_id, detail.active_version), (Some(first.id.clone()), Some(expected.clone())));

    let second = version(store, &one, "Better").await;
    assert_eq!((second.version, second.status, &second.changelog), (2, VersionStatus::Draft, &None));
    let elsewhere = version(store, &other, "Else").await;
    assert_eq!((elsewhere.version, elsewhere.status), (1, VersionStatus::Active));
    let page = store.versions().list(&one.id, &everything()).await.unwrap();
    assert_eq!((page.data, page.total), (vec![second, expected], Some(2)));
    assert_eq!(store.templates().get(&one.id).await.unwrap().active_version_id, Some(first.id.clone()));
    assert_eq!(problem(store.versions().get(&other.id, &first.id).await), not_found(Entity::PromptVersion, &first.id));
}

#[tokio::test]
async fn promotion_retires_the_version_before() {
    let db = TestDb::new().await;
    let store = db.store();
    let (one, other) = (template(store, "one").await, template(store, "other").await);
    let mut versions = Vec::new();
    for content in ["a", "b", "c"] {
        versions.push(version(store, &one, content).await);
    }
    version(store, &other, "else").await;
    let statuses = async || {
        let page = store.versions().list(&one.id, &everything()).await.unwrap();
        page.data.iter().rev().map(|version| version.status.as_str()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(statuses().await, "active draft draft");
    for (index, expected) in
        [(2, "retired draft active"), (2, "retired draft active"), (0, "active draft retired"), (1, "retired active retired")]
    {
        let promoted = store.versions().promote(&one.id, &versions[index].id).await.unwrap();
        assert_eq!((&promoted.id, promoted.status), (&versions[index].id, VersionStatus::Active));
        assert_eq!(statuses().await, expected);
        let detail = store.templates().detail(&one.id).await.unwrap();
        assert_eq!((detail.template.active_version_id, detail.active_version), (Some(promoted.id.clone()), Some(promoted)));
    }
    for (template, wrong) in [(&one.id, VersionId::new()), (&other.id, versions[0].id.clone())] {
        assert_eq!(problem(store.versions().promote(template, &wrong).await), not_found(Entity::PromptVersion, &wrong));
    }
    assert_eq!(statuses().await, "retired active retired");
    assert_eq!(version(store, &one, "d").await.status, VersionStatus::Draft);
}

#[tokio::test]
async fn reviews_come_back_and_make_the_score() {
    let db = TestDb::new().await;
    let store = db.store();
    let one = template(store, "one").await;
    let (first, second) = (version(store, &one, "a").await, version(store, &one, "b").await);
    let issue = issue(store, "Issue").await.id;
    let new = NewReview { feedback: Some(valid("Too long")), author_type: AuthorType::Human, ..new_review(&first.id, &issue, [1, 2, 5]) };
    let created = store.reviews().create(new.clone()).await.unwrap();
    let expected = PromptReview {
        id: created.id.clone(),
        version_id: first.id.clone(),
        issue_id: issue.clone(),
        clarity: 1,
        completeness: 2,
        relevance: 5,
        feedback: new.feedback,
        author_type: AuthorType::Human,
        created_at: created.created_at,
        updated_at: created.created_at,
        deleted_at: None,
    };
    assert_eq!(created, expected);
    let other = store.reviews().create(new_review(&second.id, &issue, [5, 5, 5])).await.unwrap();
    store.reviews().create(new_review(&first.id, &issue, [5, 4, 4])).await.unwrap();
    store.raw("UPDATE prompt_reviews SET created_at = created_at - interval '1 day' WHERE clarity = 1").await.unwrap();
    let page = store.reviews().list(&one.id, &everything()).await.unwrap();
    assert_eq!((page.data.len(), page.total), (3, Some(3)));
    assert!(page.data.contains(&other), "of all versions");
    assert_eq!(page.data[2].id, created.id, "the newest first");

    let mean = async |version: &PromptVersion| store.versions().get(&one.id, &version.id).await.unwrap().review_score.unwrap();
    assert!((mean(&first).await - 3.5).abs() < 1e-9);
    assert!((mean(&second).await - 5.0).abs() < 1e-9);
    let listed = store.versions().list(&one.id, &everything()).await.unwrap().data;
    assert_eq!(listed.iter().map(|version| version.review_score.is_some()).collect::<Vec<_>>(), [true, true]);
    // What a review of a deleted issue said counts no more.
    store.issues().delete(&issue).await.unwrap();
    assert_eq!(store.versions().get(&one.id, &first.id).await.unwrap().review_score, None);
}

#[tokio::test]
async fn every_wrong_reference_of_a_review_is_named() {
    let db = TestDb::new().await;
    let store = db.store();
    let one = template(store, "one").await;
    let good = (version(store, &one, "a").await.id, issue(store, "Issue").await.id);
    for missing in [IssueId::new(), deleted_issue(store).await] {
        for (review, wrong) in [
            (new_review(&VersionId::new(), &good.1, [1, 1, 1]), &["versionId"][..]),
            (new_review(&good.0, &missing, [1, 1, 1]), &["issueId"]),
            (new_review(&VersionId::new(), &missing, [1, 1, 1]), &["versionId", "issueId"]),
        ] {
            assert_eq!(problem(store.reviews().create(review).await), wrong_references(Entity::PromptReview, wrong));
        }
    }
    let page = store.reviews().list(&one.id, &everything()).await.unwrap();
    assert_eq!((page.data, page.total), (vec![], Some(0)));
}
