-- Tokens of the HTTP API. The secret of a token is not kept, only its hash.

CREATE TABLE tokens (
    id text PRIMARY KEY CHECK (id ~ '^[0-9a-f]{12}$'),
    name text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    scopes text[] NOT NULL
        CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['read', 'operate', 'send']),
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);

CREATE UNIQUE INDEX tokens_name ON tokens (name) WHERE revoked_at IS NULL;
