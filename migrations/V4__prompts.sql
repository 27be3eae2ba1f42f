CREATE TYPE version_status AS ENUM ('active', 'draft', 'retired');

CREATE TABLE prompt_templates (
    id                text           NOT NULL CONSTRAINT prompt_templates_pkey PRIMARY KEY,
    slug              text           NOT NULL
                      CONSTRAINT prompt_templates_slug_check CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND char_length(slug) <= 200),
    name              text           NOT NULL CONSTRAINT prompt_templates_name_check CHECK (char_length(name) BETWEEN 1 AND 500),
    description       text,
    conditions        jsonb          NOT NULL DEFAULT '{}'
                      CONSTRAINT prompt_templates_conditions_check CHECK (jsonb_typeof(conditions) = 'object'),
    specificity       smallint       NOT NULL DEFAULT 10 CONSTRAINT prompt_templates_specificity_check CHECK (specificity BETWEEN 0 AND 100),
    project_id        text           CONSTRAINT prompt_templates_project_id_fkey REFERENCES projects (id),
    active_version_id text,
    last_version      integer        NOT NULL DEFAULT 0,
    created_at        timestamptz(3) NOT NULL DEFAULT now(),
    updated_at        timestamptz(3) NOT NULL DEFAULT now(),
    deleted_at        timestamptz(3)
);
COMMENT ON COLUMN prompt_templates.conditions IS 'When to use it.';
COMMENT ON COLUMN prompt_templates.last_version IS 'The number of the newest version. Counting here, under the row''s lock, makes numbers without gaps.';
COMMENT ON COLUMN prompt_templates.active_version_id IS 'The version in use. Writing it makes that version active and retires the one before.';
CREATE UNIQUE INDEX prompt_templates_slug_key ON prompt_templates (slug) WHERE deleted_at IS NULL;
CREATE INDEX prompt_templates_project_id_idx ON prompt_templates (project_id, created_at DESC, id DESC);
CREATE INDEX prompt_templates_created_at_idx ON prompt_templates (created_at DESC, id DESC) WHERE deleted_at IS NULL;

CREATE TABLE prompt_versions (
    id              text             NOT NULL CONSTRAINT prompt_versions_pkey PRIMARY KEY,
    template_id     text             NOT NULL CONSTRAINT prompt_versions_template_id_fkey REFERENCES prompt_templates (id),
    version         integer          NOT NULL CONSTRAINT prompt_versions_version_check CHECK (version >= 1),
    content         text             NOT NULL CONSTRAINT prompt_versions_content_check CHECK (content <> ''),
    changelog       text,
    author_type     author_type      NOT NULL,
    author_name     text             NOT NULL CONSTRAINT prompt_versions_author_name_check CHECK (author_name <> ''),
    status          version_status   NOT NULL DEFAULT 'draft',
    usage_count     bigint           NOT NULL DEFAULT 0 CONSTRAINT prompt_versions_usage_count_check CHECK (usage_count >= 0),
    completion_rate double precision CONSTRAINT prompt_versions_completion_rate_check CHECK (completion_rate BETWEEN 0 AND 1),
    avg_duration_ms double precision CONSTRAINT prompt_versions_avg_duration_ms_check CHECK (avg_duration_ms >= 0),
    created_at      timestamptz(3)   NOT NULL DEFAULT now(),
    updated_at      timestamptz(3)   NOT NULL DEFAULT now(),
    deleted_at      timestamptz(3),
    CONSTRAINT prompt_versions_template_id_version_key UNIQUE (template_id, version),
    CONSTRAINT prompt_versions_id_template_id_key UNIQUE (id, template_id)
);
-- At most one version of a template is in use, whatever writes it.
CREATE UNIQUE INDEX prompt_versions_active_key ON prompt_versions (template_id) WHERE status = 'active';

-- The version in use is one of the template's own.
ALTER TABLE prompt_templates ADD CONSTRAINT prompt_templates_active_version_id_fkey
    FOREIGN KEY (active_version_id, id) REFERENCES prompt_versions (id, template_id);
CREATE INDEX prompt_templates_active_version_id_idx ON prompt_templates (active_version_id);

-- Runs under the template row's lock, so promotions of one template follow one another; OLD is what the one before left.
CREATE FUNCTION prompt_templates_activate_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE prompt_versions SET status = 'retired', updated_at = now() WHERE id = OLD.active_version_id AND status = 'active';
    UPDATE prompt_versions SET status = 'active', updated_at = now() WHERE id = NEW.active_version_id AND status <> 'active';
    RETURN NULL;
END
$$;
CREATE TRIGGER prompt_templates_activate_version AFTER UPDATE OF active_version_id ON prompt_templates
    FOR EACH ROW WHEN (NEW.active_version_id IS DISTINCT FROM OLD.active_version_id) EXECUTE FUNCTION prompt_templates_activate_version();

CREATE TABLE prompt_reviews (
    id           text           NOT NULL CONSTRAINT prompt_reviews_pkey PRIMARY KEY,
    version_id   text           NOT NULL CONSTRAINT prompt_reviews_version_id_fkey REFERENCES prompt_versions (id),
    issue_id     text           NOT NULL CONSTRAINT prompt_reviews_issue_id_fkey REFERENCES issues (id),
    clarity      smallint       NOT NULL CONSTRAINT prompt_reviews_clarity_check CHECK (clarity BETWEEN 1 AND 5),
    completeness smallint       NOT NULL CONSTRAINT prompt_reviews_completeness_check CHECK (completeness BETWEEN 1 AND 5),
    relevance    smallint       NOT NULL CONSTRAINT prompt_reviews_relevance_check CHECK (relevance BETWEEN 1 AND 5),
    feedback     text,
    author_type  author_type    NOT NULL,
    created_at   timestamptz(3) NOT NULL DEFAULT now(),
    updated_at   timestamptz(3) NOT NULL DEFAULT now(),
    deleted_at   timestamptz(3)
);
CREATE INDEX prompt_reviews_version_id_idx ON prompt_reviews (version_id, created_at DESC, id DESC);
CREATE INDEX prompt_reviews_issue_id_idx ON prompt_reviews (issue_id);
