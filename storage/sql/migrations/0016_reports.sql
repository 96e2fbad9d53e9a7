-- The daily report: what became of conversations, and which days were reported.

-- Conversations opened, reopened and closed per quarter of an hour: see reports.sql. A conversation
-- keeps its last reopening and closing only, so of those from before this migration only the last
-- ones are known.
CREATE TABLE conversation_quarters (
    connection_id integer REFERENCES connections,
    quarter bigint,                            -- unix seconds / 900
    opened bigint NOT NULL DEFAULT 0,          -- by their first message, when that was sent
    reopened bigint NOT NULL DEFAULT 0,
    closed bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (connection_id, quarter)
) WITH (fillfactor = 70);

-- What only the history knows was closed when it was made, at the time of its first message.
INSERT INTO conversation_quarters (connection_id, quarter, opened, reopened, closed)
SELECT v.connection_id, floor(extract(epoch FROM n.at) / 900)::bigint,
    sum(n.opened), sum(n.reopened), sum(n.closed)
FROM conversations v
CROSS JOIN LATERAL (VALUES
    (v.opened_at, 1, 0, 0),
    (CASE WHEN v.reopened > 0 THEN v.reopened_at END, 0, 1, 0),
    (CASE WHEN v.merged_into IS NULL THEN v.closed_at END, 0, 0, 1)
) AS n (at, opened, reopened, closed)
WHERE n.at IS NOT NULL AND v.closed_at IS DISTINCT FROM v.opened_at
GROUP BY 1, 2;

-- The days whose report was made, each once.
CREATE TABLE reports (
    day date PRIMARY KEY,                      -- of the time zone
    zone text NOT NULL,
    made_at timestamptz NOT NULL
);
