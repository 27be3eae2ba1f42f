CREATE TYPE signal_severity AS ENUM ('low', 'medium', 'high', 'critical');

CREATE TABLE signals (
    id         text            NOT NULL CONSTRAINT signals_pkey PRIMARY KEY,
    source     text            NOT NULL CONSTRAINT signals_source_check CHECK (char_length(source) BETWEEN 1 AND 200),
    source_id  text,
    type       text            NOT NULL CONSTRAINT signals_type_check CHECK (char_length(type) BETWEEN 1 AND 200),
    severity   signal_severity NOT NULL,
    metadata   jsonb           NOT NULL CONSTRAINT signals_metadata_check CHECK (jsonb_typeof(metadata) = 'object'),
    project_id text            CONSTRAINT signals_project_id_fkey REFERENCES projects (id),
    issue_id   text            NOT NULL CONSTRAINT signals_issue_id_fkey REFERENCES issues (id),
    created_at timestamptz(3)  NOT NULL DEFAULT now(),
    updated_at timestamptz(3)  NOT NULL DEFAULT now(),
    deleted_at timestamptz(3)
);
COMMENT ON COLUMN signals.source_id IS 'What the source calls it.';
COMMENT ON COLUMN signals.metadata IS '{"source": text, "rawPayload": object, "tags": [text]}';

CREATE INDEX signals_project_id_idx ON signals (project_id, created_at DESC, id DESC);
CREATE INDEX signals_issue_id_idx ON signals (issue_id);
CREATE INDEX signals_created_at_idx ON signals (created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX signals_source_idx ON signals (source, created_at DESC, id DESC) WHERE deleted_at IS NULL;
-- Only containment is asked, which this class answers with a smaller index than the default one.
CREATE INDEX signals_metadata_idx ON signals USING gin (metadata jsonb_path_ops);

CREATE TABLE deliveries (
    source          text           NOT NULL,
    project         text           NOT NULL,
    key             text           NOT NULL,
    signal_id       text           NOT NULL CONSTRAINT deliveries_signal_id_fkey REFERENCES signals (id),
    attempts        integer        NOT NULL DEFAULT 1,
    created_at      timestamptz(3) NOT NULL DEFAULT now(),
    last_attempt_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT deliveries_pkey PRIMARY KEY (source, project, key)
);
COMMENT ON TABLE deliveries IS 'What was taken in, by its provider''s name for it, so that a redelivery creates nothing. Written in the statement that writes the signal.';
COMMENT ON COLUMN deliveries.project IS 'The project it was delivered to; empty for none. The same event sent to two projects is two deliveries.';
COMMENT ON COLUMN deliveries.attempts IS 'How often it arrived.';
CREATE INDEX deliveries_signal_id_idx ON deliveries (signal_id);

-- A signal belongs where its issue does.
CREATE FUNCTION issues_move_signals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE signals SET project_id = NEW.project_id, updated_at = now() WHERE issue_id = NEW.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER issues_move_signals AFTER UPDATE OF project_id ON issues
    FOR EACH ROW WHEN (NEW.project_id IS DISTINCT FROM OLD.project_id) EXECUTE FUNCTION issues_move_signals();
