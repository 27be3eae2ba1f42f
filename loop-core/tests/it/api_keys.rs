//! API keys: what opens, for how long, and that nothing of them leaks.

use std::time::Duration;

use loop_core::{ApiKey, ApiKeyId, Entity, IssuedKey, LoopStore, NewApiKey, PlaintextKey, ProjectId, Role, Timestamp, test_util::TestDb};

use crate::support::{at, deleted_project, dump, everything, not_found, problem, project, valid, wrong_references};

const NO_GRACE: Duration = Duration::ZERO;
const AN_HOUR: Duration = Duration::from_hours(1);

fn new_key(name: &str) -> NewApiKey {
    NewApiKey { name: valid(name), role: Role::Write, project_id: None, expires_at: None }
}

async fn key(store: &LoopStore, name: &str) -> IssuedKey {
    store.api_keys().create(new_key(name)).await.unwrap()
}

async fn opens(store: &LoopStore, plaintext: &PlaintextKey) -> Option<ApiKeyId> {
    store.api_keys().authenticate(plaintext).await.unwrap().map(|key| key.id)
}

#[tokio::test]
async fn every_field_comes_back() {
    let db = TestDb::new().await;
    let store = db.store();
    let shop = project(store, "Shop").await.id;
    for role in Role::ALL {
        let new =
            NewApiKey { role: *role, project_id: Some(shop.clone()), expires_at: Some(at("2099-12-31T23:59:59.999Z")), ..new_key("CI") };
        let IssuedKey { key, plaintext } = store.api_keys().create(new.clone()).await.unwrap();
        let expected = ApiKey {
            id: key.id.clone(),
            name: new.name,
            prefix: plaintext.reveal()[..12].to_owned(),
            project_id: new.project_id,
            role: *role,
            active: true,
            last_used_at: None,
            expires_at: new.expires_at,
            created_at: key.created_at,
            updated_at: key.created_at,
            deleted_at: None,
        };
        assert_eq!(key, expected);
        assert_eq!(store.api_keys().get(&key.id).await.unwrap(), expected);
        assert_eq!(store.api_keys().authenticate(&plaintext).await.unwrap(), Some(expected));
    }
    let page = store.api_keys().list(&everything()).await.unwrap();
    assert_eq!((page.data.len(), page.total), (3, Some(3)));
}

#[tokio::test]
async fn unknown_and_revoked_keys_are_not_found() {
    let db = TestDb::new().await;
    let store = db.store();
    let gone = key(store, "Gone").await;
    let rotated = store.api_keys().rotate(&gone.key.id, AN_HOUR).await.unwrap();
    assert_eq!(opens(store, &gone.plaintext).await, Some(gone.key.id.clone()));
    store.api_keys().revoke(&gone.key.id).await.unwrap();
    assert_eq!((opens(store, &gone.plaintext).await, opens(store, &rotated.plaintext).await), (None, None), "both are closed at once");
    for id in [ApiKeyId::new(), gone.key.id] {
        let missing = || not_found(Entity::ApiKey, &id);
        assert_eq!(problem(store.api_keys().get(&id).await), missing());
        assert_eq!(problem(store.api_keys().rotate(&id, AN_HOUR).await), missing());
        assert_eq!(problem(store.api_keys().revoke(&id).await), missing());
    }
    assert_eq!(store.api_keys().list(&everything()).await.unwrap().total, Some(0));
}

#[tokio::test]
async fn only_the_very_key_opens() {
    let db = TestDb::new().await;
    let store = db.store();
    let (one, other) = (key(store, "One").await, key(store, "Other").await);
    assert_eq!(opens(store, &one.plaintext).await, Some(one.key.id.clone()));
    assert_eq!(opens(store, &other.plaintext).await, Some(other.key.id));

    let text = one.plaintext.reveal().to_owned();
    assert_eq!((text.len(), &text[..5]), (48, "loop_"));
    assert_eq!(opens(store, &PlaintextKey::parse(&text).unwrap()).await, Some(one.key.id));
    let other_end = if text.ends_with('A') { 'E' } else { 'A' };
    let wrong = format!("{}{other_end}", &text[..47]);
    assert_eq!(opens(store, &PlaintextKey::parse(&wrong).unwrap()).await, None);
    for malformed in ["", "loop_", &text[..47], &text[5..], &text.to_uppercase(), &format!("{text}A"), &format!(" {text}"), "Bearer x"] {
        assert!(PlaintextKey::parse(malformed).is_none(), "{malformed}");
    }
}

#[tokio::test]
async fn an_expired_key_opens_nothing() {
    let db = TestDb::new().await;
    let store = db.store();
    let past = NewApiKey { expires_at: Some(at("2020-01-01T00:00:00.000Z")), ..new_key("Past") };
    let past = store.api_keys().create(past).await.unwrap();
    assert_eq!(opens(store, &past.plaintext).await, None);
    let soon = Timestamp::try_from(Timestamp::now().as_datetime() + Duration::from_mins(1)).unwrap();
    let soon = store.api_keys().create(NewApiKey { expires_at: Some(soon), ..new_key("Soon") }).await.unwrap();
    assert_eq!(opens(store, &soon.plaintext).await, Some(soon.key.id.clone()));
    // A rotation makes nothing last longer.
    let rotated = store.api_keys().rotate(&soon.key.id, AN_HOUR).await.unwrap();
    assert_eq!(rotated.key.expires_at, soon.key.expires_at);
    store.raw("UPDATE api_keys SET expires_at = now() - interval '1 ms'").await.unwrap();
    assert_eq!((opens(store, &soon.plaintext).await, opens(store, &rotated.plaintext).await), (None, None));
    assert_eq!(problem(store.api_keys().rotate(&soon.key.id, AN_HOUR).await), not_found(Entity::ApiKey, &soon.key.id));
}

#[tokio::test]
async fn a_rotated_key_opens_until_its_grace_is_over() {
    let db = TestDb::new().await;
    let store = db.store();
    let first = key(store, "Key").await;
    let id = first.key.id.clone();
    let second = store.api_keys().rotate(&id, AN_HOUR).await.unwrap();
    assert_eq!(second.key.prefix, second.plaintext.reveal()[..12]);
    let ApiKey { prefix, updated_at, .. } = second.key.clone();
    assert_eq!(second.key, ApiKey { prefix, updated_at, ..first.key.clone() });
    assert_eq!(opens(store, &first.plaintext).await, Some(id.clone()));
    assert_eq!(opens(store, &second.plaintext).await, Some(id.clone()));

    let third = store.api_keys().rotate(&id, AN_HOUR).await.unwrap();
    assert_eq!(opens(store, &first.plaintext).await, None, "only one rotation is forgiven");
    assert_eq!(opens(store, &second.plaintext).await, Some(id.clone()));
    store.raw("UPDATE api_keys SET previous_valid_until = now() - interval '1 ms'").await.unwrap();
    assert_eq!(opens(store, &second.plaintext).await, None, "the grace is over");
    assert_eq!(opens(store, &third.plaintext).await, Some(id.clone()));

    let fourth = store.api_keys().rotate(&id, NO_GRACE).await.unwrap();
    assert_eq!(opens(store, &third.plaintext).await, None, "without grace");
    assert_eq!(opens(store, &fourth.plaintext).await, Some(id.clone()));
    store.api_keys().rotate(&id, Duration::MAX).await.unwrap();
    assert_eq!(opens(store, &fourth.plaintext).await, Some(id), "for ever");
}

#[tokio::test]
async fn a_key_goes_with_its_project() {
    let db = TestDb::new().await;
    let store = db.store();
    let shop = project(store, "Shop").await.id;
    let bound = store.api_keys().create(NewApiKey { project_id: Some(shop.clone()), ..new_key("Bound") }).await.unwrap();
    assert_eq!(opens(store, &bound.plaintext).await, Some(bound.key.id));
    store.projects().delete(&shop).await.unwrap();
    assert_eq!(opens(store, &bound.plaintext).await, None);
    for project in [ProjectId::new(), deleted_project(store).await] {
        let new = NewApiKey { project_id: Some(project), ..new_key("New") };
        assert_eq!(problem(store.api_keys().create(new).await), wrong_references(Entity::ApiKey, &["projectId"]));
    }
    assert_eq!(store.api_keys().list(&everything()).await.unwrap().total, Some(1));
}

#[tokio::test]
async fn use_is_marked_once_a_minute() {
    let db = TestDb::new().await;
    let store = db.store();
    let issued = key(store, "Key").await;
    let used = async || store.api_keys().get(&issued.key.id).await.unwrap();
    assert_eq!(used().await.last_used_at, None);
    let wrong = PlaintextKey::parse(&format!("loop_{}", "A".repeat(43))).unwrap();
    assert_eq!(opens(store, &wrong).await, None);
    assert_eq!(used().await.last_used_at, None);

    opens(store, &issued.plaintext).await.unwrap();
    let first = used().await.last_used_at.unwrap();
    assert!((Timestamp::now().as_millis() - first.as_millis()).abs() < 60_000);
    store.raw("UPDATE api_keys SET last_used_at = last_used_at - interval '30 s'").await.unwrap();
    let before = used().await;
    opens(store, &issued.plaintext).await.unwrap();
    assert_eq!(used().await, before, "within the minute nothing is written");
    store.raw("UPDATE api_keys SET last_used_at = last_used_at - interval '31 s'").await.unwrap();
    opens(store, &issued.plaintext).await.unwrap();
    let after = used().await;
    assert!(after.last_used_at.unwrap() >= first);
    assert_eq!(after.updated_at, issued.key.updated_at, "being used is no change");
}

#[tokio::test]
async fn the_plain_text_is_nowhere() {
    let db = TestDb::new().await;
    let store = db.store();
    let first = key(store, "Key").await;
    let second = store.api_keys().rotate(&first.key.id, AN_HOUR).await.unwrap();
    let stored = dump(store).await.join("\n");
    assert!(stored.contains("api_keys: "));
    for issued in [&first, &second] {
        let secret = &issued.plaintext.reveal()[12..];
        for text in [format!("{issued:?}"), format!("{:?}", issued.plaintext), stored.clone()] {
            assert!(!text.contains(secret));
        }
        // Neither are any bytes of it: `bytea` is shown in hexadecimal.
        let bytes = faster_hex::hex_string(secret.as_bytes());
        assert!(!stored.contains(&bytes));
    }
    assert!(stored.contains(&second.key.prefix), "but what it is recognised by is");
    assert_eq!(format!("{:?}", second.plaintext), format!("PlaintextKey({}…)", second.key.prefix));
}
