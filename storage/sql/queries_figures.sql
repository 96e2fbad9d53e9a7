-- The statements of PostgresFigures, loaded by name.

-- name: record_sync
-- Append the statistics of a stretch of time, and add them to their quarter of an hour.
WITH told AS (
    INSERT INTO sync_stats (connection_id, at, total, processed, skipped, errors)
    SELECT id, $2, $3, $4, $5, $6 FROM connections WHERE name = $1
    RETURNING connection_id, at, total, processed, skipped, errors
)
INSERT INTO sync_quarters AS q (connection_id, quarter, total, processed, skipped, errors)
SELECT connection_id, floor(extract(epoch FROM at) / 900)::bigint, total, processed, skipped,
    errors
FROM told
ON CONFLICT (connection_id, quarter) DO UPDATE SET total = q.total + excluded.total,
    processed = q.processed + excluded.processed, skipped = q.skipped + excluded.skipped,
    errors = q.errors + excluded.errors
RETURNING quarter;

-- name: sync_by_minute
-- Sums between moments ($1, the last one is the end), out of what is kept for minutes. They are
-- summed up as floats, which is exact below 2^53, and fast.
SELECT width_bucket(s.at, $1::timestamptz[]) AS number,
    CASE WHEN $3 THEN c.name END AS connection, sum(s.total::float8)::bigint AS total,
    sum(s.processed::float8)::bigint AS processed, sum(s.skipped::float8)::bigint AS skipped,
    sum(s.errors::float8)::bigint AS errors
FROM connections c
JOIN sync_stats s ON s.connection_id = c.id
    AND s.at >= ($1::timestamptz[])[1]
    AND s.at < ($1::timestamptz[])[cardinality($1::timestamptz[])]
WHERE $2::text IS NULL OR c.name = $2
GROUP BY 1, 2 ORDER BY 1, 2;

-- name: sync_by_quarter
-- Sums between moments at quarters of an hour ($1: unix seconds / 900, the last one is the end).
-- First all connections of a quarter, then the quarters: to find a bucket costs more than to add.
SELECT width_bucket(q.quarter, $1::bigint[]) AS number, q.connection,
    sum(q.total)::bigint AS total, sum(q.processed)::bigint AS processed,
    sum(q.skipped)::bigint AS skipped, sum(q.errors)::bigint AS errors
FROM (
    SELECT s.quarter, CASE WHEN $3 THEN c.name END AS connection, sum(s.total::float8) AS total,
        sum(s.processed::float8) AS processed, sum(s.skipped::float8) AS skipped,
        sum(s.errors::float8) AS errors
    FROM connections c
    JOIN sync_quarters s ON s.connection_id = c.id
        AND s.quarter >= ($1::bigint[])[1]
        AND s.quarter < ($1::bigint[])[cardinality($1::bigint[])]
    WHERE $2::text IS NULL OR c.name = $2
    GROUP BY 1, 2
) q
GROUP BY 1, 2 ORDER BY 1, 2;

-- name: sync_totals
-- Sums of the last hour, since $1, and of the last day, since $2, of which the quarters from $3
-- on are whole.
SELECT 'hour' AS span, coalesce(sum(s.total), 0)::bigint AS total,
    coalesce(sum(s.processed), 0)::bigint AS processed,
    coalesce(sum(s.skipped), 0)::bigint AS skipped, coalesce(sum(s.errors), 0)::bigint AS errors
FROM connections c
JOIN sync_stats s ON s.connection_id = c.id AND s.at >= $1
UNION ALL
SELECT 'day', coalesce(sum(d.total), 0)::bigint, coalesce(sum(d.processed), 0)::bigint,
    coalesce(sum(d.skipped), 0)::bigint, coalesce(sum(d.errors), 0)::bigint
FROM connections c
CROSS JOIN LATERAL (
    SELECT s.total, s.processed, s.skipped, s.errors FROM sync_stats s
    WHERE s.connection_id = c.id AND s.at >= $2 AND s.at < to_timestamp($3::bigint * 900)
    UNION ALL
    SELECT q.total, q.processed, q.skipped, q.errors FROM sync_quarters q
    WHERE q.connection_id = c.id AND q.quarter >= $3
) d;

-- name: newest_sync
-- The newest sync statistics.
SELECT s.at, c.name AS connection, s.total, s.processed, s.skipped, s.errors
FROM connections c
CROSS JOIN LATERAL (
    SELECT n.* FROM sync_stats n WHERE n.connection_id = c.id ORDER BY n.id DESC LIMIT 1
) s
ORDER BY s.id DESC LIMIT 1;

-- name: count_conversations
-- Conversations by status, and how often messages reopened them: out of the counters.
SELECT coalesce(sum(waiting), 0)::bigint AS waiting, coalesce(sum(opened), 0)::bigint AS open,
    coalesce(sum(closed), 0)::bigint AS closed, coalesce(sum(reopened), 0)::bigint AS reopened
FROM counters;

-- name: count_outbox
-- Messages to send that are not sent, by state.
SELECT state, count(*) AS count FROM outbox
WHERE state IN ('queued', 'sending', 'unknown', 'failed') GROUP BY state;

-- name: database_size
-- Bytes of the whole database.
SELECT pg_database_size(current_database()) AS size;

-- name: forget_quarters
-- Sums of quarters of an hour that are too old ($1), some at a time.
DELETE FROM sync_quarters s
USING (
    SELECT o.connection_id, o.quarter
    FROM connections c
    CROSS JOIN LATERAL (
        SELECT q.connection_id, q.quarter FROM sync_quarters q
        WHERE q.connection_id = c.id AND q.quarter < $1::bigint ORDER BY q.quarter LIMIT $2
    ) o
    LIMIT $2
) old
WHERE s.connection_id = old.connection_id AND s.quarter = old.quarter
RETURNING s.quarter;
