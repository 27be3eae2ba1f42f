CREATE TYPE issue_action AS ENUM ('created', 'updated', 'deleted');

CREATE TABLE issue_events (
    id         bigint         NOT NULL GENERATED ALWAYS AS IDENTITY CONSTRAINT issue_events_pkey PRIMARY KEY,
    issue_id   text           NOT NULL,
    project_id text,
    action     issue_action   NOT NULL,
    actor      text           NOT NULL DEFAULT coalesce(nullif(current_setting('loop.actor', true), ''), 'database'),
    changes    jsonb          NOT NULL CONSTRAINT issue_events_changes_check CHECK (jsonb_typeof(changes) = 'array'),
    created_at timestamptz(3) NOT NULL DEFAULT now()
);
COMMENT ON TABLE issue_events IS 'What was done to issues: written by the triggers of the issues themselves, in the transaction that does it, and never changed. So it needs no foreign key.';
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

-- What follows from other columns (completed_at, the counts of signals) and what counts changes is not recorded. Field by field, because that is five
-- times faster than to compare the rows as JSON.
CREATE FUNCTION issues_record_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed jsonb := '[]';
    done    issue_action := 'updated';
BEGIN
    IF NEW.title IS DISTINCT FROM OLD.title THEN
        changed := changed || jsonb_build_object('field', 'title', 'old', OLD.title, 'new', NEW.title);
    END IF;
    IF NEW.description IS DISTINCT FROM OLD.description THEN
        changed := changed || jsonb_build_object('field', 'description', 'old', OLD.description, 'new', NEW.description);
    END IF;
    IF NEW.type IS DISTINCT FROM OLD.type THEN
        changed := changed || jsonb_build_object('field', 'type', 'old', OLD.type, 'new', NEW.type);
    END IF;
    IF NEW.status IS DISTINCT FROM OLD.status THEN
        changed := changed || jsonb_build_object('field', 'status', 'old', OLD.status, 'new', NEW.status);
    END IF;
    IF NEW.priority IS DISTINCT FROM OLD.priority THEN
        changed := changed || jsonb_build_object('field', 'priority', 'old', OLD.priority, 'new', NEW.priority);
    END IF;
    IF NEW.parent_id IS DISTINCT FROM OLD.parent_id THEN
        changed := changed || jsonb_build_object('field', 'parentId', 'old', OLD.parent_id, 'new', NEW.parent_id);
    END IF;
    IF NEW.project_id IS DISTINCT FROM OLD.project_id THEN
        changed := changed || jsonb_build_object('field', 'projectId', 'old', OLD.project_id, 'new', NEW.project_id);
    END IF;
    IF NEW.signal_source IS DISTINCT FROM OLD.signal_source THEN
        changed := changed || jsonb_build_object('field', 'signalSource', 'old', OLD.signal_source, 'new', NEW.signal_source);
    END IF;
    IF NEW.signal_payload IS DISTINCT FROM OLD.signal_payload THEN
        changed := changed || jsonb_build_object('field', 'signalPayload', 'old', OLD.signal_payload, 'new', NEW.signal_payload);
    END IF;
    IF NEW.hypothesis IS DISTINCT FROM OLD.hypothesis THEN
        changed := changed || jsonb_build_object('field', 'hypothesis', 'old', OLD.hypothesis, 'new', NEW.hypothesis);
    END IF;
    IF NEW.agent_session_id IS DISTINCT FROM OLD.agent_session_id THEN
        changed := changed || jsonb_build_object('field', 'agentSessionId', 'old', OLD.agent_session_id, 'new', NEW.agent_session_id);
    END IF;
    IF NEW.agent_summary IS DISTINCT FROM OLD.agent_summary THEN
        changed := changed || jsonb_build_object('field', 'agentSummary', 'old', OLD.agent_summary, 'new', NEW.agent_summary);
    END IF;
    IF NEW.commits IS DISTINCT FROM OLD.commits THEN
        changed := changed || jsonb_build_object('field', 'commits', 'old', OLD.commits, 'new', NEW.commits);
    END IF;
    IF NEW.pull_requests IS DISTINCT FROM OLD.pull_requests THEN
        changed := changed || jsonb_build_object('field', 'pullRequests', 'old', OLD.pull_requests, 'new', NEW.pull_requests);
    END IF;
    IF NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL THEN
        done := 'deleted';
    END IF;
    IF changed <> '[]' OR done = 'deleted' THEN
        INSERT INTO issue_events (issue_id, project_id, action, changes) VALUES (NEW.id, NEW.project_id, done, changed);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER issues_record_changed AFTER UPDATE ON issues FOR EACH ROW EXECUTE FUNCTION issues_record_changed();

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
