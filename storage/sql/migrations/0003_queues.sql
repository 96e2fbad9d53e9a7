-- Queues: files to fetch, messages to send, history to import; app state and device lists.

-- The file of a message, and how far its fetching is. What the sender claims has no checks: it
-- is shown, not believed.
CREATE TABLE media (
    connection_id integer,
    message_id bigint,
    kind text NOT NULL,                        -- selects the keys
    mimetype text,                             -- claimed by the sender
    size bigint,                               -- claimed by the sender
    name text,                                 -- claimed by the sender
    sha256 bytea NOT NULL DEFAULT '',          -- claimed by the sender; empty: not told
    live boolean NOT NULL DEFAULT true,        -- not from the history: fetched first
    state text NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'stored', 'expired', 'failed', 'skipped', 'removed')),
    attempts integer NOT NULL DEFAULT 0,
    claimed boolean NOT NULL DEFAULT false,    -- a worker has it, until next_attempt_at
    next_attempt_at timestamptz,               -- NULL: at once
    direct_path text,                          -- where it lies since it was uploaded again
    blob_sha256 bytea CHECK (length(blob_sha256) = 32),
    blob_size bigint CHECK (blob_size >= 0),
    error text,
    stored_at timestamptz,
    PRIMARY KEY (connection_id, message_id),
    FOREIGN KEY (connection_id, message_id) REFERENCES messages,
    CHECK (state = 'pending' OR NOT claimed),
    CHECK ((state IN ('stored', 'removed'))
        = (blob_sha256 IS NOT NULL AND blob_size IS NOT NULL AND stored_at IS NOT NULL))
) WITH (fillfactor = 80);

CREATE INDEX media_due ON media (live DESC, next_attempt_at NULLS FIRST, message_id)
    WHERE state = 'pending';
CREATE INDEX media_age ON media (stored_at) WHERE state = 'stored';
CREATE INDEX media_blob ON media (blob_sha256) WHERE state = 'stored';

-- Messages to send. States move by rank: see outbox_rank in queues.sql.
CREATE TABLE outbox (
    connection_id integer REFERENCES connections,
    id bigint GENERATED ALWAYS AS IDENTITY,    -- the order of sending
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 512),
    external_id text NOT NULL CHECK (length(external_id) BETWEEN 1 AND 512),
    kind text NOT NULL CHECK (length(kind) BETWEEN 1 AND 64),
    chat text NOT NULL CHECK (length(chat) BETWEEN 1 AND 512),
    body jsonb NOT NULL,
    fingerprint bytea NOT NULL CHECK (length(fingerprint) = 32),  -- of kind, chat and body
    state text NOT NULL CHECK (state IN (
        'queued', 'sending', 'unknown', 'failed', 'sent', 'delivered', 'read', 'played')),
    reason text,
    payload bytea,                             -- the composed plaintext, for a bounded time
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,           -- when it came into its state
    sent_at timestamptz,
    PRIMARY KEY (connection_id, id),
    UNIQUE (connection_id, key),
    UNIQUE (connection_id, external_id)
) WITH (fillfactor = 70);

CREATE INDEX outbox_waiting ON outbox (connection_id, state, id)
    WHERE state IN ('queued', 'sending');
CREATE INDEX outbox_payloads ON outbox (created_at) WHERE payload IS NOT NULL;

-- Chunks of history that the phone offered.
CREATE TABLE history_chunks (
    connection_id integer REFERENCES connections,
    key text,                                  -- stanza id of the offer
    id bigint GENERATED ALWAYS AS IDENTITY,
    sealed bytea,                              -- the notification; gone once it is imported
    sync_type text NOT NULL,
    chunk_order integer NOT NULL,
    progress integer NOT NULL,
    request_id text,
    state text NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'importing', 'done', 'failed')),
    position bigint NOT NULL DEFAULT 0 CHECK (position >= 0),
    total bigint NOT NULL DEFAULT 0 CHECK (total >= 0),
    error text,
    offered_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, key),
    CHECK ((state = 'done') = (sealed IS NULL))
) WITH (fillfactor = 70);

CREATE INDEX history_chunks_open ON history_chunks ((sync_type = 'on_demand') DESC, id)
    WHERE state IN ('pending', 'importing');

CREATE TABLE history_chats (
    connection_id integer REFERENCES connections,
    chat text,
    offered bigint NOT NULL,
    stored bigint NOT NULL,
    duplicate bigint NOT NULL,
    failed bigint NOT NULL,
    PRIMARY KEY (connection_id, chat)
) WITH (fillfactor = 70);

-- Collections of app state: verified version, hash and index.
CREATE TABLE app_state (
    connection_id integer REFERENCES connections,
    collection text,
    version bigint NOT NULL CHECK (version >= 0),
    hash bytea NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, collection)
);

CREATE TABLE app_state_macs (
    connection_id integer,
    collection text,
    index_mac bytea,
    value_mac bytea NOT NULL,
    PRIMARY KEY (connection_id, collection, index_mac),
    FOREIGN KEY (connection_id, collection) REFERENCES app_state ON DELETE CASCADE
);

-- The devices of an account as last heard; none: ask again.
CREATE TABLE device_lists (
    connection_id integer REFERENCES connections,
    account text CHECK (length(account) BETWEEN 1 AND 512),
    devices integer[] NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, account)
);
