CREATE TYPE api_key_role AS ENUM ('admin', 'write', 'read');

CREATE TABLE api_keys (
    id                   text           NOT NULL CONSTRAINT api_keys_pkey PRIMARY KEY,
    name                 text           NOT NULL CONSTRAINT api_keys_name_check CHECK (char_length(name) BETWEEN 1 AND 500),
    prefix               text           NOT NULL,
    key_hash             bytea          NOT NULL CONSTRAINT api_keys_key_hash_check CHECK (octet_length(key_hash) = 32)
                                        CONSTRAINT api_keys_key_hash_key UNIQUE,
    previous_key_hash    bytea          CONSTRAINT api_keys_previous_key_hash_check CHECK (octet_length(previous_key_hash) = 32)
                                        CONSTRAINT api_keys_previous_key_hash_key UNIQUE,
    previous_valid_until timestamptz(3),
    project_id           text           CONSTRAINT api_keys_project_id_fkey REFERENCES projects (id),
    role                 api_key_role   NOT NULL,
    active               boolean        NOT NULL DEFAULT true,
    last_used_at         timestamptz(3),
    expires_at           timestamptz(3),
    created_at           timestamptz(3) NOT NULL DEFAULT now(),
    updated_at           timestamptz(3) NOT NULL DEFAULT now(),
    deleted_at           timestamptz(3),
    CONSTRAINT api_keys_previous_check CHECK ((previous_key_hash IS NULL) = (previous_valid_until IS NULL))
);
COMMENT ON COLUMN api_keys.prefix IS 'The first characters of the key, to recognise it by.';
COMMENT ON COLUMN api_keys.key_hash IS 'SHA-256 of the whole key, which has 256 random bits, so that no salt or slow hash is needed.';
COMMENT ON COLUMN api_keys.previous_key_hash IS 'The key before the last rotation, which opens until previous_valid_until.';
CREATE INDEX api_keys_project_id_idx ON api_keys (project_id);
CREATE INDEX api_keys_created_at_idx ON api_keys (created_at DESC, id DESC) WHERE deleted_at IS NULL;
