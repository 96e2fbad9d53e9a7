-- What operators are to be told, and how far each channel has come with telling it.

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
