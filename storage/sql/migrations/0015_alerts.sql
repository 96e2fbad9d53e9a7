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
