-- Runs of the daemon, and what became of what was quarantined.

-- One row per run of the daemon, with the last moment at which it was surely alive.
CREATE TABLE daemon_lives (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    began_at timestamptz NOT NULL,
    alive_at timestamptz NOT NULL,
    ended_at timestamptz                       -- it stopped in order; NULL: it runs, or died
) WITH (fillfactor = 50);

CREATE INDEX connection_events_online ON connection_events (connection_id, id)
    WHERE state = 'online';
CREATE INDEX connection_events_age ON connection_events (connection_id, at);
CREATE INDEX sync_stats_age ON sync_stats (connection_id, at);

-- What it takes to store a quarantined message after all; a resolved row stays as a record.
ALTER TABLE quarantine
    ADD COLUMN kept bytea,                     -- JSON: the message as read, all but its raw bytes
    ADD COLUMN opened boolean NOT NULL DEFAULT false,  -- its keys are used: it never decrypts again
    ADD COLUMN resolved_at timestamptz,
    ADD COLUMN resolution text,                -- the verdict
    ADD COLUMN message_id bigint,              -- what it became
    ADD CHECK ((resolved_at IS NULL) = (resolution IS NULL)),
    ADD CHECK (message_id IS NULL OR resolved_at IS NOT NULL);

CREATE INDEX quarantine_open ON quarantine (id) WHERE resolved_at IS NULL;
