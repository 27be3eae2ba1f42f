-- What is in the database: issues of ten projects, with labels, relations and a signal each. Triggers stay out of it, which makes it quick.
SET session_replication_role = replica;
INSERT INTO projects (id, name, description) SELECT 'p00000' || 100000000000000000 + n, 'Project ' || n, 'What it is for' FROM generate_series(1, 10) AS n;
INSERT INTO labels (id, name, name_key, color) SELECT 'l00000' || 100000000000000000 + n, 'label ' || n, 'label ' || n, '#ff8800' FROM generate_series(1, 20) AS n;
INSERT INTO issues (id, title, description, type, status, priority, parent_id, project_id, created_at, updated_at)
SELECT 'i00000' || 100000000000000000 + n, 'The page ' || n || ' is blank', repeat('What happened, and what was expected. ', 8),
       (ARRAY['bug', 'feature', 'task'])[1 + n % 3]::issue_type, (ARRAY['open', 'backlog', 'triage', 'in_progress'])[1 + n % 4]::issue_status,
       (ARRAY['high', 'medium', 'low'])[1 + n % 3]::issue_priority,
       CASE WHEN n % 10 IN (1, 2, 3) AND n > 10 THEN 'i00000' || 100000000000000000 + n - n % 10 END,
       'p00000' || 100000000000000001 + n % 10, now() - n * interval '7 seconds', now() - n * interval '7 seconds'
FROM generate_series(1, $issues) AS n;
INSERT INTO issue_labels (issue_id, label_id)
SELECT 'i00000' || 100000000000000000 + n, 'l00000' || 100000000000000001 + (n + k * 7) % 20 FROM generate_series(1, $issues) AS n, generate_series(0, 1) AS k;
INSERT INTO issue_relations (id, type, issue_id, related_issue_id)
SELECT 'r00000' || 100000000000000000 + n, 'related', 'i00000' || 100000000000000000 + n, 'i00000' || 100000000000000000 + n - 1 FROM generate_series(10, $issues, 10) AS n;
INSERT INTO signals (id, source, source_id, type, severity, metadata, project_id, issue_id, created_at)
SELECT 's00000' || 100000000000000000 + n, 'monitor', 'event-' || n, 'outage', 'medium',
       jsonb_build_object('source', 'monitor', 'rawPayload', jsonb_build_object('message', '500 on /page/' || n, 'trace', repeat('at handler ', 40)), 'tags', '[]'::jsonb),
       'p00000' || 100000000000000001 + n % 10, 'i00000' || 100000000000000000 + n, now() - n * interval '7 seconds'
FROM generate_series(1, $issues) AS n;
RESET session_replication_role;
