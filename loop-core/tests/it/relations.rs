//! Relations between issues.

use loop_core::{Entity, Issue, IssueId, NewIssue, NewRelation, Relation, RelationDirection, RelationId, RelationType, test_util::TestDb};

use crate::support::{Problem, deleted_issue, everything, invalid, issue, new_issue, not_found, problem, valid, wrong_references};

fn to(kind: RelationType, issue: &IssueId) -> NewRelation {
    NewRelation { kind, related_issue_id: issue.clone() }
}

#[tokio::test]
async fn every_kind_is_seen_from_either_side() {
    let db = TestDb::new().await;
    let store = db.store();
    let from = issue(store, "From").await;
    let related = NewIssue { signal_payload: Some(valid(r#"{"a": 1}"#)), ..new_issue("Related") };
    let related = store.issues().create(related).await.unwrap();
    let listed = Issue { signal_payload: None, ..related.clone() };
    let mut created = Vec::new();
    for kind in RelationType::ALL {
        let relation = store.relations().create(&from.id, to(*kind, &related.id)).await.unwrap();
        let Relation { id, created_at, .. } = relation.clone();
        let (issue_id, related_issue_id) = (from.id.clone(), related.id.clone());
        assert_eq!(relation, Relation { id, kind: *kind, issue_id, related_issue_id, created_at, updated_at: created_at });
        created.push(relation);
    }
    let back = store.relations().create(&related.id, to(RelationType::Blocks, &from.id)).await.unwrap();
    created.push(back.clone());
    // The newest first.
    created.sort_by_key(|relation| std::cmp::Reverse((relation.created_at, relation.id.clone())));

    for (seeing, seen) in [(&from, &listed), (&related, &from)] {
        let page = store.relations().list(&seeing.id, &everything()).await.unwrap();
        assert_eq!((page.total, page.next_cursor), (Some(5), None));
        assert_eq!(page.data.iter().map(|view| view.relation.clone()).collect::<Vec<_>>(), created);
        for view in page.data {
            let outgoing = view.relation.issue_id == seeing.id;
            assert_eq!(view.direction, if outgoing { RelationDirection::Outgoing } else { RelationDirection::Incoming });
            assert_eq!(view.issue, *seen);
        }
    }
}

#[tokio::test]
async fn a_relation_is_deleted_once() {
    let db = TestDb::new().await;
    let store = db.store();
    let (one, other) = (issue(store, "One").await, issue(store, "Other").await);
    let relation = store.relations().create(&one.id, to(RelationType::Related, &other.id)).await.unwrap();
    store.relations().delete(&relation.id).await.unwrap();
    for id in [relation.id, RelationId::new()] {
        assert_eq!(problem(store.relations().delete(&id).await), not_found(Entity::Relation, &id));
    }
    assert_eq!(store.relations().list(&one.id, &everything()).await.unwrap().data, []);
    store.relations().create(&one.id, to(RelationType::Related, &other.id)).await.unwrap();
}

#[tokio::test]
async fn wrong_relations_are_refused() {
    let db = TestDb::new().await;
    let store = db.store();
    let (one, other) = (issue(store, "One").await.id, issue(store, "Other").await.id);
    let relations = store.relations();
    for missing in [IssueId::new(), deleted_issue(store).await] {
        let wrong = wrong_references(Entity::Relation, &["relatedIssueId"]);
        assert_eq!(problem(relations.create(&one, to(RelationType::Blocks, &missing)).await), wrong);
        for related in [&one, &IssueId::new()] {
            let created = relations.create(&missing, to(RelationType::Blocks, related)).await;
            assert_eq!(problem(created), not_found(Entity::Issue, &missing));
        }
        assert_eq!(problem(relations.list(&missing, &everything()).await), not_found(Entity::Issue, &missing));
    }
    assert_eq!(problem(relations.create(&one, to(RelationType::Related, &one)).await), invalid("relatedIssueId"));

    relations.create(&one, to(RelationType::Blocks, &other)).await.unwrap();
    let again = problem(relations.create(&one, to(RelationType::Blocks, &other)).await);
    assert_eq!(again, Problem::Conflict(Entity::Relation, "issue_relations_pair_key"));
    // Another kind, and the other way round, are other relations.
    relations.create(&one, to(RelationType::BlockedBy, &other)).await.unwrap();
    relations.create(&other, to(RelationType::Blocks, &one)).await.unwrap();
    assert_eq!(relations.list(&one, &everything()).await.unwrap().total, Some(3));
}
