use std::{sync::Arc, time::Duration};

use ctutils::CtEq as _;
use tokio_postgres::Row;

use super::{
    executor::{Executor, On},
    sql::{self, Columns, Composed, Keyed, NEWEST, Statement, Within, by_id, params, row_of_project},
};
use crate::{ApiKey, ApiKeyId, Entity, Error, IssuedKey, NewApiKey, Page, PageRequest, PlaintextKey};

macro_rules! key_columns {
    () => {
        "t.id, t.name, t.prefix, t.project_id, t.role::text, t.active, t.last_used_at, t.expires_at, t.created_at, t.updated_at, t.deleted_at"
    };
}

const GET: Keyed = by_id!(Entity::ApiKey, "api_keys.get", key_columns!(), "api_keys AS t", row_of_project);

const CREATE: Statement = key(concat!(
    "-- api_keys.create
WITH checked AS (
    SELECT $7::text IS NULL OR EXISTS (
               SELECT FROM projects AS p WHERE p.id = $7 AND p.deleted_at IS NULL AND ($1::text IS NULL OR p.id = $1)) AS \"projectId?\"
), written AS (
    INSERT INTO api_keys AS t (id, name, prefix, key_hash, role, project_id, expires_at)
    SELECT $2, $3, $4, $5, $6::api_key_role, $7, $8 FROM checked WHERE \"projectId?\"
    RETURNING ",
    key_columns!(),
    ")
SELECT checked.*, written.* FROM checked LEFT JOIN written ON true"
));

/// The key that opens with the hash `$2`, with that hash and whether it is due to be marked as used. Another hash of the index's choice
/// would be no key's: what decides is the comparison in constant time.
const AUTHENTICATE: Statement = key(concat!(
    "-- api_keys.authenticate\nSELECT ",
    key_columns!(),
    ", CASE WHEN t.key_hash = $2 THEN t.key_hash ELSE t.previous_key_hash END,
       t.last_used_at IS NULL OR t.last_used_at < now() - interval '1 minute'
FROM api_keys AS t
WHERE (t.key_hash = $2 OR (t.previous_key_hash = $2 AND t.previous_valid_until > now()))
  AND t.deleted_at IS NULL AND t.active AND (t.expires_at IS NULL OR t.expires_at > now())
  AND ($1::text IS NULL OR t.project_id = $1)
  AND (t.project_id IS NULL OR EXISTS (SELECT FROM projects AS p WHERE p.id = t.project_id AND p.deleted_at IS NULL))"
));

const TOUCH: Statement = key(concat!(
    "-- api_keys.touch\nUPDATE api_keys AS t SET last_used_at = now() WHERE ",
    row_of_project!(),
    " AND (t.last_used_at IS NULL OR t.last_used_at < now() - interval '1 minute') RETURNING t.id"
));

const ROTATE: Statement = key(concat!(
    "-- api_keys.rotate
UPDATE api_keys AS t
SET prefix = $3, key_hash = $4, updated_at = now(),
    previous_key_hash = CASE WHEN $5::float8 > 0 THEN t.key_hash END,
    previous_valid_until = CASE WHEN $5::float8 > 0 THEN now() + make_interval(secs => $5::float8) END
WHERE ",
    row_of_project!(),
    " AND t.active AND (t.expires_at IS NULL OR t.expires_at > now()) RETURNING ",
    key_columns!()
));

const REVOKE: Statement = key(concat!(
    "-- api_keys.revoke\nUPDATE api_keys AS t SET active = false, deleted_at = now(), updated_at = now() WHERE ",
    row_of_project!(),
    " RETURNING t.id"
));

const LIST: Statement = key(concat!("-- api_keys.list\nSELECT ", key_columns!(), " FROM api_keys AS t WHERE t.deleted_at IS NULL"));

const COUNT: Statement = key("-- api_keys.count\nSELECT count(*) FROM api_keys AS t WHERE t.deleted_at IS NULL");

/// A hundred years: longer than anything is kept, and short enough to be a date.
const LONGEST_GRACE: Duration = Duration::from_hours(100 * 365 * 24);

/// The fixed statements.
#[cfg(feature = "test-util")]
pub(crate) const STATEMENTS: &[Statement] = &[GET.one, GET.many, CREATE, AUTHENTICATE, TOUCH, ROTATE, REVOKE, LIST, COUNT];

const fn key(sql: &'static str) -> Statement {
    Statement::new(Entity::ApiKey, sql)
}

fn read(columns: &mut Columns<'_>) -> Result<ApiKey, Error> {
    Ok(ApiKey {
        id: columns.next()?,
        name: columns.next()?,
        prefix: columns.next()?,
        project_id: columns.next()?,
        role: columns.next()?,
        active: columns.next()?,
        last_used_at: columns.next()?,
        expires_at: columns.next()?,
        created_at: columns.next()?,
        updated_at: columns.next()?,
        deleted_at: columns.next()?,
    })
}

fn read_row(row: &Row) -> Result<ApiKey, Error> {
    read(&mut Columns::of(row, "api_keys"))
}

/// The API keys. A store bound to a project sees and makes keys of that project only.
pub struct ApiKeys<'a> {
    pub(crate) on: Executor<'a>,
}

impl ApiKeys<'_> {
    /// The key with this id.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub async fn get(&self, id: &ApiKeyId) -> Result<ApiKey, Error> {
        self.on.get(GET, id.as_str(), read_row).await
    }

    /// The keys, the newest first.
    pub async fn list(&self, page: &PageRequest) -> Result<Page<ApiKey>, Error> {
        let begin = |statement| Composed::list(statement, self.on.scope, Within::Project("t.project_id = $1"));
        let key = |key: &ApiKey| (key.created_at.as_millis(), key.id.clone());
        sql::list(self.on, begin(LIST), || begin(COUNT), page, NEWEST, read_row, key).await
    }

    /// Creates a key. Its plain text is in the answer, and nowhere else.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidReference`] when the project is not there.
    pub async fn create(&self, new: NewApiKey) -> Result<IssuedKey, Error> {
        let NewApiKey { name, role, project_id, expires_at } = new;
        let id = ApiKeyId::new();
        let plaintext = PlaintextKey::generate()?;
        let project_id = project_id.as_ref().or(self.on.scope);
        let hash = plaintext.hash();
        let parameters: &[_] = params![id, name, plaintext.prefix(), hash.as_slice(), role, project_id, expires_at];
        let row = self.on.one(CREATE, parameters).await?;
        Ok(IssuedKey { key: sql::written(&row, Entity::ApiKey, "api_keys", &id, read)?, plaintext })
    }

    /// The key this plain text is of, if it opens anything: it is active, not expired, and its project, if it has one, is there. Marks the
    /// key as used, once a minute.
    pub async fn authenticate(&self, plaintext: &PlaintextKey) -> Result<Option<ApiKey>, Error> {
        let hash = plaintext.hash();
        let Some(row) = self.on.opt(AUTHENTICATE, params![hash.as_slice()]).await? else { return Ok(None) };
        let mut columns = Columns::of(&row, "api_keys");
        let key = read(&mut columns)?;
        let stored: &[u8] = columns.next()?;
        if !bool::from(stored.ct_eq(&hash[..])) {
            return Ok(None);
        }
        if columns.next::<bool>()?
            && let Err(error) = self.on.opt(TOUCH, params![key.id]).await
        {
            // The mark is for people to look at; a request does not fail for it.
            tracing::warn!(%error, key = %key.id, "marking an API key as used");
        }
        Ok(Some(key))
    }

    /// As [`authenticate`](Self::authenticate), for a server that asks with every request: what the database answered within the last 0.75
    /// seconds is believed. A key that was revoked elsewhere opens nothing after that; and as soon as a call of this store, or of a clone of
    /// it, that revokes or rotates keys or deletes a project has answered, what is known is believed no more. In a transaction, and by a store
    /// that is bound to a project, the database is always asked.
    pub async fn authenticate_cached(&self, plaintext: &PlaintextKey) -> Result<Option<Arc<ApiKey>>, Error> {
        let (On::Pool(store), None) = (self.on.on, self.on.scope) else {
            return Ok(self.authenticate(plaintext).await?.map(Arc::new));
        };
        let keys = &store.inner.keys;
        let hash = plaintext.hash();
        if let Some(key) = keys.get(&hash) {
            return Ok(Some(key));
        }
        let asked = keys.ask();
        let key = self.authenticate(plaintext).await?.map(Arc::new);
        keys.put(hash, asked, key.as_ref());
        Ok(key)
    }

    /// Gives a key another plain text. The one before opens until the grace period has passed; the one before that, no more.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such key, or it is revoked or has expired: another plain text would open nothing either.
    pub async fn rotate(&self, id: &ApiKeyId, grace: Duration) -> Result<IssuedKey, Error> {
        let plaintext = PlaintextKey::generate()?;
        let grace = grace.min(LONGEST_GRACE).as_secs_f64();
        let hash = plaintext.hash();
        let parameters: &[_] = params![id, plaintext.prefix(), hash.as_slice(), grace];
        let row = self.on.opt(ROTATE, parameters).await;
        self.on.keys_changed();
        let key = read_row(&row?.ok_or_else(|| Error::not_found(Entity::ApiKey, id))?)?;
        Ok(IssuedKey { key, plaintext })
    }

    /// Revokes a key for good, at once, with the one before its last rotation.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub async fn revoke(&self, id: &ApiKeyId) -> Result<(), Error> {
        let row = self.on.opt(REVOKE, params![id]).await;
        self.on.keys_changed();
        row?.map(drop).ok_or_else(|| Error::not_found(Entity::ApiKey, id))
    }
}
