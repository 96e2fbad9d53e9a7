-- The statements of PostgresGaps, loaded by name.

-- name: gaps
-- Gaps of one connection or of all, the newest first.
WITH page AS (
    SELECT g.connection_id, g.id FROM gaps g
    JOIN connections c ON c.id = g.connection_id
    WHERE ($1::text IS NULL OR c.name = $1) AND ($2::bigint IS NULL OR g.id < $2)
    ORDER BY g.id DESC LIMIT $3
)
SELECT d.* FROM page
JOIN gap_details d ON d.connection_id = page.connection_id AND d.id = page.id
ORDER BY d.id DESC;

-- name: open_gaps
-- Those that are not closed.
WITH page AS (
    SELECT g.connection_id, g.id FROM gaps g
    JOIN connections c ON c.id = g.connection_id
    WHERE g.closed_at IS NULL
        AND ($1::text IS NULL OR c.name = $1) AND ($2::bigint IS NULL OR g.id < $2)
    ORDER BY g.id DESC LIMIT $3
)
SELECT d.* FROM page
JOIN gap_details d ON d.connection_id = page.connection_id AND d.id = page.id
ORDER BY d.id DESC;

-- name: gap
-- One gap.
SELECT d.* FROM gap_details d WHERE d.id = $1;

-- name: accept_gap
-- Close a gap as it is; between batches, never in the middle of one.
WITH locked AS (
    SELECT n.connection_id FROM counters n
    JOIN gaps w ON w.connection_id = n.connection_id AND w.id = $1
    FOR UPDATE OF n)
UPDATE gaps g SET closed_at = $3, resolution = 'accepted', accepted_by = $2 FROM locked
WHERE g.id = $1 AND g.connection_id = locked.connection_id
    AND g.to_at IS NOT NULL AND g.closed_at IS NULL
RETURNING g.id;

-- name: gap_statistics
-- What is open, over all connections.
SELECT count(*) FILTER (WHERE d.to_at IS NOT NULL) AS open,
    coalesce(sum(d.missing) FILTER (WHERE d.to_at IS NOT NULL), 0)::bigint AS missing,
    coalesce(sum(d.waiting) FILTER (WHERE d.to_at IS NOT NULL), 0)::bigint AS waiting,
    coalesce(sum(d.in_quarantine) FILTER (WHERE d.to_at IS NOT NULL), 0)::bigint
        AS in_quarantine,
    count(*) FILTER (WHERE d.to_at IS NOT NULL AND d.device_replaced) AS device_replaced,
    count(*) FILTER (WHERE d.to_at IS NULL) AS ongoing
FROM gap_details d WHERE d.closed_at IS NULL;
