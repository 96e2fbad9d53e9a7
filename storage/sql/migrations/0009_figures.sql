-- Figures that health and graphs ask for all the time, kept so that asking costs nothing.

-- Conversations by status, those left aside that went into another one: see figures.sql.
ALTER TABLE counters
    ADD COLUMN waiting bigint NOT NULL DEFAULT 0,
    ADD COLUMN opened bigint NOT NULL DEFAULT 0,
    ADD COLUMN closed bigint NOT NULL DEFAULT 0,
    ADD COLUMN reopened bigint NOT NULL DEFAULT 0;

UPDATE counters c SET waiting = n.waiting, opened = n.opened, closed = n.closed,
    reopened = n.reopened
FROM (
    SELECT connection_id,
        count(*) FILTER (WHERE status = 'waiting') AS waiting,
        count(*) FILTER (WHERE status = 'open') AS opened,
        count(*) FILTER (WHERE status = 'closed') AS closed,
        sum(reopened) AS reopened
    FROM conversations WHERE merged_into IS NULL GROUP BY 1
) n
WHERE c.connection_id = n.connection_id;

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

INSERT INTO sync_quarters (connection_id, quarter, total, processed, skipped, errors)
SELECT connection_id, floor(extract(epoch FROM at) / 900)::bigint,
    sum(total), sum(processed), sum(skipped), sum(errors)
FROM sync_stats GROUP BY 1, 2;

-- Messages to send that somebody waits for, or should look at.
CREATE INDEX outbox_unsettled ON outbox (state)
    WHERE state IN ('queued', 'sending', 'unknown', 'failed');
