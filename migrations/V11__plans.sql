-- Where signals of these fingerprints go, as before, but one fingerprint after the other: each statement finds its row by its key. Those for all of
-- them at once were planned when the tables were empty, and then read the whole of them with every signal until they were analyzed.
--
-- Each statement in here sees what was committed while the one before it waited. Fingerprints are locked before issues, always, and in
-- the order of their keys, and who resolves an issue locks no fingerprint, so these do not wait in a circle. Who makes one of the issues of a
-- batch a part of another one may: then the store tries again.
--
-- Its statements are planned once for each session, and to use the indexes of keys: no plan could be better for some values than for others, and
-- the one for tables that are still small would be kept while they grow.
CREATE OR REPLACE FUNCTION signals_attach(
    actor text, sources text[], projects text[], names text[], issue_ids text[], severities signal_severity[], counts integer[],
    OUT opened text, OUT previous text,
    OUT id text, OUT number bigint, OUT title text, OUT description text, OUT type issue_type, OUT status issue_status,
    OUT priority issue_priority, OUT parent_id text, OUT project_id text, OUT signal_source text, OUT hypothesis jsonb,
    OUT agent_session_id text, OUT agent_summary text, OUT commits jsonb, OUT pull_requests jsonb, OUT completed_at timestamptz,
    OUT created_at timestamptz, OUT updated_at timestamptz, OUT deleted_at timestamptz, OUT signal_count integer,
    OUT signal_severity signal_severity, OUT last_signal_at timestamptz, OUT revision bigint
) RETURNS SETOF record LANGUAGE plpgsql STRICT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    item record;
    held text;
    -- The issue that signals of each fingerprint went to last.
    current text[];
BEGIN
    PERFORM set_config('loop.actor', actor, true);
    FOR item IN
        SELECT * FROM unnest(sources, projects, names, issue_ids) WITH ORDINALITY AS item (source, project, fingerprint, issue_id, place)
        ORDER BY 1, 2, 3
    LOOP
        -- A twin that is opening an issue for the same fingerprint at this moment is waited for.
        INSERT INTO fingerprints (source, project, fingerprint, issue_id)
        VALUES (item.source, item.project, item.fingerprint, item.issue_id)
        ON CONFLICT ON CONSTRAINT fingerprints_pkey DO NOTHING;
        IF FOUND THEN
            held := item.issue_id;
        ELSE
            SELECT f.issue_id INTO held FROM fingerprints AS f
            WHERE f.source = item.source AND f.project = item.project AND f.fingerprint = item.fingerprint FOR UPDATE;
        END IF;
        current[item.place] := held;
    END LOOP;

    FOR place IN 1 .. cardinality(issue_ids) LOOP
        opened := issue_ids[place];
        previous := NULL;
        held := current[place];
        UPDATE issues AS i
        SET signal_count = i.signal_count + counts[place], last_signal_at = greatest(i.last_signal_at, now()),
            signal_severity = greatest(i.signal_severity, severities[place]),
            -- A severity that was not seen before raises the priority. Who lowered it is not overruled by more of the same.
            (priority, revision, updated_at) = (
                SELECT CASE WHEN raised THEN severities[place]::text::issue_priority ELSE i.priority END, i.revision + raised::integer,
                       CASE WHEN raised THEN now() ELSE i.updated_at END
                FROM (SELECT coalesce(severities[place] > i.signal_severity AND severities[place]::text::issue_priority < i.priority, false))
                    AS severity (raised))
        WHERE i.id = held AND held <> issue_ids[place] AND i.completed_at IS NULL AND i.deleted_at IS NULL
          AND projects[place] IN ('', coalesce(i.project_id, ''))
        RETURNING i.id, i.number, i.title, i.description, i.type, i.status, i.priority, i.parent_id, i.project_id, i.signal_source, i.hypothesis,
                  i.agent_session_id, i.agent_summary, i.commits, i.pull_requests, i.completed_at, i.created_at, i.updated_at, i.deleted_at,
                  i.signal_count, i.signal_severity, i.last_signal_at, i.revision
        INTO id, number, title, description, type, status, priority, parent_id, project_id, signal_source, hypothesis,
             agent_session_id, agent_summary, commits, pull_requests, completed_at, created_at, updated_at, deleted_at,
             signal_count, signal_severity, last_signal_at, revision;
        IF NOT FOUND AND held <> opened THEN
            -- As it is now, and stays: it may have been moved or deleted while this waited.
            SELECT i.id INTO previous FROM issues AS i
            WHERE i.id = held AND i.deleted_at IS NULL AND projects[place] IN ('', coalesce(i.project_id, '')) FOR SHARE;
            UPDATE fingerprints AS f SET issue_id = opened
            WHERE f.source = sources[place] AND f.project = projects[place] AND f.fingerprint = names[place];
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

-- The same for the two issues of a relation. Whoever replaces this function or that one has to say it again.
ALTER FUNCTION issue_relations_record() SET enable_seqscan = off;
