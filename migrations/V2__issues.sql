CREATE TYPE issue_type AS ENUM ('bug', 'feature', 'task', 'improvement', 'signal', 'hypothesis', 'plan', 'monitor');
CREATE TYPE issue_status AS ENUM ('triage', 'backlog', 'open', 'in_progress', 'resolved', 'closed');
-- The most urgent first, so that ascending order is the order of work.
CREATE TYPE issue_priority AS ENUM ('critical', 'high', 'medium', 'low');
CREATE TYPE relation_type AS ENUM ('blocks', 'blocked_by', 'related', 'duplicate');
CREATE TYPE author_type AS ENUM ('human', 'agent');

CREATE TABLE issues (
    id               text           NOT NULL CONSTRAINT issues_pkey PRIMARY KEY,
    number           bigint         NOT NULL GENERATED ALWAYS AS IDENTITY CONSTRAINT issues_number_key UNIQUE,
    title            text           NOT NULL CONSTRAINT issues_title_check CHECK (char_length(title) BETWEEN 1 AND 500),
    description      text,
    type             issue_type     NOT NULL DEFAULT 'task',
    status           issue_status   NOT NULL DEFAULT 'open',
    priority         issue_priority NOT NULL DEFAULT 'medium',
    parent_id        text           CONSTRAINT issues_parent_id_fkey REFERENCES issues (id)
                                    CONSTRAINT issues_parent_self_check CHECK (parent_id <> id),
    project_id       text           CONSTRAINT issues_project_id_fkey REFERENCES projects (id),
    signal_source    text,
    signal_payload   jsonb          CONSTRAINT issues_signal_payload_check CHECK (jsonb_typeof(signal_payload) = 'object'),
    hypothesis       jsonb          CONSTRAINT issues_hypothesis_check CHECK (jsonb_typeof(hypothesis) = 'object'),
    agent_session_id text,
    agent_summary    text,
    commits          jsonb          CONSTRAINT issues_commits_check CHECK (jsonb_typeof(commits) = 'array'),
    pull_requests    jsonb          CONSTRAINT issues_pull_requests_check CHECK (jsonb_typeof(pull_requests) = 'array'),
    completed_at     timestamptz(3),
    created_at       timestamptz(3) NOT NULL DEFAULT now(),
    updated_at       timestamptz(3) NOT NULL DEFAULT now(),
    deleted_at       timestamptz(3),
    CONSTRAINT issues_completed_at_check CHECK ((status IN ('resolved', 'closed')) = (completed_at IS NOT NULL))
);
COMMENT ON COLUMN issues.number IS 'For people; ascending, with gaps.';
COMMENT ON COLUMN issues.parent_id IS 'One level deep: held by the triggers issues_parent_insert_check and issues_parent_update_check.';
COMMENT ON COLUMN issues.signal_payload IS 'What the signal said; not read by lists.';
COMMENT ON COLUMN issues.completed_at IS 'When the status became resolved or closed; null in every other status.';

CREATE INDEX issues_parent_id_idx ON issues (parent_id);
CREATE INDEX issues_project_id_created_at_idx ON issues (project_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX issues_project_id_status_idx ON issues (project_id, status);
CREATE INDEX issues_project_id_status_created_at_idx ON issues (project_id, status, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX issues_created_at_idx ON issues (created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX issues_updated_at_idx ON issues (updated_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX issues_priority_idx ON issues (priority, id) WHERE deleted_at IS NULL;
CREATE INDEX issues_status_created_at_idx ON issues (status, created_at DESC, id DESC) WHERE deleted_at IS NULL;

-- What a search finds an issue by. Only the first 100,000 characters count: a text search vector cannot be larger than 1 MiB, and a longer
-- description must not be refused for that. The cost is what it takes, in PL/pgSQL so that the planner does not look inside: of to_tsvector
-- it believes a tenth, and would rather make the words of every issue anew, in the order of a list, than ask the index.
CREATE FUNCTION issue_words(title text, description text) RETURNS tsvector LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 2500 AS $$
BEGIN
    RETURN to_tsvector('simple', title || ' ' || left(coalesce(description, ''), 100000));
END
$$;
-- Not partial: of a partial index the planner does not use the statistics, which tell it the frequent words from the rare ones.
CREATE INDEX issues_text_idx ON issues USING gin (issue_words(title, description));

-- A parent has no parent, and an issue with children cannot become a child. The share lock makes whoever gives the parent a parent of
-- its own at this moment wait for us, and us for them; the row itself is locked before this runs. Every statement in here sees what was
-- committed while it waited, which one statement with the whole rule in it would not.
CREATE FUNCTION issues_check_parent() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    parent issues%ROWTYPE;
BEGIN
    SELECT * INTO parent FROM issues WHERE id = NEW.parent_id FOR SHARE;
    IF parent.id IS NULL OR parent.deleted_at IS NOT NULL THEN
        RAISE foreign_key_violation USING CONSTRAINT = 'issues_parent_id_fkey', MESSAGE = 'the parent does not exist';
    END IF;
    IF EXISTS (SELECT FROM issues WHERE id = parent.parent_id AND deleted_at IS NULL) THEN
        RAISE check_violation USING CONSTRAINT = 'issues_parent_depth_check', MESSAGE = 'the parent has a parent itself';
    END IF;
    IF EXISTS (SELECT FROM issues WHERE parent_id = NEW.id AND deleted_at IS NULL) THEN
        RAISE check_violation USING CONSTRAINT = 'issues_parent_children_check', MESSAGE = 'the issue has children';
    END IF;
    RETURN NEW;
END
$$;
-- Not fired when a parent that stays the same is written again, so that an issue whose parent was deleted can still be changed.
CREATE TRIGGER issues_parent_insert_check BEFORE INSERT ON issues
    FOR EACH ROW WHEN (NEW.parent_id IS NOT NULL AND NEW.parent_id <> NEW.id) EXECUTE FUNCTION issues_check_parent();
CREATE TRIGGER issues_parent_update_check BEFORE UPDATE OF parent_id ON issues
    FOR EACH ROW WHEN (NEW.parent_id IS NOT NULL AND NEW.parent_id <> NEW.id AND NEW.parent_id IS DISTINCT FROM OLD.parent_id)
    EXECUTE FUNCTION issues_check_parent();

CREATE TABLE labels (
    id         text           NOT NULL CONSTRAINT labels_pkey PRIMARY KEY,
    name       text           NOT NULL CONSTRAINT labels_name_check CHECK (char_length(name) BETWEEN 1 AND 100),
    name_key   text           NOT NULL,
    color      text           NOT NULL CONSTRAINT labels_color_check CHECK (char_length(color) BETWEEN 1 AND 50),
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    updated_at timestamptz(3) NOT NULL DEFAULT now(),
    deleted_at timestamptz(3)
);
COMMENT ON TABLE labels IS 'Shared by all projects.';
COMMENT ON COLUMN labels.name_key IS 'The name in lower case, as Unicode has it. Not lower(name): that depends on the locale of the database.';
CREATE UNIQUE INDEX labels_name_key ON labels (name_key) WHERE deleted_at IS NULL;
CREATE INDEX labels_created_at_idx ON labels (created_at DESC, id DESC) WHERE deleted_at IS NULL;

CREATE TABLE issue_labels (
    issue_id   text           NOT NULL CONSTRAINT issue_labels_issue_id_fkey REFERENCES issues (id),
    label_id   text           NOT NULL CONSTRAINT issue_labels_label_id_fkey REFERENCES labels (id),
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT issue_labels_pkey PRIMARY KEY (issue_id, label_id)
);
CREATE INDEX issue_labels_label_id_idx ON issue_labels (label_id);

-- Called for an issue's row that the calling statement has just locked. What is in here sees what was committed while that waited, so of
-- two callers at once the second one's labels hold, and not both.
CREATE FUNCTION issue_labels_replace(issue text, labels text[]) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM issue_labels AS l WHERE l.issue_id = issue AND l.label_id <> ALL (labels);
    INSERT INTO issue_labels (issue_id, label_id) SELECT issue, wanted.id FROM unnest(labels) AS wanted (id) ON CONFLICT DO NOTHING;
    RETURN true;
END
$$;

CREATE TABLE issue_relations (
    id               text           NOT NULL CONSTRAINT issue_relations_pkey PRIMARY KEY,
    type             relation_type  NOT NULL,
    issue_id         text           NOT NULL CONSTRAINT issue_relations_issue_id_fkey REFERENCES issues (id),
    related_issue_id text           NOT NULL CONSTRAINT issue_relations_related_issue_id_fkey REFERENCES issues (id),
    created_at       timestamptz(3) NOT NULL DEFAULT now(),
    updated_at       timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT issue_relations_self_check CHECK (issue_id <> related_issue_id),
    CONSTRAINT issue_relations_pair_key UNIQUE (issue_id, related_issue_id, type)
);
CREATE INDEX issue_relations_related_issue_id_idx ON issue_relations (related_issue_id);

CREATE TABLE comments (
    id          text           NOT NULL CONSTRAINT comments_pkey PRIMARY KEY,
    body        text           NOT NULL CONSTRAINT comments_body_check CHECK (body <> ''),
    issue_id    text           NOT NULL CONSTRAINT comments_issue_id_fkey REFERENCES issues (id),
    author_name text           NOT NULL CONSTRAINT comments_author_name_check CHECK (author_name <> ''),
    author_type author_type    NOT NULL,
    parent_id   text,
    thread_id   text           NOT NULL,
    depth       smallint       NOT NULL DEFAULT 0 CONSTRAINT comments_depth_check CHECK (depth BETWEEN 0 AND 32),
    created_at  timestamptz(3) NOT NULL DEFAULT now(),
    updated_at  timestamptz(3) NOT NULL DEFAULT now(),
    deleted_at  timestamptz(3),
    CONSTRAINT comments_id_issue_id_key UNIQUE (id, issue_id),
    -- A reply is about the same issue as what it replies to.
    CONSTRAINT comments_parent_id_fkey FOREIGN KEY (parent_id, issue_id) REFERENCES comments (id, issue_id),
    CONSTRAINT comments_thread_id_fkey FOREIGN KEY (thread_id) REFERENCES comments (id),
    CONSTRAINT comments_thread_check CHECK ((parent_id IS NULL) = (thread_id = id) AND (parent_id IS NULL) = (depth = 0))
);
COMMENT ON COLUMN comments.thread_id IS 'The first comment of the thread: itself, if it replies to none.';
COMMENT ON COLUMN comments.depth IS 'How many replies up the first comment of the thread is. Bounded, so that nested JSON is.';
CREATE INDEX comments_issue_id_idx ON comments (issue_id, created_at, id);
CREATE INDEX comments_parent_id_idx ON comments (parent_id);
CREATE INDEX comments_thread_id_idx ON comments (thread_id);
