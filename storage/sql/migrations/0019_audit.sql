-- Who saw what messages said before they were deleted or changed; whether keys are as new as the
-- phones know them; a scope of tokens for the former content.

ALTER TABLE tokens DROP CONSTRAINT tokens_scopes_check;
ALTER TABLE tokens ADD CONSTRAINT tokens_scopes_check
    CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['read', 'operate', 'send', 'history']);

-- Edits and deletions by their time, for the list of changes.
CREATE INDEX messages_changes ON messages (sent_at, id) WHERE kind IN ('edit', 'revoke');

-- Every look at what messages said before they were deleted or changed; committed before it is
-- shown. Rows are never changed, and deleted only for their age: see changes.sql.
CREATE TABLE history_accesses (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    who text NOT NULL,                         -- the name of a token, or "control socket"
    token_id text,                             -- of a token
    uid bigint,                                -- of who used the control socket, where it is known
    what text NOT NULL CHECK (what IN ('message', 'media', 'changes', 'search', 'export')),
    query text,                                -- of a search: its words; of an export: its name
    connection text,                           -- None: of several
    conversations bigint[] NOT NULL,
    messages bigint[] NOT NULL,
    request_id text
);

CREATE INDEX history_accesses_age ON history_accesses (at);
CREATE INDEX history_accesses_messages ON history_accesses USING gin (messages);

-- Which database this is, and how far it has come: its epoch grows while a daemon uses it. A file in
-- the data directory remembers both, so that an older copy is recognised: see storage/epochs.py.
CREATE TABLE database_epoch (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    epoch bigint NOT NULL DEFAULT 0
);

-- Connections whose keys are older than what the phones and WhatsApp have seen of them.
CREATE TABLE stale_keys (
    connection_id integer PRIMARY KEY REFERENCES connections,
    found_at timestamptz NOT NULL,
    expected bigint NOT NULL,                  -- an epoch that the keys were used up to, at least
    accepted_at timestamptz                    -- they are to be renewed: see zapvisor recover
);

-- A backup of an older schema that was put back in the place of newer keys says so in this comment:
-- see sql/restored.sql.
INSERT INTO stale_keys (connection_id, found_at, expected)
SELECT d.connection_id, now(), 0 FROM device_identity d
WHERE obj_description('connections'::regclass) = 'zapvisor: older keys were put back';
COMMENT ON TABLE connections IS NULL;
