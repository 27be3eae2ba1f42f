CREATE TYPE project_status AS ENUM ('backlog', 'planned', 'active', 'paused', 'completed', 'canceled');
CREATE TYPE project_health AS ENUM ('on_track', 'at_risk', 'off_track');
CREATE TYPE goal_status AS ENUM ('active', 'achieved', 'abandoned');

CREATE TABLE projects (
    id          text           NOT NULL CONSTRAINT projects_pkey PRIMARY KEY,
    name        text           NOT NULL CONSTRAINT projects_name_check CHECK (char_length(name) BETWEEN 1 AND 500),
    description text,
    status      project_status NOT NULL DEFAULT 'backlog',
    health      project_health NOT NULL DEFAULT 'on_track',
    goal_id     text,
    created_at  timestamptz(3) NOT NULL DEFAULT now(),
    updated_at  timestamptz(3) NOT NULL DEFAULT now(),
    deleted_at  timestamptz(3)
);
COMMENT ON TABLE projects IS 'What issues belong to, and what an API key can be bound to.';

CREATE TABLE goals (
    id            text             NOT NULL CONSTRAINT goals_pkey PRIMARY KEY,
    title         text             NOT NULL CONSTRAINT goals_title_check CHECK (char_length(title) BETWEEN 1 AND 500),
    description   text,
    metric        text,
    target_value  double precision CONSTRAINT goals_target_value_check
                                   CHECK (target_value > '-Infinity' AND target_value < 'Infinity'),
    current_value double precision CONSTRAINT goals_current_value_check
                                   CHECK (current_value > '-Infinity' AND current_value < 'Infinity'),
    unit          text,
    status        goal_status      NOT NULL DEFAULT 'active',
    project_id    text             CONSTRAINT goals_project_id_fkey REFERENCES projects (id),
    created_at    timestamptz(3)   NOT NULL DEFAULT now(),
    updated_at    timestamptz(3)   NOT NULL DEFAULT now(),
    deleted_at    timestamptz(3)
);
COMMENT ON COLUMN goals.target_value IS 'In unit.';
COMMENT ON COLUMN goals.current_value IS 'In unit.';

ALTER TABLE projects ADD CONSTRAINT projects_goal_id_fkey FOREIGN KEY (goal_id) REFERENCES goals (id);

CREATE INDEX projects_goal_id_idx ON projects (goal_id);
CREATE INDEX projects_created_at_idx ON projects (created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX goals_project_id_idx ON goals (project_id, created_at DESC, id DESC);
CREATE INDEX goals_created_at_idx ON goals (created_at DESC, id DESC) WHERE deleted_at IS NULL;
