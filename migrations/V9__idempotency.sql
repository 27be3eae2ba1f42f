CREATE TABLE idempotency_keys (
    owner      text           NOT NULL,
    key        text           NOT NULL,
    request    bytea          NOT NULL CONSTRAINT idempotency_keys_request_check CHECK (octet_length(request) = 32),
    status     smallint       NOT NULL,
    answer     bytea          NOT NULL,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (owner, key)
);
COMMENT ON TABLE idempotency_keys IS 'Requests that were done, and how they were answered. Written in the transaction that does what they ask, and kept for 24 hours.';
COMMENT ON COLUMN idempotency_keys.owner IS 'Whose key it is: the id of an API key.';
COMMENT ON COLUMN idempotency_keys.request IS 'SHA-256 of the request, so that the key is not used for another one.';
CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at);
