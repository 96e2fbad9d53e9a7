-- Erasing: what was stripped of its content, whom the program was told to forget, and what it
-- must not take in again.

-- A stripped message keeps its row and its identity, so that a redelivery is a duplicate.
ALTER TABLE messages ADD COLUMN erased_at timestamptz;
ALTER TABLE messages ADD COLUMN erased text CHECK (erased IN ('retention', 'forgotten'));
ALTER TABLE messages ADD CONSTRAINT messages_erased_dated
    CHECK ((erased IS NULL) = (erased_at IS NULL));

ALTER TABLE counters ADD COLUMN forgotten bigint NOT NULL DEFAULT 0;

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
