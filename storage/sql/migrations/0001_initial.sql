-- Connections and their sealed state, contacts, chats, conversations, messages.
-- Every key begins with the connection, so that the tables can be sharded on it unchanged.

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
    duplicates bigint NOT NULL DEFAULT 0,
    quarantined bigint NOT NULL DEFAULT 0,
    last_message_at timestamptz,
    CHECK (arrivals = messages + undecryptable)
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
    PRIMARY KEY (connection_id, id)
);

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

-- A person; the addresses (phone number, LID) are theirs for good.
CREATE TABLE contacts (
    connection_id integer REFERENCES connections,
    id bigint GENERATED ALWAYS AS IDENTITY,
    name text,                                 -- the latest push name
    is_self boolean NOT NULL DEFAULT false,    -- the account itself: author of team messages
    created_at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, id)
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

-- A direct chat is known by its contact, whatever address was used; a group by its own.
CREATE TABLE chats (
    connection_id integer REFERENCES connections,
    id bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL CHECK (kind IN ('direct', 'group')),
    address text NOT NULL CHECK (length(address) BETWEEN 1 AND 512),
    contact_id bigint,
    title text,
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
    PRIMARY KEY (connection_id, id),
    FOREIGN KEY (connection_id, chat_id) REFERENCES chats,
    CHECK ((status = 'closed') = (closed_at IS NOT NULL))
) WITH (fillfactor = 70);

-- At most one live conversation per chat.
CREATE UNIQUE INDEX conversations_live ON conversations (connection_id, chat_id)
    WHERE status <> 'closed';
CREATE INDEX conversations_chat ON conversations (connection_id, chat_id, opened_at);
CREATE INDEX conversations_recent ON conversations (status, last_message_at);

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
    PRIMARY KEY (connection_id, id),
    FOREIGN KEY (connection_id, conversation_id) REFERENCES conversations,
    FOREIGN KEY (connection_id, sender_id) REFERENCES contacts,
    CHECK ((state = 'undecryptable') = (kind = 'undecryptable'))
);

CREATE INDEX messages_conversation ON messages (connection_id, conversation_id, sent_at, arrival);
-- A message is stored once. The last index to be made: while the table is new and empty, all of
-- them look equally good to the planner, and it then takes the newest for the writer's look-up.
CREATE UNIQUE INDEX messages_once ON messages (connection_id, chat_id, sender_id, external_id);

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
    PRIMARY KEY (connection_id, id),
    UNIQUE (connection_id, fingerprint)
);
