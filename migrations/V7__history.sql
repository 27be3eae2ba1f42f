CREATE TYPE issue_action AS ENUM ('created', 'updated', 'deleted');

CREATE TABLE issue_events (
    id         bigint         NOT NULL GENERATED ALWAYS AS IDENTITY CONSTRAINT issue_events_pkey PRIMARY KEY,
    issue_id   text           NOT NULL CONSTRAINT issue_events_issue_id_fkey REFERENCES issues (id),
    project_id text,
    action     issue_action   NOT NULL,
    actor      text           NOT NULL DEFAULT coalesce(nullif(current_setting('loop.actor', true), ''), 'database'),
    changes    jsonb          NOT NULL CONSTRAINT issue_events_changes_check CHECK (jsonb_typeof(changes) = 'array'),
    created_at timestamptz(3) NOT NULL DEFAULT now()
);
COMMENT ON TABLE issue_events IS 'What was done to issues: written by triggers, in the transaction that does it, and never changed.';
COMMENT ON COLUMN issue_events.project_id IS 'The project of the issue after the change.';
COMMENT ON COLUMN issue_events.actor IS 'Who did it: a type (key, webhook, admin, app), and which of them behind a colon. Each statement that changes an issue says it in the setting loop.actor, which lasts until its transaction ends; database where somebody wrote past Loop.';
COMMENT ON COLUMN issue_events.changes IS '[{"field": text, "old": any, "new": any}], fields by their names on the wire';
CREATE INDEX issue_events_issue_id_idx ON issue_events (issue_id, id DESC);
CREATE INDEX issue_events_project_id_idx ON issue_events (project_id, id DESC);

CREATE FUNCTION issue_events_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE restrict_violation USING MESSAGE = 'the history of issues is not changed';
END
$$;
CREATE TRIGGER issue_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON issue_events
    FOR EACH STATEMENT EXECUTE FUNCTION issue_events_refuse();

CREATE FUNCTION issues_record_created() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO issue_events (issue_id, project_id, action, changes)
    SELECT added.id, added.project_id, 'created', '[]' FROM added ORDER BY added.number;
    RETURN NULL;
END
$$;
CREATE TRIGGER issues_record_created AFTER INSERT ON issues
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION issues_record_created();

-- What follows from other columns (completed_at, the counts of signals) and what counts changes is not recorded.
CREATE FUNCTION issues_record_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO issue_events (issue_id, project_id, action, changes)
    SELECT NEW.id, NEW.project_id, (CASE WHEN NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL THEN 'deleted' ELSE 'updated' END)::issue_action,
           (SELECT coalesce(jsonb_agg(jsonb_build_object('field', name.wire, 'old', was.value, 'new', now.value) ORDER BY name.place), '[]')
            FROM jsonb_each(to_jsonb(OLD)) AS was
            JOIN jsonb_each(to_jsonb(NEW)) AS now USING (key)
            JOIN (VALUES (1, 'title', 'title'), (2, 'description', 'description'), (3, 'type', 'type'), (4, 'status', 'status'),
                         (5, 'priority', 'priority'), (6, 'parent_id', 'parentId'), (7, 'project_id', 'projectId'),
                         (8, 'signal_source', 'signalSource'), (9, 'signal_payload', 'signalPayload'), (10, 'hypothesis', 'hypothesis'),
                         (11, 'agent_session_id', 'agentSessionId'), (12, 'agent_summary', 'agentSummary'), (13, 'commits', 'commits'),
                         (14, 'pull_requests', 'pullRequests')) AS name (place, key, wire) USING (key)
            WHERE was.value IS DISTINCT FROM now.value);
    RETURN NULL;
END
$$;
CREATE TRIGGER issues_record_changed AFTER UPDATE ON issues
    FOR EACH ROW WHEN (
        (OLD.title, OLD.description, OLD.type, OLD.status, OLD.priority, OLD.parent_id, OLD.project_id, OLD.signal_source, OLD.signal_payload,
         OLD.hypothesis, OLD.agent_session_id, OLD.agent_summary, OLD.commits, OLD.pull_requests, OLD.deleted_at)
        IS DISTINCT FROM
        (NEW.title, NEW.description, NEW.type, NEW.status, NEW.priority, NEW.parent_id, NEW.project_id, NEW.signal_source, NEW.signal_payload,
         NEW.hypothesis, NEW.agent_session_id, NEW.agent_summary, NEW.commits, NEW.pull_requests, NEW.deleted_at))
    EXECUTE FUNCTION issues_record_changed();

-- Labels and relations are changes of the issues that have them. A relation is one of both its issues.
CREATE FUNCTION issue_labels_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO issue_events (issue_id, project_id, action, changes)
    SELECT i.id, i.project_id, 'updated',
           jsonb_build_array(jsonb_build_object('field', 'labels', 'old', OLD.label_id, 'new', NEW.label_id))
    FROM issues AS i WHERE i.id = coalesce(NEW.issue_id, OLD.issue_id);
    RETURN NULL;
END
$$;
CREATE TRIGGER issue_labels_record AFTER INSERT OR DELETE ON issue_labels FOR EACH ROW EXECUTE FUNCTION issue_labels_record();

CREATE FUNCTION issue_relations_record() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    relation issue_relations := coalesce(NEW, OLD);
    written jsonb := jsonb_build_object('id', relation.id, 'type', relation.type, 'issueId', relation.issue_id,
                                        'relatedIssueId', relation.related_issue_id);
BEGIN
    INSERT INTO issue_events (issue_id, project_id, action, changes)
    SELECT i.id, i.project_id, 'updated',
           jsonb_build_array(jsonb_build_object('field', 'relations', 'old', CASE TG_OP WHEN 'DELETE' THEN written END,
                                                'new', CASE TG_OP WHEN 'INSERT' THEN written END))
    FROM issues AS i WHERE i.id IN (relation.issue_id, relation.related_issue_id)
    ORDER BY i.id = relation.related_issue_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER issue_relations_record AFTER INSERT OR DELETE ON issue_relations FOR EACH ROW EXECUTE FUNCTION issue_relations_record();
