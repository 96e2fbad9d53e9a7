-- The schema as all migrations leave it, for reading; a test keeps it equal. Functions: functions.sql.
-- Connections and their sealed state, contacts, chats, conversations, messages.
-- Every key begins with the connection, so that the tables can be sharded on it unchanged.
--
-- What others say of something (a name, a receipt, a membership, a target) is kept under the
-- address they used and finds its contact on reading. So it may come before the contact does, and
-- stays right when two contacts turn out to be one person, or two again.

CREATE TABLE connections (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> ''),
    wanted boolean NOT NULL DEFAULT true,
    reopen_window interval NOT NULL CHECK (reopen_window >= interval '0'),
    reopen_from text NOT NULL CHECK (reopen_from IN ('closed_at', 'last_message')),
    team_reopens boolean NOT NULL,
    created_at timestamptz NOT NULL
);

-- One row per connection, changed by every batch and locked by it: at most one batch of a
-- connection is being written at a time, whoever writes it.
CREATE TABLE counters (
    connection_id integer PRIMARY KEY REFERENCES connections,
    arrivals bigint NOT NULL DEFAULT 0,        -- the last arrival number given
    messages bigint NOT NULL DEFAULT 0,        -- complete messages in the table
    undecryptable bigint NOT NULL DEFAULT 0,   -- placeholders still waiting for their message
    merged bigint NOT NULL DEFAULT 0,          -- stored twice, now once: see contact_merges
    duplicates bigint NOT NULL DEFAULT 0,
    quarantined bigint NOT NULL DEFAULT 0,
    last_message_at timestamptz,
    waiting bigint NOT NULL DEFAULT 0,         -- conversations by status: see figures.sql
    opened bigint NOT NULL DEFAULT 0,
    closed bigint NOT NULL DEFAULT 0,
    reopened bigint NOT NULL DEFAULT 0,        -- how often messages reopened them
    forgotten bigint NOT NULL DEFAULT 0,       -- not taken in again: see tombstones
    CHECK (arrivals = messages + undecryptable + merged)
) WITH (fillfactor = 50);

CREATE TABLE connection_events (
    connection_id integer NOT NULL REFERENCES connections,
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    previous text NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    sentence text NOT NULL,
    retry integer NOT NULL,
    until timestamptz,                         -- when that state ends by itself, if that is known
    PRIMARY KEY (connection_id, id)
);

CREATE INDEX connection_events_online ON connection_events (connection_id, id)
    WHERE state = 'online';
CREATE INDEX connection_events_age ON connection_events (connection_id, at);

-- One row per run of the daemon, with the last moment at which it was surely alive.
CREATE TABLE daemon_lives (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    began_at timestamptz NOT NULL,
    alive_at timestamptz NOT NULL,
    ended_at timestamptz                       -- it stopped in order; NULL: it runs, or died
) WITH (fillfactor = 50);

CREATE TABLE sync_stats (
    connection_id integer NOT NULL REFERENCES connections,
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    total bigint NOT NULL,
    processed bigint NOT NULL,
    skipped bigint NOT NULL,
    errors bigint NOT NULL,
    PRIMARY KEY (connection_id, id)
);

CREATE INDEX sync_stats_age ON sync_stats (connection_id, at);

-- Sums of sync_stats per quarter of an hour, for hours and days of any time zone.
CREATE TABLE sync_quarters (
    connection_id integer REFERENCES connections,
    quarter bigint,                            -- unix seconds / 900
    total bigint NOT NULL,
    processed bigint NOT NULL,
    skipped bigint NOT NULL,
    errors bigint NOT NULL,
    PRIMARY KEY (connection_id, quarter)
) WITH (fillfactor = 70);

-- Sealed records: AES-256-GCM, bound to connection, kind and key.
CREATE TABLE device_identity (
    connection_id integer PRIMARY KEY REFERENCES connections,
    jid text,                                  -- the own address, once paired
    sealed bytea NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE signal_sessions (
    connection_id integer REFERENCES connections,
    key text,
    sealed bytea NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, key)
) WITH (fillfactor = 70);

CREATE TABLE signal_identities (
    connection_id integer REFERENCES connections,
    key text,
    sealed bytea NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, key)
);

CREATE TABLE signal_prekeys (
    connection_id integer REFERENCES connections,
    key text,
    sealed bytea NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, key)
);

CREATE TABLE signal_sender_keys (
    connection_id integer REFERENCES connections,
    key text,
    sealed bytea NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, key)
) WITH (fillfactor = 70);

-- What the own phone told this device (keys, offers of history), kept for versions that use it.
CREATE TABLE peer_messages (
    connection_id integer REFERENCES connections,
    key text,
    sealed bytea NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, key)
);

CREATE TABLE app_state_keys (
    connection_id integer REFERENCES connections,
    key text,
    sealed bytea NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, key)
);

-- A person; the addresses (phone number, LID) are theirs.
CREATE TABLE contacts (
    connection_id integer REFERENCES connections,
    id bigint GENERATED ALWAYS AS IDENTITY,
    is_self boolean NOT NULL DEFAULT false,    -- the account itself: author of team messages
    created_at timestamptz NOT NULL,
    merged_into bigint,                        -- the contact that it turned out to be
    PRIMARY KEY (connection_id, id),
    FOREIGN KEY (connection_id, merged_into) REFERENCES contacts,
    CHECK (merged_into IS NULL OR NOT is_self)
);

CREATE UNIQUE INDEX contacts_self ON contacts (connection_id) WHERE is_self;

CREATE TABLE contact_addresses (
    connection_id integer,
    address text CHECK (length(address) BETWEEN 1 AND 512),
    contact_id bigint NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, address),
    FOREIGN KEY (connection_id, contact_id) REFERENCES contacts
);

CREATE INDEX contact_addresses_contact ON contact_addresses (connection_id, contact_id);

-- Names of people of people, by who gave them; an empty one: taken back.
CREATE TABLE contact_names (
    connection_id integer,
    address text,
    source text CHECK (source IN ('saved', 'business', 'push', 'username')),
    name text NOT NULL,
    at timestamptz NOT NULL,                   -- the epoch: unknown
    PRIMARY KEY (connection_id, address, source),
    FOREIGN KEY (connection_id, address) REFERENCES contact_addresses
) WITH (fillfactor = 70);

-- Two contacts that were found to be one person.
CREATE TABLE contact_merges (
    connection_id integer REFERENCES connections,
    id bigint GENERATED ALWAYS AS IDENTITY,
    survivor_id bigint NOT NULL,
    merged_id bigint NOT NULL,
    source text NOT NULL,                      -- where it was learned
    messages bigint NOT NULL DEFAULT 0,        -- that moved
    duplicates bigint NOT NULL DEFAULT 0,      -- stored under both identities, now once
    merged_at timestamptz NOT NULL,
    undone_at timestamptz,
    PRIMARY KEY (connection_id, id),
    FOREIGN KEY (connection_id, survivor_id) REFERENCES contacts,
    FOREIGN KEY (connection_id, merged_id) REFERENCES contacts
);

CREATE INDEX contact_merges_merged ON contact_merges (connection_id, merged_id);

-- What a merge changed, as it was before.
CREATE TABLE contact_merge_rows (
    connection_id integer,
    merge_id bigint,
    id bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL CHECK (
        kind IN ('address', 'chat', 'conversation', 'message', 'duplicate', 'media')),
    before jsonb NOT NULL,
    PRIMARY KEY (connection_id, merge_id, id),
    FOREIGN KEY (connection_id, merge_id) REFERENCES contact_merges
);

-- A direct chat is known by its contact, whatever address was used; a group by its own.
CREATE TABLE chats (
    connection_id integer REFERENCES connections,
    id bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL CHECK (kind IN ('direct', 'group')),
    address text NOT NULL CHECK (length(address) BETWEEN 1 AND 512),
    contact_id bigint,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, id),
    FOREIGN KEY (connection_id, contact_id) REFERENCES contacts,
    CHECK ((kind = 'direct') = (contact_id IS NOT NULL))
);

CREATE UNIQUE INDEX chats_direct ON chats (connection_id, contact_id) WHERE kind = 'direct';
CREATE UNIQUE INDEX chats_group ON chats (connection_id, address) WHERE kind = 'group';

CREATE TABLE conversations (
    connection_id integer,
    id bigint GENERATED ALWAYS AS IDENTITY,
    chat_id bigint NOT NULL,
    status text NOT NULL CHECK (status IN ('waiting', 'open', 'closed')),
    messages bigint NOT NULL DEFAULT 0,
    opened_at timestamptz NOT NULL,            -- time of its first message
    last_message_at timestamptz NOT NULL,
    closed_at timestamptz,
    reopened integer NOT NULL DEFAULT 0,       -- how often a message reopened it
    reopened_at timestamptz,
    merged_into bigint,                        -- when their contacts were found to be one person
    PRIMARY KEY (connection_id, id),
    FOREIGN KEY (connection_id, chat_id) REFERENCES chats,
    FOREIGN KEY (connection_id, merged_into) REFERENCES conversations,
    CHECK ((status = 'closed') = (closed_at IS NOT NULL)),
    CHECK (merged_into IS NULL OR status = 'closed')
) WITH (fillfactor = 70);

-- At most one live conversation per chat.
CREATE UNIQUE INDEX conversations_live ON conversations (connection_id, chat_id)
    WHERE status <> 'closed';
CREATE INDEX conversations_chat ON conversations (connection_id, chat_id, opened_at);

CREATE INDEX conversations_active ON conversations (last_message_at, id);

CREATE TABLE messages (
    connection_id integer,
    id bigint GENERATED BY DEFAULT AS IDENTITY,  -- given by apply_batch, to answer with it
    chat_id bigint NOT NULL,
    sender_id bigint NOT NULL,
    external_id text NOT NULL CHECK (length(external_id) BETWEEN 1 AND 512),
    conversation_id bigint NOT NULL,
    arrival bigint NOT NULL,                   -- order of arrival within the connection
    kind text NOT NULL CHECK (length(kind) BETWEEN 1 AND 64),
    state text NOT NULL CHECK (state IN ('stored', 'undecryptable')),
    from_me boolean NOT NULL,
    lane text NOT NULL CHECK (lane IN ('live', 'history', 'side')),
    remote_timestamp bigint NOT NULL,          -- WhatsApp's time as received, however absurd
    sent_at timestamptz NOT NULL,              -- the same, or the arrival when it is absurd
    received_at timestamptz NOT NULL,
    filled_at timestamptz,                     -- a placeholder got its message
    retries integer NOT NULL DEFAULT 0,        -- how often it failed to decrypt
    reason text,                               -- why it does not decrypt
    text text,
    raw bytea NOT NULL,                        -- the plaintext as received
    target_id text CHECK (length(target_id) BETWEEN 1 AND 512),  -- what it changes or answers,
    target_author text CHECK (length(target_author) BETWEEN 1 AND 512),  -- and whose that is
    quoted_id text CHECK (length(quoted_id) BETWEEN 1 AND 512),
    quoted_author text CHECK (length(quoted_author) BETWEEN 1 AND 512),
    mentions text[],
    flags text[],
    detail jsonb,                              -- what the kind has besides text
    verdict text,                              -- it will never decrypt: what was tried
    erased_at timestamptz,                     -- its content was removed: see erasure.sql
    erased text CHECK (erased IN ('retention', 'forgotten')),
    PRIMARY KEY (connection_id, id),
    FOREIGN KEY (connection_id, conversation_id) REFERENCES conversations,
    FOREIGN KEY (connection_id, sender_id) REFERENCES contacts,
    CHECK ((state = 'undecryptable') = (kind = 'undecryptable')),
    CHECK (verdict IS NULL OR state = 'undecryptable'),
    CONSTRAINT messages_erased_dated CHECK ((erased IS NULL) = (erased_at IS NULL))
);

CREATE INDEX messages_conversation ON messages (connection_id, conversation_id, sent_at, arrival);

-- A message is stored once. The last index to be made: while the table is new and empty, all of
-- them look equally good to the planner, and it then takes the newest for the writer's look-up.
CREATE UNIQUE INDEX messages_once ON messages (connection_id, chat_id, sender_id, external_id);

-- Partial indexes: the writer's look-up cannot take them for the one above.
CREATE INDEX messages_target ON messages (connection_id, chat_id, target_id)
    WHERE target_id IS NOT NULL;
CREATE INDEX messages_waiting ON messages (connection_id, id)
    WHERE state = 'undecryptable' AND verdict IS NULL;
CREATE INDEX messages_unread ON messages (connection_id, conversation_id)
    WHERE state = 'undecryptable' AND verdict IS NULL;
CREATE INDEX messages_unknown ON messages (id) WHERE kind = 'unknown';
CREATE INDEX messages_addons ON messages (id)
    WHERE kind IN ('encrypted_reaction', 'encrypted_comment', 'secret_encrypted')
        OR kind = 'poll_vote' AND (detail -> 'options') IS NULL
        OR kind = 'event_response' AND (detail -> 'response') IS NULL;

-- A group as last heard, each part by itself.
CREATE TABLE groups (
    connection_id integer REFERENCES connections,
    address text CHECK (length(address) BETWEEN 1 AND 512),
    subject text,
    subject_at timestamptz,
    description text,
    description_at timestamptz,
    announce boolean,
    announce_at timestamptz,
    locked boolean,
    locked_at timestamptz,
    expiration integer,                        -- seconds of disappearing messages; 0: off
    expiration_at timestamptz,
    owner text,
    created_at timestamptz,
    members_at timestamptz,                    -- of the newest list of all members
    PRIMARY KEY (connection_id, address)
);

-- Who is in a group; who left since the newest list of all members is kept as not present.
CREATE TABLE group_members (
    connection_id integer,
    group_address text,
    address text CHECK (length(address) BETWEEN 1 AND 512),
    present boolean NOT NULL,
    role text NOT NULL CHECK (length(role) BETWEEN 1 AND 64),
    at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, group_address, address),
    FOREIGN KEY (connection_id, group_address) REFERENCES groups
);

-- Settings of a chat on the phone, each the newest known.
CREATE TABLE chat_settings (
    connection_id integer REFERENCES connections,
    address text CHECK (length(address) BETWEEN 1 AND 512),
    setting text CHECK (setting IN (
        'archived', 'muted_until', 'pinned', 'unread', 'read_until', 'expiration')),
    value jsonb NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, address, setting)
);

CREATE TABLE labels (
    connection_id integer REFERENCES connections,
    id text CHECK (length(id) BETWEEN 1 AND 512),
    name text NOT NULL,
    color integer NOT NULL,
    deleted boolean NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, id)
);

-- Which chats and messages have a label, or had one.
CREATE TABLE label_links (
    connection_id integer REFERENCES connections,
    chat text CHECK (length(chat) BETWEEN 1 AND 512),
    label text CHECK (length(label) BETWEEN 1 AND 512),
    message_id text,                           -- WhatsApp's; empty: the chat as a whole
    labelled boolean NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, chat, label, message_id)
);

-- How far messages of ours got with each recipient; may come before the message.
CREATE TABLE receipts (
    connection_id integer REFERENCES connections,
    external_id text CHECK (length(external_id) BETWEEN 1 AND 512),
    chat text CHECK (length(chat) BETWEEN 1 AND 512),
    recipient text CHECK (length(recipient) BETWEEN 1 AND 512),
    delivered_at timestamptz,
    read_at timestamptz,
    played_at timestamptz,
    PRIMARY KEY (connection_id, external_id, chat, recipient)
) WITH (fillfactor = 70);

-- Stanzas that carried no message, so that their redelivery is known.
CREATE TABLE handled_stanzas (
    connection_id integer REFERENCES connections,
    key text,
    handled_at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, key)
);

CREATE INDEX handled_stanzas_age ON handled_stanzas (connection_id, handled_at);

-- What could not be stored, byte for byte.
CREATE TABLE quarantine (
    connection_id integer REFERENCES connections,
    id bigint GENERATED ALWAYS AS IDENTITY,
    fingerprint text NOT NULL,                 -- the same for a redelivery
    chat text,
    sender text,
    external_id text,
    error text NOT NULL,
    stanza bytea NOT NULL,
    raw bytea NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    received_at timestamptz NOT NULL,
    last_attempt_at timestamptz NOT NULL,
    kept bytea,                                -- JSON: the message as read, all but its raw bytes
    opened boolean NOT NULL DEFAULT false,     -- its keys are used: it never decrypts again
    resolved_at timestamptz,
    resolution text,                           -- the verdict
    message_id bigint,                         -- what it became
    PRIMARY KEY (connection_id, id),
    UNIQUE (connection_id, fingerprint),
    CHECK ((resolved_at IS NULL) = (resolution IS NULL)),
    CHECK (message_id IS NULL OR resolved_at IS NOT NULL)
);

CREATE INDEX quarantine_open ON quarantine (id) WHERE resolved_at IS NULL;


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
CREATE INDEX media_newest ON media (message_id);

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

CREATE INDEX outbox_unsettled ON outbox (state)
    WHERE state IN ('queued', 'sending', 'unknown', 'failed');

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

-- How busy an account was, hour by hour: what is usual tells whether a silence is suspicious.
CREATE TABLE traffic_hours (
    connection_id integer REFERENCES connections,
    hour bigint,                               -- since the epoch
    active integer NOT NULL CHECK (active BETWEEN 0 AND 60),  -- minutes in which a message came
    minutes real NOT NULL CHECK (minutes BETWEEN 0 AND 60),   -- that were listened to
    PRIMARY KEY (connection_id, hour)
);

-- The gap ledger: each outage of a connection is a row, closed only when its counts match.
CREATE TABLE gaps (
    connection_id integer REFERENCES connections,
    id bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL CHECK (kind IN ('ended', 'silent', 'died', 'stopped', 'linked')),
    reason text NOT NULL,
    from_at timestamptz NOT NULL,              -- from then on nothing was received
    login text,                                -- of the life that drained the queue
    login_at timestamptz,
    horizon timestamptz,                       -- the same by WhatsApp's clock
    to_at timestamptz,                         -- the queue had ended; or the next outage began
    interrupted boolean NOT NULL DEFAULT false,      -- it did, and the queue had not ended
    device_replaced boolean NOT NULL DEFAULT false,  -- nobody will ever see the old one's queue
    counted bigint NOT NULL DEFAULT 0,         -- number of the last step of the login in here
    announced bigint CHECK (announced >= 0),
    announced_messages bigint CHECK (announced_messages >= 0),
    stored bigint NOT NULL DEFAULT 0,
    duplicate bigint NOT NULL DEFAULT 0,
    undecryptable bigint NOT NULL DEFAULT 0,
    quarantined bigint NOT NULL DEFAULT 0,
    other bigint NOT NULL DEFAULT 0,
    covered bigint NOT NULL DEFAULT 0,         -- came in a later drain
    missing bigint NOT NULL GENERATED ALWAYS AS (greatest(0, coalesce(announced, 0)
        - stored - duplicate - undecryptable - quarantined - other - covered)) STORED,
    covered_by bigint,                         -- the gap in whose drain the rest came
    closed_at timestamptz,
    resolution text CHECK (resolution IN ('complete', 'covered', 'given_up', 'accepted')),
    accepted_by text,
    PRIMARY KEY (connection_id, id),
    CHECK ((login IS NULL) = (login_at IS NULL)),
    CHECK (closed_at IS NULL OR to_at IS NOT NULL),
    CHECK ((closed_at IS NULL) = (resolution IS NULL)),
    CHECK ((resolution = 'accepted') IS TRUE = (accepted_by IS NOT NULL))
) WITH (fillfactor = 70);

-- At most one outage, or drain, of a connection goes on.
CREATE UNIQUE INDEX gaps_current ON gaps (connection_id) WHERE to_at IS NULL;
CREATE UNIQUE INDEX gaps_login ON gaps (connection_id, login) WHERE login IS NOT NULL;
CREATE INDEX gaps_open ON gaps (connection_id, id) WHERE closed_at IS NULL;
CREATE INDEX gaps_newest ON gaps (id);

-- What keeps a gap open besides what is missing: placeholders, and rows of the quarantine.
CREATE TABLE gap_items (
    connection_id integer,
    gap_id bigint,
    kind text CHECK (kind IN ('message', 'quarantine')),
    item_id bigint,
    PRIMARY KEY (connection_id, gap_id, kind, item_id),
    FOREIGN KEY (connection_id, gap_id) REFERENCES gaps
);

-- Tokens of the HTTP API. The secret of a token is not kept, only its hash.
CREATE TABLE tokens (
    id text PRIMARY KEY CHECK (id ~ '^[0-9a-f]{12}$'),
    name text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    scopes text[] NOT NULL
        CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['read', 'operate', 'send', 'history']),
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);

CREATE UNIQUE INDEX tokens_name ON tokens (name) WHERE revoked_at IS NULL;

-- What happened, in the order in which it became visible: see events.sql. Nothing refers to
-- other tables: an event outlives what it tells of.
CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    type text NOT NULL,
    connection text,                           -- by name; NULL: of the whole daemon
    data jsonb NOT NULL
);

-- The last event that was deleted for its age: a cursor below it has missed something.
CREATE TABLE event_horizon (
    sole boolean PRIMARY KEY DEFAULT true CHECK (sole),
    forgotten bigint NOT NULL DEFAULT 0
);
INSERT INTO event_horizon DEFAULT VALUES;

-- Who follows the stream and must miss nothing.
CREATE TABLE event_consumers (
    name text PRIMARY KEY,                     -- "webhook:NAME" or "nats"
    position bigint NOT NULL,                  -- all events up to this one are taken care of
    paused text,                               -- why; NULL: it is not
    delivered bigint NOT NULL DEFAULT 0,
    lost bigint NOT NULL DEFAULT 0,            -- stretches that were deleted before it saw them
    succeeded_at timestamptz,
    error text,                                -- of the newest failure
    failed_at timestamptz
) WITH (fillfactor = 50);

-- Events on their way to a webhook. Delivered ones go.
CREATE TABLE webhook_deliveries (
    consumer text REFERENCES event_consumers ON DELETE CASCADE,
    event_id bigint,
    lane text NOT NULL,                        -- order is kept within one: the connection, or ''
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'dead')),
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,               -- NULL: at once
    last_attempt_at timestamptz,
    status integer,                            -- of the newest answer; NULL: there was none
    error text,
    PRIMARY KEY (consumer, event_id)
) WITH (fillfactor = 70);

CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (consumer, lane, event_id)
    WHERE state = 'pending';
CREATE INDEX webhook_deliveries_dead ON webhook_deliveries (consumer, event_id)
    WHERE state = 'dead';

-- The words of messages, for search; made in the background. No reference to messages: those are
-- not to be touched for it, and a message that a merge takes away may come back.
CREATE TABLE search_documents (
    connection_id integer,
    message_id bigint,
    edit boolean NOT NULL,                     -- a text that another message got
    sent_at timestamptz NOT NULL,
    words tsvector NOT NULL,                   -- see search_words
    PRIMARY KEY (connection_id, message_id)
);

CREATE INDEX search_documents_words ON search_documents USING gin (words);

CREATE INDEX search_documents_recent ON search_documents (sent_at, message_id);

-- Which messages are in: from "oldest" (exclusive) to "newest".
CREATE TABLE search_progress (
    connection_id integer PRIMARY KEY REFERENCES connections,
    newest bigint NOT NULL,
    oldest bigint NOT NULL                     -- 0: all older ones are in
) WITH (fillfactor = 50);

-- Messages whose text has changed since.
CREATE TABLE search_again (
    connection_id integer,
    message_id bigint,
    PRIMARY KEY (connection_id, message_id)
);

-- Connections that were made through the API, with their settings; those of the configuration
-- file are not here.
CREATE TABLE made_connections (
    connection_id integer PRIMARY KEY REFERENCES connections,
    sealed bytea NOT NULL,                     -- JSON: a [[connections]] table
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- Exports as files: what was asked for, and what became of it. They may concern all connections.
CREATE TABLE exports (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> ''),
    period text UNIQUE,                        -- of the schedule; NULL: somebody asked for it
    place text NOT NULL,                       -- the directory above it, or s3://bucket/prefix
    request jsonb NOT NULL,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'failed')),
    attempts integer NOT NULL DEFAULT 1,
    counts jsonb NOT NULL DEFAULT '{}',        -- what is written, by kind
    bytes bigint NOT NULL DEFAULT 0,
    error text,                                -- of the newest attempt
    started_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    finished_at timestamptz,
    removed_at timestamptz,                    -- its files were deleted
    CHECK ((state = 'running') = (finished_at IS NULL)),
    CHECK ((state = 'failed') = (error IS NOT NULL)),
    CHECK (removed_at IS NULL OR state <> 'running')
) WITH (fillfactor = 70);

CREATE INDEX exports_running ON exports (id) WHERE state = 'running';

-- The words of a name, for search; as search_vector makes them. It calls nothing of ours, as an
-- index rests on it: that is made, and looked after, with no schema but PostgreSQL's in the path.
CREATE FUNCTION name_words(p_name text) RETURNS tsvector
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 5000 AS $$
    SELECT array_to_tsvector(ARRAY(
        SELECT left(w.word, 48)
        FROM regexp_split_to_table(
            lower(regexp_replace(normalize(left(p_name, 1024), NFKD), '[\u0300-\u036f]+', '', 'g')),
            '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f\ufe00-\ufe0f]+'
        ) AS w (word)
        WHERE w.word <> ''))
$$;

CREATE INDEX contact_names_words ON contact_names USING gin (name_words(name));

CREATE INDEX groups_words ON groups USING gin (name_words(subject));

-- The channels of the configuration, and what became of all that was sent through them.
CREATE TABLE notification_channels (
    name text PRIMARY KEY,
    active boolean NOT NULL,                   -- false: no longer in the configuration
    kinds text[] NOT NULL,                     -- of notifications that it takes
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),  -- the least
    connections text[],                        -- by name; NULL: all
    sent bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,          -- attempts
    given_up bigint NOT NULL DEFAULT 0,
    sent_at timestamptz,                       -- the newest one
    failed_at timestamptz,
    failing_since timestamptz,                 -- NULL: the newest attempt was well
    error text                                 -- of the newest failure
) WITH (fillfactor = 50);

-- Nothing refers to other tables: a notification outlives what it tells of.
CREATE TABLE notifications (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,                  -- the same key is never told twice
    kind text NOT NULL CHECK (kind IN ('alert', 'recovery', 'report', 'test')),
    connection text,                           -- by name; NULL: the whole daemon, or many
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    subject text NOT NULL,                     -- in English, as are the next two
    text text NOT NULL,
    html text,
    translations jsonb NOT NULL,               -- language → subject, text, html
    data jsonb NOT NULL,                       -- facts, for programs
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE notification_deliveries (
    channel text REFERENCES notification_channels,
    notification_id bigint REFERENCES notifications ON DELETE CASCADE,
    state text NOT NULL CHECK (state IN ('pending', 'sending', 'sent', 'failed', 'given_up')),
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,               -- NULL: at once; of one being sent: if nobody settles it
    error text,                                -- of the newest attempt
    sent_at timestamptz,
    PRIMARY KEY (channel, notification_id)
) WITH (fillfactor = 70);

CREATE INDEX notification_deliveries_open ON notification_deliveries (channel, notification_id)
    WHERE state IN ('pending', 'sending', 'failed');

CREATE INDEX notification_deliveries_notification ON notification_deliveries (notification_id);

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
-- Conversations that an import made, under the keys that they have in the archive: whatever becomes
-- of the chat here, the same archive finds them again.
CREATE TABLE imported_conversations (
    connection_id integer,
    conversation_id bigint,
    opened_at timestamptz NOT NULL,            -- these two: the key
    nth integer NOT NULL CHECK (nth > 0),
    messages bigint NOT NULL CHECK (messages >= 0),  -- that it had there
    PRIMARY KEY (connection_id, conversation_id),
    FOREIGN KEY (connection_id, conversation_id) REFERENCES conversations ON DELETE CASCADE
);

-- Conversations opened, reopened and closed per quarter of an hour: see reports.sql.
CREATE TABLE conversation_quarters (
    connection_id integer REFERENCES connections,
    quarter bigint,                            -- unix seconds / 900
    opened bigint NOT NULL DEFAULT 0,          -- by their first message, when that was sent
    reopened bigint NOT NULL DEFAULT 0,
    closed bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (connection_id, quarter)
) WITH (fillfactor = 70);

-- The days whose report was made, each once.
CREATE TABLE reports (
    day date PRIMARY KEY,                      -- of the time zone
    zone text NOT NULL,
    made_at timestamptz NOT NULL
);

-- What is wrong, or was: alerts, who is not told of them, and when phones were last seen.
-- Each change of an alert has the next step, and is applied once. Subjects are names, of what may
-- be gone one day.
CREATE TABLE alerts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 1024),
    step integer NOT NULL CHECK (step > 0),    -- of the newest change
    rule text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    connection text,                           -- if it concerns one alone
    of_connections boolean NOT NULL,           -- what its subjects are
    subjects text[] NOT NULL,                  -- whom it concerns now; once resolved, at the end
    others bigint NOT NULL DEFAULT 0,          -- more of them, without their names
    cause text NOT NULL,                       -- a stable code; empty: none
    since timestamptz NOT NULL,                -- the condition
    fired_at timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    resolved_at timestamptz,
    acknowledged_at timestamptz,
    acknowledged_by text,
    notified_at timestamptz,                   -- the last time that people were told
    times bigint NOT NULL DEFAULT 0,           -- that they were told
    told text[] NOT NULL DEFAULT '{}',         -- of which subjects
    sentence text NOT NULL,                    -- for people, in English
    detail text NOT NULL,                      -- the daemon's own words
    facts jsonb NOT NULL,                      -- figures
    CHECK ((acknowledged_at IS NULL) = (acknowledged_by IS NULL)),
    CHECK ((notified_at IS NULL) = (times = 0))
) WITH (fillfactor = 70);

CREATE INDEX alerts_active ON alerts (id) WHERE resolved_at IS NULL;
CREATE INDEX alerts_age ON alerts (resolved_at) WHERE resolved_at IS NOT NULL;

-- Whoever is silenced is not told of.
CREATE TABLE silences (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection text,                           -- NULL: everything
    rule text,                                 -- NULL: all of them
    why text NOT NULL,
    made_by text NOT NULL,
    begins_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,              -- or when it was ended
    CHECK (ends_at >= begins_at)
);

CREATE INDEX silences_end ON silences (ends_at);

-- The last sign of life of each connection's phone.
CREATE TABLE phone_signs (
    connection_id integer PRIMARY KEY REFERENCES connections,
    seen_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Files that nobody may have any more. Gone from here once they are gone from the disk.
CREATE TABLE erased_blobs (
    sha256 bytea PRIMARY KEY CHECK (length(sha256) = 32),
    erased_at timestamptz NOT NULL
);

-- Orders to forget a person. Nothing personal is in a finished one.
CREATE TABLE erasures (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    requested_by text NOT NULL CHECK (requested_by <> ''),
    version text NOT NULL,                     -- of the program
    requested_at timestamptz NOT NULL,         -- what is older is dropped from then on
    finished_at timestamptz,
    connections text[] NOT NULL,
    subject text[] NOT NULL,                   -- keyed hashes of the addresses, in hexadecimal
    phase text NOT NULL,
    target integer NOT NULL DEFAULT 0,         -- of the work, within the phase
    position bigint NOT NULL DEFAULT 0,        -- of the target, within the phase
    work jsonb,                                -- whose what is to be erased, by connection
    counts jsonb NOT NULL DEFAULT '{}',        -- erased so far, by kind
    CHECK ((finished_at IS NULL) = (work IS NOT NULL))
) WITH (fillfactor = 50);

CREATE INDEX erasures_unfinished ON erasures (id) WHERE finished_at IS NULL;

-- Messages that an erasure has found and not erased yet.
CREATE TABLE erasure_items (
    connection_id integer,
    erasure_id bigint REFERENCES erasures,
    message_id bigint,
    theirs boolean NOT NULL,                   -- false: it is another's, and names the person
    PRIMARY KEY (connection_id, erasure_id, message_id)
);

-- What is older than this from, to or about an address is not taken in again.
CREATE TABLE tombstones (
    connection_id integer REFERENCES connections,
    hash bytea CHECK (length(hash) = 32),      -- HMAC-SHA-256 under a key of the secret key
    erasure_id bigint NOT NULL REFERENCES erasures,
    at timestamptz NOT NULL,
    returned_at timestamptz,                   -- they have written since, or were written to
    PRIMARY KEY (connection_id, hash)
);

-- What rules of retention have removed, by sweep.
CREATE TABLE retention_runs (
    connection_id integer REFERENCES connections,
    id bigint GENERATED ALWAYS AS IDENTITY,
    rule text NOT NULL,                        -- as the configuration had it
    began_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    cutoff timestamptz NOT NULL,
    messages bigint NOT NULL,                  -- that lost their content
    files bigint NOT NULL,                     -- that are no message's any more
    PRIMARY KEY (connection_id, id)
);
