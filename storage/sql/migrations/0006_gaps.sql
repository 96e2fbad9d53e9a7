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

CREATE INDEX messages_unread ON messages (connection_id, conversation_id)
    WHERE state = 'undecryptable' AND verdict IS NULL;
