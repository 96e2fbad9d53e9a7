-- The whole conversation: what messages refer to, people under several names and addresses,
-- groups, chats as the phone has them, receipts.
--
-- What others say of something (a name, a receipt, a membership, a target) is kept under the
-- address they used and finds its contact on reading. So it may come before the contact does, and
-- stays right when two contacts turn out to be one person, or two again.

ALTER TABLE messages
    ADD COLUMN target_id text CHECK (length(target_id) BETWEEN 1 AND 512),
    ADD COLUMN target_author text CHECK (length(target_author) BETWEEN 1 AND 512),
    ADD COLUMN quoted_id text CHECK (length(quoted_id) BETWEEN 1 AND 512),
    ADD COLUMN quoted_author text CHECK (length(quoted_author) BETWEEN 1 AND 512),
    ADD COLUMN mentions text[],
    ADD COLUMN flags text[],
    ADD COLUMN detail jsonb,
    ADD COLUMN verdict text,
    ADD CHECK (verdict IS NULL OR state = 'undecryptable');

CREATE INDEX messages_target ON messages (connection_id, chat_id, target_id)
    WHERE target_id IS NOT NULL;
CREATE INDEX messages_waiting ON messages (connection_id, id)
    WHERE state = 'undecryptable' AND verdict IS NULL;
CREATE INDEX messages_unknown ON messages (id) WHERE kind = 'unknown';
CREATE INDEX messages_addons ON messages (id)
    WHERE kind IN ('encrypted_reaction', 'encrypted_comment', 'secret_encrypted')
        OR kind = 'poll_vote' AND (detail -> 'options') IS NULL
        OR kind = 'event_response' AND (detail -> 'response') IS NULL;

CREATE TABLE app_state_keys (
    connection_id integer REFERENCES connections,
    key text,
    sealed bytea NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (connection_id, key)
);

-- Names of people, by who gave them; an empty one: taken back.
CREATE TABLE contact_names (
    connection_id integer,
    address text,
    source text CHECK (source IN ('saved', 'business', 'push', 'username')),
    name text NOT NULL,
    at timestamptz NOT NULL,                   -- the epoch: unknown
    PRIMARY KEY (connection_id, address, source),
    FOREIGN KEY (connection_id, address) REFERENCES contact_addresses
) WITH (fillfactor = 70);

INSERT INTO contact_names (connection_id, address, source, name, at)
SELECT a.connection_id, a.address, 'push', c.name, to_timestamp(0)
FROM contacts c
JOIN contact_addresses a ON a.connection_id = c.connection_id AND a.contact_id = c.id
WHERE c.name IS NOT NULL;

ALTER TABLE contacts DROP COLUMN name;
ALTER TABLE contacts ADD COLUMN merged_into bigint;
ALTER TABLE contacts ADD FOREIGN KEY (connection_id, merged_into) REFERENCES contacts;
ALTER TABLE contacts ADD CHECK (merged_into IS NULL OR NOT is_self);

ALTER TABLE chats DROP COLUMN title;

-- A conversation that went into another one when their contacts were found to be one person.
ALTER TABLE conversations ADD COLUMN merged_into bigint;
ALTER TABLE conversations ADD FOREIGN KEY (connection_id, merged_into) REFERENCES conversations;
ALTER TABLE conversations ADD CHECK (merged_into IS NULL OR status = 'closed');

ALTER TABLE counters ADD COLUMN merged bigint NOT NULL DEFAULT 0;
ALTER TABLE counters DROP CONSTRAINT counters_check;
ALTER TABLE counters ADD CONSTRAINT counters_check
    CHECK (arrivals = messages + undecryptable + merged);

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
