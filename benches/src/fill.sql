-- :issues issues with what belongs to them, the newest first. Ids are as random as Loop's. Indexes are made when the rows are there.
SET maintenance_work_mem = '512MB';
SET synchronous_commit = off;
CREATE FUNCTION pg_temp.id(letter text, n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT letter || left(md5(n::text), 23) $$;
CREATE TEMP TABLE dropped AS
SELECT indexname, indexdef FROM pg_indexes
WHERE tablename IN ('issues', 'signals', 'issue_events') AND indexname NOT IN (SELECT conname FROM pg_constraint);
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT indexname FROM dropped LOOP EXECUTE format('DROP INDEX %I', name); END LOOP;
END
$$;
-- Neither triggers nor foreign keys, where this user may leave them out.
SELECT set_config('session_replication_role', 'replica', false) FROM pg_roles WHERE rolname = current_user AND rolsuper;
ALTER TABLE issues DISABLE TRIGGER USER;
ALTER TABLE issue_labels DISABLE TRIGGER USER;
ALTER TABLE issue_relations DISABLE TRIGGER USER;

INSERT INTO projects (id, name) SELECT pg_temp.id('p', n), 'Project ' || n FROM generate_series(1, 20) AS n;
INSERT INTO labels (id, name, name_key, color) SELECT pg_temp.id('l', n), 'label ' || n, 'label ' || n, '#d73a4a' FROM generate_series(1, 20) AS n;
-- Of ten, the first has the next two for children.
INSERT INTO issues (id, title, description, type, status, priority, parent_id, project_id, signal_source, signal_payload, signal_count,
                    signal_severity, last_signal_at, completed_at, created_at, updated_at)
SELECT pg_temp.id('i', n), 'The login page is blank, and nothing is in the log: ' || n,
       'word' || n % 5000 || ' and what else there is to be said of it' || CASE WHEN n <= 50 THEN ', lately.' ELSE '.' END,
       CASE WHEN n % 2 = 0 THEN 'signal' ELSE 'bug' END::issue_type,
       CASE WHEN n / 20 % 10 < 7 THEN 'resolved' WHEN n / 20 % 10 < 9 THEN 'open' WHEN n / 20 % 100 = 99 THEN 'in_progress'
            ELSE 'triage' END::issue_status,
       (ARRAY['critical', 'high', 'medium', 'low'])[1 + n % 4]::issue_priority,
       CASE WHEN n % 10 IN (2, 3) THEN pg_temp.id('i', n - n % 10 + 1) END, pg_temp.id('p', 1 + n % 20), 'monitor',
       jsonb_build_object('message', 'it broke', 'count', n, 'host', 'web-' || n % 50), 1, 'high', now() - n * interval '1 second',
       CASE WHEN n / 20 % 10 < 7 THEN now() - n * interval '1 second' END, now() - n * interval '1 second', now() - n * interval '1 second'
FROM generate_series(1, :issues) AS n;
INSERT INTO signals (id, source, type, severity, metadata, project_id, issue_id, created_at, updated_at)
SELECT pg_temp.id('s', n), 'monitor', 'error', 'high',
       jsonb_build_object('source', 'monitor', 'tags', '[]'::jsonb, 'rawPayload',
                          jsonb_build_object('message', 'it broke', 'count', n, 'host', 'web-' || n % 50)),
       pg_temp.id('p', 1 + n % 20), pg_temp.id('i', n), now() - n * interval '1 second', now() - n * interval '1 second'
FROM generate_series(1, :issues) AS n;
INSERT INTO issue_events (issue_id, project_id, action, actor, changes, created_at)
SELECT pg_temp.id('i', n), pg_temp.id('p', 1 + n % 20), 'created', 'app', '[]', now() - n * interval '1 second'
FROM generate_series(1, :issues) AS n;
INSERT INTO issue_labels (issue_id, label_id)
SELECT pg_temp.id('i', n), pg_temp.id('l', 1 + (n + m) % 20) FROM generate_series(1, :issues, 5) AS n, generate_series(0, 1) AS m;
INSERT INTO issue_relations (id, type, issue_id, related_issue_id)
SELECT pg_temp.id('r', n), 'related', pg_temp.id('i', n), pg_temp.id('i', n + 4) FROM generate_series(1, :issues - 9, 5) AS n;
INSERT INTO comments (id, body, issue_id, author_name, author_type, thread_id)
SELECT pg_temp.id('c', n), 'I have seen that, too.', pg_temp.id('i', n), 'Ada', 'human', pg_temp.id('c', n) FROM generate_series(1, :issues, 5) AS n;
INSERT INTO fingerprints (source, project, fingerprint, issue_id)
SELECT 'monitor', '', md5(n::text), pg_temp.id('i', n) FROM generate_series(1, :issues) AS n;
INSERT INTO deliveries (source, project, key, signal_id)
SELECT 'monitor', '', md5(n::text), pg_temp.id('s', n) FROM generate_series(1, :issues, 5) AS n;
INSERT INTO api_keys (id, name, prefix, key_hash, role)
SELECT pg_temp.id('k', n), 'Key ' || n, 'loop_', sha256(n::text::bytea), 'read' FROM generate_series(1, :issues, 50) AS n;

ALTER TABLE issues ENABLE TRIGGER USER;
ALTER TABLE issue_labels ENABLE TRIGGER USER;
ALTER TABLE issue_relations ENABLE TRIGGER USER;
DO $$
DECLARE
    definition text;
BEGIN
    FOR definition IN SELECT indexdef FROM dropped LOOP EXECUTE definition; END LOOP;
END
$$;
