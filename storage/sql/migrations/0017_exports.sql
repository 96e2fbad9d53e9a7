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
