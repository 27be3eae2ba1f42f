ALTER TABLE issues
    ADD COLUMN signal_count integer NOT NULL DEFAULT 0 CONSTRAINT issues_signal_count_check CHECK (signal_count >= 0),
    ADD COLUMN signal_severity signal_severity,
    ADD COLUMN last_signal_at timestamptz(3);
COMMENT ON COLUMN issues.signal_count IS 'How many signals arrived for it.';
COMMENT ON COLUMN issues.signal_severity IS 'The highest severity among them.';
COMMENT ON COLUMN issues.last_signal_at IS 'When the last of them arrived.';

UPDATE issues AS i SET signal_count = s.signals, signal_severity = s.severity, last_signal_at = s.last
FROM (SELECT issue_id, count(*) AS signals, max(severity) AS severity, max(created_at) AS last FROM signals GROUP BY issue_id) AS s
WHERE i.id = s.issue_id;

-- A signal that arrives changes the counts and no revision: large values are not compared for it.
DROP TRIGGER issues_record_changed ON issues;
CREATE TRIGGER issues_record_changed AFTER UPDATE ON issues
    FOR EACH ROW WHEN (NEW.signal_count = OLD.signal_count OR NEW.revision <> OLD.revision) EXECUTE FUNCTION issues_record_changed();

ALTER TABLE signals ADD COLUMN fingerprint text CONSTRAINT signals_fingerprint_check CHECK (char_length(fingerprint) BETWEEN 1 AND 200);
COMMENT ON COLUMN signals.fingerprint IS 'What it is about, in its source''s words: signals of one fingerprint gather in one issue while that is unresolved.';

CREATE TABLE fingerprints (
    source      text           NOT NULL,
    project     text           NOT NULL,
    fingerprint text           NOT NULL,
    -- Checked at the end of the transaction, because it is written before the issue is.
    issue_id    text           NOT NULL CONSTRAINT fingerprints_issue_id_fkey REFERENCES issues (id) DEFERRABLE INITIALLY DEFERRED,
    created_at  timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT fingerprints_pkey PRIMARY KEY (source, project, fingerprint)
);
COMMENT ON TABLE fingerprints IS 'The issue that signals of a fingerprint went to last. Its row''s lock decides who opens the next one.';
COMMENT ON COLUMN fingerprints.project IS 'The project the signals were delivered to; empty for none.';
CREATE INDEX fingerprints_issue_id_idx ON fingerprints (issue_id);

-- Where signals of these fingerprints go: to the issue of the fingerprint, which then counts them, or to the issue that is about to be opened
-- under the id that is given. Answers, for each, the issue it went to, without what its signal said, which may be large and takes as long
-- while others wait for the fingerprint; or, if there was one that does not take signals any more, its id.
--
-- Each statement in here sees what was committed while the one before it waited. Fingerprints are locked before issues, always, and in
-- the order of their keys, and who resolves an issue locks no fingerprint, so these do not wait in a circle. Who makes one of the issues of a
-- batch a part of another one may: then the store tries again.
--
-- Its statements are planned once for each session. Left to itself, PostgreSQL takes a plan for these very arrays for the better one, and plans with
-- every call, which takes three times as long as all the rest.
CREATE FUNCTION signals_attach(
    actor text, sources text[], projects text[], names text[], issue_ids text[], severities signal_severity[], counts integer[],
    OUT opened text, OUT previous text,
    OUT id text, OUT number bigint, OUT title text, OUT description text, OUT type issue_type, OUT status issue_status,
    OUT priority issue_priority, OUT parent_id text, OUT project_id text, OUT signal_source text, OUT hypothesis jsonb,
    OUT agent_session_id text, OUT agent_summary text, OUT commits jsonb, OUT pull_requests jsonb, OUT completed_at timestamptz,
    OUT created_at timestamptz, OUT updated_at timestamptz, OUT deleted_at timestamptz, OUT signal_count integer,
    OUT signal_severity signal_severity, OUT last_signal_at timestamptz, OUT revision bigint
) RETURNS SETOF record LANGUAGE plpgsql STRICT SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('loop.actor', actor, true);
    -- A twin that is opening an issue for the same fingerprint at this moment is waited for.
    INSERT INTO fingerprints (source, project, fingerprint, issue_id)
    SELECT * FROM unnest(sources, projects, names, issue_ids) AS item (source, project, fingerprint, issue_id) ORDER BY 1, 2, 3
    ON CONFLICT ON CONSTRAINT fingerprints_pkey DO NOTHING;

    PERFORM FROM fingerprints AS f JOIN unnest(sources, projects, names) AS item (source, project, fingerprint)
        USING (source, project, fingerprint) ORDER BY f.source, f.project, f.fingerprint FOR UPDATE OF f;

    RETURN QUERY
    WITH item AS MATERIALIZED (
        SELECT item.*, f.issue_id AS current
        FROM unnest(sources, projects, names, issue_ids, severities, counts)
            AS item (source, project, fingerprint, issue_id, severity, signals)
        JOIN fingerprints AS f USING (source, project, fingerprint)
    ), grown AS (
        UPDATE issues AS i
        SET signal_count = i.signal_count + item.signals, last_signal_at = greatest(i.last_signal_at, now()),
            signal_severity = greatest(i.signal_severity, item.severity),
            -- A severity that was not seen before raises the priority. Who lowered it is not overruled by more of the same.
            (priority, revision, updated_at) = (
                SELECT CASE WHEN raised THEN item.severity::text::issue_priority ELSE i.priority END, i.revision + raised::integer,
                       CASE WHEN raised THEN now() ELSE i.updated_at END
                FROM (SELECT coalesce(item.severity > i.signal_severity AND item.severity::text::issue_priority < i.priority, false))
                    AS severity (raised))
        FROM item
        WHERE i.id = item.current AND i.id <> item.issue_id AND i.completed_at IS NULL AND i.deleted_at IS NULL
          AND item.project IN ('', coalesce(i.project_id, ''))
        RETURNING item.issue_id AS opened, i.id, i.number, i.title, i.description, i.type, i.status, i.priority, i.parent_id, i.project_id,
                  i.signal_source, i.hypothesis, i.agent_session_id, i.agent_summary, i.commits, i.pull_requests, i.completed_at,
                  i.created_at, i.updated_at, i.deleted_at, i.signal_count, i.signal_severity, i.last_signal_at, i.revision
    ), moved AS (
        UPDATE fingerprints AS f SET issue_id = item.issue_id FROM item
        WHERE f.source = item.source AND f.project = item.project AND f.fingerprint = item.fingerprint AND item.current <> item.issue_id
          AND NOT EXISTS (SELECT FROM grown WHERE grown.opened = item.issue_id)
    )
    SELECT item.issue_id,
           (SELECT i.id FROM issues AS i WHERE grown.opened IS NULL AND i.id = item.current AND i.id <> item.issue_id
              AND i.deleted_at IS NULL AND item.project IN ('', coalesce(i.project_id, ''))
            -- As it is now, and stays: it may have been moved or deleted while this waited.
            FOR SHARE),
           grown.id, grown.number, grown.title, grown.description, grown.type, grown.status, grown.priority, grown.parent_id,
           grown.project_id, grown.signal_source, grown.hypothesis, grown.agent_session_id, grown.agent_summary, grown.commits,
           grown.pull_requests, grown.completed_at, grown.created_at, grown.updated_at, grown.deleted_at, grown.signal_count,
           grown.signal_severity, grown.last_signal_at, grown.revision
    FROM item LEFT JOIN grown ON grown.opened = item.issue_id;
END
$$;
