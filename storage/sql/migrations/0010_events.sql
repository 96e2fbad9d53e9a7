-- The stream of events, who follows it, and what webhooks could not deliver yet.

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
